"""Bytes as a hostile guest sends them: frames, packets, queries for names, the first flight of TLS; and answers taken apart."""
import os
import socket
import struct

GUEST, GATEWAY = "198.19.255.254", "198.19.255.253"
GUEST_MAC, GATEWAY_MAC, BROADCAST = "02:6e:62:00:00:02", "02:6e:62:00:00:01", "ff:ff:ff:ff:ff:ff"
TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "NULL": 10, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "SVCB": 64, "HTTPS": 65,
         "ANY": 255}


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


# ---------------------------------------------------------------------------------------------------------- frames
def ethernet(kind, payload, source=GUEST_MAC, to=GATEWAY_MAC, vlan=None):
    tag = b"".join(struct.pack("!HH", 0x8100, v) for v in vlan or [])
    return mac(to) + mac(source) + tag + struct.pack("!H", kind) + payload


def arp(operation, sender_ip, target_ip, sender=GUEST_MAC, target="00:00:00:00:00:00"):
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac(sender) + socket.inet_aton(sender_ip) + mac(target) + socket.inet_aton(target_ip)


def ipv4(proto, payload, to, source=GUEST, fragment=0, more=False, ident=1, options=b"", ttl=64):
    size = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | size, 0, size * 4 + len(payload), ident, (0x2000 if more else 0) | fragment, ttl, proto, 0,
                       socket.inet_aton(source), socket.inet_aton(to)) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def with_ports(proto, payload, source, to, head, at):
    pseudo = socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!BBH", 0, proto, len(head) + len(payload))
    value = checksum(pseudo + head + payload) or 0xffff
    return head[:at] + struct.pack("!H", value) + head[at + 2:] + payload


def udp(to, port, payload, source=GUEST, sport=40000):
    return with_ports(17, payload, source, to, struct.pack("!HHHH", sport, port, 8 + len(payload), 0), 6)


def tcp(to, port, payload=b"", source=GUEST, sport=40000, flags=2, seq=1000, ack=0):
    return with_ports(6, payload, source, to, struct.pack("!HHIIBBHHH", sport, port, seq, ack, 0x50, flags, 60000, 0, 0), 16)


def icmp_echo(payload=b"probe"):
    head = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    return head[:2] + struct.pack("!H", checksum(head + payload)) + head[4:] + payload


def ipv6(proto, payload, to, source="fe80::6e:62ff:fe00:2"):
    return struct.pack("!IHBB", 6 << 28, len(payload), proto, 255) + socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to) + payload


def router_advertisement():
    source, to = "fe80::6e:62ff:fe00:2", "ff02::1"
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    body += struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 86400, 86400, 0) + socket.inet_pton(socket.AF_INET6, "2a02:bad::")
    pseudo = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to) + struct.pack("!II", len(body), 58)
    return ipv6(58, body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:], to, source)


# ---------------------------------------------------------------------------------------------------------- names
def query(name, kind="A", ident=0x4242, edns=False, count=1):
    """A query; the name as text, or as a list of labels in bytes where no text can say it."""
    labels = name if isinstance(name, list) else [label.encode("latin-1") for label in name.rstrip(".").split(".") if label]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    number = TYPES[kind] if isinstance(kind, str) else kind
    extra = b"\0" + struct.pack("!HHIH", 41, 4096, 0, 0) if edns else b""
    return struct.pack("!HHHHHH", ident, 0x0100, count, 0, 0, 1 if edns else 0) + wire + struct.pack("!HH", number, 1) + extra


class Answer:
    """rcode, truncated, and records as [(type, ttl, text or bytes)] of the answer section."""

    def __init__(self, message):
        _, flags, questions, answers, _, _ = struct.unpack("!HHHHHH", message[:12])
        self.rcode, self.truncated, self.records = flags & 15, bool(flags & 0x0200), []
        at = 12
        for _ in range(questions):
            at = self.name(message, at)[1] + 4
        for _ in range(answers):
            at = self.name(message, at)[1]
            kind, _, ttl, size = struct.unpack("!HHIH", message[at:at + 10])
            data = message[at + 10:at + 10 + size]
            value = socket.inet_ntoa(data) if kind == 1 else self.name(message, at + 10)[0] if kind in (5, 12) else data
            self.records.append((next((k for k, v in TYPES.items() if v == kind), kind), ttl, value))
            at += 10 + size

    @staticmethod
    def name(message, at):
        labels, end = [], None
        for _ in range(128):
            size = message[at]
            if size >= 0xc0:
                end = end or at + 2
                at = (size & 0x3f) << 8 | message[at + 1]
                continue
            at += 1
            if size == 0:
                break
            labels.append(message[at:at + size].decode("latin-1"))
            at += size
        return ".".join(labels), end or at

    def __repr__(self):
        return f"<rcode {self.rcode}{' truncated' if self.truncated else ''} {self.records}>"


# ---------------------------------------------------------------------------------------------------------- TLS
def extension(number, data):
    return struct.pack("!HH", number, len(data)) + data


def server_name(*names):
    entries = b"".join(struct.pack("!BH", 0, len(n)) + n for n in names)
    return extension(0, struct.pack("!H", len(entries)) + entries)


def client_hello(name=None, extra=b"", pad=0):
    """A ClientHello for TLS 1.2 and 1.3 in one record that a real server answers; name in bytes or text, several in a list."""
    names = [] if name is None else name if isinstance(name, list) else [name]
    names = [n.encode("latin-1") if isinstance(n, str) else n for n in names]
    ext = server_name(*names) if names else b""
    ext += extension(43, b"\x04\x03\x04\x03\x03") + extension(51, b"\0\0") + extension(10, b"\0\x04\0\x17\0\x18") + extension(11, b"\x01\0")
    ext += extension(13, b"\0\x0c\x04\x03\x08\x04\x04\x01\x05\x03\x08\x05\x05\x01") + extension(23, b"") + extra
    if pad:
        ext += extension(21, bytes(pad))
    suites = bytes.fromhex("130113021303c02bc02fc02cc030009e")
    body = b"\x03\x03" + os.urandom(32) + b"\0" + struct.pack("!H", len(suites)) + suites + b"\x01\0" + struct.pack("!H", len(ext)) + ext
    return record(b"\x01" + len(body).to_bytes(3, "big") + body)


def record(handshake, kind=22):
    return struct.pack("!BHH", kind, 0x0301, len(handshake)) + handshake


def is_server_hello(data):
    """Whether a server has begun to answer (a hello or its own request to choose another group), not refused by an alert."""
    return data[:2] == b"\x16\x03" and data[5:6] == b"\x02"


def is_alert(data):
    return data[:2] == b"\x15\x03"


def encrypted_hello(inner=64):
    """An encrypted_client_hello extension as a client with a key sends it, or without one, as GREASE: they look alike."""
    return extension(0xfe0d, b"\0" + b"\0\x01\0\x01" + b"\x2a" + struct.pack("!H", 32) + os.urandom(32) + struct.pack("!H", inner) + os.urandom(inner))


# ---------------------------------------------------------------------------------------------------------- HTTP
def get(host, path="/", *fields, method="GET", version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host is not None else []), *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
