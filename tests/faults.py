"""Faults at random moments: a box is started, used and taken down over and over, and each time something happens to it (a
process is killed or stopped, all stand still as in a suspended host, the clock jumps, the disk is full, files cannot grow, a command
may open few files). After each
round the next command must find everything in order: no process, mount, socket, device or temporary file is left, no file of the
owner's is lost or half written, and nothing reached the laboratory's internet that the policy does not allow.

    Faults(host, lab, seed).run(rounds)       raises AssertionError with the seed and the round's story

The seed decides what is done to whom and when; what the machine does meanwhile it cannot decide."""
import hashlib
import os
import random
import signal
import subprocess
import time

import harness
import netlab
import oci_images
from hosts import Clock, Disk

ALLOWED, DENIED = "fault-allowed.example", "fault-denied.example"
CONFIG = """\
machine: {cpus: 1, memory: 512M, disk-floor: 0}
network: {mode: filtered, allow: [%s]}
mounts:
  - {source: ./work, write: true}
  - {source: ./ro}
setup: ["setsid python3 {work}/knock.py >/dev/null 2>&1 </dev/null &"]
""" % ALLOWED
# What the guest tries all the time: everything that the policy denies, and what it allows as the control.
KNOCK = f"""
import socket, time
def tcp(host):
    try:
        socket.create_connection((host, 80), 2).sendall(b"GET / HTTP/1.0\\r\\nHost: " + host.encode() + b"\\r\\n\\r\\n")
    except OSError:
        pass
while True:
    for host in ("{ALLOWED}", "{DENIED}", "8.8.8.8", "10.77.0.9", "169.254.169.254"):
        tcp(host)
    try:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.sendto(b"\\1\\2\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\5fault\\7example\\0\\0\\1\\0\\1", ("8.8.8.8", 53))
        s.sendto(b"x", ("8.8.8.8", 9))
        s.close()
    except OSError:
        pass
    time.sleep(0.3)
"""
END = 150  # seconds in which a command must end, whatever happens to the box
BIG = 3 << 20
YEAR = 365 * 86400


