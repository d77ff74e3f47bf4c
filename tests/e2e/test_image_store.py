"""What lies in the store: it is what its digest says whenever a box is started, and nothing that a box uses is removed."""
import glob
import json
import os
import shutil
import subprocess
import threading

import pytest

from harness import make_folder, write
from test_image import BUILD, fresh

CONFIG = "name: {name}\nmachine: {cpus: 1, memory: 512M}\nnetwork: {mode: off}\n"
PARTS = {"image": "images/*.erofs", "kernel": "kernel/*/vmlinux", "initramfs": "kernel/initrd-*.cpio",
         "runtime": "runtime/*/usr/bin/qemu-system-x86_64"}
CHANGE = "chmod u+w {0} && printf '\\377' | dd of={0} bs=1 seek=70000 conv=notrunc status=none"


@pytest.fixture
def env(host):
    """Folders that hold a copy of the store, the person's own."""
    env = fresh(host)
    top = make_folder(env["XDG_DATA_HOME"], host.uid, host.gid)
    make_folder(env["XDG_CACHE_HOME"], host.uid, host.gid)
    copy_to(host, f"{host.data}/nixbox", top)
    yield env
    subprocess.run(["rm", "-rf", os.path.dirname(top)], check=True)


def copy_to(host, what, folder):
    subprocess.run(["cp", "-a", "--reflink=auto", what, folder], check=True)
    subprocess.run(["chown", "-R", f"{host.uid}:{host.gid}", folder], check=True)


@pytest.fixture
def folder(host):
    path = host.folder("st")
    write(f"{path}/nixbox.yaml", CONFIG.replace("{name}", os.path.basename(path)), host)
    return path


def build(host, folder, env, *args):
    return host.nixbox("image", "build", "--json", *args, cwd=folder, env=env, timeout=BUILD)


def built(host, folder, env):
    done = build(host, folder, env)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def path_of(part, image):
    """Of what the image boots from: there may be other images in the store."""
    return {"image": image["rootfs"], "kernel": image["vmlinux"], "initramfs": image["initrd"],
            "runtime": f"{image['runtime']}/usr/bin/qemu-system-x86_64"}[part]


def change(host, path):
    """As the owner can: makes it writable and replaces a byte. Gives back the one that was there."""
    with open(path, "rb") as f:
        f.seek(70000)
        before = f.read(1)
    done = host.command(["sh", "-c", CHANGE.format(path)])
    assert done.returncode == 0, done.stderr.decode()
    return before


def restore(host, path, byte):
    with open(path, "r+b") as f:
        f.seek(70000)
        f.write(byte)


def records(env):
    """Of what the inodes said: {file: its own inode and time}. One that is written again is another."""
    paths = glob.glob(f"{env['XDG_DATA_HOME']}/nixbox/refs/seal-*")
    return {p: (os.stat(p).st_ino, os.stat(p).st_mtime_ns) for p in paths}


# ------------------------------------------------------------------------------------------------------------ digests
def test_copied_store_is_read_once(host, folder, env):
    done = build(host, folder, env)
    assert done.returncode == 0, done.stderr.decode()
    first = records(env)
    assert len(first) >= 4  # runtime, kernel, initramfs, image
    assert built(host, folder, env) == json.loads(done.stdout) and records(env) == first


@pytest.mark.parametrize("part", PARTS)
def test_changed_byte_is_refused(host, folder, env, part):
    """By whatever starts or builds a box; with the byte put back it is accepted again."""
    path = path_of(part, built(host, folder, env))
    before = change(host, path)
    for done in (build(host, folder, env), host.nixbox("up", "--accept", cwd=folder, env=env)):
        said = done.stderr.decode()
        assert done.returncode == 125 and f"the {part} sha256:" in said and "was changed" in said, said
        assert "nixbox image build --force" in said.splitlines()[-1]
        assert part not in ("runtime", "kernel") or os.path.basename(path) in said
    restore(host, path, before)
    assert build(host, folder, env).returncode == 0


