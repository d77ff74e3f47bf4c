"""npm packages in an image: resolved from a registry of the tests' own, locked, built and used; what a hostile registry may
try; and the two agents with a profile, from npm's own registry."""
import json
import os
import re
import socket

import pytest

import harness
import npm_registry

REAL = "registry.npmjs.org"
BIG = "NIXBOX_TEST_AGENTS"  # set to run the tests that download the agents, 360 MB


@pytest.fixture(scope="module")
def registry():
    r = npm_registry.Registry()
    r.add("plain", "1.0.0", {"package/cli.js": "#!/bin/sh\necho plain 1.0.0 $(id -u)\n"}, bin={"plain": "./cli.js"})
    r.add("plain", "2.0.0-rc.1", {"package/cli.js": "#!/bin/sh\necho plain 2\n"}, bin={"plain": "./cli.js"})
    r.packages["plain"]["dist-tags"]["latest"] = "1.0.0"
    r.add("dep", "1.0.0", {"package/v": "1.0.0"}, bin={"deptool": "v"})
    r.add("dep", "2.0.0", {"package/v": "2.0.0"})
    r.add("@scope/tool", "3.1.0", {"package/bin/tool*": "#!/bin/sh\ncat $(dirname $(readlink -f $0))/../../../dep/v\n"},
          bin={"tool": "bin/tool"}, dependencies={"dep": "^1.0.0", "other": "1.x"}, optionalDependencies={
              "native-linux-x64": "1.0.0", "native-linux-x64-musl": "1.0.0", "native-darwin-arm64": "1.0.0"})
    r.add("other", "1.2.3", dependencies={"dep": "2.0.0"})
    r.add("native-linux-x64", "1.0.0", {"package/run*": "#!/bin/sh\necho native\n"}, os=["linux"], cpu=["x64"], libc=["glibc"])
    r.add("native-linux-x64-musl", "1.0.0", os=["linux"], cpu=["x64"], libc=["musl"])
    r.add("native-darwin-arm64", "1.0.0", os=["darwin"], cpu=["arm64"])
    r.add("scripted", "1.0.0", {"package/maker*": "#!/bin/sh\necho it\\'s \"$1\" $(id -u) >made\n"}, bin={"maker": "maker"}, scripts={
        "postinstall": f"maker '$HOME' && if command -v curl >/dev/null; then ! curl -sm 5 {r.url}plain; fi"})
    r.add("failing", "1.0.0", scripts={"install": "echo because of this >&2; exit 3"})
    r.add("weak", "1.0.0", integrity="none")
    r.add("lying", "1.0.0", integrity="sha512-" + "A" * 86 + "==")
    r.add("climber", "1.0.0", {"package/../../../../../etc/climbed": "x"})
    r.add("rival", "1.0.0", {"package/cli.js": "x"}, bin={"plain": "cli.js"})
    r.add("gitty", "1.0.0", dependencies={"x": "git+https://127.0.0.1:1/x.git"})
    r.add("local", "1.0.0", dependencies={"x": "file:/etc"})
    r.add("mac", "1.0.0", os=["darwin"])
    yield r
    r.close()


def nixbox(host, registry, *args, image="", cwd=None, **kwargs):
    """Runs nixbox in a folder whose config has this image."""
    cwd = cwd or host.folder("npm")
    if image:
        harness.write(f"{cwd}/nixbox.yaml", f"name: npm\nnetwork: {{mode: off}}\nimage: {image}\n", host)
    return cwd, host.nixbox(*args, cwd=cwd, env={"NIXBOX_NPM_REGISTRY": registry.url, **kwargs.pop("env", {})}, timeout=600,
                            **kwargs)


def locked(folder):
    with open(f"{folder}/nixbox.lock") as f:
        return {p["path"].removeprefix("node_modules/"): p for p in json.load(f)["npm"]}


