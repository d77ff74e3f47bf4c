"""The network's rules hold over a box's whole life: after a restart, beside a second box, after a change, when the gateway dies, when
the set-up fails, with an empty list or a misspelt key, and with what a killed box left behind. Each time the same probes are
made from inside, and judged by the laboratory."""
import json
import os
import shutil
import signal
import subprocess

import pytest

import harness
import netlab
import packets
from packets import client_hello, get, query
from probes import Scene

SITE, OTHER = "93.184.216.110", "93.184.216.111"
CONFIG = """
machine: {cpus: 2, memory: 1G}
network:
  mode: filtered
  allow: [allowed.example, leads-home.example]
mounts: [{source: ./work, write: true}, {source: ./ro}]
"""
REFUSED = ["denied", "address", "metadata", "home", "sni", "host", "udp", "dns", "router"]


@pytest.fixture(autouse=True, scope="module")
def zones(lab):
    for name in ("allowed", "denied", "late", "second"):
        lab.zone(f"{name}.example", A=[SITE])
    lab.zone("leads-home.example", A=["10.0.0.110"])


class Tried(Scene):
    """The probes that are made again and again."""

    def __init__(self, lab, box, tag, run=True):
        super().__init__(lab, box)
        self.tag, p = tag, self.probes
        p.talk("allowed", "allowed.example", 80, get("allowed.example", f"/{tag}-allowed"))
        p.talk("denied", "denied.example", 80, get("denied.example", f"/{tag}-denied"))
        p.talk("address", OTHER, 80, get("allowed.example", f"/{tag}-address"))
        p.talk("metadata", "169.254.169.254", 80, get("169.254.169.254", f"/{tag}-metadata"))
        p.talk("router", netlab.ROUTER, 80, get("allowed.example", f"/{tag}-router"))
        p.talk("home", "leads-home.example", 80, get("leads-home.example", f"/{tag}-home"))
        p.talk("sni", "allowed.example", 443, client_hello("denied.example"))
        p.talk("host", "allowed.example", 80, get("denied.example", f"/{tag}-host"))
        p.datagram("udp", OTHER, 443, b"x")
        p.ask("dns", "8.8.8.8", query(f"{tag}.denied.example"))
        if run:
            self.run()

    def reached_targets(self):
        return {r["target"].removeprefix(f"/{self.tag}-") for r in self.seen("http") if r["target"].startswith(f"/{self.tag}-")}

    def holds(self, allowed=True):
        """Nothing got out but what is allowed."""
        assert self.reached_targets() == ({"allowed"} if allowed else set()), self.results
        assert not self.reached(OTHER, "169.254.169.254", "10.0.0.110")
        assert not self.seen("tls", sni="denied.example") and not self.queries(f"{self.tag}.denied.example") and not self.queries("denied.example")
        assert not self.seen(place="host")


def gateway(box, role="gateway"):
    return next(pid for pid, line in box.processes().items() if f"nixbox-gateway {role}" in line)


def restarts(box):
    return [e for e in box.events("policy") if e.get("action") == "restart"]


# ---------------------------------------------------------------------------------------------------------- starts
def test_after_a_restart_of_the_box(lab, make_lab_box):
    box = make_lab_box(CONFIG)
    Tried(lab, box, "first").holds()
    box.down()
    box.up()
    Tried(lab, box, "second").holds()


def test_with_leftovers_of_a_killed_box(lab, make_lab_box):
    box = make_lab_box(CONFIG)
    assert box.nixbox("allow", "late.example").returncode == 0
    children = [pid for pid in box.processes()]
    os.kill(box.supervisor(), signal.SIGKILL)
    for pid in children:
        assert harness.wait_for(lambda: not harness.alive(pid), 30), "the gateway ends with its supervisor"
    box.up()
    tried = Tried(lab, box, "leftover")
    tried.holds()
    assert box.run(["curl", "-sS", "-m", "60", "http://late.example/leftover-late"]).returncode != 0
    assert not lab.seen("http", target="/leftover-late"), "what was allowed while the box ran ends with it"


