"""The write-ahead log on a raw block device, and rings that wrap many times.

Seen to fail: with the trim position in both superblocks moved ahead between kill and start (the partition is not served)."""

import os
import random

import pytest

from test_data import PARTITIONS, create, now_ms, produce_through_kills


@pytest.mark.parametrize("backend", ["uring", "epoll"])
def test_block_device_wraps_through_kills(mounts, brokers, processes, client, backend):
    """About 90 MB through a ring of 17 MiB, with kills in the middle."""
    device = mounts.loop(mounts.sparse("device.img", 17 << 20))
    b = brokers({"wal.url": f"block://{device}", "io.backend": backend, "upload.bytes": "2MiB", "upload.interval.ms": 500, "cache.log.bytes": "16MiB"})
    create(b, client, "data", PARTITIONS)
    arguments = produce_through_kills(b, processes, client, 240_000, 6, now_ms(), seed=backend)
    processes(client, "consume", *arguments).finish()
    b.stop()


def bulk(b, topic, partition, count, size, seed):
    """Values that do not compress, in large batches: megabytes quickly."""
    from confluent_kafka import Producer
    errors, rng = [], random.Random(seed)
    payload = rng.randbytes(size)
    p = Producer({"bootstrap.servers": b.address, "enable.idempotence": True, "queue.buffering.max.kbytes": 65536, "linger.ms": 5, "message.timeout.ms": 120000})
    for i in range(count):
        value = b"%08d" % i + payload
        while True:
            try:
                p.produce(topic, partition=partition, value=value, on_delivery=lambda e, m: e and errors.append(e))
                break
            except BufferError:
                p.poll(0.05)
        p.poll(0)
    assert p.flush(120) == 0 and not errors, errors[:3]
    return payload


def read_bulk(b, topic, partition, count, payload):
    from confluent_kafka import Consumer, TopicPartition
    c = Consumer({"bootstrap.servers": b.address, "group.id": "x", "enable.auto.commit": False, "queued.max.messages.kbytes": 16384})
    c.assign([TopicPartition(topic, partition, 0)])
    at = 0
    while at < count:
        messages = c.consume(500, 30)
        assert messages, f"nothing more behind offset {at}"
        for m in messages:
            if m.error():
                continue
            assert m.offset() == at and m.value() == b"%08d" % at + payload, f"offset {m.offset()} after {at}"
            at += 1


@pytest.mark.parametrize("backend", ["uring", "epoll"])
def test_ring_wraps_many_times(brokers, folder, backend):
    size, count, each = 17 << 20, 13_000, 16_000
    b = brokers({"wal.url": f"file://{folder}/ring?size=17MiB", "io.backend": backend, "upload.bytes": "4MiB", "cache.log.bytes": "16MiB", "http.listen": "127.0.0.1:0"})
    create(b, None, "data", 1)
    payload = bulk(b, "data", 0, count, each, 1)
    assert count * each > 11 * size
    assert os.path.getsize(f"{folder}/ring/oxbow.wal") == size
    b.restart(kill=True)
    read_bulk(b, "data", 0, count, payload)
