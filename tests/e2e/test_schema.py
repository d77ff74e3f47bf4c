"""The JSON Schema against the program: the same documents to both. The schema never refuses what the program accepts; what it
cannot express (what stands in other places, ranges of sizes written as text) is listed here."""
import json
import os

import jsonschema
import pytest

import harness
import yaml12

GOOD = """
---
protect: []
---
protect: [default, "!.gitmodules", tools/**, /etc/x, "*.sh"]
---
name: a
---
name: "0"
---
profiles:
image:
machine:
mounts:
network:
env:
secrets:
setup:
hooks:
---
profiles: [dev, ./own.yaml, sub/own.yaml]
---
image: {base: debian-12, packages: [git, libc6-dev, g++, 7zip, python3.13]}
---
image: {base: "oci:docker.io/library/alpine", npm: ["@anthropic-ai/claude-code", left-pad, "a@^1.2", JSONStream]}
---
image: {npm: [a, "@b/c"], npm-scripts: [a, "@b/d"], npm-bin: {x: a/cli.js, x-y: "@b/c/bin/y", "7z": a/b/c}}
---
image: {npm: , npm-scripts: , npm-bin: }
---
image: {base: "dir:./tree"}
---
image: {locale: de_DE.UTF-8, docs: true}
---
image: {locale: C.UTF-8, docs: false}
---
image: {locale: sr_RS.UTF-8@latin}
---
image: {locale: eo.UTF-8}
---
machine: {cpus: 1, memory: 134217728, disk: 64M}
---
machine: {cpus: 255, memory: 4T, disk: 64T}
---
machine: {memory: "8G"}
---
machine: {disk: 1G, keep: true}
---
machine: {keep: false}
---
machine: {disk-floor: 0}
---
machine: {disk-floor: 2G, disk: 1G}
---
mounts:
  - source: .
  - {source: ~/x, target: "~", write: true}
  - {source: "~", target: /x y/z, write: false}
  - {source: ../up, target: /up/}
---
volumes: {npm-cache: ~/.npm, cargo: /srv/cargo/, x1: "~"}
---
volumes:
---
network: {mode: off}
---
network: {mode: open, allow: []}
---
network:
  mode: filtered
  allow:
    - api.anthropic.com
    - "*.npmjs.org"
    - A_B.Example.ORG
    - {host: github.com, ports: [22, 443]}
    - {host: api.github.com, methods: [GET, M-SEARCH], paths: ["/repos/**", /]}
    - {host: "*.corp.example", ports: [5432], private: true}
    - {cidr: 10.1.2.0/24, ports: [5432]}
    - {cidr: "fd00::/8"}
    - {cidr: 10.1.2.3/32, limit: 1}
    - {host: up.example.org, limit: 10M}
    - {host: host.nixbox.internal, ports: [11434]}
    - x.org.
  deny:
    - bad.npmjs.org
    - "*.com"
    - localhost
    - {host: "*.tracker.example", ports: [80]}
    - {cidr: 203.0.113.0/24}
    - {cidr: "2001:db8::/32", ports: [22]}
---
network: {mode: open, deny: }
---
ports: ["3000", 3001, "8080:80", 8081:80, "0.0.0.0:8082:80", "[::1]:8080:80", 127.0.0.2:8080:80]
---
ports:
---
network:
  allow:
---
env: {EDITOR: vim, PORT: 8080, V: 1.10, EMPTY: "", ON: on, _x1: 'true', H: 0x1f, TEXT: "a\\nb"}
---
secrets:
  - {name: A, from: env}
  - {name: B, from: env:OTHER}
  - {name: C, from: "file:~/x y"}
  - {name: D, from: "command: pass show it | head -1"}
  - {name: E, from: env, hosts: [api.example.com]}
---
setup: [make, "make test"]
hooks: {pre-up: [date], post-up: [], pre-down: ["a; b"], post-down: }
---
setup: &list [make]
hooks: {pre-up: *list}
"""

