"""A box with network.mode open reaches the public internet, and with network.mode off nothing: never the host, its networks, private
addresses or a cloud's metadata service. As root inside; the verdict is the laboratory's and the event log's."""
import pytest

import netlab
import packets
from packets import ethernet, ipv4, query, tcp, udp
from probes import Scene

SITE = "93.184.216.70"
PUBLIC = ["8.8.8.8", "9.9.9.9", SITE]
NEVER = ["169.254.169.254", "100.100.100.200", "168.63.129.16", "10.0.0.5", "172.17.0.1", "192.168.1.1", "100.64.1.1", "169.254.1.1", "192.0.2.1",
         "198.51.100.1", "240.0.0.1", netlab.ROUTER, netlab.LAN, netlab.HOST, netlab.OWN_PUBLIC, "45.45.45.9", "198.19.255.253"]
NAMES = {"private": "10.0.1.91", "loop": "127.0.0.1", "meta": "169.254.169.254", "lan": netlab.LAN, "next": "45.45.45.9"}
CONFIG = """
machine: {cpus: 2, memory: 1G}
network:
  mode: open
  allow:
    - {cidr: 10.0.0.80/28, ports: [80]}
    - {host: intern.example, private: true}
  deny:
    - denied.example
    - "*.denied.example"
    - {host: half.example, ports: [443]}
    - {cidr: 9.9.9.0/24}
mounts: [{source: ./work, write: true}, {source: ./ro}]
"""


@pytest.fixture(scope="module")
def scene(lab, make_lab_boxes):
    for name in ("site.example", "half.example", "denied.example", "*.denied.example"):
        lab.zone(name, A=[SITE], TXT=["words"])
    lab.zone("both.example", A=["10.0.1.92", SITE, "169.254.169.254"])
    lab.zone("intern.example", A=["10.0.1.93"])
    lab.zone("todenied.example", A=["9.9.9.9"])
    for name, address in NAMES.items():
        lab.zone(f"{name}.to.example", A=[address])
    s = Scene(lab, make_lab_boxes(CONFIG, name="open"))
    p = s.probes
    for a in PUBLIC + NEVER:
        p.talk(f"http/{a}", a, 80, packets.get(a, f"/http-{a}"))
        p.talk(f"tls/{a}", a, 443, packets.client_hello("site.example"))
        p.talk(f"host/{a}", a, 8088, packets.get(a, f"/host-{a}"))
        p.datagram(f"quic/{a}", a, 443, b"quic")
        p.datagram(f"ntp/{a}", a, 123, b"ntp")
        p.echo(f"echo/{a}", a)
    p.talk("ssh", "site.example", 22, "a500")
    p.talk("odd-port", "site.example", 5000, b"\0hello\n")
    p.talk("allowed-range", "10.0.0.85", 80, packets.get("10.0.0.85", "/allowed-range"))
    p.talk("allowed-range-port", "10.0.0.85", 443, packets.client_hello("x.example"))
    p.datagram("allowed-range-udp", "10.0.0.85", 443, b"x")
    for name in ("site", "denied", "x.denied", "both", "intern", "half", "todenied"):
        p.talk(f"name/{name}", f"{name}.example", 80, packets.get(f"{name}.example", f"/name-{name}"))
    p.talk("half-tls", "half.example", 443, packets.client_hello("half.example"))
    p.talk("denied-host", SITE, 80, packets.get("denied.example", "/denied-host"))
    p.talk("denied-sni", SITE, 443, packets.client_hello("a.denied.example"))
    for name in NAMES:
        p.talk(f"to/{name}", f"{name}.to.example", 80, packets.get(f"{name}.to.example", f"/to-{name}"))
        p.ask(f"ask/{name}", "8.8.8.8", query(f"{name}.to.example"))
    p.ask("ask/site", "8.8.8.8", query("site.example"))
    p.ask("ask/both", "8.8.8.8", query("both.example"))
    p.ask("ask/txt", "8.8.8.8", query("site.example", "TXT"))
    p.ask("ask/denied", "8.8.8.8", query("q.denied.example"))
    p.ask("ask/aaaa", "8.8.8.8", query("site.example", "AAAA"))
    p.ask("ask/nobody", "8.8.8.8", query("nobody.example"))
    p.ask("ask/host", "8.8.8.8", query("host.nixbox.internal"))
    for i, proto in enumerate((47, 50, 41, 132, 253)):
        p.raw(f"raw/{proto}", proto, f"11.22.44.{i}", b"x" * 40)
    for name, frame in frames().items():
        p.frame(f"frame/{name}", frame)
    p.frame("good-frame", ethernet(0x0800, ipv4(17, udp("11.22.44.50", 5000, b"good"), "11.22.44.50")))
    s.run()
    return s


