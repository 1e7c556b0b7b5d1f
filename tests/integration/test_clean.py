"""Log compaction as clients see it: kafka-python and librdkafka write and read compacted topics; the same in a real Kafka, beside it."""

import json
import random
import subprocess
import sys
import time
import urllib.request

import confluent_kafka
import kafka
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import harness
import kafka_server
from wire import Wire

# Looked at often, and quickly in objects: nothing is compacted before it is there.
SETTINGS = {"log.cleaner.backoff.ms": "100", "upload.interval.ms": "100", "auto.create.topics.enable": "false", "http.listen": "127.0.0.1:0"}
KEYS = 40


def create(address, topic, partitions=1, **configs):
    given = {"cleanup.policy": "compact", "segment.bytes": "20000", "min.cleanable.dirty.ratio": "0.01"}
    given.update({k.replace("_", "."): v for k, v in configs.items()})
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, partitions, 1, config=given)])[topic].result(60)
    return admin


def produce(address, topic, records, **options):
    p = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 5, "batch.num.messages": 50, **options})
    for key, value in records:
        p.produce(topic, value, key, partition=0)
        p.poll(0)
    assert p.flush(60) == 0


def some(count, seed, tombstones=0.1):
    r = random.Random(seed)
    return [(b"key%d" % r.randrange(KEYS), None if r.random() < tombstones else b"%d-" % i + bytes(r.randrange(300))) for i in range(count)]


def read(address, topic, start=0):
    """Everything from there to the end, by librdkafka: (offset, key, value, timestamp)."""
    c = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "g", "enable.partition.eof": True, "check.crcs": True,
                                  "fetch.message.max.bytes": 8000})
    c.assign([confluent_kafka.TopicPartition(topic, 0, start)])
    got = []
    try:
        while True:
            m = c.poll(60)
            assert m is not None
            if m.error():
                assert m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, m.error()
                return got
            got.append((m.offset(), m.key(), m.value(), m.timestamp()[1]))
    finally:
        c.close()


def read_python(address, topic):
    c = kafka.KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, api_version=(2, 5, 0), max_partition_fetch_bytes=5000)
    part = kafka.TopicPartition(topic, 0)
    c.assign([part])
    c.seek_to_beginning(part)
    end = c.end_offsets([part])[part]
    got = []
    while c.position(part) < end:
        for m in c.poll(1000).get(part, []):
            got.append((m.offset, m.key, m.value, m.timestamp))
    c.close()
    return got


def last_of(records):
    """The offset of the newest record of each key."""
    return {key: i for i, (key, _) in enumerate(records)}


def check(got, records, tombstones_gone=False):
    """Whatever compaction has done: right offsets, in order, the newest of each key there."""
    offsets = [g[0] for g in got]
    assert offsets == sorted(set(offsets))
    for offset, key, value, _ in got:
        assert (key, value) == records[offset]
    there = set(offsets)
    for key, offset in last_of(records).items():
        if records[offset][1] is not None or not tombstones_gone:
            assert offset in there, (key, offset)


def compacted_to(broker, topic):
    lines = [x for x in broker.log().splitlines() if 'msg="log compacted"' in x and f"topic={topic} " in x]
    return max([int(x.split(" clean_to=")[1].split()[0]) for x in lines], default=0)


def settled(broker, topic):
    """What is there when no pass follows any more."""
    def look():
        before, got = compacted_to(broker, topic), read(broker.address, topic)
        time.sleep(1)
        return got if compacted_to(broker, topic) == before else None
    return harness.eventually(look, 60)


