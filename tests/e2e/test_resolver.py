"""The resolver process against a name server of the test: what it asks, what it makes of the host's files, what it has."""
import json
import os
import subprocess
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("NIXBOX_TEST_BUILD", f"{os.path.dirname(os.path.dirname(HERE))}/build")
OK, NONE, NODATA = 0, 1, 2
MX, TXT = 15, 16


@pytest.fixture(scope="module")
def ask():
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        p = subprocess.Popen(["unshare", *user, "--mount", "--net", "python3", f"{HERE}/resolver_lab.py", f"{BUILD}/nixbox-gateway",
                              folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def question(name, kind=0):
            p.stdin.write(json.dumps([name, kind] if kind is not None else name) + "\n")
            p.stdin.flush()
            return json.loads(p.stdout.readline())

        yield question
        p.stdin.close()
        assert json.loads(p.stdout.readline()) == 0  # it ends, well, when the gateway's end closes
        p.wait()


def test_addresses_come_from_the_hosts_name_server(ask):
    a = ask("a.example")
    assert (a["status"], a["addresses"]) == (OK, [["93.184.216.34", False]])


def test_a_name_is_asked_for_as_it_is(ask):
    for _ in range(5):  # by more than one thread, and more than once by each
        a = ask("short")  # short.corp.example exists, and the host has that search domain
        assert (a["status"], a["addresses"]) == (NONE, [])
        assert {name for name, _ in a["asked"]} <= {"short"}
    a = ask("no.example")
    assert a["status"] == NONE
    assert {name for name, _ in a["asked"]} == {"no.example"}


def test_the_hosts_file_counts(ask):
    a = ask("hosts.example")
    assert (a["addresses"], a["asked"]) == ([["93.184.216.99", False]], [])


def test_own_addresses_and_networks_are_marked(ask):
    assert ask("lan.example")["addresses"] == [["127.0.0.9", True]]
    assert ask("near.example")["addresses"] == [["10.9.8.77", True]]


def test_records_of_other_types(ask):
    a = ask("a.example", TXT)
    assert a["records"] == [[TXT, 60, b"\5hello".hex()], [TXT, 60, b"\3two".hex()]]
    assert a["asked"] == [["a.example", TXT]]
    assert ask("a.example", MX)["records"] == [[MX, 60, b"\0\n\2mx\1a\7example\0".hex()]]
    assert ask("lan.example", TXT)["status"] == NODATA
    a = ask("no.example", TXT)
    assert (a["status"], a["asked"]) == (NONE, [["no.example", TXT]])


def test_a_new_network_is_told_before_the_next_answer(ask):
    ask("a.example")  # what it tells at its start has been read
    before = ask("new network", None)
    assert ask("a.example")["links"] > before


def test_a_new_name_server_is_used_at_once(ask):
    assert ask("a.example")["servers"] == ["127.0.0.1"]
    ask("new name server", None)
    for name in ("a.example", "short", "a.example"):
        a = ask(name)
        assert set(a["servers"]) == {"127.0.0.2"} and a["asked"][0][0] == name and len(a["asked"]) == 1


def test_it_has_no_rights(ask):
    ask("a.example")  # it has begun to work
    s = ask("status", None)
    assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2"
    assert all(int(s[f"Cap{kind}"], 16) == 0 for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    if os.getuid() == 0:
        assert set(s["Uid"].split() + s["Gid"].split()) == {"64999"} and not s["Groups"].strip()
