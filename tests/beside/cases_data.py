"""Finding brokers, writing and reading records."""

import time

import compare
from cases_common import (T0, fetch, fetch_fields, fill, in_format, known_id, message_set, produce, produce_fields, records, topic)

THREE = [(b"k0", b"v0"), (None, b"v1"), (b"k2", None)]
NAMES = ["", ".", "..", "with space", "a/b", "x" * 249, "x" * 250, "é"]
NOBODY = b"\x07" * 16


def api_versions(c):
    for v in c.versions("ApiVersions"):
        c.call("served", "ApiVersions", v, client_software_name="beside", client_software_version="1")
    for v in c.versions("ApiVersions", 3):
        for name in ("", "-x", "x y", "é", "x" * 1000):
            c.call(f"software {name[:8]!r}", "ApiVersions", v, client_software_name=name, client_software_version="1")
            c.call(f"software version {name[:8]!r}", "ApiVersions", v, client_software_name="x", client_software_version=name)
    c.call("a version from the future", "ApiVersions", 99)


def metadata_empty(c):
    for v in c.versions("Metadata"):
        c.call("no topics at all", "Metadata", v, topics=[] if v == 0 else None)


def metadata(c):
    one, _ = topic(c, "meta-1"), topic(c, "meta-3", 3)
    for v in c.versions("Metadata"):
        c.call("all", "Metadata", v, topics=[] if v == 0 else None, allow_auto_topic_creation=False)
        if v >= 1:
            c.call("none", "Metadata", v, topics=[])
        c.call("one", "Metadata", v, topics=[{"name": "meta-3"}])
        c.call("twice", "Metadata", v, topics=[{"name": "meta-3"}, {"name": "meta-3"}])
        if v == 0:
            c.call("null", "Metadata", v, topics=None)
        if v < 10:
            c.call("null name", "Metadata", v, topics=[{"name": None}], allow_auto_topic_creation=False)
    for v in c.versions("Metadata", 4):
        c.call("unknown", "Metadata", v, topics=[{"name": "nobody"}, {"name": "meta-1"}], allow_auto_topic_creation=False)
        for name in NAMES:
            answer = c.call(f"name {name[:3]!r} of {len(name)}", "Metadata", v, topics=[{"name": name}], allow_auto_topic_creation=v == 13)
            c.learn(answer["topics"][0].get("topic_id"), f"id of {name}")
    for v in c.versions("Metadata", 8):
        c.call("operations", "Metadata", v, topics=[{"name": "meta-1"}, {"name": "nobody"}], allow_auto_topic_creation=False,
               include_topic_authorized_operations=True)
        if v <= 10:
            c.call("cluster operations", "Metadata", v, topics=[], include_cluster_authorized_operations=True)
    for v in c.versions("Metadata", 10):
        c.call("null name, no id", "Metadata", v, topics=[{"name": None}], allow_auto_topic_creation=False)
        c.call("id", "Metadata", v, topics=[{"name": None, "topic_id": one}], allow_auto_topic_creation=False)
        c.call("unknown id", "Metadata", v, topics=[{"name": None, "topic_id": NOBODY}], allow_auto_topic_creation=False)
        c.call("id and name", "Metadata", v, topics=[{"name": "meta-3", "topic_id": one}], allow_auto_topic_creation=False)
        c.call("id, and another's name", "Metadata", v, topics=[{"name": None, "topic_id": one}, {"name": "meta-3"}],
               allow_auto_topic_creation=False)


def find_coordinator(c):
    # The first request makes the topic of the offsets, and until it is there Kafka asks to come again.
    for kind in (0, 1):
        compare.wait_for(lambda: c.ask("FindCoordinator", 1, key="warm", key_type=kind)["error_code"] != 15)  # noqa: B023
    for v in c.versions("FindCoordinator", 0, 3):
        for kind in (0, 1, 2, 9) if v >= 1 else (0,):
            c.call(f"kind {kind}", "FindCoordinator", v, key="some", key_type=kind)
            c.call(f"kind {kind}, empty key", "FindCoordinator", v, key="", key_type=kind)
        c.call("null key", "FindCoordinator", v, key=None)
    for v in c.versions("FindCoordinator", 4):
        for kind in (0, 1, 2, 9):
            c.call(f"kind {kind}", "FindCoordinator", v, coordinator_keys=["some"], key_type=kind)
        c.call("several", "FindCoordinator", v, coordinator_keys=["a", "", "b", "a"])
        c.call("none", "FindCoordinator", v, coordinator_keys=[])
        c.call("a share key", "FindCoordinator", v, coordinator_keys=["group:AAAAAAAAAAAAAAAAAAAAAQ:0", "group:x:y"], key_type=2)


