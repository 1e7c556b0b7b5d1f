"""A mirrored write-ahead log: what was acknowledged is there as long as one member that counts is; a member that fails while the broker
runs is dropped, by the ledger's word, and comes back when it can. What is another broker's it leaves alone. A member may be an object log in another store.

Seen to fail: with a recovery that takes the first member alone (nothing is found after its file was destroyed), and with one that believes
a member that had been dropped (records are missing, and the start is not refused); with a mirror that formats whatever it finds (the
other broker's file is another one); with a recovery that leaves the object log out (the start is refused)."""

import hashlib
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


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def test_the_log_of_another_broker_is_left_alone(brokers, folder):
    """Broker 7 was killed with records in its log alone. Then broker 1 starts with a mirror that names it."""
    path = f"{folder}/b/oxbow.wal"
    b = brokers({**LATE, "node.id": 7, "wal.url": f"file://{folder}/b?size=64MiB"})
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    t.send(5)
    t.finish()
    b.kill9()
    before = digest(path)
    b.start(**{"node.id": 1, "wal.url": mirror(folder)})
    t.check(b)
    found = metrics(b)
    assert found["oxbow_wal_members", None] == 1 and found["oxbow_wal_members_lost", None] == 1
    t.run(3)  # it heals itself all the time
    t.finish()
    assert digest(path) == before
    assert any("another broker" in line and "left alone" in line for line in b.lines("level=error"))
    assert oxbow("wal", "init", "--force", path)[0] == 0
    eventually(lambda: t.run(0.2) is not None and metrics(b)["oxbow_wal_members", None] == 2, 60, what="the operator's word counts")
    t.finish()
    b.stop()


def objects(folder):
    return f"mirror:?timeout.ms=1000,file://{folder}/a?size=64MiB,objects:file://{folder}/other"


def entries(folder):
    return [name for _, _, names in os.walk(f"{folder}/other") for name in names if name.isdigit()]


def test_an_object_log_has_what_a_lost_device_had(brokers, folder):
    b = brokers({**LATE, "wal.url": objects(folder)})
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    t.send(30)
    t.finish()
    found = metrics(b)
    assert found["oxbow_wal_members", None] == 2
    assert sum(v for k, v in found.items() if k[0] == "oxbow_store_billed_requests_total" and 'purpose="wal"' in str(k[1])) >= 2
    assert entries(folder)
    b.kill9()
    os.unlink(f"{folder}/a/oxbow.wal")
    b.start()
    assert b.lines("wal recovered from objects")
    t.check(b)
    assert metrics(b)["oxbow_wal_members", None] == 2
    t.send(5)
    t.finish()
    b.kill9()
    os.unlink(f"{folder}/a/oxbow.wal")
    os.rename(f"{folder}/other", f"{folder}/away")
    refused(b, "give it back")  # neither is there
    shutil.rmtree(f"{folder}/other")  # the refused start has made an empty one
    os.rename(f"{folder}/away", f"{folder}/other")
    b.start()
    t.check(b)
    b.stop()
    eventually(lambda: not entries(folder), what="nothing of the log is left after a stop in order")


def test_an_object_log_that_is_away_is_dropped_and_comes_back(brokers, folder):
    b = brokers({**FAULT, "wal.url": objects(folder)})
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    assert t.run(1) > 0
    os.rename(f"{folder}/other", f"{folder}/away")
    eventually(lambda: t.run(0.2) is not None and metrics(b)["oxbow_wal_member_losses_total", None] > 0, 60, what="it is lost")
    assert eventually(lambda: t.run(0.5) > 0, what="something is acknowledged by the other")
    os.rename(f"{folder}/away", f"{folder}/other")
    eventually(lambda: t.run(0.2) is not None and metrics(b)["oxbow_wal_members", None] == 2, 60, what="both are used again")
    t.finish()
    b.kill9()
    os.unlink(f"{folder}/a/oxbow.wal")
    b.start()
    t.check(b)
    b.stop()


def test_an_object_log_in_the_cluster_s_own_store_is_refused(brokers, folder):
    b = brokers()
    b.stop()
    b.start(wait=False, **{"wal.url": f"mirror:file://{folder}/a?size=64MiB,objects:{b.settings['storage.url']}"})
    assert b.wait(30) != 0 and "another store" in b.whole_log()
    b.start(**{"wal.url": objects(folder)})
    b.stop()
