"""Mounts on a real box: what the guest, as root and hostile, can and cannot do to the host's folders. The verdict is always
read on the host."""
import json
import os
import stat
import subprocess

import pytest

import harness

FILES, FILES_LIMIT = 200_000, 20_000

CONFIG = harness.DEFAULT_CONFIG + """\
  - {source: ./work/one.txt, target: /data/one.txt}
  - {source: ./outer, target: /data/outer, write: true}
  - {source: ./inner, target: /data/outer/inner}
"""


@pytest.fixture
def box(shared_box):
    box, host = shared_box, shared_box.host
    if not box.supervisor():
        for name in ("outer/inner", "inner"):
            harness.make_folder(f"{box.folder}/{name}", host.uid, host.gid, 0o755)
            os.chown(f"{box.folder}/{name.split('/')[0]}", host.uid, host.gid)
        harness.write(f"{box.folder}/inner/here", "inner\n", host)
        harness.write(f"{box.work}/one.txt", "one\n", host)
        harness.write(f"{box.ro}/kept", "kept\n", host)
        box.up()
    return box


def as_root(box, command, **kwargs):
    return box.run(["sudo", "-n", "sh", "-c", command], **kwargs)


def everything_below(folder):
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            yield os.path.join(where, name)


# ------------------------------------------------------------------------------------------------- read-only and owners
def test_read_only_is_kept_by_the_host(box):
    before = os.stat(f"{box.ro}/kept")
    tries = ["touch {0}/new", "echo x >> {0}/kept", "rm {0}/kept", "mv {0}/kept {0}/gone", "chmod 777 {0}/kept", "ln {0}/kept {0}/l",
             "mkdir {0}/d", "ln -s x {0}/s", "touch -d @1 {0}/kept", "chown 1234 {0}/kept"]
    for attempt in tries:
        assert as_root(box, attempt.format(box.ro)).returncode != 0, attempt
        assert as_root(box, attempt.format(box.work + "/../ro")).returncode != 0, attempt
    # the flag inside is only manners: without it the host still says no
    box.run(["sudo", "-n", "mount", "-o", "remount,bind,rw", box.ro], ok=True)
    for attempt in tries:
        done = as_root(box, attempt.format(box.ro))
        assert done.returncode != 0 and b"ead-only" in done.stderr, attempt
    assert os.listdir(box.ro) == ["kept"]
    after = os.stat(f"{box.ro}/kept")
    assert (after.st_mode, after.st_mtime_ns, after.st_uid, after.st_size) == (before.st_mode, before.st_mtime_ns, before.st_uid, 5)
    as_root(box, f"echo control > {box.work}/control", ok=True)
    assert open(f"{box.work}/control").read() == "control\n"


def test_files_belong_to_the_caller_on_both_sides(box):
    host = box.host
    harness.write(f"{box.work}/from-host", "x", host, 0o600)
    owner = box.sh(f"stat -c %u:%g {box.work}/from-host")
    assert owner == f"{host.uid}:{host.gid}"
    box.sh(f"echo y >> {box.work}/from-host && mkdir {box.work}/by-user")
    as_root(box, f"cd {box.work}; touch by-root; mkdir -p d/e; mkfifo fifo; ln -s x link; chmod 777 d; "
            "setpriv --reuid 4321 --regid 4321 --clear-groups touch d/by-other; chown 77:88 by-root", ok=True)
    for name in ("from-host", "by-user", "by-root", "d", "d/e", "d/by-other", "fifo", "link"):
        st = os.lstat(f"{box.work}/{name}")
        assert (st.st_uid, st.st_gid) == (host.uid, host.gid), name


@pytest.mark.person("root")
def test_real_root_uses_files_of_other_owners(box):
    path = harness.write(f"{box.work}/other", "other\n", mode=0o600)
    os.chown(path, 12345, 12345)
    folder = harness.make_folder(f"{box.work}/other.d", 12345, 12345, 0o700)
    assert box.sh(f"cat {path}") == "other"
    box.sh(f"echo more >> {path}; echo new > {folder}/new")
    assert open(path).read() == "other\nmore\n" and os.stat(path).st_uid == 12345
    assert os.stat(f"{folder}/new").st_uid == 0


@pytest.mark.person("ordinary")
def test_what_the_caller_may_not_read_the_box_may_not(box):
    path = harness.write(f"{box.work}/roots", "secret\n", mode=0o600)
    os.chown(path, 0, 0)
    assert as_root(box, f"cat {path}; echo x > {path}; chmod 666 {path}; chown {box.host.uid} {path}").returncode != 0
    st = os.stat(path)
    assert (st.st_uid, stat.S_IMODE(st.st_mode), st.st_size) == (0, 0o600, 7)


