"""What a box can do to the gateway itself: whatever it asks for, the gateway must go on working for it, with the same rules. A
gateway that dies is started again three times, and then the box ends: each way to kill it would be a way to end the box."""
import pytest

import packets
from probes import Scene

LONG = ".".join(["a" * 60, "b" * 60, "c" * 60, "d" * 40])  # with what is put around it: a name of nearly 253 bytes
PORTS = [5432, *range(10001, 10064)]  # as many as a rule may have
CONFIG = f"""
machine: {{cpus: 1, memory: 1G}}
network:
  mode: filtered
  allow:
    - allowed.example
    - "*.wild.example"
    - {{host: "*.{LONG}.many.example", ports: {PORTS}}}
mounts: [{{source: ./work, write: true}}, {{source: ./ro}}]
"""


@pytest.fixture(scope="module")
def scene(lab, make_lab_boxes):
    lab.zone("allowed.example", A=["93.184.216.34"])
    lab.zone("*.wild.example", A=["10.0.0.99"])
    lab.zone(f"x.{LONG}.many.example", A=["93.184.216.34"])
    return Scene(lab, make_lab_boxes(CONFIG, name="gateway"))


def survives(scene, name):
    """The same gateway still serves the box."""
    p = scene.probes
    p.talk(f"{name}/control", "allowed.example", 80, packets.get("allowed.example", f"/{name}-control"))
    scene.run()
    assert scene.seen("http", target=f"/{name}-control"), scene[f"{name}/control"]
    assert not [e for e in scene.box.events() if "network is cut" in e.get("reason", "")], "the gateway died"


def test_long_names_that_lead_to_private_addresses(scene):
    name = f"{LONG}.wild.example"
    scene.probes.talk("long", name, 80, packets.get(name, "/long"))
    survives(scene, "long")
    told = scene.denied(host=name, type="connect")
    assert told and "10.0.0.99" in told[0]["reason"], scene.denied()


def test_a_rule_with_many_ports(scene):
    name = f"x.{LONG}.many.example"
    scene.probes.talk("port", name, PORTS[0], b"hello\n")
    for number in range(3):  # one that says nothing within a second is refused without a word
        scene.probes.talk(f"no-port/{number}", name, 80, packets.get(name, "/no-port"))
    survives(scene, "ports")
    assert scene["port"].data == b"hello\n", "the control"
    assert [e["rule"] for e in scene.events("allow", host=name, type="connect", port=PORTS[0]) if str(PORTS[-1]) in e["rule"]]
    assert any(scene[f"no-port/{number}"].text.startswith("HTTP/1.1 403") for number in range(3)) and scene.denied(host=name, port=80)
    assert not scene.seen("http", target="/no-port")
