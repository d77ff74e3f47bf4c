"""Rules and published ports of a box while it runs, in front of the laboratory's internet: what allow and deny do to new and to
open connections, what why, status and events say of it, and what --save leaves behind."""
import json
import re
import subprocess

import pytest

import harness
import netlab

ADDRESS = {"one.example": "93.184.216.41", "two.example": "93.184.216.42", "three.example": "93.184.216.43"}
CONFIG = """\
machine: {cpus: 1, memory: 512M}
network:
  mode: filtered
  allow:
    - one.example   # keep me
    - {host: two.example, ports: [22, 443]}
"""


@pytest.fixture
def box(lab, make_lab_box):
    zones(lab)
    return make_lab_box(CONFIG, name="live")


@pytest.fixture(scope="module")
def shared(lab, make_lab_boxes):
    """For tests that each change the rules of another name, or none."""
    zones(lab)
    return make_lab_boxes(CONFIG, name="shared")


def zones(lab):
    for name, address in ADDRESS.items():
        lab.zone(name, A=[address])


def fetch(box, url):
    return box.run(f"curl -sS -m 60 {url}")


def test_allow_and_deny_count_at_once(lab, shared):
    mark = lab.mark()
    assert b"site=one.example" in fetch(shared, "http://one.example/").stdout
    assert fetch(shared, "http://three.example/").returncode == 6, "the name does not exist"
    assert shared.nixbox("why", "three.example").returncode == 1
    assert not lab.dns_queries("three.example", after=mark)
    done = shared.nixbox("allow", "three.example")
    assert done.returncode == 0 and b"three.example is allowed" in done.stderr and done.stdout == b""
    assert b"site=three.example" in fetch(shared, "http://three.example/").stdout
    why = json.loads(shared.nixbox("why", "--json", "three.example:443").stdout)
    assert why["allow"] and why["running"] and why["origin"] == "nixbox allow"
    assert shared.nixbox("deny", "three.example").returncode == 0
    assert fetch(shared, "http://three.example/").returncode == 6
    assert shared.nixbox("why", "three.example").returncode == 1
    assert "three.example" not in open(f"{shared.folder}/nixbox.yaml").read()
    assert harness.wait_for(lambda: [e for e in shared.events("policy") if "three.example" in json.dumps(e)])


def test_denial_closes_what_is_open(lab, shared):
    command = "exec 3<>/dev/tcp/two.example/22; head -c 4 <&3; echo; cat <&3; echo over"
    other = shared.host.popen([shared.host.bin, "run", command], cwd=shared.folder, stderr=subprocess.DEVNULL)
    assert other.stdout.readline() == b"SSH-\n", "the connection is open"
    done = shared.nixbox("deny", "two.example:443")
    assert done.returncode == 0
    netlab.settle(1)
    assert other.poll() is None, "another port of the same host is not meant"
    assert shared.nixbox("deny", "--json", "two.example").returncode == 0
    assert other.communicate(timeout=60)[0].endswith(b"over\n")
    allowed = shared.nixbox("allow", "two.example")
    assert allowed.returncode == 0


def test_saved_and_in_force(lab, box):
    done = box.nixbox("allow", "--save", "three.example")
    assert done.returncode == 0, done
    with open(f"{box.folder}/nixbox.yaml") as f:
        text = f.read()
    assert "- one.example   # keep me\n" in text and "- three.example\n" in text
    assert b"site=three.example" in fetch(box, "http://three.example/").stdout
    assert b"has changed" not in box.nixbox("up").stderr, "what was saved is in force"
    box.down()
    again = box.nixbox("up")
    box._remember()
    assert again.returncode == 0, "the rule's owner is not asked about it"
    assert b"site=three.example" in fetch(box, "http://three.example/").stdout


def test_what_a_config_denies_stays_denied(lab, make_lab_box):
    lab.zone("one.example", A=[ADDRESS["one.example"]])
    box = make_lab_box(CONFIG + "  deny: [one.example]\n", name="denied")
    done = box.nixbox("allow", "one.example")
    assert done.returncode == 0 and b"still cannot be reached" in done.stderr and b"nixbox.yaml" in done.stderr
    assert fetch(box, "http://one.example/").returncode == 6


