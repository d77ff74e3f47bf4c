"""Files that the host would run, in a mount that the box may write: root inside tries every way to make or change one, and what
came of it is read on the host. The same ways succeed in a box whose config says protect: []."""
import datetime
import json
import os
import stat

import pytest

import harness
import protect_probe

OFF = harness.DEFAULT_CONFIG + "protect: []\n"
CREATED = [".git/hooks/pre-commit", ".git/config", ".git/commondir", ".git/modules/s/hooks/update", ".gitmodules", ".envrc",
           ".vscode/tasks.json", ".idea/workspace.xml", ".claude/settings.json", ".claude/hooks/run.sh", ".mcp.json", "nixbox.yaml",
           ".GIT/Hooks/Pre-Commit", ".EnvRC", ".git"]
CHANGED = [".git/hooks/pre-commit", ".git/config", ".envrc", ".vscode/tasks.json", ".claude/settings.json", "nixbox.yaml", ".git"]
OWNERS = "# the owner's\n[core]\n\tfsmonitor = false\n"


def git(host, folder, *args, ok=True):
    done = host.command(["git", "-c", "safe.directory=*", *args], cwd=folder)
    assert not ok or done.returncode == 0, done
    return done.stdout.decode()


@pytest.fixture(scope="module")
def boxes(host):
    """One that protects, one that does not; the probe lies in their read-only mounts."""
    made = []
    for config in (harness.DEFAULT_CONFIG, OFF):
        box = harness.Box(host, "p", config)
        with open(protect_probe.__file__, encoding="ascii") as f:
            harness.write(f"{box.ro}/probe.py", f.read(), host)
        box.up()
        made.append(box)
    yield made
    for box in made:
        box.close()


def probe(box, *args):
    done = box.run(["sudo", "python3", f"{box.ro}/probe.py", *[str(a) for a in args]])
    assert done.returncode == 0, box.explain(done)


def is_evil(path):
    """What a program of the host would read there, links followed as far as they lead somewhere on the host."""
    try:
        with open(path, "rb") as f:
            return b"EVIL" in f.read()
    except OSError:
        return False


def cases(kind, targets, base):
    return [(f"{name}: {t}", f"{base}/{name}/at+{t.replace('/', '+')}/{t}") for name, _ in protect_probe.ways(kind) for t in targets]


def test_nothing_is_created(boxes):
    protected, control = boxes
    for box in boxes:
        probe(box, "create", f"{box.work}/create", *CREATED)
    made = [what for what, path in cases("create", CREATED, f"{protected.work}/create") if is_evil(path)]
    assert not made
    possible = {what for what, path in cases("create", CREATED, f"{control.work}/create") if is_evil(path)}
    missing = [what for what, _ in cases("create", CREATED, "") if what not in possible
               and not (what.startswith("create_inner_symlink") and "/" not in what.split(": ")[1])]
    assert not missing, "the probe itself does not work"
    attempts = json.loads(protected.nixbox("review", "--json").stdout)["attempts"]
    assert f"{protected.work}/create/create_open/at+.envrc/.envrc" in {a["path"] for a in attempts}
    told = [datetime.datetime.fromisoformat(e["time"]) for e in protected.events("protect")]
    assert told and not control.events("protect")
    assert all((b - a).total_seconds() > 9 for a, b in zip(told, told[64:]))  # a few of very many: 32 in ten seconds


def look(path):
    try:
        st = os.lstat(path)
        with open(path, encoding="ascii") as f:
            return f.read(), stat.S_IMODE(st.st_mode), st.st_ino, st.st_nlink
    except OSError:
        return None


def test_nothing_is_changed(boxes):
    before = {}
    for box in boxes:
        for _, path in cases("change", CHANGED, f"{box.work}/change"):
            box.host.command(["mkdir", "-p", os.path.dirname(path)])
            harness.write(path, OWNERS, box.host)
            before[path] = look(path)
        probe(box, "change", f"{box.work}/change", *CHANGED)
    protected, control = ([(what, path) for what, path in cases("change", CHANGED, f"{box.work}/change")] for box in boxes)
    # what git may do to its config, the guest may: the executable bit means nothing there
    changed = [what for what, path in protected if look(path) != before[path] and not ("mode" in what and what.endswith(".git/config"))]
    assert not changed
    same = [what for what, path in control if look(path) == before[path]]
    assert not same, "the probe itself does not work"


