"""The checker finds what it is there for: for each promise a short history that breaks it, beside a good one that it accepts."""

import pytest

import checker
import record

L = ("t", 0, 0)
GOOD = [
    ("log", L), ("producer", "p", "idempotent"), ("producer", "o", "ordered"), ("reader", "r", None), ("reader", "m", "g"), ("reader", "last", None),
    ("send", L, "p", 0), ("send", L, "p", 1), ("send", L, "p", 2), ("ack", L, "p", 0, 0), ("ack", L, "p", 1, 1),
    ("reads", "r", L, [(0, "p", 0), (1, "p", 1)]), ("asking", 1, L), ("ack", L, "p", 2, 2), ("ends", 1, L, 0, 2),
    ("send", L, "o", 0), ("send", L, "o", 1), ("ack", L, "o", 0, None), ("ack", L, "o", 1, 5),
    ("reads", "r", L, [(2, "p", 2), (3, "o", 0), (4, "o", 0)]),
    ("reads", "m", L, [(0, "p", 0), (1, "p", 1), (2, "p", 2)]),
    ("committing", 2, "g", L, 2), ("committed", 2), ("looking", 3, "g", L), ("found", 3, 2),
    ("committing", 4, "g", L, 3), ("looking", 5, "g", L), ("found", 5, 3),
    ("reads", "last", L, [(0, "p", 0), (1, "p", 1), (2, "p", 2), (3, "o", 0), (4, "o", 0), (5, "o", 1)]), ("final", L, "last", 0, 6),
]
LAST = GOOD.index(("final", L, "last", 0, 6)) - 1


def changed(at, *events):
    """GOOD with the event(s) at `at` replaced."""
    i = at if isinstance(at, int) else GOOD.index(at)
    return GOOD[:i] + list(events) + GOOD[i + 1:]


def last(*records, low=0, high=None):
    return GOOD[:LAST] + [("reads", "last", L, list(records)), ("final", L, "last", low, len(records) if high is None else high)]


P, O = [(0, "p", 0), (1, "p", 1), (2, "p", 2)], [(3, "o", 0), (4, "o", 0), (5, "o", 1)]
TRIM = [("trim", L, 2), ("trimmed", L, 2)]
BAD = {
    "lost: the last ones": ("lost", last(*P, *O[:2])),
    "lost: acknowledged without an offset": ("lost", [e for e in changed(LAST, ("reads", "last", L, [*P, (3, "p", 2), (4, "p", 2), O[2]])) if e[:2] != ("reads", "r")]),
    "lost: the end goes back": ("lost", changed(("ends", 1, L, 0, 2), ("ends", 1, L, 0, 1))),
    "lost: the beginning moves": ("lost", changed(("ends", 1, L, 0, 2), ("ends", 1, L, 1, 2))),
    "lost: more than was to be deleted": ("lost", GOOD[:LAST] + [("trim", L, 2), ("reads", "last", L, [*O]), ("final", L, "last", 3, 6)]),
    "lost: another lies there": ("one offset, one value", last(*P, (3, "o", 0), (4, "o", 1), (5, "o", 0))),
    "moved": ("moved", last((0, "p", 1), (1, "p", 0), P[2], *O)),
    "doubled": ("doubled", last(*P, *O, (6, "p", 2))),
    "doubled: as acknowledged": ("doubled", GOOD[:LAST] + [("ack", L, "p", 2, 6), ("reads", "last", L, [*P, *O, (6, "p", 2)]), ("final", L, "last", 0, 7)]),
    "invented": ("invented", last(*P, *O, (6, "p", 3))),
    "invented: of another log": ("invented", GOOD[:-1] + [("log", ("u", 0, 0)), ("reads", "r", ("u", 0, 0), [(0, "p", 0)]),
                                                          ("reads", "last", ("u", 0, 0), [(0, "p", 0)]), ("final", ("u", 0, 0), "last", 0, 1), GOOD[-1]]),
    "invented: bytes": ("invented", GOOD + [("bad", "r", L, 3, "some bytes")]),
    "order": ("order", [("log", L), ("producer", "p", "idempotent"), ("reader", "last", None), ("send", L, "p", 0), ("send", L, "p", 1),
                        ("reads", "last", L, [(0, "p", 1), (1, "p", 0)]), ("final", L, "last", 0, 2)]),
    "order of who repeats": ("order", [("log", L), ("producer", "o", "ordered"), ("reader", "last", None), ("send", L, "o", 0), ("send", L, "o", 1),
                                       ("ack", L, "o", 1, 0), ("ack", L, "o", 0, 1), ("reads", "last", L, [(0, "o", 1), (1, "o", 0)]), ("final", L, "last", 0, 2)]),
    "one offset, one value": ("one offset, one value", changed(("reads", "r", L, [(2, "p", 2), (3, "o", 0), (4, "o", 0)]),
                                                               ("reads", "r", L, [(2, "p", 2), (3, "o", 0), (4, "o", 1)]))),
    "a gap at the end": ("no gaps", last(*P, *O[:1], O[2], high=6)),
    "a gap for a reader": ("no gaps", changed(("reads", "r", L, [(2, "p", 2), (3, "o", 0), (4, "o", 0)]), ("reads", "r", L, [(3, "o", 0)]))),
    "a reader goes back": ("no gaps", changed(("reads", "r", L, [(2, "p", 2), (3, "o", 0), (4, "o", 0)]), ("reads", "r", L, [(1, "p", 1)]))),
    "deleted records come back": ("deleted records", GOOD[:LAST] + TRIM + GOOD[LAST:]),
    "deleted records are told of": ("deleted records", GOOD[:LAST] + TRIM + [("asking", 9, L), ("ends", 9, L, 0, 6), ("reads", "last", L, [P[2], *O]), ("final", L, "last", 2, 6)]),
    "committed offset goes back": ("committed offsets", changed(("found", 3, 2), ("found", 3, 1))),
    "committed offset is gone": ("committed offsets", changed(("found", 3, 2), ("found", 3, None))),
    "a group leaves some out": ("group", changed(("reads", "m", L, [(0, "p", 0), (1, "p", 1), (2, "p", 2)]), ("reads", "m", L, [(1, "p", 1), (2, "p", 2)]))),
    "never read": ("checked", GOOD[:-1]),
    "deleted unread": ("checked", GOOD + [("log", ("u", 0, 0)), ("gone", ("u", 0, 0))]),
    "refused": ("refused", GOOD + [("refused", L, "p", 3, "no such partition")]),
    "trouble": ("trouble", GOOD + [("problem", "the broker ended")]),
}