BAD = """
[1]
---
text
---
nam: x
---
name: Upper
---
name: approvals
---
name: volumes
---
name: -a
---
name: 12
---
name: true
---
name:
---
name: [a]
---
profiles: dev
---
profiles: [Dev]
---
profiles: [./own.yml]
---
image: [git]
---
image: {base: fedora}
---
image: {base: "oci:"}
---
image: {packages: git}
---
image: {packages: [-y]}
---
image: {packages: ["git=1"]}
---
image: {packages: [a]}
---
image: {npm: ["../x"]}
---
image: {npm: ["@a"]}
---
image: {locale: de_DE}
---
image: {locale: de_DE.ISO-8859-1}
---
image: {locale: "de_DE.UTF-8;x"}
---
image: {locale: ../de_DE.UTF-8}
---
image: {locale: de_DE.UTF-8@}
---
image: {locale: true}
---
image: {docs: "true"}
---
image: {docs: 1}
---
image: {npm: [a], npm-scripts: ["a@1"]}
---
image: {npm: [a], npm-scripts: a}
---
image: {npm: [a], npm-bin: [a]}
---
image: {npm: [a], npm-bin: {x: a}}
---
image: {npm: [a], npm-bin: {x: "@a/b"}}
---
image: {npm: [a], npm-bin: {x: a//b}}
---
image: {npm: [a], npm-bin: {a/b: a/b}}
---
image: {npm: [a], npm-bin: {x: }}
---
machine: {disk: 1G, keep: "true"}
---
machine: {cpus: 0}
---
machine: {cpus: 256}
---
machine: {cpus: "4"}
---
machine: {cpus: 1.5}
---
machine: {memory: 8GB}
---
machine: {memory: 8.5}
---
machine: {memory: -1}
---
machine: {memory: 1000}
---
machine: {memory: true}
---
machine: {disk-floor: 5%}
---
machine: {ram: 8G}
---
mounts: {source: .}
---
mounts: [.]
---
mounts: [{target: /x}]
---
mounts: [{source: }]
---
mounts: [{source: ""}]
---
mounts: [{source: ~x}]
---
mounts: [{source: ., target: x}]
---
mounts: [{source: ., target: /}]
---
mounts: [{source: ., write: yes}]
---
mounts: [{source: ., write: "true"}]
---
mounts: [{source: ., ro: true}]
---
network: off
---
network: {mode: on}
---
network: {mode: false}
---
network: {deny: x.org}
---
network: {deny: ["*"]}
---
network: {deny: ["x.org:22"]}
---
network: {deny: [1.2.3.4]}
---
network: {deny: [{host: x.org, private: true}]}
---
network: {deny: [{host: x.org, limit: 1M}]}
---
network: {deny: [{host: x.org, methods: [GET]}]}
---
network: {deny: [{host: x.org, ports: []}]}
---
network: {allow: [{host: x.org, limit: 0}]}
---
network: {allow: [{host: x.org, limit: 1.5M}]}
---
network: {allow: [{host: x.org, limit: true}]}
---
network: {limit: 1}
---
network: {allow: x.org}
---
network: {allow: [localhost]}
---
network: {allow: ["*"]}
---
network: {allow: ["*.com"]}
---
network: {allow: ["x.*.org"]}
---
network: {allow: [x.org..]}
---
network: {allow: [x.1.]}
---
network: {allow: [.x.org]}
---
network: {allow: [-x.org]}
---
network: {allow: ["x.org:443"]}
---
network: {allow: ["https://x.org"]}
---
network: {allow: [1.2.3.4]}
---
network: {allow: [x.0x7F]}
---
network: {allow: [gr\u00fc\u00df.example]}
---
network: {allow: [{ports: [443]}]}
---
network: {allow: [{host: x.org, cidr: 10.0.0.0/8}]}
---
network: {allow: [{cidr: 10.0.0.0/8, private: true}]}
---
network: {allow: [{cidr: 10.0.0.0}]}
---
network: {allow: [{host: x.org, ports: 443}]}
---
network: {allow: [{host: x.org, ports: []}]}
---
network: {allow: [{host: x.org, ports: [0]}]}
---
network: {allow: [{host: x.org, ports: [65536]}]}
---
network: {allow: [{host: x.org, methods: [get]}]}
---
network: {allow: [{host: x.org, paths: [repos]}]}
---
network: {allow: [{host: x.org, paths: ["/a?b"]}]}
---
network: {allow: [{host: x.org, private: 1}]}
---
network: {allow: [null]}
---
env: [A=b]
---
env: {A-B: c}
---
env: {A: true}
---
env: {A: null}
---
env: {A: [b]}
---
secrets: {A: env}
---
secrets: [{name: A}]
---
secrets: [{from: env}]
---
secrets: [{name: A, from: sk-12345}]
---
secrets: [{name: A, from: "env:"}]
---
secrets: [{name: A, from: "command: "}]
---
secrets: [{name: A, from: "file:"}]
---
secrets: [{name: 1A, from: env}]
---
secrets: [{name: A, from: env, hosts: []}]
---
secrets: [{name: A, from: env, hosts: ["*.x.org"]}]
---
setup: make
---
setup: [""]
---
setup: [1]
---
hooks: [date]
---
hooks: {up: [date]}
---
hooks: {pre-up: date}
---
ports: 80
---
ports: [0]
---
ports: [65536]
---
ports: [-1]
---
ports: ["80:"]
---
ports: ["127.0.0.1:80"]
---
ports: ["::1:80:80"]
---
ports: ["localhost:80:80"]
---
ports: [true]
---
ports: [{host: 80}]
---
inspect: {}
---
protect: ""
---
protect: [1]
---
protect: [""]
---
hide: []
---
volumes: []
---
volumes: {A: /x}
---
volumes: {-a: /x}
---
volumes: {a/b: /x}
---
volumes: {a: x}
---
volumes: {a: ../x}
---
volumes: {a: null}
---
volumes: {a: {target: /x}}
"""

