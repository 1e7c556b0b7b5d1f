"""A block device as the WAL of a cluster whose store others reach too (S3), taken over by mark: made new by hand, claimed, left alone after
a start that did not end in order.

Seen to fail: with a ring formatted that was not closed (the marked device is refused, the broker does not start)."""

import urllib.request

import pytest

from harness import oxbow
from test_refused import refused
from test_s3 import KEYS, settings
from wire import Wire, batch

DEVICE_SIZE = 17 << 20
LEFT_ALONE = "it is never written to again"


@pytest.fixture
def bucket(rgw):
    name = rgw.bucket()
    yield name
    rgw.client.empty(name)


def produce(b, offset):
    with Wire(b.port) as w:
        if offset == 0:
            assert w.create("t")[0] == 0
        assert w.produce("t", 0, batch([b"%d" % offset]))[:2] == (0, offset)


def wal_failed(b):
    page = urllib.request.urlopen(f"{b.http}/metrics", timeout=30).read().decode()
    return [line.split()[-1] for line in page.splitlines() if line.startswith("oxbow_wal_failed ")] == ["1"]


def front(device):
    with open(device, "rb") as f:
        return f.read(16384)


def test_a_device_is_claimed_and_left_alone(rgw, bucket, mounts, brokers):
    device = mounts.loop(mounts.sparse("device.img", DEVICE_SIZE))
    b = brokers(settings(rgw, bucket, **{"wal.url": f"block://{device}"}), env=KEYS, start=False)
    refused(b, "oxbow wal init", "takeover=lock")
    status, out, err = oxbow("wal", "init", f"block://{device}")
    assert status == 0 and "new WAL" in out, err
    b.start()
    assert not b.lines(LEFT_ALONE)
    produce(b, 0)
    b.restart()  # stopped in order: it can be used again
    assert not b.lines(LEFT_ALONE)
    produce(b, 1)
    status, _, err = oxbow("wal", "init", device, "--force")
    assert status == 1 and "another process" in err
    b.kill9()
    status, _, err = oxbow("wal", "init", device)
    assert status == 1 and "--force" in err
    b.start()
    assert len(b.lines(LEFT_ALONE)) == 1 and b.lines("wal recovered") and wal_failed(b)
    before = front(device)
    produce(b, 2)
    b.stop()
    assert front(device) == before  # marked, and not touched since
    assert oxbow("wal", "init", device, "--force")[0] == 0
    b.start()
    assert not b.lines(LEFT_ALONE) and not wal_failed(b)
    produce(b, 3)
    with Wire(b.port) as w:
        got = w.fetch([("t", 0, 0, 1 << 20)])[2]["t", 0]
        assert got[:2] == (0, 4)
    claims = [k for k in rgw.client.list(bucket) if "/wal/" in k]
    assert len(claims) == 3, claims
