"""The conduit as a process of its own, with a hostile guest played by the test: no box is booted."""
import contextlib
import fcntl
import os
import socket
import struct
import time

import harness
import pytest

READY, DATA, EOF, CREDIT, STARTED, EXIT, BYE, OPEN, CLOSE, STATS = 64, 32, 33, 34, 67, 68, 69, 8, 11, 5
WINDOW = 256 << 10


def frame(type, stream=0, payload=b"", channel=0):
    return struct.pack("<IBBHI", len(payload), type, channel, 0, stream) + payload


class Conduit:
    def __init__(self, host):
        self.guest, guest = socket.socketpair()
        self.super, super_ = socket.socketpair()
        self.clients, clients = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log, log_write = os.pipe()
        self.log = os.fdopen(log, "rb")
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (guest.fileno(), super_.fileno(), clients.fileno(), log_write)]
        redirect = " ".join(f"{i + 3}<&{fd}" for i, fd in enumerate(ends))
        self.process = host.popen(["bash", "-c", f"exec {host.bin} @conduit 0 {redirect}"], pass_fds=ends)
        for fd in ends + [log_write]:
            os.close(fd)
        for end in (guest, super_, clients):
            end.close()
        for end in (self.guest, self.super):
            end.settimeout(60)

    def client(self, number):
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        socket.send_fds(self.clients, [struct.pack("<I", number)], [theirs.fileno()])
        theirs.close()
        return ours

    def ended(self):
        return self.process.wait(60)

    def close(self):
        for end in (self.guest, self.super, self.clients):
            end.close()
        self.process.kill()
        self.process.communicate()
        self.log.close()


def read(sock):
    """The next frame: type, channel, stream, payload; None at the end."""
    def exactly(n):
        got = b""
        while len(got) < n:
            with contextlib.suppress(ConnectionResetError):
                if more := sock.recv(n - len(got)):
                    got += more
                    continue
            return None
        return got
    head = exactly(12)
    if head is None:
        return None
    length, type, channel, _, stream = struct.unpack("<IBBHI", head)
    return type, channel, stream, exactly(length) if length else b""


@pytest.fixture
def conduit(host):
    c = Conduit(host)
    yield c
    c.close()


@pytest.fixture
def ready(conduit):
    conduit.guest.sendall(frame(READY))
    assert read(conduit.super)[0] == READY
    return conduit


def session(c, number):
    """A client with an open session: its socket, and the stream number toward the guest."""
    client = c.client(number)
    client.sendall(frame(OPEN, 1, b"\x11\0\1\0\0\0x"))
    type, _, stream, payload = read(c.guest)
    assert type == OPEN and payload == b"\x11\0\1\0\0\0x"
    c.guest.sendall(frame(STARTED, stream))
    assert read(client) == (STARTED, 0, 1, b"")
    return client, stream


def test_it_is_locked_in(ready):
    with open(f"/proc/{ready.process.pid}/status") as f:
        status = dict(line.split(":", 1) for line in f)
    assert status["Seccomp"].strip() == "2" and status["NoNewPrivs"].strip() == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    if os.getuid() == 0:
        assert os.listdir(f"/proc/{ready.process.pid}/root/") == []


def test_a_whole_session(ready):
    client, stream = session(ready, 7)
    client.sendall(frame(DATA, 1, b"in"))
    assert read(ready.guest) == (DATA, 0, stream, b"in")
    ready.guest.sendall(frame(DATA, stream, b"out", 1) + frame(EOF, stream, b"", 1) + frame(EXIT, stream, struct.pack("<II", 3, 0)))
    assert [read(client)[0] for _ in range(3)] == [DATA, EOF, EXIT] and read(client) is None
    assert read(ready.super) == (EXIT, 0, 7, struct.pack("<II", 3, 0))


def test_a_client_that_vanishes(ready):
    client, stream = session(ready, 7)
    client.close()
    assert read(ready.guest) == (CLOSE, 0, stream, b"")
    ready.guest.sendall(frame(EXIT, stream, struct.pack("<II", 129, 1)))
    assert read(ready.super) == (EXIT, 0, 7, struct.pack("<II", 129, 1))


