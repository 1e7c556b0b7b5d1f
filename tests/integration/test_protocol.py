"""Requests as bytes: what client libraries do not send, or hide the answer to."""

import time

import pytest

import wire
from harness import eventually
from wire import Wire, batch, batches

MIB = 1 << 20


@pytest.fixture
def w(broker):
    with Wire(broker.port) as connection:
        yield connection


def test_api_versions(broker, w):
    error, apis, _ = w.api_versions(0)
    offered = {key: (low, high) for key, low, high in apis}
    assert error == 0
    assert {wire.PRODUCE, wire.FETCH, wire.LIST_OFFSETS, wire.METADATA, wire.API_VERSIONS, wire.CREATE_TOPICS, wire.DELETE_TOPICS,
            wire.FIND_COORDINATOR, wire.INIT_PRODUCER_ID, 32, 44} <= set(offered)
    # A version from the future: error 35, in version 0, and the connection stays.
    w.send(wire.API_VERSIONS, 99, b"\0\0\0\0")
    r = w.receive(wire.API_VERSIONS, 0)
    assert r.i16() == 35
    assert (18, *offered[18]) in r.array(lambda: (r.i16(), r.i16(), r.i16()))
    r.end()
    assert w.api_versions(0)[0] == 0


@pytest.mark.parametrize("api,version", [(wire.FETCH, 19), (wire.PRODUCE, 14), (wire.METADATA, 99), (11, 10), (17, 0), (999, 0), (-5, 0), (wire.LIST_OFFSETS, 12)])
def test_what_is_not_offered_closes_the_connection(broker, api, version):
    with Wire(broker.port) as w:
        w.send(api, version, b"\0" * 40)
        assert w.closed()
    assert Wire(broker.port).api_versions(0)[0] == 0
    assert len(broker.lines("is not offered")) == 1


def test_what_came_before_is_answered_first(broker):
    """Pipelined: three good requests and one that is not offered."""
    with Wire(broker.port) as w:
        w.create("t")
        sent = [w.send_produce("t", 0, batch([b"x"])) for _ in range(3)]
        w.send(999, 0)
        assert [w.receive_produce(c) [:2] for c in sent] == [(0, 0), (0, 1), (0, 2)]
        assert w.closed()


def test_find_coordinator_refuses_transactions(w):
    body = wire.Writer(True)
    body.put("b", 1).array(["a", "b"], body.string).tags()
    r = w.call(wire.FIND_COORDINATOR, 4, body.out)
    r.i32()

    def one():
        key, _, _, _, error = r.string(), r.i32(), r.string(), r.i32(), r.i16()
        r.string()
        r.tags()
        return key, error
    assert r.array(one) == [("a", 53), ("b", 53)]


def test_produce_errors(w):
    assert w.create("t", 2)[0] == 0
    assert w.create("t", 2)[0] == 36
    assert w.produce("t", 0, batch([b"a", b"b"]))[:2] == (0, 0)
    assert w.produce("t", 0, batch([b"c"]))[:2] == (0, 2)
    assert w.produce("nowhere", 0, batch([b"a"]))[0] == 3
    assert w.produce("t", 2, batch([b"a"]))[0] == 3
    assert w.produce("t", 0, batch([b"a"]), acks=7)[0] == 21
    damaged = bytearray(batch([b"abcdef"]))
    damaged[-3] ^= 1
    assert w.produce("t", 0, bytes(damaged))[0] == 2
    assert w.produce("t", 0, batch([b"x" * 100])[:-20])[0] in (2, 87)
    assert w.produce("t", 0, batch([b"x" * (2 * MIB)]))[0] == 10
    assert w.produce("t", 0, batch([b"late"], timestamp=int(time.time() * 1000) + 7200_000))[0] == 32
    # None of those took an offset.
    assert w.produce("t", 0, batch([b"d"]))[:2] == (0, 3)


def test_acks_0_gets_no_answer(w):
    w.create("t")
    for i in range(5):
        w.send_produce("t", 0, batch([b"%d" % i]), acks=0)
    assert w.api_versions(0)[0] == 0  # the next answer belongs to this
    got = w.fetch([("t", 0, 0, MIB)], min_bytes=5 * 69, wait_ms=10000)[2]["t", 0]
    assert got[:2] == (0, 5)


def test_idempotence(w):
    w.create("t")
    pid, epoch = w.producer_id()
    first = batch([b"a", b"b"], pid, epoch, 0)
    assert w.produce("t", 0, first)[:2] == (0, 0)
    assert w.produce("t", 0, batch([b"c"], pid, epoch, 2))[:2] == (0, 2)
    assert w.produce("t", 0, first)[:2] == (0, 0)  # a duplicate gets its first answer
    assert w.produce("t", 0, batch([b"e"], pid, epoch, 4))[0] == 45  # a gap
    assert w.produce("t", 0, batch([b"d"], pid, epoch, 3))[:2] == (0, 3)
    assert w.list_offsets("t", 0, -1)[2] == 4
    other = w.producer_id()
    assert other[0] != pid