def test_a_second_box(lab, make_lab_box):
    one = make_lab_box(CONFIG)
    two = make_lab_box(CONFIG.replace("allowed.example", "second.example"))
    one.serve(8000)
    assert one.nixbox("port", "18081:8000").returncode == 0
    assert one.host.command(["curl", "-sS", "-m", "60", "http://127.0.0.1:18081/"]).returncode == 0, "the control: the host can reach it"
    Tried(lab, one, "one").holds()
    s = Tried(lab, two, "two", run=False)
    for name, address, port in (("guest", packets.GUEST, 8000), ("gateway", packets.GATEWAY, 18081), ("host", netlab.HOST, 18081),
                                ("loop", "127.0.0.1", 18081)):
        s.probes.talk(f"neighbour-{name}", address, port, get("127.0.0.1", "/neighbour"))
    s.probes.talk("its-name", "second.example", 80, get("second.example", "/two-second"))
    s.run()
    assert "path=/two-second" in s["its-name"].text and s["allowed"].name == "3"
    assert s.reached_targets() == {"second"}
    for name in ("guest", "gateway", "host", "loop"):
        assert s[f"neighbour-{name}"].refused, (name, s[f"neighbour-{name}"])


def test_an_empty_list_allows_nothing(lab, make_lab_box):
    for config in ("network: {mode: filtered}", "network: {mode: filtered, allow: []}", ""):
        box = make_lab_box(f"machine: {{cpus: 2, memory: 1G}}\n{config}\nmounts: [{{source: ./work, write: true}}, {{source: ./ro}}]\n")
        tried = Tried(lab, box, f"empty{len(config)}")
        tried.holds(allowed=False)
        assert tried["allowed"].name == "3" and not tried.seen(), "not even a query"
        box.close()


@pytest.mark.parametrize("network", [
    "{mode: filtered, alow: [allowed.example]}", "{mode: filterd}", "{mode: filtered, allow: [{hosts: allowed.example}]}", "{mdoe: off}",
    "{mode: filtered, allow: ['*']}", "{mode: filtered, allow: ['*.com']}", "{mode: filtered, allow: ['*.example']}",
    "{mode: filtered, allow: [{host: a.example, port: [1]}]}", "{mode: filtered, allow: [{cidr: 10.0.0.1/8}]}",
    "{mode: filtered, allow: [host.nixbox.internal]}", "{mode: filtered, allow: [{host: a.example, methods: [GET]}]}", "{mode: filtered, allow: allowed.example}",
    "{mode: [open]}", "open",
])
def test_a_misspelt_config_starts_nothing(make_lab_box, network):
    box = make_lab_box(f"machine: {{cpus: 2, memory: 1G}}\nnetwork: {network}\n", up=False)
    done = box.up(ok=False)
    assert done.returncode == 125 and b"nixbox.yaml:" in done.stderr, box.explain(done)
    assert box.supervisor() is None and not box.events("box.up")


