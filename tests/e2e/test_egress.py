"""A box's network as its owner uses it: rules that change while it runs, why, events, totals, limits, published ports, the host's
own services, the office's proxy. What must not get out is tried in tests/escape/test_egress_*.py."""
import hashlib
import json
import os
import pathlib
import subprocess
import time

import pytest

import harness
import netlab
import packets
from packets import client_hello, get
from probes import Probes, Scene

SITE = "93.184.216.90"
KEPT = "# why this is here"
CONFIG = f"""
name: {{name}}
machine: {{cpus: 2, memory: 1G}}
network:
  mode: filtered
  allow:
    - allowed.example     {KEPT}
    - {{host: upload.example, ports: [80], limit: 200K}}
    - {{host: printer.lan.example, private: true}}
    - {{host: host.nixbox.internal, ports: [11434]}}
    - fails.example
    - silent.example
ports: ["18080:80"]
mounts: [{{source: ./work, write: true}}, {{source: ./ro}}]
"""
NAMES = ["allowed", "upload", "late", "saved", "open-http", "open-tls", "stays", "again", "denied", "half", "direct"]


def zones(lab):
    for name in NAMES:
        lab.zone(f"{name}.example", A=[SITE])
    lab.zone("fails.example", fail=True)
    lab.zone("silent.example", silent=True)


@pytest.fixture(scope="module")
def live(lab, make_lab_boxes):
    zones(lab)
    return make_lab_boxes(CONFIG, name="live")


