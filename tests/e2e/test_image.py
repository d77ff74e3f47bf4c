"""nixbox image: what is built starts, is the same for everyone, is shared by builders, and failures leave nothing behind."""
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from harness import make_folder, subtree, wait_for, write

CONFIG = "name: images\nnetwork: {mode: off}\n"
EXTRA = "name: images\nimage: {packages: [tree]}\nnetwork: {mode: off}\n"
BUILD = 1200  # seconds that a build may take on a busy machine


@pytest.fixture
def folder(host):
    path = host.folder("img")
    write(f"{path}/nixbox.yaml", CONFIG, host)
    return path


@pytest.fixture
def built(host, folder):
    """Paths and digests of what a box of this person boots from."""
    done = host.nixbox("image", "build", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_the_default_image_needs_no_config(host, built):
    folder = host.folder("none")
    done = host.nixbox("image", "build", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["runtime_digest"] == built["runtime_digest"]
    assert os.listdir(folder) == []


def fresh(host):
    """Empty data and cache folders."""
    base = host.folder("fresh")
    return {"XDG_DATA_HOME": f"{base}/data", "XDG_CACHE_HOME": f"{base}/cache"}


def copied(host):
    """Folders that hold the runtime and kernel, and the downloaded packages, but no guest image."""
    env = fresh(host)
    data, cache = f"{env['XDG_DATA_HOME']}/nixbox", f"{env['XDG_CACHE_HOME']}/nixbox"
    for part in ("runtime", "kernel", "refs"):
        shutil.copytree(f"{host.data}/nixbox/{part}", f"{data}/{part}", symlinks=True)
    for name in os.listdir(f"{data}/refs"):
        if name.startswith("image-"):
            os.unlink(f"{data}/refs/{name}")
    if os.path.isdir(f"{host.cache}/nixbox/blobs"):
        shutil.copytree(f"{host.cache}/nixbox/blobs", f"{cache}/blobs")
    for top in (env["XDG_DATA_HOME"], env["XDG_CACHE_HOME"]):
        os.makedirs(top, exist_ok=True)
        subprocess.run(["chown", "-R", f"{host.uid}:{host.gid}", top], check=True)
        os.chmod(top, 0o700)
    return env


def unfinished(env):
    """Files of builds that did not end, and images."""
    top = f"{env['XDG_DATA_HOME']}/nixbox"
    return [f"{part}/{name}" for part in ("tmp", "images") if os.path.isdir(f"{top}/{part}") for name in os.listdir(f"{top}/{part}")]


def host_packages():
    """What a careless builder would change on the host."""
    return {path: os.stat(path).st_mtime_ns for top in ("/var/lib/apt", "/var/lib/dpkg", "/var/cache/apt", "/etc/apt")
            for path, _, _ in os.walk(top)}


# ------------------------------------------------------------------------------------------------------------ what is there
def test_what_exists_is_found_at_once(host, folder, built):
    start = time.monotonic()
    again = host.nixbox("image", "build", "--json", cwd=folder)
    assert time.monotonic() - start < 10  # no build is that quick, but a busy machine may take seconds to start a process
    assert json.loads(again.stdout) == built and again.stderr == b""


def test_programs_of_the_runtime_start(host, built):
    for argv, expected in ((["/usr/bin/qemu-system-x86_64", "--version"], "QEMU emulator version 1"),
                           (["/usr/libexec/virtiofsd", "--version"], "virtiofsd 1."),
                           (["/usr/bin/mkfs.erofs", "--version"], "mkfs.erofs"),
                           (["/usr/sbin/mke2fs", "-V"], "mke2fs 1.")):
        done = host.command(["unshare", "--user", "--map-root-user", "chroot", built["runtime"], *argv])
        assert done.returncode == 0 and expected in (done.stdout + done.stderr).decode(), done


def test_runtime_is_sealed(host, built):
    """Nothing can be changed by accident, every user id of a jail can read it, and the listing beside it is true."""
    tree = built["runtime"]
    with open(tree + ".manifest") as f:
        listed = {line.split(" ")[-1].strip(): line.split(" ") for line in f}
    found = set()
    for folder, folders, files in os.walk(tree):
        for name in folders + files:
            path = os.path.join(folder, name)
            inside = os.path.relpath(path, tree)
            found.add(inside)
            kind, mode, what, _ = (x.strip() for x in listed[inside])
            if kind == "link":
                assert os.readlink(path) == what
            else:
                assert oct(os.stat(path).st_mode & 0o7777) == oct(int(mode, 8))
    assert found == set(listed)
    sums = subprocess.run(["sha256sum", "usr/bin/qemu-system-x86_64"], cwd=tree, stdout=subprocess.PIPE).stdout.decode()
    assert sums.split()[0] == listed["usr/bin/qemu-system-x86_64"][2]
    assert built["runtime_digest"].endswith(subprocess.run(["sha256sum", tree + ".manifest"],
                                                           stdout=subprocess.PIPE).stdout.decode().split()[0])


def test_image_has_the_name_of_its_content(built):
    sums = subprocess.run(["sha256sum", built["rootfs"]], stdout=subprocess.PIPE).stdout.decode()
    assert built["digest"] == "sha256:" + sums.split()[0]
    assert os.path.basename(built["rootfs"]) == sums.split()[0] + ".erofs"


def test_ls(host, folder, built):
    images = json.loads(host.nixbox("image", "ls", "--json").stdout)
    mine = next(i for i in images if i["digest"] == built["digest"])
    assert mine["path"] == built["rootfs"] and mine["base"] == "debian-13"
    assert {"git", "curl", "ripgrep", "python3", "sudo", "ca-certificates"} <= set(mine["packages"])
    assert built["digest"][:19].encode() in host.nixbox("image", "ls").stdout


# ------------------------------------------------------------------------------------------------------------ mistakes
@pytest.mark.parametrize("args, said", [
    (["image"], "needs to be told"), (["image", "nonsense"], "no 'image nonsense'"), (["image", "rm"], "needs the image"),
    (["image", "rm", "ffff0000ffff"], "no image 'ffff0000ffff'"), (["image", "build", "x"], "takes no 'x'"),
    (["image", "lock", "x"], "takes no 'x'"), (["image", "update"], "there is no nixbox.yaml"),
    (["image", "verify", "x"], "takes no 'x'"),
    (["image", "sbom", "x"], "takes no 'x'"), (["image", "ls", "x"], "takes no 'x'"),
])
def test_usage(host, args, said):
    done = host.nixbox(*args)
    assert done.returncode == 125 and said in done.stderr.decode() and done.stdout == b""
    assert done.stderr.count(b"\n") == 2  # what failed, and the way out


@pytest.mark.parametrize("image, said", [
    ("{base: debian-1}", "debian-1"), ("{packages: [\"--x\"]}", "--x"),
    ("{packages: [\"a b\"]}", "a b"),
])
def test_image_that_cannot_be_built(host, image, said):
    path = host.folder("bad")
    write(f"{path}/nixbox.yaml", f"name: bad\nimage: {image}\nnetwork: {{mode: off}}\n", host)
    env = fresh(host)
    done = host.nixbox("image", "build", cwd=path, env=env)
    assert done.returncode == 125 and said in done.stderr.decode()
    assert not unfinished(env)


@pytest.mark.parametrize("mirror, said", [
    ("http://127.0.0.1:9/debian http://127.0.0.1:9/security", "Could not connect"), ("nonsense", "not a mirror's address"),
    ("http://127.0.0.1:9/ [trusted=yes]", "not a mirror's address"),
])
def test_mirror_that_is_not_there(host, folder, mirror, said):
    env = {**fresh(host), "NIXBOX_MIRROR": mirror}
    done = host.nixbox("image", "build", cwd=folder, env=env)
    assert done.returncode == 125 and said in done.stderr.decode()
    assert "NIXBOX_MIRROR" in done.stderr.decode() or "set it to a URL" in done.stderr.decode()
    assert not unfinished(env)


def as_person(host, before):
    """A shell, root's to begin with, that runs `before` in a mount namespace of its own and then its arguments as the
    person."""
    drop = f"setpriv --reuid {host.uid} --regid {host.gid} --clear-groups" if host.uid else ""
    return ["unshare", "--mount", "sh", "-ec", f'{before}\nexec {drop} "$@"', "sh"]


def run_as_root(argv, host, env, cwd):
    return subprocess.run(argv, env={**host.env, **env}, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=BUILD)


@pytest.mark.skipif(os.getuid() != 0, reason="expected: makes a small file system, which takes root")
def test_full_disk(host, folder):
    env = fresh(host)
    top = make_folder(env["XDG_DATA_HOME"], host.uid, host.gid)
    small = f"mount -t tmpfs -o size=30m,uid={host.uid},mode=0700 small {top}"
    check = 'status=0; "$@" || status=$?; find "$XDG_DATA_HOME/nixbox/tmp" -mindepth 1 -printf "left: %p\\n" >&2; exit $status'
    done = run_as_root(as_person(host, small) + ["sh", "-c", check, "sh", host.bin, "image", "build"], host, env, folder)
    said = done.stderr.decode()
    assert done.returncode == 125 and "No space left on device" in said and f"make room on the disk that holds {top}" in said
    assert "left: " not in said, said


# ------------------------------------------------------------------------------------------------------------ building
@pytest.mark.timeout(BUILD)
def test_killed_builder_leaves_nothing(host, folder):
    env = copied(host)
    p = host.popen([host.bin, "image", "build"], cwd=folder, env=env)
    assert wait_for(lambda: any("/usr/bin/dpkg" in line for line in subtree(p.pid).values()), 200)
    time.sleep(3)
    family = set(subtree(p.pid)) - {p.pid}
    os.kill(p.pid, signal.SIGKILL)
    p.communicate()
    assert wait_for(lambda: not any(os.path.exists(f"/proc/{pid}/exe") and os.path.realpath(f"/proc/{pid}/exe") != f"/proc/{pid}/exe"
                                    for pid in family), 60), "processes of the builder are left"
    assert unfinished(env) and not os.listdir(f"{env['XDG_DATA_HOME']}/nixbox/images")
    done = host.nixbox("image", "prune", env=env)
    assert done.returncode == 0 and not unfinished(env)


@pytest.mark.timeout(2 * BUILD)
def test_two_builders_share_the_work(host):
    """They build once (the other only waits); the result is that of any other person; the host's own packages are not touched;
    a prune meanwhile leaves them what they have downloaded."""
    path = host.folder("two")
    write(f"{path}/nixbox.yaml", EXTRA, host)
    env, before = copied(host), host_packages()
    builders = [host.popen([host.bin, "image", "build", "--json"], cwd=path, env=env) for _ in range(2)]
    built, beside = set(), None  # whose package builder was seen
    while any(b.poll() is None for b in builders):
        built |= {b.pid for b in builders if any("/usr/bin/dpkg" in line for line in subtree(b.pid).values())}
        if built and not beside:
            beside = host.nixbox("image", "prune", env=env)
        time.sleep(0.1)
    assert beside.returncode == 0 and b"downloaded, so that stays" in beside.stderr, beside
    results = [b.communicate(timeout=BUILD) for b in builders]
    assert [b.returncode for b in builders] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert len(built) == 1
    assert host_packages() == before
    images = json.loads(host.nixbox("image", "ls", "--json", env=env).stdout)
    assert len(images) == 1 and "tree" in images[0]["packages"]
    known = f"{os.environ['NIXBOX_E2E_BASE']}/digest-of-tree"
    if not os.path.exists(known):
        write(known, images[0]["digest"], None)
        os.chmod(known, 0o644)
    assert open(known).read() == images[0]["digest"]

    removed = host.nixbox("image", "rm", images[0]["digest"][:15], env=env)
    assert removed.returncode == 0 and not os.path.exists(images[0]["path"])
    assert json.loads(host.nixbox("image", "ls", "--json", env=env).stdout) == []
    pruned = host.nixbox("image", "prune", "--json", env=env)
    assert json.loads(pruned.stdout)["freed"] > 0
    assert os.listdir(f"{env['XDG_CACHE_HOME']}/nixbox/blobs") == []
    assert os.listdir(f"{env['XDG_DATA_HOME']}/nixbox/runtime") != []  # in use by this version


@pytest.mark.timeout(BUILD)
def test_unknown_package(host):
    path = host.folder("unknown")
    write(f"{path}/nixbox.yaml", "name: x\nimage: {packages: [no-such-package]}\nnetwork: {mode: off}\n", host)
    env = copied(host)
    done = host.nixbox("image", "build", cwd=path, env=env, timeout=BUILD)
    assert done.returncode == 125
    said = done.stderr.decode().splitlines()
    assert "Unable to locate package no-such-package" in said[-2] and "image.packages" in said[-1]
    assert not unfinished(env)
