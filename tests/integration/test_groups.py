"""Consumer groups: real clients (librdkafka, kafka-python) sharing partitions over members that come, leave and die and a broker that
restarts, and the protocol by hand for what clients do not do: stale generations, unknown members, every version, identical commits,
what lies in __consumer_offsets, what a restart reads."""

import struct
import threading
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

import wire
from harness import eventually, free_port
from test_admin import metrics
from wire import Wire, Writer, batch
from wire_groups import OFFSETS, Group

QUICK = {"group.initial.rebalance.delay.ms": 0, "offsets.topic.num.partitions": 4}


def number(b, name):
    return metrics(b)[name, None]


@pytest.fixture
def quick(brokers):
    return brokers(QUICK)


@pytest.fixture
def g(quick):
    with Group(quick.port) as w:
        yield w


# --- The protocol by hand.

def alone(g, group, version=5, **options):
    """The only member of a group: (member, generation)"""
    error, generation, _, leader, member, members = g.joined(group, version, **options)
    assert leader == member and list(members) == [member]
    assert g.sync(group, generation, member, {member: b"all"}, instance=options.get("instance")) == (0, b"all")
    return member, generation


@pytest.mark.parametrize("shards", [1, 2])
def test_every_version(brokers, shards):
    b = brokers({**QUICK, "shards": shards})
    with Group(b.port) as g:
        ids = {"t": g.create("t", 3)[1], "u": g.create("u", 1)[1]}
        for version in range(7):
            assert g.find("any", version) == (1, "127.0.0.1", b.port, 0)
        for version in range(10):
            group = f"join-{version}"
            error, generation, protocol, leader, member, members = g.joined(group, version)
            assert (generation, protocol, leader, members) == (1, "range", member, {member: b"meta"}) and member.startswith("test-")
            sync = min(version, 5)
            assert g.sync(group, 1, member, {member: b"mine"}, version=sync) == (0, b"mine")
            assert g.heartbeat(group, 1, member, version=min(version, 4)) == 0
            assert g.leave(group, [(member, None)], version=min(version, 5))[0] == 0
            assert g.heartbeat(group, 1, member, version=min(version, 4)) == 25
        for version in range(1, 11):
            offsets = {("t", 0): 100 + version, ("t", 2): 7, ("u", 0): 0}
            assert g.commit("c", offsets, version=version, metadata="m", ids=ids) == {k: 0 for k in offsets}
            for fetch in range(1, 11):
                wanted = {"t": [0, 1, 2], "u": [0]}
                assert g.fetch_offsets("c", wanted, fetch, ids) == (0, {("t", 0): (100 + version, "m", 0), ("t", 1): (-1, "", 0), ("t", 2): (7, "m", 0), ("u", 0): (0, "m", 0)})
                if fetch >= 2:
                    assert g.fetch_offsets("c", None, fetch, ids) == (0, {k: (v, "m", 0) for k, v in offsets.items()})
        # Version 0 was ZooKeeper's.
        assert g.commit("c", {("t", 0): 5}, version=0) == {("t", 0): 35}
        assert g.fetch_offsets("c", {"t": [0]}, 0)[1][("t", 0)][2] == 35
        member, generation = alone(g, "d")
        for version in range(7):
            error, state, protocol, members = g.describe("d", version)
            assert (error, state, protocol) == (0, "Stable", "range")
            assert members == [(member, "test", "/127.0.0.1", b"meta", b"all")]
            error, state, _, members = g.describe("nobody", version)
            assert (error, state, members) == (69 if version >= 6 else 0, "Dead", [])
        for version in range(6):
            error, groups = g.list(version)
            assert error == 0 and set(groups) == {f"join-{v}" for v in range(10)} | {"c", "d"}
            assert groups["d"] == ("consumer", "Stable" if version >= 4 else None)
        assert set(g.list(4, states=["Stable"])[1]) == {"d"}
        assert set(g.list(5, states=["empty"], types=["classic"])[1]) == {f"join-{v}" for v in range(10)} | {"c"}
        assert g.list(5, types=["consumer"])[1] == {}
        for version in range(3):
            assert g.delete(["d", f"join-{version}", "nobody"], version) == {"d": 68, f"join-{version}": 0, "nobody": 69}