def test_a_config_that_runs_nothing_and_stays_so(boxes):
    """The guest holds on to what it was allowed to write."""
    box, host = boxes[0], boxes[0].host
    repo = host.folder("never")  # outside: where the canary would be
    work = f"{box.work}/config"
    box.sh(f"git init -q {work} && cd {work} && echo x > f && git add f && git -c user.name=a -c user.email=a@b commit -qm x")
    canary = f"{repo}/canary"
    script = f"""
import os
d = "{work}/.git/"
def lock(text):
    fd = os.open(d + "config.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, text)
    return fd
def refused(f, *args):
    try:
        f(*args)
    except OSError as e:
        return
    raise SystemExit("not refused: %r" % (args,))
old = open(d + "config", "rb").read()
evil = old + b"[core]\\n\\tfsmonitor = touch {canary}\\n"
fd = lock(evil)
refused(os.rename, d + "config.lock", d + "config")
refused(os.link, d + "config.lock", d + "x")
refused(os.rename, d + "config.lock", d + "x")
os.unlink(d + "config.lock")
fd = lock(old + b"[user]\\n\\tname = A\\n")
refused(os.link, d + "config.lock", d + "x")
os.rename(d + "config.lock", d + "config")
os.pwrite(fd, evil, 0)
again = os.open("/proc/self/fd/%d" % fd, os.O_RDONLY)
open(d + "y", "wb").write(evil)
refused(os.rename, d + "y", d + "config.lock")
refused(os.rename, d + "y", d + "config")
refused(os.symlink, d + "y", d + "config.lock")
refused(open, d + "config", "r+b")
assert b"name = A" in open(d + "config", "rb").read()
"""
    done = box.run(["python3", "-"], input=script.encode())
    assert done.returncode == 0, box.explain(done)
    with open(f"{work}/.git/config", encoding="ascii") as f:
        text = f.read()
    assert "name = A" in text and "fsmonitor" not in text
    assert sorted(n for n in os.listdir(f"{work}/.git") if "config" in n) == ["config"]
    git(host, work, "status")
    assert not os.path.exists(canary)
    # the same config, written by its owner, does run: the canary works
    git(host, work, "config", "core.fsmonitor", f"touch {canary}")
    git(host, work, "status", ok=False)
    assert os.path.exists(canary)
    box.sh(f"sleep 1.2; cd {work} && git remote add origin https://example.com/x")  # and the guest, once it sees that, can do its part
    with open(f"{work}/.git/config", encoding="ascii") as f:
        assert "fsmonitor" in (text := f.read()) and "example.com" in text


def test_the_lock_of_the_hosts_own_git(boxes):
    """While the host's git writes its config, the file has another name."""
    for box, expected in zip(boxes, (0, 5)):
        work = f"{box.work}/lock"
        git(box.host, box.work, "init", "-q", work)
        harness.write(f"{work}/.git/config.lock", "[user]\n\tname = owner\n", box.host)
        script = f"""
import os
p, n = "{work}/.git/config.lock", 0
for f in (lambda: open(p, "r+b").write(b"EVIL"), lambda: os.chmod(p, 0o777), lambda: os.link(p, p + ".x"),
          lambda: os.rename(p, p + ".y") or os.rename(p + ".y", p), lambda: os.unlink(p)):
    try:
        f()
        n += 1
    except OSError:
        pass
print(n)
"""
        assert box.run(["sudo", "python3", "-"], input=script.encode(), ok=True).stdout.decode().strip() == str(expected)
        if expected == 0:
            with open(f"{work}/.git/config.lock", encoding="ascii") as f:
                assert f.read() == "[user]\n\tname = owner\n"


def test_races(boxes):
    box = boxes[0]
    for b in boxes:
        probe(b, "race", f"{b.work}/race", 4)
    hits = [path for path in (".git/hooks/pre-commit", ".claude/settings.json", "repo/.git/hooks/pre-commit")
            if is_evil(f"{box.work}/race/{path}")]
    assert not hits and not is_evil(f"{box.work}/race/repo/.git/config")
    assert not os.path.islink(f"{box.work}/race/repo/.git/hooks")
    left = [name for name in os.listdir(f"{box.work}/race") if name in (".git", ".claude")]
    assert not left, left
    free = f"{boxes[1].work}/race"
    assert is_evil(f"{free}/repo/.git/config") or os.path.lexists(f"{free}/repo/.git/hooks"), "the probe itself does not work"


