"""nixbox attack: the same table that an owner gets, each row of it a test case; and the proof that it can turn red: a box that is
open indeed, judged as if it had been given nothing, must come out as open. In the network laboratory, so that what leaves a box
after all arrives nowhere else, and is seen."""
import glob
import json
import os
import signal
import subprocess

import pytest

import harness

SITE = "93.184.216.80"
BUILD = os.environ.get("NIXBOX_TEST_BUILD", f"{harness.ROOT}/build")
SECRET = "nixbox-test-secret-value-5d1c"
CONFIG = """
machine: {cpus: 2, memory: 1G}
network:
  mode: filtered
  allow: [allowed.example, {host: other.example, ports: [22]}]
ports: ["18099:80"]
secrets: [{name: TEST_SECRET, from: env}]
mounts: [{source: ./work, write: true}, {source: ./ro}]
"""
# Much of what the probes ask for, given: no read-only mount, every name, some addresses, a port for everybody.
OPEN_CONFIG = """
machine: {cpus: 2, memory: 1G}
network:
  mode: open
  allow: [{cidr: 192.0.2.0/24, ports: [443, 8443, 853]}, {cidr: 169.254.169.254/32, ports: [80]}]
ports: ["0.0.0.0:18098:80"]
mounts: [{source: ./work, write: true}]
"""
MUST_OPEN = ["network.hardcoded-address", "network.hex-address", "frames.plain", "files.remount-rw", "files.bind-rw", "files.mount-setattr",
             "files.second-instance", "files.rename", "files.hard-link", "files.hard-link-out", "network.metadata", "protocol.dns-over-tls", "names.denied", "names.upper-case",
             "names.over-tcp", "files.create", "files.mkdir", "files.symlink", "files.open-write", "files.append", "files.truncate",
             "files.chmod", "files.utimes", "files.proc-self-fd", "lifecycle.name-after-all-that", "host.published-ports"]


def listed():
    """The rows, from the program that was built: one that vanishes is noticed in the lists above and in the README."""
    done = subprocess.run([f"{BUILD}/nixbox", "attack", "--list", "--json"], capture_output=True, check=True)
    return [row["name"] for row in json.loads(done.stdout)]


def attack(box, *args, **kwargs):
    done = box.nixbox("attack", "--json", *args, env={"TEST_SECRET": SECRET}, **kwargs)
    assert done.stdout, box.explain(done)
    table = json.loads(done.stdout)
    return done, {row["name"]: row for row in table["probes"]}


def bad(rows):
    """What to look at when it went wrong."""
    return [row for row in rows.values() if row["verdict"] in ("open", "unproven")]


def folders(box):
    return [sorted(os.listdir(f)) for f in (box.work, box.ro, box.state, box.runtime)]


@pytest.fixture(scope="module")
def scene(lab, make_lab_boxes):
    lab.zone("allowed.example", A=[SITE])
    lab.zone("*.invalid", A=[SITE])
    box = make_lab_boxes(CONFIG, up=False, name="attack")
    harness.write(f"{box.ro}/kept", "kept\n", box.host)
    harness.write(f"{box.work}/mine", "mine\n", box.host)
    box.up(env={"TEST_SECRET": SECRET})
    box.before, box.mark = folders(box), lab.mark()
    box.done, box.rows = attack(box)
    return box


@pytest.fixture(scope="module")
def opened(lab, make_lab_boxes):
    box = make_lab_boxes(OPEN_CONFIG, name="opened")
    harness.write(f"{box.work}/mine", "mine\n", box.host)
    box.done, box.rows = attack(box)
    box.sealed, box.sealed_rows = attack(box, "--sealed")
    return box


@pytest.mark.parametrize("name", listed())
def test_row(scene, name):
    row = scene.rows[name]
    assert row["verdict"] == "held" and row["control"] == "ok", row


def test_the_whole_of_it(scene, lab):
    assert scene.done.returncode == 0, (bad(scene.rows), scene.explain(scene.done))
    assert len(scene.rows) >= 100
    # the laboratory is the far side of the far side: of what the probes sent, only the connections to the allowed host arrived
    assert not [r for r in lab.records(scene.mark) if r["kind"] == "dns" and "invalid" in r["name"]]
    assert not [r for r in lab.records(scene.mark) if r["kind"] != "dns" and r.get("to") != SITE], lab.records(scene.mark)
    assert not lab.seen(place="host", after=scene.mark)
    events = scene.events("attack")
    assert [e["action"] for e in events] == ["start", "end"] and events[1]["open"] == 0 and events[1]["held"] > 90, events


def test_nothing_is_left_behind(scene):
    assert folders(scene) == scene.before
    assert open(f"{scene.ro}/kept").read() == "kept\n" and open(f"{scene.work}/mine").read() == "mine\n"
    assert scene.sh("ls -A /run | grep -c nixbox-attack || true", "-u", "root") == "0"


def test_secrets_are_in_no_row_and_no_log(scene):
    assert SECRET.encode() not in scene.done.stdout + scene.done.stderr
    with open(f"{scene.state}/events.jsonl") as f:
        assert SECRET not in f.read()
    assert "none of 3 texts" in scene.rows["secrets.host-logs"]["seen"], scene.rows["secrets.host-logs"]


