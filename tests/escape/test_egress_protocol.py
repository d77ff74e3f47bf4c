"""How a box with network.mode filtered can send: DNS to the gateway and TCP to names, and nothing else, however the bytes are put
on the wire; TLS and HTTP only for the name that the connection has. Everything is tried as root inside, with frames made by hand
where need be; the verdict is the laboratory's and the event log's."""
import socket

import pytest

import harness
import packets
from packets import GATEWAY, client_hello, ethernet, extension, get, ipv4, query, record, tcp, udp
from probes import Scene

SITE = "93.184.216.50"
CONFIG = """
machine: {cpus: 2, memory: 1G}
network:
  mode: filtered
  allow:
    - allowed.example
    - other.example
    - "*.tunnel.example"
    - {host: mail.example, ports: [25, 3306]}
    - {host: fetch.example, ports: [80, 443, 8080, 8443, 5000]}
mounts: [{source: ./work, write: true}, {source: ./ro}]
"""

# ---- what is sent below TCP: each has a destination of its own, so that it can be told from the others on the far side
UDP_PORTS = {"quic": 443, "ntp": 123, "doq": 853, "doq-old": 784, "other": 5000}
RAW = {"gre": 47, "esp": 50, "sixinfour": 41, "ipip": 4, "sctp": 132, "igmp": 2, "unknown": 253, "none": 255}


def hidden(n):
    return f"11.22.33.{n}"


def odd_frames():
    """name -> (frame, address that must not see it)"""
    syn, asked = tcp, query("frames.denied.example")
    whole = ipv4(17, udp(hidden(20), 5000, b"x" * 64), hidden(20))
    payload = whole[20:]
    other = "02:00:00:00:00:99"
    return {
        "plain-udp": (ethernet(0x0800, whole), hidden(20)),
        "other-mac": (ethernet(0x0800, ipv4(6, syn(hidden(21), 443), hidden(21)), source=other), hidden(21)),
        "gateways-mac": (ethernet(0x0800, ipv4(6, syn(hidden(22), 443), hidden(22)), source=packets.GATEWAY_MAC), hidden(22)),
        "other-source": (ethernet(0x0800, ipv4(6, syn(hidden(23), 443, source="10.77.0.2"), hidden(23), source="10.77.0.2")), hidden(23)),
        "gateways-source": (ethernet(0x0800, ipv4(6, syn(hidden(24), 443, source=GATEWAY), hidden(24), source=GATEWAY)), hidden(24)),
        "loopback-source": (ethernet(0x0800, ipv4(6, syn("127.0.0.1", 7001, source="127.0.0.1"), "127.0.0.1", source="127.0.0.1")), None),
        "loopback-target": (ethernet(0x0800, ipv4(6, syn("127.0.0.1", 8089), "127.0.0.1")), None),
        "vlan": (ethernet(0x0800, ipv4(17, udp(hidden(25), 5000, b"x"), hidden(25)), vlan=[7]), hidden(25)),
        "vlan-zero": (ethernet(0x0800, ipv4(6, syn(hidden(26), 443), hidden(26)), vlan=[0]), hidden(26)),
        "vlan-twice": (ethernet(0x0800, ipv4(17, udp(hidden(27), 5000, b"x"), hidden(27)), vlan=[1, 7]), hidden(27)),
        "first-fragment": (ethernet(0x0800, ipv4(17, payload[:32], hidden(28), more=True, ident=77)), hidden(28)),
        "last-fragment": (ethernet(0x0800, ipv4(17, payload[32:], hidden(28), fragment=4, ident=77)), hidden(28)),
        "dns-fragment": (ethernet(0x0800, ipv4(17, udp("8.8.8.8", 53, asked)[:24], "8.8.8.8", more=True, ident=78)), None),
        "dns-fragment-2": (ethernet(0x0800, ipv4(17, udp("8.8.8.8", 53, asked)[24:], "8.8.8.8", fragment=3, ident=78)), None),
        "options": (ethernet(0x0800, ipv4(6, syn(hidden(29), 443), hidden(29), options=bytes([131, 7, 4, 8, 8, 8, 8, 0]))), hidden(29)),
        "broadcast": (ethernet(0x0800, ipv4(17, udp("255.255.255.255", 5000, b"x"), "255.255.255.255"), to=packets.BROADCAST), "255.255.255.255"),
        "lan-broadcast": (ethernet(0x0800, ipv4(17, udp("10.77.0.255", 5000, b"x"), "10.77.0.255"), to=packets.BROADCAST), "10.77.0.255"),
        "mdns": (ethernet(0x0800, ipv4(17, udp("224.0.0.251", 5353, asked), "224.0.0.251"), to="01:00:5e:00:00:fb"), "224.0.0.251"),
        "llmnr": (ethernet(0x0800, ipv4(17, udp("224.0.0.252", 5355, asked), "224.0.0.252"), to="01:00:5e:00:00:fc"), "224.0.0.252"),
        "ipv6-udp": (ethernet(0x86dd, packets.ipv6(17, bytes.fromhex("9c40138800090000aa"), "2606:2800::66")), "2606:2800::66"),
        "ipv6-router": (ethernet(0x86dd, packets.router_advertisement(), to="33:33:00:00:00:01"), None),
        "other-type": (ethernet(0x88b5, b"x" * 60), None),
        "802.3": (ethernet(60, b"\x42\x42\x03" + b"x" * 57), None),
        "arp-gateway": (ethernet(0x0806, packets.arp(2, GATEWAY, GATEWAY), to=packets.BROADCAST), None),
        "arp-other": (ethernet(0x0806, packets.arp(1, "10.77.0.1", "10.77.0.2"), to=packets.BROADCAST), None),
        "arp-reply": (ethernet(0x0806, packets.arp(2, packets.GUEST, GATEWAY, sender=other, target=packets.GATEWAY_MAC)), None),
        "rst-out-of-nowhere": (ethernet(0x0800, ipv4(6, tcp(hidden(31), 443, flags=4), hidden(31))), hidden(31)),
        "ack-out-of-nowhere": (ethernet(0x0800, ipv4(6, tcp(hidden(32), 443, b"data", flags=16, ack=1), hidden(32))), hidden(32)),
    }


