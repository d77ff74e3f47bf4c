"""nixbox why, allow, deny and port where no box runs: the config answers, and is edited; errors say the way out. Boots nothing."""
import json

import pytest

import harness

CONFIG = """\
# what the box may reach
name: rules
network:
  mode: filtered
  allow:
    - api.example.com          # the model
    - "*.example.org"
    - {host: git.example.net, ports: [22, 443]}
    - {host: db.example.net, ports: [5432], private: true}
    - {cidr: 10.1.2.0/24, ports: [5432]}
  deny: [bad.example.org]
"""


@pytest.fixture
def folder(host):
    path = host.folder("rules")
    harness.write(f"{path}/nixbox.yaml", CONFIG, host)
    return path


def text(folder):
    with open(f"{folder}/nixbox.yaml") as f:
        return f.read()


@pytest.mark.parametrize("name,status,words", [
    ("api.example.com", 0, ["allowed  api.example.com:443 by api.example.com (nixbox.yaml:6:7)", "api.example.com:80"]),
    ("API.Example.COM.", 0, ["allowed  api.example.com:443"]),
    ("www.api.example.com", 1, ["denied", "no rule allows it", "- www.api.example.com", "nixbox allow --save www.api.example.com"]),
    ("api.example.com.evil.test", 1, ["denied"]),
    ("evilexample.org", 1, ["denied", "- evilexample.org"]),
    ("example.org", 1, ["denied"]),
    ("a.b.example.org:443", 0, ["by *.example.org"]),
    ("bad.example.org", 1, ["denied", "by bad.example.org"]),
    ("git.example.net", 0, ["allowed  git.example.net:22", "denied   git.example.net:80"]),
    ("git.example.net:8080", 1, ["ports 22 and 443, not 8080", "- {host: git.example.net, ports: [8080]}"]),
    ("db.example.net", 0, ["allowed  db.example.net:5432", "private ones are allowed too"]),
    ("10.1.2.3:5432", 0, ["by 10.1.2.0/24:5432"]),
    ("10.1.2.3:5433", 1, ["denied", "nixbox allow --save 10.1.2.3/32:5433"]),
    ("8.8.8.8:53", 1, ["denied", "no rule allows it"]),
    ("127.0.0.1:80", 1, ["the box itself", "host.nixbox.internal"]),
    ("[2001:db8::1]:443", 1, ["no IPv6"]),
    ("host.nixbox.internal:11434", 1, ["- {host: host.nixbox.internal, ports: [11434]}"]),
])
def test_why(host, folder, name, status, words):
    done = host.nixbox("why", name, cwd=folder)
    assert done.returncode == status, done
    for word in words:
        assert word in done.stdout.decode(), word
    answer = json.loads(host.nixbox("why", name, "--json", cwd=folder).stdout)
    assert answer["allow"] == (status == 0) and answer["mode"] == "filtered" and answer["running"] is False
    assert answer["reason"] and answer["ports"] and ("suggest" not in answer or status == 1)


@pytest.mark.parametrize("name", ["", "a b", "https://api.example.com/x", "api.example.com:x", "api.example.com:0", "127.1", "*.example.org",
                                  "a\x1b[31m.example", "b\u00fccher.example"])
def test_why_needs_a_host(host, folder, name):
    done = host.nixbox("why", name, cwd=folder)
    assert done.returncode == 125 and done.stdout == b"" and b"\x1b" not in done.stderr
    assert len(done.stderr.decode().splitlines()) == 2


