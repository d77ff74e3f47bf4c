"""A box from start to end: up, down, status, two at once, leftovers of a killed one, hooks and set-up, kept disks."""
import json
import os
import signal
import stat
import subprocess
import time

import harness

HOOKS = harness.DEFAULT_CONFIG + """\
setup: ["echo setup >>{work}/log; pwd >>{work}/log"]
hooks:
  pre-up: ['echo pre-up >>"$XDG_STATE_HOME/log"']
  post-up: ['cat work/* >>"$XDG_STATE_HOME/log"; echo post-up >>"$XDG_STATE_HOME/log"']
  pre-down: ['echo pre-down >>"$XDG_STATE_HOME/log"']
  post-down: ['echo post-down >>"$XDG_STATE_HOME/log"']
"""


def gone(box, seconds=60):
    """Waits until nothing of the box is left; returns what is."""
    harness.wait_for(lambda: not box.leftovers() and not os.path.exists(box.runtime), seconds)
    left = box.leftovers()
    return left + ([box.runtime] if os.path.exists(box.runtime) else [])


def starting(box):
    """`nixbox up` in the background, at the point where the guest boots."""
    p = box.host.popen([box.host.bin, "up", "--accept"], cwd=box.folder)
    assert harness.wait_for(lambda: any("qemu" in line for line in box.processes().values()), 60), p.stderr.read()
    box._remember()
    return p


# ------------------------------------------------------------------------------------------------------ up and down
def test_up_run_down(make_box):
    box = make_box(up=False)
    assert box.status() is None
    done = box.up("-v")
    assert b"guest: " in done.stderr and done.stdout == b""  # each phase with its time
    assert box.sh("echo $((6*7))") == "42"
    status = box.status()
    assert status["state"] == "running" and status["network"] == "off" and status["memory"]["limit"] == 1 << 30
    assert {m["source"]: m["write"] for m in status["mounts"]} == {box.work: True, box.ro: False}
    done = box.down()
    assert done.stdout == b"" and not gone(box, 0)
    assert box.status() is None
    events = box.events()
    assert events[0]["type"] == "box.up" and events[-1]["type"] == "box.down"
    assert events[0]["image"].startswith("sha256:") and len(events[0]["config_hash"]) == 64
    assert events[0]["network"] == "off" and events[0]["accelerator"] in ("kvm", "tcg") and len(events[0]["mounts"]) == 2
    assert [e["type"] for e in events[1:-1]] == ["run.start", "run.exit"] and events[-2]["status"] == 0


def test_up_again_is_no_error(box):
    pid = box.supervisor()
    done = box.up()
    assert b"running already" in done.stderr and box.supervisor() == pid


def test_down_again_is_no_error(make_box):
    box = make_box(up=False)
    done = box.down()
    assert b"not running" in done.stderr


