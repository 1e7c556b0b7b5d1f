"""The checks of librdkafka as Debian has it, through confluent-kafka, and of kcat: see family.py. Members of groups are processes of
their own here, so that one can be killed: the others must take over when its session ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from records import (CODECS, DATA_PARTITIONS, DATA_RECORDS, PEER_PARTITIONS, PEER_RECORDS, RESUME_AT, RESUME_PARTITIONS, RESUME_RECORDS,
                     SHARE_MORE, SHARE_PARTITIONS, SHARE_RECORDS, TIMES_RECORDS, Sharing, eventually, record, run, same)

ADDRESS, FAMILY, BASE = sys.argv[1], sys.argv[2], int(sys.argv[3])
COMMON = {"bootstrap.servers": ADDRESS, "topic.metadata.refresh.interval.ms": 1000}


def consumer(**options):
    settings = {"group.id": f"{FAMILY}-none", "enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100,
                "session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    return Consumer({**COMMON, **settings, **{k.replace("_", "."): v for k, v in options.items()}})


def check_message(m, n):
    assert not m.error(), m.error()
    key, value, headers, timestamp = record(m.partition(), n, BASE)
    same(f"{m.topic()} [{m.partition()}] {n}", (n, key, value, headers, timestamp), (m.offset(), m.key(), m.value(), m.headers() or [], m.timestamp()[1]))


def write(topic, partitions, start, end, offsets=True, **options):
    errors = []
    p = Producer({**COMMON, "linger.ms": 5, "batch.num.messages": 20, "message.timeout.ms": 40000, "max.in.flight": 1,
                  **{k.replace("_", "."): v for k, v in options.items()}})

    def delivered(n):
        def report(error, m):
            if error or offsets and m.offset() != n:
                errors.append(f"record {n}: {error or m.offset()}")
        return report
    for n in range(start, end):
        for part in range(partitions):
            key, value, headers, timestamp = record(part, n, BASE)
            p.produce(topic, partition=part, key=key, value=value, headers=headers, timestamp=timestamp, on_delivery=delivered(n))
            p.poll(0)
    left = p.flush(45)
    assert not left and not errors, f"{left} not delivered, {errors[:3]}"


def read_all(topic, partitions, count):
    c = consumer(enable_partition_eof=True)
    try:
        c.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        next_offset, ended = [0] * partitions, set()
        end = time.monotonic() + 40
        while len(ended) < partitions:
            assert time.monotonic() < end, f"{topic}: only {next_offset} of {count} a partition came"
            m = c.poll(1)
            if m is None:
                continue
            if m.error():
                assert m.error().code() == KafkaError._PARTITION_EOF, m.error()
                ended.add(m.partition())
                continue
            check_message(m, next_offset[m.partition()])
            next_offset[m.partition()] += 1
        same(f"records of {topic}", [count] * partitions, next_offset)
        for p in range(partitions):
            same("offsets", (0, count), c.get_watermark_offsets(TopicPartition(topic, p), timeout=20))
    finally:
        c.close()


def data(codec):
    write(f"{FAMILY}-data-{codec}", DATA_PARTITIONS, 0, DATA_RECORDS, compression_type=codec)
    read_all(f"{FAMILY}-data-{codec}", DATA_PARTITIONS, DATA_RECORDS)


def acks():
    for k, level in enumerate(("0", "1", "all")):
        write(f"{FAMILY}-acks", 1, 10 * k, 10 * k + 10, offsets=level != "0", acks=level)
        time.sleep(0.2)  # nobody tells when acks=0 is in; the next producer must come later
    read_all(f"{FAMILY}-acks", 1, 30)


def idempotent():
    write(f"{FAMILY}-idempotent", 1, 0, 200, enable_idempotence=True, max_in_flight=5, batch_num_messages=3)
    read_all(f"{FAMILY}-idempotent", 1, 200)


# --- Groups. A member is this program again: it tells what it does in lines of JSON.

def member(group, topic, strategy, instance):
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))

    def tell(what, content):
        print(json.dumps([what, content]), flush=True)
    c = consumer(group_id=group, client_id="member", partition_assignment_strategy=strategy, **({"group_instance_id": instance} if instance else {}))
    if strategy == "cooperative-sticky":
        def assigned(c, parts):
            c.incremental_assign(parts)
            tell("gained", [p.partition for p in parts])

        def revoked(c, parts):
            c.incremental_unassign(parts)
            tell("lost", [p.partition for p in parts])
    else:
        def assigned(c, parts):
            c.assign(parts)
            tell("gained", [p.partition for p in parts])

        def revoked(c, parts):
            c.unassign()
            tell("lost", [p.partition for p in parts])
    c.subscribe([topic], on_assign=assigned, on_revoke=revoked)
    while not stopping:
        messages = c.consume(20, 0.2)
        if not messages:
            continue
        for m in messages:
            check_message(m, m.offset())
        last = {m.partition(): m.offset() + 1 for m in messages}
        try:
            done = c.commit(offsets=[TopicPartition(topic, p, o) for p, o in last.items()], asynchronous=False)
            assert all(not p.error for p in done), done
        except KafkaException as e:
            tell("note", str(e))
            continue
        tell("read", [[m.partition(), m.offset()] for m in messages])
    c.close()


class Member:
    def __init__(self, sharing, name, group, strategy, instance=None):
        self.sharing, self.name, self.notes = sharing, name, []
        self.process = subprocess.Popen([sys.executable, __file__, ADDRESS, FAMILY, str(BASE), "member", group, f"{FAMILY}-share", strategy, instance or ""],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.mine = set()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            try:
                what, content = json.loads(line)
            except ValueError:
                self.notes.append(line.rstrip())
                continue
            if what == "read":
                self.sharing.done([tuple(x) for x in content])
            elif what == "note":
                self.notes.append(content)
            else:
                self.mine = self.mine | set(content) if what == "gained" else self.mine - set(content)
                self.sharing.assign(self.name, self.mine)

    def alive(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}: {self.notes[-20:]}"

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        status = self.process.wait(40)
        self.reader.join(10)
        self.sharing.gone(self.name)
        assert status in (0, -signal.SIGKILL), f"{self.name} ended with {status}: {self.notes[-20:]}"


def group_share(strategy):
    """Three share; one leaves; one is killed: the last has everything."""
    sharing, group = Sharing(), f"{FAMILY}-share-{strategy}"
    members = [Member(sharing, f"m{i}", group, strategy) for i in range(3)]

    def shared(count):
        for m in members:
            m.alive()
        return sharing.is_shared(count)
    try:
        eventually(lambda: f"three members share: {sharing.assigned}", lambda: shared(3), 60)
        eventually("all was read", lambda: shared(3) and sharing.has(SHARE_RECORDS))
        sharing.check(SHARE_RECORDS)
        members.pop(1).end()
        eventually(lambda: f"two members share: {sharing.assigned}", lambda: shared(2), 60)
        MORE[strategy].set()
        MORE_WRITTEN.wait(60)
        eventually("what came later was read", lambda: shared(2) and sharing.has(SHARE_RECORDS + SHARE_MORE))
        sharing.check(SHARE_RECORDS + SHARE_MORE)
        members.pop(0).end(signal.SIGKILL)
        eventually(lambda: f"one member has all: {sharing.assigned}", lambda: shared(1), 60)
        members.pop().end()
        sharing.check(SHARE_RECORDS + SHARE_MORE)
    finally:
        MORE[strategy].set()
        for m in members:
            m.end(signal.SIGKILL)


# Two groups read the same topic: more is written to it when both are ready for it.
MORE = {"range": threading.Event(), "cooperative-sticky": threading.Event()}
MORE_WRITTEN = threading.Event()


def write_more():
    for event in MORE.values():
        event.wait(120)
    write(f"{FAMILY}-share", SHARE_PARTITIONS, SHARE_RECORDS, SHARE_RECORDS + SHARE_MORE)
    MORE_WRITTEN.set()


def group_static():
    """A static member that comes back keeps its partitions; the others see no rebalance."""
    sharing, group = Sharing(), f"{FAMILY}-static"
    members = [Member(sharing, f"s{i}", group, "range", f"instance-{i}") for i in range(2)]
    try:
        eventually(lambda: f"two members share: {sharing.assigned}", lambda: sharing.is_shared(2), 60)
        before = set(members[0].mine)
        lost = []
        other = members[1]
        kept = set(other.mine)
        members[0].end()
        members[0] = Member(sharing, "s0", group, "range", "instance-0")

        def back():
            if other.mine != kept:
                lost.append(set(other.mine))
            return sharing.is_shared(2)
        eventually(lambda: f"the static member is back: {sharing.assigned}", back, 30)
        same("its partitions", before, members[0].mine)
        same("what the other had meanwhile", [], lost)
    finally:
        for m in members:
            m.end(signal.SIGKILL)


def group_resume():
    topic = group = f"{FAMILY}-resume"
    parts = range(RESUME_PARTITIONS)

    def read(seen, until):
        c = consumer(group_id=group)
        c.subscribe([topic])
        end = time.monotonic() + 60
        while min(seen) < until:
            assert time.monotonic() < end, f"only {seen} came"
            m = c.poll(1)
            if m is not None and (seen[m.partition()] < until or until == RESUME_RECORDS):
                check_message(m, seen[m.partition()])
                seen[m.partition()] += 1
        return c
    c = read([0, 0], RESUME_AT)
    done = c.commit(offsets=[TopicPartition(topic, p, RESUME_AT + p) for p in parts], asynchronous=False)
    same("errors of the commit", [None, None], [p.error for p in done])
    c.close()
    c = read([RESUME_AT, RESUME_AT + 1], RESUME_RECORDS)
    same("committed", [RESUME_AT, RESUME_AT + 1], [p.offset for p in c.committed([TopicPartition(topic, p) for p in parts], timeout=20)])
    c.close()


def group_admin():
    """Debian's confluent-kafka lists groups, with their members and assignments; deleting them came later."""
    admin, group = AdminClient(COMMON), f"{FAMILY}-admin"

    def find():
        found = admin.list_groups(group, timeout=20)
        return found[0] if found else None
    c = consumer(group_id=group, client_id="the-member")
    c.subscribe([group])
    eventually("the member has its partition", lambda: c.poll(0.2) is not None or c.assignment(), 60)
    g = find()
    same("the group", ("Stable", "consumer", "range", ["the-member"]), (g.state, g.protocol_type, g.protocol, [m.client_id for m in g.members]))
    assert group in {x.id for x in admin.list_groups(timeout=20)}, "it is not listed"
    c.close()
    same("the group without members", ("Empty", 0), (find().state, len(find().members)))


