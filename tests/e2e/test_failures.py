"""When something is missing or breaks: a message with the cause and the fix, 125, and nothing left behind."""
import os
import signal
import subprocess

import pytest

import harness
from test_lifecycle import gone, starting


def refused(box, done, *words):
    """The start was refused with these words, and left nothing."""
    assert done.returncode == 125, box.explain(done)
    assert done.stdout == b"" and done.stderr.startswith(b"nixbox: ") or b"\nnixbox: " in done.stderr, done.stderr
    text = done.stderr.decode()
    for word in words:
        assert word in text, text
    assert text.rstrip().splitlines()[-1].startswith("  "), text  # the way out
    assert not gone(box)
    assert not os.path.exists(f"{box.state}/disk.raw")


def ended(box, *words):
    """The running box ended by itself and said why."""
    assert not gone(box)
    assert box.status() is None
    reason = box.events("box.down")[-1]["reason"]
    for word in words:
        assert word in reason, reason
    box.up()
    assert box.sh("echo again") == "again"


# ------------------------------------------------------------------------------------------------------ what is missing
def test_missing_mount_source(make_box):
    box = make_box("network: {mode: off}\nmounts:\n  - source: ./no-such-folder\n", up=False)
    refused(box, box.up(ok=False), "nixbox.yaml:4:", "no-such-folder")


def test_rules_that_are_not_enforced_yet(make_box):
    for rule in ("methods: [GET]", "paths: [/a]"):
        box = make_box(f"network:\n  allow: [{{host: x.example, {rule}}}]\n", up=False)
        refused(box, box.up(ok=False), "nixbox.yaml:3:", "not enforced yet")


def test_a_secret_that_cannot_be_read(make_box):
    box = make_box("network: {mode: off}\nsecrets: [{name: TOKEN, from: 'file:./no-such-file'}]\n", up=False)
    refused(box, box.up(ok=False), "nixbox.yaml:3:")


def test_no_user_namespaces(make_box, host):
    """Where the kernel gives no namespaces: the sysctl is named."""
    box = make_box(up=False)
    script = f"echo 0 >/proc/sys/user/max_user_namespaces && exec {host.bin} up --accept"
    done = host.command(["unshare", "--user", "--map-root-user", "sh", "-c", script], cwd=box.folder)
    refused(box, done, "user namespace", "sysctl")


@pytest.mark.parametrize("device", ["/dev/kvm", "/dev/net/tun"])
def test_devices_that_are_not_there(make_box, host, device):
    """Without KVM a box is slow, without TUN it has no network in `off` anyway: both start."""
    box = make_box(up=False)
    hide = f"mount -t tmpfs none {os.path.dirname(device)}" if device == "/dev/net/tun" else "mount --bind /dev/null /dev/kvm"
    if not os.path.exists(device):
        hide = "true"
    done = host.command(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{hide} && exec {host.bin} up --accept"],
                        cwd=box.folder)
    try:
        assert done.returncode == 0, box.explain(done)
        if device == "/dev/kvm":
            assert b"/dev/kvm" in done.stderr
            assert box.status()["accelerator"] == "tcg"
        assert box.nixbox("run", "echo works").stdout == b"works\n"
    finally:
        box.down(ok=False)


@pytest.mark.parametrize("hide, words", [
    ("mount -t tmpfs none /dev/net", ("/dev/net/tun", "modprobe tun")),
    ("mount --bind /dev/null $(command -v nft || echo /usr/sbin/nft)", ("nft", "apt-get install nftables")),
    ("mount --bind /dev/null $(dirname {bin})/../libexec/nixbox/nixbox-gateway", ("the resolver",)),
], ids=["tun", "nft", "gateway"])
def test_what_a_network_takes_is_not_there(make_box, host, hide, words):
    """No network without its walls: the box does not start, and says what is missing."""
    box = make_box(harness.DEFAULT_CONFIG.replace("mode: off", "mode: filtered"), up=False)
    hide = "PATH=$PATH:/usr/sbin:/sbin; " + hide.replace("{bin}", host.bin)
    done = host.command(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{hide} && exec {host.bin} up --accept"],
                        cwd=box.folder)
    closed = host.uid != 0 and os.stat("/dev/net/tun").st_mode & 0o006 != 0o006  # then that is what is said first
    refused(box, done, *(("/dev/net/tun", "chmod 0666") if closed and "modprobe tun" not in words else words))


