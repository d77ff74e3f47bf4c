"""What people expect of a machine of their own: kernel modules on demand, containers' and firewalls' building blocks."""
import pytest

import harness

CONFIG = harness.DEFAULT_CONFIG

WITH_TOOLS = """
machine: {cpus: 2, memory: 1G}
network: {mode: off}
image: {packages: [iproute2, nftables]}
"""


# ------------------------------------------------------------------------------------------------------ kernel modules
def test_modules_load_on_demand(box):
    release = box.sh("uname -r")
    assert box.sh("ls /usr/lib/modules") == release and box.sh("ls /lib/modules") == release
    before = box.sh("cut -d' ' -f1 /proc/modules").split()
    wanted = ["bridge", "veth", "br_netfilter", "nf_tables", "nft_chain_nat", "xt_MASQUERADE", "ip_tables", "vxlan", "tun", "loop", "dm_mod"]
    assert not set(wanted) & set(before)
    box.sh("for m in overlay fuse " + " ".join(wanted) + "; do sudo modprobe $m || exit 1; done")
    assert set(wanted) <= set(box.sh("cut -d' ' -f1 /proc/modules").split())
    refused = box.run("sudo modprobe no-such-module")
    assert refused.returncode == 1 and b"no-such-module" in refused.stderr


def test_kernel_loads_modules_itself(box):
    """Nobody calls modprobe here: the kernel does when a protocol is asked for, by an ordinary user too."""
    ask = "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, {})"
    assert "sctp" not in box.sh("cut -d' ' -f1 /proc/modules").split()
    box.run(["python3", "-c", ask.format(132)], ok=True)
    assert "sctp" in box.sh("cut -d' ' -f1 /proc/modules").split()
    done = box.run(["python3", "-c", ask.format(250)])
    assert done.returncode == 1 and b"Protocol not supported" in done.stderr


def test_overlay_mounts(box):
    box.sh("mkdir -p /tmp/o/low /tmp/o/up /tmp/o/work /tmp/o/all && echo below > /tmp/o/low/a && "
           "sudo mount -t overlay o -o lowerdir=/tmp/o/low,upperdir=/tmp/o/up,workdir=/tmp/o/work /tmp/o/all && "
           "echo above > /tmp/o/all/b")
    assert box.sh("cat /tmp/o/all/a /tmp/o/up/b; ls /tmp/o/low") == "below\nabove\na"
    box.sh("sudo umount /tmp/o/all")


def test_modules_folder_is_the_boxs_to_change(box):
    """Packages of headers and own modules go there; the next boot has what the kernel's package has."""
    release = box.sh("uname -r")
    box.sh(f"sudo mkdir /lib/modules/{release}/updates && sudo touch /usr/lib/modules/{release}/updates/own && sudo depmod")
    assert box.sh(f"ls /lib/modules/{release}/updates") == "own"
    box.down()
    box.up()
    assert box.run(f"ls /lib/modules/{release}/updates").returncode == 2
    box.sh(f"sudo modprobe dummy && ls -d /lib/modules/{release}/kernel")


@pytest.mark.person("root")  # the image is the same for everybody, and takes its time
def test_what_docker_builds_on(make_box):
    box = make_box(WITH_TOOLS, up=False)
    box.nixbox("image", "build", timeout=1800)
    box.up()
    box.sh("sudo ip link add br0 type bridge && sudo ip netns add inner && "
           "sudo ip link add out type veth peer name in netns inner && sudo ip link set out master br0 && "
           "sudo ip addr add 10.200.0.1/24 dev br0 && sudo ip link set br0 up && sudo ip link set out up && "
           "sudo ip -n inner addr add 10.200.0.2/24 dev in && sudo ip -n inner link set in up")
    rules = """
table inet nat {
  chain post { type nat hook postrouting priority 100; ip saddr 10.200.0.0/24 masquerade; }
  chain pre { type nat hook prerouting priority -100; tcp dport 8080 redirect to :80; }
}
table inet filter {
  chain in { type filter hook input priority 0; ct state established,related accept; tcp dport 81 counter reject with tcp reset; }
}
"""
    box.run(["sudo", "nft", "-f", "-"], ok=True, input=rules.encode())
    assert "masquerade" in box.sh("sudo nft list ruleset")
    serve = ("import socket; s = socket.create_server(('0.0.0.0', 80)); open('/tmp/listens', 'w'); "
             "c, a = s.accept(); c.sendall(a[0].encode()); c.close()")
    fetch = "import socket; print(socket.create_connection(('10.200.0.1', 8080), 30).recv(99).decode())"
    refused = "import socket; socket.create_connection(('10.200.0.1', 81), 30)"
    came = box.sh(f'sudo python3 -c "{serve}" & while [ ! -e /tmp/listens ]; do sleep 0.1; done; '
                  f'sudo ip netns exec inner python3 -c "{fetch}"; wait')
    assert came == "10.200.0.2"
    done = box.run(["sudo", "ip", "netns", "exec", "inner", "python3", "-c", refused])
    assert done.returncode == 1 and b"ConnectionRefusedError" in done.stderr
    assert "packets 0" not in box.sh("sudo nft list chain inet filter in")


# ------------------------------------------------------------------------------------------------------ language
def test_language_is_the_images(box):
    assert box.sh("echo $LANG; cat /etc/default/locale") == "C.UTF-8\nLANG=C.UTF-8"
    assert box.run(["python3", "-c", "print(open('/dev/null').encoding)"]).stdout == b"UTF-8\n"
    box.sh("""echo 'LANG="en_GB.UTF-8"' | sudo tee /etc/default/locale""")
    assert box.sh("echo $LANG") == "en_GB.UTF-8"
    assert box.run(["env"], "-e", "LANG=C").stdout.decode().splitlines().count("LANG=C") == 1
    box.sh("echo 'LANG=../evil name' | sudo tee /etc/default/locale")
    assert box.sh("echo $LANG") == "C.UTF-8"
    box.sh("sudo rm /etc/default/locale && sudo mkfifo /etc/default/locale")  # nobody waits for it
    assert box.sh("echo $LANG") == "C.UTF-8"
    box.sh("sudo rm /etc/default/locale && echo LANG=C.UTF-8 | sudo tee /etc/default/locale")
