"""A hostile program in QEMU's and in virtiofsd's place, in the very jails that a box is started with (see jailer.c). Each of
its probes is also run outside a jail, where it must succeed: a probe that fails everywhere proves nothing. What the host has no
right or no kernel for, root of a box has: its kernel is the same everywhere."""
import glob
import os
import shutil
import stat

import pytest

import harness

BUILD = os.path.join(os.environ.get("NIXBOX_TEST_BUILD", f"{harness.ROOT}/build"), "tests/escape")

# What a jail's root may hold, and where in it the program may write.
ROOT = {
    "qemu": {"usr", "bin", "sbin", "lib", "lib64", "boot", "probe"},
    "virtiofsd": {"usr", "bin", "sbin", "lib", "lib64", "proc", "process", "share", "probe"},
}
# Probes that succeed by design in a jail, each because it leads nowhere.
HARMLESS = {
    "qemu": set(),
    "virtiofsd": {"make.plain", "make.fifo", "limit.file"},  # files of any size may be in a shared folder
}
CONFIG = "machine: {cpus: 1, memory: 512M}\nnetwork: {mode: off}\nmounts: [{source: ./work, write: true}]\n"


class Report:
    def __init__(self, text):
        self.allowed, self.denied, self.facts = set(), {}, {}
        for line in text.splitlines():
            key, *rest = line.split()
            if rest and rest[0] == "allowed":
                self.allowed.add(key)
            elif rest and rest[0] == "denied":
                self.denied[key] = rest[1]
            else:
                self.facts.setdefault(key, []).append(" ".join(rest))


class Scene:
    """A secret, a process and a listening socket of the person, and the programs where the person can run them."""

    def __init__(self, host):
        self.host = host
        self.folder = host.folder("escape")
        self.shared = harness.make_folder(f"{self.folder}/shared", host.uid, host.gid, 0o755)
        self.secret = harness.write(f"{self.folder}/secret", "secret\n", host, 0o600)
        self.abstract = "nixbox-test-" + os.path.basename(self.folder) + str(os.getpid()) + host.name
        for name in ("escape-probe", "escape-jailer"):
            shutil.copy(f"{BUILD}/{name}", self.folder)
            os.chmod(f"{self.folder}/{name}", 0o755)
        self.probe = f"{self.folder}/escape-probe"
        self.victim = host.popen([self.probe, "victim", self.abstract])
        harness.helpers.add(self.victim.pid)  # no box's, though it is there when one has ended
        assert int(self.victim.stdout.readline()) == self.victim.pid
        self.runtime = max(glob.glob(f"{host.data}/nixbox/runtime/*/usr"), key=os.path.getmtime).removesuffix("/usr")

    def close(self):
        self.victim.terminate()
        assert self.victim.wait(60) == 0, "the victim was disturbed"
        self.victim.communicate()
        harness.helpers.discard(self.victim.pid)

    def run(self, where, writable=None, secret=None, victim=None):
        for name in os.listdir(self.shared):
            os.unlink(f"{self.shared}/{name}")
        args = [f"{self.folder}/escape-jailer", where, self.runtime, self.shared, self.probe, secret or self.secret,
                str(victim or self.victim.pid), self.abstract] + ([writable] if writable else [])
        done = self.host.command(args, env={"LEAK": "from-the-caller"})
        assert done.returncode == 0, (done.stdout, done.stderr)
        return Report(done.stdout.decode())


@pytest.fixture(scope="module")
def scene(host):
    scene = Scene(host)
    yield scene
    scene.close()


def in_a_box(box, probe):
    """The same programs as root of a box, which may do as it likes there; files are made on a file system that can hold all kinds."""
    shutil.copy(probe, f"{box.work}/probe")
    script = f"""
        mkdir /run/made; mount -t tmpfs made /run/made; cp {box.work}/probe /run/probe; echo secret >/run/secret
        mkfifo /run/ready; /run/probe victim box-victim >/run/ready & read -r victim </run/ready
        /run/probe namespaces /run/secret $victim box-victim /run/made
        kill $victim"""
    return Report(box.sh(script, "-u", "root"))


@pytest.fixture(scope="module")
def free(scene, shared_box):
    """What the probes get where they may: outside as they are, with all privilege over namespaces of their own, and as root of
    a box."""
    shared_box.up()
    plain = scene.run("plain", scene.shared)
    namespaces = scene.run("namespaces", scene.shared)
    return plain.allowed | namespaces.allowed | in_a_box(shared_box, scene.probe).allowed