@pytest.mark.parametrize("part", PARTS)
def test_touched_file_is_read_again(host, folder, env, part):
    path = path_of(part, built(host, folder, env))
    before = records(env)
    os.utime(path)
    assert built(host, folder, env) and records(env) != before


def test_runtime_with_another_file_is_refused(host, folder, env):
    image = built(host, folder, env)
    top = f"{image['runtime']}/usr/bin"
    for spoil, cure in (("touch {0}/extra", "rm {0}/extra"), ("mv {0}/mkfs.erofs {0}/../aside", "mv {0}/../aside {0}/mkfs.erofs"),
                        ("ln -s /etc/passwd {0}/link", "rm {0}/link"), ("mkfifo {0}/fifo", "rm {0}/fifo")):
        for command, expected in ((spoil, 125), (cure, 0)):
            done = host.command(["sh", "-c", f"chmod u+w {top} {top}/.. && " + command.format(top)])
            assert done.returncode == 0, done.stderr.decode()
            done = build(host, folder, env)
            assert done.returncode == expected, done.stderr.decode()
        assert build(host, folder, env).returncode == 0


@pytest.mark.parametrize("part", ["image", "kernel", "initramfs"])
def test_changed_between_the_check_and_the_start(host, env, make_box, part):
    """A hook runs after everything was checked and before anything is opened for the box."""
    box = make_box(CONFIG + "hooks: {pre-up: [./hook.sh]}\n", up=False)
    write(f"{box.folder}/hook.sh", "#!/bin/sh\nexit 0\n", host, 0o755)
    path = path_of(part, built(host, box.folder, env))
    with open(path, "rb") as f:
        f.seek(70000)
        before = f.read(1)
    write(f"{box.folder}/hook.sh", f"#!/bin/sh\n{CHANGE.format(path)}\n", host, 0o755)
    done = box.up(ok=False, env=env)
    said = done.stderr.decode()
    assert done.returncode == 125 and "was changed since it was checked" in said, said
    write(f"{box.folder}/hook.sh", "#!/bin/sh\nexit 0\n", host, 0o755)
    restore(host, path, before)
    if part == "image":  # once is enough: the same way up works when nobody interferes
        box.up(env=env)
        assert box.sh("echo here") == "here"


@pytest.mark.timeout(2 * BUILD)
def test_force_repairs(host, folder, env):
    if os.path.isdir(f"{host.cache}/nixbox"):  # what was downloaded for it
        copy_to(host, f"{host.cache}/nixbox", env["XDG_CACHE_HOME"])
    image = built(host, folder, env)
    for part in PARTS:
        change(host, path_of(part, image))
    done = build(host, folder, env, "--force")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["runtime_digest"] == image["runtime_digest"]
    assert build(host, folder, env).returncode == 0


# ------------------------------------------------------------------------------------------------------------ in use
def make_old(env):
    """As if an older nixbox had built everything: no record is of this version's builder."""
    refs = f"{env['XDG_DATA_HOME']}/nixbox/refs"
    for name in os.listdir(refs):
        path = f"{refs}/{name}"
        with open(path) as f:
            ref = json.load(f)
        if name.startswith("lock-"):
            os.unlink(path)
        elif "builder" in ref:
            with open(path, "w") as f:
                json.dump({**ref, "builder": "0"}, f)
        elif name.startswith("runtime-"):
            os.rename(path, f"{refs}/runtime-older.json")


def things(env):
    top = f"{env['XDG_DATA_HOME']}/nixbox"
    return sorted(f"{part}/{name}" for part in ("images", "runtime", "kernel") for name in os.listdir(f"{top}/{part}"))


