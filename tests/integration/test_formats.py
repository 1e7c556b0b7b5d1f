"""Old formats and old versions: what comes in by any version of Produce goes out by any version of Fetch, record by record; what
is wrong with a message set is told with Kafka's codes; what unfolds without end costs a bounded amount of memory."""

import gzip
import struct
import threading

import confluent_kafka
import kafka
import pytest

import formats
import wire
from formats import (GZIP, LZ4, NONE, RAW_SNAPPY, SNAPPY, ZSTD, fetch, fetch_one, message, message_set, produce, read_any, read_set,
                     receive_produce, record_batch, send_produce, some_records, wrapper)
from wire import Wire, Writer

MIB = 1 << 20
OLD_CODECS = [NONE, GZIP, SNAPPY, RAW_SNAPPY, LZ4]


@pytest.fixture
def w(broker):
    with Wire(broker.port) as connection:
        yield connection


def create(w, name, partitions=1, **configs):
    error, topic_id = w.create(name, partitions, {k.replace("_", "."): v for k, v in configs.items()})
    assert error == 0
    return name, topic_id


def expected(records, version, magic, base=0):
    """What a reader of that version sees of what was written in that magic."""
    return [(base + i, -1 if magic == 0 or version < 2 else r[0], r[1], r[2]) for i, r in enumerate(records)]


@pytest.mark.parametrize("version", range(14))
def test_every_produce_by_every_fetch(w, version):
    """The formats that go with a version, in all its codecs, read by all versions of Fetch."""
    magics = [0, 1] if version < 3 else [2]
    for magic in magics:
        for codec in OLD_CODECS + ([ZSTD] if version >= 7 else []):
            topic = create(w, f"t-{magic}-{codec}")
            records = some_records(23, f"{magic}-{codec}")
            data = message_set(magic, codec, records) if magic < 2 else record_batch(codec, records, [(b"h", b"x")])
            assert produce(w, version, topic, data) == (0, 0)
            assert produce(w, version, topic, data) == (0, 23)
            for reader in range(19):
                error, high, got = fetch_one(w, reader, topic)
                if codec == ZSTD and reader < 4:
                    assert (error, got) == (76, b"")
                    continue
                assert (error, high) == (0, 46)
                seen, codecs = read_any(reader, got)
                assert seen == expected(records, reader, magic) + expected(records, reader, magic, 23)
                assert codecs == {SNAPPY if codec == RAW_SNAPPY else codec}
                # From the middle of the second batch: nothing before it that an old reader of plain messages would stumble over.
                error, _, got = fetch_one(w, reader, topic, 30)
                seen, _ = read_any(reader, got)
                assert error == 0 and [s for s in seen if s[0] >= 30] == expected(records, reader, magic, 23)[7:]
                if codec == NONE and reader < 4:
                    assert seen[0][0] == 30


def test_batches_in_old_versions(w):
    """Kafka never enforced the magic there; zstd needs version 7 all the same."""
    topic = create(w, "t")
    for version in range(3):
        assert produce(w, version, topic, record_batch(GZIP, some_records(3)))[0] == 0
        assert produce(w, version, topic, record_batch(ZSTD, some_records(3)))[0] == 76
        assert produce(w, version, topic, record_batch(NONE, some_records(3)) * 2)[0] == 87
    for version in range(3, 7):
        assert produce(w, version, topic, record_batch(ZSTD, some_records(3)))[0] == 76
        assert produce(w, version, topic, message_set(1, NONE, some_records(3)))[0] == 87
    assert fetch_one(w, 4, topic)[1] == 9


def test_mixed_magics_in_one_partition(w):
    topic, all_records = create(w, "t"), []
    for i, (magic, codec) in enumerate([(0, NONE), (2, LZ4), (1, GZIP), (2, NONE), (0, LZ4), (1, NONE), (0, RAW_SNAPPY)]):
        records = some_records(5 + i, f"{i}")
        data = record_batch(codec, records) if magic == 2 else message_set(magic, codec, records)
        assert produce(w, 3 if magic == 2 else 2, topic, data) == (0, len(all_records))
        all_records += [(magic, r) for r in records]
    for reader in (0, 1, 2, 3, 4, 11):
        seen, _ = read_any(reader, fetch_one(w, reader, topic)[2])
        assert seen == [expected([r], reader, m, i)[0] for i, (m, r) in enumerate(all_records)]
    # But not in one set.
    records = some_records(1)
    assert produce(w, 2, topic, message_set(0, NONE, records) + message_set(1, NONE, records))[0] == 87


