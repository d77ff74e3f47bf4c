"""What the end-to-end and escape tests stand on: the installed program, the people who use it, and boxes that are always
taken down and checked for leftovers. Fixtures are in conftest.py; test files only use those and the classes below.

Nothing of the person who runs the tests is touched: programs, home, XDG folders and work folders lie in a folder of
their own below /tmp; only the images (a pure cache) are kept between runs, in NIXBOX_TEST_DATA (default build/test-data).
"""
import ctypes
import fcntl
import itertools
import json
import os
import pathlib
import pty
import pwd
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BASE_ENV = "NIXBOX_E2E_BASE"
PR_SET_CHILD_SUBREAPER = 36
TIMEOUT = 200  # of one nixbox command, in seconds, on the busiest of machines
helpers = set()  # processes of the tests themselves, which are nobody's leftovers

DEFAULT_CONFIG = """\
name: {name}
machine: {cpus: 2, memory: 1G}
network: {mode: off}
mounts:
  - {source: ./work, write: true}
  - {source: ./ro}
"""


# ---------------------------------------------------------------------------------------------------------- preparation
class Preparation:
    """Made once a run, by the process that starts the workers."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="nbt-", dir="/tmp")
        self.made_user = None
        os.chmod(self.base, 0o755)
        os.environ[BASE_ENV] = self.base

    def run(self, argv, **kwargs):
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout.decode(errors='replace')}")

    def prepare(self):
        build = os.environ.get("NIXBOX_TEST_BUILD", f"{ROOT}/build")
        self.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", f"{self.base}/i"])
        self.run(["chmod", "-R", "go+rX", f"{self.base}/i"])
        if os.getuid() == 0:
            self.add_user()
        for name in people():
            for part in ("home", "data", "cache", "w"):
                make_folder(f"{self.base}/{name}/{part}", *ids_of(name))
        if os.environ.get("NIXBOX_TEST_IMAGES") == "0":  # for tests that boot nothing
            return
        first = Host(people()[0], "main")
        folder = first.folder("images")
        write(f"{folder}/nixbox.yaml", "name: images\nnetwork: {mode: off}\n", first)
        done = first.nixbox("image", "build", cwd=folder, timeout=1800)
        if done.returncode != 0:
            raise RuntimeError("nixbox image build failed:\n" + done.stderr.decode(errors="replace"))
        for name in people()[1:]:  # images are the same for everyone: copied instead of built again
            other = Host(name, "main")
            self.run(["cp", "-a", "--reflink=auto", f"{first.data}/.", f"{other.data}/"])
            self.run(["chown", "-R", f"{other.uid}:{other.gid}", other.data])

    def add_user(self):
        name = f"nbt{os.getpid()}"
        os.makedirs(f"{self.base}/user")
        self.run(["useradd", "--no-create-home", "--home-dir", f"{self.base}/user/home", "--shell", "/bin/bash", name])
        self.made_user = name
        os.environ["NIXBOX_E2E_USER"] = name
        for table, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
            have = pathlib.Path(table).read_text() if os.path.exists(table) else ""
            if not re.search(rf"^{name}:", have, re.M):
                start = 200000 + 65536 * (os.getpid() % 1000)
                self.run(["usermod", option, f"{start}-{start + 65535}", name])

    def clean(self):
        for pid in processes():  # after an interrupted run: boxes end with their supervisor
            try:
                if os.readlink(f"/proc/{pid}/exe").startswith(self.base):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        if self.made_user:
            subprocess.run(["userdel", self.made_user], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.base, ignore_errors=True)


def people():
    """Who uses nixbox in the tests: root and an ordinary user, or only oneself where the tests do not run as root."""
    return ["root", "user"] if os.getuid() == 0 else ["self"]


def ids_of(name):
    if name == "user":
        entry = pwd.getpwnam(os.environ["NIXBOX_E2E_USER"])
        return entry.pw_uid, entry.pw_gid
    return os.getuid(), os.getgid()


def make_folder(path, uid, gid, mode=0o700):
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)
    os.chown(path, uid, gid)
    return path


def write(path, content, host=None, mode=0o644):
    """Writes a file, owned by the host's person."""
    with open(path, "wb") as f:
        f.write(content.encode() if isinstance(content, str) else content)
    os.chmod(path, mode)
    if host:
        os.chown(path, host.uid, host.gid)
    return path


