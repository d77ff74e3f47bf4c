"""Programs that people use, unchanged, in a box with network.mode filtered: each reaches the hosts that are allowed, with the servers
of the laboratory at the other end, and no other. The image is built from Debian's packages, once; the packages, repositories
and modules that the programs fetch are made here."""
import base64
import hashlib
import io
import json
import os
import subprocess
import time
import zipfile

import pytest

import harness
import netlab
import npm_registry

# an image of its own for each person would only take time; the first test waits for it to be built
pytestmark = [pytest.mark.person("root"), pytest.mark.timeout(2400)]

SITE = "93.184.216.130"
IMAGE = "image: {packages: [bind9-dnsutils, curl, git, iputils-ping, make, netcat-openbsd, nodejs, npm, openssh-client, openssl, python3-pip, " \
        "python3-requests, python3-websocket]}"
CONFIG = IMAGE + """
machine: {cpus: 2, memory: 2G}
network:
  mode: filtered
  allow:
    - site.example
    - {host: git.example, ports: [22, 443]}
    - registry.npm.example
    - "*.pypi.example"
    - apt.example
mounts: [{source: ./work, write: true}, {source: ./ro}]
"""
BUILD = 1800  # seconds for the image, on a slow machine with everything to fetch
QUICK = 100  # seconds in which a refusal must be there: a name server that does not answer alone costs some; emulated node takes most of it


def publish(lab, host, path, content):
    file = f"{lab.folder}/www/{host}/{path}"
    os.makedirs(os.path.dirname(file), exist_ok=True)
    return harness.write(file, content)


def make_git(lab):
    env = {**os.environ, "HOME": lab.folder, "GIT_AUTHOR_NAME": "lab", "GIT_AUTHOR_EMAIL": "lab@lab", "GIT_COMMITTER_NAME": "lab", "GIT_COMMITTER_EMAIL": "lab@lab"}
    harness.write(f"{lab.folder}/README", "cloned\n")
    for words in (["init", "-q", "-b", "main", "--bare", f"{lab.folder}/git/project.git"], ["init", "-q", "-b", "main", f"{lab.folder}/src"]):
        subprocess.run(["git", *words], check=True, env=env)
    os.rename(f"{lab.folder}/README", f"{lab.folder}/src/README")
    for words in (["add", "README"], ["commit", "-q", "-m", "first"], ["push", "-q", f"{lab.folder}/git/project.git", "main"]):
        subprocess.run(["git", "-C", f"{lab.folder}/src", *words], check=True, env=env)


def make_npm(lab):
    publish_npm(lab, {"name": "lab-package", "main": "main.js"}, {"main.js": "module.exports = 'from npm'\n"})
    publish_npm(lab, {"name": "lab-tool", "bin": {"lab-tool": "tool.js"}, "scripts": {"install": "echo installed >made"},
                      "dependencies": {"lab-package": "1.0.0"}},
                {"tool.js": "#!/usr/bin/env node\nconsole.log('tool, ' + require('lab-package'))\n"})
    publish_npm(lab, {"name": "lab-tasks"}, {".vscode/tasks.json": "{}", ".envrc": "evil\n", "main.js": "nothing\n"})


