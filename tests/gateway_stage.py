"""The gateway on a stage: the real gateway and resolver beside a box's real network namespace, with a program of the test in the
guest's place and a far side that the test made. No guest is booted, so this is where load and lifetimes are tested.

    far side:  names as in NAMES, at addresses that only exist there; far_side.py runs the servers, load-peer those for load
    host:      a namespace whose only way out is the far side; gateway and resolver run there
    guest:     a namespace with the guest's address on a TAP device; stage.guest(...) runs programs in it"""
import json
import os
import queue
import subprocess
import tempfile
import textwrap
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("NIXBOX_TEST_BUILD", f"{os.path.dirname(HERE)}/build")
PEER = f"{BUILD}/tests/load/load-peer"
NAMES = {"a.example": "93.184.216.34", "b.example": "93.184.216.35", "c.example": "93.184.216.36",
         "private.example": "10.1.2.3", "mixed.example": "93.184.216.34 10.1.2.3", "metadata.example": "169.254.169.254"}
PATIENCE = 30  # seconds of a program in the guest's place before it takes an answer for lost
WAIT = 60  # seconds for what is sure to happen, on the busiest of machines


def wait_for(what, seconds=WAIT):
    """Until what() is true; its last value."""
    end = time.monotonic() + seconds
    while not (value := what()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


class Namespaces:
    """The far side's and the host's namespaces, each kept by a process that sleeps."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="stage-")
        self.as_root = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
        self.host = self.holder(*self.as_root, "--mount", "--net")
        self.far = self.holder("--net", inside=self.host)
        with open(f"{self.folder}/hosts", "w", encoding="ascii") as f:
            f.write("127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, all in NAMES.items() for a in all.split()))
        with open(f"{self.folder}/resolv.conf", "w", encoding="ascii") as f:
            f.write("nameserver 10.77.0.1\noptions timeout:1 attempts:1\n")
        for name in ("hosts", "resolv.conf"):
            self.run(self.host, "mount", "--bind", f"{self.folder}/{name}", f"/etc/{name}")
        ports = ["sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"]  # a connection to one address needs a port each
        for line in (["ip", "link", "set", "lo", "up"], ["ip", "link", "add", "up0", "type", "veth", "peer", "name", "down0"],
                     ["ip", "link", "set", "down0", "netns", str(self.far.pid)], ["ip", "addr", "add", "10.77.0.2/30", "dev", "up0"],
                     ["ip", "link", "set", "up0", "up"], ["ip", "route", "add", "default", "via", "10.77.0.1"], ports):
            self.run(self.host, *line)
        addresses = {a for all in NAMES.values() for a in all.split()}
        for line in [["ip", "link", "set", "lo", "up"], ["ip", "addr", "add", "10.77.0.1/30", "dev", "down0"],
                     ["ip", "link", "set", "down0", "up"]] + [["ip", "addr", "add", f"{a}/32", "dev", "lo"] for a in addresses]:
            self.run(self.far, *line)

    def holder(self, *flags, inside=None):
        argv = ["unshare", *flags, "sh", "-c", "echo; exec sleep infinity"]
        p = subprocess.Popen((self.enter(inside) if inside else []) + argv, stdout=subprocess.PIPE, text=True)
        p.stdout.readline()
        return p

    def enter(self, holder):
        kinds = ["--net"] + (["--mount"] if holder is not getattr(self, "far", None) else [])
        return ["nsenter", "-t", str(holder.pid), *(["--user", "--preserve-credentials"] if self.as_root else []), *kinds]

    def run(self, holder, *argv):
        subprocess.run([*self.enter(holder), *argv], check=True, stdin=subprocess.DEVNULL)

    def start(self, holder, *argv, **popen):
        return subprocess.Popen([*self.enter(holder), *argv], **popen)

    def close(self):
        for holder in (self.far, self.host):
            holder.kill()
            holder.wait()
        subprocess.run(["rm", "-rf", self.folder], check=False)


class Far:
    """The servers of the far side (far_side.py) and what they saw."""

    def __init__(self, spaces, program=None):
        argv = program or ["python3", f"{HERE}/far_side.py", spaces.folder]
        self.process = spaces.start(spaces.far, *argv, stdout=subprocess.PIPE, text=True)
        self.seen = []
        assert self.process.stdout.readline().strip() == "ready"
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.seen.append(json.loads(line))

    def close(self):
        self.process.kill()
        self.process.wait()


class Stage:
    def __init__(self, spaces, rules, mode="filtered", files=None, **more):
        self.spaces, self.lines, self.names, self.arrived = spaces, [], {}, queue.Queue()
        limit = ["prlimit", f"--nofile={files}"] if files else []
        self.process = spaces.start(spaces.host, *limit, f"{BUILD}/tests/load/load-stage", f"{BUILD}/nixbox-gateway",
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.mode = mode
        self.send({"mode": mode, "rules": rules, **more})
        self.pids = json.loads(self.process.stdout.readline())["stage"]
        threading.Thread(target=self.read, daemon=True).start()
        assert wait_for(lambda: {"ready": True} in self.lines), "the gateway does not become ready"

    def send(self, doc):
        self.process.stdin.write(json.dumps(doc) + "\n")
        self.process.stdin.flush()

    def policy(self, rules):
        """Replaces the rules; returns when the gateway has taken them."""
        marker = f"marker{len(self.lines)}.example"
        self.send({"policy": {"mode": self.mode, "rules": [*rules, {"host": marker, "ports": [1], "private": True}]}})
        assert wait_for(lambda: marker in self.names)

    def read(self):
        for line in self.process.stdout:
            doc = json.loads(line)
            if "name" in doc:
                self.names[doc["name"][0]] = doc["name"][1]
            self.lines.append(doc)

    def events(self, **match):
        return [l["event"] for l in self.lines if "event" in l and all(l["event"].get(k) == v for k, v in match.items())]

    def event(self, **match):
        """Waits for the event; it has to be the only one of its kind. A connection's is the one at its end."""
        found = wait_for(lambda: [e for e in self.events(**match) if e["type"] != "connect" or e["decision"] == "deny" or "bytes_up" in e])
        assert len(found) == 1, (match, self.lines)
        return found[0]

    def total(self, host):
        """(up, down) so far."""
        mine = [l["total"] for l in self.lines if "total" in l and l["total"]["host"] == host]
        return sum(t["up"] for t in mine), sum(t["down"] for t in mine)

    def guest(self, *argv, **popen):
        return subprocess.Popen([*self.spaces.enter(self.spaces.host), "nsenter", f"--net=/proc/{self.pids['guest']}/ns/net", *argv],
                                text=True, **popen)

    def python(self, code, seconds=WAIT):
        """Runs code in the guest's place; what it assigned to `result`."""
        prelude = "import json, socket, ssl, sys, time\n"
        p = self.guest("python3", "-c", prelude + code + "\nprint(json.dumps(result))", stdout=subprocess.PIPE)
        out, _ = p.communicate(timeout=seconds)
        assert p.returncode == 0, out
        return json.loads(out)

    def connected(self, name, port, then):
        """Python code that runs `then` with a connection as s; where it is reset at any moment, result is "ConnectionResetError"."""
        return f"""
def get(n=65536):
    try: return s.recv(n).decode("latin-1")
    except ConnectionError as e: return type(e).__name__
    except TimeoutError: return "timeout"
def all():
    text = ""
    while True:
        more = get()
        if more in ("", "ConnectionResetError", "timeout"): return [text, more]
        text += more
try:
    s = socket.create_connection(("{self.names[name]}", {port}), {PATIENCE})
{textwrap.indent(then, "    ")}
except ConnectionError as e: result = type(e).__name__
"""

    def talk(self, name, port, then):
        """Runs `then` with a connection as s in the guest's place; see connected()."""
        return self.python(self.connected(name, port, then))

    def peer(self, *args):
        """One of load-peer's clients, to its end."""
        p = self.guest(PEER, *map(str, args), stdout=subprocess.PIPE)
        out, _ = p.communicate()
        assert p.returncode == 0, out
        return json.loads(out)

    def hold(self, name, count):
        """That many connections, open until the process's stdin is closed; what was measured is in .result."""
        p = self.guest(PEER, "hold", self.names[name], str(count), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.result = json.loads(p.stdout.readline())
        return p

    def memory(self):
        """Of the gateway alone, in bytes: what no other process shares with it."""
        with open(f"/proc/{self.pids['gateway']}/smaps_rollup", encoding="ascii") as f:
            return sum(int(l.split()[1]) * 1024 for l in f if l.startswith("Private_"))

    def pss(self):
        with open(f"/proc/{self.pids['gateway']}/smaps_rollup", encoding="ascii") as f:
            return sum(int(l.split()[1]) * 1024 for l in f if l.startswith("Pss:"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pids['gateway']}/fd"))

    def close(self):
        self.process.stdin.close()
        self.process.wait()
