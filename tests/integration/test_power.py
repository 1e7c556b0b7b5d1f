"""Power cuts: store and write-ahead log lie on an ext4 image behind a loop device. Right after an acknowledgement the image's file is
copied, and the copy is mounted in its place: it holds what had reached the device and nothing of the page cache.

The broker stands still (SIGSTOP) from before the copy until it is killed: it acknowledges nothing that the copy cannot have, and the
copy is of one moment. That these tests can fail is a test of its own, where a preloaded library turns every flush off."""

import os
import random
import shutil
import signal
import time

import pytest

import harness
from test_data import PARTITIONS, create, now_ms


class CutBroker:
    def __init__(self, brokers, mounts, folder, settings=None, env=None):
        self.mounts = mounts
        self.image = mounts.image("disk0.img", 320 << 20)
        self.at = os.path.join(folder, "disk")
        self.cuts = 0
        self.device = mounts.loop(self.image)
        mounts.mount(self.device, self.at)
        self.broker = brokers({"storage.url": f"file://{self.at}/store", "wal.url": f"file://{self.at}/wal?size=40MiB", "upload.bytes": "1MiB",
                               "upload.interval.ms": 300, "log.retention.bytes": 1 << 30, **(settings or {})}, env=env)

    def writes(self):
        """Writes begun or ended on the device, and those under way."""
        with open(f"/sys/block/{os.path.basename(self.device)}/stat", encoding="ascii") as f:
            numbers = f.read().split()
        return numbers[4], numbers[6], numbers[8]

    def cut(self):
        """The machine loses its power, and starts again."""
        b = self.broker
        os.kill(b.pid, signal.SIGSTOP)
        self.cuts += 1
        after = os.path.join(os.path.dirname(self.image), f"disk{self.cuts}.img")
        # What the kernel was already writing at that moment goes on; the copy counts only if nothing was written meanwhile.
        for _ in range(50):
            before = self.writes()
            harness.run(["cp", "--sparse=always", self.image, after])
            if self.writes() == before:
                break
        else:
            raise AssertionError("the device does not come to rest")
        b.kill9()
        self.mounts.unmount(self.at)
        self.mounts.detach(self.device)
        os.unlink(self.image)
        self.image = after
        self.device = self.mounts.loop(after)
        self.mounts.mount(self.device, self.at)


@pytest.mark.parametrize("backend", ["uring", "epoll"])
def test_power_cuts(mounts, brokers, folder, processes, client, backend):
    c = CutBroker(brokers, mounts, folder, {"io.backend": backend})
    b, total, cuts, rng = c.broker, 200_000, 10, random.Random(backend)
    create(b, client, "data", PARTITIONS)
    arguments = [b.address, "data", PARTITIONS, total, now_ms()]
    producer = processes(client, "produce", *arguments)
    at = [total // (cuts + 1) * i + rng.randrange(total // (cuts + 1)) for i in range(cuts)]
    while at:
        line = producer.line()
        assert line is not None, producer.finish()
        if line.startswith("acked") and int(line.split()[1]) >= at[0]:
            at.pop(0)
            c.cut()
            b.start()
    producer.finish()
    processes(client, "consume", *arguments).finish()
    c.cut()  # in the quiet
    b.start()
    processes(client, "consume", *arguments).finish()
    b.stop()


def produce_and_cut(c, topic, count):
    """Acknowledges `count` records one after the other, cuts at once; how many offsets there are afterwards (None: it does not start)."""
    from confluent_kafka import Consumer, Producer, TopicPartition
    producer = Producer({"bootstrap.servers": c.broker.address, "linger.ms": 0})
    acked = []
    for i in range(count):
        producer.produce(topic, partition=0, value=b"%d" % i, on_delivery=lambda e, m: acked.append((e, m.offset())))
        producer.flush(30)
    assert acked == [(None, i) for i in range(count)]
    c.cut()
    c.broker.start(wait=False)
    c.broker.wait_ready()
    consumer = Consumer({"bootstrap.servers": c.broker.address, "group.id": "x"})
    return consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)[1]


@pytest.mark.parametrize("flushed", [True, False])
def test_a_cut_right_after_an_acknowledgement(mounts, brokers, folder, tmp_path, flushed):
    """With `flushed` off every flush is a lie, and the same check must see records missing, or the broker refuse what it finds."""
    env = {}
    if not flushed:
        env = harness.preload(harness.compile_c("unflushed.c", tmp_path / "unflushed.so", ["-shared", "-fPIC", "-ldl"]))
    # Nothing is uploaded while this lasts: the write-ahead log alone answers for the records.
    c = CutBroker(brokers, mounts, folder, {"io.backend": "epoll", "upload.interval.ms": 600000, "upload.bytes": "32MiB"}, env)
    create(c.broker, None, "data", 1)
    if not flushed:
        os.sync()  # the topic and the log's form are there; what comes now is not
        c.broker.env = {}
    try:
        found = produce_and_cut(c, "data", 40)
    except AssertionError as e:
        found = str(e)
        c.broker.end()
    if flushed:
        assert found == 40
    else:
        assert found != 40, "nothing was flushed, and yet nothing is missing: these tests cannot fail"
