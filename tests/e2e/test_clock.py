"""The host's clock jumps (tests/hosts.py), as it does after a sleep or when it is set: the guest's follows at once, and nothing that
waits for a time to pass ends early or hangs."""
import json
import subprocess
import threading
import time
from datetime import datetime

import pytest

import harness
from hosts import Clock

HOUR, DAY = 3600, 86400
NEAR = 15  # seconds that a busy machine may lie between two looks at a clock
AT_ONCE = 15  # seconds; without being told of a jump the guest hears the time every 30 seconds


@pytest.fixture
def clock(host):
    clock = Clock(host)
    yield clock
    clock.close()


@pytest.fixture
def clock_box(clock):
    box = harness.Box(clock.host, "clock")
    yield box
    box.close()


def is_near(seconds, off):
    return abs(seconds - time.time() - off) < NEAR


def guest_time(box):
    return float(box.sh("date +%s"))


def last_event(box):
    return datetime.fromisoformat(box.events()[-1]["time"].replace("Z", "+00:00")).timestamp()


def test_jumps_while_a_box_runs(clock, clock_box):
    clock_box.up()
    assert is_near(guest_time(clock_box), 0)
    began, uptime = time.monotonic(), clock_box.status()["uptime"]
    run = clock.host.popen([clock.host.bin, "run", "sleep 8; echo over"], cwd=clock_box.folder)
    assert harness.wait_for(lambda: clock_box.status()["sessions"] == 1, 30)
    started = time.monotonic()
    for off in (3 * HOUR, -2 * HOUR, 400 * DAY, 0):
        clock.set(off)
        assert harness.wait_for(lambda off=off: is_near(guest_time(clock_box), off), AT_ONCE), (off, guest_time(clock_box) - time.time())
        assert is_near(last_event(clock_box), off)
        assert clock_box.nixbox("logs").returncode == 0 and clock_box.nixbox("events").returncode == 0
    assert run.communicate(timeout=60)[0] == b"over\n" and run.returncode == 0
    assert time.monotonic() - started > 6
    assert uptime <= clock_box.status()["uptime"] <= uptime + time.monotonic() - began + NEAR
    assert all(json.loads(line) for line in clock_box.nixbox("events", "--json").stdout.splitlines())
    clock_box.down()


def test_jumps_while_a_box_starts(clock, clock_box):
    over = threading.Event()

    def jump():
        off = 0
        while not over.wait(0.05):
            off = -off + DAY
            clock.set(off)
    jumps = threading.Thread(target=jump)
    jumps.start()
    try:
        done = clock_box.up(ok=False, stdout=subprocess.PIPE)
    finally:
        over.set()
        jumps.join()
    assert done.returncode == 0, clock_box.explain(done)
    clock.set(5 * DAY)
    assert harness.wait_for(lambda: is_near(guest_time(clock_box), 5 * DAY), AT_ONCE)
    clock_box.down()
