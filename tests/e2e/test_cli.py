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
