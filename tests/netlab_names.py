"""The name server of the network laboratory (netlab_serve.py): bytes in, bytes out."""
import ipaddress
import struct
import threading

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "HTTPS": 65}
NUMBERS = {number: name for name, number in TYPES.items()}


def put_name(name):
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name.rstrip(".").split(".") if label) + b"\0"


def put_data(kind, value):
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(value).packed
    if kind in ("CNAME", "PTR", "NS"):
        return put_name(value)
    if kind == "MX":
        return struct.pack("!H", 10) + put_name(value)
    if kind == "SRV":
        port, target = value.split()
        return struct.pack("!HHH", 1, 1, int(port)) + put_name(target)
    if kind == "TXT":
        return b"".join(bytes([len(value[i:i + 255])]) + value[i:i + 255].encode() for i in range(0, len(value), 255))
    return bytes.fromhex(value)


class Names:
    """A name server that knows everything. A zone: {"A": [...], "AAAA": [...], "CNAME": name, ...}; several of them in a list
    take turns, one for each query of addresses; {"silent": true} never answers, {"fail": true} answers SERVFAIL."""

    def __init__(self, records):
        self.records = records
        self.zones = {}
        self.turns = {}
        self.lock = threading.Lock()

    def zone(self, name, kind):
        zone = self.zones.get(name)
        above = name
        while zone is None and above:
            above = above.partition(".")[2]
            zone = self.zones.get("*." + above)
        if not isinstance(zone, list):
            return zone
        with self.lock:
            turn = self.turns.setdefault((name, kind), 0)
            self.turns[(name, kind)] += 1
        return zone[turn % len(zone)]

    def find(self, name, kind):
        """Records as [(name, kind, value)], or None if there is no such name."""
        out = []
        for _ in range(8):
            zone = self.zone(name, kind)
            if zone is None:
                return out or None
            if "silent" in zone or "fail" in zone:
                return zone
            out += [(name, kind, value) for value in zone.get(kind, [])]
            if "CNAME" not in zone or kind == "CNAME":
                break
            out.append((name, "CNAME", zone["CNAME"]))
            name = zone["CNAME"]
        return out

    def answer(self, message, via, to, source):
        """The answer's bytes; None for one that is never answered."""
        ident, flags = struct.unpack("!HH", message[:4])
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1:at + 1 + message[at]].decode("latin-1"))
            at += 1 + message[at]
        name = ".".join(labels).lower()
        number = int.from_bytes(message[at + 1:at + 3], "big")
        kind = NUMBERS.get(number, f"TYPE{number}")
        self.records.add("dns", name=name, type=kind, via=via, to=to, source=source)
        found, rcode, answers = self.find(name, kind), 0, []
        if isinstance(found, dict):
            if "silent" in found:
                return None
            rcode = 2
        elif found is None:
            rcode = 3
        else:
            answers = found
        out = struct.pack("!HHHHHH", ident, 0x8180 | flags & 0x0100 | rcode, 1, len(answers), 0, 0) + message[12:at + 5]
        for owner, what, value in answers:
            data = put_data(what, value)
            out += put_name(owner) + struct.pack("!HHIH", TYPES[what], 1, 30, len(data)) + data
        return out
