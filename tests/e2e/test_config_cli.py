"""nixbox.yaml as its author meets it: errors with file:line:column and a way out, nothing started after one; init, config, and
the schema, which says the same as the program."""
import json
import os
import re

import jsonschema
import pytest

import harness
import yaml12

# (name, config, line:column of the mistake, words of the message, does the schema know too?)
MISTAKES = [
    ("unknown key", "nam: x\n", "1:1", "nam", True),
    ("unknown key below", "machine:\n  cpu: 2\n", "2:3", "cpu", True),
    ("wrong type", "machine:\n  cpus: many\n", "2:9", "cpus", True),
    ("not a size", "machine: {memory: lots}\n", "1:19", "memory", True),
    ("list for a map", "machine: [1]\n", "1:10", "machine", True),
    ("not yaml", "machine: {cpus: 2\n", None, "", False),
    ("tab", "machine:\n\tcpus: 2\n", "2:1", "", False),
    ("key twice", "machine: {cpus: 1}\nmachine: {cpus: 2}\n", "2:1", "machine", False),
    ("missing source", "mounts:\n  - {source: ./nowhere}\n", "2:", "nowhere", False),
    ("one target twice", "mounts:\n  - {source: ./a, target: /x}\n  - {source: ./b, target: /x}\n", "3:", "/x", False),
    ("bad box name", "name: 'Not A Name!'\n", "1:7", "name", True),
    ("unknown mode", "network: {mode: sometimes}\n", "1:17", "mode", True),
    ("methods not enforced", "network: {allow: [{host: x.org, methods: [GET]}]}\n", "1:42", "not enforced", False),
    ("whole top-level domain", "network: {allow: ['*.com']}\n", "1:19", "*.com", True),
    ("whole public suffix", "network: {allow: ['*.co.uk']}\n", "1:19", "*.co.uk", False),
    ("the host without ports", "network: {allow: [host.nixbox.internal]}\n", "1:19", "ports", False),
    ("published twice", "ports: ['80', '127.0.0.1:80:8080']\n", "1:15", "twice", False),
    ("published without network", "network: {mode: off}\nports: ['80']\n", "2:9", "network", False),
    ("reserved key", "network: {mode: off, limit: 1M}\n", "1:22", "not yet supported", True),
    ("secret cannot be read", "network: {mode: off}\nsecrets:\n  - {name: T, from: 'env:NO_SUCH_VARIABLE'}\n", "3:", "NO_SUCH_VARIABLE", False),
    ("secret with hosts", "network: {mode: off}\nsecrets:\n  - {name: T, from: env, hosts: [x.org]}\n", "3:", "hosts", False),
    ("profile missing", "profiles: [./none.yaml]\n", "1:", "none.yaml", False),
    ("relative target", "mounts:\n  - {source: ./a, target: x/y}\n", "2:", "target", False),
    ("own state", "mounts:\n  - {source: %STATE%}\n", "2:", "nixbox", False),
]


def schema(host):
    with open(host.bin.rsplit("/bin/", 1)[0] + "/share/nixbox/schema.json") as f:
        return json.load(f)


@pytest.fixture
def folder(host):
    path = host.folder("cfg")
    for name in ("a", "b"):
        harness.make_folder(f"{path}/{name}", host.uid, host.gid)
    return path


def config(host, folder, text):
    harness.write(f"{folder}/nixbox.yaml", text, host)


@pytest.mark.parametrize("name, text, where, word, known", MISTAKES, ids=[m[0].replace(" ", "-") for m in MISTAKES])
def test_mistakes(host, folder, name, text, where, word, known):
    text = text.replace("%STATE%", host.state)
    config(host, folder, text)
    before = harness.subtree(os.getpid())
    done = host.nixbox("up", "--accept", cwd=folder, env={"T": "x"})
    message = done.stderr.decode()
    assert done.returncode == 125 and done.stdout == b"", message
    lines = message.strip().splitlines()
    assert lines[0].startswith("nixbox: ") and len(lines) >= 2, message
    assert re.search(r"nixbox\.yaml:\d+:\d+", message), message
    if where:
        assert f"nixbox.yaml:{where}" in message, message
    assert word in message, message
    assert set(harness.subtree(os.getpid())) <= set(before), "something was started"
    assert not os.path.exists(f"{host.runtime}/nixbox") or not [n for n in os.listdir(f"{host.runtime}/nixbox") if "cfg" in n]
    if known:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml12.load(text), schema(host))


