"""What a box can try against the gateway's own reading and counting, on the stage of gateway_stage.py. Each has a control that
passes; the verdict is the far side's, or the sum of what was sent."""
import os
import signal
import subprocess
import time

import pytest

import gateway_stage as gs

RULES = [{"host": "a.example", "ports": [7, 80, 99, 8080]}]


@pytest.fixture
def stage(spaces, far):
    far.seen.clear()
    s = gs.Stage(spaces, RULES)
    yield s
    s.close()


# Before a request that names another host: each of these, servers are known to put up with.
DRESSES = {
    "nothing": b"",
    "lines": b"\r\n" * 9000,  # nginx skips any number of empty lines
    "few-lines": b"\n\r\n",
    "blanks": b" " * 20000,
    "long-method": b"M" * 65,
    "longer-method": b"M" * 17000,
}
TALK = """
s = socket.create_connection(("{address}", 8080), 10)
s.settimeout({wait})
try:
    s.sendall({first!r})
    time.sleep(0.7)
    s.sendall({then!r})
    time.sleep(0.7)
    result = s.recv(65536).decode("latin-1")
except OSError as e: result = type(e).__name__
s.close()
"""


@pytest.mark.parametrize("dress", DRESSES)
def test_a_request_in_a_dress_is_still_one(stage, far, dress):
    request = "{} / HTTP/1.1\r\nHost: {}\r\n\r\n"
    first = DRESSES[dress]
    method = "" if dress.endswith("method") else "GET"
    for host in ("evil.example", "a.example"):
        text = request.format(method, host).lstrip("" if dress.endswith("method") else " ")
        then = text.encode() + request.format("GET", host).encode()
        stage.python(TALK.format(address=stage.names["a.example"], first=first, then=then, wait=3))
    assert gs.wait_for(lambda: far.seen, gs.WAIT if dress == "nothing" else 3) or dress != "nothing"
    assert not [s for s in far.seen if "evil" in s["got"] + s["last"]], far.seen
    control = stage.python(TALK.format(address=stage.names["a.example"], first=b"GET /control HTTP/1.1\r\n",
                                       then=b"Host: a.example:8080\r\n\r\n", wait=gs.PATIENCE))
    assert "served GET /control" in control


CROWD = """
import select
socks = []
for i in range(200):
    s = socket.create_connection(("{address}", 7), 10)
    s.send(b"\\1")
    socks.append(s)
for s in socks: s.recv(1)
print("open", flush=True)
sys.stdin.readline()
for s in socks:
    s.setblocking(False)
    try: s.send(b"\\1" * 50000)
    except OSError: pass
print("sent", flush=True)
sys.stdin.readline()
"""


def test_a_limit_holds_for_a_crowd_at_once(stage, far):
    """Many connections have something to send in the moment in which the limit is reached."""
    limit = 100_000
    stage.policy([{"host": "a.example", "ports": [7], "limit": limit}])
    code = "import json, socket, sys, time\n" + CROWD.format(address=stage.names["a.example"])
    crowd = stage.guest("python3", "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert crowd.stdout.readline() == "open\n"
    os.kill(stage.pids["gateway"], signal.SIGSTOP)
    crowd.stdin.write("\n")
    crowd.stdin.flush()
    assert crowd.stdout.readline() == "sent\n"
    time.sleep(0.5)
    os.kill(stage.pids["gateway"], signal.SIGCONT)
    assert gs.wait_for(lambda: stage.total("a.example")[0] >= limit), "the control: the limit can be used up"
    time.sleep(1.5)
    assert stage.total("a.example")[0] < limit + 140_000  # what one step moves may be over it
    crowd.kill()
    crowd.wait()
