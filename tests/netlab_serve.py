"""The internet of the network tests, and the machine that boxes are started on; run by netlab.py as a process of its own.

Two network namespaces, joined by a veth pair, without a route to anything else:

  internet  every address there is: it answers on all of them, IPv4 and IPv6, with the servers below, and writes down each
            frame, connection, request and query that reaches it. 10.77.0.1 is the router and name server of the host.
  host      10.77.0.2, with a mount namespace of its own (/dev/net/tun for everybody, resolv.conf, nsswitch.conf, hosts):
            nixbox is started here. 45.45.45.2 is its address in a network with public addresses.

What is on a port: 22 sshd, 25 and 3306 a server that speaks first, 53 DNS, the rest whatever the client speaks: TLS (with a
certificate for the name it asks for) or not, and in it HTTP/1, DNS (853), or anything else, which is sent back.

Commands are lines of JSON on stdin, answers lines on stdout; it ends when stdin does."""
import base64
import ctypes
import hashlib
import json
import os
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from netlab_names import Names  # noqa: E402

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_FREEBIND = 8, 49, 50, 78
ETH_P_ALL, PACKET_OUTGOING = 3, 4
SO_RCVBUFFORCE = 33
PR_SET_PDEATHSIG = 1

ROUTER, LAN, HOST = "10.77.0.1", "10.77.0.9", "10.77.0.2"
PORTS_TCP = [7, 22, 25, 53, 80, 81, 443, 465, 784, 853, 1080, 2222, 3000, 3128, 3306, 4433, 5000, 5432, 6000, 8000, 8080, 8443, 8853, 9418,
             11434]
PORTS_UDP = [7, 53, 123, 443, 784, 853, 4433, 5000, 5353, 5355, 8853]
HOST_PORTS = [("0.0.0.0", 8088), ("127.0.0.1", 11434), ("127.0.0.1", 8089), ("::", 8088)]
BANNERS = {25: b"220 mail.lab ESMTP\r\n", 3306: b"J\0\0\0\n8.0.30-lab\0"}
SILENCE = 60  # seconds after which a connection that says nothing is closed

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def mount(source, target, kind=None, flags=0):
    check(libc.mount(source and source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), None))


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def new_namespaces():
    check(libc.unshare(CLONE_NEWNET | CLONE_NEWNS))
    mount(None, "/", None, MS_REC | MS_PRIVATE)


def run(*argv, text=None):
    done = subprocess.run(argv, input=text and text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout.decode(errors='replace')}")


# ---------------------------------------------------------------------------------------------------------- namespaces
def host_mounts(folder):
    """What the host's programs see instead of the real machine's."""
    mount("none", f"{folder}/dev", "tmpfs")
    os.mknod(f"{folder}/dev/tun", 0o020666, os.makedev(10, 200))
    os.chmod(f"{folder}/dev/tun", 0o666)
    if not os.path.exists("/dev/net/tun"):
        raise RuntimeError("there is no /dev/net/tun (modprobe tun)")
    mount(f"{folder}/dev/tun", "/dev/net/tun", None, MS_BIND)
    for name in ("resolv.conf", "hosts", "nsswitch.conf"):
        mount(f"{folder}/etc/{name}", os.path.realpath(f"/etc/{name}"), None, MS_BIND)


def start_host(folder):
    """A process that does nothing but hold the namespaces of the host."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        try:
            new_namespaces()
            host_mounts(folder)
            os.write(tell, b"y")
        except (OSError, RuntimeError) as e:
            os.write(tell, f"cannot make the host: {e}".encode())
            os._exit(1)
        os.close(0)
        while True:
            signal.pause()
    os.close(tell)
    said = os.read(ready, 1000)
    if said != b"y":
        raise RuntimeError(said.decode() or "the host died")
    return pid


def links(host):
    """Joins the two. The internet has every address; what it sends to the host's networks goes there."""
    run("ip", "-batch", "-", text=f"""\
link set lo up
link add inet0 address 02:00:00:77:00:01 type veth peer name host0 address 02:00:00:77:00:02 netns {host}
address add {ROUTER}/24 dev inet0
address add {LAN}/24 dev inet0
address add 45.45.45.1/24 dev inet0
address add 45.45.45.9/24 dev inet0
address add 2a01:77::1/64 dev inet0 nodad
address add fd77::1/64 dev inet0 nodad
link set inet0 up
route add local default dev lo table main
route add local ::/0 dev lo table main
""")
    run("nsenter", f"--net=/proc/{host}/ns/net", "ip", "-batch", "-", text=f"""\
link set lo up
address add {HOST}/24 dev host0
address add 45.45.45.2/24 dev host0
address add 2a01:77::2/64 dev host0 nodad
address add fd77::2/64 dev host0 nodad
link set host0 up
route add default via {ROUTER}
route add default via 2a01:77::1
""")
    # as distributions have it: everybody may send echo requests
    run("nsenter", f"--net=/proc/{host}/ns/net", "sh", "-c", "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range")


