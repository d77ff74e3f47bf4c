"""The command line itself: version, help, usage errors. Boots nothing."""
import json
import re
import subprocess

import pytest

import harness


def verbs(host):
    out = host.nixbox("--help").stdout.decode()
    return re.findall(r"^  ([a-z]+)\b", out, re.M)


def test_version(host):
    done = host.nixbox("version")
    assert done.returncode == 0 and re.fullmatch(rb"nixbox \d+\.\d+\.\d+\n", done.stdout) and done.stderr == b""
    assert json.loads(host.nixbox("--json", "version").stdout)["version"] == done.stdout.split()[1].decode()


def test_help_fits_a_screen_and_has_an_example(host):
    names = verbs(host)
    assert "version" in names
    top = host.nixbox("--help")
    assert top.returncode == 0 and top.stderr == b"" and b"example:" in top.stdout
    assert len(top.stdout.splitlines()) <= 30
    for verb in names:
        done = host.nixbox(verb, "--help")
        text = done.stdout.decode()
        assert done.returncode == 0 and done.stderr == b"", verb
        lines = text.splitlines()
        assert len(lines) <= 24, f"{verb} --help has {len(lines)} lines"
        assert max(map(len, lines)) <= 110, verb
        assert lines[0].startswith(f"usage: nixbox {verb}"), verb
        assert verb == "version" or re.search(r"^\s*example", text, re.M), f"{verb} --help shows no example"


@pytest.mark.parametrize("args", [["frobnicate"], ["--frobnicate"], ["version", "--frobnicate"], ["-n"]])
def test_usage_errors(host, args):
    done = host.nixbox(*args)
    assert done.returncode == 125 and done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("nixbox: ") and len(lines) == 2 and "--help" in lines[1]


def test_program_is_hardened_and_agent_is_static(host):
    headers = subprocess.run(["readelf", "-lWd", host.bin], capture_output=True, text=True, check=True).stdout
    assert "PIE" in headers and "BIND_NOW" in headers and "GNU_RELRO" in headers
    agent = subprocess.run(["readelf", "-lW", host.agent], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in agent


def page():
    """The manual page as plain text."""
    text = subprocess.run(["mandoc", "-T", "utf8", f"{harness.ROOT}/man/nixbox.1"], capture_output=True, check=True).stdout.decode()
    return re.sub(".\b", "", text).replace("−", "-").replace("‐", "-")


def flags(text):
    return set(re.findall(r"(?<![\w-])(--?[A-Za-z][A-Za-z-]*)", text))


def test_manual_says_what_the_program_says(host):
    manual = page()
    entries = {}
    for entry in re.split(r"\n(?=     [a-z])", manual[manual.index("VERBS"):manual.index("ENVIRONMENT")]):
        entries[entry.split()[0]] = entry
    everywhere = flags(host.nixbox("version", "--help").stdout.decode().split("global options:")[1])
    assert everywhere <= flags(manual), everywhere - flags(manual)
    names = verbs(host)
    for verb in names:
        assert verb in manual, f"the manual page does not know {verb}"
        own = flags(host.nixbox(verb, "--help").stdout.decode().split("global options:")[0].split("example")[0])
        entry = entries.get(verb, manual)
        assert own <= flags(entry) | everywhere, f"{verb}: the manual page lacks {own - flags(entry)}"
        if verb in entries:
            extra = flags(entry) - own - everywhere
            assert not extra, f"{verb}: the manual page promises {extra}, --help does not"
    gone = set(entries) - set(names) - {"VERBS", "ps"}
    assert not gone, f"the manual page promises {gone}"


def test_manual_is_well_formed():
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning,stop", f"{harness.ROOT}/man/nixbox.1"], capture_output=True, text=True)
    assert not [line for line in done.stdout.splitlines() if "ERROR" in line or "UNSUPP" in line or "Xr order" in line]


def test_bash_completion(host):
    script = f"""source {harness.ROOT}/completions/nixbox.bash; PATH={host.bin.rsplit('/', 1)[0]}:$PATH
        ask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _nixbox; printf '%s ' "${{COMPREPLY[@]}}"; echo; }}
        ask nixbox doc; ask nixbox doctor --js; ask nixbox -q ve"""
    out = host.command(["bash", "-c", script]).stdout.decode().splitlines()
    assert [line.strip() for line in out] == ["doctor", "--json", "version"]


def test_unprivileged_install_is_whole(host):
    share = host.bin.rsplit("/bin/", 1)[0] + "/share"
    for path in ("man/man1/nixbox.1", "bash-completion/completions/nixbox", "zsh/site-functions/_nixbox", "nixbox/nixbox-agent", "nixbox/nixbox-attack"):
        assert harness.os.path.exists(f"{share}/{path}"), path