def test_why_in_other_modes(host, folder):
    harness.write(f"{folder}/nixbox.yaml", "name: rules\nnetwork: {mode: off, allow: [a.example]}\n", host)
    assert host.nixbox("why", "a.example", cwd=folder).returncode == 1
    harness.write(f"{folder}/nixbox.yaml", "name: rules\nnetwork: {mode: open, deny: [a.example]}\n", host)
    assert host.nixbox("why", "a.example", cwd=folder).returncode == 1
    assert host.nixbox("why", "b.example", cwd=folder).returncode == 0
    for private in ("10.0.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "127.0.0.1", "0.0.0.0"):
        assert host.nixbox("why", private, cwd=folder).returncode == 1, private
    harness.write(f"{folder}/nixbox.yaml", "name: rules\n", host)
    assert host.nixbox("why", "b.example", cwd=folder).returncode == 1, "an absent list allows nothing"


def test_save_keeps_what_is_there(host, folder):
    done = host.nixbox("allow", "--save", "new.example.com", "*.more.example", "ssh.example:22", cwd=folder)
    assert done.returncode == 0 and done.stdout == b"", done
    now = text(folder)
    assert [line for line in CONFIG.splitlines() if line not in now.splitlines()] == []
    for name in ("new.example.com", "x.more.example", "ssh.example:22"):
        assert host.nixbox("why", name, cwd=folder).returncode == 0, name
    answer = json.loads(host.nixbox("allow", "--save", "--json", "NEW.example.com.", cwd=folder).stdout)
    assert answer == {"allow": ["new.example.com"], "running": False, "changed": False, "file": f"{folder}/nixbox.yaml"}
    assert text(folder) == now


def test_deny_takes_back(host, folder):
    assert host.nixbox("deny", "--save", "api.example.com", cwd=folder).returncode == 0
    assert host.nixbox("why", "api.example.com", cwd=folder).returncode == 1
    assert host.nixbox("allow", "--save", "api.example.com", cwd=folder).returncode == 0
    assert host.nixbox("why", "api.example.com", cwd=folder).returncode == 0
    assert host.nixbox("deny", "--save", "*.example.org:443", cwd=folder).returncode == 0
    assert host.nixbox("why", "a.example.org:443", cwd=folder).returncode == 1
    assert host.nixbox("why", "a.example.org:80", cwd=folder).returncode == 0


BAD = ["", "*", "a..b", "https://a.example", "10.0.0.1/8", "10.0.0.0/33", "a.example:0", "a.example:x", "a.example:70000", "a b", "a\x07.example",
       "127.1", "x*.example.com", "10.1.2.3"]


@pytest.mark.parametrize("verb,rule", [("allow", rule) for rule in BAD + ["*.com", "*.co.uk", "localhost"]] + [("deny", rule) for rule in BAD])
def test_bad_rules_change_nothing(host, folder, verb, rule):
    done = host.nixbox(verb, "--save", "good.example.com", rule, cwd=folder)
    assert done.returncode == 125 and b"\x07" not in done.stderr
    assert len(done.stderr.decode().splitlines()) == 2, done.stderr
    assert text(folder) == CONFIG


@pytest.mark.parametrize("args,hint", [
    (["allow", "new.example.com"], "nixbox allow --save new.example.com"), (["deny", "new.example.com"], "nixbox deny --save new.example.com"),
    (["port"], "nixbox up"), (["port", "8080:80"], "ports"), (["port", "--remove", "8080:80"], "nixbox up"),
])
def test_box_that_does_not_run(host, folder, args, hint):
    done = host.nixbox(*args, cwd=folder)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 125 and lines[0] == "nixbox: the box 'rules' is not running" and hint in lines[1]
    assert text(folder) == CONFIG


@pytest.mark.parametrize("args", [["allow"], ["deny", "--save"], ["why"], ["why", "a.example", "b.example"], ["port", "x"], ["port", "80:"],
                                  ["port", "1:2:3:4"], ["port", "8080:80", "8081:81"], ["port", "--remove"], ["port", "0:80"], ["port", "70000"],
                                  ["learn"]])
def test_usage(host, folder, args):
    done = host.nixbox(*args, cwd=folder)
    assert done.returncode == 125 and done.stdout == b"" and len(done.stderr.decode().splitlines()) == 2, done


def test_off_is_said(host, folder):
    harness.write(f"{folder}/nixbox.yaml", "name: rules\nnetwork: {mode: off}\n", host)
    done = host.nixbox("allow", "--save", "a.example", cwd=folder)
    assert done.returncode == 0 and b"mode is off" in done.stderr
