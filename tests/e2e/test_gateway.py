"""The gateway's connections, one by one, on the stage of gateway_stage.py: what passes, what is refused and how the program in
the box learns of it, what is told, and what becomes of open connections when the rules change."""
import subprocess
import time

import pytest

import gateway_stage as gs

RULES = [{"host": "a.example", "ports": [7, 25, 80, 99, 443, 8080, 8443]}, {"host": "b.example", "ports": [80, 443]},
         {"host": "private.example", "ports": [7]}, {"host": "mixed.example", "ports": [7]}, {"host": "metadata.example", "ports": [80]}]

SOON = 2.0  # seconds within which a refusal arrives, on a busy machine: none is a time-out
TIMED = "t = time.monotonic()\n%s\nresult = [result, time.monotonic() - t]"


@pytest.fixture
def stage(spaces, far):
    far.seen.clear()
    s = gs.Stage(spaces, RULES)
    yield s
    s.close()


def http(host, path="/"):
    return f'b"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n"'


def test_bytes_both_ways_and_what_is_told(stage, far):
    assert stage.talk("a.example", 7, 's.send(b"\\1hello"); result = get(); s.close()') == "\x01hello"
    e = stage.event(type="connect", decision="allow", host="a.example")
    assert (e["ip"], e["port"], e["bytes_up"], e["bytes_down"]) == (gs.NAMES["a.example"], 7, 6, 6)
    assert e["rule"].startswith("a.example") and e["ms"] >= 0
    assert gs.wait_for(lambda: stage.total("a.example") == (6, 6))


def test_half_closes(stage, far):
    up = 's.send(b"\\1" * 1000); s.shutdown(socket.SHUT_WR); result = all()'
    assert stage.talk("a.example", 99, up) == ["1000", ""]
    assert stage.talk("a.example", 7, up) == ["\x01" * 1000, ""]


def test_server_speaks_first(stage, far):
    assert stage.talk("a.example", 25, "result = get()") == "220 ready\r\n"