def test_duplicates_survive_restart_and_kill(broker):
    with Wire(broker.port) as w:
        w.create("t")
        pid, epoch = w.producer_id()
        for i in range(5):
            assert w.produce("t", 0, batch([b"x"], pid, epoch, i))[:2] == (0, i)
    for kill in (True, False, True):
        broker.restart(kill=kill)
        with Wire(broker.port) as w:
            for i in range(5):
                assert w.produce("t", 0, batch([b"x"], pid, epoch, i))[:2] == (0, i)
            assert w.produce("t", 0, batch([b"x"], pid, epoch, 7))[0] == 45
            assert w.list_offsets("t", 0, -1)[2] == 5
            assert w.producer_id()[0] != pid


def test_fetch_limits(w):
    w.create("t")
    for i in range(4):
        assert w.produce("t", 0, batch([bytes([i]) * 50_000]))[0] == 0
    # The first batch comes whole, however small the limits.
    for limits in ({"max_bytes": 1}, {"max_bytes": MIB}):
        error, _, got = w.fetch([("t", 0, 0, 1 if limits["max_bytes"] == MIB else MIB)], **limits)
        assert error == 0 and [b[:2] for b in batches(got["t", 0][3])] == [(0, 0)]
    error, _, got = w.fetch([("t", 0, 1, 110_000)])
    assert [b[0] for b in batches(got["t", 0][3])] == [1, 2]
    assert got["t", 0][1] == 4
    assert w.fetch([("t", 0, 5, MIB)])[2]["t", 0][0] == 1
    assert w.fetch([("t", 0, -7, MIB)])[2]["t", 0][0] == 1
    assert w.fetch([("t", 0, 4, MIB)])[2]["t", 0][0] == 0
    assert w.fetch([("t", 9, 0, MIB)])[2]["t", 9][0] == 3


def test_long_poll(broker, w):
    w.create("t")
    began = time.monotonic()
    assert w.fetch([("t", 0, 0, MIB)], wait_ms=300, min_bytes=1)[2]["t", 0][3] == b""
    assert time.monotonic() - began >= 0.29
    with Wire(broker.port) as waiting:
        began = time.monotonic()
        waiting.send_fetch([("t", 0, 0, MIB)], wait_ms=25000, min_bytes=1)
        time.sleep(0.1)
        assert w.produce("t", 0, batch([b"now"]))[0] == 0
        got = waiting.receive_fetch()[2]["t", 0]
        assert batches(got[3])[0][2] == [b"now"]
        assert time.monotonic() - began < 15
        # min.bytes: one batch is not enough, two are.
        size = len(batch([b"y" * 1000]))
        waiting.send_fetch([("t", 0, 1, MIB)], wait_ms=25000, min_bytes=size + 1)
        assert w.produce("t", 0, batch([b"y" * 1000]))[0] == 0
        waiting.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            waiting.sock.recv(1)
        waiting.sock.settimeout(30)
        assert w.produce("t", 0, batch([b"y" * 1000]))[0] == 0
        assert len(batches(waiting.receive_fetch()[2]["t", 0][3])) == 2


def test_stop_wakes_long_polls(broker):
    with Wire(broker.port) as w:
        w.create("t")
        w.send_fetch([("t", 0, 0, MIB)], wait_ms=600_000, min_bytes=1)
        time.sleep(0.1)
        began = time.monotonic()
        broker.stop()
        assert time.monotonic() - began < 9


def test_fetch_sessions(w):
    w.create("t", 3)
    wants = [("t", p, 0, MIB) for p in range(3)]
    error, session, got = w.fetch(wants, session=(0, 0))
    assert error == 0 and session != 0 and len(got) == 3
    # Nothing has changed: nothing is listed.
    assert w.fetch([], session=(session, 1)) == (0, session, {})
    w.produce("t", 1, batch([b"news"]))
    error, _, got = w.fetch([], session=(session, 2), wait_ms=5000, min_bytes=1)
    assert error == 0 and list(got) == [("t", 1)] and got["t", 1][1] == 1
    # Moved on, and one forgotten.
    assert w.fetch([("t", 1, 1, MIB)], session=(session, 3), forgotten=[("t", 2)]) == (0, session, {})
    w.produce("t", 2, batch([b"unseen"]))
    w.produce("t", 0, batch([b"seen"]))
    error, _, got = w.fetch([], session=(session, 4))
    assert error == 0 and list(got) == [("t", 0)]
    assert w.fetch([], session=(session, 9))[0] == 71
    assert w.fetch([], session=(session ^ 0x5A5A, 5))[0] == 70
    error, _, got = w.fetch([("t", 0, 1, MIB)], session=(session, 5))
    assert error == 0
    # -1 ends it.
    error, ended, got = w.fetch([("t", 0, 0, MIB)], session=(session, -1))
    assert error == 0 and ended == 0 and got["t", 0][1] == 1
    assert w.fetch([], session=(session, 6))[0] == 70