def test_some_of_them_for_people(scene):
    """The table, a part of it, and what is not there."""
    done = scene.nixbox("attack", "files.set", "host.private-files")
    text = done.stdout.decode()
    assert done.returncode == 0, scene.explain(done)
    assert "files.setuid " in text and "host.private-files" in text and "network." not in text and "\033" not in text
    assert text.splitlines()[-1].startswith("7 probes: 7 held"), text
    wrong = scene.nixbox("attack", "nonsense")
    assert wrong.returncode == 125 and b"there is no probe 'nonsense'" in wrong.stderr and b"--list" in wrong.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted(scene, number):
    """In the middle of it, when the probes have made files in the mount. Where nixbox cannot remove them any more, the program inside does."""
    def made():  # a folder that goes meanwhile is no error here, as it would be for os.listdir()
        return glob.glob(f"{scene.work}/.nixbox-attack-*/*")

    process = scene.host.popen([scene.host.bin, "attack", "files", "protocol", "frames"], cwd=scene.folder)
    assert harness.wait_for(lambda: any("setuid" in os.path.basename(path) for path in made()), 60, 0.02)
    os.killpg(process.pid, number)
    process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number and folders(scene) == scene.before
    assert harness.wait_for(lambda: os.listdir(scene.work) == ["mine"], 60), made()
    assert harness.wait_for(lambda: scene.sh("ls -A /run | grep -c nixbox-attack || true", "-u", "root") == "0", 60)
    for name in os.listdir(scene.runtime):  # it would have gone with the box
        if name.startswith("nixbox-attack-"):
            os.unlink(f"{scene.runtime}/{name}")


@pytest.mark.parametrize("program", ["nothing", "garbage", "liar", "loud"])
def test_a_guest_that_lies(scene, program):
    """What the guest says counts only where it is whole and about what was asked. Its shell is in its own hands."""
    says = {"nothing": "exit 0", "garbage": "head -c 100000 /dev/urandom",
            "liar": 'echo "attack 1 $5"; echo "files.setuid refused ok fine"; echo "end $5 1"',
            "loud": 'echo "attack 1 $5"; yes "files.setuid refused ok fine"'}[program]
    fake = f'#!/bin/bash\\ncase "$*" in *nixbox-attack*) cat >/dev/null; {says};; *) exec /bin/bash "$@";; esac'
    scene.sh("cp -n /bin/dash /run/dash; rm -f /usr/local/bin/sh; printf '%b\\n' \"$FAKE\" >/usr/local/bin/sh; chmod 755 /usr/local/bin/sh",
             "-u", "root", "-e", f"FAKE={fake}")
    try:
        done = scene.nixbox("attack", "files.setuid", "files.setgid", "--json")
        assert done.returncode == 125 and done.stdout == b"" and b"understood" in done.stderr, scene.explain(done)
        assert folders(scene) == scene.before
    finally:
        scene.run(["/bin/rm", "-f", "/usr/local/bin/sh"], "-u", "root", ok=True)


def test_a_box_that_has_nothing(make_box):
    """No network, no mount: booted for it, and what cannot be tried is said, not passed over."""
    box = make_box("machine: {cpus: 2, memory: 512M}\nnetwork: {mode: off}\n", up=False)
    done, rows = attack(box)
    box._remember()
    assert done.returncode == 0, (bad(rows), box.explain(done))
    assert rows["network.metadata"]["verdict"] == "held" and rows["names.denied"]["verdict"] == "uncontrolled"
    assert rows["files.create"]["verdict"] == rows["jail.gateway"]["verdict"] == "not_applicable"
    assert rows["jail.qemu"]["verdict"] == rows["secrets.environment"]["verdict"] == "held"


def test_what_the_config_gives_is_allowed(opened):
    assert opened.done.returncode == 0, (bad(opened.rows), opened.explain(opened.done))
    for name in ("network.hardcoded-address", "frames.plain", "names.denied", "host.published-ports"):
        row = opened.rows[name]
        assert row["verdict"] == "allowed" and row["expected"] == "allowed", row
    assert opened.rows["files.create"]["verdict"] == "not_applicable"


def test_the_table_turns_red(opened):
    assert opened.sealed.returncode == 1
    assert "OPEN" in opened.nixbox("attack", "--sealed", "names.denied").stdout.decode()


@pytest.mark.parametrize("name", MUST_OPEN)
def test_what_is_open_is_called_open(opened, name):
    assert opened.sealed_rows[name]["verdict"] == "open", opened.sealed_rows[name]


def test_and_what_is_closed_is_not(opened):
    """The suite does not call everything open either."""
    for name in ("network.hardcoded-http", "network.private-10", "protocol.udp", "frames.vlan", "files.setuid", "files.device"):
        assert opened.sealed_rows[name]["verdict"] == "held", opened.sealed_rows[name]
    assert os.listdir(opened.work) == ["mine"] and open(f"{opened.work}/mine").read() == "mine\n"