def test_status_and_events_are_readable(lab, box):
    assert fetch(box, "http://one.example/").returncode == 0
    assert fetch(box, "http://8.8.8.8/").returncode == 7
    # to a client that says within a second what it wants
    assert harness.wait_for(lambda: b"nixbox allow two.example" in fetch(box, "http://two.example/").stdout, 30), "the refusal says who can help"
    harness.wait_for(lambda: [d for d in box.status()["destinations"] if d["down"] > 50], 30)
    status = box.status()
    assert status["network"] == "filtered" and status["rules"] == 2 and status["ports"] == []
    assert status["destinations"][0]["host"] == "one.example" and status["destinations"][0]["down"] > 50
    text = box.nixbox("status").stdout.decode()
    assert "filtered, 2 rules" in text and re.search(r"one\.example: sent \d+, received \d+", text)
    for pattern in (r"connect +allow one\.example:80 at 93\.184\.216\.41, http, by one\.example, sent \d+, received \d+, ",
                    r"connect +deny +8\.8\.8\.8:80", r"two\.example:80"):
        assert harness.wait_for(lambda p=pattern: re.search(p, box.nixbox("events").stdout.decode()), 30), pattern
    denied = box.nixbox("events", "--denied").stdout.decode()
    assert "two.example:80" in denied and "allow one.example" not in denied
    for line in box.nixbox("events", "--json").stdout.splitlines():
        assert json.loads(line)["type"]


def test_published_port(lab, box):
    box.serve(3000)
    get = ["curl", "-sS", "-m", "60"]
    assert b"no port is published" in box.nixbox("port").stderr
    done = box.nixbox("port", "18080:3000")
    assert done.returncode == 0, done
    assert box.host.command(get + ["http://127.0.0.1:18080/page"]).stdout == b"from the box\n"
    assert box.host.command(get + [f"http://{netlab.HOST}:18080/page"]).returncode == 7, "only on loopback"
    assert box.nixbox("port").stdout == b"127.0.0.1:18080 -> 3000\n"
    assert box.nixbox("port", "18080:3001").returncode == 125
    assert b"others on the network" in box.nixbox("port", f"{netlab.HOST}:3000").stderr
    assert box.host.command(get + [f"http://{netlab.HOST}:3000/page"]).stdout == b"from the box\n"
    listed = json.loads(box.nixbox("port", "--json").stdout)
    assert {"address": netlab.HOST, "host_port": 3000, "guest_port": 3000} in listed and len(listed) == 2
    assert box.nixbox("port", "--remove", "18080").returncode == 0
    assert box.nixbox("port", "--remove", f"{netlab.HOST}:3000").returncode == 0
    assert box.host.command(get + ["http://127.0.0.1:18080/page"]).returncode == 7
    assert box.nixbox("port").stdout == b"" and box.nixbox("port", "--remove", "18080").returncode == 125


def test_names_come_from_the_router_alone(shared):
    assert shared.sh("cat /etc/resolv.conf").splitlines()[0] == "nameserver 198.19.255.253"
    assert ":" not in shared.sh("grep -v '^#' /etc/hosts") and "localhost" in shared.sh("cat /etc/hosts")
    assert shared.sh("cat /proc/net/if_inet6 2>/dev/null || echo none") == "none"
    assert len(shared.sh("ls /sys/class/net").split()) == 2
    assert shared.run("getent hosts localhost").stdout.split()[0] == b"127.0.0.1"


def test_without_a_network_names_fail_at_once(make_lab_box):
    box = make_lab_box("network: {mode: off}\nmachine: {cpus: 1, memory: 512M}\n", name="off")
    assert "nameserver" not in box.sh("cat /etc/resolv.conf")
    took = [int(box.sh(f"start=$(date +%s%N); getent hosts {name} >/dev/null; echo $(( ($(date +%s%N) - start) / 1000000 ))")) for name in
            ("localhost", "one.example")]
    assert took[1] < took[0] + 4000, "a name server that does not answer is waited for five seconds"
    for args in (["allow", "a.example"], ["port", "18081:80"]):
        refused = box.nixbox(*args)
        assert refused.returncode == 125 and b"mode" in refused.stderr, refused
    assert box.nixbox("why", "a.example").returncode == 1
