"""Requests that no Linux kernel sends, to the virtiofsd of a running box, from the place of a QEMU that was taken over (vhostfs.c,
raw_fuse.py): the jail, the filter and the guard are the box's own. What came of a request is read on the host. Each kind of request is
also made where it is allowed: an ordinary name in the same box, or the same request in a box with protect: []."""
import errno
import glob
import os
import random
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
        if self.device:
            self.device.begin()  # or what is open adds up from test to test
        else:
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
        assert harness.wait_for(lambda: not self.box.supervisor(), 60)
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
    other = d.lookup(place.at, "sub/file")
    source = d.open(other, os.O_RDONLY)
    assert refused(d.copy, other, source, node, reading, 3)
    assert not place.changed()
    assert d.copy(other, source, node, writing, 3) == 3 and d.read(node, reading) == b"subin"
    d.write(node, writing, b"more")
    assert d.read(node, reading) == b"moren"


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


# ---------------------------------------------------------------------------------------------------------- operations it has not
ABSENT = {"tmpfile": fuse.TMPFILE, "ioctl": fuse.IOCTL, "map": fuse.SETUPMAPPING, "unmap": fuse.REMOVEMAPPING, "poll": fuse.POLL, "bmap": fuse.BMAP,
          "statx": fuse.STATX, "none": 0, "notify": 41, "beyond": 53, "far beyond": 0xffffffff, "cuse": 4096, "swapped": 1 << 24}


@pytest.mark.parametrize("operation", ABSENT)
def test_an_operation_that_it_has_not(place, operation):
    d = place.device
    node = d.lookup(place.at, "plain")
    for at, handle in ((node, d.open(node, os.O_RDWR)), (place.at, d.open(place.at, os.O_RDONLY, fuse.OPENDIR)), (fuse.ROOT, 0)):
        for body in (struct.pack("<QQQQQQ", handle, 0, 4096, 3, 0, 0) + b".envrc\0", struct.pack("<IIII", os.O_RDWR, 0o644, 0, 0) + b".envrc\0"):
            assert d.call(ABSENT[operation], at, body)[0] in (errno.ENOSYS, errno.EOPNOTSUPP)
    assert not place.changed() and d.read(node, d.open(node, os.O_RDONLY)) == b"plain"


# ---------------------------------------------------------------------------------------------------------- whatever comes to mind
SEEDS = [int(s) for s in os.environ.get("NIXBOX_RAW_SEEDS", "1 2 3 4").split()]
REQUESTS = 3000
NAMELESS = [fuse.GETATTR, fuse.SETATTR, fuse.READLINK, fuse.OPEN, fuse.READ, fuse.STATFS, fuse.RELEASE, fuse.FSYNC, fuse.LISTXATTR,
            fuse.FLUSH, fuse.OPENDIR, fuse.READDIR, fuse.RELEASEDIR, fuse.GETLK, fuse.SETLK, fuse.ACCESS, fuse.INTERRUPT, fuse.FALLOCATE,
            fuse.READDIRPLUS, fuse.LSEEK, fuse.COPY_FILE_RANGE, fuse.SYNCFS]
WORDS = [*NAMES.values(), *OWNERS, *PROTECTED, "x", "y", "sub", "evil", "sub/.git", "config", "hooks", ".git/config.lock", "x" * 255]