def host_sockets(host):
    """Listeners on the host itself, which no box may reach without a rule."""
    here, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/proc/{host}/ns/net", os.O_RDONLY)
    check(libc.setns(there, CLONE_NEWNET))
    try:
        return [listener(address, port) for address, port in HOST_PORTS]
    finally:
        check(libc.setns(here, CLONE_NEWNET))
        os.close(here)
        os.close(there)


def listener(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))
    s.listen(512)
    return s


# ---------------------------------------------------------------------------------------------------------- records
class Records:
    """What was seen, in order, and frames counted by what they are."""

    def __init__(self):
        self.lock = threading.Lock()
        self.list = []
        self.frames = {}

    def add(self, kind, **fields):
        with self.lock:
            self.list.append({"kind": kind, "time": time.time(), **fields})

    def frame(self, key):
        with self.lock:
            self.frames[key] = self.frames.get(key, 0) + 1


def read_frame(data):
    """(what, source, destination, protocol, source port, destination port) of an Ethernet frame."""
    kind = int.from_bytes(data[12:14], "big")
    if kind == 0x0806:
        return ("arp", socket.inet_ntoa(data[28:32]), socket.inet_ntoa(data[38:42]), 0, 0, 0)
    if kind == 0x0800 and len(data) >= 34:
        size, proto = (data[14] & 15) * 4, data[23]
        ports = data[14 + size:18 + size] if not int.from_bytes(data[20:22], "big") & 0x1fff else b""
        source, to = socket.inet_ntoa(data[26:30]), socket.inet_ntoa(data[30:34])
    elif kind == 0x86dd and len(data) >= 54:
        proto, ports = data[20], data[54:58]
        source, to = (socket.inet_ntop(socket.AF_INET6, data[i:i + 16]) for i in (22, 38))
    else:
        return (f"{kind:04x}", "", "", 0, 0, 0)
    a, b = struct.unpack("!HH", ports) if proto in (6, 17) and len(ports) == 4 else (0, 0)
    return ("ip6" if kind == 0x86dd else "ip", source, to, proto, a, b)