def fetch(box, url, *options):
    """Status of an HTTP request from inside, "000" without an answer."""
    return box.run(["curl", "-sS", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", *options, url]).stdout.decode()


def outside(host, url):
    """The same at the host."""
    return host.command(["curl", "-sS", "-m", "60", url]).stdout.decode()


# ---------------------------------------------------------------------------------------------------------- rules
def test_allow_while_the_box_runs(lab, live):
    assert fetch(live, "http://late.example/before") == "000"
    done = live.nixbox("allow", "late.example")
    assert done.returncode == 0, live.explain(done)
    assert fetch(live, "http://late.example/after") == "200"
    assert [r["target"] for r in lab.seen("http", host="late.example")][-1] == "/after"
    assert "late.example" not in pathlib.Path(live.folder, "nixbox.yaml").read_text()
    assert live.events("policy")[-1].get("decision") in (None, "allow")


def test_deny_closes_open_connections(lab, live):
    for name in ("open-http", "open-tls", "stays"):
        assert live.nixbox("allow", f"{name}.example").returncode == 0
    after = lab.mark()
    p = Probes(live)
    for name in ("open-http", "stays"):
        p.talk(name, f"{name}.example", 80, get(f"{name}.example", "/first"), f"t{live.work}/{name}", f"f{live.work}/go",
               get(f"{name}.example", "/second"))
    p.talk("open-tls", "open-tls.example", 443, client_hello("open-tls.example"), f"t{live.work}/open-tls", f"f{live.work}/go", "r1000")
    p.start()
    for name in ("open-http", "open-tls", "stays"):
        assert harness.wait_for(lambda: os.path.exists(f"{live.work}/{name}"), 60), name
    assert live.nixbox("deny", "open-http.example", "open-tls.example").returncode == 0
    harness.write(f"{live.work}/go", "")
    results = p.finish()
    assert "path=/second" in results["stays"].text, "the control"
    assert "path=/first" in results["open-http"].text and "path=/second" not in results["open-http"].text, results["open-http"]
    assert results["open-http"].end in ("ECONNRESET", "eof", "EPIPE") and results["open-tls"].end in ("ECONNRESET", "eof")
    assert {r["host"] for r in lab.seen("http", after, target="/second")} == {"stays.example"}
    after = lab.mark()
    assert fetch(live, "http://open-http.example/third") == "000" and not lab.seen("http", after, target="/third")
    assert not lab.dns_queries("open-http.example", after)


def test_a_denied_port_closes_connections_to_that_port_only(lab, live):
    assert live.nixbox("allow", "half.example").returncode == 0
    assert live.nixbox("deny", "half.example:443").returncode == 0
    p = Probes(live)
    p.talk("http", "half.example", 80, get("half.example", "/half"))
    p.talk("tls", "half.example", 443, client_hello("half.example"))
    results = p.run()
    assert "path=/half" in results["http"].text and not packets.is_server_hello(results["tls"].data), results
    assert not lab.seen("tls", sni="half.example")


def test_allow_takes_back_deny(live):
    assert live.nixbox("deny", "again.example").returncode == 0
    assert fetch(live, "http://again.example/") == "000"
    assert live.nixbox("allow", "again.example").returncode == 0
    assert fetch(live, "http://again.example/") == "200"


def test_save(live):
    done = live.nixbox("allow", "--save", "saved.example")
    assert done.returncode == 0, live.explain(done)
    text = pathlib.Path(live.folder, "nixbox.yaml").read_text()
    assert "- saved.example" in text and KEPT in text
    assert fetch(live, "http://saved.example/") == "200"


@pytest.mark.parametrize("rule", ["*", "*.com", "*.co.uk", "http://x.example", "1.2.3.4/33", "x.example:0", "x.example:70000", "a..b", ""])
def test_a_rule_that_is_none(live, rule):
    done = live.nixbox("allow", rule)
    assert done.returncode == 125 and done.stderr, done


# ---------------------------------------------------------------------------------------------------------- why, events, status
def test_why(live):
    for host, status in (("allowed.example", 0), ("allowed.example:443", 0), ("allowed.example:22", 1), ("denied.example", 1), ("8.8.8.8", 1),
                         ("169.254.169.254:80", 1), ("host.nixbox.internal:11434", 0), ("host.nixbox.internal:22", 1)):
        done = live.nixbox("why", host)
        assert done.returncode == status, live.explain(done)
    assert "nixbox allow denied.example" in live.nixbox("why", "denied.example").stdout.decode()
    answer = json.loads(live.nixbox("why", "--json", "allowed.example").stdout)
    assert answer["allow"] is True and answer["rule"].startswith("allowed.example")


def test_events(live):
    fetch(live, "http://denied.example/events")
    fetch(live, "http://allowed.example/events")

    def ended():  # a connection may be told about while it is open, too
        records = [json.loads(line) for line in live.nixbox("events", "--json").stdout.splitlines()]
        return [r for r in records if r["type"] == "connect" and r.get("host") == "allowed.example" and r.get("bytes_down", 0) > 0]

    told = harness.wait_for(ended, 30)
    assert told and told[-1]["bytes_up"] > 0 and told[-1]["ms"] >= 0 and told[-1]["ip"] == SITE and told[-1]["rule"]
    lines = [line for line in live.nixbox("events").stdout.decode().splitlines() if "allowed.example:80" in line]
    assert any(" connect " in line and " allow " in line for line in lines), lines
    denied = live.nixbox("events", "--denied").stdout.decode()
    assert "denied.example" in denied and "no rule allows it" in denied and " allow " not in denied


def test_events_as_they_happen(live):
    follower = live.host.popen([live.host.bin, "events", "-f", "--denied"], cwd=live.folder)
    try:
        fetch(live, "http://follow.denied.example/")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            line = follower.stdout.readline().decode()
            if "follow.denied.example" in line:
                break
        assert "follow.denied.example" in line
    finally:
        follower.terminate()
        follower.wait()


def test_totals(live):
    got = live.sh("curl -sS http://allowed.example/big/3000000 | sha256sum").split()[0]
    assert got == hashlib.sha256(b"x" * 3000000).hexdigest()

    def total():
        return [d for d in live.status()["destinations"] if d["host"] == "allowed.example" and d["down"] >= 3000000]

    assert harness.wait_for(total, 30), live.status()


def test_a_limit(lab, live):
    after = lab.mark()
    p = Probes(live)
    p.talk("small", "upload.example", 80, get("upload.example", "/small", "Content-Length: 5", method="POST") + b"hello")
    assert "path=/small" in p.run()["small"].text, "the control"
    p = Probes(live)
    p.talk("large", "upload.example", 80, "s" + get("upload.example", "/large", "Content-Length: 900000", method="POST").hex(), "b900000", "a1500")
    large = p.run()["large"]
    assert "200 OK" not in large.text and large.end in ("ECONNRESET", "EPIPE", "eof"), large
    assert not lab.seen("http", after, target="/large")
    p = Probes(live)
    p.talk("later", "upload.example", 80, get("upload.example", "/later"))
    later = p.run()["later"]
    assert "path=/later" not in later.text and not lab.seen("http", after, target="/later"), later
    assert harness.wait_for(lambda: [e for e in live.events("connect") + live.events("http") if e.get("host") == "upload.example"
                                     and "limit" in e.get("reason", "")], 30)
    assert fetch(live, "http://allowed.example/") == "200"


# ---------------------------------------------------------------------------------------------------------- host and box
def test_a_published_port(lab, live):
    live.serve(80, "-u", "root")
    assert outside(live.host, "http://127.0.0.1:18080/page") == "from the box\n"
    assert outside(live.host, f"http://{netlab.HOST}:18080/page") == ""

    def from_internet(url):
        argv = ["nsenter", f"--net=/proc/{lab.process.pid}/ns/net", "curl", "-sS", "-m", "60", url]
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout.decode()

    assert f"ip={netlab.HOST}" in from_internet(f"http://{netlab.HOST}:8088/"), "the control"
    assert from_internet(f"http://{netlab.HOST}:18080/page") == ""


def test_publishing_while_the_box_runs(live):
    live.serve(3000)
    assert outside(live.host, "http://127.0.0.1:3000/page") == ""
    done = live.nixbox("port", "3000")
    assert done.returncode == 0, live.explain(done)
    assert outside(live.host, "http://127.0.0.1:3000/page") == "from the box\n"
    assert b"3000" in live.nixbox("port").stdout
    held = live.host.popen(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/3000; echo connected; cat <&3; echo over"])
    assert held.stdout.readline() == b"connected\n"
    assert live.nixbox("port", "--remove", "3000").returncode == 0
    assert outside(live.host, "http://127.0.0.1:3000/page") == ""
    assert held.communicate(timeout=60)[0] == b"over\n", "a connection that was open ends with its port"


def test_a_port_that_is_taken(live):
    done = live.nixbox("port", "8088:80")
    assert done.returncode == 125 and b"8088" in done.stderr


def test_nobody_listens_behind_a_published_port(live):
    assert live.nixbox("port", "3999:3999").returncode == 0
    done = live.host.command(["curl", "-sS", "-m", "60", "http://127.0.0.1:3999/"])
    assert done.returncode not in (0, 28), "refused, and not by a time-out"


def test_a_service_of_the_host(lab, live):
    after = lab.mark()
    p = Probes(live)
    p.talk("service", "host.nixbox.internal", 11434, get("host.nixbox.internal:11434", "/service"))
    p.talk("other", "host.nixbox.internal", 8089, get("host.nixbox.internal:8089", "/other"))
    results = p.run()
    assert "path=/service" in results["service"].text and lab.seen("http", after, place="host", to="127.0.0.1", port=11434)
    assert "path=/other" not in results["other"].text and not lab.seen("http", after, target="/other")


def test_a_name_of_the_hosts_own_files(lab, live):
    after = lab.mark()
    assert fetch(live, "http://printer.lan.example/printer") == "200"
    assert lab.seen("http", after, to=netlab.LAN, target="/printer") and not lab.dns_queries("printer.lan.example", after)


def test_names_that_the_resolver_cannot_find(live):
    p = Probes(live)
    p.talk("fails", "fails.example", 80, get("fails.example", "/"), "r20000")
    p.talk("silent", "silent.example", 80, get("silent.example", "/"), "r20000")
    p.talk("meanwhile", "allowed.example", 80, get("allowed.example", "/meanwhile"))
    results = p.run()
    assert "path=/meanwhile" in results["meanwhile"].text
    for name in ("fails", "silent"):
        assert "200 OK" not in results[name].text and (results[name].refused or results[name].end in ("eof", "ECONNRESET")), results[name]


# ---------------------------------------------------------------------------------------------------------- the office's proxy
@pytest.fixture(scope="module")
def office(lab, make_lab_boxes):
    zones(lab)
    box = make_lab_boxes(CONFIG.replace("    - fails.example\n", "    - direct.example\n").replace('ports: ["18080:80"]\n', ""), up=False, name="office")
    box.up(env={"HTTPS_PROXY": f"http://me:secret@{netlab.LAN}:3128", "NO_PROXY": "direct.example"})
    s = Scene(lab, box)
    s.probes.talk("tls", "allowed.example", 443, client_hello("allowed.example"))
    s.probes.talk("http", "allowed.example", 80, get("allowed.example", "/by-proxy"))
    s.probes.talk("wrong", "allowed.example", 443, client_hello("denied.example"))
    s.probes.talk("direct", "direct.example", 80, get("direct.example", "/direct"))
    s.probes.talk("private", "printer.lan.example", 80, get("printer.lan.example", "/private"))
    s.probes.talk("denied", "denied.example", 443, client_hello("denied.example"))
    s.run()
    return s


def test_the_proxy_connects_by_name(office):
    asked = office.seen("proxy")
    assert {r["target"] for r in asked} == {"allowed.example:443", "allowed.example:80"}
    assert {r["authorization"] for r in asked} == {"Basic bWU6c2VjcmV0"}
    assert packets.is_server_hello(office["tls"].data) and "path=/by-proxy" in office["http"].text
    assert not office.queries("allowed.example"), "only the proxy resolves the name"


def test_the_proxy_is_not_a_way_around_the_rules(office):
    assert packets.is_alert(office["wrong"].data) and not office.seen("tls", sni="denied.example")
    assert office["denied"].name == "3" and not [r for r in office.seen("proxy") if "denied" in r["target"]]


def test_what_goes_past_the_proxy(office):
    assert office.seen("http", target="/direct", source=netlab.HOST) and office.seen("http", target="/private", to=netlab.LAN, port=80)


def test_why_says_that_a_proxy_is_asked(office):
    assert b"proxy" in office.box.nixbox("why", "allowed.example").stdout
    assert b"proxy" not in office.box.nixbox("why", "direct.example").stdout


def test_the_box_learns_nothing_of_the_proxy(office):
    assert office.box.sh("env | grep -i proxy; true") == ""
