"""One plot: for each series its single measurements as dots and their median as a line, on one axis from zero. SVG, by hand."""

WIDTH, ROW, LEFT, RIGHT, TOP = 720, 44, 190, 90, 46


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def strips(path, title, unit, series):
    """`series`: {name: [values]}."""
    top = max(max(v) for v in series.values()) * 1.05
    height = TOP + ROW * len(series) + 30

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * value / top

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="12" y="24" font-size="15">{title}</text>']
    for i in range(5):
        value = top * i / 4
        out.append(f'<line x1="{x(value):.1f}" y1="{TOP - 8}" x2="{x(value):.1f}" y2="{height - 26}" stroke="#ddd"/>'
                   f'<text x="{x(value):.1f}" y="{height - 10}" text-anchor="middle" fill="#666">{value:.3g} {unit}</text>')
    for row, (name, values) in enumerate(series.items()):
        y = TOP + ROW * row + ROW / 2
        out.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{name}</text>')
        out += [f'<circle cx="{x(v):.1f}" cy="{y}" r="4" fill="#2a6fbb" fill-opacity="0.45"/>' for v in values]
        mid = median(values)
        out.append(f'<line x1="{x(mid):.1f}" y1="{y - 14}" x2="{x(mid):.1f}" y2="{y + 14}" stroke="#b3261e" stroke-width="2"/>'
                   f'<text x="{WIDTH - RIGHT + 12}" y="{y + 4}" fill="#b3261e">{mid:.3g} {unit}</text>')
    out.append("</svg>\n")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out))
