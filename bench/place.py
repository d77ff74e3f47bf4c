"""A place to run boxes in: its own runtime and state folders, so that measurements touch nobody's boxes. Images are shared
with the caller (the data and cache folders stay as they are). Used by bench/run and tools/soak."""
import os
import shutil
import signal
import subprocess
import tempfile
import time


class Failed(Exception):
    """A command that failed or hung, with what there is to see."""


class Place:
    def __init__(self, nixbox, config, name="bench"):
        self.nixbox = os.path.abspath(nixbox)
        self.name = name
        self.root = tempfile.mkdtemp(prefix="nixbox-bench-")
        os.mkdir(f"{self.root}/run", 0o700)
        os.mkdir(f"{self.root}/state", 0o700)
        self.folder = f"{self.root}/{name}"
        os.mkdir(self.folder)
        self.write(config)
        self.env = dict(os.environ, XDG_RUNTIME_DIR=f"{self.root}/run", XDG_STATE_HOME=f"{self.root}/state")

    def write(self, config):
        """Replaces the config; what it had been resolved to is forgotten."""
        with open(f"{self.folder}/nixbox.yaml", "w", encoding="utf-8") as f:
            f.write(config)
        if os.path.exists(f"{self.folder}/nixbox.lock"):
            os.unlink(f"{self.folder}/nixbox.lock")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.run("down", timeout=60)
        except Failed:
            self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, *args, timeout=120, **kw):
        """Runs nixbox with these arguments and returns its standard output; Failed if it fails or hangs."""
        kw.setdefault("stdout", subprocess.PIPE)
        try:
            done = subprocess.run([self.nixbox, *args], cwd=self.folder, env=self.env, timeout=timeout, stdin=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, check=False, **kw)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"nixbox {' '.join(args)}: not done after {timeout} s") from e
        if done.returncode != 0:
            raise Failed(f"nixbox {' '.join(args)}: status {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def up(self, timeout=300):
        """Boots the box and runs a command in it; returns the seconds until that command has run."""
        began = time.monotonic()
        self.run("up", "--accept", timeout=timeout)
        self.run("run", "--", "true", timeout=timeout)
        return time.monotonic() - began

    def processes(self):
        """{role: [pid]} of the box's processes, by what they were started as, below the supervisor."""
        found = {"supervisor": [], "conduit": [], "guard": [], "virtiofsd": [], "qemu": []}
        tree = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                    parent = f.read().rpartition(")")[2].split()[1]
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    tree[int(pid)] = (int(parent), f.read().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        ours = set()
        for pid, (_, line) in tree.items():
            if "@supervisor" in line and self.is_ours(pid):
                ours.add(pid)
        grown = True
        while grown:
            more = {pid for pid, (parent, _) in tree.items() if parent in ours} - ours
            ours |= more
            grown = bool(more)
        for pid in sorted(ours):
            line = tree[pid][1]
            for role, word in (("supervisor", "@supervisor"), ("conduit", "@conduit"), ("guard", "@guard"), ("virtiofsd", "virtiofsd "), ("qemu", "qemu-system")):
                if word in line:
                    found[role].append(pid)
                    break
        return found

    def is_ours(self, pid):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if self.root.encode() in f.read():
                    return True
            return any(self.root in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            return False

    def kill(self):
        for pid in self.processes()["supervisor"]:
            os.kill(pid, signal.SIGKILL)

    def evidence(self):
        """What a person needs to see of a box that hangs: its logs and what its processes are doing."""
        text = []
        for log in ("box.log", "console.log"):
            try:
                with open(f"{self.root}/state/nixbox/{self.name}/{log}", encoding="utf-8", errors="replace") as f:
                    text.append(f"--- {log}\n" + "".join(f.readlines()[-40:]))
            except OSError as e:
                text.append(f"--- {log}: {e}\n")
        for role, pids in self.processes().items():
            for pid in pids:
                text.append(f"--- {role} ({pid})\n")
                for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
                    try:
                        with open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8", errors="replace") as f:
                            fields = f.read().rpartition(")")
                        with open(f"/proc/{pid}/task/{task}/wchan", encoding="utf-8", errors="replace") as f:
                            wait = f.read()
                        rest = fields[2].split()
                        text.append(f"  thread {task} {fields[0].partition('(')[2]} state {rest[0]} "
                                    f"user {rest[11]} system {rest[12]} ticks, waits in {wait}\n")
                    except OSError:
                        continue
        return "".join(text)