@pytest.mark.person("root")
def test_lock(host, registry):
    """Nested, optional and scoped packages; the same text every time; nothing of the caller's npm configuration."""
    harness.write(f"{host.home}/.npmrc", "registry=http://127.0.0.1:1/\nignore-scripts=false\n", host)
    image = '{npm: ["@scope/tool", "plain"], npm-bin: {native: native-linux-x64/run}}'
    folder, done = nixbox(host, registry, "image", "lock", image=image, env={"npm_config_registry": "http://127.0.0.1:1/"})
    os.unlink(f"{host.home}/.npmrc")
    assert done.returncode == 0, done.stderr
    packages = locked(folder)
    assert sorted(packages) == ["@scope/tool", "dep", "native-linux-x64", "other", "other/node_modules/dep", "plain"]
    assert packages["plain"]["version"] == "1.0.0" and packages["plain"]["bin"] == ["plain=cli.js"]
    assert packages["other/node_modules/dep"]["version"] == "2.0.0"
    assert packages["native-linux-x64"]["bin"] == ["native=run"]
    assert "name" not in packages["dep"] and packages["@scope/tool"]["name"] == "@scope/tool"
    assert not [a for a in registry.asked if a.startswith("-/")], "a tarball was fetched to make a lock"


@pytest.mark.person("root")
def test_update(host, registry):
    """The name of an npm package moves the npm packages on, and nothing else."""
    registry.add("moving", "1.0.0")
    folder, done = nixbox(host, registry, "image", "lock", image="{npm: [moving]}")
    assert done.returncode == 0, done.stderr
    with open(f"{folder}/nixbox.lock") as f:
        before = f.read()
    registry.add("moving", "1.1.0")
    done = nixbox(host, registry, "image", "update", "moving", cwd=folder)[1]
    assert done.returncode == 0 and b"moving 1.0.0 -> 1.1.0" in done.stdout, (done.stdout, done.stderr)
    with open(f"{folder}/nixbox.lock") as f:
        changed = [line for line in f.read().splitlines() if line not in before.splitlines()]
    assert len(changed) == 1 and '"version": "1.1.0"' in changed[0]
    done = nixbox(host, registry, "image", "update", "plain", cwd=folder)[1]
    assert done.returncode == 125 and b"has no package plain" in done.stderr


REFUSED = [
    ("{npm: [nowhere]}", "404", "names and versions"),
    ("{npm: [plain@^9]}", r"plain@\^9", "names and versions"),
    ("{npm: [weak]}", "weak: the registry has only a SHA-1|weak: the registry has no SHA-512", "another version"),
    ("{npm: [mac]}", "mac", ""),
    ("{npm: [plain, rival]}", "plain and rival both bring the command plain", "image.npm-bin"),
    ("{npm: [plain], npm-scripts: [scripted]}", r"nixbox.yaml:3:37: scripted is not among", "image.npm"),
    ("{npm: [plain], npm-bin: {x: dep/v}}", r"nixbox.yaml:3:36: dep is not among", "image.npm"),
    ("{npm: [gitty]}", "npm cannot resolve image.npm", ""),
    ("{npm: [local]}", "x: it does not come from|npm cannot resolve|etc: this is not where a package can be", ""),
]


@pytest.mark.person("root")
@pytest.mark.parametrize("image,what,hint", REFUSED)
def test_refused(host, registry, image, what, hint):
    folder, done = nixbox(host, registry, "image", "lock", image=image)
    text = done.stderr.decode()
    assert done.returncode == 125 and re.search(what, text) and hint in text, text
    assert not os.path.exists(f"{folder}/nixbox.lock")


