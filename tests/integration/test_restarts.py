"""A thousand restarts, in order and by kill -9, with a record each: nothing is lost, and the store does not grow with them.

Seen to fail: without merging of small ranges at start every restart left one object for ever."""

import time

from wire import Wire, batch

RESTARTS = 1000
SECONDS = 200  # on a machine or build so slow that this is not enough, fewer restarts are made, and that is printed


def test_a_thousand_restarts(brokers):
    b = brokers({"log.level": "warn"}, start=False)
    b.settings["wal.url"] = f"file://{b.folder}/wal?size=17MiB"
    began, counts, sizes = time.monotonic(), [], []
    for i in range(RESTARTS):
        if i >= 100 and time.monotonic() - began > SECONDS:
            print(f"only {i} restarts in {SECONDS} s")
            break
        b.start(wait=False)
        w = connect(b)
        if i == 0:
            assert w.create("t")[0] == 0
        assert w.produce("t", 0, batch([b"%d" % i]))[:2] == (0, i)
        w.close()
        b.kill9() if i % 2 else b.stop()
        if i % 50 == 49:
            found = b.objects()
            counts.append(len(found))
            sizes.append(sum(found.values()))
    print("objects after each 50 restarts:", *counts)
    print("bytes of them:", *sizes)
    assert max(counts) < 150
    # What is kept of all that were before must not grow without end either: state and cluster log stay small.
    assert max(sizes) < 4 << 20
    b.start(wait=False)
    w = connect(b)
    assert w.list_offsets("t", 0, -1)[2] == i + (1 if i == RESTARTS - 1 else 0) and w.list_offsets("t", 0, -2)[2] == 0
    w.close()
    b.stop()


def connect(b):
    end = time.monotonic() + 60
    while True:
        try:
            return Wire(b.port)
        except OSError:
            assert b.alive() and time.monotonic() < end, b.log()
            time.sleep(0.004)