# ------------------------------------------------------------------------------------------------- shapes of mounts
def test_single_file(box):
    assert box.sh("cat /data/one.txt; ls /data") == "one\none.txt\nouter"
    with open(f"{box.work}/one.txt", "a") as f:
        f.write("more\n")
    assert harness.wait_for(lambda: box.sh("cat /data/one.txt") == "one\nmore", 30, 0.5)
    assert as_root(box, "echo x >> /data/one.txt").returncode != 0
    assert open(f"{box.work}/one.txt").read() == "one\nmore\n"


def test_target_inside_another_mount(box):
    assert box.sh("cat /data/outer/inner/here") == "inner"
    box.sh("echo o > /data/outer/file")
    assert as_root(box, "echo x > /data/outer/inner/new").returncode != 0
    assert os.listdir(f"{box.folder}/inner") == ["here"] and os.listdir(f"{box.folder}/outer/inner") == []
    assert open(f"{box.folder}/outer/file").read() == "o\n"


def test_file_systems_that_the_host_has_below_a_source(make_box):
    box = make_box(up=False)
    if os.getuid() != 0:
        pytest.skip("expected: only root can mount")
    places = [f"{box.work}/below", f"{box.ro}/below", f"{box.work}/frozen"]
    for place in places:
        harness.make_folder(place, box.host.uid, box.host.gid)
    try:
        for place in places:
            options = f"uid={box.host.uid},gid={box.host.gid}" + (",ro" if "frozen" in place else "")
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "test", place], check=True)
        box.up()
        box.sh(f"echo x > {places[0]}/new")
        assert open(f"{places[0]}/new").read() == "x\n"
        # read-only mounts, and what is read-only on the host, stay so below as well
        assert as_root(box, f"echo x > {places[1]}/new").returncode != 0 and os.listdir(places[1]) == []
        assert as_root(box, f"mount -o remount,bind,rw {places[2]}; echo x > {places[2]}/new").returncode != 0
        # one that the host mounts later does not come in
        late = harness.make_folder(f"{box.ro}/late", box.host.uid, box.host.gid)
        subprocess.run(["mount", "-t", "tmpfs", "test", late], check=True)
        places.append(late)
        harness.write(f"{late}/new", "x")
        assert box.sh(f"ls {late}") == ""
    finally:
        for place in places:
            subprocess.run(["umount", place], stderr=subprocess.DEVNULL)


# ------------------------------------------------------------------------------------------------- while the box runs
def test_mount_and_unmount_while_the_box_runs(box):
    host = box.host
    folder = host.folder("live")
    harness.write(f"{folder}/file", "live\n", host)
    assert box.run(f"ls {folder}").returncode != 0
    done = box.nixbox("mount", folder)
    assert done.returncode == 0, box.explain(done)
    assert box.sh(f"cat {folder}/file") == "live"
    assert as_root(box, f"touch {folder}/x").returncode != 0
    assert box.nixbox("unmount", folder).returncode == 0
    assert box.run(f"cat {folder}/file").returncode != 0
    done = box.nixbox("mount", "--json", f"{folder}:/live:rw")
    assert done.returncode == 0 and json.loads(done.stdout)["target"] == "/live", box.explain(done)
    box.sh("echo w > /live/w")
    assert open(f"{folder}/w").read() == "w\n"
    assert box.nixbox("mount", f"{folder}:/live").returncode == 125  # one target, one mount
    assert {e["target"] for e in box.events("mount") if e.get("action") == "unmount"} == {folder}
    assert any(m["target"] == "/live" for m in box.status()["mounts"])
    assert box.nixbox("unmount", "/live").returncode == 0
    assert box.nixbox("unmount", "/live").returncode == 125


