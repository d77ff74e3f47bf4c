"""The ways in and out that belong to the host, on the stage of gateway_stage.py: its HTTPS_PROXY, plain and with TLS, and ports of
the guest published on it. The gateway is the real one, in its jail."""
import json
import os
import subprocess
import threading

import pytest

import gateway_stage as gs

HERE = os.path.dirname(os.path.abspath(__file__))
HIDDEN = "hidden.example"  # only the proxy knows where it is
RULES = [{"host": HIDDEN, "ports": [7, 99, 8443]}, {"host": "a.example", "ports": [7]}, {"host": "unknown.example", "ports": [7]},
         {"host": "private.example", "ports": [7], "private": True}]
KNOWN = f"{HIDDEN}={gs.NAMES['a.example']},a.example={gs.NAMES['a.example']},private.example={gs.NAMES['private.example']}"


class Proxy:
    def __init__(self, spaces, port, *certificate):
        self.process = spaces.start(spaces.host, "python3", f"{HERE}/host_proxy.py", str(port), KNOWN, *certificate,
                                    stdout=subprocess.PIPE, text=True)
        self.asked = []
        assert json.loads(self.process.stdout.readline()) == "ready"
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.asked.append(json.loads(line))

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["http", "https"])
def proxied(request, spaces, far):
    """A stage behind a proxy."""
    key, crt = f"{spaces.folder}/proxy.pem", f"{spaces.folder}/proxy.crt"
    if not os.path.exists(crt):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=proxy", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", crt], check=True,
                       stderr=subprocess.DEVNULL)
        with open(key, "a", encoding="ascii") as f, open(crt, encoding="ascii") as g:
            f.write(g.read())
    port = 3128 if request.param == "http" else 3129
    proxy = Proxy(spaces, port, *([key] if request.param == "https" else []))
    with open(crt, encoding="ascii") as f:
        settings = {"url": f"{request.param}://me:sesame@localhost:{port}", "ca": f.read(), "no_proxy": "other.example, .a.example"}
    s = gs.Stage(spaces, RULES, proxy=settings)
    s.proxy = proxy
    yield s
    s.close()
    proxy.close()


def test_a_name_is_reached_through_the_proxy(proxied):
    assert proxied.talk(HIDDEN, 7, 's.sendall(b"\\1hello"); result = get()') == "\x01hello"
    assert gs.wait_for(lambda: proxied.proxy.asked) == [{"target": f"{HIDDEN}:7", "auth": "Basic bWU6c2VzYW1l", "status": 200}]
    e = proxied.event(type="connect", decision="allow", host=HIDDEN)
    assert "ip" not in e
    assert "sesame" not in json.dumps(proxied.lines)


def test_tls_goes_through_the_proxy(proxied):
    code = f"""
c = ssl._create_unverified_context()
s = c.wrap_socket(s, server_hostname="{HIDDEN}")
s.sendall(b"hi")
result = get()"""
    assert proxied.talk(HIDDEN, 8443, code) == f"tls {HIDDEN}: hi"


def test_much_goes_through_the_proxy(proxied):
    code = """
s.sendall(bytes(20_000_000))
s.shutdown(socket.SHUT_WR)
result = get()"""
    assert proxied.talk(HIDDEN, 99, code) == "20000000"


def test_the_proxys_refusal_is_told(proxied):
    assert proxied.talk("unknown.example", 7, 's.sendall(b"\\1"); result = get()') == "ConnectionResetError"
    e = proxied.event(type="connect", host="unknown.example")
    assert "the proxy refused: 502 No such host" in e["reason"]


def test_some_names_go_past_the_proxy(proxied):
    assert proxied.talk("a.example", 7, 's.sendall(b"\\1no_proxy"); result = get()') == "\x01no_proxy"
    assert proxied.talk("private.example", 7, 's.sendall(b"\\1private"); result = get()') == "\x01private"
    assert not proxied.proxy.asked
    assert proxied.event(type="connect", host="private.example")["ip"] == gs.NAMES["private.example"]


def test_a_dead_proxy_is_no_way_around_it(proxied):
    proxied.proxy.close()
    assert proxied.talk(HIDDEN, 7, 's.sendall(b"\\1"); result = get()') == "ConnectionResetError"
    assert "the proxy cannot be reached" in proxied.event(type="connect", host=HIDDEN)["reason"]


@pytest.fixture
def published(spaces, far):
    s = gs.Stage(spaces, [], publish=[[18080, 80], [18081, 81]])
    yield s
    s.close()


def from_host(spaces, port=None, code=""):
    """What a program on the host prints; with a port it finds itself connected to it, as s."""
    begin = f"import socket\ns = socket.create_connection(('127.0.0.1', {port}), 10)\ns.settimeout(10)\n" if port else ""
    argv = ["python3", "-c", begin + code]
    p = spaces.start(spaces.host, *argv, stdout=subprocess.PIPE, text=True)
    return p.communicate(timeout=gs.WAIT)[0].strip()


def test_a_published_port_reaches_the_guest(published, spaces):
    server = published.guest("python3", "-c", """if True:
        import socket
        l = socket.create_server(("0.0.0.0", 80))
        print("ready", flush=True)
        c, peer = l.accept()
        c.sendall(b"welcome ")
        while data := c.recv(65536): c.sendall(data)
        c.close()""", stdout=subprocess.PIPE)
    assert server.stdout.readline().strip() == "ready"
    code = """
s.sendall(b"hello")
s.shutdown(socket.SHUT_WR)
text = b""
while data := s.recv(1000): text += data
print(text.decode())"""
    assert from_host(spaces, 18080, code) == "welcome hello"
    server.wait()
    e = published.event(type="connect", host="guest")
    assert (e["decision"], e["port"], e["ip"], e["bytes_up"], e["bytes_down"]) == ("allow", 80, "127.0.0.1", 13, 5)


def test_a_port_that_nothing_listens_on_is_reset(published, spaces):
    # the reset may come before connect() has returned
    code = """import socket
try: print(socket.create_connection(("127.0.0.1", 18081), 10).recv(1))
except ConnectionResetError: print("reset")"""
    assert from_host(spaces, code=code) == "reset"
    assert "nothing in the box listens" in published.event(type="connect", host="guest")["reason"]
