"""nixbox.lock and downloads: what is locked, what moves it on, what is refused; and what a bad network does to a download."""
import hashlib
import http.server
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from harness import wait_for, write

LOCKING = 300  # seconds that resolving may take on a busy machine
CONFIG = "name: locks\nimage: {packages: [tree, jq]}\nnetwork: {mode: off}\n"


# ------------------------------------------------------------------------------------------------------------ nixbox.lock
REACHING = """
name: {name}
machine: {cpus: 2, memory: 1G}
network: {mode: off}
mounts: [{source: ., write: true}]
hooks: {post-up: ["true"]}
"""


def test_the_first_start_writes_a_lock(make_box):
    """The next one uses it, and asks for no approval because of it; a box that can change it, because nothing is protected, does
    not get away with that."""
    box = make_box(REACHING + "protect: []\n", up=False, name="first")
    box.up()
    assert json.loads(read(box.folder))["digest"] == box.status()["image"]
    box.down()
    again = box.nixbox("up")
    assert again.returncode == 0, box.explain(again)
    box.sh(f"sed -i 's/\"resolved\": \"20/\"resolved\": \"19/' {box.folder}/nixbox.lock", "-u", "root")
    box.down()
    changed = box.nixbox("up")
    assert changed.returncode == 125 and b"--accept" in changed.stderr, box.explain(changed)


@pytest.fixture(scope="module")
def locked(host):
    """A config with a new lock; a test may change the lock, the next one gets it back."""
    folder = host.folder("lock")
    write(f"{folder}/nixbox.yaml", CONFIG, host)
    done = host.nixbox("image", "lock", cwd=folder, timeout=LOCKING)
    assert done.returncode == 0, done.stderr.decode()
    with open(f"{folder}/nixbox.lock") as f:
        return folder, f.read(), done.stdout.decode()


@pytest.fixture
def folder(host, locked):
    path, text, _ = locked
    write(f"{path}/nixbox.yaml", CONFIG, host)
    write(f"{path}/nixbox.lock", text, host)
    return path


def read(folder):
    with open(f"{folder}/nixbox.lock") as f:
        return f.read()


def relock(host, folder, change):
    """Writes the lock again after `change` had its way with it, one package a line as before."""
    lock = json.loads(read(folder))
    change(lock)
    write(f"{folder}/nixbox.lock", json.dumps(lock), host)


def package(lock, name, where="packages"):
    return next(p for p in lock[where] if p["name"] == name)


def test_lock_pins_everything(host, folder, locked):
    lock = json.loads(locked[1])
    assert lock["spec"] == ["base debian-13", "package jq", "package tree"] and lock["suite"] == "trixie"
    assert {"tree", "jq", "libjq1"} <= {p["name"] for p in lock["packages"]}
    assert {"bash", "libc6", "git", "sudo", "apt"} <= {p["name"] for p in lock["base"]}
    assert {"qemu-system-x86", "virtiofsd", "erofs-utils"} <= {p["name"] for p in lock["runtime"]}
    assert [p["name"].startswith("linux-image-6.12.") for p in lock["kernel"]] == [True]
    assert not {p["name"] for p in lock["base"]} & {p["name"] for p in lock["packages"]}
    for part in ("packages", "base", "kernel", "runtime"):
        for p in lock[part]:
            assert len(p["sha256"]) == 64 and p["size"] > 0 and p["path"].startswith("pool/") and p["arch"] in ("amd64", "all")
            assert f'"name": "{p["name"]}"' in next(line for line in locked[1].splitlines() if p["sha256"] in line)
    assert f"{len(lock['base']) + len(lock['packages'])} packages" in locked[2]
    names = [p["name"] for p in lock["base"]]
    assert names.index("libc6") < names.index("bash")  # in the order of installation