class Random:
    """Requests at random: most in the shape of real ones, with the nodes and handles that came back."""

    def __init__(self, place, seed):
        self.r, self.d, self.ok = random.Random(seed), place.device, 0
        self.folders, self.files, self.handles = [place.at] * 4 + [place.ro, fuse.ROOT], [], [0]
        for path in OWNERS:
            self.folders.append(place.device.walk(os.path.dirname(path), place.at) if "/" in path else place.at)
            self.files.append(place.device.walk(path, place.at))

    def often(self, likely, rare):
        return likely() if self.r.random() < 0.85 else rare()

    def number(self):
        return self.r.choice([0, 1, 2, 7, 1 << 20, (1 << 31) - 1, 1 << 32, (1 << 64) - 1, self.r.getrandbits(64)])

    def any_node(self):
        return self.r.choice([*self.folders, *self.files, self.number()])

    def folder(self):
        return self.often(lambda: self.r.choice(self.folders), self.any_node)

    def file(self):
        return self.often(lambda: self.r.choice(self.files), self.any_node)

    def few(self):
        return struct.pack("<Q", self.r.choice([*self.handles, self.number()]))

    def word(self):
        return self.often(lambda: self.r.choice(WORDS), lambda: bytes(self.r.choices(range(1, 256), k=self.r.randrange(1, 300))) + b"\0")

    def flags(self):
        access = self.often(lambda: self.r.choice([os.O_RDONLY, os.O_RDWR]), lambda: self.r.getrandbits(25))
        return access | self.r.choice([0, 0, os.O_CREAT, os.O_TRUNC, os.O_APPEND])

    def mode(self):
        return self.often(lambda: self.r.choice([0o644, 0o755, 0o777]), lambda: self.r.getrandbits(12))

    def kind(self):
        rare = [0, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFLNK, stat.S_IFSOCK]
        return self.often(lambda: stat.S_IFREG, lambda: self.r.choice(rare))

    def step(self):
        r, d = self.r, self.d
        handle, data = r.choice(self.handles), r.randbytes(r.randrange(64))
        how = {
            "find": lambda: r.choice([self.folders, self.files]).append(d.lookup(self.folder(), self.word())),
            "create": lambda: self.made(*d.create(self.folder(), self.word(), self.mode(), self.flags() | os.O_CREAT)),
            "open": lambda: self.handles.append(d.open(self.file(), self.flags())),
            "open folder": lambda: self.handles.append(d.open(self.folder(), self.flags(), fuse.OPENDIR)),
            "mkdir": lambda: self.folders.append(d.mkdir(self.folder(), self.word(), self.mode())),
            "mknod": lambda: self.files.append(d.mknod(self.folder(), self.word(), self.kind() | self.mode(), 1 << 8 | 3)),
            "symlink": lambda: self.files.append(d.symlink(self.folder(), self.word(), self.word())),
            "link": lambda: d.link(self.folder(), self.word(), self.file()),
            "rename": lambda: d.rename(self.folder(), self.word(), self.folder(), self.word(), r.choice([None, 0, 1, 2, 4, 7])),
            "remove": lambda: r.choice([d.unlink, d.rmdir])(self.folder(), self.word()),
            "write": lambda: d.write(self.file(), handle, data, r.choice([0, 3, 1 << 20]), flags=self.flags()),
            "read": lambda: d.read(self.file(), handle),
            "set": lambda: d.setattr(self.file(), self.often(lambda: r.choice([SIZE, MODE, HANDLE | SIZE]), lambda: r.getrandbits(11)), handle,
                                     r.choice([0, 9, 1 << 20]), self.mode(), r.getrandbits(16), r.getrandbits(16)),
            "copy": lambda: d.copy(self.file(), handle, self.file(), r.choice(self.handles), 9),
            "attribute": lambda: d.must(fuse.SETXATTR, self.file(), struct.pack("<II", 1, 0) + fuse.name(r.choice(["user.x", "security.capability"])) + b"x"),
            "numbers": lambda: d.must(r.choice(NAMELESS), self.any_node(), self.few() + self.few() + self.few() + r.randbytes(128)),
        }
        try:
            r.choice(list(how.values()))()
            self.ok += 1
        except OSError:
            pass

    def made(self, node, handle):
        self.files.append(node)
        self.handles.append(handle)


def what_the_host_runs(folder):
    """The files of a folder that are protected, with all that counts of them; not the empty folders and files of such names."""
    return {(path, os.path.basename(path) != "config" and mode, text) for path, (mode, *_, text) in picture(folder).items()
            if text and re.search("(^|/)([.]envrc|[.]vscode/.*|[.]git|[.]git/config|[.]git/hooks/.*)$", path)}


@pytest.mark.parametrize("seed", SEEDS)
def test_requests_at_random(places, seed):
    """Where nothing is protected, such requests change what the host runs sooner or later."""
    for place in places:
        place.ready()
        before = what_the_host_runs(place.folder)
        requests = Random(place, seed)
        for _ in range(REQUESTS):
            requests.step()
        assert requests.ok > REQUESTS / 20 and place.changed()
        around = place.around()
        del around["work"], place.outside["work"]  # sub/.. is the mount itself, which may be changed
        assert around == place.outside
        after = what_the_host_runs(place.folder)
        assert bool(after - before) != place.box.config_protects
        if place.box.config_protects:  # a config with nothing but plain settings may be removed
            assert {path for path, *_ in before - after} <= {".git/config"}
        place.clear()


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
        assert harness.wait_for(lambda: not place.box.supervisor(), 60)
        assert re.search("virtiofsd (serves the mounts no more|ended|was killed)", place.box.events("box.down")[-1]["reason"])
        place.device.gone = True


def answers(virtiofsd):
    """Is the thread there that reads the requests? Others of its process may end while they are looked at."""
    for file in glob.glob(f"/proc/{virtiofsd}/task/*/comm"):
        try:
            with open(file) as f:
                if f.read() == "vring_worker\n":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            pass
    return False
