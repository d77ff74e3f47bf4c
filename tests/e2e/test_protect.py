"""What git and other tools can do in a writable mount whose host-run files are protected, what they cannot, and what the owner
sees and says about it."""
import json
import os
import time

import pytest

import harness

NOT_PERMITTED = "Operation not permitted"


@pytest.fixture(scope="module")
def box(shared_box):
    shared_box.up()
    shared_box.sh("""
        git config --global user.name A; git config --global user.email a@b; git config --global init.defaultBranch main
        git config --global advice.detachedHead false
        mkdir ~/srv; git init -q --bare ~/srv/up.git
        git daemon --base-path=$HOME/srv --export-all --enable=receive-pack --detach --reuseaddr --listen=127.0.0.1
        for i in $(seq 300); do git ls-remote git://127.0.0.1/up.git 2>/dev/null && break; sleep 0.1; done  # detached before it listens
        git ls-remote git://127.0.0.1/up.git""")
    return shared_box


def inside(box, command, folder=""):
    done = box.run(f"cd {box.work}/{folder} && {{ {command}\n}}")
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def works(box, command, folder=""):
    code, out = inside(box, f"set -e\n{command}", folder)
    assert code == 0 and NOT_PERMITTED not in out, f"{command}: {code}\n{out}"
    return out


def refused(box, command, folder=""):
    code, out = inside(box, command, folder)
    assert code != 0 and NOT_PERMITTED in out, f"{command}: {code}\n{out}"


def attempts(box):
    answer = json.loads(box.nixbox("review", "--json").stdout)
    return {(a["path"].removeprefix(box.work + "/"), a["op"]): a for a in answer["attempts"]}


def counted(box, path, op, times):
    """The attempt, once so many are known: the guard refuses at once, and the supervisor hears of it when it comes to it."""
    harness.wait_for(lambda: attempts(box).get((path, op), {"count": 0})["count"] >= times, 30)
    return attempts(box).get((path, op))


def test_git_commands_that_work(box):
    works(box, "git init -q p; cd p; echo x > f; git add f; git commit -qm one; git remote add origin git://127.0.0.1/up.git; "
          "git push -q -u origin main")
    works(box, "git clone -q git://127.0.0.1/up.git c")
    script = ""
    for command in ("git checkout -q -b topic", "echo y >> f; git stash -q; git stash pop -q", "git commit -qam two",
                    "git push -q -u origin topic", "git branch -m topic other; git branch spare; git branch -d spare",
                    "git checkout -q main; git merge -q other", "git tag v1", "git fetch -q", "git pull -q", "git rebase -q origin/main",
                    "git gc -q", "git remote set-url origin https://example.com/x.git; git remote set-url origin git://127.0.0.1/up.git",
                    "git config user.name B; git config --unset user.name", "git remote add other https://example.com/y; git remote rm other",
                    "git status -s", "git bundle create -q ../b main; rm ../b"):
        script += f"{command}\n"
    works(box, script, "c")
    works(box, "git clone -q --recurse-submodules git://127.0.0.1/up.git d; mv d e; git -C e status -s; rm -rf e")
    host_view = box.host.command(["git", "-c", "safe.directory=*", "config", "--list", "--local"], cwd=f"{box.work}/c").stdout.decode()
    assert "branch.main.remote=origin\n" in host_view and "remote.origin.url=git://127.0.0.1/up.git\n" in host_view


def test_git_commands_that_are_refused(box):
    works(box, "git init -q r; cd r; echo x > f; git add f; git commit -qm one; git remote add origin git://127.0.0.1/up.git; git fetch -q; "
          "git branch -q -u origin/main")
    refused(box, "git worktree add ../wt", "r")
    refused(box, "git submodule add git://127.0.0.1/up.git sub", "r")
    refused(box, "git clone -q r q")  # a remote that is a folder
    refused(box, "git remote rename origin up", "r")
    refused(box, "git sparse-checkout set f", "r")
    settings = ("core.hooksPath x", "core.fsmonitor x", "core.pager x", "alias.a '!b'", "filter.x.clean y", "include.path x",
                    "credential.helper x", "remote.origin.uploadpack x", "remote.origin.url 'ext::sh -c x'", "url.x.insteadOf y")
    commands = [f"git config {s}" for s in settings] + ["echo x > .git/hooks/pre-commit", "git config --file .gitmodules submodule.x.url y"]
    for_each = "\n".join(f"{{ {c}\n}} && echo DONE" for c in commands)
    code, out = inside(box, for_each, "r")
    assert code != 0 and "DONE" not in out and out.count(NOT_PERMITTED) >= len(commands), out
    assert not os.path.exists(f"{box.work}/wt") and not os.path.exists(f"{box.work}/q")
    works(box, "git status -s; rm -rf .git/worktrees .git/modules sub; test -z \"$(git status --porcelain)\"; git fsck", "r")
    assert counted(box, "r/.git/config", "write", 10)["count"] >= 10
    assert counted(box, "wt/.git", "create", 1) and counted(box, "r/sub/.git", "create", 1)
    works(box, "rm -rf r")  # nothing of an owner's is in it


