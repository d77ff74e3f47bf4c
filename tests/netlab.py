"""The network laboratory: an internet that the tests made, for boxes that are started in front of it. Fixtures `lab` and
`lab_host` (conftest.py) give it to tests; what happens in it is in netlab_serve.py.

    lab.zone("allowed.example", A=["93.184.216.34"])     what its name server says
    lab.seen("http", host="allowed.example")             what arrived there, judged from the far side
    lab.dns_queries("allowed.example")                   queries that reached any name server
    lab.frames(to="8.8.8.8")                             frames that left the host, whatever they were

Nothing can reach a real address: the namespaces have no route out. Each worker has a laboratory of its own, started with the
first test that needs it."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import harness

SERVE = f"{os.path.dirname(os.path.abspath(__file__))}/netlab_serve.py"
ROUTER, LAN, HOST = "10.77.0.1", "10.77.0.9", "10.77.0.2"
LATE = ("end", "broken")  # records of how a connection ended, long after all else that is known of it
OWN_PUBLIC = "45.45.45.2"  # of the host, in a network of public addresses; .9 is its neighbour there


class Lab:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="lab-", dir=os.environ[harness.BASE_ENV])
        os.chmod(self.folder, 0o755)
        for name in ("dev", "etc", "www", "git"):
            os.makedirs(f"{self.folder}/{name}")
        harness.write(f"{self.folder}/etc/resolv.conf", f"nameserver {ROUTER}\noptions timeout:4 attempts:2\n")
        harness.write(f"{self.folder}/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
        harness.write(f"{self.folder}/etc/hosts", f"127.0.0.1 localhost\n{LAN} printer.lan.example\n")
        self.process = subprocess.Popen(["/usr/bin/python3", "-I", SERVE, self.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        harness.helpers.add(self.process.pid)
        ready = self.process.stdout.readline()
        if not ready:
            self.close()
            raise RuntimeError("the network laboratory did not start")
        self.host = json.loads(ready)["host"]
        self.ca = f"{self.folder}/ca.pem"

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        harness.helpers.discard(self.process.pid)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def zone(self, name, turns=None, **records):
        """What the name server answers for a name: A=[…], AAAA=[…], CNAME="…", TXT=[…], silent=True, fail=True; or a list of
        such dicts that take turns. `*.suffix` answers for every name below it."""
        self.call(op="zone", name=name, zone=turns or records)

    def records(self, after=0):
        return self.call(op="records", after=after)["records"]

    def mark(self):
        """For `after`: only what is seen from now on."""
        return len(self.records())

    def seen(self, kind=None, after=0, **match):
        """What reached a server: each record is a dict with kind (tcp, tls, http, data, udp, ssh, websocket, proxy, …), to, port,
        source, place ("internet" or "host"), sni, and more by kind. `match` picks by equal fields. That a connection ended is
        not something that arrived: it may be told after the mark about one from before it."""
        return [r for r in self.records(after) if (r["kind"] == kind if kind else r["kind"] not in LATE)
                and all(r.get(k) == v for k, v in match.items())]

    def wait_seen(self, kind, seconds=30, **match):
        return harness.wait_for(lambda: self.seen(kind, **match), seconds)

    def dns_queries(self, name=None, after=0, below=None):
        """Queries that reached a name server; for one name, or for all names at and below `below`."""
        return [r for r in self.records(after) if r["kind"] == "dns" and (name is None or r["name"] == name)
                and (below is None or ("." + r["name"]).endswith("." + below))]

    def frames(self, **match):
        """Frames that came from the host, counted: what (ip, ip6, arp, or the type in hex), source, to, proto, sport, port."""
        keys = ("what", "source", "to", "proto", "sport", "port", "count")
        found = [dict(zip(keys, f)) for f in self.call(op="frames")["frames"]]
        return [f for f in found if all(f[k] == v for k, v in match.items())]

    def enter(self, argv, cwd, uid, gid):
        """The command line that runs argv on the laboratory's host as somebody."""
        return ["nsenter", f"--net=/proc/{self.host}/ns/net", f"--mount=/proc/{self.host}/ns/mnt", f"--wdns={cwd}", "-S", str(uid),
                "-G", str(gid), "--", *argv]


class LabHost(harness.Host):
    """A person at the laboratory's host instead of the real one."""

    def __init__(self, name, worker, lab):
        super().__init__(name, f"{worker}-lab")
        self.lab = lab

    def wrap(self, argv, cwd):
        return self.lab.enter(argv, cwd, self.uid, self.gid)

    def as_user(self):
        return {}


def settle(seconds=0.3):
    """Time for what is on its way to arrive, before saying that nothing did."""
    time.sleep(seconds)
