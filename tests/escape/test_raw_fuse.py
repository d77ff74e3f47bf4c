"""Requests that no Linux kernel sends, to the virtiofsd of a running box, from the place of a QEMU that was taken over (vhostfs.c,
raw_fuse.py): the jail, the filter and the guard are the box's own. What came of a request is read on the host. Each kind of request is
also made where it is allowed: an ordinary name in the same box, or the same request in a box with protect: []."""
import os
import re
import shutil
import stat
import struct

import pytest

import harness
import raw_fuse as fuse

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="expected: only root takes a descriptor out of QEMU")

OFF = harness.DEFAULT_CONFIG + "protect: []\n"
OWNERS = {".git/hooks/pre-commit": "owner's hook", ".git/config": "[core]\n\tbare = false\n", ".envrc": "owner's", ".vscode/tasks.json": "owner's",
          "plain": "plain", "evil/config": "[core]\n\tfsmonitor = EVIL\n", "sub/file": "sub"}
PROTECTED = (".git", ".envrc", ".vscode")
SIZE, MODE, UID, GID, HANDLE = 8, 1, 2, 4, 64  # what a SETATTR is to set


def picture(folder):
    """All that a program of the host would see of a folder."""
    seen = {}
    for where, folders, files in os.walk(folder):
        for entry in folders + files:
            path = os.path.join(where, entry)
            st = os.lstat(path)
            text = os.readlink(path) if stat.S_ISLNK(st.st_mode) else ""
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    text = f.read()
            seen[os.path.relpath(path, folder)] = (st.st_mode, st.st_uid, st.st_gid, st.st_ino, st.st_nlink, st.st_size, text)
    return seen


class Place:
    """A box, its virtiofsd as a device, and for each test a folder of its own with an owner's files, in both mounts."""

    def __init__(self, host, config):
        self.box = harness.Box(host, "raw", config)
        self.secret = harness.write(f"{self.box.folder}/secret", "of the host", host, 0o666)
        os.chmod(self.box.folder, 0o777)
        self.device, self.folders = None, 0

    def ready(self):
        """A device that works, and the folder."""
        if self.device and self.device.gone:
            self.end()
        if not self.device:
            self.box.up()
            self.pids = {name: self.box.child(name) for name in ("virtiofsd", "conduit")}
            self.device = fuse.Device(self.box)
            root = f"/proc/{self.pids['virtiofsd']}/root"
            self.share = os.stat(root).st_ino
            self.id = {os.stat(f"{root}/{n}").st_ino: n for n in os.listdir(root)}
        self.folders += 1
        for mount in (self.box.work, self.box.ro):
            for path, text in OWNERS.items():
                file = f"{mount}/t{self.folders}/{path}"
                os.makedirs(os.path.dirname(file), exist_ok=True)
                harness.write(file, text)
            for where, _, files in os.walk(f"{mount}/t{self.folders}"):
                for path in [where] + [f"{where}/{f}" for f in files]:
                    os.chown(path, self.box.host.uid, self.box.host.gid)
        self.folder, self.ro_folder = f"{self.box.work}/t{self.folders}", f"{self.box.ro}/t{self.folders}"
        self.here, self.there = self.id[os.stat(self.box.work).st_ino], self.id[os.stat(self.box.ro).st_ino]
        self.at = self.device.walk(f"{self.here}/t{self.folders}")
        self.ro = self.device.walk(f"{self.there}/t{self.folders}")
        self.path, self.ro_path = f"{self.here}/t{self.folders}", f"{self.there}/t{self.folders}"
        self.before = picture(self.folder)
        self.outside = self.around()
        return self.device

    def around(self):
        """Everything of the box's folder but what lies in the writable mount."""
        return {path: what for path, what in picture(self.box.folder).items() if not path.startswith("work/")}

    def end(self):
        self.device.close()
        self.device = None
        assert harness.wait_for(lambda: not self.box.supervisor(), 30)
        assert self.box.events("box.down")[-1]["reason"]

    def clear(self):
        shutil.rmtree(self.folder)
        shutil.rmtree(self.ro_folder)

    def changed(self):
        now = picture(self.folder)
        return {path for path in now.keys() | self.before.keys() if now.get(path) != self.before.get(path)}

    def check(self):
        """What must hold whatever was asked for."""
        assert self.around() == self.outside
        for where, folders, files in os.walk(self.folder):
            for path in [f"{where}/{entry}" for entry in folders + files]:
                st = os.lstat(path)
                assert not st.st_mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISCHR(st.st_mode) and not stat.S_ISBLK(st.st_mode), path
                assert (st.st_uid, st.st_gid) == (self.box.host.uid, self.box.host.gid) and os.listxattr(path, follow_symlinks=False) == [], path
        if self.box.config_protects:
            assert not [path for path in self.changed() if path.split("/")[-1] in PROTECTED or path.split("/")[0] in PROTECTED]