def test_a_mount_in_use_stays(make_box):
    box = make_box()
    folder = box.host.folder("used")
    assert box.nixbox("mount", f"{folder}:/used:rw").returncode == 0
    holder = box.host.popen([box.host.bin, "run", "cd /used; echo there; exec sleep 1000"], cwd=box.folder)
    assert holder.stdout.readline() == b"there\n"

    def named():
        """It is refused each time; who is in the way is a shell by name until it is sleep."""
        done = box.nixbox("unmount", "/used")
        assert done.returncode == 125 and b"--force" in done.stderr, box.explain(done)
        return b"sleep" in done.stderr

    assert harness.wait_for(named, 30, 0.5)
    box.sh("echo still > /used/file")
    assert open(f"{folder}/file").read() == "still\n"
    holder.kill()
    holder.communicate()
    assert harness.wait_for(lambda: box.nixbox("unmount", "/used").returncode == 0, 60, 0.5)
    assert box.nixbox("mount", f"{folder}:/used:rw").returncode == 0
    holder = box.host.popen([box.host.bin, "run", "cd /used; echo there; exec sleep 1000"], cwd=box.folder)
    assert holder.stdout.readline() == b"there\n"
    assert box.nixbox("unmount", "--force", "/used").returncode == 0
    holder.communicate(timeout=60)
    assert harness.wait_for(lambda: not box.supervisor(), 60)


def test_unmount_with_file_systems_below(box):
    if os.getuid() != 0:
        pytest.skip("expected: only root can mount")
    folder = box.host.folder("tree")
    below = harness.make_folder(f"{folder}/below", box.host.uid, box.host.gid)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"uid={box.host.uid}", "test", below], check=True)
    try:
        assert box.nixbox("mount", f"{folder}:/tree:rw").returncode == 0
        box.sh("echo x > /tree/below/x; echo y > /tree/y")
        holder = box.host.popen([box.host.bin, "run", "cd /tree/below; echo there; exec sleep 1000"], cwd=box.folder)
        assert holder.stdout.readline() == b"there\n"
        assert box.nixbox("unmount", "/tree").returncode == 125
        box.sh("echo z > /tree/below/z && cat /tree/y")
        assert open(f"{below}/z").read() == "z\n"
        holder.kill()
        holder.communicate()
        assert harness.wait_for(lambda: box.nixbox("unmount", "/tree").returncode == 0, 60, 0.5)
    finally:
        subprocess.run(["umount", below], check=True)


def test_nixbox_own_folders_are_never_mounted(box):
    for folder in (box.state, box.host.state, box.host.runtime, box.host.data, box.host.own):
        done = box.nixbox("mount", f"{folder}:/own")
        assert done.returncode == 125 and b"own" in done.stderr, box.explain(done)


# ------------------------------------------------------------------------------------------------- hostile guests
MAKE = """
import os, socket, stat, sys
os.chdir(sys.argv[1]); os.umask(0)
made = []
def attempt(name, f):
    try: f(); made.append(name)
    except OSError as e: pass
def create(name, mode): os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
create("plain", 0o755); os.mkdir("dir")
attempt("chmod", lambda: os.chmod("plain", 0o4755))
attempt("chmod-g", lambda: os.chmod("plain", 0o2755))
attempt("chmod-dir", lambda: os.chmod("dir", 0o6777))
attempt("create", lambda: create("suid-create", 0o4755))
attempt("create-g", lambda: create("sgid-create", 0o2755))
attempt("mknod-suid", lambda: os.mknod("suid-mknod", stat.S_IFREG | 0o6755))
attempt("char", lambda: os.mknod("char", stat.S_IFCHR | 0o666, os.makedev(1, 3)))
attempt("block", lambda: os.mknod("block", stat.S_IFBLK | 0o666, os.makedev(254, 0)))
attempt("whiteout", lambda: os.mknod("whiteout", stat.S_IFCHR, 0))
attempt("capability", lambda: os.setxattr("plain", "security.capability", b"\\1\\0\\0\\2\\0\\4" + b"\\0" * 14))
attempt("xattr", lambda: os.setxattr("plain", "user.x", b"x"))
attempt("rename", lambda: os.rename("/tmp/suid", "moved"))
print(" ".join(made))
"""


def test_no_set_id_bit_no_device_no_attribute_reaches_the_host(box):
    os.mkdir(f"{box.work}/made")
    os.chown(f"{box.work}/made", box.host.uid, box.host.gid)
    as_root(box, "cp /bin/true /tmp/suid; chmod 6755 /tmp/suid; mkdir -p /tmp/control", ok=True)
    assert box.run(["sudo", "-n", "python3", "-c", MAKE, f"{box.work}/made"], ok=True).stdout == b"\n"
    as_root(box, f"cp -a /tmp/suid {box.work}/made/copied; tar -C /tmp -cf - suid | tar -C {box.work}/made -xpf -; "
            f"install -m 4755 /bin/true {box.work}/made/installed")
    seen = list(everything_below(f"{box.work}/made"))
    assert f"{box.work}/made/plain" in seen
    for path in seen:
        st = os.lstat(path)
        assert not st.st_mode & (stat.S_ISUID | stat.S_ISGID), f"{path} is {st.st_mode:o}"
        assert not stat.S_ISCHR(st.st_mode) and not stat.S_ISBLK(st.st_mode), path
        assert os.listxattr(path, follow_symlinks=False) == [], path
    control = box.run(["sudo", "-n", "python3", "-c", MAKE, "/tmp/control"], ok=True).stdout.decode().split()
    assert {"chmod", "chmod-g", "create", "mknod-suid", "char", "capability"} <= set(control)


