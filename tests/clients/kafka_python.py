"""The checks of kafka-python, whatever release PYTHONPATH has: see family.py. KAFKA_PYTHON_API="0,9" makes it speak as to a broker
of that version, in which case it asks for no ApiVersions and uses that broker's request versions and record format."""

import os
import sys
import threading
import time

import kafka
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as Part
from kafka.errors import KafkaError, KafkaTimeoutError, OffsetOutOfRangeError

from records import (CODECS, DATA_PARTITIONS, DATA_RECORDS, PEER_PARTITIONS, PEER_RECORDS, RESUME_AT, RESUME_PARTITIONS, RESUME_RECORDS,
                     SHARE_MORE, SHARE_PARTITIONS, SHARE_RECORDS, TIMES_RECORDS, Sharing, Skip, eventually, record, run, same)

ADDRESS, FAMILY, BASE = sys.argv[1], sys.argv[2], int(sys.argv[3])
API = tuple(int(n) for n in os.environ["KAFKA_PYTHON_API"].split(",")) if os.environ.get("KAFKA_PYTHON_API") else None
RELEASE = tuple(int(n) for n in kafka.__version__.split(".")[:3])
COMMON = {"bootstrap_servers": ADDRESS, **({"api_version": API} if API else {})}
HAS_TIMESTAMPS = not API or API >= (0, 10)
HAS_HEADERS = not API or API >= (0, 11)
HAS_ZSTD = not API and RELEASE >= (2, 0, 2)


def producer(**options):
    return KafkaProducer(**{**COMMON, "linger_ms": 5, "batch_size": 4096, "retries": 3, **options})


def consumer(**options):
    return KafkaConsumer(**{**COMMON, "group_id": None, "enable_auto_commit": False, "auto_offset_reset": "earliest", **options})


def send(p, topic, partition, n):
    key, value, headers, timestamp = record(partition, n, BASE)
    extra = {}
    if HAS_TIMESTAMPS:
        extra["timestamp_ms"] = timestamp
    if HAS_HEADERS:
        extra["headers"] = headers
    return p.send(topic, key=key, value=value, partition=partition, **extra)


def check_message(m, n):
    key, value, headers, timestamp = record(m.partition, n, BASE)
    expected = (n, key, value, headers if HAS_HEADERS else [], timestamp if HAS_TIMESTAMPS else None)
    found = (m.offset, m.key, m.value, list(m.headers or []), None if m.timestamp == -1 else m.timestamp)
    same(f"{m.topic} [{m.partition}] {n}", expected, found)


def read_all(topic, partitions, count, seconds=40):
    c = consumer()
    try:
        parts = [Part(topic, p) for p in range(partitions)]
        c.assign(parts)
        c.seek_to_beginning(*parts)
        next_offset = {p: 0 for p in range(partitions)}
        end = time.monotonic() + seconds
        while sum(next_offset.values()) < partitions * count:
            assert time.monotonic() < end, f"{topic}: only {next_offset} of {count} a partition came"
            for messages in c.poll(timeout_ms=500).values():
                for m in messages:
                    check_message(m, next_offset[m.partition])
                    next_offset[m.partition] += 1
        time.sleep(0.1)
        same("records behind the last one", {}, c.poll(timeout_ms=100))
        same("end offsets", {p: count for p in parts}, c.end_offsets(parts))
        same("beginning offsets", {p: 0 for p in parts}, c.beginning_offsets(parts))
    finally:
        c.close()


def data(codec):
    if codec == "zstd" and not HAS_ZSTD:
        raise Skip("this client has no zstd for that broker version")
    topic = f"{FAMILY}-data-{codec}"
    p = producer(compression_type=None if codec == "none" else codec, acks="all")
    try:
        sent = [(part, n, send(p, topic, part, n)) for n in range(DATA_RECORDS) for part in range(DATA_PARTITIONS)]
        p.flush(40)
        for part, n, future in sent:
            same(f"offset of {part}/{n}", n, future.get(20).offset)
    finally:
        p.close()
    read_all(topic, DATA_PARTITIONS, DATA_RECORDS)