def test_two_members(g, quick):
    with Group(quick.port) as h:
        first = g.join("two", version=5)
        assert first[0] == 79 and first[4]
        first = g.join("two", first[4], version=5)
        assert first[0] == 0 and first[1] == 1
        assert g.sync("two", 1, first[4], {first[4]: b"all"}) == (0, b"all")
        # The second waits for the first, which hears of it by its heartbeat; the answers come together.
        second = h.join("two", version=5)[4]
        h.send_join("two", second)
        eventually(lambda: g.heartbeat("two", 1, first[4]) == 27)
        again = g.join("two", first[4])
        other = h.receive_join()
        assert again[:2] == other[:2] == (0, 2) and again[3] == other[3] == first[4]
        assert set(again[5]) == {first[4], second} and other[5] == {}
        # A member that waits for the leader's assignment; heartbeats are fine meanwhile, commits are not.
        h.send_sync("two", 2, second)
        assert g.heartbeat("two", 2, first[4]) == 0
        assert g.sync("two", 2, first[4], {first[4]: b"a", second: b"b"}) == (0, b"a")
        assert h.receive_sync() == (0, b"b")
        assert g.leave("two", [(second, None), ("nobody", None)]) == (0, [0, 25])
        assert g.heartbeat("two", 2, first[4]) == 27
        assert h.heartbeat("two", 2, second) == 25


def test_refusals(g):
    g.create("t", 1)
    member, generation = alone(g, "x")
    assert g.heartbeat("x", generation + 1, member) == 22
    assert g.heartbeat("x", generation, "stranger") == 25
    assert g.heartbeat("nobody", 1, "stranger") == 25
    assert g.sync("x", generation + 7, member)[0] == 22
    assert g.sync("x", generation, "stranger")[0] == 25
    assert g.join("x", "stranger")[0] == 25
    assert g.join("x", session=100)[0] == 26 and g.join("x", session=10_000_000)[0] == 26
    assert g.join("")[0] == 24
    assert g.join("x", kind="connect")[0] == 23 and g.join("x", protocols={"sticky": b""})[0] == 23
    assert g.leave("x", [("stranger", None)]) == (0, [25])
    assert g.commit("x", {("t", 0): 5}, generation + 1, member) == {("t", 0): 22}
    assert g.commit("x", {("t", 0): 5}, generation, "stranger") == {("t", 0): 25}
    assert g.commit("x", {("t", 0): 5}) == {("t", 0): 25}  # a simple consumer beside members
    assert g.commit("x", {("t", 0): 5}, generation, member, metadata="m" * 4097) == {("t", 0): 12}
    assert g.commit("x", {("t", 0): 5}, generation, member, metadata="m" * 4096) == {("t", 0): 0}
    assert g.commit("x", {("t", 0): 6, ("t", 1): 1, ("nowhere", 0): 1}, generation, member) == {("t", 0): 0, ("t", 1): 3, ("nowhere", 0): 3}
    assert g.fetch_offsets("x", {"t": [0], "nowhere": [0]})[1] == {("t", 0): (6, "", 0), ("nowhere", 0): (-1, "", 0)}
    assert g.delete(["x"]) == {"x": 68}


def test_huge_metadata_of_members(g, quick):
    """Members may say much: a megabyte of subscription and of assignment is kept, over a restart too."""
    big = bytes(range(256)) * 4096
    _, generation, _, _, member, _ = g.joined("big", protocols={"range": big})
    assert g.sync("big", generation, member, {member: big}) == (0, big)
    quick.restart(kill=True)
    with Group(quick.port) as h:
        error, state, _, members = h.describe("big")
        assert (error, state) == (0, "Stable") and members[0][3:] == (big, big)


def test_too_much_metadata(brokers):
    """What one request may not say, and what the members of a group may not say together. What they may, where it still cannot be
    written: nobody is told of a generation, and everything else is as it was, loaded anew."""
    b = brokers({**QUICK, "offsets.topic.num.partitions": 1, "group.initial.rebalance.delay.ms": 4000})
    b.restart(**{"wal.url": f"file://{b.folder}/small?size=16MiB"})
    with Group(b.port) as g:
        assert g.join("huge", version=3, protocols={"range": bytes(9 << 20)})[0] == -1
        assert g.sync("huge", 1, "somebody", {"somebody": bytes(9 << 20)})[0] == -1
        g.create("t", 1)
        g.commit("simple", {("t", 0): 5})
        members = [Group(b.port) for _ in range(3)]
        for m in members[:2]:
            m.send_join("huge", version=3, protocols={"range": bytes(7 << 20)})
        time.sleep(1)
        assert members[2].join("huge", version=3, protocols={"range": bytes(7 << 20)})[0] == 81
        assert [m.receive_join(3)[0] for m in members[:2]] == [15] * 2
        assert b.wait_log('msg="coordinator cannot write; it is loaded anew"')
        eventually(lambda: g.fetch_offsets("simple") == (0, {("t", 0): (5, "", 0)}), what="it is there again")
        g.commit("simple", {("t", 0): 6})
        assert g.fetch_offsets("simple")[1] == {("t", 0): (6, "", 0)} and set(g.list()[1]) == {"simple"}
        for m in members:
            m.close()