@pytest.mark.person("root")
def test_no_registry(host, registry):
    """An address where nobody listens; no npm at all."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        _, done = nixbox(host, registry, "image", "lock", image="{npm: [plain]}",
                         env={"NIXBOX_NPM_REGISTRY": f"http://127.0.0.1:{s.getsockname()[1]}/"})
    assert done.returncode == 125 and b"ECONNREFUSED" in done.stderr and b"NIXBOX_NPM_REGISTRY" in done.stderr, done.stderr
    _, done = nixbox(host, registry, "image", "lock", image="{npm: [plain]}", env={"PATH": "/nowhere"})
    assert done.returncode == 125 and b"apt-get install npm" in done.stderr, done.stderr


CONFIG = """
name: {name}
machine: {cpus: 2, memory: 1G}
network: {mode: off}
image:
  npm: ["@scope/tool", plain, scripted]
  npm-bin: {native: native-linux-x64/run}
"""


def box_with(make_box, registry, more=""):
    """A box whose image has these packages."""
    box = make_box(CONFIG + more, up=False, name="npm")
    done = box.nixbox("image", "build", env={"NIXBOX_NPM_REGISTRY": registry.url}, timeout=1200)
    assert done.returncode == 0, done.stderr.decode()
    box.up()
    return box


@pytest.mark.person("root")
def test_box(make_box, registry):
    """Commands are in PATH, nested versions where they belong, files root's; and no script has run."""
    box = box_with(make_box, registry)
    assert box.sh("plain") == f"plain 1.0.0 {box.host.uid}"
    assert box.sh("native") == "native"
    lib = "/usr/local/lib/node_modules"
    assert box.sh("tool") == "1.0.0" and box.sh(f"cat {lib}/other/node_modules/dep/v") == "2.0.0"
    assert box.sh(f"stat -c '%U:%G %a' {lib}/plain/cli.js {lib}/dep/v").split("\n") == ["root:root 755", "root:root 755"]
    assert box.run("deptool").returncode == 127, "a command of what nobody asked for"
    assert box.run(f"test -e {lib}/scripted/made").returncode == 1


@pytest.mark.person("root")
def test_listed_scripts(make_box, registry):
    """A script that is listed runs as root of the image, in its folder, without network, with its commands in PATH."""
    box = box_with(make_box, registry, "  npm-scripts: [scripted]\n")
    assert box.sh("cat /usr/local/lib/node_modules/scripted/made") == "it's $HOME 0"
    assert box.sh("ls /tmp | grep -v ^nbt- || true") == "", "only the home folder's own path"


UNBUILDABLE = [
    ("{npm: [lying]}", "lying"),
    ("{npm: [climber]}", "cannot unpack the npm package climber"),
    ("{npm: [failing], npm-scripts: [failing]}", "the install script of failing failed"),
    ("{npm: [plain], npm-bin: {x: plain/none}}", "plain has no file none"),
]


@pytest.mark.person("root")
@pytest.mark.parametrize("image,what", UNBUILDABLE)
def test_unbuildable(host, registry, image, what):
    _, done = nixbox(host, registry, "image", "build", image=image)
    assert done.returncode == 125 and what in done.stderr.decode(), done.stderr.decode()
    assert not os.path.exists("/etc/climbed")


@pytest.fixture
def agents():
    if not os.environ.get(BIG):
        pytest.skip(f"expected: {BIG} is not set")
    try:
        socket.create_connection((REAL, 443), 10).close()
    except OSError:
        pytest.skip("expected: the npm registry cannot be reached")


@pytest.mark.person("root")
@pytest.mark.parametrize("profile,command", [("claude-code", "claude"), ("codex", "codex")])
def test_agent(make_box, agents, profile, command):
    box = make_box(f"name: {{name}}\nprofiles: [{profile}]\nmachine: {{memory: 2G}}\nnetwork: {{mode: off}}\n", up=False, name=command)
    done = box.nixbox("image", "build", timeout=3600)
    assert done.returncode == 0, done.stderr.decode()
    box.up()
    assert re.search(r"\d+\.\d+\.\d+", box.sh(f"{command} --version"))
    assert box.run("command -v node").returncode != 0
