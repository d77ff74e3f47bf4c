"""Datagrams and echo requests of mode open, on the stage of gateway_stage.py: what comes back and from where, what is refused and
how the program in the box learns of it, what is told."""
import subprocess

import pytest

import gateway_stage as gs

A, B, CLOSED = gs.NAMES["a.example"], gs.NAMES["b.example"], 9999
UDP, BIG = 9000, 9001
SERVER = f"""
import select, socket
echo, big = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
echo.bind(("{A}", {UDP})); big.bind(("{A}", {BIG}))
print("ready", flush=True)
while True:
    for s in select.select([echo, big], [], [])[0]:
        data, peer = s.recvfrom(65536)
        s.sendto(data if s is echo else bytes(int(data)), peer)
"""
SOCKET = f"""
import errno
def ask(to, port, data, wait={gs.PATIENCE}):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(wait); s.connect((to, port))
    try:
        s.send(data); return s.recv(70000)
    except OSError as e: return errno.errorcode.get(e.errno, type(e).__name__)
"""
PING = f"""
import errno, struct
def total(b):
    n = sum(struct.unpack("!%dH" % (len(b) // 2), b)); n = (n >> 16) + (n & 0xffff); return ~(n + (n >> 16)) & 0xffff
def ping(to, wait={gs.PATIENCE}):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); s.settimeout(wait)
    head = struct.pack("!BBHHH", 8, 0, 0, 77, 5)
    s.sendto(head[:2] + struct.pack("!H", total(head + b"datadata")) + head[4:] + b"datadata", (to, 0))
    try:
        p, peer = s.recvfrom(2000); return [peer[0], p[20], p[21], p[24:].hex()]
    except TimeoutError: return "timeout"
"""


@pytest.fixture(scope="module")
def spaces():
    s = gs.Namespaces()
    groups = "0 0" if s.as_root else "0 2147483647"
    s.run(s.host, "sysctl", "-qw", f"net.ipv4.ping_group_range={groups}")
    p = s.start(s.far, "python3", "-c", SERVER, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    yield s
    p.kill()
    p.wait()
    s.close()


@pytest.fixture
def stage(spaces):
    s = gs.Stage(spaces, [{"cidr": f"{B}/32", "deny": True}], mode="open")
    yield s
    s.close()


def test_datagrams_come_back(stage):
    sizes = [0, 1, 1200, 1472]
    assert stage.python(SOCKET + f"result = [len(ask('{A}', {UDP}, b'x' * n)) for n in {sizes}]") == sizes
    assert stage.python(SOCKET + f"result = [len(ask('{A}', {BIG}, b'%d' % n)) for n in (1473, 5000, 65000)]") == [1473, 5000, 65000]
    assert gs.wait_for(lambda: stage.total(A)[1] == sum(sizes) + 1473 + 5000 + 65000)


def test_one_socket_many_far_ends(stage):
    then = f"""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout({gs.PATIENCE})
s.sendto(b"one", ("{A}", {UDP})); s.sendto(b"7", ("{A}", {BIG}))
result = sorted([s.recvfrom(100)[1][1], s.recvfrom(100)[1][1]])"""
    assert stage.python(then) == [UDP, BIG]


def test_refusals_arrive_at_once(stage):
    code = SOCKET + f"""
t = time.time()
result = [ask("{A}", {CLOSED}, b"x"), ask("{B}", {UDP}, b"x"), ask("10.1.2.3", {UDP}, b"x"), ask("169.254.169.254", 80, b"x"),
          ask("198.18.0.9", 443, b"x"), ask("10.77.0.2", {UDP}, b"x"), ask("224.0.0.251", 5353, b"x", 0.3), time.time() - t]"""
    *answers, seconds = stage.python(code)
    assert answers[0] == "ECONNREFUSED"  # the far end's own
    assert all(a in ("EHOSTUNREACH", "EACCES", "ECONNREFUSED") for a in answers[1:6]), answers
    assert answers[6] != b"" and seconds < 5
    reasons = {e["ip"]: e["reason"] for e in gs.wait_for(lambda: len(stage.events(decision="deny", proto="udp")) >= 4
                                                         and stage.events(decision="deny", proto="udp"))}
    assert "denied" in reasons[B] and "private" in reasons["10.1.2.3"] and "metadata" in reasons["169.254.169.254"]


def test_a_flow_ends_when_the_rules_say_so(stage):
    assert stage.python(SOCKET + f"result = len(ask('{A}', {UDP}, b'x' * 10))") == 10
    stage.policy([{"cidr": f"{A}/32", "deny": True}])
    e = stage.event(decision="deny", ip=A, proto="udp")
    assert (e["port"], e["bytes_up"], e["bytes_down"]) == (UDP, 10, 10) and "denied" in e["reason"]
    assert stage.python(SOCKET + f"result = ask('{A}', {UDP}, b'x')") == "EHOSTUNREACH"


def test_limit(stage):
    stage.policy([{"cidr": f"{A}/32", "ports": [UDP], "limit": 100}])
    code = SOCKET + f"result = [len(ask('{A}', {UDP}, b'x' * n, wait)) for n, wait in ((60, {gs.PATIENCE}), (60, 1))] + [ask('{A}', {UDP}, b'x')]"
    first, _, last = stage.python(code)
    assert first == 60 and last == "EHOSTUNREACH"
    assert gs.wait_for(lambda: stage.events(decision="deny", ip=A, reason="the rule's limit is used up"))


def test_echo(stage):
    assert stage.python(PING + f"result = ping('{A}')") == [A, 0, 0, "004d0005" + b"datadata".hex()]
    for to in (B, "10.1.2.3", "169.254.169.254", "198.19.255.253", "10.77.0.2"):
        answer = stage.python(PING + f"result = ping('{to}')")
        assert answer[1:3] == [3, 13], (to, answer)
    denied = gs.wait_for(lambda: len(stage.events(decision="deny", proto="icmp")) == 5 and stage.events(decision="deny", proto="icmp"))
    assert {e["ip"] for e in denied} == {B, "10.1.2.3", "169.254.169.254", "198.19.255.253", "10.77.0.2"}


def test_a_host_without_ping_sockets(spaces):
    spaces.run(spaces.host, "sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    s = gs.Stage(spaces, [], mode="open")
    try:
        assert s.python(PING + f"result = [ping('{A}'), ping('{A}')]")[1][1:3] == [3, 13]
        assert "ping_group_range" in s.event(type="error", proto="icmp")["reason"]
    finally:
        s.close()
        groups = "0 0" if spaces.as_root else "0 2147483647"
        spaces.run(spaces.host, "sysctl", "-qw", f"net.ipv4.ping_group_range={groups}")


def test_filtered_has_no_datagrams(spaces):
    s = gs.Stage(spaces, [{"host": "a.example", "ports": [443]}])
    try:
        answers = s.python(SOCKET + f"t = time.time(); result = [ask('{A}', {UDP}, b'x'), ask('{s.names['a.example']}', 443, b'x'), "
                           "ask('8.8.8.8', 443, b'x'), time.time() - t]")
        assert answers[:3] == ["EHOSTUNREACH"] * 3 and answers[3] < 5
        assert s.python(PING + f"result = ping('{A}')")[1:3] == [3, 13]
        assert s.event(decision="deny", proto="udp", host="a.example")["port"] == 443
    finally:
        s.close()
