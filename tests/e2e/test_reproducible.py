"""One lock gives one image: whoever builds it, with whatever ids, settings and folders."""
import json
import os
import shutil
import subprocess

import pytest

from harness import write

BUILD = 1200  # seconds that a build may take on a busy machine
CONFIG = "name: same\nimage: {packages: [tree]}\nnetwork: {mode: off}\n"
PARTS = ("digest", "kernel_digest", "runtime_digest")


def store(host, source):
    """Folders of another name that hold the runtime, kernel and packages of `source`, but no guest image and no base tree."""
    top = host.folder("elsewhere")
    env = {"XDG_DATA_HOME": f"{top}/data", "XDG_CACHE_HOME": f"{top}/a cache"}
    for part in ("runtime", "kernel", "refs"):
        shutil.copytree(f"{source}/data/nixbox/{part}", f"{env['XDG_DATA_HOME']}/nixbox/{part}", symlinks=True,
                        ignore=shutil.ignore_patterns("image-*"))
    os.makedirs(f"{env['XDG_CACHE_HOME']}/nixbox")
    if os.path.isdir(f"{source}/cache/nixbox/blobs"):  # not where the image was there already
        shutil.copytree(f"{source}/cache/nixbox/blobs", f"{env['XDG_CACHE_HOME']}/nixbox/blobs")
    subprocess.run(["chown", "-R", f"{host.uid}:{host.gid}", top], check=True)
    for path in (*env.values(), *(f"{p}/nixbox" for p in env.values())):
        os.chmod(path, 0o700)
    return env


def first_build(host):
    """A folder with a config and its lock, what that is built to, and where the person's store is."""
    folder, source = host.folder("first"), host.folder("source")
    write(f"{folder}/nixbox.yaml", CONFIG, host)
    done = host.nixbox("image", "build", "--json", cwd=folder, timeout=BUILD)
    assert done.returncode == 0, done.stderr.decode()
    for name, path in (("data", host.data), ("cache", host.cache)):
        os.symlink(path, f"{source}/{name}")
    return folder, json.loads(done.stdout), source


def built(host, env, folder, before="", after=":"):
    """The digests of what `image build` makes, between `before` and `after` (shell, as root)."""
    drop = f"setpriv --reuid {host.uid} --regid {host.gid} --clear-groups" if host.uid else ""
    script = f'{before}\nstatus=0; {drop} "$@" || status=$?; {after}; exit $status'
    argv = ["unshare", "--mount", "--uts", "sh", "-ec", script, "sh", host.bin, "image", "build", "--json"]
    done = subprocess.run(argv, env={**host.env, **env}, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=BUILD)
    assert done.returncode == 0, done.stderr.decode()
    return {part: json.loads(done.stdout)[part] for part in PARTS}


@pytest.mark.skipif(os.getuid() != 0, reason="expected: builds as others, and hides host files, which takes root")
@pytest.mark.timeout(3 * BUILD)
def test_who_where_and_how(host):
    """The first build makes the lock; another one under other circumstances would fail if it came to anything else."""
    folder, first, source = first_build(host)
    lock = open(f"{folder}/nixbox.lock").read()
    circumstances = [({"TZ": "Asia/Tokyo", "LC_ALL": "de_DE.UTF-8"}, "umask 077; hostname elsewhere")]
    if host.uid:
        circumstances.append(({"TZ": "America/Lima"}, "mount --bind /dev/null /etc/subuid"))
    for extra, before in circumstances:
        other = host.folder("other")
        write(f"{other}/nixbox.yaml", CONFIG, host)
        write(f"{other}/nixbox.lock", lock, host)
        assert built(host, {**store(host, source), **extra}, other, before) == {part: first[part] for part in PARTS}
        assert open(f"{other}/nixbox.lock").read() == lock


@pytest.mark.skipif(os.getuid() != 0 or not os.path.exists("/dev/fuse"), reason="expected: takes root and /dev/fuse")
@pytest.mark.person("root")
@pytest.mark.timeout(3 * BUILD)
def test_order_of_folders(host):
    """The order in which a file system lists names is no part of an image."""
    folder, first, source = first_build(host)
    env = store(host, source)
    shuffled = env["XDG_DATA_HOME"]
    os.rename(shuffled, f"{shuffled}-real")
    os.mkdir(shuffled, 0o700)
    mount = f"disorderfs -q --multi-user=yes --shuffle-dirents=yes --reverse-dirents=no {shuffled}-real {shuffled}"
    assert built(host, env, folder, mount, f"umount {shuffled}") == {part: first[part] for part in PARTS}


@pytest.mark.timeout(2 * BUILD)
def test_lock_of_another_result_is_an_error(host):
    folder = host.folder("altered")
    write(f"{folder}/nixbox.yaml", CONFIG, host)
    right = host.nixbox("image", "build", cwd=folder, timeout=BUILD)
    assert right.returncode == 0, right.stderr.decode()
    lock = open(f"{folder}/nixbox.lock").read()
    digest = json.loads(lock)["digest"]
    write(f"{folder}/nixbox.lock", lock.replace(digest, "sha256:" + 64 * "0"), host)
    wrong = host.nixbox("image", "build", "--force", cwd=folder, timeout=BUILD)
    assert wrong.returncode == 125 and digest in wrong.stderr.decode() and "the lock says" in wrong.stderr.decode()


@pytest.mark.person("ordinary")
@pytest.mark.timeout(3 * BUILD)
def test_verify(host):
    """It says that all is the same, and of what is not, which file."""
    folder = host.folder("verify")
    os.makedirs(f"{folder}/tree/etc")
    for name in ("aaa", "motd", "zzz"):
        write(f"{folder}/tree/etc/{name}", name, host)
    subprocess.run(["chown", "-R", f"{host.uid}:{host.gid}", folder], check=True)
    write(f"{folder}/nixbox.yaml", "name: verify\nimage: {base: 'dir:./tree'}\nnetwork: {mode: off}\n", host)
    assert host.nixbox("image", "build", cwd=folder, timeout=BUILD).returncode == 0
    same = host.nixbox("image", "verify", "--json", cwd=folder, timeout=BUILD)
    assert same.returncode == 0 and json.loads(same.stdout)["same"] is True, same
    write(f"{folder}/tree/etc/motd", "other", host)
    other = host.nixbox("image", "verify", cwd=folder, timeout=BUILD)
    assert other.returncode == 1 and b"etc/motd" in other.stdout and b"aaa" not in other.stdout, other
