"""The network's measurements: one guest with four cards, each on a path of its own to the same servers: through the gateway, a
plain TAP device with the kernel's NAT, QEMU's user-mode network (libslirp), and passt. bench/run starts this file in a network
and mount namespace made for it; the servers are in another one, so no packet leaves the machine.

usage: net.py SETTINGS      JSON with `qemu` (argv), `kernel` (folder), `stage`, `gateway`, `peer` (programs), `dir`
Prints a JSON object a line: {"path", "measure", "value"}, and the gateway's memory in MiB as measures pss-idle and pss-held."""
import json
import os
import re
import subprocess
import sys
import threading
import time

from floor import newc

SERVER = "198.41.0.4"  # a public address, as the gateway wants it; here it belongs to the far namespace
# name, MAC, address, bits, router, name server, MTU: the order is that of the guest's list, and the first one is measured for
# memory. passt announces the largest MTU there is, and is slow without.
PATHS = [("gateway", "02:6e:62:00:00:02", "198.19.255.254", 30, "198.19.255.253", "198.19.255.253", 1500),
         ("tap", "02:6e:62:00:00:12", "10.55.0.2", 24, "10.55.0.1", SERVER, 1500),
         ("slirp", "02:6e:62:00:00:22", "10.0.2.15", 24, "10.0.2.2", "10.0.2.3", 1500),
         ("passt", "02:6e:62:00:00:32", "10.56.0.2", 24, "10.56.0.1", SERVER, 65520)]
POLICY = {"mode": "filtered", "rules": [{"host": "peer.example", "ports": [7, 9, 19]}]}
NAT = "table ip plain {\n chain out { type nat hook postrouting priority srcnat; oifname \"far0\" masquerade; }\n}\n"
LIMIT = 900  # seconds; a slow machine needs some five minutes


def sh(*argv, **kw):
    subprocess.run(argv, check=True, **kw)