def peer(codec):
    """What librdkafka wrote. A client that does not know zstd gets an error or nothing, but no end of the topic and no rubbish."""
    topic = f"{FAMILY}-peer-{codec}"
    if codec != "zstd" or HAS_ZSTD:
        read_all(topic, PEER_PARTITIONS, PEER_RECORDS)
        return
    try:
        read_all(topic, PEER_PARTITIONS, 1, 4)
    except Exception as e:  # an old client trips over it in its own ways
        print(f"   peer-zstd ended with {type(e).__name__}: {e}")
        assert "expected" not in str(e)
        return
    raise AssertionError("records in zstd were read by a client that does not know it")


def acks():
    topic = f"{FAMILY}-acks"
    for k, level in enumerate((0, 1, "all")):
        # In version 3 idempotence is the default, and wants acks=all.
        p = producer(acks=level, **({"enable_idempotence": False} if RELEASE >= (2, 1) else {}))
        for n in range(10 * k, 10 * k + 10):
            future = send(p, topic, 0, n)
        future.get(20)
        p.flush(20)
        p.close()
    read_all(topic, 1, 30)


def idempotent():
    if RELEASE < (2, 1) or API:
        raise Skip("this release has no idempotent producer")
    topic = f"{FAMILY}-idempotent"
    p = producer(enable_idempotence=True, acks="all", max_in_flight_requests_per_connection=5)
    sent = [send(p, topic, 0, n) for n in range(200)]
    same("offsets", list(range(200)), [f.get(20).offset for f in sent])
    p.close()
    read_all(topic, 1, 200)


class Member(threading.Thread):
    """One consumer of a group on a thread of its own: reads, commits, counts."""

    def __init__(self, sharing, name):
        super().__init__(daemon=True)
        self.sharing, self.member, self.stopping, self.error = sharing, name, False, None
        self.start()

    def run(self):
        c = None
        try:
            c = consumer(group_id=f"{FAMILY}-share", client_id=self.member, session_timeout_ms=10000, heartbeat_interval_ms=500,
                         max_poll_records=20)
            c.subscribe([f"{FAMILY}-share"])
            while not self.stopping:
                got = c.poll(timeout_ms=200)
                self.sharing.assign(self.member, {p.partition for p in c.assignment()})
                if not got:
                    continue
                try:
                    c.commit()
                except KafkaError as e:  # a rebalance came between: whoever has the partition next reads them again
                    print(f"   {self.member} could not commit: {type(e).__name__}: {e}")
                    continue
                for part, messages in got.items():
                    for m in messages:
                        check_message(m, m.offset)
                    self.sharing.done([(part.partition, m.offset) for m in messages])
        except BaseException as e:
            self.error = e
        finally:
            if c:
                c.close()
            self.sharing.gone(self.member)

    def stop(self):
        self.stopping = True
        self.join(30)


def group_share():
    sharing = Sharing()
    members = [Member(sharing, f"{FAMILY}-m{i}") for i in range(3)]

    def shared(count):
        for m in members:
            if m.error:
                raise m.error
        return sharing.is_shared(count)
    eventually(lambda: f"three members share: {sharing.assigned}", lambda: shared(3), 60)
    eventually("all was read", lambda: shared(3) and sharing.has(SHARE_RECORDS))
    sharing.check(SHARE_RECORDS)
    members.pop(1).stop()
    eventually(lambda: f"two members share: {sharing.assigned}", lambda: shared(2), 60)
    p = producer()
    for n in range(SHARE_RECORDS, SHARE_RECORDS + SHARE_MORE):
        for part in range(SHARE_PARTITIONS):
            send(p, f"{FAMILY}-share", part, n)
    p.close()
    eventually("what came later was read", lambda: shared(2) and sharing.has(SHARE_RECORDS + SHARE_MORE))
    for m in members:
        m.stop()
    sharing.check(SHARE_RECORDS + SHARE_MORE)