# ---- TLS: first bytes to the address of allowed.example, on port 443; what each must come to
HELLO_LATE = client_hello("allowed.example", pad=3000)


def tls_cases():
    good, other = client_hello("allowed.example"), client_hello("denied.example")
    body = client_hello("allowed.example")[5:]
    return {
        "right": [good],
        "split-bytes": [f"s{good[:7].hex()}", "w200", f"s{good[7:60].hex()}", "w200", good[60:]],
        "split-records": [record(body[:30]) + record(body[30:31]) + record(body[31:])],
        "long": [f"s{HELLO_LATE[:1400].hex()}", "w100", HELLO_LATE[1400:]],
        "upper-case": [client_hello("ALLOWED.example")],
        "encrypted-inside": [client_hello("allowed.example", packets.encrypted_hello())],
    }, {
        "none": [client_hello(None)],
        "wrong": [other],
        "empty": [client_hello("")],
        "wrong-split": [f"s{other[:50].hex()}", "w200", f"s{other[50:90].hex()}", "w200", other[90:]],
        "wrong-records": [record(other[5:][:30]) + record(other[5:][30:])],
        "suffix": [client_hello("evil.allowed.example")],
        "prefix": [client_hello("allowed.example.denied.example")],
        "dot": [client_hello("allowed.example..")],
        "nul": [client_hello(b"allowed.example\0.denied.example")],
        "address": [client_hello("8.8.8.8")],
        "two-names": [client_hello(["allowed.example", "denied.example"])],
        "two-extensions": [client_hello("allowed.example", packets.server_name(b"denied.example"))],
        "only-encrypted": [client_hello(None, packets.encrypted_hello())],
        "huge": [client_hello("allowed.example", extension(0xfafa, bytes(20000)))],
        "ssl2": [bytes.fromhex("802e0103010015000000100100800700c0030080060040020080040080") + bytes(16)],
        "truncated": [f"s{record(b'-')[:5].hex()}", "r30000"],
        "never-whole": [f"s{good[:100].hex()}", "r30000"],
        "alert": [record(b"\x02\x28", kind=21)],
        "not-tls": [b"\0\x01\x02\x03binary on 443"],
        "ssh": [b"SSH-2.0-OpenSSH_9.2\r\n"],
        "openvpn": [b"\0\x0e\x38" + bytes(12)],
    }


