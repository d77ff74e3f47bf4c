"""Runs inside a box, as its root: tries each way there is to make files in a writable mount that the host would run.

  protect_probe.py create FOLDER TARGET...    nothing of TARGET is there yet; each way in a folder of its own: FOLDER/WAY/
  protect_probe.py change FOLDER TARGET...    the host has made FOLDER/WAY/TARGET
  protect_probe.py race FOLDER SECONDS        threads that rename, create and write at once
Prints nothing of interest: what came of it is looked at on the host."""
import ctypes
import os
import sys
import threading
import time

EVIL = b"EVIL\n"
SYS_RENAMEAT2, AT_FDCWD, EXCHANGE = 316, -100, 2
libc = ctypes.CDLL(None, use_errno=True)


def exchange(a, b):
    if libc.syscall(SYS_RENAMEAT2, AT_FDCWD, a.encode(), AT_FDCWD, b.encode(), EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "exchange")


def parents(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)


def write(path, flags=os.O_CREAT | os.O_TRUNC, mode=0o755):
    fd = os.open(path, os.O_WRONLY | flags, mode)
    os.write(fd, EVIL)
    os.close(fd)


def fresh(folder):
    """An evil file of a harmless name."""
    path = f"{folder}/harmless"
    write(path)
    return path


def top(target):
    """The first folder of a path, or the file itself."""
    return target.split("/")[0]


def create_open(folder, target):
    parents(f"{folder}/{target}")
    write(f"{folder}/{target}")


def create_exclusive(folder, target):
    parents(f"{folder}/{target}")
    write(f"{folder}/{target}", os.O_CREAT | os.O_EXCL)


def create_rename(folder, target):
    parents(f"{folder}/{target}")
    os.rename(fresh(folder), f"{folder}/{target}")


def create_link(folder, target):
    parents(f"{folder}/{target}")
    os.link(fresh(folder), f"{folder}/{target}")


def create_symlink(folder, target):
    parents(f"{folder}/{target}")
    os.symlink(fresh(folder), f"{folder}/{target}")


def create_mknod(folder, target):
    parents(f"{folder}/{target}")
    os.mknod(f"{folder}/{target}", 0o100755)
    write(f"{folder}/{target}", 0)


def create_open_then_rename(folder, target):
    parents(f"{folder}/{target}")
    with open(f"{folder}/harmless", "wb") as f:
        os.rename(f"{folder}/harmless", f"{folder}/{target}")
        f.write(EVIL)


def build_aside(folder, target):
    """All of the target below another name; returns that name."""
    aside = f"{folder}/aside"
    parents(f"{aside}/{target}")
    rest = "/".join(target.split("/")[1:])
    if rest:
        parents(f"{folder}/built/{rest}")
        write(f"{folder}/built/{rest}")
    else:
        write(f"{folder}/built")
    return f"{folder}/built"


def create_folder_rename(folder, target):
    os.rename(build_aside(folder, target), f"{folder}/{top(target)}")


def create_folder_exchange(folder, target):
    built = build_aside(folder, target)
    if os.path.isdir(built):
        os.mkdir(f"{folder}/{top(target)}")
    else:
        open(f"{folder}/{top(target)}", "wb").close()
    exchange(built, f"{folder}/{top(target)}")


def create_folder_symlink(folder, target):
    os.symlink(build_aside(folder, target), f"{folder}/{top(target)}")


def create_inner_symlink(folder, target):
    """The last folder of the path is a link."""
    where = os.path.dirname(target)
    if not where:
        raise OSError("has no folder")
    os.mkdir(f"{folder}/elsewhere")
    write(f"{folder}/elsewhere/{os.path.basename(target)}")
    parents(f"{folder}/{where}")
    os.symlink(f"{folder}/elsewhere", f"{folder}/{where}")


def create_in_steps(folder, target):
    """Parts that are no prefix of any pattern, put together from below."""
    parts = target.split("/")
    write(f"{folder}/part{len(parts)}")
    for i in range(len(parts) - 1, 0, -1):
        os.mkdir(f"{folder}/part{i}")
        os.rename(f"{folder}/part{i + 1}", f"{folder}/part{i}/{parts[i]}")
    os.rename(f"{folder}/part1", f"{folder}/{parts[0]}")


def create_renamed_above(folder, target):
    os.mkdir(f"{folder}/x")
    create_folder_rename(f"{folder}/x", target)
    os.rename(f"{folder}/x/{top(target)}", f"{folder}/{top(target)}")