def test_ordinary_work_is_not_hindered(box):
    """As package managers and build tools go about it: many files, renames of folders, links."""
    works(box, """
        mkdir n; cd n
        for i in 1 2 3; do mkdir -p .staging/pkg$i/lib; for k in $(seq 30); do echo $k > .staging/pkg$i/lib/$k.js; done; done
        mkdir -p node_modules/.bin; for i in 1 2 3; do mv .staging/pkg$i node_modules/pkg$i; ln -s ../pkg$i/lib/1.js node_modules/.bin/p$i; done
        chmod +x node_modules/pkg1/lib/1.js; ln node_modules/pkg1/lib/2.js hard; tar cf t.tar node_modules; mkdir u; tar xf t.tar -C u
        mv node_modules old; mv u/node_modules .; rm -rf old u; mkfifo p; rm p; mkdir .vscode .claude; rmdir .vscode .claude
        echo notes > CLAUDE.md; printf 'all:\\n\\techo built > out\\n' > Makefile; cat out 2>/dev/null || echo built > out; truncate -s 3 out
        cd ..; rm -rf n""")


def test_what_the_owner_sees(box):
    start = time.monotonic()
    refused(box, "set -e\nmkdir -p seen; for i in $(seq 100); do echo x > seen/.envrc || true; done 2>/dev/null; echo x > seen/.envrc")
    path = f"{box.work}/seen/.envrc"
    attempt = counted(box, "seen/.envrc", "create", 101)  # as many as wait for a slow supervisor: none is skipped
    assert attempt["count"] == 101 and attempt["inside"] == path and ".envrc" in attempt["reason"]
    shown = box.nixbox("review").stdout.decode()
    assert f"{path}\n  create: protected by .envrc; 101 times, last 20" in shown
    events = [e for e in box.events("protect") if e["path"] == path]
    most = 3 + (time.monotonic() - start) // 10  # one at once, and one in ten seconds as long as there are new ones
    assert 1 <= len(events) <= most and events[0]["decision"] == "deny" and events[0]["op"] == "create"
    line = [x for x in box.nixbox("events", "--denied").stdout.decode().splitlines() if path in x][0]
    assert "protect" in line and f"deny  create {path}" in line and line.endswith(": protected by .envrc")
    status = box.nixbox("status").stdout.decode()
    assert "  protect   " in status and " patterns of files" in status
    assert ".git/hooks/**" in box.status()["protect"]
    manifest = box.events("box.up")[-1]
    assert {".envrc", f"{box.folder}/nixbox.yaml", f"{box.folder}/nixbox.lock"} <= set(manifest["protect"])


def test_allowing_a_path(box):
    path = f"{box.work}/ed/.vscode/tasks.json"
    os.makedirs(f"{box.work}/ed")
    os.chown(f"{box.work}/ed", box.host.uid, box.host.gid)
    write = "mkdir -p .vscode; echo mine > .vscode/tasks.json"
    refused(box, write, "ed")
    for bad, why in ((["/etc/passwd"], "no writable mount"), ([f"{box.work}/plain"], "is not protected"), ([f"{box.ro}/.envrc"], "no writable mount"),
                     ([path, "/etc/passwd"], "no writable mount"), ([], "which path")):
        done = box.nixbox("review", "--allow", *bad)
        assert done.returncode == 125 and why in done.stderr.decode(), done
    refused(box, write, "ed")
    done = box.nixbox("review", "--allow", "ed/.vscode/tasks.json", cwd=box.work)  # by -n or the config, as all verbs
    assert done.returncode == 0 and path in done.stderr.decode(), done
    works(box, write, "ed")
    refused(box, "echo no > .vscode/settings.json", "ed")
    refused(box, "mv ed moved")  # or the permission would go with it
    with open(path, encoding="ascii") as f:
        assert f.read() == "mine\n"
    assert path in json.loads(box.nixbox("review", "--json").stdout)["allowed"]
    decisions = [e["decision"] for e in box.events("protect") if e["path"] == path]
    # of the two that were refused the second is told when ten seconds are over, wherever that falls
    assert decisions in (["deny", "allow"], ["deny", "deny", "allow"], ["deny", "allow", "deny"])
    done = box.nixbox("review", "--allow", f"{box.work}/c2/.git/config")
    assert done.returncode == 0
    works(box, "git init -q c2; git -C c2 config core.pager less; git -C c2 config alias.x y")