def topics():
    admin, name = AdminClient(COMMON), f"{FAMILY}-made"

    def fails(code, futures):
        try:
            futures[name].result(20)
        except KafkaException as e:
            same("error", code, e.args[0].code())
        else:
            raise AssertionError(f"no error {code}")

    def partitions():
        found = admin.list_topics(timeout=20).topics.get(name)
        return len(found.partitions) if found else 0
    resource = ConfigResource("topic", name)

    def config(key):
        return admin.describe_configs([resource])[resource].result(20)[key].value
    admin.create_topics([NewTopic(name, 2, 1, config={"retention.ms": "123456"})])[name].result(20)
    fails(KafkaError.TOPIC_ALREADY_EXISTS, admin.create_topics([NewTopic(name, 2, 1)]))
    eventually("it is listed", lambda: partitions() == 2)
    same("retention.ms", "123456", config("retention.ms"))
    admin.create_partitions([NewPartitions(name, 4)])[name].result(20)
    eventually("four partitions", lambda: partitions() == 4)
    fails(KafkaError.INVALID_PARTITIONS, admin.create_partitions([NewPartitions(name, 3)]))
    change = ConfigResource("topic", name, set_config={"max.message.bytes": "54321"})
    admin.alter_configs([change])[change].result(20)
    same("max.message.bytes", "54321", config("max.message.bytes"))
    assert config("retention.ms") != "123456", "AlterConfigs kept what it does not name"
    admin.delete_topics([name])[name].result(20)
    eventually("it is gone", lambda: partitions() == 0)
    fails(KafkaError.UNKNOWN_TOPIC_OR_PART, admin.delete_topics([name]))