@pytest.fixture(scope="module")
def places(host):
    made = []
    for config in (harness.DEFAULT_CONFIG, OFF):
        made.append(Place(host, config))
        made[-1].box.config_protects = config != OFF
    yield made
    for place in made:
        if place.device:
            place.end()
        place.box.close()


@pytest.fixture
def place(places):
    places[0].ready()
    yield places[0]
    places[0].check()
    places[0].clear()


def refused(what, *args, **kwargs):
    """Whether it was refused, which is only what virtiofsd says: what counts is seen on the host."""
    try:
        what(*args, **kwargs)
    except OSError as e:
        assert e.errno != 0
        return True
    return False


# ---------------------------------------------------------------------------------------------------------- names
NAMES = {"dot-dot": "..", "dot": ".", "empty": "", "slash": "sub/x", "up": "../x", "far up": "../../../../../../../../x", "absolute": "/x",
         "absolute file": "/etc/passwd", "other mount": "../../m0/x", "other mount 2": "../../m1/x", "proc": "/process/self/root/x", "long": "x" * 4000,
         "longer": "x" * 300, "slash at the end": "x/", "only slashes": "///", "dot in front": "./x", "up and down": "sub/../x"}
NAMED = {
    "create": lambda d, at, n: d.create(at, n),
    "mkdir": lambda d, at, n: d.mkdir(at, n),
    "mknod": lambda d, at, n: d.mknod(at, n, stat.S_IFREG | 0o644),
    "fifo": lambda d, at, n: d.mknod(at, n, stat.S_IFIFO | 0o644),
    "symlink": lambda d, at, n: d.symlink(at, n, "/etc/passwd"),
    "link": lambda d, at, n: d.link(at, n, d.lookup(at, "plain")),
    "rename to": lambda d, at, n: d.rename(at, "plain", at, n),
    "rename from": lambda d, at, n: d.rename(at, n, at, "moved"),
    "exchange": lambda d, at, n: d.rename(at, "plain", at, n, 2),
    "rename2 to": lambda d, at, n: d.rename(at, "plain", at, n, 0),
    "unlink": lambda d, at, n: d.unlink(at, n),
    "rmdir": lambda d, at, n: d.rmdir(at, n),
}
ORDINARY = {"rename from": "plain", "exchange": "sub", "unlink": "plain", "rmdir": "empty"}


@pytest.mark.parametrize("operation", NAMED)
@pytest.mark.parametrize("which", NAMES)
def test_a_name_that_is_none(place, operation, which):
    d = place.device
    for at in (place.at, place.ro, fuse.ROOT):
        refused(NAMED[operation], d, at, NAMES[which])
    assert not place.changed()


@pytest.mark.parametrize("operation", NAMED)
def test_an_ordinary_name(place, operation):
    """The control of the test above."""
    os.mkdir(f"{place.folder}/empty")
    os.chown(f"{place.folder}/empty", place.box.host.uid, place.box.host.gid)
    place.before = picture(place.folder)
    NAMED[operation](place.device, place.at, ORDINARY.get(operation, "x"))
    assert place.changed()


@pytest.mark.parametrize("which", NAMES)
def test_a_look_up(place, which):
    """What is found lies in the mounts, or is the tree that they hang on."""
    d, known = place.device, {place.share, os.stat(place.box.work).st_ino, os.stat(place.box.ro).st_ino}
    for folder in (place.box.work, place.box.ro):
        known |= {what[3] for what in picture(folder).values()}
    for at in (place.at, place.ro, fuse.ROOT):
        for end in ("", "/..", "/../../../..", "/secret", "/../secret"):
            try:
                node = d.lookup(at, NAMES[which].removesuffix("x") + end)
            except OSError:
                continue
            inode = struct.unpack_from("<Q", d.must(fuse.GETATTR, node, bytes(16)), 16)[0]
            assert inode in known


def test_a_look_up_that_finds(place):
    node = place.device.lookup(place.at, "plain")
    assert place.device.read(node, place.device.open(node, os.O_RDONLY)) == b"plain"


# ---------------------------------------------------------------------------------------------------------- protected files
def write_node(d, node, flags=os.O_RDWR):
    d.write(node, d.open(node, flags), b"EVIL")


def write_new(d, at, entry, flags=os.O_RDWR | os.O_CREAT):
    d.write(*d.create(at, entry, flags=flags), b"EVIL")