def test_commits_that_would_make_much(brokers):
    """Each record of a commit repeats the group's name: what does not fit is refused, as a whole. What one call makes of many commits
    (the tombstones of a group that is deleted) is more than the write buffer takes at once."""
    b = brokers({**QUICK, "offsets.topic.num.partitions": 1})
    long = "g" * 30000
    with Group(b.port) as g:
        g.create("t", 1400)

        def offsets(count):
            return {("t", i): i for i in range(count)}
        assert set(g.commit(long, offsets(700)).values()) == {28}
        assert set(g.fetch_offsets(long, {"t": [0]})[1].values()) == {(-1, "", 0)}
        for first in range(0, 1400, 350):
            assert set(g.commit(long, {("t", i): i for i in range(first, first + 350)}).values()) == {0}
        assert g.delete([long]) == {long: 0}
        assert set(g.fetch_offsets(long, {"t": [0, 1399]})[1].values()) == {(-1, "", 0)}
        assert "coordinator cannot write" not in b.log()
    b.restart(kill=True)
    with Group(b.port) as g:
        assert set(g.fetch_offsets(long, {"t": [0, 1399]})[1].values()) == {(-1, "", 0)} and g.list()[1] == {}


@pytest.mark.parametrize("shards", [1, 2])
def test_a_topic_made_again_at_once(brokers, shards):
    """Offsets are kept by the topic's name: what is committed to a new topic does not go with the offsets of its predecessor."""
    b = brokers({**QUICK, "shards": shards})
    with Group(b.port) as g, Group(b.port) as other:
        g.create("t", 20)
        for _ in range(25):
            g.commit("x", {("t", 0): 1})
            deletion = Writer()
            deletion.array(["t"], deletion.string).put("i", 10000)
            other.send(20, 1, deletion.out)
            eventually(lambda: g.create("t", 20)[0] == 0, pause=0)
            assert g.commit("x", {("t", 0): 7}) == {("t", 0): 0}
            other.receive(20, 1)
            assert g.fetch_offsets("x", {"t": [0]})[1] == {("t", 0): (7, "", 0)}


def test_a_member_that_says_nothing_goes(brokers):
    b = brokers({**QUICK, "group.min.session.timeout.ms": 100})
    with Group(b.port) as g:
        member, _ = alone(g, "quiet", session=300)
        assert g.describe("quiet")[1] == "Stable"
        eventually(lambda: g.describe("quiet")[1] == "Empty", 20)
        assert "client=test host=/127.0.0.1 reason=\"a member's session ended\" generation=1" in b.wait_log('msg="group member expired" group=quiet member=' + member)[0]
        assert g.heartbeat("quiet", 1, member) == 25


def test_initial_delay_gathers_members(brokers):
    b = brokers({**QUICK, "group.initial.rebalance.delay.ms": 700})
    with Group(b.port) as g, Group(b.port) as h:
        g.send_join("gather", version=3)
        time.sleep(0.1)
        h.send_join("gather", version=3)
        one, two = g.receive_join(3), h.receive_join(3)
        assert one[:2] == two[:2] == (0, 1) and len(one[5]) + len(two[5]) == 2


def test_static_member_comes_back(g, quick):
    with Group(quick.port) as h:
        member, generation = alone(g, "static", instance="one")
        # Its restart: the same instance, no member id. It gets a new one and the assignment it had; nobody rebalances.
        error, again, _, _, new, _ = h.join("static", "", instance="one")
        assert (error, again) == (0, generation) and new != member
        assert h.sync("static", generation, new, instance="one") == (0, b"all")
        assert g.heartbeat("static", generation, member, instance="one") == 82
        assert h.heartbeat("static", generation, new, instance="one") == 0
        quick.restart(kill=True)
    with Group(quick.port) as h:
        assert h.heartbeat("static", generation, new, instance="one") == 0
        assert h.leave("static", [("", "one")]) == (0, [0])
        eventually(lambda: h.describe("static")[1] == "Empty")