def frames():
    return {
        "source": ethernet(0x0800, ipv4(17, udp("11.22.44.60", 5000, b"x", source="8.8.4.4"), "11.22.44.60", source="8.8.4.4")),
        "mac": ethernet(0x0800, ipv4(17, udp("11.22.44.61", 5000, b"x"), "11.22.44.61"), source="02:00:00:00:00:99"),
        "vlan": ethernet(0x0800, ipv4(17, udp("11.22.44.62", 5000, b"x"), "11.22.44.62"), vlan=[5]),
        "fragment": ethernet(0x0800, ipv4(17, udp("11.22.44.63", 5000, b"x" * 64)[:40], "11.22.44.63", more=True)),
        "options": ethernet(0x0800, ipv4(6, tcp("11.22.44.64", 80), "11.22.44.64", options=bytes([131, 7, 4, 8, 8, 8, 8, 0]))),
        "broadcast": ethernet(0x0800, ipv4(17, udp("255.255.255.255", 5000, b"x"), "255.255.255.255"), to=packets.BROADCAST),
        "multicast": ethernet(0x0800, ipv4(17, udp("239.1.2.3", 5000, b"x"), "239.1.2.3"), to="01:00:5e:01:02:03"),
    }


FRAME_TARGETS = {"source": "11.22.44.60", "mac": "11.22.44.61", "vlan": "11.22.44.62", "fragment": "11.22.44.63", "options": "11.22.44.64",
                 "broadcast": "255.255.255.255", "multicast": "239.1.2.3"}


@pytest.mark.parametrize("address", ["8.8.8.8", SITE])
def test_a_public_address(scene, address):
    assert scene.seen("http", to=address, target=f"/http-{address}") and "200 OK" in scene[f"http/{address}"].text
    assert packets.is_server_hello(scene[f"tls/{address}"].data)
    assert scene[f"quic/{address}"].data == b"quic" and scene.seen("udp", to=address, port=443)
    assert scene[f"ntp/{address}"].data == b"ntp" and scene.seen("udp", to=address, port=123)
    assert scene[f"echo/{address}"].data, scene[f"echo/{address}"]
    for port, proto in ((80, None), (443, "udp"), (123, "udp")):
        assert scene.events("allow", ip=address, port=port, **({"proto": proto} if proto else {})), scene.events(ip=address)


@pytest.mark.parametrize("address", NEVER)
def test_an_address_that_is_not_public(scene, address):
    for probe in ("http", "tls", "host"):
        r = scene[f"{probe}/{address}"]
        assert (r.refused or r.end in ("eof", "ECONNRESET")) and "200 OK" not in r.text and not packets.is_server_hello(r.data), (probe, r)
    for probe in ("quic", "ntp", "echo"):
        assert not scene[f"{probe}/{address}"].data
    if address != "169.254.169.254":  # the name below that leads there must not arrive either, as a test of its own says
        got = [r for r in scene.reached(address) if r.get("port") in (80, 443, 8088, 123) or r.get("proto") == 1]
        assert not got or address == netlab.ROUTER and all(r.get("port") == 53 for r in got)
    assert scene.denied(ip=address), scene.denied()


def test_nothing_of_the_host_was_reached(scene):
    assert not scene.seen(place="host")


