"""What test_faults leaves: two writes that fail at once, the same fault twice, and exactly what is told of it.

The entry of a ledger and that of the cluster log (of another topic's creation, here) can be failing at the same time. The metric must count
both and come back to 0, not below, or the next fault stays unseen.

Seen to fail: with the gauge set to 1 and to 0 by uploads, and counted by logs (it was never 2)."""

import os
import threading
import time

from harness import eventually
from test_admin import metrics
from wire import Wire, batch, batches

MIB = 1 << 20


def failing(b):
    return metrics(b)["oxbow_store_failing", None]


def told(b, *words):
    return sum(any(w in line for w in words) for line in b.log().splitlines())


def test_two_logs_fail_at_once_twice(brokers):
    b = brokers({"http.listen": "127.0.0.1:0", "upload.bytes": "12MiB", "upload.interval.ms": "600000", "cache.log.bytes": "64MiB"})
    store, n = f"{b.folder}/store", 0
    with Wire(b.port) as w:
        w.create("t")
        for fault in (1, 2):
            os.rename(store, store + ".away")
            for _ in range(14):  # 12.6 MB: an upload; acknowledged from the WAL meanwhile
                assert w.produce("t", 0, batch([b"%04d" % n + b"v" * 900_000]))[:2] == (0, n)
                n += 1
            creator = threading.Thread(target=lambda f=fault: Wire(b.port, 60).create(f"later-{f}"), daemon=True)
            creator.start()
            eventually(lambda: failing(b) >= 2, what="both are failing")
            assert told(b, "store folder is gone") == fault
            assert told(b, "refuses writes, repeating") == 2 * fault
            time.sleep(1)  # repeated many times by now
            assert told(b, "level=warn", "level=error") == 3 * fault, "more than one line of each"
            os.rename(store + ".away", store)
            creator.join(60)
            eventually(lambda: failing(b) == 0, what="the metric is 0 again")
            time.sleep(0.5)
            assert failing(b) == 0
            assert told(b, "store folder is back") == fault
            assert told(b, "takes writes again") == 2 * fault
    b.restart(kill=True)
    with Wire(b.port) as w:
        assert w.create("later-2")[0] == 36  # it was created, when the store was back
        at = 0
        while at < n:
            for base, last, values in batches(w.fetch([("t", 0, at, 4 * MIB)], max_bytes=4 * MIB)[2]["t", 0][3]):
                assert base == last == at and values[0] == b"%04d" % at + b"v" * 900_000
                at += 1