def test_identical_commits_cost_nothing(g):
    g.create("t", 2)
    offsets = {("t", 0): 10, ("t", 1): 20}
    assert set(g.commit("same", offsets, metadata="x").values()) == {0}
    end = g.end_of_offsets()
    assert end > 0
    for _ in range(20):
        assert set(g.commit("same", offsets, metadata="x").values()) == {0}
    assert g.end_of_offsets() == end
    assert set(g.commit("same", {**offsets, ("t", 1): 21}, metadata="x").values()) == {0}
    assert g.end_of_offsets() == end + 1
    assert g.fetch_offsets("same")[1] == {("t", 0): (10, "x", 0), ("t", 1): (21, "x", 0)}


def test_loading_does_not_replay(brokers):
    """Thousands of commits of a few offsets: a restart loads the few, and reads no records of the topic."""
    port = free_port()
    b = brokers({**QUICK, "offsets.topic.num.partitions": 1, "http.listen": f"127.0.0.1:{port}"})
    with Group(b.port) as g:
        g.create("t", 4)
        for n in range(1500):
            g.commit("many", {("t", n % 4): n})
        member, generation = alone(g, "members")
        written = g.end_of_offsets(1)
        assert written >= 1500
        before = g.fetch_offsets("many")
    for kill in (False, True):
        b.restart(kill=kill)
        with Group(b.port) as g:
            assert g.fetch_offsets("many") == before and before[1][("t", 3)][0] == 1499
            assert g.heartbeat("members", generation, member) == 0
            assert g.end_of_offsets(1) == written
        b.wait_log('msg="coordinator loaded"')
        assert b.field("coordinator loaded", "records") == "5" and b.field("coordinator loaded", "groups") == "2"
        assert number(b, "oxbow_coordinator_loaded_records_total") == 5
        assert metrics(b).get(("oxbow_store_requests_total", 'op="get",purpose="read"'), 0) == 0
        assert number(b, "oxbow_block_cache_misses_total") == number(b, "oxbow_log_cache_reads_total") == 0


def test_offsets_run_out(brokers):
    b = brokers({**QUICK, "offsets.retention.check.interval.ms": 50})
    with Group(b.port) as g:
        g.create("t", 2)
        assert g.commit("brief", {("t", 0): 5}, version=4, retention=600) == {("t", 0): 0}
        assert g.commit("brief", {("t", 1): 6}, version=4, retention=10**9) == {("t", 1): 0}
        assert g.commit("gone", {("t", 0): 5}, version=2, retention=600) == {("t", 0): 0}
        assert g.fetch_offsets("brief")[1] == {("t", 0): (5, "", 0), ("t", 1): (6, "", 0)}
        eventually(lambda: g.fetch_offsets("brief")[1] == {("t", 1): (6, "", 0)}, 20)
        eventually(lambda: set(g.list()[1]) == {"brief"}, 20)
    b.restart(kill=True)
    with Group(b.port) as g:
        assert g.fetch_offsets("brief")[1] == {("t", 1): (6, "", 0)} and set(g.list()[1]) == {"brief"}


def test_deleting_offsets_and_groups(g, quick):
    g.create("t", 2)
    offsets = {("t", 0): 5, ("t", 1): 6}
    g.commit("d", offsets)
    assert g.delete_offsets("d", {"t": [0, 7], "nowhere": [0]}) == (0, {("t", 0): 0, ("t", 7): 3, ("nowhere", 0): 3})
    assert g.fetch_offsets("d")[1] == {("t", 1): (6, "", 0)}
    assert g.delete_offsets("nobody", {"t": [0]})[0] == 69
    # A member that reads the topic: its offsets stay.
    subscription = struct.pack(">hih", 0, 1, 1) + b"t" + struct.pack(">i", -1)
    _, generation, _, _, member, _ = g.joined("busy", protocols={"range": subscription})
    g.sync("busy", generation, member, {member: b""})
    g.commit("busy", offsets, generation, member)
    assert g.delete_offsets("busy", {"t": [0]})[1] == {("t", 0): 86}
    assert g.delete(["d", "busy"]) == {"d": 0, "busy": 68}
    assert g.fetch_offsets("d")[1] == {} and set(g.list()[1]) == {"busy"}
    assert g.leave("busy", [(member, None)])[0] == 0
    assert g.delete(["busy"]) == {"busy": 0}
    quick.restart(kill=True)
    with Group(quick.port) as h:
        assert h.list() == (0, {}) and h.fetch_offsets("d") == (0, {})