def test_disk_full(make_box, host):
    if os.getuid() != 0:
        pytest.skip("expected: only root can mount a small file system for this test")
    box = make_box(harness.DEFAULT_CONFIG.replace("memory: 1G", "memory: 1G, disk: 4G"), up=False)
    full = host.folder("full")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=256k,mode=700,uid={host.uid},gid={host.gid}", "none", full], check=True)
    try:
        done = box.nixbox("up", "--accept", env={"XDG_STATE_HOME": full})
        assert done.returncode == 125 and b"is full" in done.stderr, box.explain(done)
        assert not gone(box) and not os.path.exists(f"{full}/nixbox/{box.name}/disk.raw")
    finally:
        subprocess.run(["umount", full], check=True)


def test_a_runtime_folder_of_somebody_else(make_box, host):
    box = make_box(up=False)
    os.symlink("/tmp", f"{host.runtime}/nixbox/{box.name}") if os.path.isdir(f"{host.runtime}/nixbox") else None
    if not os.path.islink(f"{host.runtime}/nixbox/{box.name}"):
        os.makedirs(f"{host.runtime}/nixbox", mode=0o700)
        os.chown(f"{host.runtime}/nixbox", host.uid, host.gid)
        os.symlink("/tmp", f"{host.runtime}/nixbox/{box.name}")
    try:
        done = box.up(ok=False)
        assert done.returncode == 125 and box.runtime.encode() in done.stderr, box.explain(done)
    finally:
        os.unlink(f"{host.runtime}/nixbox/{box.name}")


# ------------------------------------------------------------------------------------------------------ what breaks
@pytest.mark.parametrize("child,words", [("qemu", ("QEMU was killed by signal 9",)), ("virtiofsd", ("virtiofsd was killed by signal 9",)),
                                         ("conduit", ("conduit was killed by signal 9",))])
def test_a_killed_child_ends_the_box(make_box, host, child, words):
    box = make_box()
    run = host.popen([host.bin, "run", "sleep 300"], cwd=box.folder)
    assert harness.wait_for(lambda: box.status()["sessions"] == 1, 30)
    os.kill(box.child(child), signal.SIGKILL)
    assert run.wait(60) == 125, run.stderr.read()
    ended(box, *words)


def test_a_killed_child_during_up(make_box):
    box = make_box(up=False)
    up = starting(box)
    os.kill(box.child("qemu"), signal.SIGKILL)
    assert up.wait(60) == 125
    assert b"QEMU was killed by signal 9" in up.stderr.read()
    assert not gone(box)


def test_a_guest_that_never_gets_ready(make_box, host):
    box = make_box(up=False)
    p = host.popen([host.bin, "up", "--accept"], cwd=box.folder, env={"NIXBOX_BOOT_TIMEOUT": "10"})
    assert harness.wait_for(lambda: any("qemu" in line for line in box.processes().values()), 60)
    box._remember()
    os.kill(box.child("qemu"), signal.SIGSTOP)
    assert p.wait(60) == 125
    assert b"did not get ready" in p.stderr.read()
    assert not gone(box)


def test_a_guest_that_hangs_can_be_taken_down(make_box):
    box = make_box()
    box._remember()
    os.kill(box.child("qemu"), signal.SIGSTOP)
    box.down(timeout=150)
    assert not gone(box, 0)


def test_a_guest_kernel_that_panics(make_box):
    box = make_box()
    box.run("sudo sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger'")
    ended(box)


def test_a_guest_that_powers_off(make_box):
    box = make_box()
    box.run("sudo poweroff")
    ended(box, "poweroff")


def test_unknown_key_and_wrong_type_start_nothing(make_box):
    for text, where in (("netwrok: {mode: off}\n", ":2:1"), ("network: {mode: off}\nmachine: {cpus: many}\n", ":3:")):
        box = make_box(text, up=False)
        refused(box, box.up(ok=False), "nixbox.yaml" + where)
