"""The network laboratory itself: whoever sits at its host reaches everything, and the far side sees it. These are the positive
controls of all that a box cannot reach; a box has the same programs, addresses and servers."""
import socket

import pytest

import harness
import netlab

ADDRESSES = ["8.8.8.8", "1.1.1.1", "9.9.9.9", "93.184.216.34", "169.254.169.254", "100.100.100.200", "168.63.129.16", "10.0.0.5",
             "192.168.1.1", netlab.ROUTER, netlab.LAN, "45.45.45.9"]
PYTHON = "/usr/bin/python3"


def fetch(lab_host, url, *options):
    done = lab_host.command(["curl", "-sS", "-m", "5", *options, url])
    return done.stdout.decode() + done.stderr.decode()


@pytest.mark.parametrize("address", ADDRESSES + ["2606:2800::1", "fd00:ec2::254"])
def test_every_address_answers(lab, lab_host, address):
    after = lab.mark()
    host = f"[{address}]" if ":" in address else address
    assert f"ip={address} " in fetch(lab_host, f"http://{host}/{lab_host.name}")
    assert lab.seen("http", after, to=address, target=f"/{lab_host.name}")
    send = f"import socket; s = socket.socket({10 if ':' in address else 2}, 2); s.settimeout(5); s.sendto(b'x', ('{address}', 443)); s.recv(9)"
    assert lab_host.command([PYTHON, "-c", send]).returncode == 0
    assert lab.seen("udp", after, to=address, port=443)
    assert any(f["count"] for f in lab.frames(to=address, proto=17, port=443))


def test_names(lab, lab_host):
    lab.zone("there.example", A=["93.184.216.34"])
    lab.zone("turns.example", [{"A": ["93.184.216.34"]}, {"A": ["127.0.0.1"]}])
    lab.zone("alias.example", CNAME="there.example")
    after = lab.mark()

    def addresses(name):
        done = lab_host.command(["getent", "ahostsv4", name])
        return sorted({line.split()[0] for line in done.stdout.decode().splitlines()})

    assert addresses("there.example") == ["93.184.216.34"]
    assert addresses("alias.example") == ["93.184.216.34"]
    assert addresses("turns.example") == ["93.184.216.34"] and addresses("turns.example") == ["127.0.0.1"]
    assert addresses("nobody.example") == []
    assert addresses("printer.lan.example") == [netlab.LAN]
    assert lab.dns_queries("there.example", after) and not lab.dns_queries("printer.lan.example", after)
    assert lab.dns_queries(below="example", after=after)


def test_tls_and_ssh(lab, lab_host):
    lab.zone("secure.example", A=["93.184.216.35"])
    after = lab.mark()
    assert "sni=secure.example" in fetch(lab_host, "https://secure.example/", "--cacert", lab.ca)
    assert lab.seen("tls", after, sni="secure.example", established=True)
    key = harness.write(f"{lab_host.folder()}/key", open(f"{lab.folder}/user_key").read(), lab_host, 0o600)
    done = lab_host.command(["ssh", "-F", "none", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                             "root@93.184.216.36", "hello"])
    assert done.stdout.strip() == b"welcome from 93.184.216.36", done
    assert lab.seen("ssh", after, to="93.184.216.36")


def test_the_host_is_reached_only_from_itself(lab, lab_host):
    after = lab.mark()
    assert "ip=127.0.0.1" in fetch(lab_host, "http://127.0.0.1:11434/")
    assert f"ip={netlab.HOST}" in fetch(lab_host, f"http://{netlab.HOST}:8088/")
    assert {r["place"] for r in lab.seen("http", after)} == {"host"}


def test_there_is_no_way_to_the_real_network(lab_host):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        assert "connect to server" in fetch(lab_host, f"http://127.0.0.1:{s.getsockname()[1]}/")
    devices = lab_host.command(["ip", "-brief", "link"]).stdout.decode().split("\n")
    assert [d.split("@")[0].split()[0] for d in devices if d] == ["lo", "host0"]


def test_the_device_for_networks_is_everybodys(lab_host):
    assert lab_host.command([PYTHON, "-c", "open('/dev/net/tun', 'r+b', 0)"]).returncode == 0