@pytest.mark.timeout(LOCKING)
def test_update_with_nothing_new(host, folder):
    before = read(folder)
    done = host.nixbox("image", "update", "tree", cwd=folder, timeout=LOCKING)
    assert (done.returncode, done.stdout) == (0, b"nothing to update\n"), done.stderr.decode()
    assert read(folder) == before


@pytest.mark.timeout(LOCKING)
def test_update_moves_only_what_is_named(host, folder):
    now = json.loads(read(folder))

    def age(lock):
        for name in ("tree", "jq"):
            package(lock, name).update(version="0.1-1", sha256="0" * 64)
        lock["digest"] = "sha256:" + "1" * 64

    relock(host, folder, age)
    done = host.nixbox("image", "update", "tree", "--json", cwd=folder, timeout=LOCKING)
    assert done.returncode == 0, done.stderr.decode()
    answer, lock = json.loads(done.stdout), json.loads(read(folder))
    assert answer["changes"] == [f"tree 0.1-1 -> {package(now, 'tree')['version']}"] and answer["written"]
    moved = package(lock, "tree")
    assert moved.pop("resolved") >= now["resolved"] and moved == package(now, "tree")
    assert package(lock, "jq")["version"] == "0.1-1"
    assert "digest" not in lock and lock["base"] == now["base"] and lock["runtime"] == now["runtime"]

    done = host.nixbox("image", "update", cwd=folder, timeout=LOCKING)
    assert done.returncode == 0 and done.stdout.decode() == f"jq 0.1-1 -> {package(now, 'jq')['version']}\n"
    assert json.loads(read(folder))["packages"] == now["packages"]