def times():
    topic = f"{FAMILY}-times"
    c = consumer(auto_offset_reset="error")
    try:
        c.assign([TopicPartition(topic, 0, 70)])
        for at in (70, 0, TIMES_RECORDS - 1):
            c.seek(TopicPartition(topic, 0, at))
            m = c.poll(20)
            check_message(m, at)
        for ask, there in ((BASE, 0), (BASE + 500, 50), (BASE + 501, 51), (1, 0), (BASE + 10 * TIMES_RECORDS, -1)):
            same(f"offset for {ask - BASE}", there, c.offsets_for_times([TopicPartition(topic, 0, ask)], timeout=20)[0].offset)
        c.seek(TopicPartition(topic, 0, TIMES_RECORDS + 1000))
        m = c.poll(20)
        assert m is not None and m.error() and m.error().code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET), m and m.error()
    finally:
        c.close()


def unknown_topic():
    errors = []
    p = Producer({**COMMON, "message.timeout.ms": 3000})
    p.produce(f"{FAMILY}-nowhere", b"x", on_delivery=lambda e, m: errors.append(e))
    p.flush(20)
    assert errors and errors[0] and errors[0].code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._MSG_TIMED_OUT), errors
    found = AdminClient(COMMON).list_topics(f"{FAMILY}-nowhere", timeout=20).topics[f"{FAMILY}-nowhere"]
    same("error of its metadata", KafkaError.UNKNOWN_TOPIC_OR_PART, found.error.code())