class Capture:
    """Counts the frames that come in. Asked for, all that had come by then are counted: a frame is in the queue of this socket
    before any server sees what is in it."""

    def __init__(self, records):
        self.records = records
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)  # or frames are lost while this process has no CPU
        self.socket.bind(("inet0", ETH_P_ALL))
        thread(self.loop)

    def loop(self):
        while True:
            select.select([self.socket], [], [])
            self.count()

    def count(self):
        with self.lock:
            while True:
                try:
                    data, address = self.socket.recvfrom(200, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return
                if address[2] != PACKET_OUTGOING:
                    self.records.frame(read_frame(data))


def thread(call, *args):
    threading.Thread(target=call, args=args, daemon=True).start()


def plain(address):
    return address.removeprefix("::ffff:") if "." in address else address


# ---------------------------------------------------------------------------------------------------------- UDP
def udp(family, port, records, names):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        s.bind(("::", port))
    else:
        s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        s.bind(("0.0.0.0", port))

    def loop():
        while True:
            data, anc, _, source = s.recvmsg(65536, 256)
            info = next((d for level, kind, d in anc if kind in (IP_PKTINFO, IPV6_PKTINFO)), b"")
            if family == socket.AF_INET6:
                to, back = socket.inet_ntop(family, info[:16]), [(socket.IPPROTO_IPV6, IPV6_PKTINFO, info[:16] + bytes(4))]
            else:
                to = socket.inet_ntoa(info[8:12])
                back = [(socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + info[8:12] + bytes(4))]
            try:
                reply = names.answer(data, "udp", to, source[0]) if port == 53 else data
            except (IndexError, struct.error):
                reply = None
            if port != 53:
                records.add("udp", to=to, port=port, source=source[0], data=data[:256].hex())
            if reply:
                try:
                    s.sendmsg([reply], back, 0, source)
                except OSError:
                    pass
    thread(loop)


# ---------------------------------------------------------------------------------------------------------- TCP
class Certificates:
    """One authority, and a certificate for each name that is asked for. All share one key, which takes long to make."""

    def __init__(self, folder):
        self.folder = folder
        self.lock = threading.Lock()
        self.contexts = {}
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", "/CN=Laboratory CA", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem")
        os.chmod(f"{folder}/ca.pem", 0o644)

    def context(self, name, fresh=False):
        """The context for a name; a fresh one may be changed by the caller."""
        name = name if name and re.fullmatch(r"[a-z0-9._-]{1,200}", name) else "nameless.lab"
        path = f"{self.folder}/{name}.pem"
        with self.lock:
            if fresh:
                return self.load(path)
            if name not in self.contexts:
                run("openssl", "req", "-x509", "-key", f"{self.folder}/ca.key", "-CA", f"{self.folder}/ca.pem", "-CAkey",
                    f"{self.folder}/ca.key", "-days", "30", "-subj", f"/CN={name[:60]}", "-addext", f"subjectAltName=DNS:{name}",
                    "-addext", "basicConstraints=critical,CA:false", "-out", path)
                # it is valid from this very second on, and a guest's clock may be some milliseconds behind
                time.sleep(1.1)
                self.contexts[name] = self.load(path)
            return self.contexts[name]

    def load(self, path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path, f"{self.folder}/ca.key")
        context.set_alpn_protocols(["http/1.1", "dot"])
        return context


