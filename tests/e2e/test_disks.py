"""Disks of boxes: scratch space that goes with the box, disks that outlive it, what a crash leaves of them, and that a disk is used
with its own image only."""
import json
import os
import signal

import pytest

import harness

SCRATCH = """\
machine: {cpus: 1, memory: 512M, disk: 1G}
network: {mode: off}
"""
PERSISTENT = SCRATCH.replace("disk: 1G", "disk: 1G, keep: true")
WRITE = "import os; f = open('{}', 'w'); f.write('{}'); f.flush(); os.fsync(f.fileno())"


def record_of(box, name="disk.persistent"):
    return f"{box.state}/{name}.json"


def claim_other_image(box, name="disk.persistent"):
    """As if the config's image were another now."""
    with open(record_of(box, name)) as f:
        assert json.load(f)["image"].startswith("sha256:")
    harness.write(record_of(box, name), json.dumps({"image": "sha256:" + "0" * 64}), box.host, 0o600)


def test_persistent_disk_outlives_the_box(make_box):
    box = make_box(PERSISTENT)
    assert "fsync=volatile" not in box.sh("grep ' / ' /proc/mounts")
    box.sh("echo mine > ~/note && sudo sh -c 'echo tool > /usr/local/bin/tool && rm /usr/bin/git && chmod 700 /usr/bin/curl'")
    said = box.down().stderr.decode()
    assert f"nixbox: the disk of the box '{box.name}' is kept\n" in said and "down --delete-disk" in said
    box.up()
    assert box.sh("cat ~/note /usr/local/bin/tool; test -e /usr/bin/git || echo gone; stat -c %a /usr/bin/curl") == "mine\ntool\ngone\n700"
    box.up("--recreate")
    assert box.sh("cat ~/note") == "mine"
    assert "removed the disk" in box.down("--delete-disk").stderr.decode()
    assert not [name for name in os.listdir(box.state) if name.startswith("disk.")]
    box.up()
    assert box.sh("ls ~; test -e /usr/bin/git && echo back") == "back"
    box.down()
    assert "removed the disk" in box.down("--delete-disk").stderr.decode()  # of a box that does not run
    assert "has no disk" in box.down("--delete-disk").stderr.decode()


def test_scratch_disk_goes(make_box):
    box = make_box(SCRATCH)
    assert "fsync=volatile" in box.sh("grep ' / ' /proc/mounts")
    box.sh("echo mine > ~/note")
    # its size is a quota: the guest's to fill, and not by a byte more
    full = box.run("sudo dd if=/dev/zero of=/fill bs=1M count=1100 status=none")
    assert full.returncode == 1 and b"No space left" in full.stderr
    assert os.stat(f"{box.state}/disk.raw").st_blocks * 512 <= (1 << 30) + (1 << 20)
    assert b"kept" not in box.down().stderr
    box.up()
    assert box.sh("ls ~") == ""


@pytest.mark.parametrize("victim", ["qemu", "supervisor"])
def test_crash_leaves_what_was_synced(make_box, victim):
    box = make_box(PERSISTENT)
    box.run(["python3", "-c", WRITE.format("first", "one")], ok=True)
    box.sh("(while :; do date >> ~/busy; done) > /dev/null 2>&1 &")
    box.run(["python3", "-c", WRITE.format("second", "two")], ok=True)
    os.kill(box.supervisor() if victim == "supervisor" else box.child("qemu"), signal.SIGKILL)
    assert harness.wait_for(lambda: box.status() is None and not box.leftovers(), 60)
    box.up()
    assert box.sh("cat ~/first ~/second") == "onetwo"
    assert box.sh("touch ~/third && sudo touch /etc/x && sync && echo works") == "works"
    assert "EXT4-fs error" not in box.sh("sudo dmesg")
    box.down("--delete-disk")


def test_disk_of_another_image_is_not_used(make_box):
    box = make_box(PERSISTENT)
    box.sh("echo mine > ~/note")
    with open(record_of(box)) as f:
        own = f.read()
    claim_other_image(box)
    done = box.nixbox("up", "--recreate")  # refused before the running box is ended
    assert done.returncode == 125 and b"belongs to another image (sha256:000000000000, not sha256:" in done.stderr, done.stderr
    assert box.sh("cat ~/note") == "mine"
    box.down()
    done = box.up(ok=False)
    assert done.returncode == 125 and f"nixbox -n {box.name} down --delete-disk".encode() in done.stderr
    assert not box.supervisor()
    harness.write(record_of(box), own, box.host, 0o600)  # back to the image
    box.up()
    assert box.sh("cat ~/note") == "mine"
    box.down()
    os.unlink(record_of(box))
    assert b"belongs to another image (unknown," in box.up(ok=False).stderr
    box.down("--delete-disk")
    box.up()
    assert box.sh("ls ~") == ""
    box.down("--delete-disk")


def test_disk_kept_for_once_belongs_to_its_image_too(make_box):
    box = make_box(SCRATCH)
    box.sh("echo mine > ~/note")
    box.down("--keep-disk")
    claim_other_image(box, "disk.kept")
    assert box.up(ok=False).returncode == 125
    box.up("--recreate")
    assert box.sh("ls ~") == ""
    box.down("--keep-disk")
    box.up()
    box.down()
    assert not os.path.exists(f"{box.state}/disk.kept")


def test_config_without_keep_leaves_the_disk_alone(make_box):
    box = make_box(PERSISTENT)
    box.sh("echo mine > ~/note")
    box.down()
    box.write_config(SCRATCH)
    box.up()
    assert box.sh("ls ~") == ""
    box.down()
    box.write_config(PERSISTENT.replace("1G", "2G"))
    said = box.up().stderr.decode()
    assert "has 1.0G and stays so; machine.disk is 2.0G now" in said
    assert box.sh("cat ~/note") == "mine"
    box.down("--delete-disk")


def test_keep_and_delete_at_once_is_an_error(host):
    done = host.nixbox("-n", "none", "down", "--keep-disk", "--delete-disk")
    assert done.returncode == 125 and b"both keep and delete" in done.stderr