def old_keys(got, below):
    """Keys that are there twice below an offset."""
    keys = [g[1] for g in got if g[0] < below]
    return len(keys) - len(set(keys))


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_newest_of_each_key(brokers, codec):
    broker = brokers(SETTINGS)
    create(broker.address, "t")
    records = some(3000, codec)
    produce(broker.address, "t", records, **{"compression.type": codec, "enable.idempotence": codec in ("none", "lz4")})
    # Codecs make segments out of few bytes: how far it comes is told by the log. What is younger than a segment stays.
    wanted = 1500 if codec == "none" else 300
    harness.eventually(lambda: compacted_to(broker, "t") >= wanted, 60)
    got = settled(broker, "t")
    check(got, records)
    assert old_keys(got, compacted_to(broker, "t")) == 0
    if codec in ("none", "gzip"):  # the others need libraries that Debian does not bring along
        assert read_python(broker.address, "t") == got
    # From the middle of gaps.
    for start in range(0, 3000, 371):
        assert read(broker.address, "t", start) == [g for g in got if g[0] >= start]
    # Where the log ends, and what is the newest, has not changed.
    with Wire(broker.port) as w:
        assert w.list_offsets("t", 0, -1)[2] == 3000
        assert w.list_offsets("t", 0, -2)[2] == 0
    before = got
    broker.restart(kill=codec == "gzip")
    got = read(broker.address, "t")
    check(got, records)
    assert set(g[0] for g in got) <= set(g[0] for g in before)


def metric(broker, name):
    text = urllib.request.urlopen(broker.http + "/metrics", timeout=30).read().decode()
    return sum(float(x.split()[-1]) for x in text.splitlines() if x.startswith(name))


def test_tombstones_and_horizon(brokers):
    broker = brokers(SETTINGS)
    create(broker.address, "t", delete_retention_ms="3000")
    gone = [(b"gone%d" % i, b"x" * 400) for i in range(30)] + [(b"gone%d" % i, None) for i in range(30)]
    fill = [(b"key%d" % (i % KEYS), b"%d" % i + b"y" * 300) for i in range(200)]
    produce(broker.address, "t", gone + fill)
    harness.eventually(lambda: compacted_to(broker, "t") > 60, 60)
    began = time.monotonic()
    got = read(broker.address, "t")
    if time.monotonic() - began < 2:
        check(got, gone + fill)  # the tombstones are all there
    assert not any(key.startswith(b"gone") and value is not None for _, key, value, _ in got)
    records = gone + fill
    time.sleep(3.5)

    def tombstones():
        more = [(b"key%d" % (i % KEYS), b"z" * 300) for i in range(100)]
        produce(broker.address, "t", more)
        records.extend(more)
        return not any(value is None for _, _, value, _ in read(broker.address, "t"))
    harness.eventually(tombstones, 60, 0.3)
    check(read(broker.address, "t"), records, tombstones_gone=True)
    assert metric(broker, "oxbow_log_cleaner_passes_total") >= 2
    assert metric(broker, "oxbow_log_cleaner_uncleanable_partitions") == 0
    assert metric(broker, "oxbow_log_cleaner_map_bytes") == 0
    after, before = metric(broker, "oxbow_log_cleaner_bytes_after_total"), metric(broker, "oxbow_log_cleaner_bytes_before_total")
    assert 0 < after < before


def test_lags_and_ratio(brokers):
    """A record that is too young, or too little that is dirty: nothing is compacted, until a configuration says so."""
    broker = brokers(SETTINGS)
    admin = create(broker.address, "young", min_compaction_lag_ms="3600000")
    create(broker.address, "lazy", min_cleanable_dirty_ratio="1.0")
    create(broker.address, "kept", cleanup_policy="delete")
    records = some(1000, "lags")
    for topic in ("young", "lazy", "kept"):
        produce(broker.address, topic, records)
    time.sleep(2)
    for topic in ("young", "lazy", "kept"):
        assert compacted_to(broker, topic) == 0
        assert len(read(broker.address, topic)) == 1000
    for topic, value in (("young", {"min.compaction.lag.ms": "0", "min.cleanable.dirty.ratio": "0"}), ("lazy", {"max.compaction.lag.ms": "1"}),
                         ("kept", {"cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": "0"})):
        resource = ConfigResource("topic", topic, set_config=dict(value, **{"segment.bytes": "20000"}))
        admin.alter_configs([resource])[resource].result(60)
        if topic != "kept":  # alter_configs sets all of them anew
            resource = ConfigResource("topic", topic, set_config=dict(value, **{"segment.bytes": "20000", "cleanup.policy": "compact"}))
            admin.alter_configs([resource])[resource].result(60)
    for topic in ("young", "lazy", "kept"):
        harness.eventually(lambda t=topic: compacted_to(broker, t) > 0, 60)
        check(read(broker.address, topic), records)