def test_other_mounts(boxes):
    """One that is added while the box runs, a single file, a folder within a protected one, a volume."""
    box, host = boxes[0], boxes[0].host
    live, hooks, editor = host.folder("live"), host.folder("hooks") + "/.git/hooks", host.folder("editor")
    host.command(["mkdir", "-p", hooks])
    rc = harness.write(f"{editor}/.envrc", "owner\n", host)
    plain = harness.write(f"{editor}/notes", "owner\n", host)
    for source in (live, hooks, rc, plain):
        assert box.nixbox("mount", f"{source}:/mnt{source}:rw").returncode == 0
    box.run(f"mkdir -p /mnt{live}/sub/.git/hooks; for f in {live}/sub/.git/hooks/post-checkout {live}/.envrc {hooks}/pre-push {rc}; do "
            f"sudo sh -c \"echo EVIL > /mnt$f\"; done; echo EVIL > /mnt{live}/fine; echo EVIL > /mnt{plain}; sync")
    assert not [p for p in (f"{live}/sub/.git/hooks/post-checkout", f"{live}/.envrc", f"{hooks}/pre-push", rc) if is_evil(p)]
    assert is_evil(f"{live}/fine") and is_evil(plain)


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def folders_of(pid):
    """What a process that forgot nothing could go on from: the folders among its descriptors, its root and where it stands. For each
    what is in it, and whether ".." leads out of it."""
    paths = [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")] + [f"/proc/{pid}/root", f"/proc/{pid}/cwd"]
    return [(set(os.listdir(p)), not os.path.samefile(p, f"{p}/..")) for p in paths if os.path.isdir(p)]


def test_what_the_guard_holds_and_sees(boxes):
    """Of the file system nothing, of processes virtiofsd's and its own; a process that opened /proc as it is would hold the host."""
    box = boxes[0]
    guard, virtiofsd = box.child("@guard"), box.child("virtiofsd")
    s = status(guard)
    assert s["Seccomp"] == "2" and s["NoNewPrivs"] == "1"
    for field in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert int(s[field], 16) & ~(1 << 1 | 1 << 3) == 0, field
    own, first = s["NSpid"].split()[-1], status(virtiofsd)["NSpid"].split()[-1]
    assert len(s["NSpid"].split()) == len(status(virtiofsd)["NSpid"].split()) and first == "1"
    if os.getuid() != 0:
        return  # it is not dumpable: nobody else may look any further
    assert os.readlink(f"/proc/{guard}/ns/pid") == os.readlink(f"/proc/{virtiofsd}/ns/pid")
    seen = folders_of(guard)
    assert sorted(seen, key=lambda f: len(f[0])) == [(set(), False), (set(), False), ({first, own, "self", "thread-self"}, False)]
    proc = os.open("/proc", os.O_PATH)  # the control: what it had otherwise
    try:
        assert any(leaves and {str(guard), str(os.getpid()), "sys"} <= names for names, leaves in folders_of(os.getpid()))
    finally:
        os.close(proc)


def test_the_guards_end_is_the_boxes(make_box):
    box = make_box()
    box.host.command(["kill", "-9", str(box.child("@guard"))])
    assert harness.wait_for(lambda: not box.supervisor(), 60)
    assert "the guard was killed" in box.events("box.down")[-1]["reason"]


def test_virtiofsds_end_is_not_taken_for_the_guards(make_box):
    """It takes the guard with it, and the guard is seen to be dead first."""
    box = make_box()
    box.host.command(["kill", "-9", str(box.child("virtiofsd"))])
    assert harness.wait_for(lambda: not box.supervisor(), 60)
    assert "virtiofsd was killed" in box.events("box.down")[-1]["reason"]


def test_a_guest_that_ends_its_machine_is_believed(make_box):
    """virtiofsd then ends in order, and the guard with it by a signal: that is nobody's fault."""
    box = make_box()
    box.run("sudo sh -c 'echo o >/proc/sysrq-trigger; sleep 60'")
    assert harness.wait_for(lambda: not box.supervisor(), 60)
    assert "the guest ended its machine" in box.events("box.down")[-1]["reason"]


