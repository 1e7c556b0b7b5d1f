"""What the records are, and how a program in Python runs its checks: see family.py. Uses nothing but Python itself, so that it can stand
beside any client."""

import sys
import threading
import time
import traceback

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PEER_PARTITIONS, PEER_RECORDS = 2, 60  # records a partition
DATA_PARTITIONS, DATA_RECORDS = 3, 100
SHARE_PARTITIONS, SHARE_RECORDS, SHARE_MORE = 6, 50, 20
RESUME_PARTITIONS, RESUME_RECORDS, RESUME_AT = 2, 100, 40
TIMES_RECORDS = 100
# suffix -> partitions. They exist, without records but in those of FULL, when a program starts.
TOPICS = {**{f"data-{c}": DATA_PARTITIONS for c in CODECS}, **{f"peer-{c}": PEER_PARTITIONS for c in CODECS}, "acks": 1, "idempotent": 1,
          "share": SHARE_PARTITIONS, "resume": RESUME_PARTITIONS, "admin": 1, "times": 1, "kcat": 1, "kcat-group": 1}
FULL = {**{f"peer-{c}": PEER_RECORDS for c in CODECS}, "share": SHARE_RECORDS, "resume": RESUME_RECORDS, "times": TIMES_RECORDS}


def record(partition, n, base):
    """(key, value, headers, timestamp)"""
    return (None if n % 8 == 7 else b"key-%d-%d" % (partition, n),
            None if n % 16 == 14 else bytes((n * 7 + i * 3 + partition) % 256 for i in range(n * 37 % 900)),
            [(f"h{i}", b"%d.%d" % (n, i)) for i in range(n % 3)], base + 10 * n)


def describe(value):
    text = repr(value)
    return text if len(text) < 200 else text[:200] + f"... ({len(text)} characters)"


def same(what, expected, found):
    assert expected == found, f"{what}: expected {describe(expected)}, found {describe(found)}"


def eventually(what, check, seconds=40):
    """Waits until check() is true; fails with what(), or what, after so long."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.05)


class Skip(Exception):
    """This client cannot do that."""


def run(checks, threads=4):
    """Runs {name: function}, a few at a time, and prints a line for each. What takes longest should come first."""
    todo, lock = list(checks.items()), threading.Lock()

    def say(line):
        with lock:
            print(line, flush=True)

    def work():
        while True:
            with lock:
                if not todo:
                    return
                name, check = todo.pop(0)
            began = time.monotonic()
            try:
                check()
                say(f"ok {name}\n   ({time.monotonic() - began:.1f} s)")
            except Skip as e:
                say(f"skip {name}: {e}")
            except BaseException as e:  # whatever a client raises is the check's failure, not the program's
                say(traceback.format_exc() + f"not ok {name}: {type(e).__name__}: {' '.join(str(e).split())}")
    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    sys.stdout.flush()


class Sharing:
    """What the members of a group have read and committed so far, and which partitions each has; the check of group-share."""

    def __init__(self):
        self.lock = threading.Lock()
        self.read = {}  # (partition, n) -> times
        self.assigned = {}  # member -> set of partitions

    def done(self, records):
        with self.lock:
            for key in records:
                self.read[key] = self.read.get(key, 0) + 1

    def assign(self, member, partitions):
        with self.lock:
            self.assigned[member] = set(partitions)

    def gone(self, member):
        with self.lock:
            self.assigned.pop(member, None)

    def is_shared(self, members):
        """Each has its share, and none has what another has."""
        with self.lock:
            sets = list(self.assigned.values())
            return len(sets) == members and all(len(s) == SHARE_PARTITIONS // members for s in sets) and \
                len(set().union(*sets)) == SHARE_PARTITIONS

    def has(self, count):
        with self.lock:
            return len(self.read) >= SHARE_PARTITIONS * count

    def check(self, count):
        with self.lock:
            same("what the members read", {(p, n) for p in range(SHARE_PARTITIONS) for n in range(count)}, set(self.read))
            same("what was read twice", [], [k for k, times in self.read.items() if times != 1])
