"""The processes of a running box as the host's kernel sees them: what each still holds, and that they live no longer than
their supervisor."""
import os
import re
import shutil
import signal

import pytest

import harness

HARMLESS_CAPS = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 6 | 1 << 7  # chown, dac_override, fowner, setgid, setuid
BUILD = os.path.join(os.environ.get("NIXBOX_TEST_BUILD", f"{harness.ROOT}/build"), "tests/escape")
CHILDREN = ["qemu", "virtiofsd", "conduit"]


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@pytest.mark.skipif(os.getuid() != 0, reason="expected: only root may look into the processes")
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
    with open(f"/proc/{pid}/limits") as f:
        limits = dict(re.findall(r"^(Max [a-z ]+?) {2,}(\S+)", f.read(), re.M))
    assert limits["Max core file size"] in ("1", "0") and limits["Max locked memory"] == "0" and limits["Max msgqueue size"] == "0"
    if child == "conduit":
        assert int(limits["Max address space"]) <= 4 << 30 and int(limits["Max file size"]) <= 65536
    else:
        assert namespace(pid, "cgroup") != namespace(os.getpid(), "cgroup")
        with open(f"/proc/{pid}/oom_score_adj") as f:
            assert f.read() == "500\n"
    uids = set(s["Uid"].split())
    if box.host.uid == 0 and child != "virtiofsd":
        assert len(uids) == 1 and uids != {"0"}
    else:
        assert uids == {str(box.host.uid)}
    with open(f"/proc/{pid}/environ", "rb") as f:
        assert box.host.state.encode() not in f.read()


@pytest.mark.skipif(os.getuid() != 0, reason="expected: only root may look into the processes")
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
        assert harness.wait_for(lambda: not harness.alive(pid), 30), pid
    assert box.status() is None  # what is left is recognised as that of a box that was killed


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_that_dies_ends_the_box(make_box, child):
    box = make_box()
    pids = list(box.processes())
    os.kill(box.child(child), signal.SIGKILL)
    assert harness.wait_for(lambda: not any(harness.alive(p) for p in pids), 60), box.processes()
    assert child in box.events("box.down")[-1]["reason"].lower(), box.events()[-3:]


def test_the_limits_of_a_boxs_cgroup_hold(box):
    """On a kernel that hands them on, which is the box's own; the host's may not."""
    shutil.copy(f"{BUILD}/escape-cgroup", box.work)
    os.chmod(f"{box.work}/escape-cgroup", 0o755)
    done = box.sh("mkdir -p /tmp/cg; sudo mount -t cgroup2 none /tmp/cg; "
                  "echo '+memory +pids +cpu' | sudo tee /tmp/cg/cgroup.subtree_control >/dev/null; "
                  f"sudo {box.work}/escape-cgroup /tmp/cg; sudo umount /tmp/cg")
    assert done.splitlines() == ["memory outside 0", "memory inside 9", "tasks outside 20", "tasks inside 7", "left behind 0"]


def content(log):
    """Of a log that the box may be turning over."""
    try:
        with open(log, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return b""


def test_a_flood_on_the_console_fills_no_disk(box):
    """12 MB as they are shown, of lines and of control characters: what is kept is bounded, cleaned, and the box answers meanwhile."""
    flood = box.host.popen([box.host.bin, "run", "sudo sh -c 'head -c 3000000 /dev/zero | tr \"\\0\" \"\\033\" | fold -b -w 1000 >/dev/hvc0'"],
                           cwd=box.folder)
    logs = [f"{box.state}/console.log", f"{box.state}/console.log.1"]
    assert harness.wait_for(lambda: os.path.exists(logs[1]), 120)  # it was turned over
    assert box.sh("echo well") == "well"
    assert flood.wait(120) == 0, flood.stderr.read()
    # what the guest's kernel took may be on its way yet: the log is turned over while it is looked at, and short just after that
    assert harness.wait_for(lambda: b"\\x1b" in content(logs[0]), 60)
    old, text = content(logs[1]), content(logs[0])
    assert len(old) + len(text) < 2 * (4 << 20) + 65536
    assert b"\\x1b" in old and b"\x1b" not in old + text