def make_ssh(folder):
    """sshd lets anybody in who has the key, to fetch with git from the folder `git` and nothing else."""
    for name in ("host_key", "user_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"{folder}/{name}")
    with open(f"{folder}/sshd_config", "w") as f:
        f.write(f"""\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
UseDNS no
ForceCommand {folder}/command
""")
    with open(f"{folder}/command", "w") as f:
        f.write(f"""\
#!/bin/sh
cd {folder}/git || exit 1
case "$SSH_ORIGINAL_COMMAND" in
"git-upload-pack "*) GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' exec git shell -c "$SSH_ORIGINAL_COMMAND" ;;
*) echo "welcome from $(echo "$SSH_CONNECTION" | cut -d' ' -f3)" ;;
esac
""")
    os.chmod(f"{folder}/command", 0o755)


class Connection:
    """One accepted connection: where it went, and what was said on it."""

    def __init__(self, lab, sock, source, place):
        self.lab, self.sock, self.place = lab, sock, place
        to = sock.getsockname()  # unlike the peer's, also known of a connection that was reset already
        self.to, self.port, self.source, self.sni = plain(to[0]), to[1], plain(source[0]), None
        self.buffer = b""

    def note(self, kind, **fields):
        self.lab.records.add(kind, to=self.to, port=self.port, source=self.source, place=self.place, sni=self.sni, **fields)

    def more(self):
        try:
            got = self.sock.recv(65536)
        except (OSError, ssl.SSLError):
            got = b""
        self.buffer += got
        return bool(got)

    def until(self, mark):
        while mark not in self.buffer and len(self.buffer) < 1 << 17:
            if not self.more():
                return None
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    def exactly(self, n):
        while len(self.buffer) < n:
            if not self.more():
                return None
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def send(self, data):
        self.sock.sendall(data)

    def serve(self):
        self.sock.settimeout(SILENCE)
        self.note("tcp")
        try:
            if self.port == 22 and self.place == "internet":
                return self.ssh()
            if self.port in BANNERS:
                self.send(BANNERS[self.port])
            self.peek_tls()
            if self.port in (53, 853) and self.place == "internet":
                return self.dns()
            while not self.buffer:
                if not self.more():
                    return self.note("end")
            if self.port not in BANNERS and re.match(rb"[A-Z]{3,10} ", self.buffer):
                self.http()
            else:
                self.echo()
            self.note("end")
        except (OSError, ssl.SSLError, ValueError) as e:
            self.note("broken", why=str(e))
        finally:
            try:
                self.sock.close()
            except OSError:
                pass
        return None

    def peek_tls(self):
        first = self.sock.recv(3, socket.MSG_PEEK)
        if first[:2] != b"\x16\x03":
            return

        def chosen(sock, name, _):
            self.sni = name
            self.note("tls", hello=True)
            sock.context = self.lab.certificates.context(name)

        context = self.lab.certificates.context(None, fresh=True)
        context.sni_callback = chosen
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.note("tls", established=True)

    def ssh(self):
        self.note("ssh")
        log = f"{self.lab.folder}/sshd.log"
        subprocess.run(["/usr/sbin/sshd", "-i", "-E", log, "-f", f"{self.lab.folder}/sshd_config"], stdin=self.sock, stdout=self.sock,
                       stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self.sock.close()

    def dns(self):
        via = "dot" if self.port == 853 else "tcp"
        while (size := self.exactly(2)) is not None:
            message = self.exactly(int.from_bytes(size, "big"))
            answer = message and self.lab.names.answer(message, via, self.to, self.source)
            if not answer:
                return
            self.send(struct.pack("!H", len(answer)) + answer)

    def echo(self):
        while self.buffer or self.more():
            self.note("data", data=self.buffer[:4096].hex())
            self.send(self.buffer)
            self.buffer = b""

    # -- HTTP/1
    def http(self):
        while (head := self.until(b"\r\n\r\n")) is not None:
            lines = head.decode("latin-1").split("\r\n")
            method, _, rest = lines[0].partition(" ")
            target = rest.rpartition(" ")[0]
            fields = [(k.strip().lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:])]
            self.fields = dict(fields)
            body = b"" if method == "CONNECT" else self.body()
            if body is None:
                return
            self.note("http", method=method, target=target, host=self.fields.get("host"), body=len(body), head=head[:4096].decode("latin-1"))
            if not self.respond(method, target, body):
                return

    def body(self):
        if self.fields.get("transfer-encoding", "").lower() == "chunked":
            out = b""
            while True:
                size = self.until(b"\r\n")
                if size is None:
                    return None
                n = int(size.split(b";")[0], 16)
                chunk = self.exactly(n + 2)
                if chunk is None or n == 0:
                    return out
                out += chunk[:-2]
        return self.exactly(int(self.fields.get("content-length", 0)))

    def reply(self, status, body=b"", *fields, keep=True):
        body = body.encode() if isinstance(body, str) else body
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields] + ([] if keep else ["Connection: close"])
        self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        return keep

    def respond(self, method, target, body):
        if method == "CONNECT":
            return self.proxy(target)
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query))
        host = (self.fields.get("host") or "").partition(":")[0]
        if url.path == "/redirect":
            return self.reply("302 Found", "", f"Location: {query['to']}")
        if url.path == "/websocket":
            return self.websocket()
        if url.path == "/dns-query":
            message = body or base64.urlsafe_b64decode(query["dns"] + "==")
            return self.reply("200 OK", self.lab.names.answer(message, "doh", self.to, self.source) or b"", "Content-Type: application/dns-message")
        if url.path.startswith("/big/"):
            return self.reply("200 OK", b"x" * int(url.path[5:]))
        if url.path == "/switch":  # as a proxy or a server of something else behind HTTP does it
            self.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
            self.echo()
            return False
        if url.path.startswith("/git/"):
            return self.cgi(method, url, body)
        path = os.path.realpath(f"{self.lab.folder}/www/{host}/{urllib.parse.unquote(url.path)}")
        if path.startswith(f"{self.lab.folder}/www/"):
            path = f"{path}/index.html" if os.path.isdir(path) else path
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    content = f.read()
                kind = "text/html" if path.endswith(".html") else "application/json" if path.endswith(".json") else "application/octet-stream"
                return self.reply("200 OK", b"" if method == "HEAD" else content, f"Content-Type: {kind}")
            if os.path.isdir(f"{self.lab.folder}/www/{host}"):
                return self.reply("404 Not Found", "nothing here\n")
        return self.reply("200 OK", f"site={host} ip={self.to} sni={self.sni} path={url.path}\n")

    def websocket(self):
        key = self.fields.get("sec-websocket-key", "")
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        self.send(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        while (head := self.exactly(2)) is not None:
            size = head[1] & 127
            if size == 126:
                size = int.from_bytes(self.exactly(2) or b"", "big")
            mask, data = self.exactly(4), self.exactly(size)
            if mask is None or data is None:
                break
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
            self.note("websocket", data=data[:256].decode("latin-1"))
            self.send(head[:1] + bytes([len(data)]) + data if len(data) < 126 else head[:1] + b"\x7e" + struct.pack("!H", len(data)) + data)
            if head[0] & 15 == 8:
                break
        return False

    def cgi(self, method, url, body):
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": f"{self.lab.folder}/git", "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": method,
               "PATH_INFO": url.path.removeprefix("/git"), "QUERY_STRING": url.query, "CONTENT_TYPE": self.fields.get("content-type", ""),
               "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.fields.get("content-encoding", ""),
               "GIT_PROTOCOL": self.fields.get("git-protocol", ""), "HOME": self.lab.folder, "GIT_CONFIG_COUNT": "1",
               "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        done = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = [line for line in head.decode("latin-1").split("\r\n") if line]
        status = next((f.partition(":")[2].strip() for f in fields if f.lower().startswith("status:")), "200 OK")
        return self.reply(status, content, *[f for f in fields if not f.lower().startswith("status:")])

    def proxy(self, target):
        """What an office's proxy does: connects by name, wherever that is."""
        host, _, port = target.rpartition(":")
        self.note("proxy", target=target, authorization=self.fields.get("proxy-authorization"))
        found = self.lab.names.find(host, "A") or []
        address = next((value for _, kind, value in found if kind == "A"), None) if isinstance(found, list) else None
        try:
            other = socket.create_connection((address or host, int(port)), 5)
        except OSError:
            return self.reply("502 Bad Gateway", "no\n", keep=False)
        self.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        other.settimeout(SILENCE)
        if self.buffer:
            other.sendall(self.buffer)
            self.buffer = b""
        thread(pump, other, self.sock)
        pump(self.sock, other)
        return False


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


# ---------------------------------------------------------------------------------------------------------- the process
class Lab:
    def __init__(self, folder):
        self.folder = folder
        self.records = Records()
        self.names = Names(self.records)
        self.host = start_host(folder)
        links(self.host)
        self.certificates = Certificates(folder)
        self.certificates.context(None)
        make_ssh(folder)
        self.capture = Capture(self.records)
        for s in host_sockets(self.host):
            thread(self.accept, s, "host")
        for port in PORTS_TCP:
            for address in ("0.0.0.0", "::"):
                thread(self.accept, listener(address, port), "internet")
        for port in PORTS_UDP:
            for family in (socket.AF_INET, socket.AF_INET6):
                udp(family, port, self.records, self.names)

    def accept(self, s, place):
        while True:
            try:
                thread(Connection(self, *s.accept(), place).serve)
            except OSError:
                pass

    def command(self, c):
        if c["op"] == "zone":
            with self.names.lock:
                self.names.zones[c["name"]] = c["zone"]
                for key in [k for k in self.names.turns if k[0] == c["name"]]:
                    del self.names.turns[key]
            return {}
        if c["op"] == "frames":
            self.capture.count()
        with self.records.lock:
            if c["op"] == "records":
                return {"records": self.records.list[c["after"]:]}
            return {"frames": [[*key, count] for key, count in self.records.frames.items()]}


def main():
    die_with_parent()
    folder = sys.argv[1]
    new_namespaces()
    mount("none", "/run", "tmpfs")
    os.makedirs("/run/sshd")
    lab = Lab(folder)
    print(json.dumps({"ready": True, "host": lab.host}), flush=True)
    for line in sys.stdin:
        print(json.dumps(lab.command(json.loads(line))), flush=True)
    os.kill(lab.host, signal.SIGKILL)


if __name__ == "__main__":
    main()
