"""What a box that can write the config's folder can do while its owner saves a rule there: not choose another file for it."""
import ctypes
import os
import threading
import time

import harness

RENAME_EXCHANGE, SYS_RENAMEAT2, AT_FDCWD = 2, 316, -100
SECONDS = 15
TEXT = "network:\n  mode: filtered\n  allow:\n    - a.example\n"


def test_a_folder_that_becomes_a_link_while_a_rule_is_saved(host):
    """The config is a link into a folder beside it, which changes places with a link to a folder outside, again and again."""
    project, outside = host.folder("race"), host.folder("outside")
    inner = harness.make_folder(f"{project}/sub", host.uid, host.gid)
    config = harness.write(f"{inner}/keys", TEXT, host)
    harness.write(f"{outside}/keys", "untouched\n", host)
    os.symlink("sub/keys", f"{project}/nixbox.yaml")
    os.symlink(outside, f"{project}/other")
    done = host.nixbox("allow", "--save", "control.example", cwd=project)
    assert done.returncode == 0, done.stderr
    with open(config, encoding="ascii") as f:
        assert "control.example" in f.read()
    libc, over = ctypes.CDLL(None), threading.Event()

    def exchange():
        while not over.wait(0.0004):
            libc.syscall(SYS_RENAMEAT2, AT_FDCWD, f"{project}/sub".encode(), AT_FDCWD, f"{project}/other".encode(), RENAME_EXCHANGE)

    guest = threading.Thread(target=exchange)
    guest.start()
    end, n = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        host.nixbox("allow", "--save", f"n{n}.example", cwd=project)
        n += 1
    over.set()
    guest.join()
    with open(f"{outside}/keys", encoding="ascii") as f:
        assert f.read() == "untouched\n", n
    assert os.listdir(outside) == ["keys"]