# ---------------------------------------------------------------------------------------------------------- processes
def become_parent():
    """Whatever a command leaves running becomes a child of this process, so that it can be found; and what is started here
    takes signals as usual, also where the tests themselves were started with some ignored (in the background of a script)."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ignored in (signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(ignored) == signal.SIG_IGN:
            signal.signal(ignored, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def collect(pid):
    """Takes note of the end of an orphan, as process 1 would: of one from a process id namespace, in which nothing is started here. Until
    it is done, the first process of such a namespace cannot end."""
    try:
        with open(f"/proc/{pid}/status") as f:
            nested = re.search(r"^NSpid:((\t\d+)+)$", f.read(), re.M)
        if nested and len(nested[1].split()) > 1:
            os.waitpid(pid, os.WNOHANG)
    except OSError:
        pass  # another thread was first


def processes():
    """{pid: (parent, state, command line)} of everything on the machine. Orphans that have ended are collected on the way."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as f:
                text = f.read()
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        name, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
        if rest[0] == "Z" and int(rest[1]) == os.getpid():
            collect(int(entry))
        found[int(entry)] = (int(rest[1]), rest[0], line or f"[{name}]")
    return found


def subtree(root, table=None):
    """Live processes below `root` (and itself), without zombies: {pid: command line}."""
    table = table or processes()
    children = {}
    for pid, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    out, todo = {}, [root]
    while todo:
        pid = todo.pop()
        todo += children.get(pid, [])
        if pid in table and table[pid][1] != "Z":
            out[pid] = table[pid][2]
    return out


def alive(pid):
    """True if the process exists and is not just a zombie waiting for its parent."""
    entry = processes().get(pid)
    return bool(entry) and entry[1] != "Z"


def wait_for(what, seconds=30, step=0.05):
    """Calls `what` until it returns something true; returns that, or the last value when time is over."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


def mounts_of_ours():
    with open("/proc/self/mountinfo") as f:
        return [line for line in f if os.environ[BASE_ENV] in line or "/nixbox/" in line]


# ---------------------------------------------------------------------------------------------------------- people
class Host:
    """A person with folders of their own who types nixbox commands. One for each worker and person."""

    numbers = itertools.count(1)  # of the whole process: a Host is made anew when pytest comes back to a person

    def __init__(self, name, worker):
        self.name = name
        self.base = os.environ[BASE_ENV]
        self.uid, self.gid = ids_of(name)
        self.user = pwd.getpwuid(self.uid).pw_name
        self.home = f"{self.base}/{name}/home"
        self.bin = f"{self.base}/i/usr/local/bin/nixbox"
        self.agent = f"{self.base}/i/usr/local/share/nixbox/nixbox-agent"
        self.data = f"{self.base}/{name}/data"
        self.cache = f"{self.base}/{name}/cache"
        if name == people()[0]:
            kept = os.path.abspath(os.environ.get("NIXBOX_TEST_DATA", f"{ROOT}/build/test-data"))
            self.data = make_folder(f"{kept}/data", self.uid, self.gid)
            self.cache = make_folder(f"{kept}/cache", self.uid, self.gid)
        self.own = make_folder(f"{self.base}/{name}/w/{worker}", self.uid, self.gid)
        self.runtime = make_folder(f"{self.own}/run", self.uid, self.gid)
        self.state = make_folder(f"{self.own}/state", self.uid, self.gid)
        self.env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.home, "USER": self.user,
            "LOGNAME": self.user, "SHELL": "/bin/bash", "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": self.runtime,
            "XDG_STATE_HOME": self.state, "XDG_DATA_HOME": self.data, "XDG_CACHE_HOME": self.cache,
        }
        for passed_on in ("NIXBOX_ACCEL", "SOURCE_DATE_EPOCH"):
            if passed_on in os.environ:
                self.env[passed_on] = os.environ[passed_on]

    def __repr__(self):
        return f"<{self.name}>"

    def folder(self, name="f"):
        """A new empty folder of this person."""
        return make_folder(f"{self.own}/{name}{next(Host.numbers)}", self.uid, self.gid)

    def as_user(self):
        """Arguments for subprocess that make a process this person's."""
        if self.uid == os.getuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def wrap(self, argv, cwd):
        """The command line that runs argv where this person sits."""
        return argv

    def popen(self, argv, cwd=None, env=None, **kwargs):
        """Starts any program as this person, in a session of its own, with only the environment of `self.env`."""
        kwargs = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
        argv = self.wrap(argv, cwd or self.own)
        return subprocess.Popen(argv, cwd=cwd or self.own, env={**self.env, **(env or {})}, start_new_session=True,
                                **self.as_user(), **kwargs)

    def command(self, argv, cwd=None, env=None, input=b"", timeout=TIMEOUT, **kwargs):
        """Runs any program as this person to its end. Result with bytes, as of subprocess.run()."""
        p = self.popen(argv, cwd, env, stdin=subprocess.PIPE, **kwargs)
        try:
            out, err = p.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGTERM)
            try:
                out, err = p.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                out, err = p.communicate(timeout=10)
            raise AssertionError(f"no end after {timeout} s: {argv}\nstdout: {out[-2000:]!r}\nstderr: {err[-2000:]!r}") from None
        return subprocess.CompletedProcess(argv, p.returncode, out, err)

    def nixbox(self, *args, **kwargs):
        return self.command([self.bin, *args], **kwargs)

    def terminal(self, argv, cwd=None, env=None, rows=24, cols=80):
        """Starts a program of this person on a pseudo-terminal."""
        return Terminal(self, argv, cwd or self.own, {**self.env, "TERM": "xterm", **(env or {})}, rows, cols)


