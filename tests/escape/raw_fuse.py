"""FUSE, spoken to the virtiofsd of a running box by what QEMU would be after it was taken over (vhostfs.c), with any request that
can be written down. Device takes virtiofsd from a box's QEMU; device.call(OPERATION, node, body) returns (errno, bytes)."""
import errno
import os
import re
import signal
import struct
import subprocess

import harness

BUILD = os.path.join(os.environ.get("NIXBOX_TEST_BUILD", f"{harness.ROOT}/build"), "tests/escape")

LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, OPEN, READ, WRITE = 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, \
    12, 13, 14, 15, 16
STATFS, RELEASE, FSYNC, SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 17, 18, 20, 21, 22, 23, 24, 25, 26, \
    27, 28, 29
GETLK, SETLK, SETLKW, ACCESS, CREATE, INTERRUPT, BMAP, DESTROY, IOCTL, POLL, BATCH_FORGET, FALLOCATE, READDIRPLUS, RENAME2 = 31, 32, 33, 34, 35, 36, \
    37, 38, 39, 40, 42, 43, 44, 45
LSEEK, COPY_FILE_RANGE, SETUPMAPPING, REMOVEMAPPING, SYNCFS, TMPFILE, STATX = 46, 47, 48, 49, 50, 51, 52
ROOT = 1
ALL_FLAGS = 0xffffffff  # of INIT: a guest that can do everything


class Gone(Exception):
    """virtiofsd has ended."""


def name(text):
    """As requests carry names; bytes stay what they are."""
    return text if isinstance(text, bytes) else text.encode() + b"\0"