# ---- HTTP on port 80 of allowed.example. What must pass has a path below /ok; what must not, /leak.
OK, BAD = get("allowed.example", "/ok"), get("denied.example", "/leak")


def http_cases():
    def post(*fields, body=b""):
        return get("allowed.example", "/ok", *fields, method="POST") + body

    return {
        "right": [OK],
        "split": [f"s{OK[:3].hex()}", "w200", f"s{OK[3:20].hex()}", "w200", OK[20:]],
        "kept-alive": [OK, OK, OK],
        "pipelined": [OK + OK],
        "with-port": [get("allowed.example:80", "/ok")],
        "absolute": [get("allowed.example", "http://allowed.example/ok")],
        "upload": [post("Content-Length: 5", body=b"hello")],
        "chunks": [post("Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n")],
        "websocket": [get("allowed.example", "/websocket", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                          "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), bytes([0x81, 0x85]) + bytes(4) + b"ok-ws"],
    }, {
        "other-host": [BAD],
        "other-allowed-host": [get("other.example", "/leak")],
        "kept-alive-other-host": [OK, BAD],
        "pipelined-other-host": [OK + BAD],
        "after-upload": [post("Content-Length: 5", body=b"hello") + BAD],
        "no-host": [get(None, "/leak")],
        "two-hosts": [get("allowed.example", "/leak", "Host: denied.example")],
        "host-list": [get("allowed.example, denied.example", "/leak")],
        "host-nul": [get("allowed.example\0denied.example", "/leak")],
        "host-at": [get("allowed.example@denied.example", "/leak")],
        "host-other-port": [get("allowed.example:8080", "/leak")],
        "absolute-other": [get("allowed.example", "http://denied.example/leak")],
        "folded-host": [b"GET /leak HTTP/1.1\r\nHost:\r\n denied.example\r\n\r\n"],
        "space-colon": [b"GET /leak HTTP/1.1\r\nHost : allowed.example\r\n\r\n"],
        "bare-lf": [b"GET /leak HTTP/1.1\nHost: denied.example\n\n"],
        "bare-cr": [b"GET /leak HTTP/1.1\rHost: denied.example\r\r\n\r\n"],
        "blank-first": [b"\r\n" + BAD],
        "old": [b"GET /leak\r\n"],
        "old-host": [get("denied.example", "/leak", version="1.0")],
        "connect": [b"CONNECT denied.example:443 HTTP/1.1\r\nHost: allowed.example\r\n\r\n"],
        "connect-self": [b"CONNECT allowed.example:443 HTTP/1.1\r\nHost: allowed.example\r\n\r\n"],
        "trace": [get("allowed.example", "/leak", method="TRACE")],
        "http2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)],
        "cl-te": [post("Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + BAD).replace(b"/ok", b"/leak")],
        "te-odd": [post("Transfer-Encoding: xchunked", "Content-Length: 0", body=BAD).replace(b"/ok", b"/leak")],
        "te-twice": [post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=b"0\r\n\r\n" + BAD).replace(b"/ok", b"/leak")],
        "cl-twice": [post("Content-Length: 0", "Content-Length: 60", body=BAD).replace(b"/ok", b"/leak")],
        "cl-sign": [post("Content-Length: +0", body=BAD).replace(b"/ok", b"/leak")],
        "chunk-extension": [post("Transfer-Encoding: chunked", body=b"0;\n\r\n\r\n" + BAD)],
        "chunk-sign": [post("Transfer-Encoding: chunked", body=b"-1\r\n\r\n" + BAD)],
        "upgrade-then-other": [get("allowed.example", "/switch", "Upgrade: echo", "Connection: Upgrade"), BAD],
        "no-websocket-then-other": [get("allowed.example", "/ok", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                                        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), BAD],
        "tls-other": [client_hello("denied.example")],
        "not-http": [b"\0\x01\x02binary on 80"],
        "ssh": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    }


# ---- names: questions that must not leave the host, and what they are answered with
QUESTIONS = {
    "txt": ("TXT", "data-txt.tunnel.example", 0), "null": ("NULL", "data-null.tunnel.example", 0), "mx": ("MX", "data-mx.tunnel.example", 0),
    "srv": ("SRV", "data-srv.tunnel.example", 0), "cname": ("CNAME", "data-cname.tunnel.example", 0), "any": ("ANY", "data-any.tunnel.example", 0),
    "aaaa": ("AAAA", "data-aaaa.tunnel.example", 0), "https": ("HTTPS", "data-https.tunnel.example", 0), "a": ("A", "data-a.tunnel.example", 0),
    "unknown": (4711, "data-unknown.tunnel.example", 0),
    "denied": ("A", "secret.denied.example", 3), "denied-txt": ("TXT", "secret-txt.denied.example", 3),
    "denied-any": ("ANY", "secret-any.denied.example", 3), "root": ("NS", "", 0),
}


@pytest.fixture(scope="module")
def scene(lab, make_lab_boxes):
    for name in ("allowed.example", "other.example", "fetch.example", "mail.example", "*.tunnel.example"):
        lab.zone(name, A=[SITE], TXT=["a record"], MX=["mail.example"])
    lab.zone("*.denied.example", A=["93.184.216.66"], TXT=["x"])
    s = Scene(lab, make_lab_boxes(CONFIG, name="proto"))
    below_tcp(s)
    names_and_streams(s)
    s.after_all = s.box.run(["curl", "-sS", "-m", "60", "http://allowed.example/after"]).stdout.decode()
    return s


def below_tcp(s):
    p = s.probes
    at = s.box.sh("getent ahostsv4 allowed.example | head -1 | cut -d' ' -f1")
    s.tcp_at = at
    for i, (name, port) in enumerate(UDP_PORTS.items()):
        p.datagram(f"udp/{name}", hidden(i), port, b"hello")
        p.datagram(f"udp-named/{name}", at, port, b"hello")
    for i, (name, proto) in enumerate(RAW.items()):
        p.raw(f"raw/{name}", proto, hidden(40 + i), b"x" * 40)
        p.raw(f"raw-named/{name}", proto, at, b"x" * 40)
    p.echo("echo", hidden(60))
    p.echo("echo-gateway", GATEWAY)
    p.echo("echo-named", at)
    for name, (frame, _) in odd_frames().items():
        p.frame(f"frame/{name}", frame)
    # controls: the same frames as they should be, when somebody listens to what comes back
    p.add("heard", "listen", 8000)
    p.frame("good-dns", ethernet(0x0800, ipv4(17, udp("8.8.8.8", 53, query("good.tunnel.example")), "8.8.8.8")), 3000)
    p.frame("good-syn", ethernet(0x0800, ipv4(6, tcp(at, 80, sport=45454), at)), 3000)
    p.frame("good-arp", ethernet(0x0806, packets.arp(1, packets.GUEST, GATEWAY), to=packets.BROADCAST), 3000)
    s.run()
    mixed = get("allowed.example", "/overlap"), get("denied.example", "/overlaq")
    s.probes.add("overlap", "overlap", at, 80, 15000, f"20:{mixed[1][20:].hex()}", f"10:{mixed[0][10:40].hex()}", f"0:{mixed[0][:24].hex()}",
                 f"20:{mixed[0][20:].hex()}")
    s.probes.add("in-order", "overlap", at, 80, 15000, f"0:{mixed[0][:24].hex()}", f"24:{mixed[0][24:].hex()}")
    s.run()


def names_and_streams(s):
    p = s.probes
    for good, bad, port in ((*tls_cases(), 443), (*http_cases(), 80)):
        for name, steps in {**{f"good-{port}/{k}": v for k, v in good.items()},
                            **{f"bad-{port}/{k}": [*v, "r30000"] for k, v in bad.items()}}.items():  # to their end, which must come
            p.talk(name, "allowed.example", port, *steps)
    p.talk("late/443", "allowed.example", 443, "r30000")
    p.talk("late/8443", "fetch.example", 8443, client_hello("denied.example"))
    p.talk("good/8443", "fetch.example", 8443, client_hello("fetch.example"))
    p.talk("late/8080", "fetch.example", 8080, get("denied.example:8080", "/leak"))
    p.talk("good/8080", "fetch.example", 8080, get("fetch.example:8080", "/ok-8080"))
    p.talk("good/443-http", "allowed.example", 443, get("allowed.example:443", "/ok-443"))
    p.talk("good/5000", "fetch.example", 5000, b"\0binary\r\n")
    p.talk("mail", "mail.example", 25, "a500", b"EHLO box\r\n")
    p.talk("mysql", "mail.example", 3306, "a500")
    for name, address, port in (("doh", "1.1.1.1", 443), ("dot", "8.8.8.8", 853), ("dot-9", "9.9.9.9", 853)):
        p.talk(f"direct/{name}", address, port, client_hello("dns.google"))
    p.talk("dns-stream", "8.8.8.8", 53, b"GET / HTTP/1.1\r\nHost: denied.example\r\n\r\n")
    for name, (kind, asked, _) in QUESTIONS.items():
        p.ask(f"ask-udp/{name}", "8.8.8.8", query(asked, kind))
        p.ask(f"ask-tcp/{name}", "9.9.9.9", query(f"tcp-{asked}" if asked else "", kind), via="tcp")
    p.ask("exact-txt", "8.8.8.8", query("allowed.example", "TXT"))
    p.ask("exact-mx", GATEWAY, query("allowed.example", "MX", edns=True))
    p.ask("exact-aaaa", GATEWAY, query("allowed.example", "AAAA"))
    p.ask("exact-https", GATEWAY, query("allowed.example", "HTTPS"))
    p.ask("pointer", GATEWAY, query(".".join(reversed(s.tcp_at.split("."))) + ".in-addr.arpa", "PTR"))
    p.ask("pointer-other", GATEWAY, query("8.8.8.8.in-addr.arpa", "PTR"))
    p.ask("short", "8.8.8.8", query("denied.example")[:11], ms=1500)
    p.ask("loop", "8.8.8.8", query("denied.example")[:12] + b"\xc0\x0c\0\x01\0\x01", ms=1500)
    p.ask("two", "8.8.8.8", query("allowed.example", count=2), ms=1500)
    s.run()


# ---------------------------------------------------------------------------------------------------------- below TCP
@pytest.mark.parametrize("name", UDP_PORTS)
def test_udp(scene, name):
    to = hidden(list(UDP_PORTS).index(name))
    for probe in (f"udp/{name}", f"udp-named/{name}"):
        assert scene[probe].end in ("EHOSTUNREACH", "ECONNREFUSED", "EACCES"), "refused at once, so that QUIC falls back"
    assert not scene.reached(to, SITE) or not scene.seen("udp")
    assert scene.denied(ip=to, proto="udp", port=UDP_PORTS[name])


@pytest.mark.parametrize("name", RAW)
def test_a_raw_protocol(scene, name):
    to = hidden(40 + list(RAW).index(name))
    assert not scene.reached(to)
    assert not [f for f in scene.reached(SITE) if f.get("proto") not in (6, None)]


def test_echo(scene):
    assert scene["echo"].end not in (None, "eof") and not scene["echo"].data
    assert not scene["echo-named"].data and not scene.reached(hidden(60))


@pytest.mark.parametrize("name", odd_frames())
def test_a_frame(scene, name):
    assert scene[f"frame/{name}"].sent, "the control: the card took it"
    to = odd_frames()[name][1]
    assert not to or not scene.reached(to)
    assert not scene.seen(place="host")
    assert not scene.queries(below="denied.example")
    assert not [f for f in scene.lab.frames() if f["what"] not in ("ip", "ip6", "arp")], "only ever from the host's own card"


def test_frames_as_they_should_be(scene):
    heard = [f for f in scene["heard"].frames if f[:6] == packets.mac(packets.GUEST_MAC)]
    assert [f for f in heard if f[12:14] == b"\x08\x06" and f[20:22] == b"\0\x02" and f[28:32] == socket.inet_aton(GATEWAY)], "ARP is answered"
    assert [f for f in heard if f[23] == 6 and f[36:38] == (45454).to_bytes(2, "big") and f[47] & 0x12 == 0x12], "a SYN is answered"
    assert scene.events("allow", type="dns", host="good.tunnel.example"), "a query is answered"


def test_a_spoofed_frame_is_not_answered(scene):
    for f in scene["heard"].frames:
        assert f[:6] in (packets.mac(packets.GUEST_MAC), packets.mac(packets.BROADCAST)), f.hex()
        assert f[12:14] in (b"\x08\0", b"\x08\x06"), f.hex()


def test_spoofing_is_told(scene):
    for word in ("VLAN", "fragment", "IPv6", "not the guest's"):
        assert harness.wait_for(lambda w=word: [e for e in scene.denied() if w in e.get("reason", "")], 30), scene.denied()


def test_the_network_still_works_after_all_that(scene):
    assert "site=allowed.example" in scene.after_all


def test_there_is_no_ipv6_inside(scene):
    assert scene.box.sh("test -e /proc/net/if_inet6 && cat /proc/net/if_inet6; true") == ""
    assert "2a02" not in scene.box.sh("cat /proc/net/ipv6_route 2>/dev/null; true")


def test_segments_that_overlap(scene):
    """What is looked at and what goes out is one and the same stream, put together once."""
    assert "200 OK" in scene["in-order"].text, "the control"
    sent = scene.seen("http", target="/overlap")
    assert sent and {r["host"] for r in sent} == {"allowed.example"}
    assert not scene.seen("http", target="/overlaq") and not scene.seen("http", host="denied.example")


# ---------------------------------------------------------------------------------------------------------- TLS and HTTP
@pytest.mark.parametrize("name", tls_cases()[0])
def test_tls_for_the_connections_name(scene, name):
    assert packets.is_server_hello(scene[f"good-443/{name}"].data), scene[f"good-443/{name}"]


@pytest.mark.parametrize("name", tls_cases()[1])
def test_tls_that_is_refused(scene, name):
    r = scene[f"bad-443/{name}"]
    assert not packets.is_server_hello(r.data) and r.end in ("eof", "ECONNRESET"), r
    if name not in ("alert", "not-tls", "ssh", "openvpn"):
        assert packets.is_alert(r.data) or not r.data, r
    assert {t["sni"].lower() for t in scene.seen("tls", port=443)} == {"allowed.example"}
    assert not [d for d in scene.seen("data", to=SITE) if d["port"] in (443, 80)]
    assert scene.denied(host="allowed.example", port=443)


def test_bytes_that_never_come(scene):
    assert scene["late/443"].end in ("eof", "ECONNRESET"), "a connection to 443 says within ten seconds what it is"


@pytest.mark.parametrize("name", http_cases()[0])
def test_http_for_the_connections_name(scene, name):
    r = scene[f"good-80/{name}"]
    assert r.text.startswith("HTTP/1.1 101" if name == "websocket" else "HTTP/1.1 200"), r
    assert r.text.count("HTTP/1.1 200 OK") == {"kept-alive": 3, "pipelined": 2, "websocket": 0}.get(name, 1)
    assert name != "websocket" or r.text.endswith("ok-ws") and scene.seen("websocket", data="ok-ws")


@pytest.mark.parametrize("name", http_cases()[1])
def test_http_that_is_refused(scene, name):
    r = scene[f"bad-80/{name}"]
    assert r.end in ("eof", "ECONNRESET"), r
    assert "path=/leak" not in r.text
    far = scene.seen("http", to=SITE)
    assert not [h for h in far if "leak" in h["target"] or h["method"] in ("CONNECT", "TRACE")]
    assert not [h for h in far if (h["host"] or "").partition(":")[0] not in ("allowed.example", "fetch.example")]
    assert not scene.seen("proxy") and not [d for d in scene.seen("data", to=SITE) if d["port"] in (443, 80)]
    assert scene.denied(host="allowed.example", port=80)


def test_a_refusal_says_how_to_allow_it(scene):
    text = scene["bad-80/other-host"].text
    assert text.startswith("HTTP/1.1 403") and "denied.example" in text and "nixbox allow" in text


def test_tls_and_http_on_other_ports(scene):
    assert packets.is_server_hello(scene["good/8443"].data) and "path=/ok-8080" in scene["good/8080"].text
    assert "path=/ok-443" in scene["good/443-http"].text
    assert packets.is_alert(scene["late/8443"].data) and scene["late/8080"].text.startswith("HTTP/1.1 403")
    assert {t["sni"] for t in scene.seen("tls", port=8443)} == {"fetch.example"}


def test_other_protocols_on_their_ports(scene):
    assert scene["good/5000"].data == b"\0binary\r\n"
    assert scene["mail"].data.startswith(b"220 mail.lab") and scene["mail"].data.endswith(b"EHLO box\r\n"), "the server speaks first"
    assert b"8.0.30-lab" in scene["mysql"].data


# ---------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize("name", ["doh", "dot", "dot-9"])
def test_encrypted_names(scene, name):
    assert scene[f"direct/{name}"].connect == "ECONNREFUSED"
    assert not [q for q in scene.queries() if q["via"] in ("dot", "doh")] and not scene.seen("tls", sni="dns.google")


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_that_stays_here(scene, name):
    kind, asked, rcode = QUESTIONS[name]
    for via in ("udp", "tcp"):
        answer = scene[f"ask-{via}/{name}"].answer
        assert answer and answer.rcode == rcode, (via, scene[f"ask-{via}/{name}"])
        assert bool(answer.records) == (kind in ("A", "ANY") and rcode == 0), answer
    assert not [q for q in scene.queries() if asked and q["name"].endswith(asked)], "it left the host"
    assert {q["to"] for q in scene.queries()} == {"10.77.0.1"}, "only the host's own resolver is asked"


def test_questions_about_an_exact_name(scene):
    assert b"a record" in scene["exact-txt"].answer.records[0][2] and scene.queries("allowed.example")
    assert scene["exact-mx"].answer.records[0][0] == "MX"
    for name in ("exact-aaaa", "exact-https"):
        assert scene[name].answer.rcode == 0 and not scene[name].answer.records


def test_pointers(scene):
    assert scene["pointer"].answer.records[0][2] == "allowed.example"
    assert scene["pointer-other"].answer.rcode == 3 and not scene.queries("8.8.8.8.in-addr.arpa")


def test_malformed_questions(scene):
    for name in ("short", "loop", "two"):
        answer = scene[name].answer
        assert answer is None or answer.rcode in (1, 3, 4) and not answer.records, (name, answer)


def test_port_53_carries_nothing_else(scene):
    assert len(scene["dns-stream"].data) <= 14 and scene["dns-stream"].end in ("eof", "ECONNRESET"), "at most an error without content"
    assert not [r for r in scene.reached("8.8.8.8") if r.get("port") == 53]