def test_writing_clears_a_set_id_bit_of_the_host(box):
    path = harness.write(f"{box.work}/hosts-suid", b"#!/bin/sh\n", box.host)
    os.chmod(path, 0o6755)
    as_root(box, f"echo evil >> {path}")
    assert not os.stat(path).st_mode & (stat.S_ISUID | stat.S_ISGID)


def test_links_lead_nowhere_on_the_host(box):
    host = box.host
    secret = harness.write(f"{host.folder('secret')}/secret", "host secret\n", host)
    up = "/".join([".."] * 30)
    as_root(box, f"cd {box.work}; ln -s {secret} abs; ln -s {up}{secret} rel; ln -s {os.path.dirname(secret)} dir; "
            f"ln -s /proc/self/root{secret} proc; ln -s {box.ro}/kept to-ro; ln -s ../ro/kept to-ro-rel", ok=True)
    for name in ("abs", "rel", "dir/secret", "proc", f"{up}{secret}"):
        done = as_root(box, f"cat {box.work}/{name}; echo evil > {box.work}/{name}")
        assert b"host secret" not in done.stdout, name
    for name in ("to-ro", "to-ro-rel"):
        assert box.sh(f"cat {box.work}/{name}") == "kept"
        assert as_root(box, f"echo evil > {box.work}/{name}").returncode != 0
    assert as_root(box, f"ln {box.ro}/kept {box.work}/hard").returncode != 0
    assert open(secret).read() == "host secret\n" and open(f"{box.ro}/kept").read() == "kept\n"
    assert as_root(box, f"cd {box.work} && echo a > a && ln a b && echo b >> b && cat a", ok=True).stdout == b"a\nb\n"


RACE = """
import os, sys, threading, time
work, outside = sys.argv[1:3]
os.chdir(work); os.makedirs("race/real", exist_ok=True); os.chdir("race")
end, hits = time.monotonic() + 6, 0
def swap():
    while time.monotonic() < end:
        try:
            os.rename("real", "away"); os.symlink(outside, "real"); os.unlink("real"); os.rename("away", "real")
        except OSError: pass
thread = threading.Thread(target=swap); thread.start()
while time.monotonic() < end:
    for name in ("real/secret", "real/../real/secret"):
        try:
            with open(name) as f: hits += "host secret" in f.read()
        except OSError: pass
        try:
            with open("real/written", "w") as f: f.write("evil")
        except OSError: pass
thread.join(); print(hits)
"""


def test_rename_race_across_the_edge(box):
    outside = box.host.folder("race")
    harness.write(f"{outside}/secret", "host secret\n", box.host)
    assert box.run(["sudo", "-n", "python3", "-c", RACE, box.work, outside], ok=True).stdout.strip() == b"0"
    assert os.listdir(outside) == ["secret"]


# ------------------------------------------------------------------------------------------------- many files
@pytest.mark.timeout(1500)
@pytest.mark.person("ordinary")  # who cannot raise the limit
def test_more_files_than_descriptors(make_box, host):
    box = make_box(up=False)
    for i in range(FILES // 1000):
        folder = f"{box.work}/{i}"
        os.mkdir(folder)
        for k in range(1000):
            os.close(os.open(f"{folder}/{k}", os.O_CREAT | os.O_WRONLY, 0o644))
    subprocess.run(["chown", "-R", f"{host.uid}:{host.gid}", box.work], check=True)
    done = host.command(["prlimit", f"--nofile={FILES_LIMIT}:{FILES_LIMIT}", host.bin, "up", "--accept"], cwd=box.folder)
    assert done.returncode == 0, box.explain(done)
    with open(f"/proc/{box.child('virtiofsd')}/limits") as f:
        assert any(line.split()[3:5] == [str(FILES_LIMIT)] * 2 for line in f if line.startswith("Max open files"))
    done = box.run(f"cd {box.work}; find . -type f -size 0 | wc -l; echo x > created && cat created", timeout=1200)
    assert done.stdout == f"{FILES}\nx\n".encode() and done.stderr == b"", box.explain(done)