def test_a_good_history():
    assert checker.check(GOOD) == []
    trimmed = GOOD[:LAST] + TRIM + [("asking", 9, L), ("ends", 9, L, 2, 6), ("reader", "late", None), ("reads", "late", L, [O[0]]),
                                    ("reads", "last", L, [P[2], *O]), ("final", L, "last", 2, 6), ("gone", L)]
    assert checker.check(trimmed) == []
    assert checker.check([("overtaken", "t"), *BAD["order of who repeats"][1]]) == []
    assert checker.check([("overtaken", "t"), *BAD["order"][1]]) != []
    late = GOOD[:-2] + [("looking", 8, "g", L), ("found", 8, 3), *GOOD[-2:]]
    assert checker.check(late) == []
    unsure = [("send", L, "o", 2), ("unsure", L, "o", 2)]
    assert checker.check(GOOD[:LAST] + unsure + GOOD[LAST:]) == []
    assert checker.check(GOOD[:LAST] + unsure + [("reads", "last", L, [*P, *O, (6, "o", 2)]), ("final", L, "last", 0, 7)]) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history(name):
    promise, events = BAD[name]
    found = checker.check(events)
    assert any(text.startswith(promise + ":") for text in found), found


def test_many_of_a_kind_stay_readable():
    found = checker.check([("problem", f"{i}") for i in range(1000)])
    assert len(found) == checker.MOST + 1 and found[-1].endswith("960 more")


def test_bytes_are_known_again(tmp_path):
    for number in range(50):
        data = record.value("p-1", number)
        assert record.identify(data) == ("p-1", number)
        assert record.identify(data[:-1] + bytes([data[-1] ^ 1])) is None
        assert record.identify(data + b"x") is None
    for data in (None, b"", b"nothing of ours", b"p x y"):
        assert record.identify(data) is None
    r = record.Record()
    for event in GOOD:
        r.add(*event)
    r.save(tmp_path / "record")
    assert checker.check(record.load(tmp_path / "record")) == [] and (r.sent, r.acked) == (5, 5)