@pytest.mark.parametrize("kill", [False, True])
def test_offsets_of_a_deleted_topic_go(g, quick, kill):
    g.create("t", 2)
    g.create("u", 1)
    g.commit("x", {("t", 0): 5, ("t", 1): 6, ("u", 0): 7})
    w = Writer(True)
    w.array([0], lambda _: w.string("t").raw(b"\0" * 16).tags()).put("i", 30000).tags()
    r = g.call(wire.DELETE_TOPICS, 6, w.out)
    r.i32()
    assert r.array(lambda: (r.string(), r.take(16), r.i16(), r.string(), r.tags())[2]) == [0]
    assert g.fetch_offsets("x")[1] == {("u", 0): (7, "", 0)}
    quick.restart(kill=kill)
    with Group(quick.port) as h:
        h.create("t", 2)
        assert h.fetch_offsets("x", {"t": [0, 1], "u": [0]})[1] == {("t", 0): (-1, "", 0), ("t", 1): (-1, "", 0), ("u", 0): (7, "", 0)}


@pytest.mark.parametrize("kill", [False, True])
def test_a_topic_made_anew_has_no_offsets(g, quick, kill):
    """Under its old name, at once; and its own are kept, also those with a retention of their own."""
    old = g.create("t", 2)[1]
    g.commit("x", {("t", 0): 5, ("t", 1): 6})
    w = Writer(True)
    w.array([0], lambda _: w.string("t").raw(b"\0" * 16).tags()).put("i", 30000).tags()
    g.call(wire.DELETE_TOPICS, 6, w.out)
    new = g.create("t", 2)[1]
    nothing = {("t", 0): (-1, "", 0), ("t", 1): (-1, "", 0)}
    assert g.fetch_offsets("x", {"t": [0, 1]})[1] == nothing
    assert g.fetch_offsets("x") == (0, {})
    assert set(g.commit("x", {("t", 0): 9}, version=10, ids={"t": old}).values()) == {100}
    assert g.fetch_offsets("x") == (0, {})
    assert set(g.commit("x", {("t", 1): 3}, version=4, retention=3600_000).values()) == {0}
    kept = {("t", 0): (-1, "", 0), ("t", 1): (3, "", 0)}
    assert g.fetch_offsets("x", {"t": [0, 1]})[1] == kept
    quick.restart(kill=kill)
    with Group(quick.port) as h:
        assert h.fetch_offsets("x", {"t": [0, 1]})[1] == kept
        assert list(h.fetch_offsets("x", {"t": [0, 1]}, version=10, ids={"t": new})[1].values()) == list(kept.values())
        assert {v[2] for v in h.fetch_offsets("x", {"t": [0, 1]}, version=10, ids={"t": old})[1].values()} == {100}


def test_the_internal_topic(g):
    assert g.find("any")[3] == 0
    w = Writer(True)
    r = g.call(wire.METADATA, 9, w.array([OFFSETS], lambda t: w.string(t).tags()).put("bbb", 0, 0, 0).tags().out)
    r.i32()
    r.array(lambda: (r.i32(), r.string(), r.i32(), r.string(), r.tags()))
    r.string(), r.i32()
    assert r.uvarint() == 2
    assert (r.i16(), r.string(), r.i8()) == (0, OFFSETS, 1)
    assert g.produce(OFFSETS, 0, batch([b"mine"]))[0] == 17
    w = Writer(True)
    w.array([0], lambda _: w.string(OFFSETS).raw(b"\0" * 16).tags()).put("i", 30000).tags()
    r = g.call(wire.DELETE_TOPICS, 6, w.out)
    r.i32()
    assert r.array(lambda: (r.string(), r.take(16), r.i16(), r.string(), r.tags())[2]) == [17]


def test_who_goes_away_while_waiting(brokers):
    b = brokers({**QUICK, "group.initial.rebalance.delay.ms": 1500, "shards": 2})
    waiting = [Group(b.port) for _ in range(40)]
    for i, w in enumerate(waiting):
        w.send_join(f"left-{i % 8}", version=3)
    for w in waiting[::2]:
        w.close()
    answers = [w.receive_join(3) for w in waiting[1::2]]
    assert {a[0] for a in answers} == {0}
    for w in waiting[1::2]:
        w.close()