def test_config_errors_stop_every_verb(host, folder):
    config(host, folder, "nam: x\n")
    for verb in (["run", "true"], ["config"], ["image", "build"], ["up", "--dry-run"]):
        done = host.nixbox(*verb, cwd=folder)
        assert done.returncode == 125 and b"nixbox.yaml:1:1" in done.stderr, verb


def test_a_file_that_cannot_be_read(host, folder):
    done = host.nixbox("config", cwd=folder)
    assert done.returncode == 125 and b"nixbox init" in done.stderr
    os.mkdir(f"{folder}/nixbox.yaml")
    done = host.nixbox("config", cwd=folder)
    assert done.returncode == 125 and b"nixbox.yaml" in done.stderr
    os.rmdir(f"{folder}/nixbox.yaml")
    with open(f"{folder}/nixbox.yaml", "wb") as f:
        f.write(b"name: \xff\xfe\n")
    assert host.nixbox("config", cwd=folder).returncode == 125


def test_huge_and_nested_files_are_refused(host, folder):
    for text in ("# " + "x" * (8 << 20), "[" * 20000, "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + "".join(
            f"d{i}: &d{i} [*c, *c]\n" for i in range(200))):
        config(host, folder, text)
        done = host.nixbox("config", cwd=folder, timeout=60)
        assert done.returncode == 125 and done.stderr.startswith(b"nixbox: ")


def test_defaults_and_origins(host, folder):
    config(host, folder, "name: mine\nprofiles: [./p.yaml]\nmachine: {cpus: 3}\nnetwork: {mode: off}\nenv: {B: two}\n")
    harness.write(f"{folder}/p.yaml", "machine: {cpus: 1, memory: 512M}\nenv: {A: one, B: one}\nimage: {packages: [git]}\n", host)
    text = host.nixbox("config", cwd=folder).stdout.decode()
    assert re.search(r"cpus.*3.*nixbox\.yaml:3", text) and re.search(r"memory.*p\.yaml:1", text) and "default" in text
    done = host.nixbox("config", "--json", cwd=folder)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert "512" in json.dumps(answer) and "mine" in json.dumps(answer)


def test_nearest_file_upward_and_global_options(host, folder):
    config(host, folder, "name: upper\nnetwork: {mode: off}\n")
    inner = harness.make_folder(f"{folder}/a/b", host.uid, host.gid)
    assert b"upper" in host.nixbox("config", cwd=inner).stdout
    harness.write(f"{folder}/other.yaml", "name: other\nnetwork: {mode: off}\n", host)
    for args in (["-f", "../../other.yaml", "config"], ["config", "--file", "../../other.yaml"]):
        assert b"other" in host.nixbox(*args, cwd=inner).stdout


def test_init_writes_a_config_that_works(host, folder):
    done = host.nixbox("init", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    with open(f"{folder}/nixbox.yaml") as f:
        text = f.read()
    assert text.count("#") >= 5 and re.search(r"mode: *filtered", text)
    assert not yaml12.load(text)["network"]["allow"]
    assert os.stat(f"{folder}/nixbox.yaml").st_uid == host.uid
    jsonschema.validate(yaml12.load(text), schema(host))
    assert host.nixbox("config", cwd=folder).returncode == 0
    again = host.nixbox("init", cwd=folder)
    assert again.returncode == 125 and b"nixbox.yaml" in again.stderr
    with open(f"{folder}/nixbox.yaml") as f:
        assert f.read() == text


def test_schema_accepts_what_the_program_accepts(host, folder):
    jsonschema.Draft7Validator.check_schema(schema(host)) if "draft-07" in schema(host).get("$schema", "") else None
    good = """\
name: myproject
image: {base: debian-13, packages: [git, ripgrep]}
machine: {cpus: 4, memory: 8G, disk: 20G}
mounts:
  - source: .
    write: true
  - {source: ./a, target: ~/x}
network:
  mode: filtered
  allow:
    - api.anthropic.com
    - "*.npmjs.org"
    - {host: github.com, ports: [22, 443]}
    - {host: api.github.com, methods: [GET], paths: ["/repos/**"]}
    - {host: db.corp.example, ports: [5432], private: true}
    - {cidr: 10.1.2.0/24, ports: [5432]}
env: {EDITOR: vim}
secrets:
  - {name: API_KEY, from: env, hosts: [api.anthropic.com]}
  - {name: OTHER, from: "env:X"}
setup: [./a/setup.sh]
hooks: {pre-up: [], post-up: ["true"], pre-down: [], post-down: []}
"""
    jsonschema.validate(yaml12.load(good), schema(host))
    config(host, folder, good)
    done = host.nixbox("config", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