def test_names(scene):
    assert scene["ask/site"].answer.records == [("A", 60, SITE)] and scene.seen("http", target="/name-site", to=SITE)
    assert scene["ask/aaaa"].answer.rcode == 0 and not scene["ask/aaaa"].answer.records
    assert b"words" in scene["ask/txt"].answer.records[0][2]
    assert scene["ask/nobody"].answer.rcode == 3 and scene["ask/host"].answer.rcode == 3
    assert {q["to"] for q in scene.queries()} == {netlab.ROUTER}, "only the host's own resolver is asked"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_to_a_forbidden_place(scene, name):
    answer = scene[f"ask/{name}"].answer
    assert not [r for r in answer.records if r[0] == "A" and r[2] == NAMES[name]]
    assert "200 OK" not in scene[f"to/{name}"].text and not scene.seen("http", target=f"/to-{name}")


def test_a_private_address_among_several(scene):
    assert [r[2] for r in scene["ask/both"].answer.records] == [SITE]
    assert scene.seen("http", target="/name-both", to=SITE) and not scene.reached("10.0.1.92")


def test_deny_wins(scene):
    for name in ("denied", "x.denied"):
        assert scene[f"name/{name}"].name == "3" and not scene.queries(f"{name}.example")
    assert scene["ask/denied"].answer.rcode == 3 and not scene.queries("q.denied.example")
    assert "200 OK" in scene["name/half"].text and not packets.is_server_hello(scene["half-tls"].data)
    assert scene["http/9.9.9.9"].refused and not scene["quic/9.9.9.9"].data and not scene["echo/9.9.9.9"].data
    assert "200 OK" not in scene["name/todenied"].text and not scene.reached("9.9.9.9")


def test_a_denied_name_at_an_address(scene):
    assert scene["denied-host"].text.startswith("HTTP/1.1 403") and not scene.seen("http", target="/denied-host")
    assert packets.is_alert(scene["denied-sni"].data) and not scene.seen("tls", sni="a.denied.example")


def test_rules_add_what_is_not_public(scene):
    assert scene.seen("http", target="/allowed-range", to="10.0.0.85") and scene.seen("http", target="/name-intern", to="10.0.1.93")
    assert scene["allowed-range-port"].refused and not scene["allowed-range-udp"].data
    assert not [r for r in scene.reached("10.0.0.85") if r.get("port") not in (80, None)]


def test_other_ports(scene):
    assert scene["ssh"].data.startswith(b"SSH-2.0") and scene["odd-port"].data == b"\0hello\n"


@pytest.mark.parametrize("proto", [47, 50, 41, 132, 253])
def test_a_raw_protocol(scene, proto):
    assert not scene.reached(f"11.22.44.{[47, 50, 41, 132, 253].index(proto)}")


@pytest.mark.parametrize("name", FRAME_TARGETS)
def test_a_frame(scene, name):
    assert scene.seen("udp", to="11.22.44.50", data=b"good".hex()), "the control"
    assert scene[f"frame/{name}"].sent and not scene.reached(FRAME_TARGETS[name])


# ---------------------------------------------------------------------------------------------------------- off
@pytest.fixture(scope="module")
def offline(lab, make_lab_boxes):
    box = make_lab_boxes("machine: {cpus: 2, memory: 1G}\nnetwork: {mode: off}\nmounts: [{source: ./work, write: true}, {source: ./ro}]\n", name="off")
    s = Scene(lab, box)
    s.probes.talk("http", "8.8.8.8", 80, packets.get("8.8.8.8", "/off"))
    s.probes.talk("gateway", packets.GATEWAY, 7001, "r500")
    s.probes.datagram("udp", "8.8.8.8", 443, b"off")
    s.probes.ask("dns", packets.GATEWAY, query("site.example"))
    s.probes.echo("echo", "8.8.8.8")
    s.run()
    return s


def test_off_has_no_device(offline):
    devices = offline.box.sh("cat /proc/net/dev").splitlines()[2:]
    assert [d.split(":")[0].strip() for d in devices] == ["lo"]


def test_off_has_no_gateway(offline):
    assert not [line for line in offline.box.processes().values() if "nixbox-gateway" in line]


def test_off_reaches_nothing(offline):
    for name, r in offline.results.items():
        assert not r.data and r.connect != "ok", (name, r)
    assert not offline.seen()