@pytest.mark.parametrize("bytes", [
    b"\xff" * 64, b"\0" * 64, frame(READY), frame(EXIT, 77, b"\0" * 8), frame(OPEN, 1), frame(DATA, 12345, b"x", 1),
    frame(66, 9), struct.pack("<IBBHI", 1 << 30, DATA, 1, 0, 1), frame(BYE, 0, b"\x17\0\xff\xff\0\0x"),
], ids=["ones", "zeros", "ready-twice", "exit-of-nothing", "a-hosts-frame", "data-of-nothing", "answer-unasked", "huge", "bad-field"])
def test_a_broken_frame_ends_it(ready, bytes):
    client, _ = session(ready, 7)
    ready.guest.sendall(bytes)
    type, _, _, payload = read(client)
    assert type == BYE and b"protocol" in payload and read(client) is None
    assert ready.ended() == 2
    assert b"protocol violation" in ready.log.read()


def test_more_than_the_credit_ends_it(ready):
    client, stream = session(ready, 7)
    for _ in range(WINDOW // 32768):
        ready.guest.sendall(frame(DATA, stream, b"x" * 32768, 1))
    ready.guest.sendall(frame(DATA, stream, b"x", 1))
    assert ready.ended() == 2


def test_a_flood_of_what_is_allowed_takes_no_memory(ready):
    _, stream = session(ready, 7)
    tiny = frame(DATA, stream, b"", 1) * 5000
    end = time.monotonic() + 3
    while time.monotonic() < end:
        ready.guest.sendall(tiny)
    for _ in range(WINDOW // 1000 - 1):
        ready.guest.sendall(frame(DATA, stream, b"x", 1) * 1000)
    with open(f"/proc/{ready.process.pid}/status") as f:
        peak = int(next(line for line in f if line.startswith("VmHWM")).split()[1])
    assert peak < 16 << 10
    assert ready.process.poll() is None


def test_a_guest_that_does_not_read_stops_no_other_direction(ready):
    client, stream = session(ready, 7)
    client.settimeout(1)
    with contextlib.suppress(TimeoutError):
        for _ in range(WINDOW // 32768):  # all that credit allows, and nobody takes it
            client.sendall(frame(DATA, 1, b"x" * 32768))
    client.settimeout(60)
    ready.guest.sendall(frame(DATA, stream, b"still", 1))
    assert read(client) == (DATA, 1, 1, b"still")
    ready.super.sendall(frame(STATS, 5))  # and the supervisor's question is in line, not lost
    while (got := read(ready.guest))[0] == DATA:
        pass
    assert got == (STATS, 0, 5, b"")


def test_a_bad_client_harms_nobody_else(ready):
    good, stream = session(ready, 1)
    for number, bytes in enumerate((b"\xff" * 32, frame(DATA, 1, b"x"), frame(OPEN, 0), frame(7), b"\0" * 5)):
        bad = ready.client(100 + number)
        bad.sendall(bytes)
        bad.shutdown(socket.SHUT_WR)
        assert read(ready.super) == (EXIT, 0, 100 + number, struct.pack("<II", 125, 0))
        bad.close()
    ready.guest.sendall(frame(DATA, stream, b"fine", 2))
    assert read(good) == (DATA, 2, 1, b"fine")


def test_many_clients(ready):
    for number in range(1, 400):
        ready.client(number).close()
        assert read(ready.super)[2] == number
    pairs = [session(ready, number) for number in range(400, 700)]
    for client, stream in reversed(pairs):
        ready.guest.sendall(frame(DATA, stream, str(stream).encode(), 1) + frame(EXIT, stream, b"\0" * 8))
        assert read(client)[3] == str(stream).encode()


def test_it_ends_with_the_guest_and_with_the_supervisor(host):
    for which in ("guest", "super", "clients"):
        c = Conduit(host)
        c.guest.sendall(frame(READY))
        assert read(c.super)[0] == READY
        client = c.client(1)
        getattr(c, which).close()
        assert c.ended() == 0
        assert harness.wait_for(lambda: read(client) is None or True)
        client.close()
        c.close()
