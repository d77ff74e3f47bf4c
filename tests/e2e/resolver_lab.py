"""Run by test_resolver.py in network and mount namespaces of its own: a name server on loopback that writes down what it is
asked, and the resolver process between the two. Reads questions (a line of JSON each: [name, type]) and answers in JSON."""
import json
import os
import socket
import struct
import subprocess
import sys
import threading

PROGRAM, FOLDER = sys.argv[1], sys.argv[2]
asked, servers = [], []
ZONE = {("a.example", 1): [bytes([93, 184, 216, 34])], ("lan.example", 1): [bytes([127, 0, 0, 9])],
        ("near.example", 1): [bytes([10, 9, 8, 77])], ("a.example", 16): [b"\5hello", b"\3two"],
        ("a.example", 15): [b"\0\n\2mx\xc0\x0c"], ("short.corp.example", 1): [bytes([93, 184, 216, 35])],
        ("hosts.example", 1): [bytes([93, 184, 216, 36])], ("both.example", 1): [bytes([93, 184, 216, 37])],
        ("both.example", 28): [bytes.fromhex("20010db8") + bytes(12)]}


def answer(query):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind = struct.unpack(">H", query[at + 1:at + 3])[0]
    name, question = ".".join(labels), query[12:at + 5]
    asked.append([name, kind])
    records = ZONE.get((name.lower(), kind), [])
    known = any(n == name.lower() for n, _ in ZONE)
    body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(r)) + r for r in records)
    return query[:2] + struct.pack(">HHHHH", 0x8180 | (0 if known else 3), 1, len(records), 0, 0) + question + body


def name_server(s, address):
    while True:
        query, peer = s.recvfrom(2000)
        servers.append(address)
        s.sendto(answer(query), peer)


def parse(message):
    """An answer as in resolver_wire.h."""
    status, n = message[5], message[6]
    at, addresses, records = 7, [], []
    for _ in range(n):
        size = 4 if message[at] == 4 else 16
        family = socket.AF_INET if size == 4 else socket.AF_INET6
        addresses.append([socket.inet_ntop(family, message[at + 2:at + 2 + size]), bool(message[at + 1])])
        at += 2 + size
    n, at = message[at], at + 1
    for _ in range(n):
        kind, ttl, size = struct.unpack("<HIH", message[at:at + 8])
        records.append([kind, ttl, message[at + 8:at + 8 + size].hex()])
        at += 8 + size
    return {"status": status, "addresses": addresses, "records": records}


def setup():
    for name, text in (("hosts", "127.0.0.1 localhost\n93.184.216.99 hosts.example\n"),
                       ("resolv.conf", "nameserver 127.0.0.1\nsearch corp.example example\noptions timeout:12 attempts:1 ndots:3\n"),
                       ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")):
        with open(f"{FOLDER}/{name}", "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(f"{FOLDER}/{name}", 0o644)
        subprocess.run(["mount", "--bind", f"{FOLDER}/{name}", f"/etc/{name}"], check=True)
    for line in ("link set lo up", "addr add 10.9.8.1/24 dev lo"):
        subprocess.run(["ip", *line.split()], check=True)
    for address in ("127.0.0.1", "127.0.0.2"):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((address, 53))
        threading.Thread(target=name_server, args=(s, address), daemon=True).start()


def receive(near, links):
    while True:
        message = near.recv(65536)
        if message[0] == 1:
            return parse(message)
        links.append(message[2] | message[3] << 8)


def main():
    setup()
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(60)
    for fd, to in ((far.fileno(), 30), (os.open("/dev/null", os.O_RDWR), 31)):
        os.dup2(fd, to)
    shell = 'exec 3<&30 4>&31; exec "$0" resolver 64999'
    process = subprocess.Popen(["bash", "-c", shell, PROGRAM], pass_fds=(30, 31), stdin=subprocess.DEVNULL)
    os.close(30)
    far.close()
    links = []
    for number, line in enumerate(sys.stdin):
        question = json.loads(line)
        if question == "status":
            with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
                result = dict(l.rstrip("\n").split(":\t", 1) for l in f if ":\t" in l)
        elif question == "new network":
            subprocess.run(["ip", "addr", "add", "10.9.9.1/24", "dev", "lo"], check=True)
            result = len(links)
        elif question == "new name server":
            with open("/etc/resolv.conf", "w", encoding="ascii") as f:
                f.write("nameserver 127.0.0.2\nsearch corp.example\n")
            result = None
        else:
            asked.clear()
            servers.clear()
            near.send(struct.pack("<IH", number, question[1]) + question[0].encode())
            result = {**receive(near, links), "asked": list(asked), "servers": list(servers), "links": len(links)}
        print(json.dumps(result), flush=True)
    near.close()
    print(json.dumps(process.wait(60)), flush=True)


main()
