"""Probes from inside a box: many in one run of escape/netprobe.c, each with a name under which its result is found.

    p = Probes(box)
    p.talk("plain", "allowed.example", 80, packets.get("allowed.example", "/plain"))
    p.ask("direct", "8.8.8.8", packets.query("denied.example"))
    results = p.run()
    results["plain"].text, results["direct"].answer
The result is only what the guest saw; the verdict is read from the laboratory."""
import os
import shutil
import subprocess
import time

import harness
import packets

PROGRAM = f"{os.environ.get('NIXBOX_TEST_BUILD', f'{harness.ROOT}/build')}/tests/escape/escape-netprobe"
QUIET = 1500  # ms of silence after which an answer counts as complete
SETTLE = 1  # seconds in which what was sent without an answer has arrived, before tests say that something did not
TOLD = 30  # seconds within which an event is told: those that repeat wait for each other, and the host may be busy


class Result:
    """What the guest saw. connect: "ok" or the name of an error; ms: how long connecting took; at: the address that the name
    had, name: the code of an answer without one; reads: [bytes]; end: "open", "eof", "silent" or the name of an error."""

    def __init__(self, words):
        self.connect = self.end = self.at = self.name = None
        self.ms, self.reads, self.frames, self.sent, self.reset = None, [], [], None, False
        for key, _, value in (word.partition("=") for word in words):
            if key == "r":
                self.reads.append(bytes.fromhex(value))
            elif key == "frame":
                self.frames.append(bytes.fromhex(value))
            elif key == "ms":
                self.ms = int(value)
            elif key == "b":
                self.sent = int(value)
            elif key == "reset":
                self.reset = True
            else:
                setattr(self, key, value)

    @property
    def data(self):
        return b"".join(self.reads)

    @property
    def text(self):
        return self.data.decode("latin-1")

    @property
    def answer(self):
        """The answer to a query for a name, None if none came."""
        return packets.Answer(self.data) if self.data else None

    @property
    def refused(self):
        """No connection, said at once."""
        return self.connect in ("ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EACCES", "ENOENT", "ECONNRESET")

    def __repr__(self):
        return f"<{ {k: v for k, v in vars(self).items() if v not in (None, [], False)} }>"


class Probes:
    def __init__(self, box):
        self.box, self.lines, self.framed = box, {}, set()
        self.program = f"{box.ro}/netprobe"
        if not os.path.exists(self.program):
            shutil.copy(PROGRAM, self.program)
            os.chmod(self.program, 0o755)

    def add(self, name, *words):
        assert name not in self.lines and " " not in name
        self.lines[name] = " ".join(str(w) for w in words)

    def talk(self, name, host, port, *steps):
        """A TCP connection. Steps: bytes are sent, then the answer is read; text as netprobe.c has it ("r500", "w100", "e")."""
        words = []
        for step in steps:
            words += [f"s{step.hex()}", f"a{QUIET}"] if isinstance(step, bytes) else [step]
        self.add(name, "talk", host, port, *words)

    def ask(self, name, server, message, via="udp", port=53, ms=15000):
        self.add(name, "ask", server, port, via, message.hex(), ms)
        if via == "tcp":
            self.framed.add(name)

    def datagram(self, name, host, port, payload, ms=15000):
        self.add(name, "datagram", host, port, payload.hex(), ms)

    def echo(self, name, address, ms=2000):
        self.add(name, "echo", address, ms)

    def frame(self, name, data, delay=0):
        self.add(name, "frame", data.hex(), delay)

    def raw(self, name, proto, address, payload):
        self.add(name, "raw", proto, address, payload.hex())

    def input(self):
        return "".join(f"{name} {line}\n" for name, line in self.lines.items()).encode()

    def run(self, timeout=180):
        """{name: Result} of everything that was added, which is done all at once."""
        done = self.box.run([self.program], "-u", "root", input=self.input(), ok=True, timeout=timeout)
        return self.results(done.stdout)

    def start(self):
        """Like run(), but comes back at once; finish() gives the results."""
        self.process = self.box.host.popen([self.box.host.bin, "run", "-u", "root", "--", self.program], cwd=self.box.folder,
                                           stdin=subprocess.PIPE)
        self.process.stdin.write(self.input())
        self.process.stdin.close()

    def finish(self, timeout=180):
        out = self.process.stdout.read()
        assert self.process.wait(timeout) == 0, self.process.stderr.read()
        return self.results(out)

    def results(self, output):
        found = {line.split()[0]: Result(line.split()[1:]) for line in output.decode().splitlines()}
        lost = set(self.lines) - set(found)
        assert not lost, f"no result of {lost}: {output[-2000:]!r}"
        for name in self.framed:
            found[name].reads = [data[2:] for data in found[name].reads]
        return found


class Scene:
    """A box in the laboratory, probes that were run in it, and what the far side and the event log say about them afterwards."""

    def __init__(self, lab, box):
        self.lab, self.box = lab, box
        self.after, self.frames_before = lab.mark(), self._frames()
        self.probes, self.results = Probes(box), {}

    def _frames(self):
        return {tuple(v for k, v in f.items() if k != "count"): f["count"] for f in self.lab.frames()}

    def run(self):
        """Carries out the probes that were added, and waits until what they caused has arrived."""
        self.results.update(self.probes.run())
        self.probes = Probes(self.box)
        time.sleep(SETTLE)

    def __getitem__(self, name):
        return self.results[name]

    def seen(self, kind=None, **match):
        return self.lab.seen(kind, self.after, **match)

    def queries(self, name=None, below=None):
        return self.lab.dns_queries(name, self.after, below)

    def reached(self, *addresses):
        """Everything that went to these addresses: records of servers, and frames of any kind on the wire."""
        records = [r for r in self.lab.records(self.after) if r.get("to") in addresses and r["kind"] != "dns"]
        return records + [f for f in self.lab.frames() if f["to"] in addresses and f["count"] > self.frames_before.get(
            tuple(v for k, v in f.items() if k != "count"), 0)]

    def events(self, decision=None, **match):
        """Events about the network; for tests that there are some, which are waited for."""
        def found():
            return [e for e in self.box.events() if e["type"] in ("dns", "connect", "http") and decision in (None, e.get("decision"))
                    and all(e.get(k) == v for k, v in match.items())]

        return harness.wait_for(found, TOLD)

    def denied(self, **match):
        return self.events("deny", **match)

    def python(self, script, *args, **kwargs):
        """Runs Python in the box; its output."""
        return self.box.run(["python3", "-I", "-c", script, *args], **kwargs).stdout.decode()
