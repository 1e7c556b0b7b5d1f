"""What clients make and leave behind (`state.bytes`): fetch sessions, groups and offsets, producers, partitions. When a share is used
up newcomers are refused with a clear error, those who are there go on, what was left away makes room again, and a start takes
everything that there was.

Seen to fail: without each of the four looks at the budget."""

import re
import urllib.request

import pytest
from harness import eventually
from wire import METADATA, Wire, Writer, batch
from wire_groups import Group

SMALL = {"state.bytes": "16MiB", "http.listen": "127.0.0.1:0", "offsets.topic.num.partitions": "1", "group.initial.rebalance.delay.ms": "0"}
UNKNOWN_TOPIC_OR_PARTITION, INVALID_COMMIT_OFFSET_SIZE, POLICY_VIOLATION, GROUP_MAX_SIZE_REACHED = 3, 28, 44, 81


@pytest.fixture
def small(brokers):
    return brokers(SMALL)


def budget(broker, name):
    """(held, limit)"""
    with urllib.request.urlopen(broker.http + "/metrics", timeout=20) as f:
        text = f.read().decode()
    return tuple(int(re.search(rf'^{what}\{{budget="{name}"\}} (\d+)$', text, re.M)[1]) for what in ("oxbow_memory_bytes", "oxbow_memory_limit_bytes"))


def test_partitions(small):
    limit = budget(small, "partitions")[1]
    assert limit == 8 << 20
    with Wire(small.port) as w:
        assert w.create("many", 3000)[0] == 0
        assert w.create("more", 3000)[0] == POLICY_VIOLATION
        small.wait_log("half of state.bytes holds no more")
        assert w.create("few", 100)[0] == 0
        assert w.produce("few", 99, batch([b"x"]))[0] == 0
    # They are there after a start, whatever the limit; and none is made by asking for it.
    small.restart(**{"num.partitions": "2000"})
    with Wire(small.port) as w:
        assert w.produce("many", 2999, batch([b"x"]))[0] == 0
        body = Writer()
        body.array(["auto"], body.string).put("b", 1)
        w.call(METADATA, 4, body.out)
        assert w.produce("auto", 0, batch([b"x"]))[0] == UNKNOWN_TOPIC_OR_PARTITION
        assert w.create("again", 1500)[0] == POLICY_VIOLATION
        assert w.create("again", 10)[0] == 0


def test_fetch_sessions(small):
    held, limit = budget(small, "fetch-sessions")
    assert limit == 1 << 20
    with Wire(small.port) as w:
        assert w.create("t", 100)[0] == 0
        wants = [("t", p, 0, 1000) for p in range(100)]
        sessions = []
        while True:
            error, session, got = w.fetch(wants, session=(0, 0))
            assert error == 0 and len(got) == 100 and all(x[0] == 0 for x in got.values())
            if session == 0:
                break
            sessions.append(session)
            assert len(sessions) < 1000
        # The last ones fetch all the same, and those who have a session go on with it.
        held = budget(small, "fetch-sessions")[0]
        assert limit * 0.8 < held <= limit and len(sessions) > 20
        assert w.fetch([], session=(sessions[0], 1))[:2] == (0, sessions[0])
        for s in sessions:
            assert w.fetch([], session=(s, -1))[0] == 0  # closed
        assert budget(small, "fetch-sessions")[0] == 0
        assert w.fetch(wants, session=(0, 0))[1] > 0


def test_groups(small):
    with Group(small.port) as g:
        assert g.create("t", 100)[0] == 0
        eventually(lambda: g.find("g0")[3] == 0, what="a coordinator")
        assert g.commit("g0", {("t", 0): 5})[("t", 0)] == 0
        there = g.joined("here")
        metadata, made = "m" * 4096, 0
        refused = False
        while not refused and made < 100:
            made += 1
            got = g.commit(f"g{made}", {("t", p): 7 for p in range(100)}, metadata=metadata)
            refused = INVALID_COMMIT_OFFSET_SIZE in got.values()
            assert set(got.values()) <= {0, INVALID_COMMIT_OFFSET_SIZE}
        held, limit = budget(small, "groups")
        assert refused and limit == 3 << 20 and limit < held < limit * 1.4  # with what one commit may have more
        assert g.join("new")[0] == GROUP_MAX_SIZE_REACHED
        assert g.join("here")[0] == GROUP_MAX_SIZE_REACHED
        small.wait_log("their share of state.bytes is used up")
        # Who is there goes on.
        assert g.heartbeat("here", there[1], there[4]) in (0, 27)
        assert g.commit("g0", {("t", 0): 6})[("t", 0)] == 0
        assert g.commit("g0", {("t", 1): 6})[("t", 1)] == INVALID_COMMIT_OFFSET_SIZE
        assert g.commit("g0", {("t", 0): 6}, metadata="longer")[("t", 0)] == INVALID_COMMIT_OFFSET_SIZE
    small.restart()
    with Group(small.port) as g:
        eventually(lambda: g.find("g0")[3] == 0, what="a coordinator")
        assert g.fetch_offsets("g0", {"t": [0]})[1][("t", 0)][0] == 6
        assert g.fetch_offsets("g1", {"t": [99]})[1][("t", 99)][:2] == (7, metadata)
        again = budget(small, "groups")[0]
        assert abs(again - held) < held * 0.02
        assert g.join("new")[0] == GROUP_MAX_SIZE_REACHED
        # What is deleted makes room.
        for i in range(1, made):  # the last one was refused whole
            assert g.delete([f"g{i}"])[f"g{i}"] == 0
        assert budget(small, "groups")[0] < limit / 10
        assert g.joined("new")[0] == 0


def test_producers(small):
    limit = budget(small, "producers")[1]
    assert limit == 4 << 20
    with Wire(small.port) as w:
        assert w.create("t", 1)[0] == 0
        assert w.create("other", 1)[0] == 0
        assert w.produce("t", 0, batch([b"first"], pid=1, epoch=0, sequence=0))[0] == 0
        errors, pid = {0: 0}, 1
        while set(errors) == {0} and pid < 20000:
            sent = [w.send_produce("t", 0, batch([b"x"], pid=pid + i, epoch=0, sequence=0)) for i in range(1, 201)]
            pid += 200
            for s in sent:
                e = w.receive_produce(s)[0]
                errors[e] = errors.get(e, 0) + 1
        held = budget(small, "producers")[0]
        assert set(errors) == {0, POLICY_VIOLATION} and limit < held < limit + 1000
        # A producer that is known goes on, in this partition; what has none needs no room.
        assert w.produce("t", 0, batch([b"second"], pid=1, epoch=0, sequence=1))[0] == 0
        assert w.produce("t", 0, batch([b"second"], pid=1, epoch=0, sequence=1))[0] == 0  # and its repetition is one
        assert w.produce("other", 0, batch([b"x"], pid=1, epoch=0, sequence=0))[0] == POLICY_VIOLATION
        assert w.produce("other", 0, batch([b"x"]))[0] == 0
    small.restart(kill=True)
    with Wire(small.port) as w:
        assert w.produce("t", 0, batch([b"third"], pid=1, epoch=0, sequence=2))[0] == 0
        assert budget(small, "producers")[0] == held
        assert w.produce("t", 0, batch([b"x"], pid=99999, epoch=0, sequence=0))[0] == POLICY_VIOLATION
    # With a larger share the same producer is let in.
    small.restart(**{"state.bytes": "32MiB"})
    with Wire(small.port) as w:
        assert w.produce("t", 0, batch([b"x"], pid=99999, epoch=0, sequence=0))[0] == 0