def group_resume():
    topic, group = f"{FAMILY}-resume", f"{FAMILY}-resume"
    parts = [Part(topic, p) for p in range(RESUME_PARTITIONS)]
    c = consumer(group_id=group, max_poll_records=7)
    c.subscribe([topic])
    seen = {p: 0 for p in parts}
    end = time.monotonic() + 60
    while min(seen.values()) < RESUME_AT:
        assert time.monotonic() < end, f"only {seen} came"
        for part, messages in c.poll(timeout_ms=500).items():
            for m in messages:
                check_message(m, seen[part])
                seen[part] += 1
    c.commit({p: offset(RESUME_AT + p.partition, f"note {p.partition}") for p in parts})
    same("committed", [RESUME_AT, RESUME_AT + 1], [c.committed(p) for p in parts])
    c.close()
    c = consumer(group_id=group)
    c.subscribe([topic])
    try:
        seen = {p: RESUME_AT + p.partition for p in parts}
        while min(seen.values()) < RESUME_RECORDS:
            assert time.monotonic() < end + 40, f"only {seen} came"
            for part, messages in c.poll(timeout_ms=500).items():
                for m in messages:
                    check_message(m, seen[part])
                    seen[part] += 1
        same("committed before", [RESUME_AT, RESUME_AT + 1], [c.committed(p) for p in parts])
        if RELEASE >= (1, 4, 8):
            found = c.committed(parts[1], metadata=True)
            same("committed metadata", "note 1", found.metadata)
    finally:
        c.close()
    # Partitions that are assigned by hand: commits without members.
    c = consumer(group_id=f"{FAMILY}-alone")
    c.assign(parts)
    c.commit({parts[0]: offset(3, "")})
    same("committed without members", [3, None], [c.committed(p) for p in parts])
    c.close()


def offset(n, metadata):
    from kafka.structs import OffsetAndMetadata
    fields = OffsetAndMetadata._fields
    return OffsetAndMetadata(n, metadata) if len(fields) == 2 else OffsetAndMetadata(n, metadata, -1)


def admin_client():
    if API and API < (0, 10, 1):
        raise Skip("this client wants a broker of 0.10.1 for administration")
    from kafka import KafkaAdminClient
    return KafkaAdminClient(bootstrap_servers=ADDRESS)  # in the old release it works only with ApiVersions


def group_admin():
    a, group = admin_client(), f"{FAMILY}-admin"
    c = consumer(group_id=group, client_id="the-member")
    c.subscribe([f"{FAMILY}-admin"])
    eventually("the member has its partition", lambda: c.poll(timeout_ms=200) is not None and c.assignment(), 60)
    c.commit({Part(f"{FAMILY}-admin", 0): offset(0, "")})
    if RELEASE >= (3,):
        def state():
            d = a.describe_groups([group])[group]
            return d["group_state"], [(m["client_id"]) for m in d["members"]]

        def names():
            return {g["group_id"] for g in a.list_groups()}

        def delete():
            found = a.delete_groups([group])[group]
            if found != "OK":
                raise getattr(kafka.errors, found)()

        def committed():
            return {p: o.offset for p, o in a.list_group_offsets(group)[group].items()}
    else:
        def state():
            d = a.describe_consumer_groups([group])[0]
            if RELEASE < (2,):  # the answer as it came
                return d[2], [m[1] for m in d[5]]
            return d.state, [m.client_id for m in d.members]

        def names():
            return {g[0] for g in a.list_consumer_groups()}

        def delete():
            if RELEASE < (2,):
                raise Skip("this release has no deletion of groups")
            code = a.delete_consumer_groups([group])[0][1]
            if code is not kafka.errors.NoError:
                raise code()

        def committed():
            return {p: o.offset for p, o in a.list_consumer_group_offsets(group).items()}
    assert group in names(), f"{group} is not listed"
    same("the group with a member", ("Stable", ["the-member"]), state())
    same("its offsets", {Part(f"{FAMILY}-admin", 0): 0}, committed())
    if RELEASE >= (2,):
        try:
            delete()
        except KafkaError as e:
            assert "NonEmptyGroup" in repr(e), repr(e)
        else:
            raise AssertionError("a group with members was deleted")
    c.close()
    same("the group without members", ("Empty", []), state())
    if RELEASE >= (2,):
        delete()
        assert group not in names(), f"{group} is still listed"
        same("the group that is gone", "Dead", state()[0])
    a.close()