class Faults:
    """All that a round can spoil (config, mounts, state and runtime folder, the image's config) lies on a small disk of its own."""

    def __init__(self, host, lab, seed):
        self.lab, self.random, self.seed = lab, random.Random(f"{seed} {host.name}"), seed
        self.clock = Clock(netlab.LabHost(host.name, "faults", lab))
        self.host = self.clock.host
        self.disk = Disk(self.host.folder("disk"), self.host.uid, self.host.gid, lab)
        self.host.own = self.disk.path
        self.host.runtime, self.host.state = (harness.make_folder(f"{self.host.own}/{part}", host.uid, host.gid) for part in ("run", "state"))
        self.host.env = {**self.host.env, "XDG_RUNTIME_DIR": self.host.runtime, "XDG_STATE_HOME": self.host.state}
        lab.zone(ALLOWED, A=["93.184.216.40"])
        lab.zone(DENIED, A=["93.184.216.41"])
        self.box = harness.Box(self.host, "faults", CONFIG)
        self.box.write_config(CONFIG.replace("{work}", self.box.work))
        harness.write(f"{self.box.work}/knock.py", KNOCK, self.host)
        self.owned = {harness.write(f"{folder}/owned", os.urandom(70000), self.host): None for folder in (self.box.work, self.box.ro)}
        self.owned = {path: digest(path) for path in self.owned}
        self.big = [harness.write(f"{self.box.folder}/big{n}", bytes([n]) * BIG, self.host) for n in (1, 2)]
        self.image = self.host.folder("faults-image")
        oci_images.busybox_folder(f"{self.image}/root")
        harness.write(f"{self.image}/root/seed", f"{seed} {host.name}")  # an image of its own
        harness.write(f"{self.image}/nixbox.yaml", "name: faults-image\nnetwork: {mode: off}\nimage: {base: 'dir:./root'}\n", self.host)
        for top, _, files in os.walk(self.image):
            for name in [".", *files]:
                os.lchown(os.path.join(top, name), host.uid, host.gid)
        outside = harness.Host(host.name, "faults")  # a lock is made from Debian's lists, which the laboratory has not
        done = outside.nixbox("image", "build", cwd=self.image, timeout=600)
        assert done.returncode == 0, done.stderr.decode()
        self.made = done.stdout.decode().split()[1]
        self.actions = [self.up, self.run_command, self.idle, self.copy_in, self.copy_out, self.mount, self.allow, self.build, self.down]
        self.faults = [self.kill, self.kill, self.kill, self.stop, self.suspend, self.jump, self.few_files, self.small_files, self.full]
        self.story, self.done = [], {}

    # ---------------------------------------------------------------------------------------------------- what is done
    def tell(self, what):
        self.story.append(what)

    def nixbox(self, *args, cwd=None, prefix=()):
        return self.host.popen([*prefix, self.host.bin, *args], cwd=cwd or self.box.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def ready(self):
        done = self.box.up(ok=False)
        assert done.returncode == 0, "a box does not start after the fault before\n" + self.box.explain(done)

    def up(self, prefix):
        return self.nixbox("up", "--accept", prefix=prefix)

    def run_command(self, prefix):
        self.ready()
        return self.nixbox("run", f"for i in 1 2 3 4 5 6; do date >{self.box.work}/made; cat {self.box.work}/owned | wc -c; done", prefix=prefix)

    def idle(self, prefix):
        self.ready()
        return self.nixbox("run", "sleep 0.7", prefix=prefix)

    def copy_in(self, prefix):
        self.ready()
        return self.nixbox("cp", self.big[0], f"{self.box.name}:/tmp/big", prefix=prefix)

    def copy_out(self, prefix):
        """Over a file of the owner's, which is the old one or the new one afterwards."""
        self.ready()
        self.box.run(f"head -c {BIG} /dev/zero | tr '\\0' '\\1' >/tmp/out")
        self.out = harness.write(f"{self.box.folder}/out", b"\2" * BIG, self.host)
        return self.nixbox("cp", f"{self.box.name}:/tmp/out", self.out, prefix=prefix)

    def mount(self, prefix):
        self.ready()
        harness.make_folder(f"{self.box.folder}/more", self.host.uid, self.host.gid)
        return self.nixbox("mount", "./more:/mnt/more:rw", prefix=prefix)

    def allow(self, prefix):
        self.ready()
        return self.nixbox("allow", "--save", f"other{self.random.randrange(1 << 30)}.example", prefix=prefix)

    def build(self, prefix):
        return self.nixbox("image", "build", "--force", cwd=self.image, prefix=prefix)

    def down(self, prefix):
        self.ready()
        return self.nixbox("down", prefix=prefix)

    # ---------------------------------------------------------------------------------------------------- what happens
    def mine(self):
        """{pid: command line} of all that runs for this box and its commands."""
        table = harness.processes()
        others = set()
        for pid in harness.helpers:
            others |= set(harness.subtree(pid, table))
        for box in harness.Box.live:
            if box is not self.box and box.supervisor():
                others |= set(harness.subtree(box.supervisor(), table))
        return {pid: line for pid, line in harness.subtree(os.getpid(), table).items() if pid not in others and pid != os.getpid()}

    def victim(self):
        mine = self.mine()
        if not mine:
            return None
        pid = self.random.choice(sorted(mine))
        self.tell(f"{pid} ({mine[pid][:60]})")
        return pid

    def wait(self, p):
        """Until a moment within what such a command takes."""
        time.sleep(self.random.random() ** 2 * self.random.choice((0.3, 1.0, 3.0)))
        self.tell("already over:" if p.poll() is not None else "under way:")

    def kill(self, action):
        p = action([])
        self.wait(p)
        self.signal(self.victim(), signal.SIGKILL)
        return p

    def stop(self, action):
        p = action([])
        self.wait(p)
        pid = self.victim()
        self.signal(pid, signal.SIGSTOP)
        time.sleep(self.random.choice((0.2, 1.5)))
        self.signal(pid, signal.SIGCONT)
        return p

    def suspend(self, action):
        p = action([])
        self.wait(p)
        mine = list(self.mine())
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in mine:
                self.signal(pid, number)
            time.sleep(1)
        return p

    def few_files(self, action):
        number = self.random.choice((4, 8, 12, 16, 24, 40))
        self.tell(f"at most {number} open files")
        return action(["prlimit", f"--nofile={number}:{number}"])

    def jump(self, action):
        """The clock is set, once or twice, and stays like that until a later round."""
        p = action([])
        self.wait(p)
        for _ in range(self.random.choice((1, 2))):
            seconds = self.random.choice((0, 1, 60, 3600, 86400, 400 * 86400, 20 * YEAR)) * self.random.choice((1, -1))
            self.tell(f"{seconds:+} seconds")
            self.clock.set(seconds)
            time.sleep(self.random.random())
        return p

    def full(self, action):
        """The disk is full, from before the command or from a moment within it, until it has ended."""
        left = self.random.choice((0, 0, 4096, 100000, 1 << 20))
        first = action != self.copy_out and self.random.random() < 0.3
        if first:
            if action != self.up:
                self.ready()
            self.disk.fill(left)
        p = action([])
        if not first:
            self.wait(p)
            self.disk.fill(left)
        self.tell(f"disk full but for {left} bytes:")
        return p

    def small_files(self, action):
        """No file may grow beyond what it has."""
        size = self.random.choice((0, 1, 100, 5000, 100000))
        self.tell(f"no file of more than {size} bytes")
        return action(["prlimit", f"--fsize={size}:{size}", "env", "--ignore-signal=XFSZ"])

    def signal(self, pid, number):
        if pid and harness.alive(pid):
            os.kill(pid, number)

    # ---------------------------------------------------------------------------------------------------- what must hold
    def ends(self, p):
        try:
            out = p.communicate(timeout=END)[0]
        except subprocess.TimeoutExpired:
            self.tell(f"still there: {self.mine()}")
            p.kill()
            raise AssertionError("the command did not end") from None
        self.tell(f"exit {p.returncode}: {out.decode(errors='replace').strip()[-300:]}")
        # 127: with too few files its libraries could not be loaded; 129, 137: what ran inside got SIGHUP or SIGKILL
        assert p.returncode in (0, 125, 127, 129, 137, -9), "an exit status that is nobody's"

    def nothing_ended(self, action, p):
        """After a jump of the clock, which nothing has to do with."""
        assert p.returncode == 0, "a jump of the clock made the command fail"
        if action == self.build:
            return
        assert action == self.down or self.box.status()["state"] == "running", "a jump of the clock ended the box"
        for command in ("events", "logs"):
            done = self.box.nixbox(command, timeout=END)
            assert done.returncode == 0, self.box.explain(done)

    def next_commands(self):
        for args in (["status", "--json"], ["down"]):
            done = self.box.nixbox(*args, timeout=END)
            assert done.returncode == 0, self.box.explain(done)

    def nothing_left(self):
        left = harness.wait_for(lambda: not self.mine()) or self.mine()
        self.box.reap()
        assert left is True or not left, f"processes are left: {left}"
        assert not self.box.leftovers(), self.box.leftovers()
        assert not os.path.exists(self.box.runtime), os.listdir(self.box.runtime)
        links = self.host.command(["ip", "-o", "link"]).stdout.decode()
        assert "tap" not in links and "tun" not in links, links
        mounts = self.host.command(["cat", "/proc/self/mounts"]).stdout.decode()
        assert self.box.runtime not in mounts and "fuse" not in mounts, mounts
        known = {"events.jsonl", "box.log", "console.log", "lock", "events.jsonl.1", "box.log.1", "console.log.1"}
        if os.path.exists(self.box.state):  # not yet, where the first of all commands was killed
            assert set(os.listdir(self.box.state)) <= known, os.listdir(self.box.state)

    def owner_lost_nothing(self):
        for path, was in self.owned.items():
            assert digest(path) == was, f"{path} is not what it was"
        files = set(os.listdir(self.box.folder))
        assert files <= {"nixbox.yaml", "nixbox.lock", "work", "ro", "big1", "big2", "out", "more"}, f"left in the owner's folder: {files}"
        assert set(os.listdir(self.box.work)) <= {"owned", "knock.py", "made"}, os.listdir(self.box.work)
        done = self.box.nixbox("config", "--json")
        assert done.returncode == 0, "the config is damaged\n" + self.box.explain(done)
        if "out" in files:
            with open(f"{self.box.folder}/out", "rb") as f:
                content = f.read()
            assert content in (b"\1" * BIG, b"\2" * BIG), f"half a file: {len(content)} bytes, {content.count(1)} of them new"

    def image_is_whole(self):
        done = self.host.nixbox("image", "build", cwd=self.image, timeout=END)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.decode().split()[1] == self.made
        for place in (f"{self.host.data}/nixbox", f"{self.host.data}/nixbox/images"):
            odd = [name for name in os.listdir(place) if name.startswith(".") or name.endswith((".new", ".tmp", ".part"))]
            assert not odd, f"left in the store: {odd}"

    def nothing_got_out(self, since):
        reached = [r for r in self.lab.records(since) if r.get("sni") != ALLOWED and r.get("host") != ALLOWED
                   and not (r["kind"] == "dns" and (r["name"] == ALLOWED)) and r.get("to") != "93.184.216.40"]
        assert not reached, f"the policy was wider for a moment: {reached}"

    def round(self):
        self.story = []
        action, fault = self.random.choice(self.actions), self.random.choice(self.faults)
        self.tell(f"{action.__name__}, {fault.__name__}:")
        since = self.lab.mark()
        p = fault(action)
        self.ends(p)
        if fault == self.jump:
            self.nothing_ended(action, p)
        self.disk.empty()
        self.next_commands()
        self.nothing_left()
        self.owner_lost_nothing()
        if action == self.build:
            self.image_is_whole()
        self.nothing_got_out(since)
        self.done[f"{action.__name__}/{fault.__name__}"] = self.done.get(f"{action.__name__}/{fault.__name__}", 0) + 1

    def run(self, rounds):
        since = self.lab.mark()
        for number in range(1, rounds + 1):
            try:
                self.round()
            except AssertionError as e:
                raise AssertionError(f"seed {self.seed}, round {number}: {' '.join(self.story)}\n{e}") from None
            print(f"seed {self.seed}, round {number}: {' '.join(self.story)}", flush=True)
        self.ready()
        assert self.lab.wait_seen("http", 60, host=ALLOWED), "the guest's knocking is not heard where it is allowed"
        assert self.lab.seen("http", after=since, host=ALLOWED)
        self.box.down()

    def close(self):
        self.box.close()
        self.host.nixbox("image", "rm", self.made)
        self.disk.close()
        self.clock.close()


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()
