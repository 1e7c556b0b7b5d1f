"""What happened, in the order in which it was noticed: a list of tuples, and the only thing that checker.py looks at.

A `log` is one partition of one life of a topic: (name, life, partition). Who deletes a topic and makes it again counts its lives.
A record is (producer, number); what its bytes must be follows from both (value()), so what is read is either exactly one of those
that were sent, or `bad`.

    ("log", log)                                it exists from here on
    ("producer", producer, promise)             "idempotent": once and in order; "ordered": in order, perhaps more than once; "plain"
    ("send", log, producer, number)             noted before it is handed to a client
    ("ack", log, producer, number, offset)      offset None: the client did not say
    ("unsure", log, producer, number)           its client gave up: it may be there, now or later
    ("refused", log, producer, number, why)     a client was told no, of a sound record for a topic that is there
    ("overtaken", name)                         for logs "name/...": a broker that was overtaken and does not know may be asked
    ("reader", reader, group)                   one pass over logs, each from somewhere onwards; group None: it is nobody's member
    ("reads", reader, log, [(offset, producer, number), ...])
    ("bad", reader, log, offset, what)          bytes that nobody sent
    ("trim", log, offset)                       DeleteRecords is about to be asked for
    ("trimmed", log, low)                       and was answered
    ("asking", token, log), ("ends", token, log, low, high)             the offsets' ends, asked and told
    ("committing", token, group, log, offset), ("committed", token)     a group's offset
    ("looking", token, group, log), ("found", token, offset)            offset None: there is none
    ("final", log, reader, low, high)           `reader` has read all of [low, high) when nothing was under way any more
    ("gone", log)                               it was deleted on purpose, after its final
    ("problem", text)                           seen without a look at the history: a process that ended by itself, ...
    ("note", text)                              a fault, for who reads a record; means nothing to the checker
"""

import hashlib
import itertools
import json
import threading
import time

SIZES = (0, 0, 40, 40, 200, 200, 200, 1500, 1500, 20_000)


def value(producer, number):
    """The bytes of a record: they tell what it is, and are checked whole."""
    name = b"%s %d " % (producer.encode(), number)
    h = hashlib.sha256(name).digest()
    size, text = SIZES[h[0] % len(SIZES)], h.hex().encode()
    return name + (text * (size // len(text) + 1))[:size]


def identify(data):
    """(producer, number) of what was read, or None when it is nothing that anybody sent."""
    try:
        producer, number, _ = bytes(data).split(b" ", 2)
        who = producer.decode(), int(number)
    except (ValueError, TypeError, AttributeError):
        return None
    return who if value(*who) == data else None


class Record:
    def __init__(self):
        self.events, self.times, self.began = [], [], time.monotonic()
        self.lock = threading.Lock()
        self.tokens = itertools.count(1)
        self.sent = self.acked = self.read = 0

    def add(self, *event):
        with self.lock:
            self.events.append(event)
            self.times.append(time.monotonic() - self.began)
            if event[0] == "send":
                self.sent += 1
            elif event[0] == "ack":
                self.acked += 1
            elif event[0] == "reads":
                self.read += len(event[3])

    def token(self):
        return next(self.tokens)

    def save(self, path):
        with self.lock, open(path, "w", encoding="utf-8") as f:
            for at, event in zip(self.times, self.events):
                f.write(json.dumps([round(at, 3), *event]) + "\n")


def load(path):
    """The events of a saved record, for `soak.py --check FILE`."""
    events = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            event = json.loads(line)[1:]
            events.append(tuple(tuple(x) if isinstance(x, list) and event[0] != "reads" or i == 2 and isinstance(x, list) else x
                                for i, x in enumerate(event)))
    return events