def topics():
    a = admin_client()
    from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
    from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError
    name = f"{FAMILY}-made"

    def fails(error, call, *args):
        try:
            call(*args)
        except error:
            return
        raise AssertionError(f"no {error.__name__}")
    a.create_topics([NewTopic(name, 2, 1, topic_configs={"retention.ms": "123456"})])
    fails(TopicAlreadyExistsError, a.create_topics, [NewTopic(name, 2, 1)])
    c = consumer()
    eventually("the new topic is known", lambda: c.partitions_for_topic(name) == {0, 1})
    if RELEASE >= (3,):
        a.create_partitions({name: 4})
    else:
        a.create_partitions({name: NewPartitions(4)})

    def partitions():
        again = consumer()
        try:
            return again.partitions_for_topic(name)
        finally:
            again.close()
    eventually("the topic has four partitions", lambda: partitions() == {0, 1, 2, 3})
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    same("retention.ms", "123456", config_of(a.describe_configs([resource]), name)["retention.ms"])
    a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs={"max.message.bytes": "54321"})])
    found = config_of(a.describe_configs([resource]), name)
    same("max.message.bytes", "54321", found["max.message.bytes"])
    # AlterConfigs puts back what it does not name; later releases use IncrementalAlterConfigs.
    same("retention.ms is still what it was", RELEASE >= (3,), found["retention.ms"] == "123456")
    a.delete_topics([name])
    eventually("the topic is gone", lambda: not partitions())
    fails(UnknownTopicOrPartitionError, a.delete_topics, [name])
    c.close()
    a.close()


def config_of(answer, name):
    """{config: value}, whatever the release returns."""
    if isinstance(answer, dict):
        return {k: v["value"] if isinstance(v, dict) else v for k, v in answer["topic"][name].items()}
    answers = answer if isinstance(answer, list) else [answer]
    return {entry[0]: entry[1] for a in answers for r in a.resources if r[3] == name for entry in r[4]}


def times():
    topic = f"{FAMILY}-times"
    part = Part(topic, 0)
    c = consumer(auto_offset_reset="none")
    try:
        c.assign([part])
        for at in (70, 0, TIMES_RECORDS - 1):
            c.seek(part, at)
            check_message(next(c), at)
            same("position", at + 1, c.position(part))
        c.seek(part, TIMES_RECORDS + 1000)
        try:
            eventually("an answer", lambda: c.poll(timeout_ms=300), 10)
        except OffsetOutOfRangeError:
            pass
        else:
            raise AssertionError("an offset behind the end was read")
        same("end", {part: TIMES_RECORDS}, c.end_offsets([part]))
        if API and API < (0, 10, 1):
            return
        for ask, offset_there in ((BASE, 0), (BASE + 500, 50), (BASE + 501, 51), (1, 0)):
            found = c.offsets_for_times({part: ask})[part]
            same(f"offset for {ask - BASE}", (offset_there, BASE + 10 * offset_there), (found.offset, found.timestamp))
        same("offset for later", None, c.offsets_for_times({part: BASE + 10 * TIMES_RECORDS})[part])
    finally:
        c.close()


def unknown_topic():
    name = f"{FAMILY}-nowhere"
    p = producer(max_block_ms=2000)
    try:
        p.send(name, b"x").get(10)
    except (KafkaTimeoutError, KafkaError):
        pass
    else:
        raise AssertionError("a record went to a topic that is not there")
    p.close()
    c = consumer()
    assert not c.partitions_for_topic(name)
    assert f"{FAMILY}-times" in c.topics() and name not in c.topics()
    c.close()


run({"group-share": group_share, "group-resume": group_resume, "group-admin": group_admin, "topics": topics,
     "unknown-topic": unknown_topic, "times": times, "acks": acks, "idempotent": idempotent,
     **{f"data-{c}": lambda c=c: data(c) for c in CODECS}, **{f"peer-{c}": lambda c=c: peer(c) for c in CODECS}}, threads=6)