BROKEN = {
    "nft": lambda host: shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin"),
    "ip": lambda host: os.path.realpath(shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin")),
    "tun": lambda host: "/dev/net/tun",
    "gateway": lambda host: f"{host.base}/i/usr/local/libexec/nixbox/nixbox-gateway",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_failed_set_up_starts_nothing(lab, make_lab_box, what):
    box = make_lab_box(CONFIG, up=False)
    host, path = box.host, BROKEN[what](box.host)
    assert path and os.path.exists(path), path
    start = f"mount --bind /dev/null {path} && cd {box.folder} && exec setpriv --reuid {host.uid} --regid {host.gid} --clear-groups -- " \
            f"{host.bin} up --accept"
    done = subprocess.run(lab.enter(["unshare", "--mount", "sh", "-c", start], box.folder, 0, 0), env=host.env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 125 and b"nixbox:" in done.stderr, box.explain(done)
    assert box.supervisor() is None and not box.processes() and not box.events("box.up")
    box.up()  # the control
    assert box.sh("curl -sS http://allowed.example/") != ""


# ---------------------------------------------------------------------------------------------------------- the gateway
def test_when_the_gateway_dies(lab, make_lab_box):
    box = make_lab_box(CONFIG)
    assert box.nixbox("allow", "late.example").returncode == 0
    assert box.nixbox("deny", "leads-home.example").returncode == 0
    address = box.sh("getent ahostsv4 late.example | head -1")
    for number, role in enumerate(("gateway", "resolver", "gateway"), 1):
        s = Scene(lab, box)
        s.probes.talk("open", "allowed.example", 80, get("allowed.example", "/open"), f"t{box.work}/open{number}", f"f{box.work}/go{number}",
                      get("allowed.example", "/too-late"))
        s.probes.start()
        assert harness.wait_for(lambda: os.path.exists(f"{box.work}/open{number}"), 60)
        os.kill(gateway(box, role), signal.SIGKILL)
        assert harness.wait_for(lambda: len(restarts(box)) == number, 60), box.events()[-5:]
        harness.write(f"{box.work}/go{number}", "")
        cut = s.probes.finish()["open"]
        assert "path=/open" in cut.text and cut.end in ("ECONNRESET", "EPIPE", "eof"), "an open connection does not live on"
        assert not s.seen("http", target="/too-late")
        Tried(lab, box, f"gone{number}").holds()
        assert box.sh("getent ahostsv4 late.example | head -1") == address, "names keep their addresses"
        assert box.run(["curl", "-sS", "-m", "60", "http://late.example/"]).returncode == 0, "what was allowed stays allowed"
        assert box.nixbox("why", "leads-home.example").returncode == 1, "what was denied stays denied"
    pids = list(box.processes())
    os.kill(gateway(box), signal.SIGKILL)
    assert harness.wait_for(lambda: not any(harness.alive(p) for p in pids), 60), "the fourth time the box ends"
    assert "gateway" in box.events("box.down")[-1]["reason"]


def test_nothing_gets_past_a_gateway_that_stands_still(lab, make_lab_box):
    box = make_lab_box(CONFIG)
    Tried(lab, box, "before").holds()
    pid = gateway(box)
    os.kill(pid, signal.SIGSTOP)
    try:
        still = Tried(lab, box, "still")
        still.holds(allowed=False)
        assert not still.seen()
        assert still["address"].connect == "ECONNREFUSED", "the kernel refuses what has nowhere to go"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert Tried(lab, box, "after")["allowed"].text.startswith("HTTP/1.1 200")


def test_a_denial_does_not_depend_on_a_gateway_that_stands_still(lab, make_lab_box):
    box = make_lab_box(CONFIG)
    Tried(lab, box, "yes").holds()
    os.kill(gateway(box), signal.SIGSTOP)
    assert box.nixbox("deny", "allowed.example", timeout=120).returncode == 0
    assert harness.wait_for(lambda: len(restarts(box)) == 1, 60), "one that does not do as it is told is replaced"
    Tried(lab, box, "no").holds(allowed=False)


# ---------------------------------------------------------------------------------------------------------- its processes
def process_status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def test_what_the_gateway_holds(lab, make_lab_box):
    box = make_lab_box(CONFIG)
    pid = gateway(box)
    s = process_status(pid)
    assert s["Seccomp"] == "2" and s["NoNewPrivs"] == "1"
    for field in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"):
        assert int(s[field], 16) == 0, (field, s[field])
    assert os.listdir(f"/proc/{pid}/root/") == []
    for kind in ("user", "mnt", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") not in (os.readlink(f"/proc/{os.getpid()}/ns/{kind}"), os.readlink(f"/proc/{box.supervisor()}/ns/{kind}"))
    assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{lab.host}/ns/net"), "it dials from the host's network"
    if box.host.uid == 0:
        assert "0" not in s["Uid"].split()
    resolver = process_status(gateway(box, "resolver"))
    assert resolver["NoNewPrivs"] == "1" and resolver["Seccomp"] == "2" and int(resolver["CapEff"], 16) == 0


def test_the_machine_has_no_way_past_the_gateway(lab, make_lab_box):
    """QEMU itself, taken over, is in a network namespace with nothing in it; the box's own has the TAP and no route."""
    box = make_lab_box(CONFIG)
    with open(f"/proc/{box.child('qemu')}/net/dev") as f:
        assert [line.split(":")[0].strip() for line in f.readlines()[2:]] == ["lo"]
    with open(f"/proc/{box.child('qemu')}/net/route") as f:
        assert len(f.readlines()) <= 1
    status = json.loads(box.nixbox("status", "--json").stdout)
    assert "filtered" in json.dumps(status)