def produce_versions(c):
    for v in c.versions("Produce"):
        name = f"produce-{v}"
        topic(c, name, 2)
        data = in_format(v, THREE)
        for acks in (1, -1):
            produce(c, f"acks {acks}", v, name, data, acks=acks)
        if v < 3:
            produce(c, "gzip", v, name, message_set(1 if v == 2 else 0, THREE, 1), partition=1)
        c.send("Produce", v, **produce_fields(c, name, data, acks=0))
        produce(c, "after acks 0", v, name, data)
        produce(c, "acks 2", v, name, data, acks=2)
        produce(c, "no such partition", v, name, data, partition=2)
        produce(c, "partition -1", v, name, data, partition=-1)
        produce(c, "no such topic", v, "nobody", data)
        # Null records are not sent: Kafka never answers them.
        produce(c, "no records", v, name, b"")
        produce(c, "cut short", v, name, data[:-3])
        produce(c, "bytes behind", v, name, data + b"\0\0\0")
        damaged = bytearray(data)
        damaged[-1] ^= 1
        produce(c, "damaged", v, name, bytes(damaged))
        c.call("empty", "Produce", v, acks=-1, timeout_ms=1000, topic_data=[])
        c.call("topic without partitions", "Produce", v, acks=-1, timeout_ms=1000,
               topic_data=[{"name": name, "topic_id": known_id(c, name), "partition_data": []}])
        both = produce_fields(c, name, data)
        both["topic_data"][0]["partition_data"] *= 2
        c.call("a partition twice", "Produce", v, **both)
        if v >= 3:
            produce(c, "negative time-out", v, name, data, transactional_id=None)
            c.call("transactional, unknown", "Produce", v, transactional_id="no-one", **produce_fields(c, name, records(THREE, pid=77, epoch=0, sequence=0, attributes=16)))
        fetch(c, "what is there", max(c.versions("Fetch", 4, 12)), name)


def produce_old_magic(c):
    """Message sets where batches belong, and the other way round."""
    topic(c, "magic")
    for v in c.versions("Produce"):
        for magic in (0, 1, 2):
            data = records(THREE) if magic == 2 else message_set(magic, THREE)
            if (v >= 3) != (magic == 2):
                produce(c, f"magic {magic}", v, "magic", data)
    fetch(c, "what is there", max(c.versions("Fetch", 4, 12)), "magic")


def produce_bad_batches(c):
    topic(c, "bad", 40)  # a partition for each probe: one that only one side takes shall not shift the offsets of the next
    topic(c, "small", configs={"max.message.bytes": "200"})
    topic(c, "compact", configs={"cleanup.policy": "compact"})
    topic(c, "append", configs={"message.timestamp.type": "LogAppendTime"})
    topic(c, "late", configs={"message.timestamp.before.max.ms": "1000"})
    topic(c, "segment", configs={"segment.bytes": "1048576", "max.message.bytes": "3000000"})
    large = records([(None, b"x" * 2000000)])
    for v in c.versions("Produce", 3):
        one, partitions = records(THREE), iter(range(40))

        def bad(note, data, v=v, partitions=partitions):
            produce(c, note, v, "bad", data, partition=next(partitions))
        bad("two batches", one + one)
        bad("base offset 5", records(THREE, base_offset=5))
        bad("wrong count", records(THREE, count=2))
        bad("count 0", records([]))
        bad("count -1", records(THREE, count=-1))
        bad("control batch", records([(b"\0\0\0\1", b"\0\0\0\0\0\0")], attributes=32))
        bad("transactional bit without an id", records(THREE, attributes=16))
        bad("log append bit", records(THREE, attributes=8))
        bad("unknown codec", records(THREE, attributes=7))
        bad("unknown attribute", records(THREE, attributes=1 << 10))
        bad("gzip", records(THREE, attributes=1))
        bad("sequence missing", records(THREE, pid=1, epoch=0, sequence=-1))
        bad("epoch missing", records(THREE, pid=1, epoch=-1, sequence=0))
        bad("headers", records(THREE, headers=[(b"h", b"1"), (b"", b"")]))
        bad("from the future", records(THREE, timestamp=T0 * 10))
        bad("no time", records(THREE, timestamp=-1))
        produce(c, "too late", v, "late", one)
        produce(c, "too large", v, "small", records([(None, b"x" * 300)]))
        produce(c, "larger than a segment", v, "segment", large)
        produce(c, "no key", v, "compact", records(THREE))
        produce(c, "no key at all", v, "compact", records([(None, b"x"), (None, b"y"), (b"z", b"")]))
        produce(c, "broker's time", v, "append", one)
    fetch(c, "what is in compact", max(c.versions("Fetch", 4, 12)), "compact")


