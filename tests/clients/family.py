"""One client family against one broker: the program in the client's language does the work, this starts it and judges what it left.

A program is called `PROGRAM ADDRESS FAMILY BASE_MS` and runs all its checks, several at a time where its client allows. For each it
prints one line:

    ok CHECK
    not ok CHECK: what was expected, what was found
    skip CHECK: why this client cannot do that here

Topics exist before it starts (clients that are old enough cannot create any, and the broker creates none by itself): see records.py.
Their names are FAMILY-NAME, and those of all groups and topics that the program makes itself begin like that too.

The records, known to every program: record n of partition p has
    key        none where n % 8 == 7, else "key-<p>-<n>"
    value      none where n % 16 == 14, else n * 37 % 900 bytes, of which byte i is (n * 7 + i * 3 + p) % 256
    headers    n % 3 of them: "h<i>" = "<n>.<i>"        (from 0.11 on)
    timestamp  BASE_MS + 10 * n                         (from 0.10 on)

Each program also reads what librdkafka wrote (the topics FAMILY-peer-CODEC), and librdkafka reads what the program wrote to
FAMILY-data-CODEC: conversions between formats show in both directions."""

import os
import re
import subprocess
import tempfile
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import harness
from records import DATA_PARTITIONS, DATA_RECORDS, FULL, TOPICS, describe, record

PROGRAM_SECONDS = 150


def create_topics(address, topics):
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics([NewTopic(name, partitions, 1) for name, partitions in topics.items()]).values():
        future.result(30)
    harness.eventually(lambda: set(topics) <= set(admin.list_topics(timeout=20).topics), 30, 0.1, "the topics that were created are listed")


def fill(address, topic, partitions, count, base, codec="none"):
    failures = []
    p = Producer({"bootstrap.servers": address, "enable.idempotence": True, "compression.type": codec, "linger.ms": 5, "batch.num.messages": 20})
    for n in range(count):
        for partition in range(partitions):
            key, value, headers, timestamp = record(partition, n, base)
            p.produce(topic, partition=partition, key=key, value=value, headers=headers, timestamp=timestamp,
                      on_delivery=lambda e, m: e and failures.append(e))
            p.poll(0)
    assert p.flush(60) == 0 and not failures, failures[:1]


def verify(address, topic, partitions, count, base, timestamps=True, headers=True):
    """Every byte of what is in a topic. Older formats have no headers, and the oldest no timestamps."""
    c = Consumer({"bootstrap.servers": address, "group.id": "none", "enable.auto.commit": False, "auto.offset.reset": "error",
                  "fetch.wait.max.ms": 50})
    try:
        for p in range(partitions):
            part = TopicPartition(topic, p, 0)
            assert c.get_watermark_offsets(part, timeout=30) == (0, count), f"{topic} [{p}]"
        c.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        next_offset = [0] * partitions
        while sum(next_offset) < partitions * count:
            messages = c.consume(partitions * count - sum(next_offset), 20)
            assert messages, f"{topic}: only {next_offset} of {count} a partition came"
            for m in messages:
                assert not m.error(), m.error()
                p, n = m.partition(), next_offset[m.partition()]
                assert m.offset() == n, f"{topic} [{p}]: offset {m.offset()} instead of {n}"
                key, value, expected_headers, timestamp = record(p, n, base)
                found = (m.key(), m.value(), m.headers() or [], m.timestamp()[1])
                expected = (key, value, expected_headers if headers else [], timestamp if timestamps else -1)
                assert found == expected, f"{topic} [{p}] {n}: expected {describe(expected)}, found {describe(found)}"
                next_offset[p] += 1
    finally:
        c.close()


class Cluster:
    """Where the programs go: a broker of our own, or whatever listens at $OXBOW_CLIENTS_BOOTSTRAP (a real Kafka, say, to see whether
    the programs are right)."""

    def __init__(self, folder):
        self.broker, self.address = None, os.environ.get("OXBOW_CLIENTS_BOOTSTRAP")
        self.base = int(time.time() * 1000) - 100_000
        if not self.address:
            self.broker = harness.Broker(os.path.join(folder, "broker"), {"auto.create.topics.enable": "false"}).start()
            self.address = self.broker.address

    def prepare(self, family):
        """The topics of a family; returns what their names begin with."""
        prefix = family if self.broker else f"{family}-{self.base % 10**9}"  # somebody else's Kafka may know the name from before
        create_topics(self.address, {f"{prefix}-{name}": n for name, n in TOPICS.items()})
        for name, count in FULL.items():
            codec = name[len("peer-"):] if name.startswith("peer-") else "none"
            fill(self.address, f"{prefix}-{name}", TOPICS[name], count, self.base, codec)
        return prefix

    def close(self):
        if self.broker:
            if self.broker.alive():
                self.broker.stop()
            self.broker.check_log()


class Family:
    """A program, and what it said of each check. It is started here, from the main thread, and dies with it."""

    def __init__(self, cluster, name, command, env=None):
        self.cluster, self.name, self.results = cluster, name, None
        self.prefix = cluster.prepare(name)
        self.until = time.monotonic() + PROGRAM_SECONDS
        self.file = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*command, cluster.address, self.prefix, str(cluster.base)], stdin=subprocess.DEVNULL, stdout=self.file,
                                        stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, preexec_fn=harness.die_with_parent)

    def wait(self):
        """Until it is done; then there are results."""
        if self.results is not None:
            return self
        try:
            self.how = f"it ended with {self.process.wait(max(0.0, self.until - time.monotonic()))}"
        except subprocess.TimeoutExpired:
            self.how = f"it had not ended after {PROGRAM_SECONDS} s"
        self.end()
        self.file.seek(0)
        self.output = self.file.read().decode("utf-8", "replace")
        self.file.close()
        self.results = {}
        for line in self.output.splitlines():
            if m := re.match(r"(ok|not ok|skip) ([\w.-]+)(?:: (.*))?$", line):
                self.results[m[2]] = (m[1], m[3] or "")
        return self

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def judge(self, check):
        """Passes, fails or skips the present test."""
        how, why = self.results.get(check, ("", f"{self.name} says nothing of it; {self.how}"))
        if how == "skip":
            pytest.skip(why)
        if how != "ok":
            print(f"--- what the program of {self.name} wrote; {self.how}\n{self.output[-5000:]}")
            pytest.fail(f"{check}: {why}", pytrace=False)

    def verify(self, codec, **options):
        """What the program wrote, read by librdkafka."""
        if self.results.get(f"data-{codec}", ("",))[0] != "ok":
            pytest.fail(f"{self.name} did not write data-{codec}")
        verify(self.cluster.address, f"{self.prefix}-data-{codec}", DATA_PARTITIONS, DATA_RECORDS, self.cluster.base, **options)