def test_what_is_wrong_with_a_set(w):
    topic = create(w, "t")
    one = message(1, 0, 5, b"k", b"value")
    wrong_crc = bytearray(one)
    wrong_crc[-1] ^= 1
    r = some_records(2)
    cases = [
        (bytes(wrong_crc), 2), (one + bytes(wrong_crc), 2), (wrapper(1, GZIP, bytes(wrong_crc)), 2), (wrapper(0, GZIP, b"rubbish" * 9), 2),
        (message(1, 0, 0, None, b"no gzip at all", GZIP), 2), (message(1, 0, 0, None, None, GZIP), 87), (message(1, 0, 0, None, b"x", 6), 2),
        (wrapper(1, GZIP, b""), 87), (wrapper(1, GZIP, wrapper(1, GZIP, one)), 87), (wrapper(1, GZIP, message_set(0, NONE, r)), 87),
        (message_set(1, GZIP, r) * 2, 87), (one + message_set(1, GZIP, r), 87), (message(1, 0, 0, None, b"x", ZSTD), 76),
        (message(1, 0, 5, None, b"x", 8), 32), (struct.pack(">qi", 0, 13) + one[12:], 2), (struct.pack(">qi", 0, -1) + one[12:], 2),
        (one[:16] + b"\3" + one[17:], 2), (message(1, 0, 5, None, b"x" * 2 * MIB), 10), (message(1, 0, 5, None, b"x" * MIB) * 2, 10),
        (message(0, 0, 0, b"k", bytes(MIB)), 10), (message_set(1, NONE, [(1 << 60, None, b"x")]), 32),
    ]
    for i, (data, error) in enumerate(cases):
        assert produce(w, 2, topic, data)[0] == error, i
    # Nothing, or less than a message: no error, and no offset.
    assert produce(w, 2, topic, b"") == (0, -1)
    assert produce(w, 0, topic, one[:-1]) == (0, -1)
    # A part behind whole messages is passed over.
    assert produce(w, 2, topic, one + one[:-1]) == (0, 0)
    assert produce(w, 2, topic, one) == (0, 1)
    compacted = create(w, "compacted", cleanup_policy="compact")
    assert produce(w, 2, compacted, message_set(1, GZIP, [(5, None, b"x")]))[0] == 87
    assert produce(w, 2, compacted, message_set(0, NONE, [(5, b"k", b"x")])) == (0, 0)


@pytest.mark.parametrize("shards", [1, 2])
def test_acks_and_order_of_one_connection(brokers, shards):
    """Sets small and large, plain and compressed, many in flight: offsets rise in the order of the requests."""
    b = brokers({"shards": shards})
    for name in ("t", "u"):
        with Wire(b.port) as w:
            acks_and_order(w, create(w, name))


def acks_and_order(w, topic):
    sent, base = [], 0
    for i in range(60):
        count = 400 if i % 3 == 0 else 2
        data = message_set(i % 2, OLD_CODECS[i % 5], some_records(count, str(i)))
        sent.append((send_produce(w, i % 3, topic, data, acks=(-1, 1)[i % 2]), i % 3, base))
        base += count
    for correlation, version, first in sent:
        assert receive_produce(w, version, correlation) == (0, first)
    for i in range(5):
        send_produce(w, i % 3, topic, message_set(0, GZIP, some_records(700)), acks=0)
    assert produce(w, 1, topic, message_set(0, NONE, some_records(1)), acks=1) == (0, base + 3500)
    assert produce(w, 1, topic, message_set(0, NONE, some_records(1)), acks=2)[0] == 21
    # An error without an answer closes.
    send_produce(w, 0, topic, b"\0" * 40, acks=0)
    assert w.closed()


def test_topic_configurations(w):
    records = some_records(300)
    for kind in ("gzip", "snappy", "lz4", "zstd", "uncompressed"):
        topic = create(w, kind, compression_type=kind)
        for codec in (NONE, GZIP, LZ4):
            assert produce(w, 2, topic, message_set(1, codec, records))[0] == 0
        error, high, got = fetch_one(w, 11, topic)
        seen, codecs = read_any(11, got)
        assert (error, high) == (0, 900) and codecs == {NONE if kind == "uncompressed" else formats.NAMES.index(kind)}
        assert [s[1:] for s in seen] == records * 3
        # Whoever does not know zstd is told so by the topic's configuration, as with Kafka.
        assert fetch_one(w, 9, topic)[0] == (76 if kind == "zstd" else 0)
        assert fetch_one(w, 1, topic)[0] == (76 if kind == "zstd" else 0)
    appended = create(w, "appended", message_timestamp_type="LogAppendTime")
    assert produce(w, 2, appended, message_set(0, NONE, records[:2])) == (0, 0)
    assert produce(w, 2, appended, message_set(1, GZIP, records[:2])) == (0, 2)
    times = {s[1] for s in read_any(2, fetch_one(w, 2, appended)[2])[0]}
    assert times == {s[1] for s in read_any(4, fetch_one(w, 4, appended)[2])[0]} and min(times) > records[1][0] and len(times) <= 2
    off = create(w, "off", message_downconversion_enable="false")
    assert produce(w, 1, off, message_set(0, NONE, records[:2])) == (0, 0)
    assert [fetch_one(w, v, off)[0] for v in range(6)] == [35, 35, 35, 35, 0, 0]