def change_write(folder, target):
    write(f"{folder}/{target}", os.O_TRUNC)


def change_append(folder, target):
    write(f"{folder}/{target}", os.O_APPEND)


def change_truncate(folder, target):
    os.truncate(f"{folder}/{target}", 0)


def change_remove(folder, target):
    os.unlink(f"{folder}/{target}")


def change_mode(folder, target):
    os.chmod(f"{folder}/{target}", 0o777)


def change_mode_by_descriptor(folder, target):
    fd = os.open(f"{folder}/{target}", os.O_RDONLY)
    os.fchmod(fd, 0o777)


def change_rename_over(folder, target):
    os.rename(fresh(folder), f"{folder}/{target}")


def change_exchange(folder, target):
    exchange(fresh(folder), f"{folder}/{target}")


def change_move_away(folder, target):
    os.rename(f"{folder}/{target}", f"{folder}/away")


def change_hard_link(folder, target):
    os.link(f"{folder}/{target}", f"{folder}/other")
    write(f"{folder}/other", os.O_TRUNC)


def change_by_link(folder, target):
    os.symlink(target, f"{folder}/name")
    write(f"{folder}/name", os.O_TRUNC)


def change_folder_away(folder, target):
    os.rename(f"{folder}/{top(target)}", f"{folder}/away")
    create_open(folder, target)


def change_folder_exchange(folder, target):
    exchange(build_aside(folder, target), f"{folder}/{top(target)}")


def change_by_proc(folder, target):
    fd = os.open(f"{folder}/{target}", os.O_RDONLY)
    write(f"/proc/self/fd/{fd}", os.O_TRUNC)


def ways(kind):
    return [(name, f) for name, f in sorted(globals().items()) if name.startswith(kind + "_") and callable(f)]


def attempt(kind, base, targets):
    for name, way in ways(kind):
        for target in targets:
            folder = f"{base}/{name}/at+{target.replace('/', '+')}"
            os.makedirs(folder, exist_ok=True)
            try:
                way(folder, target)
            except OSError:
                pass
    os.sync()


def race(folder, seconds):
    """Between what is looked at and what is done, names change: none of it may come to lie in .git or .claude."""
    over = time.monotonic() + seconds
    os.makedirs(f"{folder}/a/hooks", exist_ok=True)
    os.makedirs(f"{folder}/b", exist_ok=True)
    os.makedirs(f"{folder}/repo/.git", exist_ok=True)

    def repeat(*steps):
        while time.monotonic() < over:
            for step in steps:
                try:
                    step()
                except OSError:
                    pass

    def open_lock():
        """Holds the lock open while it becomes the config, and goes on writing."""
        fd = os.open(f"{folder}/repo/.git/config.lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, b"[user]\n\tname = x\n")
        os.rename(f"{folder}/repo/.git/config.lock", f"{folder}/repo/.git/config")
        os.pwrite(fd, b"[core]\n\tfsmonitor = EVIL\n", 0)
        os.close(fd)

    def write_lock():
        fd = os.open(f"{folder}/repo/.git/config.lock", os.O_WRONLY)
        os.pwrite(fd, b"[core]\n\tfsmonitor = EVIL\n", 0)
        os.close(fd)

    threads = [threading.Thread(target=repeat, args=steps) for steps in (
        (lambda: os.rename(f"{folder}/a", f"{folder}/.git"), lambda: os.rename(f"{folder}/.git", f"{folder}/a"),
         lambda: os.rename(f"{folder}/b", f"{folder}/.claude"), lambda: os.rename(f"{folder}/.claude", f"{folder}/b")),
        (lambda: write(f"{folder}/a/hooks/pre-commit"), lambda: write(f"{folder}/b/settings.json"),
         lambda: write(f"{folder}/.git/hooks/pre-commit"), lambda: write(f"{folder}/.claude/settings.json")),
        (lambda: os.unlink(f"{folder}/s"), lambda: write(f"{folder}/s"), lambda: os.rename(f"{folder}/s", f"{folder}/repo/.git/hooks")),
        (lambda: os.symlink(f"{folder}/a/hooks", f"{folder}/l"), lambda: os.rename(f"{folder}/l", f"{folder}/s")),
        (open_lock,), (write_lock,))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    os.sync()


if __name__ == "__main__":
    if sys.argv[1] == "race":
        race(sys.argv[2], float(sys.argv[3]))
    else:
        attempt(sys.argv[1], sys.argv[2], sys.argv[3:])