PROTECTED_WAYS = {
    "create over it": lambda d, p: write_new(d, p.at, ".envrc", os.O_RDWR | os.O_CREAT | os.O_TRUNC),
    "create by a path": lambda d, p: write_new(d, p.at, ".git/hooks/pre-push"),
    "create through dot-dot": lambda d, p: write_new(d, d.lookup(p.at, "sub"), "../.vscode/launch.json"),
    "create from the other mount": lambda d, p: write_new(d, p.ro, f"../../{p.path}/.vscode/new"),
    "create from the root": lambda d, p: write_new(d, fuse.ROOT, f"{p.path}/sub/.envrc"),
    "mknod by a path": lambda d, p: d.mknod(p.at, ".git/hooks/post-merge", stat.S_IFREG | 0o755),
    "write a node": lambda d, p: write_node(d, d.lookup(p.at, ".envrc")),
    "write a node found through dot-dot": lambda d, p: write_node(d, d.lookup(p.at, "sub/../.git/hooks/pre-commit")),
    "open to create": lambda d, p: write_node(d, d.lookup(p.at, ".envrc"), os.O_WRONLY | os.O_CREAT),
    "truncate while reading": lambda d, p: d.open(d.lookup(p.at, ".envrc"), os.O_RDONLY | os.O_TRUNC),
    "set its size": lambda d, p: d.setattr(d.lookup(p.at, ".envrc"), SIZE, size=0),
    "set its mode": lambda d, p: d.setattr(d.lookup(p.at, ".git/hooks/pre-commit"), MODE, mode=0o755),
    "rename onto it": lambda d, p: d.rename(p.at, "plain", p.at, ".envrc"),
    "rename onto it by a path": lambda d, p: d.rename(p.at, "evil/config", p.at, ".git/config"),
    "rename into the folder": lambda d, p: d.rename(p.at, "plain", d.walk(".git/hooks", p.at), "update"),
    "rename it away": lambda d, p: d.rename(p.at, ".envrc", p.at, "away"),
    "rename its folder away": lambda d, p: d.rename(p.at, ".git", p.at, "git", 0),
    "rename a folder to such a name": lambda d, p: d.rename(p.at, "evil", d.lookup(p.at, "sub"), ".git"),
    "exchange": lambda d, p: d.rename(p.at, "plain", p.at, ".envrc", 2),
    "exchange folders": lambda d, p: d.rename(p.at, "evil", p.at, ".git", 2),
    "link to it": lambda d, p: write_node(d, d.link(p.at, "alias", d.lookup(p.at, ".envrc"))),
    "link from such a name": lambda d, p: d.link(d.lookup(p.at, "sub"), ".envrc", d.lookup(p.at, "plain")),
    "link by a path": lambda d, p: d.link(p.at, ".git/hooks/update", d.lookup(p.at, "plain")),
    "symlink of such a name": lambda d, p: d.symlink(d.lookup(p.at, "sub"), ".git", "../evil"),
    "symlink by a path": lambda d, p: d.symlink(p.at, "sub/.envrc", "../plain"),
    "unlink": lambda d, p: d.unlink(p.at, ".envrc"),
    "unlink by a path": lambda d, p: d.unlink(p.at, "sub/../.git/hooks/pre-commit"),
    "a lock of git's, renamed by a path": lambda d, p: (write_new(d, p.at, ".git/config.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL),
                                                        d.rename(p.at, "sub/../.git/config.lock", p.at, ".git/config")),
}


@pytest.mark.parametrize("way", PROTECTED_WAYS)
def test_a_protected_file(places, way):
    """The same request changes it where nothing is protected."""
    protected, control = places
    refused(PROTECTED_WAYS[way], protected.ready(), protected)
    protected.check()
    assert not protected.changed()
    protected.clear()
    PROTECTED_WAYS[way](control.ready(), control)
    assert control.changed()
    control.check()
    control.clear()


# ---------------------------------------------------------------------------------------------------------- read-only
CHANGES = {
    **{f"{name} ordinary": lambda d, p, at, what=what, name=name: what(d, at, ORDINARY.get(name, "x")) for name, what in NAMED.items()
       if name != "rmdir"},
    "write": lambda d, p, at: write_node(d, d.lookup(at, "plain")),
    "append": lambda d, p, at: write_node(d, d.lookup(at, "plain"), os.O_WRONLY | os.O_APPEND),
    "truncate while reading": lambda d, p, at: d.open(d.lookup(at, "plain"), os.O_RDONLY | os.O_TRUNC),
    "set the size": lambda d, p, at: d.setattr(d.lookup(at, "plain"), SIZE, size=1),
    "set the mode": lambda d, p, at: d.setattr(d.lookup(at, "plain"), MODE, mode=0o600),
    "link elsewhere": lambda d, p, at: write_node(d, d.link(p.at, "alias", d.lookup(at, "plain"))),
    "rename elsewhere": lambda d, p, at: d.rename(at, "plain", p.at, "taken"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_read_only_mount(place, change):
    refused(CHANGES[change], place.device, place, place.ro)
    assert place.around() == place.outside and not place.changed()
    CHANGES[change](place.device, place, place.at)
    assert place.changed()


# ---------------------------------------------------------------------------------------------------------- modes
SET_ID = [0o4755, 0o2755, 0o6777]
MAKES = {
    "create": lambda d, at, mode: d.create(at, "x", mode),
    "mkdir": lambda d, at, mode: d.mkdir(at, "x", mode),
    "mknod": lambda d, at, mode: d.mknod(at, "x", stat.S_IFREG | mode),
    "set the mode": lambda d, at, mode: d.setattr(d.lookup(at, "plain"), MODE, mode=mode),
    "set the mode of an open file": lambda d, at, mode: d.setattr(n := d.lookup(at, "plain"), MODE | HANDLE, d.open(n, os.O_RDWR), mode=mode),
}


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("mode", SET_ID, ids=oct)
def test_a_set_id_bit(place, make, mode):
    refused(MAKES[make], place.device, place.at, mode)
    place.check()
    if os.path.lexists(f"{place.folder}/x"):
        pytest.fail("it was made after all")
    MAKES[make](place.device, place.at, 0o750)
    assert place.changed()


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK], ids=["character", "block"])
def test_a_device(place, kind):
    refused(place.device.mknod, place.at, "x", kind | 0o666, 1 << 8 | 3)
    assert not place.changed()
    place.device.mknod(place.at, "x", stat.S_IFREG | 0o666)
    assert place.changed()


# ---------------------------------------------------------------------------------------------------------- nodes and handles
def test_a_handle_for_reading(place):
    d, node = place.device, place.device.lookup(place.at, "plain")
    reading, writing = d.open(node, os.O_RDONLY), d.open(node, os.O_RDWR)
    assert refused(d.write, node, reading, b"EVIL")
    assert refused(d.must, fuse.FALLOCATE, node, struct.pack("<QQQII", reading, 0, 99, 0, 0))
    assert refused(d.setattr, node, SIZE | HANDLE, reading, size=0)
    assert not place.changed()
    d.write(node, writing, b"more")
    assert place.changed()


@pytest.mark.parametrize("handle", [1 << 20, (1 << 63) - 1, (1 << 64) - 1])
def test_a_forged_handle(place, handle):
    d, node = place.device, place.device.lookup(place.at, "plain")
    assert refused(d.write, node, handle, b"EVIL") and refused(d.read, node, handle)
    assert refused(d.write, handle, handle, b"EVIL") and refused(d.lookup, handle, "plain") and refused(d.create, handle, "x")
    assert not place.changed()


def test_an_attribute(place):
    node = place.device.lookup(place.at, "plain")
    for attribute in ("user.x", "security.capability", "trusted.overlay.opaque"):
        assert refused(place.device.must, fuse.SETXATTR, node, struct.pack("<II", 1, 0) + attribute.encode() + b"\0x")
    assert not place.changed()


# ---------------------------------------------------------------------------------------------------------- what is no request at all
MALFORMED = {
    "a NUL in a name": lambda d, at: d.call(fuse.MKDIR, at, struct.pack("<II", 0o755, 0) + b"x\0y\0"),
    "a length that lies": lambda d, at: d.call(fuse.MKDIR, at, struct.pack("<II", 0o755, 0) + b"x\0", length=1 << 31),
    "a ring that leads out of the memory": lambda d, at: d.command("ring", 1, bytes(40), 0, "ffffffffff000,1000,1,1", "800000,1000,2,0"),
}


@pytest.mark.person("ordinary")
@pytest.mark.parametrize("request_", MALFORMED)
def test_what_is_no_request(place, request_):
    """virtiofsd's thread may end of it: then the box does, and says why."""
    try:
        MALFORMED[request_](place.device, place.at)
    except (fuse.Gone, OSError):
        pass
    assert not place.changed()
    assert harness.alive(place.pids["conduit"]) or not place.box.supervisor()
    if not answers(place.pids["virtiofsd"]):
        assert harness.wait_for(lambda: not place.box.supervisor(), 30)
        assert re.search("virtiofsd (serves the mounts no more|ended|was killed)", place.box.events("box.down")[-1]["reason"])
        place.device.gone = True


def answers(virtiofsd):
    """Is the thread there that reads the requests?"""
    try:
        return "vring_worker\n" in [open(f"/proc/{virtiofsd}/task/{task}/comm").read() for task in os.listdir(f"/proc/{virtiofsd}/task")]
    except FileNotFoundError:
        return False
