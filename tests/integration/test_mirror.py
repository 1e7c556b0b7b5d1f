"""A mirrored write-ahead log: what was acknowledged is there as long as one member that counts is; a member that fails while the broker
runs is dropped, by the ledger's word, and comes back when it can.

Seen to fail: with a recovery that takes the first member alone (nothing is found after its file was destroyed), and with one that believes
a member that had been dropped (records are missing, and the start is not refused)."""

import os
import shutil

import pytest

from harness import eventually, oxbow, run
from test_admin import metrics
from test_data import create
from test_faults import FAULT, Trickle
from test_refused import refused

LATE = {"upload.bytes": "32MiB", "upload.interval.ms": 600000, "http.listen": "127.0.0.1:0"}  # records stay in the log
NOWHERE = "/proc/1/nothing"  # a link to it can neither be opened nor made


def mirror(folder, options=""):
    return f"mirror:{options}file://{folder}/a?size=64MiB,file://{folder}/b?size=64MiB"


@pytest.mark.parametrize("lost", ["a", "b"])
def test_a_destroyed_member_takes_nothing_away(brokers, folder, lost):
    b = brokers({**LATE, "wal.url": mirror(folder)})
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    t.send(30)
    t.finish()
    assert metrics(b)["oxbow_wal_members", None] == 2
    b.kill9()
    os.unlink(f"{folder}/{lost}/oxbow.wal")
    b.start()
    assert b.lines("wal recovered")
    t.check(b)
    assert metrics(b)["oxbow_wal_members", None] == 2  # the file was made anew
    t.send(5)
    t.finish()
    b.kill9()
    status, out, _ = oxbow("wal", "inspect", mirror(folder))
    assert status == 0 and out.count("takeover mark: none") == 2
    for name in "ab":
        os.unlink(f"{folder}/{name}/oxbow.wal")
    refused(b, "give it back")


def test_a_broken_member_is_dropped_and_comes_back(mounts, brokers, folder):
    """One is a device that fails writes from some sector on: its file lies on a file system that is full."""
    at = f"{folder}/thin"
    mounts.mount("none", at, "-t", "tmpfs", "-o", "size=12m")
    path = f"{at}/device.img"
    with open(path, "wb") as f:
        f.truncate(48 << 20)
    device = mounts.loop(path)
    b = brokers({**FAULT, "wal.url": f"mirror:file://{folder}/a?size=64MiB,block://{device}?takeover=lock"})
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    eventually(lambda: t.run(0.2) is not None and metrics(b)["oxbow_wal_member_losses_total", None] > 0, 60, what="a member is lost")
    eventually(lambda: b.lines('msg="wal membership"'), what="a smaller membership")
    assert eventually(lambda: t.run(0.5) > 0, what="something is acknowledged by the other")
    assert b.alive()
    t.finish()
    b.restart(kill=True)
    t.check(b)
    run(["mount", "-o", "remount,size=100m", at])
    eventually(lambda: t.run(0.2) is not None and metrics(b)["oxbow_wal_members", None] == 2, 60, what="both are used again")
    t.finish()
    b.restart(kill=True)
    t.check(b)
    b.stop()


def test_a_member_that_was_dropped_is_not_believed(brokers, folder):
    """The broker starts with one member out of reach; that one, alone, is then offered with what it had before."""
    b = brokers({**LATE, "wal.url": mirror(folder)})
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    t.send(5)
    t.finish()
    b.kill9()
    os.rename(f"{folder}/b", f"{folder}/away")
    os.symlink(NOWHERE, f"{folder}/b")
    b.start()
    assert metrics(b)["oxbow_wal_members", None] == 1
    t.send(10)
    t.finish()
    b.kill9()
    os.unlink(f"{folder}/b")
    os.rename(f"{folder}/away", f"{folder}/b")
    os.rename(f"{folder}/a", f"{folder}/away")
    refused(b, "give it back")
    shutil.rmtree(f"{folder}/a")  # the refused start has made an empty one
    os.rename(f"{folder}/away", f"{folder}/a")
    b.start()
    t.check(b)
    b.stop()


def test_stop_confirms_from_the_store_until_all_are_there(brokers, folder):
    b = brokers({**LATE, "wal.url": mirror(folder, "?lost=stop,")})
    create(b, None, "data", 1)
    b.kill9()
    os.rename(f"{folder}/b", f"{folder}/away")
    os.symlink(NOWHERE, f"{folder}/b")
    b.start()
    t = Trickle(b, "data")
    t.send(5)
    t.finish()
    assert metrics(b)["oxbow_wal_failed", None] == 1
    os.unlink(f"{folder}/b")
    os.rename(f"{folder}/away", f"{folder}/b")
    eventually(lambda: metrics(b)["oxbow_wal_failed", None] == 0, 60, what="the log is used again")
    assert metrics(b)["oxbow_wal_members", None] == 2
    t.send(5)
    t.finish()
    b.restart(kill=True)
    t.check(b)
    b.stop()