def produce_idempotent(c):
    now = int(time.time() * 1000)  # Kafka forgets producers by the time of their records
    for v in c.versions("Produce", 3):
        name = f"idem-{v}"
        topic(c, name)
        pid = -1
        while pid < 0:  # Kafka's broker fetches a block of ids first
            pid = c.ask("InitProducerId", 0, transactional_id=None, transaction_timeout_ms=60000)["producer_id"]
        c.learn(("producer_id", pid), f"producer of {name}")

        def put(note, sequence, epoch=0, n=2, who=None):
            pairs = [(b"k", str(sequence + i).encode()) for i in range(n)]
            produce(c, note, v, name, records(pairs, pid=pid if who is None else who, epoch=epoch, sequence=sequence, timestamp=now))  # noqa: B023
        put("starts at 4", 4)
        put("goes on", 6)
        put("repeated", 6)
        put("gap", 10)
        put("back", 5)
        for s in (8, 10, 12, 14, 16):
            put(f"sequence {s}", s)
        put("a repetition still known", 8)
        put("a repetition forgotten", 4)
        put("repeated with another count", 16, n=1)
        put("new epoch in the middle", 18, epoch=1)
        put("new epoch", 0, epoch=1)
        put("old epoch", 18, epoch=0)
        put("last sequence", 2**31 - 2, epoch=2)
        put("unknown producer", 5, who=pid + 1000000)
        if v == max(c.versions("Produce", 3)) and c.versions("DescribeProducers"):
            c.call("remembered", "DescribeProducers", 0, topics=[{"name": name, "partition_indexes": [0]}])


def init_producer_id(c):
    for v in c.versions("InitProducerId"):
        c.call("new", "InitProducerId", v, transactional_id=None, transaction_timeout_ms=60000)
        c.call("time-out 0", "InitProducerId", v, transactional_id=None, transaction_timeout_ms=0)
        c.call("empty id", "InitProducerId", v, transactional_id="", transaction_timeout_ms=60000)
    for v in c.versions("InitProducerId", 3):
        c.call("again", "InitProducerId", v, transactional_id=None, transaction_timeout_ms=60000, producer_id=5, producer_epoch=3)
        c.call("id without epoch", "InitProducerId", v, transactional_id=None, transaction_timeout_ms=60000, producer_id=5)
        c.call("epoch without id", "InitProducerId", v, transactional_id=None, transaction_timeout_ms=60000, producer_epoch=5)


def fetch_versions(c):
    topic(c, "fetch", 2)
    for i in range(3):
        fill(c, "fetch", records([(b"k%d" % i, b"v%d" % i), (None, b"x" * 50), (b"n", None)], headers=[(b"h", b"1")], timestamp=T0 + 10 * i))
    fill(c, "fetch", records(THREE, attributes=1))
    for v in c.versions("Fetch"):
        for offset in (0, 1, 3, 8, 11, 12, 13, -1):
            fetch(c, f"offset {offset}", v, "fetch", offset, minimum=0)
        fetch(c, "empty partition", v, "fetch", partition=1, minimum=0)
        fetch(c, "no such partition", v, "fetch", partition=2)
        fetch(c, "no such topic", v, "nobody")
        for size in (1, 20, 170, 0, -1):
            fetch(c, f"{size} bytes of the partition", v, "fetch", max_bytes=size, minimum=0)
        if v >= 3:
            for size in (1, 170, 0, -1):
                fetch(c, f"{size} bytes", v, "fetch", total=size, minimum=0)
        if v >= 4:
            for level in (1, 2):
                fetch(c, f"isolation {level}", v, "fetch", isolation_level=level)
        if v >= 9:
            for epoch in (0, 5, -5):
                fetch(c, f"epoch {epoch}", v, "fetch", part={"current_leader_epoch": epoch}, minimum=0)
        if v >= 12:
            for epoch in (0, 3):
                fetch(c, f"fetched epoch {epoch}", v, "fetch", part={"last_fetched_epoch": epoch}, minimum=0)
            fetch(c, "another cluster", v, "fetch", cluster_id="not this")
        twice = fetch_fields(c, "fetch", 3)
        twice["topics"][0]["partitions"] *= 2
        c.call("a partition twice", "Fetch", v, **twice)
        c.call("nothing", "Fetch", v, max_wait_ms=0, min_bytes=0, max_bytes=1000, topics=[])
        if v >= 11:
            fetch(c, "rack", v, "fetch", 3, rack_id="somewhere")