def test_committed_offsets_are_compacted(brokers):
    """__consumer_offsets is a compacted topic like others; coordinators know what was committed all the same."""
    broker = brokers({**SETTINGS, "offsets.topic.num.partitions": "1", "offsets.topic.segment.bytes": "4000", "log.cleaner.min.cleanable.ratio": "0.01",
                      "group.initial.rebalance.delay.ms": "0"})
    create(broker.address, "t")
    c = confluent_kafka.Consumer({"bootstrap.servers": broker.address, "group.id": "g", "enable.auto.commit": False})
    for i in range(400):
        c.commit(offsets=[confluent_kafka.TopicPartition("t", 0, i)], asynchronous=False)
    harness.eventually(lambda: compacted_to(broker, "__consumer_offsets") > 100, 60)
    assert c.committed([confluent_kafka.TopicPartition("t", 0)], 30)[0].offset == 399
    c.close()
    harness.eventually(lambda: len(read(broker.address, "__consumer_offsets")) < 200, 60)
    broker.restart(kill=True)
    c = confluent_kafka.Consumer({"bootstrap.servers": broker.address, "group.id": "g"})
    assert c.committed([confluent_kafka.TopicPartition("t", 0)], 30)[0].offset == 399
    c.close()


def test_switched_off(brokers):
    broker = brokers({**SETTINGS, "log.cleaner.enable": "false"})
    create(broker.address, "t")
    produce(broker.address, "t", some(1000, "off"))
    time.sleep(1.5)
    assert len(read(broker.address, "t")) == 1000 and compacted_to(broker, "t") == 0


@pytest.mark.parametrize("release", kafka_server.versions.KAFKAS)
def test_beside_kafka(folder, brokers, release):
    """The same batches to both: what compaction leaves below the active segment is the same."""
    theirs = kafka_server.Kafka(folder + "/kafka", release, {"log.cleaner.enable": "true", "log.cleaner.backoff.ms": "200", "log.cleaner.threads": "1",
                                                            "log.cleaner.dedupe.buffer.size": "10000000", "auto.create.topics.enable": "false"})
    ours = brokers(SETTINGS)
    try:
        address = f"127.0.0.1:{theirs.start().port}"
        harness.eventually(lambda: harness.oxbow("topic", "list", "--bootstrap-server", address)[0] == 0, 60, 0.5)
        records = some(2000, "beside")
        # One batch a segment in each, so that the segments are the same.
        last = (b"last", b"x")
        for a in (ours.address, address):
            create(a, "t", segment_bytes="2000000", segment_ms="1000000000")
            p = kafka.KafkaProducer(bootstrap_servers=a, batch_size=1 << 20, linger_ms=1000, api_version=(2, 5, 0))
            for at in range(0, 2000, 100):
                for key, value in records[at:at + 100]:
                    p.send("t", value, key, partition=0, timestamp_ms=1700000000000 + at)
                p.flush()
            p.send("t", last[1], last[0], partition=0, timestamp_ms=1700000000000 + 2000000000)  # rolls by time
            p.flush()
            p.close()
        newest = sorted(last_of(records).values()) + [2000]
        for a in (ours.address, address):
            got = harness.eventually(lambda x=a: (lambda g: g if len(g) == len(newest) else None)(read(x, "t")), 120, 0.5)
            assert [g[0] for g in got] == newest
            check(got, records + [last])
        assert read(ours.address, "t") == read(address, "t")
    finally:
        theirs.end()