class Terminal:
    """A program on a pseudo-terminal: send keys, wait for text, look at everything that came."""

    def __init__(self, host, argv, cwd, env, rows, cols):
        self.fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        self.output = b""

        def take_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(host.wrap(argv, cwd), cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True, preexec_fn=take_terminal, **host.as_user())
        os.close(slave)

    def send(self, keys):
        os.write(self.fd, keys.encode() if isinstance(keys, str) else keys)

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def _read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            got = os.read(self.fd, 65536)
        except OSError:  # EIO: the other side is closed
            return None
        self.output += got
        return bool(got) or None

    def expect(self, pattern, seconds=60):
        """Waits until the output from here on matches (bytes regular expression); returns the match."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.output, re.S)
            if found:
                self.output = self.output[found.end():]
                return found
            if time.monotonic() > end or self._read(0.2) is None and not re.search(pattern, self.output, re.S):
                raise AssertionError(f"no {pattern!r} in {self.output[-2000:]!r}")

    def wait(self, seconds=60):
        """Reads to the end; returns the exit status."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._read(0.2) is not None:
            pass
        return self.process.wait(max(1, end - time.monotonic()))

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.fd)


# ---------------------------------------------------------------------------------------------------------- boxes
class Box:
    """One box: a folder with nixbox.yaml, and the commands on it. Folders `work` (mounted for writing) and `ro` (mounted
    read-only) lie beside the default config, and appear at the same paths inside."""

    live = []  # boxes of this worker that were not closed yet

    def __init__(self, host, name="box", config=None):
        self.host = host
        self.folder = host.folder(name)
        self.name = os.path.basename(self.folder)
        self.work = make_folder(f"{self.folder}/work", host.uid, host.gid, 0o755)
        self.ro = make_folder(f"{self.folder}/ro", host.uid, host.gid, 0o755)
        self.runtime = f"{host.runtime}/nixbox/{self.name}"
        self.state = f"{host.state}/nixbox/{self.name}"
        self.pids = set()
        self.write_config(config or DEFAULT_CONFIG)
        Box.live.append(self)

    def write_config(self, text):
        """Replaces nixbox.yaml; {name} stands for the box's name. A text without a name gets it as its first line."""
        text = text.replace("{name}", self.name)
        if not re.search(r"^name:", text, re.M):
            text = f"name: {self.name}\n" + text
        write(f"{self.folder}/nixbox.yaml", text, self.host)

    def nixbox(self, *args, **kwargs):
        """Any nixbox command, typed in the box's folder."""
        return self.host.nixbox(*args, **{"cwd": self.folder, **kwargs})

    def up(self, *args, ok=True, **kwargs):
        done = self.nixbox("up", "--accept", *args, **kwargs)
        self._remember()
        if ok:
            assert done.returncode == 0, self.explain(done)
        return done

    def run(self, command, *options, ok=False, **kwargs):
        """nixbox run: a string goes to the login shell, a list is executed as it is. Bytes in and out."""
        argv = [command] if isinstance(command, str) else ["--", *command]
        done = self.nixbox("run", *options, *argv, **kwargs)
        self._remember()
        if ok:
            assert done.returncode == 0, self.explain(done)
        return done

    def sh(self, command, *options, **kwargs):
        """Runs a shell command that must succeed; its output as stripped text."""
        return self.run(command, *options, ok=True, **kwargs).stdout.decode().strip()

    def serve(self, port, *options):
        """Starts a web server in the box, which outlives the command and has /page; returns when it answers."""
        self.sh(f"""cd /tmp && echo from the box >page
setsid python3 -m http.server {port} </dev/null >/dev/null 2>&1 &
for i in $(seq 300); do curl -s -o /dev/null http://127.0.0.1:{port}/page && exit; sleep 0.1; done; exit 1""", *options)

    def down(self, *args, ok=True, **kwargs):
        done = self.nixbox("down", *args, **kwargs)
        if ok:
            assert done.returncode == 0, self.explain(done)
        return done

    def status(self):
        """This box's object of `nixbox status --json`, or None if it is not running."""
        done = self.nixbox("status", "--json")
        assert done.returncode == 0, self.explain(done)
        answer = json.loads(done.stdout)
        boxes = answer.get("boxes", answer) if isinstance(answer, dict) else answer
        boxes = boxes if isinstance(boxes, list) else [boxes]
        return next((b for b in boxes if (b.get("name") or b.get("box")) == self.name), None)

    def events(self, type=None):
        """The event log, oldest first."""
        path = f"{self.state}/events.jsonl"
        if not os.path.exists(path):
            return []
        with open(path) as f:
            all_events = [json.loads(line) for line in f if line.endswith("\n")]  # the last one may be on its way
        return [e for e in all_events if type is None or e["type"] == type]

    def supervisor(self):
        """Process id of the running box's supervisor, or None."""
        try:
            with open(f"{self.runtime}/pid") as f:
                pid = int(f.read())
        except (OSError, ValueError):
            return None
        return pid if alive(pid) else None

    def processes(self):
        """{pid: command line} of everything that makes up the running box."""
        pid = self.supervisor()
        return subtree(pid) if pid else {}

    def child(self, name):
        """Process id of the box's child whose program has this name (qemu, virtiofsd, conduit)."""
        for pid, line in self.processes().items():
            words = line.split()
            if any(name in word for word in words[:2]):
                return pid
        raise AssertionError(f"no {name} among {self.processes()}")

    def explain(self, done):
        """All that helps to understand a command that ended otherwise than expected."""
        text = [f"{done.args}: exit {done.returncode}", "stdout: " + done.stdout[-3000:].decode(errors="replace"),
                "stderr: " + done.stderr[-3000:].decode(errors="replace")]
        for log in ("box.log", "console.log"):
            try:
                with open(f"{self.state}/{log}", errors="replace") as f:
                    text.append(f"{log}: …" + f.read()[-3000:])
            except OSError:
                pass
        return "\n".join(text)

    def _remember(self):
        pid = self.supervisor()
        if pid:
            self.pids |= set(subtree(pid))

    def leftovers(self):
        """What remains of this box although it has ended: processes, mounts, files in its runtime folder."""
        table = processes()
        others = set()
        for pid in helpers:
            others |= set(subtree(pid, table))
        for box in Box.live:
            if box is not self and box.supervisor():
                others |= set(subtree(box.supervisor(), table))
        mine = {pid: line for pid, line in subtree(os.getpid(), table).items()
                if pid not in others and (pid in self.pids or "nixbox" in line or "qemu" in line or "virtiofsd" in line)
                and table[pid][0] != 0 and pid != os.getpid()}
        found = [f"process {pid}: {line[:200]}" for pid, line in mine.items()]
        found += [f"mount: {line.strip()}" for line in mounts_of_ours() if self.runtime in line]
        if os.path.isdir(self.runtime):
            found += [f"file: {self.runtime}/{name}" for name in os.listdir(self.runtime) if name != "lock"]
        return found

    def reap(self):
        """Collects the box's processes that became children of this one and have ended."""
        for pid in list(self.pids):
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass

    def close(self):
        """Takes the box down, ends by force what does not go, and fails if anything was left behind."""
        if self not in Box.live:
            return
        done = None
        if self.supervisor() or os.path.isdir(self.runtime):
            self._remember()
            try:
                done = self.nixbox("down", timeout=100)
            except AssertionError as e:
                done = subprocess.CompletedProcess(["down"], 1, b"", str(e).encode())
        wait_for(lambda: not self.leftovers())
        left = self.leftovers()
        Box.live.remove(self)
        for line in left:
            if line.startswith("process "):
                try:
                    os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.reap()
        why = f"\n{self.explain(done)}" if done and left else ""
        assert not left, f"left behind by {self.name}: {left}{why}"