@pytest.mark.parametrize("shards", [1, 2])
def test_a_stop_answers_who_waits(brokers, shards):
    b = brokers({**QUICK, "group.initial.rebalance.delay.ms": 60000, "shards": shards})
    waiting = [Group(b.port) for _ in range(10)]
    for i, w in enumerate(waiting):
        w.send_join(f"stop-{i}", version=3)
    eventually(lambda: Group(b.port).describe("stop-9", 0)[1] == "PreparingRebalance")
    answers = []
    threads = [threading.Thread(target=lambda w=w: answers.append(w.receive_join(3)[0])) for w in waiting]
    for t in threads:
        t.start()
    b.stop(seconds=15)
    for t in threads:
        t.join(20)
    assert answers == [16] * 10
    for w in waiting:
        w.close()


# --- What lies in __consumer_offsets, read as outside tools do.

def text(data, at):
    n = struct.unpack_from(">h", data, at)[0]
    return (None, at + 2) if n < 0 else (data[at + 2:at + 2 + n].decode(), at + 2 + n)


def test_records_are_kafkas(g, quick):
    from kafka import KafkaConsumer
    from kafka import TopicPartition as Part
    topic_id = g.create("t", 1)[1]
    g.commit("simple", {("t", 0): 42}, metadata="note")
    member, generation = alone(g, "members")
    g.commit("members", {("t", 0): 7}, generation, member)
    g.delete_offsets("simple", {"t": [0]})
    c = KafkaConsumer(bootstrap_servers=quick.address, group_id=None, enable_auto_commit=False, consumer_timeout_ms=2000, auto_offset_reset="earliest",
                      exclude_internal_topics=False)
    c.assign([Part(OFFSETS, p) for p in range(4)])
    seen = []
    for m in c:
        version = struct.unpack_from(">h", m.key)[0]
        group, at = text(m.key, 2)
        if version in (0, 1):
            topic, at = text(m.key, at)
            partition = struct.unpack_from(">i", m.key, at)[0]
            assert at + 4 == len(m.key)
            if m.value is None:
                seen.append(("offset gone", group, topic, partition))
                continue
            v, offset = struct.unpack_from(">hq", m.value)
            assert v == 4
            epoch = struct.unpack_from(">i", m.value, 10)[0]
            at = 14 + m.value[14]  # the length and one, in a byte as long as it is short
            note = m.value[15:at].decode()
            at_ms = struct.unpack_from(">q", m.value, at)[0]
            assert abs(at_ms - time.time() * 1000) < 3600_000 and epoch == -1
            assert m.value[at + 8:at + 11] == b"\1\0\x10"  # one tag, 0, of 16 bytes: the topic's id
            seen.append(("offset", group, topic, partition, offset, note, m.value[at + 11:]))
        else:
            assert version == 2 and at == len(m.key)
            if m.value is None:
                seen.append(("group gone", group))
                continue
            assert struct.unpack_from(">h", m.value)[0] == 3
            kind, at = text(m.value, 2)
            gen = struct.unpack_from(">i", m.value, at)[0]
            protocol, at = text(m.value, at + 4)
            leader, at = text(m.value, at)
            _, count = struct.unpack_from(">qi", m.value, at)
            seen.append(("group", group, kind, gen, protocol, leader, count))
    c.close()
    assert ("offset", "simple", "t", 0, 42, "note", topic_id) in seen and ("offset gone", "simple", "t", 0) in seen
    assert ("offset", "members", "t", 0, 7, "", topic_id) in seen
    assert ("group", "members", "consumer", generation, "range", member, 1) in seen


# --- Real clients.

class Worker:
    """A member that reads, does its work, commits; in a thread of its own. `shared` knows what was committed: whatever comes again
    below that was repeated."""

    def __init__(self, broker, shared, name, **options):
        self.shared, self.name, self.over = shared, name, False
        self.assigned, self.revocations = set(), 0
        self.consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "work", "enable.auto.commit": False, "auto.offset.reset": "earliest",
                                  "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "client.id": name, "fetch.wait.max.ms": 100, **options})
        self.consumer.subscribe(["jobs"], on_assign=self.on_assign, on_revoke=self.on_revoke)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def on_assign(self, consumer, partitions):
        self.assigned |= {p.partition for p in partitions}

    def on_revoke(self, consumer, partitions):
        self.revocations += 1
        self.assigned -= {p.partition for p in partitions}

    def run(self):
        while not self.over:
            m = self.consumer.poll(0.1)
            if m is None or m.error():
                continue
            with self.shared["lock"]:
                self.shared["done"].setdefault(m.partition(), set()).add(m.offset())
                if m.offset() < self.shared["committed"].get(m.partition(), 0):
                    self.shared["repeated"].append((self.name, m.partition(), m.offset()))
            try:
                for p in self.consumer.commit(m, asynchronous=False):
                    if p.error is None:
                        with self.shared["lock"]:
                            self.shared["committed"][p.partition] = max(p.offset, self.shared["committed"].get(p.partition, 0))
            except KafkaException:
                pass  # a rebalance, or the broker is away: somebody does it again

    def leave(self):
        self.over = True
        self.thread.join(60)
        self.consumer.close()


