"""A mirror of two block devices that several machines reach (`takeover=mark`, on a store that others write to as well). A machine is a loop
device of its own on each file: what one has locked another can open.

Seen to fail: with rings that are used again though marked and not closed in order (nothing is left alone); with a holder that does not
look for the mark on one of the two, and with a recovery that writes none (what the holder was sent is acknowledged, and the other broker
does not have it)."""

import os
import re
import signal

import pytest

from harness import eventually, oxbow
from test_admin import metrics
from test_data import create
from test_faults import Trickle
from test_s3 import KEYS, settings
from wire import Wire, batch

DEVICE_SIZE = 17 << 20
LATE = {"upload.bytes": "32MiB", "cache.log.bytes": "64MiB", "upload.interval.ms": 600000}  # records stay in the log
LEFT = "wal member is not used by this start: make it new with `oxbow wal init --force`"
NONE = "it is never written to again"


@pytest.fixture
def bucket(rgw):
    name = rgw.bucket()
    yield name
    rgw.client.empty(name)


@pytest.fixture
def images(mounts):
    return [mounts.sparse(f"{name}.img", DEVICE_SIZE) for name in "ab"]


def machine(mounts, images):
    return [mounts.loop(image) for image in images]


def mirror(devices):
    return "mirror:" + ",".join(f"block://{d}?takeover=mark" for d in devices)


def make_new(devices, *options):
    for d in devices:
        status, out, err = oxbow("wal", "init", f"block://{d}", *options)
        assert status == 0 and "new WAL" in out, err


def left_alone(b):
    """The devices of which the log says that an operator has to do something."""
    told = b.lines(LEFT)
    return [d for d in re.findall(r"/dev/(\w+)", b.settings["wal.url"]) if any(re.search(rf"/dev/{d}\b", line) for line in told)]


def names(devices):
    return [os.path.basename(d) for d in devices]


def in_use(b):
    found = metrics(b)
    return found["oxbow_wal_members", None] if not found["oxbow_wal_failed", None] else 0


def contents(images):
    found = []
    for image in images:
        with open(image, "rb") as f:
            found.append(f.read())
    return found


def end_offset(b):
    with Wire(b.port) as w:
        return w.list_offsets("data", 0, -1)[2]


def one_more(b, topic, offset):
    with Wire(b.port) as w:
        assert w.produce(topic, 0, batch([b"%d" % offset]))[:2] == (0, offset)


def test_another_broker_recovers_and_leaves_the_devices_alone(rgw, bucket, mounts, images, brokers):
    here, there = machine(mounts, images), machine(mounts, images)
    b = brokers(settings(rgw, bucket, **LATE, **{"node.id": 1, "wal.url": mirror(here)}), env=KEYS, start=False)
    # Nobody has made them new: one start alone must be able to claim them. Refused, as with a single device.
    b.start(wait=False)
    assert b.wait() != 0 and left_alone(b) == names(here) and not b.lines(NONE)
    assert b.lines("no member of the mirror has a WAL") and b.lines("run `oxbow wal init` on it once"), b.log()
    make_new(here)
    b.start()
    assert left_alone(b) == [] and not b.lines(NONE) and in_use(b) == 2
    create(b, None, "data", 1)
    create(b, None, "more", 1)
    t = Trickle(b, "data")
    t.send(20)
    t.finish()
    b.kill9()

    other = brokers(settings(rgw, bucket, **LATE, **{"node.id": 2, "wal.url": mirror(there)}), env=KEYS)
    assert other.lines("wal recovered") and left_alone(other) == names(there) and len(other.lines(NONE)) == 1 and in_use(other) == 0
    t.check(other)
    status, out, _ = oxbow("wal", "inspect", mirror(there))
    assert status == 0 and out.count("was taken over by") == 2
    before = contents(images)
    one_more(other, "more", 0)
    other.stop()
    assert contents(images) == before  # marked, and not touched since
    status, _, err = oxbow("wal", "init", there[0])
    assert status == 1 and "--force" in err

    make_new(there[:1], "--force")  # one of them, for now
    other.start()
    assert left_alone(other) == names(there[1:]) and not other.lines(NONE) and in_use(other) == 1
    assert metrics(other)["oxbow_wal_members_lost", None] == 1
    one_more(other, "more", 1)
    other.kill9()  # what that one alone has is recovered from it
    other.start()
    assert other.lines("wal recovered") and left_alone(other) == names(there) and in_use(other) == 0
    t.check(other)
    one_more(other, "more", 2)
    other.stop()
    make_new(there, "--force")
    other.start()
    assert left_alone(other) == [] and in_use(other) == 2
    one_more(other, "more", 3)
    other.restart()  # stopped in order: they can be claimed
    assert left_alone(other) == [] and in_use(other) == 2
    one_more(other, "more", 4)
    other.stop()
    claims = [k for k in rgw.client.list(bucket) if "/wal/" in k]
    assert len(claims) == 7, claims  # each time that one was begun

    # The first broker again: they say that they are the second one's.
    b.start()
    assert left_alone(b) == names(here) and all("another broker" in line for line in b.lines(LEFT)) and in_use(b) == 0
    t.check(b)
    one_more(b, "more", 5)
    b.stop()


@pytest.mark.parametrize("reached", [0, 1])
def test_a_mark_on_one_device_stops_the_holder(rgw, bucket, mounts, images, brokers, reached):
    """The holder stands still; who takes over reaches one of the two devices. Then the holder goes on, with records that have come."""
    here, there = machine(mounts, images), machine(mounts, images)
    there[1 - reached] = f"/dev/none{os.getpid()}"
    make_new(here)
    b = brokers(settings(rgw, bucket, **LATE, **{"node.id": 1, "wal.url": mirror(here)}), env=KEYS)
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    t.send(10)
    t.finish()
    b.process.send_signal(signal.SIGSTOP)
    t.send(5)
    other = brokers(settings(rgw, bucket, **LATE, **{"node.id": 2, "wal.url": mirror(there)}), env=KEYS)
    assert other.lines("wal recovered") and left_alone(other) == names(there) and in_use(other) == 0
    assert end_offset(other) == 10
    b.process.send_signal(signal.SIGCONT)
    eventually(lambda: t.producer.poll(0.05) is not None and (len(t.acked) > 10 or not b.alive()), 60, what="the holder gives up")
    assert len(t.acked) == 10
    assert b.wait() != 0 and b.lines("the WAL carries a takeover mark"), b.log()[-3000:]
    t.producer.purge()
    t.producer.flush(10)
    t.sent = 10
    t.check(other)
