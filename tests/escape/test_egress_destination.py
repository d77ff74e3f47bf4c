"""Where a box with network.mode filtered can get: only to names that are allowed, on their ports, and only where these names may
lead. Everything is tried as root inside; the verdict is the laboratory's, which has every address there is, and the event log's.
One box makes all the probes at once; each test looks at those of one kind, and at their positive control."""
import pytest

import netlab
import packets
from probes import Scene

PUBLIC = "93.184.216.34"
# What names that are allowed lead to, and must not: name -> zone. None of them has an address that may be reached.
FORBIDDEN = {
    "loop": {"A": ["127.0.0.1"]},
    "loop2": {"A": ["127.8.9.10"]},
    "any": {"A": ["0.0.0.0"]},
    "ten": {"A": ["10.0.0.77"]},
    "home": {"A": ["192.168.1.1"]},
    "docker": {"A": ["172.17.0.1"]},
    "shared": {"A": ["100.64.0.7"]},
    "link": {"A": ["169.254.7.7"]},
    "aws": {"A": ["169.254.169.254"]},
    "alibaba": {"A": ["100.100.100.200"]},
    "azure": {"A": ["168.63.129.16"]},
    "multi": {"A": ["224.0.0.251"]},
    "broad": {"A": ["255.255.255.255"]},
    "synthetic": {"A": ["198.18.0.1"]},
    "hostlan": {"A": [netlab.HOST]},
    "neighbour": {"A": [netlab.LAN]},
    "hostpublic": {"A": [netlab.OWN_PUBLIC]},
    "nextdoor": {"A": ["45.45.45.9"]},
    "mapped": {"AAAA": ["::ffff:127.0.0.1"]},
    "mappedlan": {"AAAA": [f"::ffff:{netlab.LAN}"]},
    "compatible": {"AAAA": ["::10.0.0.78"]},
    "nat64": {"AAAA": ["64:ff9b::7f00:1"]},
    "nat64meta": {"AAAA": ["64:ff9b::a9fe:a9fe"]},
    "sixtofour": {"AAAA": ["2002:a00:4d::1"]},
    "loop6": {"AAAA": ["::1"]},
    "unique": {"AAAA": ["fd77::1"]},
    "aws6": {"AAAA": ["fd00:ec2::254"]},
    "linklocal6": {"AAAA": ["fe80::1"]},
    "neighbour6": {"AAAA": ["2a01:77::9"]},
    "alias": {"CNAME": "secret.lan.example"},
}
TARGETS = sorted({a.removeprefix("::ffff:") for z in FORBIDDEN.values() for k, v in z.items() if k != "CNAME" for a in v} | {"10.0.0.79"})
# Addresses that are tried as they are, with what is special about them.
DIRECT = ["8.8.8.8", "1.1.1.1", PUBLIC, "169.254.169.254", "100.100.100.200", "168.63.129.16", "10.0.0.5", "192.168.1.1", netlab.ROUTER,
          netlab.LAN, netlab.HOST, netlab.OWN_PUBLIC, "45.45.45.9", "198.18.200.200", "198.19.255.253", "198.19.0.1", "224.0.0.1", "240.0.0.1"]