class Device:
    def __init__(self, box):
        self.box, self.qemu = box, box.child("qemu")
        with open(f"/proc/{self.qemu}/cmdline", encoding="ascii") as f:
            fd = re.search(r"socket,id=share,fd=(\d+)", f.read()).group(1)
        os.kill(self.qemu, signal.SIGSTOP)
        self.process = subprocess.Popen([f"{BUILD}/escape-vhostfs", str(self.qemu), fd, str(box.child("virtiofsd"))], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.unique, self.gone = 0, False
        self.read_answer()
        self.begin()

    def begin(self):
        """As a guest does that mounts again: nodes and handles of before are let go."""
        self.call(DESTROY, 0)
        code, _ = self.call(INIT, 0, struct.pack("<IIIIII", 7, 38, 1 << 20, ALL_FLAGS, ALL_FLAGS, 0) + bytes(40))
        assert code == 0, code

    def close(self):
        """What is left of QEMU ends, and the box with it."""
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
        if harness.alive(self.qemu):
            os.kill(self.qemu, signal.SIGKILL)

    # ---- the program's lines

    def read_answer(self):
        """Bytes, none if the request was taken without a word."""
        line = self.process.stdout.readline().decode().split()
        if line[:1] == ["answer"]:
            return bytes.fromhex(line[1]) if len(line) > 1 else b""
        if line == ["gone"]:
            self.gone = True
            raise Gone
        raise AssertionError(f"vhostfs: {line}")

    def command(self, *words):
        self.process.stdin.write((" ".join(w.hex() or "-" if isinstance(w, bytes) else w if isinstance(w, str) else f"{w:x}" for w in words) + "\n").encode())
        self.process.stdin.flush()
        return self.read_answer()

    # ---- requests

    def raw(self, request, room=4096):
        return self.command("ask", request, room)

    def call(self, operation, node, body=b"", room=8192, length=None, uid=0, gid=0):
        """One request; what its header says of its length may be a lie."""
        self.unique += 1
        head = struct.pack("<IIQQIIII", 40 + len(body) if length is None else length, operation, self.unique, node, uid, gid, 1, 0)
        answer = self.raw(head + body, 0 if operation in (FORGET, BATCH_FORGET) else room)
        if not answer:
            return None, b""
        size, code, unique = struct.unpack_from("<IiQ", answer)
        assert unique == self.unique and size <= room
        return -code, answer[16:size]

    # ---- in the shape of the library's calls; each returns its result or raises OSError

    def must(self, operation, node, body=b"", **kwargs):
        code, answer = self.call(operation, node, body, **kwargs)
        if code is None:
            raise OSError(errno.EIO, "no answer")
        if code:
            raise OSError(code, os.strerror(code))
        return answer

    def lookup(self, node, entry):
        return struct.unpack_from("<Q", self.must(LOOKUP, node, name(entry)))[0]

    def walk(self, path, node=ROOT):
        """The node of a path, one name after the other."""
        for part in path.split("/"):
            node = self.lookup(node, part)
        return node

    def attributes(self, node):
        """st_mode, st_uid, st_gid, st_size as the guest is told them."""
        a = self.must(GETATTR, node, bytes(16))[16:]
        return struct.unpack_from("<I", a, 60)[0], *struct.unpack_from("<II", a, 68), struct.unpack_from("<Q", a, 8)[0]

    def open(self, node, flags, kind=OPEN, extra=0):
        return struct.unpack_from("<Q", self.must(kind, node, struct.pack("<II", flags, extra)))[0]

    def create(self, node, entry, mode=0o644, flags=os.O_RDWR | os.O_CREAT, umask=0, extra=0):
        answer = self.must(CREATE, node, struct.pack("<IIII", flags, mode, umask, extra) + name(entry))
        return struct.unpack_from("<Q", answer)[0], struct.unpack_from("<Q", answer, 128)[0]

    def mknod(self, node, entry, mode, device=0):
        return struct.unpack_from("<Q", self.must(MKNOD, node, struct.pack("<IIII", mode, device, 0, 0) + name(entry)))[0]

    def mkdir(self, node, entry, mode=0o755):
        return struct.unpack_from("<Q", self.must(MKDIR, node, struct.pack("<II", mode, 0) + name(entry)))[0]

    def symlink(self, node, entry, target):
        return struct.unpack_from("<Q", self.must(SYMLINK, node, name(entry) + name(target)))[0]

    def link(self, node, entry, old):
        return struct.unpack_from("<Q", self.must(LINK, node, struct.pack("<Q", old) + name(entry)))[0]

    def unlink(self, node, entry):
        self.must(UNLINK, node, name(entry))

    def rmdir(self, node, entry):
        self.must(RMDIR, node, name(entry))

    def rename(self, node, old, to, new, flags=None):
        if flags is None:
            self.must(RENAME, node, struct.pack("<Q", to) + name(old) + name(new))
        else:
            self.must(RENAME2, node, struct.pack("<QII", to, flags, 0) + name(old) + name(new))

    def read(self, node, handle, size=4096, offset=0, flags=0):
        return self.must(READ, node, struct.pack("<QQIIQII", handle, offset, size, 0, 0, flags, 0), room=size + 16)

    def write(self, node, handle, data, offset=0, how=0, flags=0):
        return struct.unpack_from("<I", self.must(WRITE, node, struct.pack("<QQIIQII", handle, offset, len(data), how, 0, flags, 0) + data))[0]

    def copy(self, node, handle, to, to_handle, size):
        body = struct.pack("<QQQQQQQ", handle, 0, to, to_handle, 0, size, 0)
        return struct.unpack_from("<I", self.must(COPY_FILE_RANGE, node, body))[0]

    def setattr(self, node, valid, handle=0, size=0, mode=0, uid=0, gid=0, time=0):
        body = struct.pack("<IIQQQQQQIIIIIIII", valid, 0, handle, size, 0, time, time, time, 0, 0, 0, mode, 0, uid, gid, 0)
        self.must(SETATTR, node, body)

    def release(self, node, handle, kind=RELEASE):
        self.must(kind, node, struct.pack("<QIIQ", handle, 0, 0, 0))