class Children:
    """Programs that end with this one."""
    def __init__(self):
        self.all = []

    def start(self, argv, **kw):
        self.all.append(subprocess.Popen(argv, **kw))
        return self.all[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.all:
            child.kill()
        for child in self.all:
            child.wait()


def far_side(children, peer):
    """The servers in a namespace of their own, behind a link; everything else is routed there, too."""
    far = children.start(["unshare", "-n", "sh", "-c", "read go && exec \"$0\" serve \"$1\"", peer, SERVER], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
    while os.readlink(f"/proc/{far.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", "far0", "type", "veth", "peer", "name", "far1", "netns", str(far.pid))
    sh("ip", "address", "add", "192.0.2.1/30", "dev", "far0")
    sh("ip", "link", "set", "far0", "up")
    inside = ["nsenter", "-t", str(far.pid), "-n", "ip"]
    sh(*inside, "address", "add", "192.0.2.2/30", "dev", "far1")
    sh(*inside, "address", "add", f"{SERVER}/32", "dev", "lo")
    sh(*inside, "link", "set", "lo", "up")
    sh(*inside, "link", "set", "far1", "up")
    sh(*inside, "route", "add", "default", "via", "192.0.2.1")
    sh("ip", "route", "add", "default", "via", "192.0.2.2")
    far.stdin.write("go\n")
    far.stdin.flush()
    far.stdout.readline()


def host_resolver(folder):
    """The host's resolver asks the far side's name server."""
    for name, text in (("resolv.conf", f"nameserver {SERVER}\n"), ("hosts", "127.0.0.1 localhost\n"),
                       ("nsswitch.conf", "hosts: files dns\n")):
        with open(f"{folder}/{name}", "w", encoding="ascii") as f:
            f.write(text)
        real = os.path.realpath(f"/etc/{name}")
        if os.path.exists(real):
            sh("mount", "--bind", f"{folder}/{name}", real)


def plain_tap():
    sh("ip", "tuntap", "add", "dev", "plain0", "mode", "tap", "vnet_hdr")
    sh("ip", "address", "add", "10.55.0.1/24", "dev", "plain0")
    sh("ip", "link", "set", "plain0", "up")
    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as f:
        f.write("1")
    sh("nft", "-f", "-", input=NAT, text=True)


def passt(children, folder):
    os.chmod(folder, 0o711)
    spot = f"{folder}/passt"
    os.mkdir(spot)
    os.chmod(spot, 0o777)  # as root it becomes another user before it makes the socket
    path = f"{spot}/sock"
    children.start(["passt", "-f", "-q", "-4", "-i", "far0", "-s", path, "-a", "10.56.0.2", "-n", "24", "-g", "10.56.0.1"],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not os.path.exists(path):
        time.sleep(0.05)
    return path


def make_initrd(settings, folder):
    """The kernel's modules and the measuring program as init."""
    members = [newc(d, 0o40755, b"") for d in (b"dev", b"modules")]
    kernel = settings["kernel"]
    with open(f"{kernel}/modules.list", "rb") as f:
        listed = f.read()
    names = [line for line in listed.decode().split() if line.endswith(".ko")]  # other lines say what they are for
    for name in names:
        with open(f"{kernel}/{name}", "rb") as f:
            members.append(newc(f"modules/{name}".encode(), 0o100644, f.read()))
    members.append(newc(b"modules.list", 0o100644, "\n".join(names).encode()))
    members.append(newc(b"paths", 0o100644, "".join(" ".join(map(str, p)) + "\n" for p in PATHS).encode()))
    with open(settings["peer"], "rb") as f:
        members.append(newc(b"init", 0o100755, f.read()))
    data = b"".join(members) + newc(b"TRAILER!!!", 0, b"")
    with open(f"{folder}/initrd", "wb") as f:
        f.write(data + b"\0" * (-len(data) % 4096))
    return f"{folder}/initrd"


def qemu(settings, folder, tap_fd, socket):
    argv = list(settings["qemu"])
    argv[argv.index("-initrd") + 1] = make_initrd(settings, folder)
    backs = {"gateway": f"tap,id=gateway,fd={tap_fd},vhost=off", "tap": "tap,id=tap,ifname=plain0,script=no,downscript=no,vhost=off",
             "slirp": "user,id=slirp,ipv6=off", "passt": f"stream,id=passt,server=off,addr.type=unix,addr.path={socket}"}
    argv += ["-global", "virtio-mmio.force-legacy=false", "-chardev", f"file,id=console,path={folder}/console",
             "-device", "virtio-serial-device", "-device", "virtconsole,chardev=console"]
    for path in PATHS:
        argv += ["-netdev", backs[path[0]], "-device", f"virtio-net-device,netdev={path[0]},mac={path[1]},mrg_rxbuf=on,"
                 "rx_queue_size=1024,tx_queue_size=256"]
    return argv


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M).group(1)) / 1024


def lines_of(path, stage):
    """What the guest says, as it says it."""
    end, text = time.monotonic() + LIMIT, ""
    while time.monotonic() < end:
        if os.path.exists(path):
            with open(path, encoding="ascii", errors="replace") as f:
                f.seek(0)
                new = f.read()
            whole = new[len(text):].rpartition("\n")[0]
            if whole:
                text += whole + "\n"
                yield from (json.loads(line) for line in whole.split("\n") if line.strip().startswith("{"))
        if stage.poll() is not None:
            sys.exit("net: the gateway or the guest ended")
        time.sleep(0.2)
    sys.exit(f"net: not done after {LIMIT} s")


def main():
    settings = json.loads(sys.argv[1])
    folder = settings["dir"]
    with Children() as children:
        far_side(children, settings["peer"])
        host_resolver(folder)
        plain_tap()
        socket = passt(children, folder)
        # the stage makes the box's network, runs the gateway, and gives the TAP to the command as descriptor 3
        stage = children.start([settings["stage"], settings["gateway"], *qemu(settings, folder, 3, socket)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
        stage.stdin.write(json.dumps(POLICY) + "\n")
        stage.stdin.flush()
        gateway = json.loads(stage.stdout.readline())["stage"]["gateway"]
        threading.Thread(target=stage.stdout.read, daemon=True).start()
        for found in lines_of(f"{folder}/console", stage):
            if "failed" in found:
                sys.exit(f"net: in the guest: {found['failed']}: {found['why']}")
            if found["measure"] in ("idle", "held"):
                time.sleep(4)
                found = {"path": "gateway", "measure": f"pss-{found['measure']}", "value": pss(gateway), "of": found["value"]}
            print(json.dumps(found), flush=True)
            if found["measure"] == "done":
                return


if __name__ == "__main__":
    main()