# Refused by the program alone.
BEYOND_THE_SCHEMA = """
protect: ["!.gitmodules"]
---
protect: ["**"]
---
protect: [a/../b]
---
protect: [a**b]
---
machine: {keep: true}
---
machine: {memory: 1M}
---
machine: {memory: 100000000}
---
machine: {disk: 9999999T}
---
machine: {cpus: 010}
---
machine: {cpus: 2.0}
---
mounts: [{source: a, target: /x}, {source: b, target: /x}]
---
mounts: [{source: ., target: /proc/x}]
---
volumes: {a: /proc/x}
---
volumes: {a: /x, b: /x/}
---
mounts: [{source: ., target: /x}]
volumes: {a: /x}
---
mounts: [{source: ., write: True}]
---
name: a
name: b
---
env: {A: x}
secrets: [{name: A, from: env}]
---
network: {allow: [{cidr: 10.1.2.3/8}]}
---
network: {allow: ["*.co.uk"]}
---
network: {allow: [host.nixbox.internal]}
---
network: {allow: [{host: "*.host.nixbox.internal", ports: [1]}]}
---
ports: ["0"]
---
ports: ["1:65536"]
---
ports: ["1.2.3:1:1"]
---
ports: ["80:1", "80:2"]
---
network: {mode: off}
ports: ["80"]
---
network: {allow: [{cidr: 10.1.2.0/33}]}
---
profiles: [no-such-profile]
---
name: !!str a
"""


def documents(text):
    return [d.strip() + "\n" for d in text.split("\n---\n")]


@pytest.fixture(scope="module")
def validator(host):
    with open(os.path.dirname(host.agent) + "/schema.json") as f:
        schema = json.load(f)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.fixture
def program(host):
    """Does `nixbox config` accept a document?"""
    folder = host.folder("schema")
    harness.make_folder(f"{folder}/sub", host.uid, host.gid)
    for name in ("own.yaml", "sub/own.yaml"):
        harness.write(f"{folder}/{name}", "", host)

    def accepts(text):
        harness.write(f"{folder}/nixbox.yaml", text, host)
        done = host.nixbox("config", cwd=folder)
        assert done.returncode in (0, 125), done.stderr
        if done.returncode == 125:
            assert done.stderr.startswith(b"nixbox: nixbox.yaml:"), done.stderr
            assert len(done.stderr.splitlines()) <= 2
        return done.returncode == 0, done.stderr.decode()
    return accepts


def test_good(validator, program):
    for text in documents(GOOD):
        accepted, message = program(text)
        assert accepted, text + message
        assert not list(validator.iter_errors(yaml12.load(text))), text


def test_bad(validator, program):
    for text in documents(BAD):
        accepted, _ = program(text)
        assert not accepted, text
        assert list(validator.iter_errors(yaml12.load(text))), text


def test_what_the_schema_cannot_say(validator, program):
    for text in documents(BEYOND_THE_SCHEMA):
        accepted, _ = program(text)
        assert not accepted, text
        assert not list(validator.iter_errors(yaml12.load(text))), text


def test_profiles_that_are_shipped(host, validator, program):
    folder = os.path.dirname(host.agent) + "/profiles"
    names = sorted(os.listdir(folder))
    assert names
    for name in names:
        with open(f"{folder}/{name}") as f:
            assert not list(validator.iter_errors(yaml12.load(f.read()))), name
        accepted, message = program(f"profiles: [{name.removesuffix('.yaml')}]\n")
        assert accepted, message


def test_every_key_is_described(validator):
    def walk(schema, path):
        for key, below in schema.get("properties", {}).items():
            assert "description" in below or "$ref" in below, f"{path}.{key}"
            walk(below, f"{path}.{key}")
    walk(validator.schema, "")


def test_the_reference_names_every_key(validator):
    with open(f"{harness.ROOT}/docs/config.md") as f:
        reference = f.read()

    def walk(schema):
        for key, below in schema.get("properties", {}).items():
            assert f"`{key}`" in reference or f".{key}`" in reference, key
            walk(below)
            for item in [below.get("items", {}), *below.get("items", {}).get("oneOf", [])]:
                walk(item)
    walk(validator.schema)
