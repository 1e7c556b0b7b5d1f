"""Disks that are full, gone, read-only or broken, under a producer that goes on: nothing acknowledged is lost, one clear line and a
metric say what is wrong, and the broker recovers by itself when the cause is gone.

Seen to fail: with the store never given back (the producer does not end)."""

import os
import time

import pytest

from harness import eventually
from test_admin import metrics
from test_block import bulk, read_bulk
from test_data import create
from wire import Wire, batch

FAULT = {"http.listen": "127.0.0.1:0", "upload.bytes": "1MiB", "upload.interval.ms": 200, "cache.log.bytes": "16MiB", "cache.block.bytes": "8MiB"}


class Trickle:
    """Sends a record of 100 KB now and then; knows what was acknowledged. Waits, never gives up, on a thread of librdkafka's own."""

    def __init__(self, broker, topic):
        from confluent_kafka import Producer
        self.acked, self.sent, self.errors = [], 0, []
        self.topic = topic
        self.producer = Producer({"bootstrap.servers": broker.address, "enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 0,
                                  "reconnect.backoff.max.ms": 200, "queue.buffering.max.kbytes": 200_000})

    def value(self, n):
        return b"%06d" % n + bytes([n % 251]) * 100_000

    def send(self, count):
        for _ in range(count):
            self.producer.produce(self.topic, self.value(self.sent), partition=0, on_delivery=self.delivered)
            self.sent += 1
            self.producer.poll(0)

    def delivered(self, error, message):
        if error:
            self.errors.append(error)
        else:
            self.acked.append(message.offset())

    def run(self, seconds):
        """Sends while time goes by; how many were acknowledged in it."""
        before, end = len(self.acked), time.monotonic() + seconds
        while time.monotonic() < end:
            if self.sent - len(self.acked) < 100:
                self.send(5)
            self.producer.poll(0.02)
        return len(self.acked) - before

    def finish(self):
        assert self.producer.flush(90) == 0, f"{self.sent - len(self.acked)} records still wait"
        assert not self.errors, self.errors[:3]
        # A batch whose time was up and that is not yet sent again counts for librdkafka as acknowledged once a later one is (its rd_kafka_dr_implicit_ack), and
        # has no offset then: check() looks at all that is there.
        assert len(self.acked) == self.sent and all(a in (None, n) for n, a in enumerate(self.acked)), [x for x in enumerate(self.acked) if x[1] not in (None, x[0])][:5]

    def check(self, broker):
        from confluent_kafka import Consumer, TopicPartition
        c = Consumer({"bootstrap.servers": broker.address, "group.id": "x", "enable.auto.commit": False})
        assert c.get_watermark_offsets(TopicPartition(self.topic, 0), timeout=30) == (0, self.sent)
        c.assign([TopicPartition(self.topic, 0, 0)])
        for n in range(self.sent):
            m = c.poll(30)
            assert m is not None and not m.error(), m and m.error()
            assert m.offset() == n and m.value() == self.value(n)


def through(b, break_it, mend_it, seconds=4, words=()):
    """A producer from before the fault to behind it."""
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    eventually(lambda: t.run(0.3) > 0, what="the first records are acknowledged")
    break_it()
    t.run(seconds)
    assert b.alive(), b.log()[-3000:]
    failing = metrics(b)
    assert failing["oxbow_store_failing", None] >= 1 or failing["oxbow_wal_failed", None] == 1  # a log, and perhaps compaction
    told = [x for x in b.log().splitlines() if "level=error" in x or "level=warn" in x]
    assert 1 <= len(told) <= 20, f"{len(told)} lines:\n" + "\n".join(told[:30])
    assert any(all(w in line for w in words) for line in told), told
    mend_it()
    t.finish()
    eventually(lambda: t.run(0.1) or True)
    t.finish()
    eventually(lambda: metrics(b)["oxbow_store_failing", None] == 0 and metrics(b)["oxbow_wal_failed", None] == 0, what="the metric goes back")
    t.check(b)
    b.restart(kill=True)
    t.check(b)
    b.stop()


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_full_disk_under_the_store(mounts, brokers, folder, kind):
    at = f"{folder}/small"
    if kind == "tmpfs":
        mounts.mount("none", at, "-t", "tmpfs", "-o", "size=400m")
    else:
        mounts.mount(mounts.loop(mounts.image("small.img", 400 << 20)), at)
    filler = f"{at}/filler"
    b = brokers({**FAULT, "storage.url": f"file://{at}/store"})

    def fill():
        with open(filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"\1" * (1 << 20))
            except OSError:
                pass
    through(b, fill, lambda: os.unlink(filler), words=["store"])