def test_limits_of_fetch(w):
    topic = create(w, "t", 3)
    records = [(5, None, b"x" * 1000)] * 50
    for codec, partition in ((NONE, 0), (SNAPPY, 1), (NONE, 2)):
        assert produce(w, 2, topic, message_set(1, codec, records), partition=partition) == (0, 0)
    for reader in range(4):
        overhead = 26 if reader < 2 else 34
        # As many whole messages as fit, of a batch that as a whole does not.
        _, _, got = fetch_one(w, reader, topic, 7, 5 * (1000 + overhead) + 1)
        assert [s[0] for s in read_any(reader, got)[0]] == [7, 8, 9, 10, 11]
        # Less than a message: a part of it before version 3, by which those readers know; then a whole one.
        _, _, got = fetch_one(w, reader, topic, 7, 100)
        if reader < 3:
            assert len(got) == 100 and struct.unpack_from(">qi", got) == (7, 1000 + overhead - 12)
            assert read_any(reader, got, partial=True)[0] == []
        else:
            assert [s[0] for s in read_any(reader, got)[0]] == [7]
        assert fetch_one(w, reader, topic, 7, 0)[2] == b"" or reader == 3
        # Wrappers are no larger than what is asked for either, and a reader gets on.
        at, steps = 0, 0
        while at < 50:
            _, _, got = fetch_one(w, reader, topic, at, 3000, partition=1)
            assert len(got) <= 3000
            fresh = [s[0] for s in read_any(reader, got)[0] if s[0] >= at]
            assert fresh == list(range(at, at + len(fresh))) and fresh
            at, steps = at + len(fresh), steps + 1
        assert steps < 51
    # Version 3: the request's order counts, and the limit of the whole.
    got = fetch(w, 3, [(topic, 2, 0, MIB), (topic, 0, 0, MIB)], max_bytes=10)
    assert [len(read_set(got["t", p][2], 1)[0]) for p in (2, 0)] == [1, 0]
    got = fetch(w, 3, [(topic, 0, 0, 20 * 1034), (topic, 2, 0, MIB)], max_bytes=20 * 1034 + 51000)
    assert [len(read_set(got["t", p][2], 1)[0]) for p in (0, 2)] == [20, 51000 // 1034]
    assert fetch_one(w, 1, topic, 51)[0] == 1
    assert fetch_one(w, 1, topic, 50)[:2] == (0, 50)


def test_waiting_fetches_of_old_versions(broker, w):
    topic = create(w, "t")
    for reader in range(4):
        with Wire(broker.port) as other:
            got = []
            t = threading.Thread(target=lambda: got.append(fetch_one(other, reader, topic, reader, wait_ms=30000, min_bytes=1)))
            t.start()
            assert produce(w, 2, topic, message_set(1, NONE, [(5, None, b"%d" % reader)])) == (0, reader)
            t.join(60)
            assert [s[3] for s in read_any(reader, got[0][2])[0]] == [b"%d" % reader]


def old_offsets(w, topic, timestamp, most, partition=0):
    out = Writer().put("i", -1).array([0], lambda _: None)
    out.string(topic).array([0], lambda _: out.put("iqi", partition, timestamp, most))
    r = w.call(wire.LIST_OFFSETS, 0, out.out)
    got = []
    r.array(lambda: (r.string(), r.array(lambda: got.append((r.i32(), r.i16(), r.array(r.i64))))))
    r.end()
    assert got[0][0] == partition
    return got[0][1:]


def test_list_offsets_0_names_segments(w):
    topic = create(w, "t", segment_bytes="400", retention_ms="-1")
    assert old_offsets(w, "t", -1, 10) == (0, [0])
    assert old_offsets(w, "t", -2, 10) == (0, [0])
    now = some_records(1)[0][0]
    for i in range(5):
        assert produce(w, 2, topic, message_set(1, NONE, [(now - 100000 + i * 1000, None, b"x" * 250)])) == (0, i)
    assert old_offsets(w, "t", -1, 1) == (0, [5])
    assert old_offsets(w, "t", -1, 3) == (0, [5, 4, 3])
    assert old_offsets(w, "t", -1, 100) == (0, [5, 4, 3, 2, 1, 0])
    assert old_offsets(w, "t", -2, 100) == (0, [0])
    assert old_offsets(w, "t", now - 100000 + 2500, 100) == (0, [2, 1, 0])
    assert old_offsets(w, "t", now - 100000 + 2500, 1) == (0, [2])
    assert old_offsets(w, "t", 7, 100) == (0, [])
    assert old_offsets(w, "t", -1, 0) == old_offsets(w, "t", -1, -5) == (0, [])
    assert old_offsets(w, "t", -1, 2**31 - 1) == (0, [5, 4, 3, 2, 1, 0])
    assert old_offsets(w, "t", -3, 1)[0] == 35
    assert old_offsets(w, "nowhere", -1, 1)[0] == 3
    assert old_offsets(w, "t", -1, 1, 1)[0] == 3
    for version in range(2, 10):
        assert w.list_offsets("t", 0, now - 100000 + 2500, version)[::2] == (0, 3)


def test_oldest_versions_of_administration(broker, w):
    def creation(version, name, assignments=(), configs=()):
        out = Writer().array([0], lambda _: None)
        out.string(name).put("ih", -1 if assignments else 2, -1 if assignments else 1)
        out.array(list(assignments), lambda a: out.put("iii", a, 1, 1)).array(list(configs), lambda c: out.string(c[0]).string(c[1]))
        out.put("i", 30000)
        r = w.call(wire.CREATE_TOPICS, version, (out if version == 0 else out.put("b", 0)).out)
        got = r.array(lambda: (r.string(), r.i16(), r.string() if version else None))
        r.end()
        return got[0]
    assert creation(0, "a") == ("a", 0, None)
    assert creation(0, "a") == ("a", 36, None)
    assert creation(1, "b", configs=[("retention.ms", "1234")]) == ("b", 0, None)
    assert creation(1, "b")[1:2] == (36,) and creation(1, "b")[2]
    assert creation(1, "c", configs=[("nonsense", "1")])[1] == 40

    out = Writer().array([0], lambda _: None).put("b", 2)
    out.string("b").array(["retention.ms", "segment.ms"], out.string)
    r = w.call(32, 0, out.out)
    r.i32()

    def result():
        assert (r.i16(), r.string()) == (0, None)
        assert (r.number("b"), r.string()) == (2, "b")
        return r.array(lambda: (r.string(), r.string(), r.number("b"), r.number("b"), r.number("b")))
    assert sorted(r.array(result)[0]) == [("retention.ms", "1234", 0, 0, 0), ("segment.ms", "604800000", 0, 1, 0)]
    r.end()

    out = Writer()
    r = w.call(wire.DELETE_TOPICS, 0, out.array(["a", "nowhere"], out.string).put("i", 30000).out)
    assert r.array(lambda: (r.string(), r.i16())) == [("a", 0), ("nowhere", 3)]
    r.end()


def bomb(magic, gigabytes):
    """A gzip that unfolds to zeros: one message of that size, or so it begins."""
    import zlib
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts, block = [], bytes(MIB)
    for _ in range(gigabytes * 1024):
        parts.append(packer.compress(block))
    return message(magic, 0, 0, None, b"".join(parts) + packer.flush(), GZIP)


def test_bombs_are_refused_in_bounded_memory(brokers):
    b = brokers({"message.max.bytes": str(8 * MIB)})
    with Wire(b.port) as w:
        topic = create(w, "t", max_message_bytes=str(8 * MIB))
        # Nested gzip of zeros packs a thousand times; what unfolds to 2 GiB is 2 MB.
        data = bomb(1, 2)
        assert len(data) < 3 * MIB
        before = b.status("VmHWM")
        results = []

        def one():
            with Wire(b.port) as mine:
                results.append(produce(mine, 2, topic, data)[0])
        threads = [threading.Thread(target=one) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert results == [10] * 6
        assert b.status("VmHWM") - before < 900 * 1024, "kB"  # 410 MB with ASan; six at once would be 12 GiB
        assert produce(w, 2, topic, message_set(1, GZIP, some_records(3))) == (0, 0)


def test_many_conversions_share_a_budget(brokers):
    """Both ways, from many connections, with a budget that lets one large conversion in at a time."""
    b = brokers({"shards": 2, "queued.max.request.bytes": str(4 * MIB), "socket.request.max.bytes": str(2 * MIB)})
    with Wire(b.port) as w:
        topic = create(w, "t", 4)
        inner = b"".join(message(1, i, 5, None, bytes(900)) for i in range(1000))
        data = wrapper(1, GZIP, inner, 999, 5)
        assert 1 * MIB > len(data)
        errors = []

        def writer(i):
            try:
                with Wire(b.port, 300) as mine:
                    for k in range(5):
                        error, _ = produce(mine, k % 3, topic, data, partition=i % 4)
                        assert error == 0
                        error, _, got = fetch_one(mine, k % 4, topic, k * 1000, 2 * MIB, partition=i % 4)
                        assert error == 0 and len(read_any(k % 4, got)[0]) >= 1000
            except Exception as e:  # a thread's failure must fail the test
                errors.append(repr(e))
        threads = [threading.Thread(target=writer, args=(i,)) for i in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert errors == []
        assert sum(fetch_one(w, 11, topic, partition=p)[1] for p in range(4)) == 16 * 5 * 1000


@pytest.mark.parametrize("release", [(0, 8, 2), (0, 9), (0, 10, 0), (0, 10, 1)])
def test_kafka_python_as_of_then(broker, w, release):
    """It does not negotiate when it is told the release: it sends what that one knew."""
    create(w, "t")
    for codec in (None, "gzip"):
        p = kafka.KafkaProducer(bootstrap_servers=broker.address, api_version=release, compression_type=codec, linger_ms=50)
        sent = [p.send("t", b"%s-%d" % (str(codec).encode(), i), key=b"k%d" % i if i % 2 else None) for i in range(300)]
        p.flush(60)
        assert [s.get(60).offset for s in sent] == list(range(300)) if codec is None else list(range(300, 600))
        p.close()
    c = kafka.KafkaConsumer(bootstrap_servers=broker.address, api_version=release, enable_auto_commit=False, max_partition_fetch_bytes=2000,
                            consumer_timeout_ms=60000)
    part = kafka.TopicPartition("t", 0)
    c.assign([part])
    c.seek_to_beginning(part)
    got = []
    for m in c:
        got.append((m.offset, m.key, m.value, m.timestamp))
        if len(got) == 600:
            break
    c.close()
    want = [(i, b"k%d" % (i % 300) if i % 2 else None, b"%s-%d" % (b"None" if i < 300 else b"gzip", i % 300)) for i in range(600)]
    assert [g[:3] for g in got] == want
    assert all((g[3] is None or g[3] == -1) == (release < (0, 10)) for g in got)


@pytest.mark.parametrize("release", ["0.8.2.1", "0.9.0.1"])
def test_librdkafka_as_of_then(broker, w, release):
    common = {"bootstrap.servers": broker.address, "api.version.request": False, "broker.version.fallback": release}
    create(w, "t")
    want = []
    for codec in ("none", "gzip", "snappy", "lz4"):
        p, errors = confluent_kafka.Producer({**common, "compression.type": codec, "linger.ms": 50}), []
        for i in range(200):
            p.produce("t", key=b"k", value=b"%s-%d" % (codec.encode(), i), on_delivery=lambda e, _: errors.append(e))
            want.append(b"%s-%d" % (codec.encode(), i))
        assert p.flush(60) == 0 and errors == [None] * 200
    c = confluent_kafka.Consumer({**common, "group.id": "none", "enable.auto.commit": False, "fetch.wait.max.ms": 100})
    c.assign([confluent_kafka.TopicPartition("t", 0, 0)])
    got = []
    while len(got) < len(want):
        m = c.poll(60)
        assert m is not None and m.error() is None, m and m.error()
        got.append((m.offset(), m.value()))
    c.close()
    assert got == list(enumerate(want))


def test_what_was_converted_survives_a_kill(broker):
    with Wire(broker.port) as w:
        topic = create(w, "t")
        records = some_records(500)
        assert produce(w, 2, topic, message_set(1, LZ4, records)) == (0, 0)
        assert produce(w, 0, topic, message_set(0, NONE, records)) == (0, 500)
    broker.restart(kill=True)
    with Wire(broker.port) as w:
        for reader in (1, 2, 4):
            seen, _ = read_any(reader, fetch_one(w, reader, topic)[2])
            assert seen == expected(records, reader, 1) + expected(records, reader, 0, 500)