@pytest.mark.parametrize("damage, said", [
    (lambda text: text[:len(text) // 2], "the lock file is damaged"),
    (lambda text: text.replace("pool/main", "pool/../../etc", 1), "path: no lock has this value"),
    (lambda text: text.replace('"lock_version": 1', '"lock_version": 99', 1), "newer nixbox"),
    (lambda text: text.replace('"suite"', '"sweet"', 1), "sweet: is not known"),
    (lambda text: "", "the lock file is damaged"),
])
def test_lock_that_is_no_lock(host, folder, damage, said):
    text = damage(read(folder))
    write(f"{folder}/nixbox.lock", text, host)
    done = host.nixbox("image", "update", cwd=folder)
    assert done.returncode == 125 and said in done.stderr.decode() and "nixbox image lock" in done.stderr.decode()
    assert read(folder) == text


def test_lock_and_config_disagree(host, folder):
    write(f"{folder}/nixbox.yaml", CONFIG.replace("jq", "git-lfs"), host)
    done = host.nixbox("image", "update", cwd=folder)
    assert done.returncode == 125
    said = done.stderr.decode()
    assert "does not fit image: the config asks for 'package git-lfs', the lock was made for 'package jq'" in said
    assert "run nixbox image lock" in said


def test_update_of_what_is_not_there(host, folder):
    done = host.nixbox("image", "update", "no-such-package", cwd=folder)
    assert done.returncode == 125 and "nixbox.lock has no package no-such-package" in done.stderr.decode()
    os.unlink(f"{folder}/nixbox.lock")
    done = host.nixbox("image", "update", cwd=folder)
    assert done.returncode == 125 and "there is no nixbox.lock" in done.stderr.decode()


@pytest.mark.timeout(LOCKING)
@pytest.mark.parametrize("name, said, hint", [
    ("no-such-package", "Unable to locate package no-such-package", "image.packages"),
    ("editor", "editor", "image.packages"), ("hello-", "there is no package hello- by itself", "image.packages"),
])
def test_packages_that_cannot_be_locked(host, folder, name, said, hint):
    write(f"{folder}/nixbox.yaml", f"name: x\nimage: {{packages: [{name}]}}\n", host)
    before = read(folder)
    done = host.nixbox("image", "lock", cwd=folder, timeout=LOCKING)
    assert done.returncode == 125 and said in done.stderr.decode() and hint in done.stderr.decode()
    assert read(folder) == before


def test_lock_is_not_written_through_a_link(host, folder):
    """A box could make nixbox.lock point at any file of its owner."""
    os.rename(f"{folder}/nixbox.lock", f"{folder}/elsewhere")
    before = open(f"{folder}/elsewhere").read()
    os.symlink("elsewhere", f"{folder}/nixbox.lock")
    try:
        done = host.nixbox("image", "lock", cwd=folder, timeout=LOCKING)
        assert done.returncode == 125 and "symbolic link" in done.stderr.decode()
        assert open(f"{folder}/elsewhere").read() == before
    finally:
        os.unlink(f"{folder}/nixbox.lock")


def test_mirror_that_is_not_there(host, folder):
    before = read(folder)
    env = {"NIXBOX_MIRROR": "http://127.0.0.1:9/debian http://127.0.0.1:9/security"}
    done = host.nixbox("image", "lock", cwd=folder, env=env, timeout=LOCKING)
    assert done.returncode == 125 and "Could not connect" in done.stderr.decode() and "NIXBOX_MIRROR" in done.stderr.decode()
    assert read(folder) == before


# ------------------------------------------------------------------------------------------------------------ downloads
class Mirror:
    """A server whose files are generated, and which can be told to fail."""

    def __init__(self):
        self.files, self.asked, self.cut, self.slow, self.ranges = {}, [], {}, False, True
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                begin = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
                mirror.asked.append((self.path, begin))
                body = mirror.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                begin = begin if mirror.ranges else 0
                self.send_response(206 if begin else 200)
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - begin))
                self.end_headers()
                end = mirror.cut.pop(self.path, len(body))
                try:
                    for at in range(begin, end, 65536):
                        self.wfile.write(body[at:min(end, at + 65536)])
                        if mirror.slow:
                            time.sleep(0.05)
                except OSError:
                    pass
                self.close_connection = end < len(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name, size=1_000_000):
        self.files[f"/{name}"] = (name.encode() * (size // len(name) + 1))[:size]
        return {"label": name, "urls": [f"{self.url}/{name}"], "size": size,
                "hash": "sha256:" + hashlib.sha256(self.files[f"/{name}"]).hexdigest()}


@pytest.fixture
def mirror():
    mirror = Mirror()
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()


@pytest.fixture
def cache(host):
    return host.folder("cache")


def program_of(host):
    return f"{host.bin.rsplit('/bin/', 1)[0]}/libexec/nixbox/nixbox-fetch"


def start_fetch(host, cache, items):
    p = host.popen([program_of(host), cache], stdin=subprocess.PIPE)
    p.stdin.write(json.dumps(items).encode())
    p.stdin.close()
    p.stdin = None
    return p


def fetch(host, cache, items):
    out, said = start_fetch(host, cache, items).communicate(timeout=120)
    return json.loads(out), said.decode()


def blobs(cache):
    names = sorted(os.listdir(f"{cache}/blobs")) if os.path.isdir(f"{cache}/blobs") else []
    for name in names:
        if not name.endswith(".part"):
            with open(f"{cache}/blobs/{name}", "rb") as f:
                assert name == "sha256-" + hashlib.sha256(f.read()).hexdigest()
    return [n for n in names if not n.endswith(".part")], [n for n in names if n.endswith(".part")]


def test_many_files(host, mirror, cache):
    items = [mirror.add(f"file-{i}") for i in range(30)]
    result, said = fetch(host, cache, items + items[:3])
    assert result["code"] == 0 and len(blobs(cache)[0]) == 30 and not blobs(cache)[1]
    assert len(mirror.asked) == 30  # each once
    assert any(line.split()[1] == "30000000" for line in said.splitlines())
    assert fetch(host, cache, items)[0]["code"] == 0 and len(mirror.asked) == 30


def test_wrong_content_and_wrong_length(host, mirror, cache):
    good, bad, long = mirror.add("good"), mirror.add("bad"), mirror.add("long")
    mirror.files["/bad"] = b"X" + mirror.files["/bad"][1:]
    mirror.files["/long"] += b"more"
    for item, said in ((bad, "is not what is expected"), (long, "gives more than the 1000000 bytes")):
        result, _ = fetch(host, cache, [good, item])
        assert result["failed"] == 1 and said in result["what"] and item["label"] in result["what"]
        assert bad["hash"][7:] not in " ".join(blobs(cache)[0])
    result, _ = fetch(host, cache, [good])
    assert result["code"] == 0 and len(blobs(cache)[0]) == 1


def test_broken_connection_goes_on(host, mirror, cache):
    item = mirror.add("broken")
    mirror.cut["/broken"] = 400_000
    assert fetch(host, cache, [item])[0]["code"] == 0
    assert mirror.asked[0] == ("/broken", 0) and 0 < mirror.asked[1][1] <= 400_000


def test_server_without_ranges(host, mirror, cache):
    item = mirror.add("plain")
    mirror.cut["/plain"], mirror.ranges = 400_000, False
    assert fetch(host, cache, [item])[0]["code"] == 0 and len(blobs(cache)[0]) == 1


def test_gone_from_one_address(host, mirror, cache):
    item = mirror.add("moved")
    item["urls"] = [f"{mirror.url}/gone", *item["urls"]]
    assert fetch(host, cache, [item])[0]["code"] == 0
    item = mirror.add("away")
    item["urls"] = [f"{mirror.url}/gone", f"{mirror.url}/gone-too"]
    result, _ = fetch(host, cache, [item])
    assert os.strerror(result["code"]) == "No such file or directory" and result["what"].count("it is not at") == 2
    item["urls"][1] = "http://127.0.0.1:9/x"
    result, _ = fetch(host, cache, [item])
    assert os.strerror(result["code"]) == "Network is unreachable" and "cannot get http://127.0.0.1:9/x" in result["what"]


def test_killed_and_resumed(host, mirror, cache):
    item = mirror.add("large", 6_000_000)
    mirror.slow = True
    p = start_fetch(host, cache, [item])
    assert wait_for(lambda: blobs(cache)[1] and os.path.getsize(f"{cache}/blobs/{blobs(cache)[1][0]}") > 500_000, 30)
    p.send_signal(signal.SIGKILL)
    p.communicate()
    assert not blobs(cache)[0]
    mirror.slow = False
    assert fetch(host, cache, [item])[0]["code"] == 0
    assert blobs(cache) == ([item["hash"].replace(":", "-")], [])
    assert mirror.asked[-1][1] >= 500_000


def test_two_at_once_share(host, mirror, cache):
    items = [mirror.add(f"shared-{i}") for i in range(6)]
    mirror.slow = True
    both = [start_fetch(host, cache, items) for _ in range(2)]
    results = [json.loads(p.communicate(timeout=120)[0]) for p in both]
    assert [r["code"] for r in results] == [0, 0]
    assert sorted(path for path, _ in mirror.asked) == [f"/shared-{i}" for i in range(6)]  # each once


@pytest.mark.skipif(os.getuid() != 0, reason="expected: makes a small file system, which takes root")
def test_full_disk(host, mirror, cache):
    items = [mirror.add(f"big-{i}", 3_000_000) for i in range(3)]
    drop = f"setpriv --reuid {host.uid} --regid {host.gid} --clear-groups" if host.uid else ""
    program = program_of(host)
    script = f'mount -t tmpfs -o size=5m,uid={host.uid},mode=0700 small "$1" && exec {drop} {program} "$1"'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", cache], input=json.dumps(items).encode(),
                          stdout=subprocess.PIPE, timeout=120)
    result = json.loads(done.stdout)
    assert "No space left on device" in result["what"] and f"make room on the disk that holds {cache}" in result["hint"]
