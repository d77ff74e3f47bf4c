"""Load on the gateway, in a size for every day: nothing grows with what the guest does, and nobody waits for others. The same in
full size, with the figures, is bench/load."""
import pytest

import gateway_stage as gs

RULES = [{"host": "a.example", "ports": [7, 9, 19]}, {"host": "b.example", "ports": [7, 9, 19]}]
CONNECTIONS = 1500
NAMES = 10000
PER_CONNECTION = 4096  # bytes of memory in the gateway
GROWTH = 512 * 1024  # for things that must not grow: allocators are not exact


@pytest.fixture
def stage(spaces):
    far = gs.Far(spaces, [gs.PEER, "serve"])
    s = gs.Stage(spaces, RULES)
    s.peer("rate", s.names["a.example"], 20, 1)  # everything has been used once
    yield s
    s.close()
    far.close()


def let_go(stage, held, descriptors):
    """Ends the peer, and waits until the gateway has ended its connections too."""
    held.stdin.close()
    held.wait()
    gs.wait_for(lambda: stage.descriptors() <= descriptors)
    assert stage.descriptors() <= descriptors


def test_many_connections(stage):
    before, descriptors = stage.memory(), stage.descriptors()
    held = stage.hold("a.example", CONNECTIONS)
    assert held.result["failed"] == 0
    assert (stage.memory() - before) / CONNECTIONS < PER_CONNECTION
    assert stage.descriptors() >= descriptors + CONNECTIONS
    assert stage.peer("rate", stage.names["b.example"], 100, 2)["failed"] == 0
    let_go(stage, held, descriptors)
    again = stage.hold("a.example", CONNECTIONS)
    first = stage.memory()
    let_go(stage, again, descriptors)
    again = stage.hold("a.example", CONNECTIONS)
    assert again.result["failed"] == 0 and stage.memory() - first < GROWTH
    let_go(stage, again, descriptors)


def test_many_new_connections(stage):
    stage.peer("rate", stage.names["a.example"], 500, 1)
    before, descriptors = stage.memory(), stage.descriptors()
    result = stage.peer("rate", stage.names["b.example"], 500, 4)
    assert result["failed"] == 0
    assert gs.wait_for(lambda: stage.descriptors() <= descriptors)
    assert stage.memory() - before < GROWTH
    gs.wait_for(lambda: stage.total("b.example") == (2000, 2000))
    assert stage.total("b.example") == (2000, 2000)


def test_slow_readers_beside_a_fast_one(stage):
    alone = stage.peer("read", stage.names["a.example"], 2)["mb_per_second"]
    before = stage.memory()
    slow = [stage.guest(gs.PEER, "read", stage.names["a.example"], "6", "200", stdout=-1) for _ in range(20)]
    beside = stage.peer("read", stage.names["b.example"], 3)["mb_per_second"]
    assert stage.memory() - before < GROWTH  # what the slow ones have not read waits in the kernel
    assert beside > alone / 20  # a slow one reads 20 kB a second; what else runs on the machine is not the gateway's doing
    assert stage.peer("rate", stage.names["b.example"], 50, 1)["failed"] == 0
    for p in slow:
        assert '"bytes"' in p.communicate()[0]


def test_many_denied_names(stage):
    stage.peer("ask", "8.8.8.8", 1000)
    before = stage.memory()
    result = stage.peer("ask", "8.8.8.8", NAMES)
    assert (result["nxdomain"], result["other"], result["lost"]) == (NAMES, 0, 0)
    assert stage.memory() - before < GROWTH
    assert gs.wait_for(lambda: any("left out" in e.get("reason", "") for e in stage.events(type="error")))
    assert len(stage.events(type="dns")) < NAMES / 4 + 50 * result["seconds"]  # 50 a second are told of a flood that lasts
