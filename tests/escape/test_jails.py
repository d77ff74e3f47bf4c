"""A hostile program in QEMU's and in virtiofsd's place, in the very jails that a box is started with (see jailer.c). Each of
its probes is also run outside a jail, where it must succeed: a probe that fails everywhere proves nothing."""
import glob
import os
import shutil
import socket
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
# Probes without a positive control: they would change the machine, or the machine may lack what they try.
NO_CONTROL = {"process.everyone", "process.shm", "process.pidfd", "priv.hostname", "priv.remount", "kernel.i386",
              "kernel.x32", "kernel.io_uring", "kernel.keyctl", "file.other-root", "make.block-device", "make.char-device",
              "make.user-xattr", "make.capability", "make.rename-whiteout", "make.tmpfile", "process.ptrace", "net.inet6",
              "make.whiteout", "make.setgid-fchmodat2"}


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
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("\0" + self.abstract)
        self.listener.listen(16)
        for name in ("escape-probe", "escape-jailer"):
            shutil.copy(f"{BUILD}/{name}", self.folder)
            os.chmod(f"{self.folder}/{name}", 0o755)
        self.probe = f"{self.folder}/escape-probe"
        self.victim = host.popen([self.probe, "victim"])
        self.runtime = max(glob.glob(f"{host.data}/nixbox/runtime/*/usr"), key=os.path.getmtime).removesuffix("/usr")

    def close(self):
        self.victim.kill()
        self.victim.communicate()
        self.listener.close()

    def run(self, where, writable=None):
        for name in os.listdir(self.shared):
            os.unlink(f"{self.shared}/{name}")
        args = [f"{self.folder}/escape-jailer", where, self.runtime, self.shared, self.probe, self.secret,
                str(self.victim.pid), self.abstract] + ([writable] if writable else [])
        done = self.host.command(args, env={"LEAK": "from-the-caller"})
        assert done.returncode == 0, (done.stdout, done.stderr)
        return Report(done.stdout.decode())


@pytest.fixture(scope="module")
def scene(host):
    scene = Scene(host)
    yield scene
    scene.close()


@pytest.fixture(scope="module")
def free(scene):
    """What the probes get outside: as they are, and with all privilege over namespaces of their own."""
    plain = scene.run("plain", scene.shared)
    namespaces = scene.run("namespaces", scene.shared)
    return plain.allowed | namespaces.allowed


@pytest.mark.parametrize("jail", ["qemu", "virtiofsd"])
def test_nothing_is_allowed_inside(scene, free, jail):
    inside = scene.run(jail, "/share/m0" if jail == "virtiofsd" else None)
    assert inside.denied, "the probe told nothing"
    harmless = HARMLESS[jail]
    if jail == "virtiofsd" and scene.host.uid == 0:
        harmless = harmless | {"limit.processes"}  # the kernel does not count those of root; the box's cgroup does
    assert inside.allowed <= harmless, inside.allowed
    assert inside.facts["core"] in (["1"], ["0"])  # one byte: no crash handler of the host's is run, either
    tried = set(inside.denied) - NO_CONTROL
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