def test_a_large_session_waits_and_is_told_what_is_new(broker, w):
    """Of more partitions than are looked at without letting others run: what changes meanwhile is neither lost nor told twice."""
    w.create("t", 1500)
    w.create("gone", 2)
    wants = [("t", p, 0, MIB) for p in range(1500)] + [("gone", 0, 0, MIB)]
    error, session, got = w.fetch(wants, session=(0, 0))
    assert error == 0 and session != 0 and len(got) == 1501
    with Wire(broker.port) as other:
        # Too little: it goes on waiting; then enough, in two of its partitions.
        w.send_fetch([], session=(session, 1), wait_ms=20_000, min_bytes=150)
        assert other.produce("t", 300, batch([b"a" * 40]))[0] == 0
        assert other.produce("t", 1499, batch([b"b" * 40]))[0] == 0
        error, _, got = w.receive_fetch()
        assert error == 0 and sorted(p for _, p in got) == [300, 1499] and all(g[1] == 1 and g[3] for g in got.values())
        # Time runs out with too little: that is told.
        w.send_fetch([("t", 300, 1, MIB), ("t", 1499, 1, MIB)], session=(session, 2), wait_ms=500, min_bytes=1000)
        assert other.produce("t", 700, batch([b"c"]))[0] == 0
        error, _, got = w.receive_fetch()
        assert error == 0 and list(got) == [("t", 700)] and batches(got["t", 700][3])[0][2] == [b"c"]
        # A partition that goes wakes it.
        w.send_fetch([("t", 700, 1, MIB)], session=(session, 3), wait_ms=20_000, min_bytes=1)
        body = wire.Writer()
        body.array(["gone"], body.string).put("i", 30000)
        other.call(wire.DELETE_TOPICS, 1, body.out)
        error, _, got = w.receive_fetch()
        assert error == 0 and list(got) == [("gone", 0)] and got["gone", 0][0] == 3
        # All records come, whatever is written while they are read.
        for p in range(0, 1500, 50):
            assert other.produce("t", p, batch([b"d"]))[0] == 0
        seen, epoch, moved = {}, 4, [("t", 0, 0, MIB)]
        while len(seen) < 30 and epoch < 100:
            error, _, got = w.fetch(moved, session=(session, epoch), wait_ms=1000, min_bytes=1)
            assert error == 0
            new = {p: g for (_, p), g in got.items() if g[3]}
            assert not set(new) & set(seen)
            seen.update({p: g[1] for p, g in new.items()})
            moved = [("t", p, g[1], MIB) for p, g in new.items()]
            epoch += 1
        assert set(seen) == set(range(0, 1500, 50))


def test_a_session_sees_errors_and_their_end(w):
    error, session, got = w.fetch([("later", 0, 0, MIB)], session=(0, 0))
    assert error == 0 and got["later", 0][0] == 3
    w.create("later")
    if session:
        w.produce("later", 0, batch([b"x"]))
        error, _, got = w.fetch([], session=(session, 1), wait_ms=3000, min_bytes=1)
        assert error == 0 and got["later", 0][0] == 0


def test_fetch_by_topic_id(w):
    error, topic = w.create("t", 2)
    w.produce("t", 1, batch([b"by id"]))
    for version in (13, 16):
        error, session, got = w.fetch([(topic, p, 0, MIB) for p in (0, 1)], version, session=(0, 0))
        assert error == 0 and batches(got[topic, 1][3])[0][2] == [b"by id"] and got[topic, 0][0] == 0
        assert w.fetch([(topic, 1, 1, MIB)], version, session=(session, 1)) == (0, session, {})
    got = w.fetch([("t", 1, 0, MIB)], 12)[2]
    assert batches(got["t", 1][3])[0][2] == [b"by id"]
    strange = bytes(range(16))
    assert w.fetch([(strange, 0, 0, MIB)], 13)[2][strange, 0][0] == 100
    # A topic of the same name is another topic.
    body = wire.Writer()
    body.array(["t"], body.string).put("i", 30000)
    w.call(wire.DELETE_TOPICS, 1, body.out)
    new = w.create("t", 2)[1]
    assert new != topic
    assert w.fetch([(topic, 0, 0, MIB)], 13)[2][topic, 0][0] == 100
    assert w.fetch([(new, 1, 0, MIB)], 13)[2][new, 1][1] == 0