def fetch_old_messages(c):
    """What was written in one format, read in all."""
    for v in c.versions("Produce", 0, 2):
        name = f"old-{v}"
        topic(c, name)
        for data in (in_format(v, THREE), message_set(1 if v == 2 else 0, THREE, 1), records(THREE)):
            fill_old = produce_fields(c, name, data)
            c.ask("Produce", v if data[16] != 2 else 3, **fill_old)
        for w in c.versions("Fetch"):
            for offset in (0, 1, 4, 7):
                fetch(c, f"written by {v}, offset {offset}", w, name, offset)


def fetch_sessions(c):
    topic(c, "session", 2)
    fill(c, "session", records(THREE))
    for v in c.versions("Fetch", 7):
        new = c.call("new session", "Fetch", v, **fetch_fields(c, "session", minimum=0, session_epoch=0))
        sid = new.get("session_id", 0)

        def go(note, epoch, who=None, **more):
            fields = {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20, "topics": [], **more}
            return c.call(note, "Fetch", v, session_id=sid if who is None else who, session_epoch=epoch, **fields)  # noqa: B023
        go("again", 1)
        go("nothing changed", 2)
        other = {"topic": "session", "topic_id": known_id(c, "session"), "partitions": [{"partition": 1, "fetch_offset": 0, "partition_max_bytes": 100}]}
        go("one more partition", 3, topics=[other])
        go("wrong epoch", 9)
        go("forgets", 4, forgotten_topics_data=[{"topic": "session", "topic_id": known_id(c, "session"), "partitions": [0]}])
        go("unknown session", 1, who=12345678)
        go("closes", -1)
        go("closed", 5)
        go("no session but an epoch", 3, who=0)


def list_offsets(c):
    topic(c, "offsets", 2)
    for i in range(3):
        fill(c, "offsets", records(THREE, timestamp=T0 + 100 * i))
    for v in c.versions("ListOffsets"):
        def ask(note, partition=0, timestamp=-1, name="offsets", epoch=-1, **more):
            part = {"partition_index": partition, "timestamp": timestamp, "current_leader_epoch": epoch}
            if v == 0:  # noqa: B023
                part["max_num_offsets"] = 10
            c.call(note, "ListOffsets", v, replica_id=-1, topics=[{"name": name, "partitions": [part]}], **more)  # noqa: B023
        for t in (-1, -2, -3, -4, -5, -6, -7, 0, T0, T0 + 1, T0 + 3, T0 + 100, T0 + 202, T0 + 203):
            ask(f"time {t - T0 if t >= T0 else t}", timestamp=t)
        for t in (-1, -2, -3, 0):
            ask(f"empty, time {t}", 1, t)
        ask("no such partition", 2)
        ask("no such topic", name="nobody")
        if v >= 2:
            ask("read committed", isolation_level=1)
            ask("isolation 7", isolation_level=7)
        if v >= 4:
            for epoch in (0, 4):
                ask(f"epoch {epoch}", epoch=epoch)
        part = {"partition_index": 0, "timestamp": -1}
        c.call("twice", "ListOffsets", v, replica_id=-1, topics=[{"name": "offsets", "partitions": [part, part]}])
        c.call("replica 5", "ListOffsets", v, replica_id=5, topics=[{"name": "offsets", "partitions": [part]}])
        c.call("debugger", "ListOffsets", v, replica_id=-2, topics=[{"name": "offsets", "partitions": [part]}])
        c.call("nothing", "ListOffsets", v, replica_id=-1, topics=[])


def offset_for_leader_epoch(c):
    topic(c, "epochs")
    fill(c, "epochs", records(THREE))
    for v in c.versions("OffsetForLeaderEpoch"):
        for replica in (-1, -2, 5) if v >= 3 else (-2,):
            for epoch, current, partition, name in ((0, -1, 0, "epochs"), (0, 0, 0, "epochs"), (1, -1, 0, "epochs"), (-1, -1, 0, "epochs"),
                                                    (0, 9, 0, "epochs"), (0, -1, 1, "epochs"), (0, -1, 0, "nobody")):
                part = {"partition": partition, "leader_epoch": epoch, "current_leader_epoch": current}
                c.call(f"{name} {partition}, epoch {epoch}, current {current}, replica {replica}", "OffsetForLeaderEpoch", v,
                       replica_id=replica, topics=[{"topic": name, "partitions": [part]}])


CASES = [api_versions, metadata_empty, metadata, find_coordinator, produce_versions, produce_old_magic, produce_bad_batches, produce_idempotent,
         init_producer_id, fetch_versions, fetch_old_messages, fetch_sessions, list_offsets, offset_for_leader_epoch]
