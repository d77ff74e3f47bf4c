"""The processes of a running box as the host's kernel sees them: what each still holds, and that they live no longer than
their supervisor."""
import os
import signal

import pytest

import harness

HARMLESS_CAPS = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 6 | 1 << 7  # chown, dac_override, fowner, setgid, setuid
CHILDREN = ["qemu", "virtiofsd", "conduit"]


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may look into the processes")
@pytest.mark.parametrize("child", CHILDREN)
def test_what_a_child_holds(box, child):
    pid = box.child(child)
    s = status(pid)
    assert s["Seccomp"] == "2" and s["NoNewPrivs"] == "1"
    allowed = HARMLESS_CAPS if child == "virtiofsd" else 0
    for field in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"):
        assert int(s[field], 16) & ~allowed == 0, (field, s[field])
    for kind in ("user", "mnt", "net", "ipc", "uts"):
        assert namespace(pid, kind) != namespace(os.getpid(), kind), kind
        assert namespace(pid, kind) != namespace(box.supervisor(), kind), kind
    with open(f"/proc/{pid}/net/dev") as f:
        assert [line.split(":")[0].strip() for line in f.readlines()[2:]] == ["lo"]
    uids = set(s["Uid"].split())
    if box.host.uid == 0 and child != "virtiofsd":
        assert len(uids) == 1 and uids != {"0"}
    else:
        assert uids == {str(box.host.uid)}
    with open(f"/proc/{pid}/environ", "rb") as f:
        assert box.host.state.encode() not in f.read()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may look into the processes")
def test_what_a_child_sees_of_the_file_system(box):
    assert sorted(os.listdir(f"/proc/{box.child('virtiofsd')}/root/")) == ["m0", "m1"]
    assert os.listdir(f"/proc/{box.child('conduit')}/root/") == []
    assert sorted(os.listdir(f"/proc/{box.child('qemu')}/root/")) == ["bin", "boot", "lib", "lib64", "sbin", "usr"]
    for child in CHILDREN:
        with open(f"/proc/{box.child(child)}/mountinfo") as f:
            for line in f:
                words = line.split()
                writable = "rw" in words[5].split(",")
                assert not writable or (child == "virtiofsd" and words[3].endswith("/work")), line
                assert {"nosuid", "nodev"} <= set(words[5].split(",")), line


def test_children_die_with_their_supervisor(make_box):
    box = make_box()
    children = [box.child(name) for name in CHILDREN]
    os.kill(box.supervisor(), signal.SIGKILL)
    for pid in children:
        assert harness.wait_for(lambda: not harness.alive(pid), 5), pid
    assert box.status() is None  # what is left is recognised as that of a box that was killed


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_that_dies_ends_the_box(make_box, child):
    box = make_box()
    pids = list(box.processes())
    os.kill(box.child(child), signal.SIGKILL)
    assert harness.wait_for(lambda: not any(harness.alive(p) for p in pids), 15), box.processes()
    assert child in box.events("box.down")[-1]["reason"].lower(), box.events()[-3:]