def publish_npm(lab, manifest, files):
    manifest = {"version": "1.0.0", **manifest}
    packed = npm_registry.tarball({f"package/{name}": text for name, text in {"package.json": json.dumps(manifest), **files}.items()})
    file = f"{manifest['name']}-1.0.0.tgz"
    publish(lab, "registry.npm.example", f"files/{file}", packed)
    version = {**manifest, "hasInstallScript": "scripts" in manifest, "dist": {
        "tarball": f"https://registry.npm.example/files/{file}",
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()}}
    publish(lab, "registry.npm.example", manifest["name"],
            json.dumps({"name": manifest["name"], "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}))


def make_wheel(lab):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        info = "lab_thing-1.0.dist-info"
        wheel.writestr("lab_thing.py", "word = 'from pip'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: lab-thing\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"lab_thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    publish(lab, "files.pypi.example", "lab_thing-1.0-py3-none-any.whl", packed.getvalue())
    publish(lab, "index.pypi.example", "simple/lab-thing/index.html",
            '<html><a href="https://files.pypi.example/lab_thing-1.0-py3-none-any.whl">lab_thing-1.0-py3-none-any.whl</a></html>')


def make_deb(lab):
    tree = f"{lab.folder}/deb"
    os.makedirs(f"{tree}/DEBIAN")
    os.makedirs(f"{tree}/usr/share/lab-deb")
    harness.write(f"{tree}/usr/share/lab-deb/word", "from apt\n")
    control = "Package: lab-deb\nVersion: 1.0\nArchitecture: all\nMaintainer: lab <lab@lab>\nDescription: laboratory\n"
    harness.write(f"{tree}/DEBIAN/control", control)
    os.makedirs(f"{lab.folder}/www/apt.example", exist_ok=True)
    file = f"{lab.folder}/www/apt.example/lab-deb.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, file], check=True, stdout=subprocess.DEVNULL)
    with open(file, "rb") as f:
        data = f.read()
    publish(lab, "apt.example", "Packages", f"{control}Filename: ./lab-deb.deb\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")


@pytest.fixture(scope="module")
def client(lab, host, make_lab_boxes):
    """A box with the programs, and everything at the other end."""
    folder = host.folder("clients")
    harness.write(f"{folder}/nixbox.yaml", f"name: clients\n{IMAGE}\nnetwork: {{mode: off}}\n", host)
    done = host.nixbox("image", "build", cwd=folder, timeout=BUILD)  # with the real network: packages come from Debian
    assert done.returncode == 0, done.stderr.decode()
    for name in ("site", "git", "registry.npm", "index.pypi", "files.pypi", "apt", "denied"):
        lab.zone(f"{name}.example", A=[SITE])
    for make in (make_git, make_npm, make_wheel, make_deb):
        make(lab)
    box = make_lab_boxes(CONFIG, name="client")
    harness.write(f"{box.ro}/ca.pem", open(lab.ca).read())
    harness.write(f"{box.ro}/key", open(f"{lab.folder}/user_key").read(), None, 0o600)
    return box


ENV = "export CA={ro}/ca.pem CURL_CA_BUNDLE={ro}/ca.pem GIT_SSL_CAINFO={ro}/ca.pem REQUESTS_CA_BUNDLE={ro}/ca.pem NODE_EXTRA_CA_CERTS={ro}/ca.pem; " \
          "export GIT_TERMINAL_PROMPT=0; cd /tmp; "


def sh(box, command, ok=True, timeout=240):
    """Output of a command inside; or, if it is to fail, how long that took."""
    began = time.monotonic()
    done = box.run(ENV.format(ro=box.ro) + command, timeout=timeout)
    if ok:
        assert done.returncode == 0, box.explain(done)
        return done.stdout.decode()
    assert done.returncode != 0, box.explain(done)
    assert time.monotonic() - began < QUICK, "a refusal must be quick"
    return done.stderr.decode()


def test_curl(lab, client):
    after = lab.mark()
    assert "sni=site.example path=/curl" in sh(client, "curl -sS https://site.example/curl")
    assert "path=/plain" in sh(client, "curl -sS http://site.example/plain")
    sh(client, "curl -sS -m 60 https://denied.example/", ok=False)
    sh(client, "curl -sS -m 60 -k https://93.184.216.130/", ok=False)
    sh(client, "curl -sS -m 60 -k --resolve site.example:443:93.184.216.130 https://site.example/", ok=False)
    sh(client, "curl -sS -m 60 -k --connect-to denied.example:443:site.example:443 https://denied.example/", ok=False)
    assert {r["host"] for r in lab.seen("http", after)} == {"site.example"} and {r["sni"] for r in lab.seen("tls", after)} == {"site.example"}


def test_git_over_https(lab, client):
    assert sh(client, "git clone -q https://git.example/git/project.git by-https && cat by-https/README") == "cloned\n"
    assert lab.seen("http", host="git.example", sni="git.example")
    sh(client, "git clone -q https://denied.example/git/project.git never", ok=False)


def test_git_over_ssh(lab, client):
    ssh = f"cp {client.ro}/key /tmp/key && chmod 600 /tmp/key && export GIT_SSH_COMMAND='ssh -F none -i /tmp/key -o StrictHostKeyChecking=no " \
          "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR' && "
    assert sh(client, ssh + "git clone -q root@git.example:project.git by-ssh && cat by-ssh/README") == "cloned\n"
    assert lab.seen("ssh", to=SITE)
    before = len(lab.seen("ssh"))
    sh(client, ssh + "git clone -q root@denied.example:project.git never", ok=False)
    sh(client, ssh + "git clone -q root@site.example:project.git never", ok=False)
    assert len(lab.seen("ssh")) == before


NPM = "export npm_config_registry=https://registry.npm.example/ npm_config_cafile=$CA npm_config_audit=false npm_config_fund=false " \
      "npm_config_loglevel=error; "


def test_npm_install(lab, client):
    sh(client, NPM + "mkdir -p node && cd node && npm install lab-package")
    assert sh(client, "cd node && node -p 'require(\"lab-package\")'") == "from npm\n"
    assert lab.seen("http", host="registry.npm.example", target="/files/lab-package-1.0.0.tgz")


def test_npm_in_a_protected_mount(client):
    """Scripts of packages, commands and a clean reinstallation: what npm makes is not what is protected."""
    assert sh(client, NPM + f"mkdir {client.work}/app && cd {client.work}/app && npm init -y >/dev/null && npm install --save lab-tool >/dev/null && "
              "npx lab-tool && cat node_modules/lab-tool/made") == "tool, from npm\ninstalled\n"
    assert os.path.exists(f"{client.work}/app/package-lock.json") and os.path.islink(f"{client.work}/app/node_modules/.bin/lab-tool")
    assert sh(client, NPM + f"cd {client.work}/app && npm ci >/dev/null && npm exec lab-tool") == "tool, from npm\n"


def test_npm_package_with_files_that_the_host_runs(client):
    """npm goes on without a file that it cannot unpack, and hardly says so; elsewhere it is unpacked like the others."""
    where = f"{client.work}/tasks"
    install = "npm init -y >/dev/null && npm install lab-tasks >/dev/null && cat node_modules/lab-tasks/main.js"
    assert sh(client, NPM + f"mkdir {where} && cd {where} && {install}") == "nothing\n"
    assert sorted(os.listdir(f"{where}/node_modules/lab-tasks")) in (["main.js", "package.json"], [".vscode", "main.js", "package.json"])
    assert not os.path.exists(f"{where}/node_modules/lab-tasks/.vscode/tasks.json")
    tried = {a["path"] for a in json.loads(client.nixbox("review", "--json").stdout)["attempts"]}
    assert any(path.endswith("/.envrc") for path in tried) and any(path.endswith("/.vscode/tasks.json") for path in tried), tried
    assert sh(client, NPM + f"mkdir tasks && cd tasks && {install} node_modules/lab-tasks/.envrc") == "nothing\nevil\n"


def test_make_in_a_protected_mount(client):
    harness.make_folder(f"{client.work}/build", client.host.uid, client.host.gid)
    harness.write(f"{client.work}/build/Makefile", "all: out/word\nout/%: %.in | out\n\ttr a-z A-Z <$< >$@\nout:\n\tmkdir out\nclean:\n\trm -r out\n")
    harness.write(f"{client.work}/build/word.in", "made\n")
    assert sh(client, f"cd {client.work}/build && make -s -j2 && cat out/word && make -s clean && make -s") == "MADE\n"
    assert os.path.exists(f"{client.work}/build/out/word")


def test_pip_in_a_protected_mount(client):
    """A folder for packages, with what pip makes for itself."""
    sh(client, f"cd {client.work} && pip install -q --root-user-action ignore --disable-pip-version-check --index-url https://index.pypi.example/simple/ "
       "--cert $CA --target lib lab-thing")
    assert sh(client, f"PYTHONPATH={client.work}/lib python3 -c 'import lab_thing; print(lab_thing.word)'") == "from pip\n"


def test_pip(lab, client):
    sh(client, "pip install -q --root-user-action ignore --disable-pip-version-check --index-url https://index.pypi.example/simple/ --cert $CA --target pip lab-thing")
    assert sh(client, "PYTHONPATH=pip python3 -c 'import lab_thing; print(lab_thing.word)'") == "from pip\n"
    assert lab.seen("http", host="files.pypi.example")


def test_apt(lab, client):
    source = "echo 'deb [trusted=yes allow-insecure=yes] http://apt.example/ ./' >/tmp/lab.list; o='-o Dir::Etc::SourceList=/tmp/lab.list " \
             "-o Dir::Etc::SourceParts=/dev/null -q'; "
    sh(client, source + "apt-get $o update && apt-get $o install -y lab-deb")
    assert sh(client, "cat /usr/share/lab-deb/word") == "from apt\n"
    assert lab.seen("http", host="apt.example", target="/./lab-deb.deb") or lab.seen("http", host="apt.example", target="/lab-deb.deb")


def test_python_requests(client):
    get = "python3 -c 'import requests, sys; print(requests.get(sys.argv[1], timeout=60).text)' "
    assert "path=/requests" in sh(client, get + "https://site.example/requests")
    sh(client, get + "https://denied.example/requests", ok=False)


def test_node_fetch(client):
    get = "node -e 'fetch(process.argv[1]).then(r => r.text()).then(console.log).catch(e => { console.error(e); process.exit(1) })' "
    assert "path=/fetch" in sh(client, get + "https://site.example/fetch")
    sh(client, get + "https://denied.example/fetch", ok=False)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_websocket(lab, client, scheme):
    talk = "python3 -c 'import os, sys, websocket\nw = websocket.create_connection(sys.argv[1], timeout=60, sslopt={\"ca_certs\": os.environ[\"CA\"]})\n" \
           "for i in range(3):\n    w.send(f\"{sys.argv[2]} {i}\"); print(w.recv())\nw.close()' "
    assert sh(client, talk + f"{scheme}://site.example/websocket {scheme}") == "".join(f"{scheme} {i}\n" for i in range(3))
    assert lab.seen("websocket", data=f"{scheme} 2")
    sh(client, talk + f"{scheme}://denied.example/websocket never", ok=False)


def test_openssl(client):
    connect = "echo | openssl s_client -CAfile $CA -verify_return_error -connect site.example:443 "
    said = sh(client, connect + "-servername site.example 2>&1")
    assert "Verify return code: 0" in said and "CN = site.example" in said or "CN=site.example" in said
    sh(client, connect + "-servername denied.example", ok=False)
    sh(client, connect + "-noservername", ok=False)


def test_dig(lab, client):
    after = lab.mark()
    address = sh(client, "dig +short site.example").strip()
    assert address.startswith("198.18.") and sh(client, "dig +short +tcp @8.8.8.8 site.example").strip() == address
    assert "NXDOMAIN" in sh(client, "dig @8.8.8.8 denied.example") and sh(client, "dig +short AAAA site.example") == ""
    assert sh(client, f"dig +short -x {address}").strip() == "site.example."
    assert not lab.dns_queries("denied.example", after) and not [q for q in lab.dns_queries(after=after) if q["to"] != netlab.ROUTER]


def test_ping_and_nc(client):
    sh(client, "ping -n -c 1 -W 20 8.8.8.8", ok=False)
    sh(client, "nc -w 20 8.8.8.8 443 </dev/null", ok=False)
    sh(client, "nc -w 20 site.example 22 </dev/null | grep SSH", ok=False)
    assert "SSH-2.0" in sh(client, "echo nonsense | nc -w 60 git.example 22; true")