# --- kcat.

def kcat(*arguments, data=None):
    p = subprocess.run(["kcat", "-b", ADDRESS, *arguments], input=data, capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 0, f"kcat {arguments}: {p.stderr}"
    return p.stdout


def kcat_codecs():
    """Each codec appends to one topic; what was there before is still there."""
    topic, expected = f"{FAMILY}-kcat", ""
    for k, codec in enumerate(CODECS):
        lines = "".join(f"k{n}:value {n} of {codec}\n" for n in range(20))
        kcat("-P", "-t", topic, "-z", codec, "-K:", "-H", f"codec={codec}", data=lines)
        expected += "".join(f"{20 * k + n} k{n} codec={codec} value {n} of {codec}\n" for n in range(20))
    same("all", expected, kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%o %k %h %s\n"))
    same("the last", f"value 19 of zstd\n", kcat("-C", "-t", topic, "-o", "-1", "-e", "-q"))
    assert f'topic "{topic}" with 1 partitions' in kcat("-L", "-t", topic)


def kcat_group():
    """kcat -G as people use it: until the end, and what was committed is not read again."""
    topic, group = f"{FAMILY}-kcat-group", f"{FAMILY}-kcat-group"

    def read():
        return kcat("-G", group, topic, "-X", "auto.offset.reset=earliest", "-e", "-q", "-u")
    kcat("-P", "-t", topic, data="one\ntwo\n")
    same("the first time", "one\ntwo\n", read())
    kcat("-P", "-t", topic, data="three\n")
    same("the second time", "three\n", read())


if len(sys.argv) > 4:
    member(*sys.argv[5:9])
else:
    threading.Thread(target=write_more, daemon=True).start()
    run({"group-share": lambda: group_share("range"), "group-share-cooperative": lambda: group_share("cooperative-sticky"), "group-static": group_static,
         "group-resume": group_resume, "group-admin": group_admin, "kcat-group": kcat_group, "kcat-codecs": kcat_codecs, "topics": topics,
         "unknown-topic": unknown_topic, "times": times, "acks": acks, "idempotent": idempotent,
         **{f"data-{c}": lambda c=c: data(c) for c in CODECS},
         **{f"peer-{c}": lambda c=c: read_all(f"{FAMILY}-peer-{c}", PEER_PARTITIONS, PEER_RECORDS) for c in CODECS}}, threads=8)