OWN = ["0.0.0.0", "127.0.0.1", "127.0.0.2", "198.19.255.254"]  # these are the guest itself
SPELLINGS = ["134744072", "0x08080808", "010.010.010.010", "8.8.2056", "0x8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "8.8.8.8."]
ODD_NAMES = {
    "nul": [b"allowed.example\0", b"denied", b"example"],
    "nul-label": [b"allowed", b"example\0"],
    "dots-in-label": [b"allowed.example"],
    "space": [b"allowed ", b"example"],
    "control": [b"allowed\r\n", b"example"],
    "utf8": ["аllowed".encode(), b"example"],
    "idn": [b"xn--llowed-7of", b"example"],
    "long-label": [b"a" * 63, b"a" * 63, b"a" * 63, b"a" * 62],
    "backslash": [b"allowed\\.example", b"example"],
    "slash": [b"allowed/", b"example"],
    "number": [b"2130706433"],
    "address": [b"127", b"0", b"0", b"1"],
}
CONFIG = f"""
machine: {{cpus: 2, memory: 1G}}
network:
  mode: filtered
  allow:
    - allowed.example
    - other.example
    - "*.wild.example"
    - {{host: db.example, ports: [5432]}}
    - rebind.example
    - mixed.example
    - v6.example
    - {{host: intern.example, private: true}}
    - {{host: internloop.example, private: true}}
    - {{host: internmeta.example, private: true}}
    - {{cidr: 10.9.0.0/24, ports: [80]}}
    - {{cidr: 0.0.0.0/0, ports: [81]}}
{"".join(f"    - {name}.bad.example{chr(10)}" for name in FORBIDDEN)}
mounts: [{{source: ./work, write: true}}, {{source: ./ro}}]
"""
FOLLOW = "curl -sS -m 60 -L -o /dev/null -w '%{http_code}' http://allowed.example/redirect?to="
SPELL = """
import socket, sys
for host in sys.argv[1:]:
    try:
        socket.create_connection((host, 80), 30).close()
        print(host, "connected")
    except OSError as e:
        print(host, type(e).__name__, e)
"""


def zones(lab):
    lab.zone("allowed.example", A=[PUBLIC])
    lab.zone("other.example", A=["93.184.216.35"])
    lab.zone("wild.example", A=["93.184.216.36"])
    lab.zone("*.wild.example", A=["93.184.216.36"])
    lab.zone("db.example", A=["93.184.216.37"])
    lab.zone("rebind.example", [{"A": ["93.184.216.38"]}, {"A": ["10.0.0.80"]}, {"A": ["127.0.0.1"]}])
    lab.zone("mixed.example", A=["10.0.0.81", "93.184.216.39", "169.254.169.254"])
    lab.zone("v6.example", AAAA=["2606:2800::39"])
    lab.zone("intern.example", A=["10.0.0.82"])
    lab.zone("internloop.example", A=["127.0.0.1"])
    lab.zone("internmeta.example", A=["169.254.169.254"])
    lab.zone("secret.lan.example", A=["10.0.0.79"])
    for name in ("denied.example", "evilwild.example", "allowed.example.evil.example", "notallowed.example"):
        lab.zone(name, A=["93.184.216.66"])
    for name, zone in FORBIDDEN.items():
        lab.zone(f"{name}.bad.example", **zone)


def probe_names(p):
    p.talk("control", "allowed.example", 80, packets.get("allowed.example", "/control"))
    p.talk("dotted", "ALLOWED.eXample.", 80, packets.get("Allowed.EXAMPLE", "/dotted"))
    p.talk("below", "a.b.wild.example", 80, packets.get("a.b.wild.example", "/below"))
    p.talk("v6", "v6.example", 80, packets.get("v6.example", "/v6"))
    p.talk("port", "db.example", 5432, b"hello\n")
    p.talk("wrong-port-late", "allowed.example", 22, "r30000")
    p.talk("mixed", "mixed.example", 80, packets.get("mixed.example", "/mixed"))
    p.talk("intern", "intern.example", 80, packets.get("intern.example", "/intern"))
    p.talk("range", "10.9.0.5", 80, packets.get("10.9.0.5", "/range"))
    p.talk("range-port", "10.9.0.5", 22, "r30000")
    for name in ("internloop", "internmeta"):
        p.talk(name, f"{name}.example", 80, packets.get(f"{name}.example", "/private"))
    for name in ("denied.example", "evilwild.example", "wild.example", "allowed.example.evil.example", "notallowed.example", "example"):
        p.talk(f"not/{name}", name, 80, packets.get(name, "/not-allowed"))
    for name in FORBIDDEN:
        p.talk(f"bad/{name}", f"{name}.bad.example", 80, packets.get(f"{name}.bad.example", f"/bad-{name}"))
    for name, labels in ODD_NAMES.items():
        p.ask(f"odd/{name}", "8.8.8.8", packets.query(labels))
    p.ask("even", "8.8.8.8", packets.query("allowed.example"))


def probe_wrong_ports(p, number):
    """More than once: a client that says nothing within a second is refused without a word."""
    p.talk(f"wrong-port/{number}", "db.example", 80, packets.get("db.example", "/wrong-port"))
    p.talk(f"wrong-port-tls/{number}", "db.example", 443, packets.client_hello("db.example"))


def probe_addresses(p):
    for address in DIRECT:
        p.talk(f"http/{address}", address, 80, packets.get("allowed.example", f"/direct-{address}"))
        p.talk(f"tls/{address}", address, 443, packets.client_hello("allowed.example"))
        p.talk(f"ssh/{address}", address, 22, "r30000")  # longer than the gateway waits for a word
        p.talk(f"host/{address}", address, 8088, packets.get("allowed.example", f"/host-{address}"))
        p.talk(f"any/{address}", address, 81, packets.get("allowed.example", f"/any-{address}"))
    for address in OWN:
        for port in (80, 8088, 11434):
            p.talk(f"own/{address}/{port}", address, port, packets.get("allowed.example", "/own"))


@pytest.fixture(scope="module")
def scene(lab, make_lab_boxes):
    zones(lab)
    s = Scene(lab, make_lab_boxes(CONFIG, name="dest"))
    probe_names(s.probes)
    probe_wrong_ports(s.probes, 1)
    s.run()
    probe_addresses(s.probes)
    probe_wrong_ports(s.probes, 2)
    s.at = s.box.sh("getent ahostsv4 allowed.example | head -1 | cut -d' ' -f1")  # what the name has inside
    s.probes.talk("fronting-http", s.at, 80, packets.get("denied.example", "/fronting"))
    s.probes.talk("fronting-http-allowed", s.at, 80, packets.get("other.example", "/fronting-allowed"))
    s.probes.talk("fronting-tls", s.at, 443, packets.client_hello("denied.example"))
    s.probes.talk("fronting-tls-allowed", s.at, 443, packets.client_hello("other.example"))
    s.probes.talk("held", s.at, 443, packets.client_hello("allowed.example"))
    for i in range(8):
        s.probes.talk(f"rebind{i}", "rebind.example", 80, f"w{i * 300}", packets.get("rebind.example", f"/rebind{i}"))
    s.run()
    s.spelled = dict(line.split(" ", 1) for line in s.python(SPELL, *SPELLINGS, "allowed.example").splitlines())
    s.followed = {to: s.box.run(FOLLOW + to).stdout.decode() for to in
                  ("http://other.example/followed", "http://denied.example/followed", "http://169.254.169.254/followed")}
    return s


def paths(scene, place=None):
    return {r["target"] for r in scene.seen("http") if place in (None, r["place"])}


def test_an_allowed_name_is_reached(scene):
    assert scene["control"].text.startswith("HTTP/1.1 200") and f"site=allowed.example ip={PUBLIC} " in scene["control"].text
    assert scene.seen("http", target="/control", host="allowed.example", to=PUBLIC)
    assert scene.events("allow", type="connect", host="allowed.example", ip=PUBLIC, port=80)
    assert packets.is_server_hello(scene["held"].data) and scene.seen("tls", sni="allowed.example", to=PUBLIC)


def test_case_and_a_last_dot_do_not_matter(scene):
    assert "/dotted" in paths(scene), scene["dotted"]


def test_a_name_below_a_pattern_is_reached(scene):
    assert "site=a.b.wild.example" in scene["below"].text and "/below" in paths(scene)


def test_a_name_that_has_only_ipv6_is_reached(scene):
    assert scene.seen("http", target="/v6", to="2606:2800::39"), scene["v6"]


def test_a_port_of_its_own(scene):
    assert scene["port"].data == b"hello\n", scene["port"]
    assert scene.seen("data", port=5432, to="93.184.216.37")
    plain, tls = ([scene[f"{kind}/{number}"] for number in (1, 2)] for kind in ("wrong-port", "wrong-port-tls"))
    assert any(r.text.startswith("HTTP/1.1 403") and "nixbox allow" in r.text for r in plain) and "200 OK" not in plain[0].text + plain[1].text, plain
    assert any(packets.is_alert(r.data) for r in tls) and not any(packets.is_server_hello(r.data) for r in tls), tls
    assert scene["wrong-port-late"].connect != "ok" or scene["wrong-port-late"].end == "ECONNRESET"
    assert not [r for r in scene.seen() if r.get("to") == "93.184.216.37" and r["port"] != 5432]
    assert not scene.seen("ssh")
    assert scene.denied(host="db.example", port=80) and scene.denied(host="db.example", port=443)


@pytest.mark.parametrize("name", ["denied.example", "evilwild.example", "wild.example", "allowed.example.evil.example", "notallowed.example"])
def test_a_name_that_is_not_allowed_does_not_exist(scene, name):
    r = scene[f"not/{name}"]
    assert r.name == "3" and r.connect == "ENOENT", r
    assert not scene.queries(name), "the query left the host"
    assert not scene.reached("93.184.216.66") and "/not-allowed" not in paths(scene)
    assert scene.denied(type="dns", host=name)


@pytest.mark.parametrize("address", DIRECT)
def test_an_address_without_a_name(scene, address):
    for probe in ("http", "tls", "ssh", "host"):
        r = scene[f"{probe}/{address}"]
        no_name = address == "198.18.200.200"  # among the addresses that names have: the gateway says that this one has none
        assert r.refused or no_name and r.end in ("ECONNRESET", "eof") and "200 OK" not in r.text, (probe, r)
        assert r.ms < 10000, "it must fail, not by a time-out"
    assert not [r for r in scene.seen("http") if r["target"] in (f"/direct-{address}", f"/host-{address}")]
    assert address.startswith(("198.1", "224")) or scene.denied(type="connect", ip=address), scene.denied(type="connect")
    if address not in (PUBLIC, "169.254.169.254"):  # others lead there, too
        assert not [r for r in scene.reached(address) if r.get("port") in (22, 443, 8088)]


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1"])
def test_a_range_holds_public_addresses(scene, address):
    assert scene.seen("http", to=address, port=81), scene[f"any/{address}"]


@pytest.mark.parametrize("address", [a for a in DIRECT if a not in ("8.8.8.8", "1.1.1.1", PUBLIC)])
def test_a_range_of_everything_holds_nothing_special(scene, address):
    r = scene[f"any/{address}"]
    assert not [s for s in scene.reached(address) if s.get("port") == 81], r
    assert r.connect != "ok" or r.end in ("ECONNRESET", "eof"), r


def test_a_range_is_reached_on_its_ports(scene):
    assert scene.seen("http", target="/range", to="10.9.0.5"), scene["range"]
    assert scene["range-port"].refused and not [r for r in scene.reached("10.9.0.5") if r.get("port") == 22]


@pytest.mark.parametrize("address", OWN)
def test_the_guests_own_addresses_are_its_own(scene, address):
    for port in (80, 8088, 11434):
        assert scene[f"own/{address}/{port}"].refused
    assert "/own" not in paths(scene)


def test_nothing_of_the_host_was_reached(scene):
    assert not paths(scene, "host") and not scene.seen(place="host")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_address_in_another_spelling(scene, spelling):
    assert scene.spelled["allowed.example"] == "connected", "the control"
    assert scene.spelled[spelling] != "connected"
    assert not [r for r in scene.reached("8.8.8.8") if r.get("port") == 80]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_cannot_be(scene, name):
    assert scene["even"].answer.rcode == 0 and scene["even"].answer.records[0][2] == scene.at, "the control"
    answer = scene[f"odd/{name}"].answer
    assert answer is None or answer.rcode in (1, 3, 5) and not answer.records, answer
    assert not [q for q in scene.queries() if not set(q["name"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_")]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_an_allowed_name_that_leads_to_a_forbidden_place(scene, name):
    r = scene[f"bad/{name}"]
    assert r.at, "the name exists"
    assert "200 OK" not in r.text and r.end != "open", r
    assert f"/bad-{name}" not in paths(scene)
    assert scene.denied(host=f"{name}.bad.example"), scene.denied()


def test_no_forbidden_place_saw_anything(scene):
    assert not scene.reached(*[t for t in TARGETS if t not in ("127.0.0.1", netlab.HOST, netlab.ROUTER)])


def test_a_name_that_moves_to_a_private_address(scene):
    reached = [i for i in range(8) if "200 OK" in scene[f"rebind{i}"].text]
    assert reached and len(reached) < 8, "the control: it leads to a public address now and then"
    assert {r["to"] for r in scene.seen("http", host="rebind.example")} == {"93.184.216.38"}
    assert not scene.reached("10.0.0.80") and scene.denied(host="rebind.example")


def test_a_private_address_among_several(scene):
    assert not scene.reached("10.0.0.81") and not [r for r in scene.seen("http", host="mixed.example") if r["to"] != "93.184.216.39"]
    assert scene.seen("http", target="/mixed", to="93.184.216.39"), scene["mixed"]


def test_private_allows_private_addresses_only(scene):
    assert scene.seen("http", target="/intern", to="10.0.0.82"), scene["intern"]
    for name in ("internloop", "internmeta"):
        assert "200 OK" not in scene[name].text and scene.denied(host=f"{name}.example")
    assert "/private" not in paths(scene)


def test_an_allowed_names_address_serves_no_other_name(scene):
    assert scene.at.startswith("198.18.") and scene.at != PUBLIC
    assert scene["fronting-http"].text.startswith("HTTP/1.1 403") and "denied.example" in scene["fronting-http"].text
    assert scene["fronting-http-allowed"].text.startswith("HTTP/1.1 403")
    assert packets.is_alert(scene["fronting-tls"].data) and packets.is_alert(scene["fronting-tls-allowed"].data)
    assert not {"/fronting", "/fronting-allowed"} & paths(scene)
    assert not scene.seen("tls", sni="denied.example") and not scene.seen("tls", sni="other.example")
    assert scene.denied(host="allowed.example", port=443)


def test_redirects(scene):
    assert scene.followed["http://other.example/followed"] == "200", "the control"
    assert {r["host"] for r in scene.seen("http", target="/followed")} == {"other.example"}
    assert scene.followed["http://denied.example/followed"] != "200" and scene.followed["http://169.254.169.254/followed"] != "200"
