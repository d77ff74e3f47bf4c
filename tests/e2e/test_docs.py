"""What the documents say is tested, against the tests there are: each file, function, fuzz target and row of `nixbox attack` that they
name exists, links lead somewhere, and docs/egress.md names each attempt to get out."""
import fnmatch
import glob
import json
import os
import re
import subprocess

import pytest

from harness import ROOT

BUILD = os.environ.get("NIXBOX_TEST_BUILD", f"{ROOT}/build")
PAGES = ["SECURITY.md", "docs/protect.md", "docs/egress.md", "docs/attack.md"]
FOLDERS = ("src/", "tests/", "docs/", "tools/", "bench/")
FUZZ = re.compile(r"fuzz targets? ((?:`\w+`(?:, | and )?)+)")
LINK = re.compile(r"\]\(([^)\s#]+)")


def read(path):
    with open(f"{ROOT}/{path}", encoding="utf-8") as f:
        return f.read()


@pytest.fixture(scope="module")
def rows():
    """The rows of nixbox attack; and the keys of a config that look the same."""
    done = subprocess.run([f"{BUILD}/nixbox", "attack", "--list", "--json"], capture_output=True, check=True)
    sections = json.loads(read("schema/nixbox.schema.json"))["properties"]
    keys = [f"{section}.{key}" for section, s in sections.items() for key in s.get("properties", {})]
    return [row["name"] for row in json.loads(done.stdout)] + keys


def find(name):
    """The files that a name or a pattern means, with its folder or without, below ROOT."""
    patterns = [name] if "/" in name else [f"tests/*/{name}", f"tests/{name}", f"src/*/{name}", f"src/*/*/{name}"]
    return [path for p in patterns for path in glob.glob(p, root_dir=ROOT)]


def file_of(name):
    """As docs/egress.md shortens them: `unit::dns`, `destination::test_…`, `egress::test_…`."""
    return f"tests/unit/test_{name}.c" if name == "unit" else {
        "egress": "test_egress.py"}.get(name, name if "." in name else f"test_egress_{name}.py")


def defines(path, function):
    """Python's `def`, or the head of a function of C's."""
    text = read(path)
    return re.search(rf"^def {function}\(" if path.endswith(".py") else rf"^(?!\s).*\b{function}\(", text, re.M) is not None


def check(span, file, rows):
    """What is wrong with one name in backquotes, and the file that following names of functions are in."""
    qualified = re.fullmatch(r"([\w.*]+)::(\w+)", span)
    if qualified and qualified[1] == "unit":
        return None if find(f"tests/unit/test_{qualified[2]}.c") else "no such unit test", file
    if qualified:
        found = find(file_of(qualified[1]))
        return None if any(defines(path, qualified[2]) for path in found) else "no such test", file
    if re.fullmatch(r"[\w*-]+\.(py|[ch])", span) or (span.startswith(FOLDERS) and re.fullmatch(r"[\w./*-]+", span)):
        found = find(span)
        return None if found else "no such file", found[0] if found else None
    if re.fullmatch(r"[a-z]+\.[a-z0-9*-]+", span) and span.split(".")[0] in {row.split(".")[0] for row in rows}:
        return None if fnmatch.filter(rows, span) else "no such row or key", file
    if re.fullmatch(r"\w+", span) and (file or span.startswith("test_")):
        return None if file and defines(file, span) else f"no such function in {file}", file
    return None, file


def dangling(text, rows):
    """[(name, what is wrong)]. A function without a file stands in a line of a table, after its file or after "the same"."""
    wrong, file = [], None
    for line in text.splitlines():
        for target in re.findall(r"`(\w+)`", " ".join(FUZZ.findall(line))):
            if not find(f"tests/fuzz/fuzz_{target}.c"):
                wrong.append((target, "no such fuzz target"))
        file = file if "| the same: " in line else None
        for cell in FUZZ.sub("", line).split("|"):
            for span in re.findall(r"`([^`]+)`", cell):
                problem, file = check(span, file, rows)
                wrong += [(span, problem)] if problem else []
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_exists(page, rows):
    assert not dangling(read(page), rows)


def test_security_names_much(rows):
    """The checks above find something to look at, in each of the ways in which it is named."""
    text = read("SECURITY.md")
    for word in ("`tests/escape/test_jails.py`: `test_nothing_is_allowed_inside`", "| the same: `", "`test_attack.py::", "`files.create`",
                 "`network.host-*`", "`tests/unit/test_jail_phases.c`: `a_phase_that_", "fuzz targets `"):
        assert word in text, word


@pytest.mark.parametrize("line, name", [
    ("| x | `tests/escape/test_nothing_of_it.py` |", "tests/escape/test_nothing_of_it.py"),
    ("| x | `tests/escape/test_nothing_*.py` |", "tests/escape/test_nothing_*.py"),
    ("see `test_nothing_of_it.py`", "test_nothing_of_it.py"),
    ("| x | `test_jails.py`: `test_nothing_is_allowed_outside` |", "test_nothing_is_allowed_outside"),
    ("| x | `test_jails.py` |\n| y | the same: `test_nothing_is_allowed_outside` |", "test_nothing_is_allowed_outside"),
    ("| x | `test_jails.py` |\n| y | `test_nothing_is_allowed_inside` |", "test_nothing_is_allowed_inside"),
    ("| x | `test_jails.py::test_nothing_is_allowed_outside` |", "test_jails.py::test_nothing_is_allowed_outside"),
    ("| x | `destination::test_nothing` |", "destination::test_nothing"),
    ("| x | `unit::nothing_of_it` |", "unit::nothing_of_it"),
    ("| x | `tests/unit/test_vmm.c`: `the_machine_is_that` |", "the_machine_is_that"),
    ("| x | fuzz targets `conduit`, `nothing` |", "nothing"),
    ("| x | `files.nothing-of-it` |", "files.nothing-of-it"),
    ("| x | `host.nothing-*` |", "host.nothing-*"),
    ("as `src/box/nothing*.c` does", "src/box/nothing*.c"),
])
def test_what_is_missing_is_found(line, name, rows):
    assert [wrong for wrong, _ in dangling(line, rows)] == [name]


def test_links_lead_somewhere():
    pages = ["README.md", "SECURITY.md"] + glob.glob("docs/*.md", root_dir=ROOT)
    links = [(page, link) for page in pages for link in LINK.findall(read(page)) if not re.match(r"[a-z]+:", link)]
    assert len(links) > 20
    assert not [(page, link) for page, link in links if not os.path.exists(f"{ROOT}/{os.path.dirname(page)}/{link}")]


def test_each_attempt_on_the_network_is_named():
    section = read("docs/egress.md").split("\n## What is tried\n")[1].split("\n## ")[0]
    named = re.findall(r"`(\w+)::(\w+)`", section)
    assert len(named) > 80
    for path in glob.glob(f"{ROOT}/tests/escape/test_egress_*.py"):
        name = os.path.basename(path).removeprefix("test_egress_").removesuffix(".py")
        for test in re.findall(r"^def (test_\w+)\(", read(os.path.relpath(path, ROOT)), re.M):
            assert (name, test) in named, f"{name}::{test} is missing in docs/egress.md"
