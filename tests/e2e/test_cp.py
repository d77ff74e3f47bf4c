"""nixbox cp: names by docker cp's rules, both ways, and a guest that tries to write elsewhere."""
import io
import os
import subprocess
import tarfile

import harness
import pytest


def cp(box, *args, ok=True, **kwargs):
    done = box.nixbox("cp", *args, **kwargs)
    if ok:
        assert done.returncode == 0, box.explain(done)
    return done


@pytest.fixture
def here(box, host):
    """A folder of the caller that is in no mount, and an empty one inside."""
    box.sh("rm -rf ~/t && mkdir ~/t")
    return host.folder("cp")


def test_a_file_both_ways(box, host, here):
    data = os.urandom(3 << 20)
    harness.write(f"{here}/a b", data, host, 0o750)
    cp(box, f"{here}/a b", ":t/new")
    cp(box, f"{here}/a b", f"{box.name}:t")
    cp(box, f"{here}/a b", f":{host.home}/t/")
    assert box.sh("cmp ~/t/new ~/t/'a b' && stat -c '%a %U' ~/t/new") == f"750 {host.user}"
    cp(box, ":t/new", f"{here}/back")
    cp(box, ":t/a b", here + "/")
    for name in ("back", "a b"):
        with open(f"{here}/{name}", "rb") as f:
            assert f.read() == data
        st = os.stat(f"{here}/{name}")
        assert (st.st_uid, st.st_mode & 0o777) == (host.uid, 0o750)
    box.sh("echo more >~/t/new")
    cp(box, ":t/new", f"{here}/back")
    with open(f"{here}/back") as f:
        assert f.read() == "more\n"


def test_folders_both_ways(box, host, here):
    tree = harness.make_folder(f"{here}/tree", host.uid, host.gid, 0o755)
    harness.make_folder(f"{tree}/sub", host.uid, host.gid, 0o755)
    harness.write(f"{tree}/sub/f", "text", host)
    os.symlink("sub/f", f"{tree}/link")
    cp(box, tree, ":t/new")  # becomes it
    cp(box, tree, ":t")  # goes into it
    cp(box, f"{tree}/.", ":t")  # its contents go into it
    assert box.sh("cd ~/t; cat new/sub/f tree/sub/f sub/f; readlink link tree/link") == "texttexttextsub/f\nsub/f"
    for source, to, found in ((":t/tree", "out", "out/sub/f"), (":t/tree", "out", "out/tree/sub/f"),
                              (":t/tree/.", "out2", "out2/sub/f"), (":t/tree/", ".", "tree/sub/f")):
        cp(box, "-f", f"{box.folder}/nixbox.yaml", source, to, cwd=here)
        with open(f"{here}/{found}") as f:
            assert f.read() == "text"
    assert os.readlink(f"{here}/out/link") == "sub/f"


def test_streams(box, host, here):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("x/y")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    cp(box, "-", ":t", input=buffer.getvalue())
    assert box.sh("cat ~/t/x/y") == "abc"
    done = cp(box, ":t/x", "-")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert tar.extractfile("./x/y").read() == b"abc"


def test_errors(box, here):
    for args, word in (([f"{here}/none", ":t"], b"none"), ([":t/none", here], b"none"), ([here, here], b"box"), ([":a", ":b"], b"box"),
                       ([here], b"source"), ([f"{box.folder}/nixbox.yaml", ":t/none/x"], b"none"),
                       ([here, ":/etc/passwd"], b"file"), ([":/etc/passwd", f"{here}/none/"], b"none"),
                       ([f"{box.folder}/nixbox.yaml", ":t/none/"], b"none"), (["no-such-box:x", here], b"no-such-box")):
        done = cp(box, *args, ok=False)
        assert done.returncode == 125 and word in done.stderr and done.stdout == b"", (args, done)
    assert os.listdir(here) == []


def test_escapes_in_names_and_words_are_neutral(box, host, here):
    done = cp(box, ":t/\x1b]52;c;x\x07", here, ok=False)
    assert done.returncode == 125 and b"\x1b" not in done.stderr


FAKE_TAR = r"""
import io, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.GNU_FORMAT)
def add(name, data=None, **attributes):
    info = tarfile.TarInfo(name)
    info.type = attributes.pop("type", tarfile.REGTYPE)
    for key, value in attributes.items():
        setattr(info, key, value)
    info.size = len(data or b"")
    out.addfile(info, io.BytesIO(data or b""))
add("./d", type=tarfile.DIRTYPE, mode=0o755)
add("../escaped", b"x")
add("/tmp/escaped", b"x")
add("./d/../../escaped", b"x")
add("./d/victim", type=tarfile.SYMTYPE, linkname="VICTIM")
add("./d/victim/escaped", b"x")
add("./d/victim/kept", b"overwritten")
add("./d/hard", type=tarfile.LNKTYPE, linkname="VICTIM/kept")
add("./d/suid", b"x", mode=0o6755, uid=0, gid=0)
add("./d/dev", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
add("./d/fifo", type=tarfile.FIFOTYPE)
add("./d/fine", b"fine")
out.close()
"""


def test_a_hostile_tar_in_the_guest(box, host, here):
    victim = harness.make_folder(f"{here}/victim", host.uid, host.gid)
    kept = harness.write(f"{victim}/kept", "mine", host)
    box.run("cat >/tmp/tar.py", input=FAKE_TAR.replace("VICTIM", victim).encode(), ok=True)
    box.sh("printf '#!/bin/sh\\nexec python3 /tmp/tar.py\\n' | sudo tee /usr/local/bin/tar >/dev/null; sudo chmod 755 /usr/local/bin/tar")
    try:
        cp(box, ":d", f"{here}/out")
    finally:
        box.sh("sudo rm /usr/local/bin/tar")
    with open(kept) as f:
        assert f.read() == "mine"
    assert sorted(os.listdir(here)) == ["out", "victim"] and os.listdir(victim) == ["kept"]
    assert sorted(os.listdir(f"{here}/out")) == ["fine", "suid", "victim"]
    st = os.lstat(f"{here}/out/suid")
    assert (st.st_mode & 0o7777, st.st_uid) == (0o755, host.uid)
    assert not os.path.exists("/tmp/escaped")


def test_a_large_tree(box, host, here):
    tree = harness.make_folder(f"{here}/tree", host.uid, host.gid)
    for i in range(300):
        harness.write(f"{tree}/{i}", str(i) * i, host)
    cp(box, tree, ":t")
    cp(box, ":t/tree", f"{here}/back")
    assert subprocess.run(["diff", "-r", tree, f"{here}/back"]).returncode == 0