@pytest.mark.parametrize("jail", ["qemu", "virtiofsd"])
def test_nothing_is_allowed_inside(scene, free, jail):
    inside = scene.run(jail, "/share/m0" if jail == "virtiofsd" else None)
    assert inside.denied, "the probe told nothing"
    harmless = HARMLESS[jail]
    if jail == "virtiofsd" and scene.host.uid == 0:
        harmless = harmless | {"limit.processes"}  # the kernel does not count those of root; the box's cgroup does
    assert inside.allowed <= harmless, inside.allowed
    assert inside.facts["core"] in (["1"], ["0"])  # one byte: no crash handler of the host's is run, either
    tried = set(inside.denied)
    assert tried <= free, f"no positive control for {sorted(tried - free)}"
    assert set(inside.facts["root"]) == ROOT[jail]
    assert inside.facts.get("writable", []) == []
    assert inside.facts["no_new_privs"] == ["1"]
    assert inside.facts["hostname"] == ["box"]
    assert inside.denied["kernel.i386"] == "SYS" and inside.denied["kernel.x32"] == "SYS"
    if jail == "qemu":
        assert inside.facts["capabilities"] == ["000000000"]
        assert inside.facts["bounding"] == ["0"]
        # standard descriptors, control port, console, monitor, shared folders, root file system, modules: as planned
        assert inside.facts["descriptor"] == [str(fd) for fd in range(9)]
    else:
        assert int(inside.facts["bounding"][0]) <= 7
        assert inside.facts["descriptor"] == ["0", "1", "2", "3"]


def test_nothing_is_allowed_beside_the_guard(scene, free):
    """virtiofsd sees the guard among its own processes. It can end it, and the box with it, and nothing more: it reads none of its
    memory and descriptors, although the one here objects to nothing."""
    inside = scene.run("guarded", "/share/m0")
    harmless = HARMLESS["virtiofsd"] | {"process.signal", "process.everyone", "process.pidfd", "process.cmdline", "limit.processes"}
    assert inside.allowed <= harmless, inside.allowed
    assert "process.pidfd" in inside.allowed, "there was nobody"
    looked = {"process.mem", "process.fd", "process.read", "process.ptrace", "process.shm", "file.other-root"}
    assert looked <= set(inside.denied) and looked <= free
    assert inside.denied["process.fd"] == inside.denied["process.mem"] == "EACCES"  # it is found, and refused


@pytest.mark.parametrize("jail", ["qemu", "virtiofsd"])
@pytest.mark.parametrize("child", ["qemu", "virtiofsd", "@guard", "supervisor"])
def test_nothing_of_another_box_is_in_reach(scene, box, jail, child):
    """It has the same owner, and as an ordinary user's the same id."""
    log = f"{box.state}/box.log"
    victim = box.supervisor() if child == "supervisor" else box.child(child)
    wanted = {"file.secret", "file.dotdot", "process.signal", "process.pidfd", "process.cmdline"}
    if child != "supervisor":  # which lets nobody look into it, the owner neither; into the others the owner may
        wanted |= {"process.mem", "process.fd", "process.ptrace"}
    inside = scene.run(jail, "/share/m0" if jail == "virtiofsd" else None, log, victim)
    assert wanted <= set(inside.denied)
    missing = wanted - scene.run("plain", scene.shared, log, victim).allowed
    assert not missing, f"no positive control for {missing}"
    assert box.sh("echo well") == "well"


def test_the_controls_touch_nothing_else(scene):
    """What is tried outside stays in the folder that is there for it, also after a mount that succeeds."""
    before = set(os.listdir("/"))
    assert "priv.bind" in scene.run("namespaces", scene.shared).allowed
    assert set(os.listdir("/")) == before
    assert {"plain", "suid-create", "fifo"} <= set(os.listdir(scene.shared))


def test_nothing_dangerous_is_made_in_a_shared_folder(scene, free):
    """The verdict is the inode on the host, not what the program was told."""
    scene.run("virtiofsd", "/share/m0")
    made = {name: os.lstat(f"{scene.shared}/{name}") for name in os.listdir(scene.shared)}
    assert "plain" in made
    for name, st in made.items():
        assert not st.st_mode & (stat.S_ISUID | stat.S_ISGID), f"{name} is {st.st_mode:o}"
        assert not stat.S_ISCHR(st.st_mode) and not stat.S_ISBLK(st.st_mode), name
        assert os.listxattr(f"{scene.shared}/{name}", follow_symlinks=False) == []
        assert st.st_uid == scene.host.uid
    # the control: outside the jail the same program makes them
    scene.run("plain", scene.shared)
    assert os.lstat(f"{scene.shared}/suid-create").st_mode & stat.S_ISUID
    assert os.lstat(f"{scene.shared}/plain").st_mode & (stat.S_ISUID | stat.S_ISGID)


def test_a_mount_of_the_host_below_a_read_only_one_is_read_only(scene):
    """Everything below a source comes with the restrictions of its mount: told by the plan, enforced by the kernel."""
    done = scene.host.command(["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec",
                               f"mkdir -p {scene.shared}/below; mount -t tmpfs below {scene.shared}/below; "
                               f"{scene.folder}/escape-jailer virtiofsd {scene.runtime} {scene.shared} {scene.probe} "
                               f"{scene.secret} {scene.victim.pid} {scene.abstract} /share/m0/below"])
    os.rmdir(f"{scene.shared}/below")
    assert done.returncode == 0, done.stderr
    assert Report(done.stdout.decode()).allowed - {"limit.processes"} == HARMLESS["virtiofsd"]