def test_store_folder_goes_away_and_comes_back(brokers):
    b = brokers(FAULT)
    store = f"{b.folder}/store"
    through(b, lambda: os.rename(store, store + ".away"), lambda: os.rename(store + ".away", store), words=["gone"])


def test_store_becomes_read_only(mounts, brokers, folder):
    at = f"{folder}/ro"
    mounts.mount("none", at, "-t", "tmpfs", "-o", "size=600m")
    b = brokers({**FAULT, "storage.url": f"file://{at}/store"})

    def remount(how):
        import harness
        eventually(lambda: harness.run(["mount", "-o", f"remount,{how}", at], check=False)[0] == 0, pause=0.001, what=f"remount {how}")
    through(b, lambda: remount("ro"), lambda: remount("rw"), words=["store"])


@pytest.mark.parametrize("backend", ["uring", "epoll"])
def test_write_ahead_log_on_a_broken_device(mounts, brokers, folder, backend):
    """The device behind the ring fails writes from some sector on: its file lies on a file system that is full."""
    at = f"{folder}/thin"
    mounts.mount("none", at, "-t", "tmpfs", "-o", "size=12m")
    path = f"{at}/device.img"
    with open(path, "wb") as f:
        f.truncate(48 << 20)
    device = mounts.loop(path)
    b = brokers({**FAULT, "wal.url": f"block://{device}", "io.backend": backend})
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    # Nothing stops: what the log cannot take is acknowledged from the ledger.
    end = time.monotonic() + 40
    while metrics(b)["oxbow_wal_failed", None] == 0 and not b.lines("level=error") and not b.lines("level=warn"):
        assert time.monotonic() < end, "the device never failed"
        t.run(0.2)
    assert any("WAL" in x or "wal" in x for x in b.log().splitlines() if "level=error" in x or "level=warn" in x), b.log()
    eventually(lambda: t.run(0.5) > 0, what="something is acknowledged without the log")
    assert b.alive()
    failing = metrics(b)
    assert any(name == "oxbow_wal_errors_total" and v > 0 for (name, _), v in failing.items())
    import harness
    harness.run(["mount", "-o", "remount,size=100m", at])
    t.finish()
    eventually(lambda: t.run(0.2) is not None and metrics(b)["oxbow_wal_failed", None] == 0, 60, what="the log is used again")
    t.finish()
    t.check(b)
    b.restart(kill=True)
    t.check(b)
    b.stop()


def test_stop_without_the_store(brokers, folder):
    """A stop does not wait for ever for a store that is gone: what is not uploaded is in the write-ahead log, and the next start has it.

    Seen to fail: before the stop had a limit it did not end within the 60 s."""
    store = f"{folder}/store"
    b = brokers({"storage.url": f"file://{store}", "upload.interval.ms": 600000, "upload.bytes": "32MiB"})
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    t.send(20)
    t.finish()
    os.rename(store, store + ".away")
    b.stop(60)
    assert "stopping without the object store" in b.whole_log()
    os.rename(store + ".away", store)
    b.start()
    t.check(b)
    assert "wal recovered" in b.whole_log()