def test_only_the_owner_reaches_the_socket(box, host):
    path = f"{box.runtime}/control.sock"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(box.runtime).st_mode) == 0o700
    if host.name != "user":
        return
    # even where the file's mode lets another through (root passes every mode), the supervisor does not answer
    ask = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
           "s.sendall(b'{\"op\":\"status\"}\\n'); print(s.recv(10))")
    done = subprocess.run(["python3", "-c", ask, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert done.stdout in (b"", b"b''\n"), done


NONSENSE = r"""
import json, socket, sys

def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(sys.argv[1])
    return s

for line in (b"{}", b"[]", b"\xff\xfe", b'{"op":"frobnicate"}', b'{"op":"mount"}', b'{"op":"unmount","target":5}', b'{"op":"status"} x'):
    with connect() as s:
        s.sendall(line + b"\n")
        answer = json.loads(s.makefile().readline())
        assert answer["ok"] is False and answer["error"], (line, answer)
with connect() as s:  # a line without an end
    try:
        s.sendall(b"x" * 400_000)
        assert s.recv(10) == b""
    except (BrokenPipeError, ConnectionResetError):
        pass
idle = []
for _ in range(300):  # more silent connections than the supervisor holds at once
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    try:
        s.connect(sys.argv[1])
    except BlockingIOError:
        pass
    idle.append(s)
"""


def test_requests_that_make_no_sense(box, host):
    done = host.command(["python3", "-c", NONSENSE, f"{box.runtime}/control.sock"])
    assert done.returncode == 0, box.explain(done)
    assert box.sh("echo alive") == "alive"


def test_two_ups_at_once(make_box):
    box = make_box(up=False)
    first = starting(box)
    second = box.nixbox("up", "--accept")
    assert second.returncode == 0, box.explain(second)
    assert first.wait(60) == 0
    assert len([e for e in box.events() if e["type"] == "box.up"]) == 1


def test_down_during_up(make_box):
    box = make_box(up=False)
    up = starting(box)
    done = box.down()
    assert up.wait(60) == 125 and b"down was asked for" in up.stderr.read(), box.explain(done)
    assert not gone(box)


def test_ctrl_c_during_up(make_box, host):
    box = make_box(up=False)
    t = host.terminal([host.bin, "up", "--accept"], cwd=box.folder)
    try:
        assert harness.wait_for(lambda: any("qemu" in line for line in box.processes().values()), 60)
        box._remember()
        t.send("\x03")
        assert t.wait(60) == 125
        assert b"interrupted" in t.output
    finally:
        t.close()
    assert not gone(box)


def test_killed_while_starting(make_box):
    for number in (signal.SIGKILL, signal.SIGTERM):
        box = make_box(up=False)
        up = starting(box)
        up.send_signal(number)
        up.wait(60)
        assert not gone(box)
        assert "given up" in box.events("error")[-1]["reason"]


def test_names_and_all(make_box, host):
    boxes = [make_box(up=False, name=n) for n in ("one", "two")]
    ups = [host.popen([host.bin, "up", "--accept"], cwd=b.folder) for b in boxes]
    assert [p.wait(120) for p in ups] == [0, 0]
    for b in boxes:
        b._remember()
    listed = json.loads(host.nixbox("status", "--json").stdout)
    assert {b.name for b in boxes} <= {b["box"] for b in listed}
    for b in boxes:
        assert host.nixbox("-n", b.name, "run", "hostname").stdout.decode().strip() == b.name
    text = host.nixbox("ps").stdout.decode()
    assert all(b.name in text for b in boxes)
    assert host.nixbox("-n", boxes[0].name, "down").returncode == 0
    assert boxes[0].status() is None and boxes[1].status()
    done = host.nixbox("down", "--all")
    assert done.returncode == 0 and boxes[1].status() is None


# ------------------------------------------------------------------------------------------------------ what comes from the config
def test_a_changed_config_is_told(make_box):
    box = make_box()
    first = box.supervisor()
    box.write_config(harness.DEFAULT_CONFIG + "env: {NEW: 'yes'}\n")
    done = box.up()
    assert b"--recreate" in done.stderr and box.supervisor() == first
    assert box.sh("echo $NEW") == ""
    box.up("--recreate")
    assert box.supervisor() != first and box.sh("echo $NEW") == "yes"


def test_hooks_and_setup_run_in_order(make_box, host):
    box = make_box(up=False)
    log = f"{host.state}/log"
    box.write_config(HOOKS.replace("{work}", box.work))
    up = ["pre-up", "setup", host.home, "post-up"]
    box.up()
    assert open(log).read().split() == up
    box.up()
    box.down()
    assert open(log).read().split() == up + ["pre-down", "post-down"]
    os.unlink(log)


def test_a_failing_setup_or_hook_ends_the_box(make_box):
    for where, boots in (("setup", 1), ("pre-up", 0), ("post-up", 1)):
        box = make_box(up=False)
        line = 'setup: ["echo out-of-setup; exit 3"]\n' if where == "setup" else f'hooks: {{{where}: ["echo out-of-hook; exit 3"]}}\n'
        box.write_config(harness.DEFAULT_CONFIG + line)
        done = box.up(ok=False)
        assert done.returncode == 125 and b"out-of-" in done.stderr and b"nixbox.yaml:" in done.stderr, box.explain(done)
        assert b"status 3" in done.stderr and not gone(box)
        assert len(box.events("box.up")) == boots and "status 3" in box.events()[-1]["reason"]


def test_dry_run_starts_nothing(make_box):
    box = make_box(up=False)
    done = box.nixbox("up", "--dry-run")
    assert done.returncode == 0
    for word in (b"jail qemu", b"jail virtiofsd", b"process conduit", b"process guard", b"\n  processes     virtiofsd's, and no others\n", box.work.encode(), b"network       off", b"\n  cgroup        ",
                 b"\n  disk floor    "):
        assert word in done.stdout, done.stdout
    assert done.stdout.count(b"\n  landlock ") == 4 and b"process gateway" not in done.stdout and b"mke2fs" not in done.stdout
    box.write_config(harness.DEFAULT_CONFIG.replace("mode: off", "mode: filtered").replace("1G}", "1G, disk: 1G}") + "ports: ['18080:80']\n")
    all_of_them = box.nixbox("up", "--dry-run").stdout
    for name in (b"jail qemu", b"jail virtiofsd", b"jail mke2fs", b"process conduit", b"process gateway", b"process resolver", b"process portal"):
        assert name in all_of_them, all_of_them
    assert box.status() is None and not os.path.exists(box.runtime) and not box.events()


def test_a_disk_is_kept_on_request(make_box):
    box = make_box(harness.DEFAULT_CONFIG.replace("memory: 1G", "memory: 1G, disk: 2G"))
    assert int(box.sh("df -m --output=size / | tail -1")) > 1500
    box.sh("echo precious >~/it; sync")
    box.down("--keep-disk")
    box.up()
    assert box.sh("cat ~/it") == "precious"
    box.down()
    assert not [name for name in os.listdir(box.state) if name.startswith("disk")]
    box.up()
    assert box.run("cat ~/it").returncode == 1


# ------------------------------------------------------------------------------------------------------ ends that nobody asked for
def test_a_killed_supervisor_leaves_nothing(make_box):
    box = make_box()
    box._remember()
    os.kill(box.supervisor(), signal.SIGKILL)
    assert harness.wait_for(lambda: not box.leftovers() or all("file:" in x for x in box.leftovers()))
    assert os.path.exists(f"{box.runtime}/control.sock")  # stale, and never mistaken for a running box
    assert box.status() is None
    assert not os.path.exists(box.runtime)
    assert "killed while the box was running" in box.events("box.down")[-1]["reason"]
    box.up()
    assert box.sh("echo again") == "again"


def test_a_stale_folder_is_cleared_by_up(make_box):
    box = make_box()
    box._remember()
    os.kill(box.supervisor(), signal.SIGKILL)
    box.up()
    assert box.sh("echo again") == "again"


def test_logout_ends_the_box(make_box):
    box = make_box()
    box._remember()
    subprocess.run(["rm", "-rf", box.runtime], check=True)
    assert harness.wait_for(lambda: not box.leftovers(), 60), box.leftovers()
    assert "runtime folder" in box.events("box.down")[-1]["reason"]
    box.up()
    assert box.sh("echo again") == "again"


def test_a_told_supervisor_ends_in_order(make_box):
    box = make_box()
    box._remember()
    os.kill(box.supervisor(), signal.SIGTERM)
    assert not gone(box)
    assert "signal 15" in box.events("box.down")[-1]["reason"]


def test_a_runtime_path_of_any_length(make_box, host):
    box = make_box(up=False)
    deep = host.folder("x" * 120)
    env = {"XDG_RUNTIME_DIR": deep}
    done = box.nixbox("up", "--accept", env=env)
    try:
        assert done.returncode == 0, box.explain(done)
        assert box.nixbox("run", "echo deep", env=env).stdout == b"deep\n"
    finally:
        done = box.nixbox("down", env=env)
    assert done.returncode == 0 and os.listdir(f"{deep}/nixbox") in ([], [".accel"])


def test_a_sleeping_starter_is_not_needed(make_box):
    """The box outlives the session of the command that started it."""
    box = make_box()
    time.sleep(1)
    pid = box.supervisor()
    assert os.getsid(pid) == pid or os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/" if os.getuid() == 0 else True
    with open(f"/proc/{pid}/environ", "rb") as f:
        assert b"HOME=" not in f.read()