def test_what_a_box_uses_stays(host, env, make_box):
    box = make_box(CONFIG, up=False)
    box.up(env=env)
    image = built(host, box.folder, env)
    mine = [os.path.relpath(p, f"{env['XDG_DATA_HOME']}/nixbox") for p in
            (image["rootfs"], image["runtime"], os.path.dirname(image["vmlinux"]), image["initrd"])]
    mine += [mine[0] + ".manifest", mine[1] + ".manifest", mine[2] + ".manifest"]

    listed = json.loads(host.nixbox("image", "ls", "--json", env=env).stdout)
    me = next(i for i in listed if i["digest"] == image["digest"])
    assert me["boxes"] == [box.name] and me["age"] >= 0 and "built" in me
    assert all(i["boxes"] == [] for i in listed if i is not me)
    shown = next(line for line in host.nixbox("image", "ls", env=env).stdout.decode().splitlines() if image["digest"][:19] in line)
    assert shown.endswith(f"used by {box.name}")

    refused = host.nixbox("image", "rm", image["digest"], env=env)
    assert refused.returncode == 125 and f"the box '{box.name}' uses the image {image['digest']}" in refused.stderr.decode()
    assert "--force" in refused.stderr.decode() and os.path.exists(image["rootfs"])

    make_old(env)
    assert host.nixbox("image", "prune", env=env).returncode == 0
    assert things(env) == sorted(mine)
    assert json.loads(host.nixbox("image", "ls", "--json", env=env).stdout)[0]["boxes"] == [box.name]
    assert box.sh("cat /usr/bin/git | wc -c; echo still", env=env).endswith("still")

    box.down(env=env)
    assert host.nixbox("image", "prune", env=env).returncode == 0
    assert things(env) == [] and os.listdir(f"{env['XDG_DATA_HOME']}/nixbox/refs") == []


def test_rm_with_force(host, env, make_box):
    box = make_box(CONFIG, up=False)
    box.up(env=env)
    image = built(host, box.folder, env)
    assert host.nixbox("image", "rm", "--force", image["digest"], env=env).returncode == 0
    assert not os.path.exists(image["rootfs"])
    assert box.sh("python3 -c 'import json, email; print(1)'", env=env) == "1"  # reads what it had not read yet


def test_box_of_another_session_keeps_its_image(host, env, folder, make_box):
    """Its name is not known here; that it is there is."""
    box = make_box(CONFIG, up=False)
    box.up(env=env)
    image = built(host, folder, env)
    elsewhere = {**env, "XDG_RUNTIME_DIR": make_folder(f"{folder}/run", host.uid, host.gid)}
    refused = host.nixbox("image", "rm", image["digest"], env=elsewhere)
    assert refused.returncode == 125 and "of another session" in refused.stderr.decode()
    make_old(env)
    assert host.nixbox("image", "prune", env=elsewhere).returncode == 0
    assert os.path.exists(image["rootfs"]) and os.path.exists(image["vmlinux"]) and os.path.exists(image["initrd"])


def other_version(host, folder):
    """Another nixbox, whose guest agent is not the same: what one of them builds, the other does not know."""
    top = make_folder(f"{folder}/other", host.uid, host.gid, 0o755)
    shutil.copy(host.bin, f"{top}/nixbox")
    agent = os.path.join(os.path.dirname(host.bin), "../share/nixbox/nixbox-agent")
    with open(agent, "rb") as f:
        write(f"{top}/nixbox-agent", f.read() + b"\n", None, 0o755)
    return f"{top}/nixbox"


def test_starting_beside_prune(host, folder, env, make_box):
    """Prune of another version removes this one's initramfs whenever nobody uses it; a start never meets what is half gone."""
    other, stop, pruned = other_version(host, folder), threading.Event(), []
    image = built(host, folder, env)

    def prune():
        while not stop.is_set():
            pruned.append((host.command([other, "image", "prune"], env=env), os.path.exists(image["initrd"])))

    thread = threading.Thread(target=prune)
    thread.start()
    try:
        for _ in range(25):
            assert built(host, folder, env) == image
        box = make_box(CONFIG, up=False)
        box.up(env=env)
        count = len(pruned)
        assert box.sh("echo up") == "up"
        while len(pruned) < count + 3:
            stop.wait(0.1)
        assert os.path.exists(image["initrd"])  # in use from now on
    finally:
        stop.set()
        thread.join()
    assert all(done.returncode == 0 for done, _ in pruned)
    assert not all(there for _, there in pruned)  # it had been removed now and then: the test tests something