def test_long_connections_are_told_about_while_they_are_open(stage, far):
    program = stage.connected("a.example", 7, 'sys.stdin.readline(); s.send(b"\\1x"); print(repr(get()))')
    guest = stage.guest("python3", "-c", "import socket, sys\n" + program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    opened = gs.wait_for(lambda: stage.events(type="connect", decision="allow"))
    assert len(opened) == 1 and "bytes_up" not in opened[0]
    assert guest.communicate("go on\n", timeout=gs.WAIT)[0] == "'\\x01x'\n"
    ended = stage.event(type="connect", decision="allow")
    assert ended["bytes_up"] == 2 and ended["ms"] >= 1000


def test_port_that_no_rule_names(stage, far):
    (page, end), first = stage.talk("b.example", 8080, TIMED % f"s.send({http('b.example:8080')}); result = all()")
    assert page.startswith("HTTP/1.1 403 ") and "b.example" in page and "nixbox allow b.example:8080" in page and end == ""
    alert, second = stage.talk("b.example", 8443, TIMED % """
try:
    ssl._create_unverified_context().wrap_socket(s, server_hostname="b.example"); result = "connected"
except ssl.SSLError as e: result = e.reason""")
    assert alert == "TLSV1_ALERT_ACCESS_DENIED"
    end, third = stage.talk("b.example", 7, TIMED % "result = get()")
    assert end == "ConnectionResetError" and first + second + third < 3 * SOON
    assert gs.wait_for(lambda: {e["port"] for e in stage.events(decision="deny", host="b.example")} == {8080, 8443, 7})
    assert far.seen == []


def test_tls_by_name(stage, far):
    hello = """
def tls(name):
    try:
        c = ssl._create_unverified_context(); c.check_hostname = False
        t = c.wrap_socket(s, server_hostname=name); t.send(b"hi"); return t.recv(100).decode()
    except ssl.SSLError as e: return e.reason
"""
    assert stage.talk("a.example", 443, hello + 'result = tls("a.example")') == "tls a.example: hi"
    assert stage.talk("a.example", 8443, hello + 'result = tls("A.Example")').lower() == "tls a.example: hi"
    for name in ('"b.example"', '"evil.example"', "None"):
        assert stage.talk("a.example", 443, hello + f"result = tls({name})") == "TLSV1_UNRECOGNIZED_NAME"
    assert gs.wait_for(lambda: len(stage.events(decision="deny", host="a.example", proto="tls")) == 3)
    reasons = [e["reason"] for e in stage.events(decision="deny", host="a.example", proto="tls")]
    assert any("b.example" in r for r in reasons) and any("server name" in r for r in reasons)


def test_tls_hello_in_pieces(stage, far):
    pieces = """
i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
c = ssl._create_unverified_context()
t = c.wrap_bio(i, o, server_hostname=NAME)
try: t.do_handshake()
except ssl.SSLWantReadError: pass
for b in o.read():
    try: s.send(bytes([b]))
    except ConnectionError: break
    time.sleep(0.001)
result = get(5)[:1]
"""
    assert stage.talk("a.example", 443, pieces.replace("NAME", '"a.example"')) == "\x16"
    assert stage.talk("a.example", 443, pieces.replace("NAME", '"evil.example"')) in ("\x15", "C")
    assert "evil.example" in stage.event(decision="deny", host="a.example", proto="tls")["reason"]
    assert [s["end"] for s in far.seen if "evil" in s["got"]] == []


def test_http_by_host(stage, far):
    two = f"""
s.send({http('a.example', '/one')}); first = get()
s.send({http('evil.example', '/two')}); result = [first, *all()]"""
    first, page, end = stage.talk("a.example", 80, two)
    assert "served GET /one" in first and page.startswith("HTTP/1.1 403 ") and "nixbox allow evil.example" in page and end == ""
    e = stage.event(type="http", decision="deny", host="a.example")
    assert "evil.example" in e["reason"]
    assert gs.wait_for(lambda: far.seen) and "evil" not in far.seen[0]["got"] and "/two" not in far.seen[0]["got"]


def test_websocket_passes_after_101(stage, far):
    ws = f"""
s.send(b"GET / HTTP/1.1\\r\\nHost: a.example\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n"); first = get()
s.send(b"\\x81\\x02GET / HTTP/1.1\\r\\nHost: evil\\r\\n\\r\\n"); result = [first[:12], get()[:4]]"""
    assert stage.talk("a.example", 80, ws) == ["HTTP/1.1 101", "ws \x81"]


def test_words_without_an_end_pass_after_a_while(stage, far):
    assert stage.talk("a.example", 7, 's.send(b"ruok"); result = get()') == "ruok"
    assert stage.talk("a.example", 7, 's.send(b"ruok"); s.shutdown(socket.SHUT_WR); result = all()') == ["ruok", ""]
    typed = """
try:
    for c in b"GET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n":
        s.send(bytes([c])); time.sleep(0.05 if c > 32 else 0.7)
except ConnectionError: pass
result = all()"""
    text, _ = stage.talk("a.example", 8080, typed)
    assert text.startswith("HTTP/1.1 403 ")
    assert gs.wait_for(lambda: [s for s in far.seen if s["port"] == 8080]) and all("evil" not in s["got"] for s in far.seen)


def test_neither_tls_nor_http_on_their_ports(stage, far):
    for port in (443, 80):
        assert stage.talk("a.example", port, 's.send(b"SSH-2.0-x\\r\\n"); result = get()') == "ConnectionResetError"
    assert gs.wait_for(lambda: len(stage.events(decision="deny", host="a.example")) == 2)
    assert all(not s["got"] for s in far.seen)


@pytest.mark.parametrize("name, port, why", [("private.example", 7, "private"), ("metadata.example", 80, "metadata")])
def test_addresses_that_names_may_not_lead_to(stage, far, name, port, why):
    assert stage.talk(name, port, "result = get()") == "ConnectionResetError"
    assert why in stage.event(decision="deny", host=name)["reason"]
    assert far.seen == []


def test_private_by_rule_and_one_bad_address_among_good(stage, far):
    echo = 's.send(b"\\1x"); result = [get(), s.close()][0]'
    assert stage.talk("mixed.example", 7, echo) == "\x01x"
    stage.policy([{"host": "private.example", "ports": [7], "private": True}])
    assert stage.talk("private.example", 7, echo) == "\x01x"
    assert gs.wait_for(lambda: len(far.seen) == 2)
    assert sorted(s["to"] for s in far.seen) == ["10.1.2.3", gs.NAMES["a.example"]]


def test_synthetic_address_without_a_name(stage, far):
    stage.names["nobody"] = "198.18.77.77"
    assert stage.talk("nobody", 443, "result = get()") == "ConnectionResetError"
    assert stage.event(decision="deny", ip="198.18.77.77")["reason"] == "no name has this address"


def test_changes_of_the_rules_reach_open_connections(stage, far):
    keep = stage.connected("a.example", 7, """
s.send(b"\\1x"); print(json.dumps(get()), flush=True)
result = get()""")
    kept = stage.guest("python3", "-c", "import json, socket, time\n" + keep + "\nprint(json.dumps(result))", stdout=subprocess.PIPE)
    assert kept.stdout.readline() == '"\\u0001x"\n'
    stage.policy(RULES)
    stage.policy(RULES[1:] + [{"host": "a.example", "ports": [7]}])  # allowed by another rule now
    time.sleep(0.3)
    assert kept.poll() is None
    stage.policy(RULES[1:])
    assert kept.communicate(timeout=gs.WAIT)[0] == '"ConnectionResetError"\n'
    e = stage.event(decision="deny", host="a.example")
    assert "not allowed any more" in e["reason"] and e["bytes_up"] == 2
    assert gs.wait_for(lambda: far.seen) and far.seen[0]["end"] == "reset"
    assert stage.talk("a.example", 7, "result = get()") == "ConnectionResetError"
    stage.policy(RULES + [{"host": "a.example", "deny": True}])
    assert stage.talk("a.example", 7, "result = get()") == "ConnectionResetError"
    stage.policy(RULES)
    assert stage.talk("a.example", 7, 's.send(b"\\1y"); result = get()') == "\x01y"


def test_limit_of_bytes(stage, far):
    stage.policy([{"host": "a.example", "ports": [7, 99], "limit": 100000}])
    idle = stage.guest("python3", "-c", "import json, socket, time\n" + stage.connected("a.example", 7, """
s.send(b"\\1"); get(); print("open", flush=True); print(get())"""), stdout=subprocess.PIPE)
    assert idle.stdout.readline() == "open\n"
    send = """
try:
    for i in range(200): s.send(b"\\1" * 1000); time.sleep(0.001)
    result = get()
except ConnectionError as e: result = type(e).__name__
"""
    assert stage.talk("a.example", 99, send) in ("ConnectionResetError", "BrokenPipeError")
    assert idle.communicate(timeout=gs.WAIT)[0] == "ConnectionResetError\n"  # the destination is closed, not one connection
    assert stage.talk("a.example", 7, "result = get()") == "ConnectionResetError"
    assert all("limit" in e["reason"] for e in stage.events(decision="deny", host="a.example"))
    assert gs.wait_for(lambda: stage.total("a.example")[0] >= 100000)
    assert stage.total("a.example")[0] < 100000 + 140000  # what one step moves may be over it


def test_mode_open(spaces, far):
    far.seen.clear()
    stage = gs.Stage(spaces, [{"host": "evil.example", "deny": True}, {"cidr": "93.184.216.36/32", "deny": True}], mode="open")
    stage.names.update(there=gs.NAMES["a.example"], denied=gs.NAMES["c.example"], host="10.77.0.2", metadata="169.254.169.254")
    echo = 's.send(b"\\1x"); result = get(); s.close()'
    hello = """
try:
    c = ssl._create_unverified_context(); c.check_hostname = False
    t = c.wrap_socket(s, server_hostname=NAME); t.send(b"hi"); result = t.recv(100).decode()
except ssl.SSLError as e: result = e.reason"""
    try:
        assert stage.talk("there", 7, echo) == "\x01x"
        assert stage.event(type="connect", decision="allow", port=7)["host"] == gs.NAMES["a.example"]
        assert stage.talk("there", 443, hello.replace("NAME", '"good.example"')) == "tls good.example: hi"
        assert stage.event(type="connect", decision="allow", port=443)["host"] == "good.example"
        assert stage.talk("there", 443, hello.replace("NAME", '"evil.example"')) == "TLSV1_ALERT_ACCESS_DENIED"
        page, _ = stage.talk("there", 80, f"s.send({http('evil.example')}); result = all()")
        assert page.startswith("HTTP/1.1 403 ") and "evil.example" in page
        for name in ("denied", "host", "metadata"):
            refused = stage.python(f"""
try: socket.create_connection(("{stage.names[name]}", 7), 10); result = "connected"
except ConnectionRefusedError: result = "refused" """)
            assert refused == "refused", name
        assert not [s for s in far.seen if "evil" in s["got"]]
    finally:
        stage.close()


def test_more_connections_than_descriptors(spaces, far):
    stage = gs.Stage(spaces, RULES, files=600)
    try:
        held = stage.hold("a.example", 400)
        assert 150 <= held.result["done"] < 200 and held.result["failed"] == 400 - held.result["done"]
        assert stage.peer("rate", stage.names["a.example"], 10, 1)["done"] == 0
        held.stdin.close()
        held.wait()
        assert gs.wait_for(lambda: stage.events(type="error", decision="deny"))
        assert gs.wait_for(lambda: stage.peer("rate", stage.names["a.example"], 10, 1)["failed"] == 0)
    finally:
        stage.close()
