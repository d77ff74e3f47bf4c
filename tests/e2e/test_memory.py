"""Memory is a limit, not a reservation: what the box does not use goes back to the host, page cache included."""
import time

import harness

MIB = 1 << 20
CONFIG = """\
machine: {cpus: 2, memory: 2G}
network: {mode: off}
mounts: [{source: ./work, write: true}]
"""


def used(box):
    """Host memory that the box's guest takes now, as status says, in MiB."""
    return box.status()["memory"]["used"] / MIB


def settle(box, limit, seconds):
    """Waits until the box uses no more than `limit` MiB; returns what it uses in the end."""
    harness.wait_for(lambda: used(box) <= limit, seconds, 1)
    return used(box)


def rss(box):
    """What the kernel says about the box's QEMU: resident memory in MiB, shared guest memory included."""
    with open(f"/proc/{box.child('qemu')}/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS:"))


def test_status_tells_the_truth(box):
    memory = box.status()["memory"]
    assert memory["limit"] == 2048 * MIB
    assert 20 < memory["used"] / MIB < 700
    assert memory["used"] / MIB < rss(box) + 16


def test_freed_memory_comes_back(box):
    idle = settle(box, 300, 60)
    hold = "x = bytearray(b'x') * (700 << 20); print('full', flush=True); input()"
    p = box.host.popen([box.host.bin, "run", "--", "python3", "-c", hold], cwd=box.folder, stdin=harness.subprocess.PIPE)
    assert p.stdout.readline() == b"full\n"
    assert harness.wait_for(lambda: used(box) > idle + 600), (idle, used(box))
    full = used(box)
    p.communicate(b"\n", timeout=60)
    assert settle(box, idle + 150, 60) <= idle + 150
    assert rss(box) < full


def test_page_cache_comes_back(box):
    idle = settle(box, 300, 60)
    with open(f"{box.work}/big", "wb") as f:
        f.truncate(1 << 30)
    harness.os.chown(f"{box.work}/big", box.host.uid, box.host.gid)
    reader = box.host.popen([box.host.bin, "run", "--", "dd", f"if={box.work}/big", "of=/dev/null", "bs=1M"], cwd=box.folder)
    peak = 0
    while reader.poll() is None:  # on a slow machine some of it is back before the last is read
        peak = max(peak, used(box))
        time.sleep(0.2)
    reader.communicate()
    assert reader.returncode == 0
    peak, began = max(peak, used(box)), time.monotonic()
    assert settle(box, idle + 150, 75) <= idle + 150
    took = time.monotonic() - began
    assert peak > idle + 500 or took < 5, "nothing was cached, so nothing was shown"
    assert took < 62, f"{took:.0f} s"


def test_the_limit_holds(box):
    hog = "x = []\nwhile True: x.append(bytearray(b'x') * (64 << 20))"
    done = box.run(["python3", "-c", hog], timeout=240)
    assert done.returncode in (137, 1)
    assert used(box) <= 2048
    assert box.sh("echo fine") == "fine"