def share(workers):
    """Everything is assigned to exactly one of them."""
    got = [p for w in workers for p in w.assigned]
    return sorted(got) == list(range(12)) and all(w.assigned for w in workers)


@pytest.mark.parametrize("strategy,more", [("range", {}), ("cooperative-sticky", {"shards": 2}), ("range", {"wal.url": "none"})])
def test_a_group_of_three_shares_twelve_partitions(brokers, strategy, more):
    b = brokers({**QUICK, "num.partitions": 12, **more})
    shared = {"lock": threading.Lock(), "done": {}, "committed": {}, "repeated": []}
    p, sent, failures = Producer({"bootstrap.servers": b.address, "enable.idempotence": True, "linger.ms": 1}), 0, []

    def produce(n):
        nonlocal sent
        for _ in range(n):
            p.produce("jobs", b"job %d" % sent, partition=sent % 12, on_delivery=lambda e, m: e and failures.append(e))
            sent += 1
        assert p.flush(60) == 0 and not failures

    def all_done():
        with shared["lock"]:
            return all(shared["done"].get(k, set()) >= set(range((sent + 11 - k) // 12)) for k in range(12))
    produce(120)
    workers = [Worker(b, shared, f"w{i}", **{"partition.assignment.strategy": strategy}) for i in range(3)]
    eventually(lambda: share(workers), 60, what="three share")
    eventually(all_done, 60, what="the first jobs")
    produce(60)
    workers.pop(1).leave()
    produce(60)
    eventually(lambda: share(workers), 60, what="two share")
    eventually(all_done, 60, what="the jobs of two")
    b.restart()
    produce(60)
    eventually(all_done, 60, what="the jobs after a restart")
    workers.append(Worker(b, shared, "late", **{"partition.assignment.strategy": strategy}))
    eventually(lambda: share(workers), 60, what="three share again")
    b.restart(kill=True)
    produce(60)
    eventually(all_done, 60, what="the jobs after a kill")
    eventually(lambda: sum(shared["committed"].values()) == sent, 60, what="everything committed")
    for w in workers:
        w.leave()
    assert shared["repeated"] == []
    c = Consumer({"bootstrap.servers": b.address, "group.id": "work"})
    committed = c.committed([TopicPartition("jobs", k) for k in range(12)], timeout=20)
    assert [t.offset for t in committed] == [(sent + 11 - k) // 12 for k in range(12)]
    c.close()


def test_static_members_restart_without_a_rebalance(brokers):
    b = brokers({**QUICK, "num.partitions": 12})
    shared = {"lock": threading.Lock(), "done": {}, "committed": {}, "repeated": []}
    p = Producer({"bootstrap.servers": b.address})
    for k in range(24):
        p.produce("jobs", b"x", partition=k % 12)
    assert p.flush(30) == 0
    options = {"session.timeout.ms": 30000}
    workers = [Worker(b, shared, f"s{i}", **options, **{"group.instance.id": f"i{i}"}) for i in range(3)]
    eventually(lambda: share(workers), 60)
    eventually(lambda: sum(shared["committed"].values()) == 24, 60)
    had, before = set(workers[1].assigned), [w.revocations for w in workers]
    workers[1].leave()
    workers[1] = Worker(b, shared, "s1", **options, **{"group.instance.id": "i1"})
    eventually(lambda: workers[1].assigned == had, 60)
    assert [w.revocations for w in (workers[0], workers[2])] == [before[0], before[2]] and share(workers)
    with Group(b.port) as g:
        assert len(g.describe("work")[3]) == 3
    b.restart(kill=True)
    for k in range(12):
        p.produce("jobs", b"y", partition=k)
    assert p.flush(60) == 0
    eventually(lambda: sum(shared["committed"].values()) == 36, 60)
    assert [w.revocations for w in (workers[0], workers[2])] == [before[0], before[2]]
    assert shared["repeated"] == []
    for w in workers:
        w.leave()


@pytest.mark.parametrize("api_version", [(0, 9), (0, 10, 1), (0, 11), None])
def test_kafka_python(brokers, api_version):
    """The old protocol versions that kafka-python speaks, each a consumer with a group."""
    from kafka import KafkaConsumer, KafkaProducer
    b = brokers({**QUICK, "num.partitions": 3})
    with Wire(b.port) as w:
        oldest_fetch = {key: low for key, low, _ in w.api_versions(0)[1]}[wire.FETCH]
    if api_version and oldest_fetch > 0:
        pytest.skip("needs Fetch in versions that are not offered")
    p = KafkaProducer(bootstrap_servers=b.address, acks="all")
    for n in range(30):
        p.send("t", b"%d" % n, partition=n % 3)
    p.flush()
    p.close()
    options = {"bootstrap_servers": b.address, "group_id": "python", "auto_offset_reset": "earliest", "enable_auto_commit": False,
               "consumer_timeout_ms": 15000, "api_version": api_version}
    c, got = KafkaConsumer("t", **options), []
    for m in c:
        got.append(int(m.value))
        if len(got) == 18:
            break
    c.commit({part: c_offset(c, part) for part in c.assignment()})
    c.close()
    b.restart(kill=True)
    c = KafkaConsumer("t", **options)
    for m in c:
        got.append(int(m.value))
        if len(got) == 30:
            break
    assert sorted(got) == list(range(30))
    c.close()


def c_offset(consumer, part):
    from kafka.structs import OffsetAndMetadata
    return OffsetAndMetadata(consumer.position(part), "")


def test_kafka_python_admin(g, quick):
    from kafka.admin import KafkaAdminClient
    g.create("t", 2)
    g.commit("simple", {("t", 0): 5, ("t", 1): 6})
    subscription = struct.pack(">hih", 0, 1, 1) + b"t" + struct.pack(">i", -1)
    assignment = struct.pack(">hih", 0, 1, 1) + b"t" + struct.pack(">iiii", 2, 0, 1, -1)
    _, generation, _, _, member, _ = g.joined("members", protocols={"range": subscription})
    assert g.sync("members", generation, member, {member: assignment})[0] == 0
    admin = KafkaAdminClient(bootstrap_servers=quick.address)
    assert sorted(admin.list_consumer_groups()) == [("members", "consumer"), ("simple", "")]
    d = {x.group: x for x in admin.describe_consumer_groups(["members", "simple"])}
    assert (d["members"].state, d["simple"].state) == ("Stable", "Empty")
    assert [(m.member_id, m.client_host) for m in d["members"].members] == [(member, "/127.0.0.1")]
    assert d["members"].members[0].member_assignment.assignment == [("t", [0, 1])]
    assert {(k.topic, k.partition): v.offset for k, v in admin.list_consumer_group_offsets("simple").items()} == {("t", 0): 5, ("t", 1): 6}
    assert [(k, e.errno) for k, e in admin.delete_consumer_groups(["simple", "members"])] in ([("simple", 0), ("members", 68)], [("members", 68), ("simple", 0)])
    admin.close()


def test_metrics_and_log(brokers):
    port = free_port()
    b = brokers({**QUICK, "http.listen": f"127.0.0.1:{port}"})
    with Group(b.port) as g:
        g.create("t", 1)
        g.commit("simple", {("t", 0): 5})
        member, generation = alone(g, "members")
        eventually(lambda: (number(b, "oxbow_groups_stable"), number(b, "oxbow_groups_empty")) == (1, 1))
        assert [number(b, f"oxbow_{x}") for x in ("group_members", "group_offsets", "offset_commits_total")] == [1, 1, 1]
        assert number(b, "oxbow_coordinators") >= 1 and number(b, "oxbow_coordinator_records_total") >= 3
        assert g.leave("members", [(member, None)])[0] == 0
        eventually(lambda: (number(b, "oxbow_groups_stable"), number(b, "oxbow_groups_empty")) == (0, 2))
        assert number(b, "oxbow_group_rebalances_total") == 2 and number(b, "oxbow_group_members_expired_total") == 0
        log = b.lines("group=members")
        for line, words in zip(log, ['msg="group rebalances" group=members reason="a new member joined" generation=0 members=',
                                     'msg="group has a new generation" group=members generation=1 members=1 protocol=range leader=' + member,
                                     'msg="group rebalances" group=members reason="a member left" generation=1 members=0',
                                     'msg="group has a new generation" group=members generation=2 members=0']):
            assert words in line, log