def test_list_offsets(w):
    w.create("t")
    now = int(time.time() * 1000)
    assert w.list_offsets("t", 0, -1) == (0, -1, 0)
    for i, at in enumerate((now, now + 2000, now + 1000)):
        assert w.produce("t", 0, batch([b"a", b"b"], timestamp=at))[:2] == (0, 2 * i)
    for version in (2, 5, 8):
        assert w.list_offsets("t", 0, -1, version)[2] == 6
        assert w.list_offsets("t", 0, -2, version)[2] == 0
        assert w.list_offsets("t", 0, now, version) == (0, now, 0)
        assert w.list_offsets("t", 0, now + 1, version) == (0, now + 2000, 2)
        assert w.list_offsets("t", 0, now + 2001, version)[:1] + w.list_offsets("t", 0, now + 2001, version)[2:] == (0, -1)
        assert w.list_offsets("t", 7, -1, version)[0] == 3
    assert w.list_offsets("t", 0, -3)[:2] == (0, now + 2000) and w.list_offsets("t", 0, -3)[2] in (2, 3)
    assert w.list_offsets("t", 0, -4)[2] == 0


def test_log_append_time(broker, w):
    w.create("t", 1, {"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    error, base, at = w.produce("t", 0, batch([b"x"], timestamp=1_600_000_000_000))
    assert (error, base) == (0, 0) and before <= at <= int(time.time() * 1000)
    w.create("c")
    assert w.produce("c", 0, batch([b"x"]))[2] == -1
    assert w.list_offsets("t", 0, before)[1:] == (at, 0)


def test_retention_moves_the_start_and_frees_objects(brokers):
    b = brokers({"log.retention.check.interval.ms": 100, "upload.bytes": "64KiB", "upload.interval.ms": 100, "checkpoint.interval.ms": 200})
    with Wire(b.port) as w:
        w.create("t", 1, {"retention.bytes": "200000", "segment.bytes": "50000"})
        w.create("old", 1, {"retention.ms": "500", "segment.ms": "200"})
        for i in range(40):
            assert w.produce("t", 0, batch([b"%03d" % i + b"z" * 30_000]))[:2] == (0, i)
        for _ in range(3):
            w.produce("old", 0, batch([b"a" * 1000]))
            time.sleep(0.25)
        start = eventually(lambda: (w.list_offsets("t", 0, -2)[2] > 25) and w.list_offsets("t", 0, -2)[2], what="log start of t moves")
        assert start <= 36 and w.list_offsets("t", 0, -1)[2] == 40
        assert w.fetch([("t", 0, 0, MIB)])[2]["t", 0][0] == 1
        got = batches(w.fetch([("t", 0, start, MIB)])[2]["t", 0][3])
        assert got[0][0] == start and got[0][2][0].startswith(b"%03d" % start)
        eventually(lambda: w.list_offsets("old", 0, -2)[2] >= 2, what="log start of old moves")
        # 40 * 30 KB went in; what is kept is a fraction.
        eventually(lambda: sum(b.objects().values()) < 700_000, what="objects are freed")
    for kill in (True, False):
        b.restart(kill=kill)
        with Wire(b.port) as w:
            assert w.list_offsets("t", 0, -2)[2] >= start and w.list_offsets("t", 0, -1)[2] == 40


def test_deleting_a_topic_frees_its_objects(brokers):
    b = brokers({"upload.bytes": "64KiB", "upload.interval.ms": 100, "checkpoint.interval.ms": 200})
    with Wire(b.port) as w:
        w.create("t", 2)
        w.create("kept")
        w.produce("kept", 0, batch([b"k" * 1000]))
        for i in range(60):
            assert w.produce("t", i % 2, batch([b"%03d" % i + b"z" * 50_000]))[0] == 0
        eventually(lambda: sum(b.objects().values()) > 2_500_000, what="uploads")
        body = wire.Writer()
        body.array(["t"], body.string).put("i", 30000)
        w.call(wire.DELETE_TOPICS, 1, body.out)
        assert w.produce("t", 0, batch([b"x"]))[0] == 3
        # Entries of the ledger go once a checkpoint lies above them and a later entry says so: other topics have to go on.
        sent = 1

        def freed():
            nonlocal sent
            assert w.produce("kept", 0, batch([b"k" * 1000]))[:2] == (0, sent)
            sent += 1
            return sum(b.objects().values()) < 400_000
        eventually(freed, pause=0.2, what="objects are freed")
    b.restart(kill=True)
    eventually(lambda: sum(b.objects().values()) < 400_000)
    with Wire(b.port) as w:
        assert [x[2] for x in batches(w.fetch([("kept", 0, 0, MIB)])[2]["kept", 0][3])] == [[b"k" * 1000]] * sent
        assert w.fetch([("t", 0, 0, MIB)])[2]["t", 0][0] == 3