def test_a_box_that_goes_down_forgets(make_box):
    box = make_box()
    assert box.nixbox("review", "--allow", f"{box.work}/.envrc").returncode == 0
    works(box, "echo x > .envrc")
    os.unlink(f"{box.work}/.envrc")
    box.down()
    done = box.nixbox("review")
    assert done.returncode == 125 and "nixbox events --denied" in done.stderr.decode()
    box.up()
    refused(box, "echo x > .envrc")


def test_nothing_is_protected_where_the_config_says_so(host, make_box):
    box = make_box(harness.DEFAULT_CONFIG + "protect: []\n", up=False)
    done = box.nixbox("up")
    assert done.returncode == 125 and "protect is empty" in done.stderr.decode()  # less than the default: approved first
    done = box.up()
    assert "nothing is protected" in done.stderr.decode()
    assert not any("@guard" in line for line in box.processes().values())
    works(box, "git init -q p; git -C p config core.fsmonitor x; echo x > p/.git/hooks/pre-commit; echo x > .envrc")
    assert "  protect   nothing" in box.nixbox("status").stdout.decode()
    assert "nothing is protected" in box.nixbox("review").stderr.decode()
    assert box.nixbox("review", "--allow", f"{box.work}/.envrc").returncode == 125
    assert box.events("box.up")[-1]["protect"] == [] and not box.events("protect")


def test_a_list_of_the_owners(host, make_box):
    config = harness.DEFAULT_CONFIG + 'protect: [default, "deploy/*.sh", "!.gitmodules"]\n'
    box = make_box(config, up=False)
    done = box.nixbox("up")
    assert done.returncode == 125 and "change .gitmodules, which programs of this host run" in done.stderr.decode()
    done = box.nixbox("up", "--dry-run")
    assert "  protected     deploy/*.sh\n" in done.stdout.decode() and "  protected     .gitmodules\n" not in done.stdout.decode()
    box.up()
    works(box, "mkdir deploy; echo x > deploy/x.txt; echo x > .gitmodules")
    refused(box, "echo x > deploy/x.sh")
    refused(box, "mkdir y; echo x > y/x.sh; mv y deploy/y; mv deploy z; mkdir d2; mv d2 deploy; echo x > deploy/x.sh")
    assert not os.path.exists(f"{box.work}/deploy/x.sh")
    box.down()
    box.write_config(harness.DEFAULT_CONFIG + 'protect: [default, "deploy/*.sh"]\n')  # more than was approved
    assert box.nixbox("up").returncode == 0
    box.down()
    shown = box.nixbox("config").stdout.decode()
    assert "protect:" in shown and "- deploy/*.sh" in shown.replace('"', "")
    box.write_config(harness.DEFAULT_CONFIG + 'protect: ["!.envrc", default]\n')
    done = box.nixbox("up")
    assert done.returncode == 125 and "nixbox.yaml:7:11" in done.stderr.decode() and ".envrc" in done.stderr.decode(), done


def test_the_config_in_use_under_another_name(host, make_box):
    """-f names it; a folder above it cannot be exchanged either."""
    box = make_box(harness.DEFAULT_CONFIG, up=False)
    os.makedirs(f"{box.work}/conf")
    os.chown(f"{box.work}/conf", host.uid, host.gid)
    extra = harness.write(f"{box.work}/conf/extra.yaml", "env: {A: b}\n", host)
    text = open(f"{box.folder}/nixbox.yaml", encoding="ascii").read().replace("./", "../../")
    own = harness.write(f"{box.work}/conf/mine.yaml", text + "profiles: [./extra.yaml]\n", host)
    done = box.nixbox("-f", own, "up", "--accept")
    assert done.returncode == 0, done
    try:
        for path in (own, extra):
            assert NOT_PERMITTED in box.nixbox("-f", own, "run", f"echo x >> {path}").stderr.decode()
        assert NOT_PERMITTED in box.nixbox("-f", own, "run", f"mv {box.work}/conf {box.work}/conf2").stderr.decode()
        assert box.nixbox("-f", own, "run", f"echo x > {box.work}/conf/other.yaml").returncode == 0
    finally:
        box.nixbox("-f", own, "down")
