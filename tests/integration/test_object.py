"""Object durability: no write-ahead log at all, or topics that do without. What is acknowledged is in the store: everything local may
go at any moment, and another process, in another folder, goes on.

Seen to fail: acknowledging what the ledger confirms when it is sent (the simulator's mistake ack-unsent) loses records here too."""

import contextlib
import os
import shutil
import threading
import time

import pytest

from test_data import PARTITIONS, create, now_ms, produce_through_kills
from wire import FLEXIBLE_FROM, Wire, Writer, batch


class Elsewhere:
    """A broker that is killed and goes on elsewhere: of what was local, nothing is left but the address."""

    def __init__(self, broker):
        self.broker = broker
        self.store = broker.settings["storage.url"]

    def __getattr__(self, name):
        return getattr(self.broker, name)

    def kill9(self):
        b = self.broker
        b.kill9()
        old = b.folder
        assert not os.path.exists(f"{old}/wal")
        b.folder = f"{old}-on"
        os.makedirs(b.folder)
        shutil.move(b.log_path, f"{b.folder}/log")
        b.log_path = f"{b.folder}/log"
        if not self.store.startswith(f"file://{old}/"):
            shutil.rmtree(old)


@pytest.mark.parametrize("shards", [1, 2])
def test_ten_kills_with_everything_local_gone(brokers, processes, client, tmp_path, shards):
    b = Elsewhere(brokers({"wal.url": "none", "storage.url": f"file://{tmp_path}/bucket", "shards": shards}))
    create(b, client, "data", PARTITIONS)
    arguments = produce_through_kills(b, processes, client, 60_000, 10, now_ms(), seed=f"object {shards}")
    processes(client, "consume", *arguments).finish()
    b.restart()
    processes(client, "consume", *arguments).finish()


def test_topics_of_both_kinds_and_a_change(brokers, processes, client):
    """A WAL, one topic with it, one without, and one that is switched while it is written to; kills all the while."""
    b = brokers({"upload.interval.ms": 500})
    create(b, client, "data", PARTITIONS, {"oxbow.durability": "object"})
    over = threading.Event()
    switched = []

    def switch():
        while not over.wait(0.3):
            value = "wal" if len(switched) % 2 == 0 else "object"
            with contextlib.suppress(OSError, EOFError, AssertionError):  # it is being killed just now
                w = Wire(b.port)
                set_durability(w, "data", value)
                w.close()
                switched.append(value)

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        arguments = produce_through_kills(b, processes, client, 100_000, 6, now_ms(), seed="both")
    finally:
        over.set()
        thread.join()
    assert len(switched) >= 4
    processes(client, "consume", *arguments).finish()
    b.restart()
    processes(client, "consume", *arguments).finish()


def set_durability(w, topic, value):
    """Kafka protocol: IncrementalAlterConfigs 0."""
    FLEXIBLE_FROM.setdefault(44, 1)
    body = Writer()
    body.array([0], lambda _: (body.put("b", 2), body.string(topic), body.array(
        [0], lambda _: (body.string("oxbow.durability"), body.put("b", 0), body.string(value)))))
    body.put("b", 0)
    r = w.call(44, 0, body.out)
    r.i32()
    r.size("i")
    assert r.i16() == 0


def test_a_wal_is_asked_for_before_none(brokers):
    """Who takes the WAL away while it holds something is told so; given back, and stopped in order, it is not needed any more."""
    b = brokers()
    wal = b.settings["wal.url"]
    w = Wire(b.port)
    w.create("t")
    assert w.produce("t", 0, batch([b"in the WAL"]))[:2] == (0, 0)
    w.close()
    b.kill9()
    b.start(wait=False, **{"wal.url": "none"})
    assert b.wait() == 1
    assert "wal.url is none, but this broker last used a WAL" in b.log()
    b.start(**{"wal.url": wal})
    b.stop()
    b.start(**{"wal.url": "none"})
    w = Wire(b.port)
    assert w.list_offsets("t", 0, -1)[2] == 1
    assert w.produce("t", 0, batch([b"in the ledger"]))[:2] == (0, 1)
    w.close()
    b.kill9()
    b.start()
    w = Wire(b.port)
    assert w.list_offsets("t", 0, -1)[2] == 2
    w.close()
    b.stop()


def test_few_requests_for_many_small_batches(brokers):
    """While one entry is on its way the next ones gather: entries are far fewer than requests."""
    b = brokers({"wal.url": "none", "object.flush.interval.ms": 200})
    w = Wire(b.port)
    w.create("t", 4)
    w.close()
    before = len(b.objects())
    began = time.monotonic()

    def produce(partition):
        mine = Wire(b.port)
        for i in range(10):
            assert mine.produce("t", partition, batch([b"%d" % i]))[:2] == (0, i)
        mine.close()

    threads = [threading.Thread(target=produce, args=(p,)) for p in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    intervals = (time.monotonic() - began) / 0.2
    assert len(b.objects()) - before <= intervals + 5  # 40 requests
    b.stop()
