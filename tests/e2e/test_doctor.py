"""nixbox doctor: names what is missing with its fix, and says so in its exit status. Boots nothing."""
import json
import os
import shutil


def report(done):
    answer = json.loads(done.stdout)
    assert done.stderr == b""
    return answer["can_start"], {c["name"]: c for c in answer["checks"]}


def test_this_host_can(host):
    done = host.nixbox("doctor")
    assert done.returncode == 0, done.stdout.decode()
    assert b"A box can start here" in done.stdout
    can_start, checks = report(host.nixbox("doctor", "--json"))
    assert can_start
    assert set(checks) == {"kernel", "namespaces", "kvm", "memory", "disk", "runtime folder", "image builder",
                           "subordinate ids", "installation", "landlock", "cgroup", "tun", "network tools", "ping"} | ({"network"} & set(checks))
    assert ("network" in checks) == (checks["tun"]["state"] == checks["network tools"]["state"] == "ok")
    assert all(c["state"] in ("ok", "note") for c in checks.values())


def test_without_user_namespaces(host):
    script = f"echo 0 >/proc/sys/user/max_user_namespaces && exec {host.bin} doctor --json"
    done = host.command(["unshare", "--user", "--map-root-user", "sh", "-c", script])
    can_start, checks = report(done)
    assert done.returncode == 1 and not can_start
    assert checks["namespaces"]["state"] == "missing"
    assert "sysctl -w user.max_user_namespaces=" in checks["namespaces"]["fix"]
    control = host.command(["unshare", "--user", "--map-root-user", host.bin, "doctor", "--json"])
    assert report(control)[1]["namespaces"]["state"] == "ok"


def test_without_the_image_builder(host):
    empty = host.folder()
    done = host.nixbox("doctor", "--json", env={"PATH": empty, "XDG_DATA_HOME": empty})
    can_start, checks = report(done)
    assert done.returncode == 1 and not can_start
    assert checks["image builder"]["state"] == "missing" and "apt-get install apt" in checks["image builder"]["fix"]


def test_half_an_installation(host):
    alone = host.folder() + "/nixbox"
    shutil.copy(host.bin, alone)
    os.chmod(alone, 0o755)
    done = host.command([alone, "doctor", "--json"])
    assert report(done)[1]["installation"]["state"] == "missing" and done.returncode == 1


def test_runtime_folder_is_no_folder(host):
    run = host.folder()
    os.symlink("/tmp", run + "/nixbox")
    done = host.nixbox("doctor", "--json", env={"XDG_RUNTIME_DIR": run})
    check = report(done)[1]["runtime folder"]
    assert done.returncode == 1 and check["state"] == "missing" and "XDG_RUNTIME_DIR" in check["fix"]
    done = host.nixbox("doctor", "--json", env={"XDG_RUNTIME_DIR": "/nonexistent"})
    assert report(done)[1]["runtime folder"]["state"] == "note"


def test_forced_accelerator(host):
    _, checks = report(host.nixbox("doctor", "--json", env={"NIXBOX_ACCEL": "tcg"}))
    assert checks["kvm"]["state"] == "note" and "NIXBOX_ACCEL" in checks["kvm"]["detail"]
    done = host.nixbox("doctor", "--json", env={"NIXBOX_ACCEL": "warp"})
    assert done.returncode == 1 and "warp" in report(done)[1]["kvm"]["detail"]
