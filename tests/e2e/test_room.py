"""What a box leaves of its host: room on the file systems behind its mounts, below which the machine stands still."""
import os
import subprocess

import pytest

import harness

CONFIG = """\
machine: {cpus: 2, memory: 1G%s}
network: {mode: off}
mounts:
  - {source: ./work, write: true}
  - {source: ./small, write: true}
"""
SIZE = 64 << 20


@pytest.fixture
def small_box(host, make_box):
    """A box, not started, and a small file system that is mounted into it for writing."""
    box = make_box(CONFIG % "", up=False)
    small = harness.make_folder(f"{box.folder}/small", host.uid, host.gid)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755,uid={host.uid},gid={host.gid}", "none", small], check=True)
    yield box, small
    box.close()
    subprocess.run(["umount", "-l", small], check=True)


def fill(path, leave):
    """Fills the file system of `path`, but for so many bytes."""
    with open(path, "wb") as f:
        f.write(b"x" * (SIZE - leave))


def paused(box):
    return box.status().get("paused")


@pytest.mark.skipif(os.getuid() != 0, reason="expected: only root can mount the small file system")
def test_a_box_stands_still_while_there_is_too_little_room(small_box):
    box, small = small_box
    box.up()
    count = f"{box.work}/count"
    box.sh(f"cd {box.work}; nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i > new; mv new count; sleep 0.1; done' >/dev/null 2>&1 &")
    assert harness.wait_for(lambda: os.path.exists(count))
    fill(f"{small}/host", 1 << 20)  # the host's own doing
    assert harness.wait_for(lambda: paused(box)), box.status()
    assert "small has 1.0M left, and 3.2M must stay free" in paused(box)
    assert small in box.nixbox("status").stdout.decode()
    refused = box.run("true")
    assert refused.returncode == 125 and b"the box stands still" in refused.stderr and b"make room there" in refused.stderr
    before = open(count).read()
    assert not harness.wait_for(lambda: open(count).read() != before, 1.5)
    fill(f"{small}/host", 20 << 20)
    assert harness.wait_for(lambda: not paused(box))
    assert harness.wait_for(lambda: open(count).read() != before), "the box does not go on"
    # the guest's doing: what does not fit fails inside, and the machine stands still all the same
    writer = box.host.popen([box.host.bin, "run", f"dd if=/dev/zero of={small}/guest bs=1M count=24"], cwd=box.folder)
    assert harness.wait_for(lambda: paused(box))
    os.unlink(f"{small}/host")
    assert harness.wait_for(lambda: not paused(box))
    writer.communicate(timeout=60)
    box.sh(f"rm {small}/guest")
    reasons = [e.get("reason", "") for e in box.events() if e["type"] in ("box.pause", "box.resume")]
    assert len(reasons) >= 4 and small in reasons[0] and "room again" in reasons[1]
    # it can be ended while it stands still, in order
    fill(f"{small}/host", 1 << 20)
    assert harness.wait_for(lambda: paused(box))
    box.down()
    assert box.events("box.down")[-1]["reason"] == "down was asked for"
    # and is not started below the floor, unless there is to be none
    failed = box.up(ok=False)
    assert failed.returncode == 125 and b"must stay free" in failed.stderr and b"machine.disk-floor" in failed.stderr
    box.write_config(CONFIG % ", disk-floor: 0")
    box.up()
    fill(f"{small}/host", 0)
    assert box.sh(f"df --output=avail {small} | tail -1") == "0"
    assert not harness.wait_for(lambda: paused(box), 1.5)
