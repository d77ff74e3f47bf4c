"""Hosts that are not as they should be: with a clock that jumps, and with a disk that is small and gets full. Neither touches the
real ones.

    clock = Clock(host)     clock.host: the same person with a nixbox to which the time is what clock.set(SECONDS) says: off by so much
    disk = Disk(path, uid, gid, lab)  a file system of some megabytes at a folder; disk.fill(), disk.empty()"""
import copy
import ctypes
import errno
import os
import shutil
import struct
import subprocess

import harness

BUILD = os.environ.get("NIXBOX_TEST_BUILD", f"{harness.ROOT}/build")
AT_FDCWD, CLONE_NEWNS = -100, 0x00020000
SETNS, OPEN_TREE, MOVE_MOUNT, OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 308, 428, 429, 1, 4


class Clock:
    """A copy of what is installed, with the program of tests/clock in the place of nixbox. The gateway and what runs in a jail from
    its first moment keep the real time."""

    def __init__(self, host):
        self.folder = host.folder("clock")
        shutil.copytree(f"{host.base}/i/usr/local", f"{self.folder}/local", symlinks=True)
        shutil.copy(f"{BUILD}/tests/clock/nixbox-clock", f"{self.folder}/local/bin/nixbox")
        self.path = f"{self.folder}/local/bin/clock"
        harness.write(self.path, struct.pack("<q", 0))
        self.host = copy.copy(host)
        self.host.bin = f"{self.folder}/local/bin/nixbox"

    def set(self, seconds):
        with open(self.path, "r+b") as f:
            f.write(struct.pack("<q", int(seconds * 10**9)))

    def close(self):
        shutil.rmtree(self.folder)


def call(number, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(number, *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Disk:
    """The same file system for the tests and in the mount namespace of the laboratory's host."""

    def __init__(self, path, uid, gid, lab, size="48M"):
        self.path, self.lab, self.filler = path, lab, f"{path}/.fill"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755,uid={uid},gid={gid}", "disk", path], check=True)
        tree = call(OPEN_TREE, AT_FDCWD, path.encode(), OPEN_TREE_CLONE)
        space = os.open(f"/proc/{lab.host}/ns/mnt", os.O_RDONLY)
        pid = os.fork()
        if pid == 0:
            try:
                call(SETNS, space, CLONE_NEWNS)
                call(MOVE_MOUNT, tree, b"", AT_FDCWD, path.encode(), MOVE_MOUNT_F_EMPTY_PATH)
                os._exit(0)
            finally:
                os._exit(1)
        done = os.waitpid(pid, 0)[1]
        os.close(tree)
        os.close(space)
        if done != 0:
            self.close()
            raise RuntimeError(f"cannot mount {path} at the laboratory's host")

    def fill(self, left=0):
        """Leaves so many bytes."""
        with open(self.filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(1 << 16))
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
            f.truncate(max(0, f.tell() - left))

    def empty(self):
        if os.path.exists(self.filler):
            os.unlink(self.filler)

    def close(self):
        subprocess.run(["nsenter", f"--mount=/proc/{self.lab.host}/ns/mnt", "umount", "-l", self.path], check=False)
        subprocess.run(["umount", "-l", self.path], check=True)
