"""What test_refused leaves: the object that names the cluster, newer formats inside of sound entries, the body of the write-ahead log, a
log or a store that is gone, and what `inspect` says of each.

Seen to fail: test_group_in_the_middle_damaged with a broker that took the damage for the end of the log: it started with 5 records of
20 and said `ready`."""

import glob
import os
import shutil
import struct

import pytest

from harness import eventually, oxbow
from test_refused import filled, refused, whole
from wire import Wire, batch, crc32c

SECTOR = 4096
RING = 4 * SECTOR


def inspected(status, *command, says=()):
    got, out, err = oxbow(*command)
    assert got == status, f"{command}: {got}\n{out}{err}"
    for text in says:
        assert text in out + err, f"{text!r} is not in:\n{out}{err}"
    assert ("BAD" in out or err != "") == (status != 0)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def put_crc(data, end):
    return bytes(data[:end]) + struct.pack("<I", crc32c(bytes(data[:end]))) + bytes(data[end + 4:])


def test_cluster_object(brokers):
    b = filled(brokers)
    store, path = f"{b.folder}/store", f"{b.folder}/store/objects/oxbow.cluster"
    good = read(path)
    os.chmod(path, 0o644)
    newer = put_crc(good[:4] + b"\x02\0" + good[6:], 52)
    for data, words, error in ((newer, ["oxbow.cluster", "newer"], "ERR_VERSION"), (good[:20] + b"!" + good[21:], ["oxbow.cluster", "damaged"], "ERR_CORRUPT"),
                               (good[:30], ["oxbow.cluster", "damaged"], "ERR_CORRUPT"), (b"", ["oxbow.cluster", "damaged"], "ERR_TRUNCATED"),
                               (b"Dear reader", ["oxbow.cluster", "not written by Oxbow"], "ERR_FOREIGN")):
        write(path, data)
        refused(b, *words)
        assert read(path) == data
        inspected(1, "ledger", "inspect", store, says=["oxbow.cluster", error])
        inspected(1, "object", "inspect", store, "--all", says=["oxbow.cluster", error])
    write(path, good)
    inspected(0, "ledger", "inspect", store)
    whole(b)


def test_cluster_object_gone_but_not_the_rest(brokers):
    """Somebody's data is there; a new cluster must not be begun over it in silence: the WAL has records of the old one."""
    b = filled(brokers)
    path = f"{b.folder}/store/objects/oxbow.cluster"
    os.rename(path, path + ".away")
    b.start(wait=False)
    assert b.wait(30) == 1, "a new cluster was begun, and the records in the WAL were given up"


def head_patched(data, at, piece):
    """An entry whose head says something else, with checksums that hold."""
    data = bytearray(data)
    size, = struct.unpack_from("<Q", data, 64)
    data[128 + at:128 + at + len(piece)] = piece
    data[80:84] = struct.pack("<I", crc32c(bytes(data[128:128 + size])))
    return put_crc(data, 124)


@pytest.mark.parametrize("log", ["cluster/*", "ledger/*/*"])
def test_newer_formats_in_sound_entries(brokers, log):
    """Version 99 of a ledger head or a record: every checksum holds, and nobody may guess what it means."""
    b = filled(brokers)
    path = sorted(glob.glob(f"{b.folder}/store/objects/*/{log}"))[-1]
    good = read(path)
    os.chmod(path, 0o644)
    # A ledger head begins with a u16 version; a record of the cluster log with kind and version.
    write(path, head_patched(good, 0, b"\x63\0" if "ledger" in log else b"\x63\x63"))
    refused(b, "ERR_VERSION")
    inspected(1, "ledger", "inspect", f"{b.folder}/store", says=[os.path.basename(path), "BAD"])
    write(path, good)
    whole(b)


# --- The write-ahead log.

def groups(path):
    """Positions of the groups in the file, of the last start."""
    data = read(path)
    found, at = [], RING
    while data[at:at + 4] == b"OXWG":
        found.append(at)
        size, = struct.unpack_from("<I", data, at + 32)
        at += (size + SECTOR - 1) // SECTOR * SECTOR
    assert found
    return found


def turn_bit(path, data, position):
    write(path, data[:position] + bytes([data[position] ^ 1]) + data[position + 1:])


def test_inspect_names_a_damaged_group(brokers):
    b = filled(brokers)
    path = f"{b.folder}/wal/oxbow.wal"
    good, at = read(path), groups(path)
    assert len(at) == 20
    for position in (at[5] + 200, at[5] + 9, at[0], at[19] + 70):
        turn_bit(path, good, position)
        inspected(1, "wal", "inspect", path, says=["BAD"])
    write(path, good)
    inspected(0, "wal", "inspect", path)
    whole(b)


def test_group_in_the_middle_damaged(brokers):
    """A bit of an acknowledged record has turned over on the disk, and acknowledged groups lie behind it. That is no end of the log:
    starting would give them up without a word."""
    b = filled(brokers)
    path = f"{b.folder}/wal/oxbow.wal"
    turn_bit(path, read(path), groups(path)[5] + 200)
    b.start(wait=False)
    eventually(lambda: not b.alive() or b.lines('msg="ready"'))
    assert not b.lines('msg="ready"'), b.lines("wal recovered")
    assert b.wait(30) == 1 and "WAL is damaged in the middle" in b.lines("broker cannot be started")[0]


def test_group_of_a_newer_version(brokers):
    b = filled(brokers)
    path = f"{b.folder}/wal/oxbow.wal"
    good, at = read(path), groups(path)[5]
    write(path, good[:at] + put_crc(good[at:at + 4] + b"\x02\0" + good[at + 6:at + 64], 60) + good[at + 64:])
    refused(b, "WAL", "ERR_VERSION")
    inspected(1, "wal", "inspect", path)
    write(path, good)
    whole(b)


def test_torn_end(brokers):
    """The last group cut off is what a crash leaves: the start goes on, without that record."""
    b = filled(brokers)
    path = f"{b.folder}/wal/oxbow.wal"
    good, at = read(path), groups(path)[-1]
    write(path, good[:at + 150] + b"\0" * 50 + good[at + 200:])
    b.start()
    with Wire(b.port) as w:
        assert w.list_offsets("t", 0, -1)[2] == 19


def test_wal_gone(brokers):
    """After a kill it is missed, by name; after an orderly stop nothing is in it."""
    b = filled(brokers)
    shutil.move(f"{b.folder}/wal", f"{b.folder}/wal.away")
    refused(b, "WAL that this broker last used", "not in the object store", "give it back")
    shutil.rmtree(f"{b.folder}/wal")
    shutil.move(f"{b.folder}/wal.away", f"{b.folder}/wal")
    whole(b)  # stops in order
    shutil.rmtree(f"{b.folder}/wal")
    whole(b)


def test_store_gone_but_the_wal_is_there(brokers):
    """Its records belong to a cluster whose store is gone: a new cluster may not take the ring, and with it the only copy."""
    b = filled(brokers)
    os.rename(f"{b.folder}/store", f"{b.folder}/store.away")
    b.start(wait=False)
    status = b.wait(30)
    shutil.rmtree(f"{b.folder}/store")
    os.rename(f"{b.folder}/store.away", f"{b.folder}/store")
    assert status == 1, "a new cluster was begun, and the records in the WAL were given up"
    whole(b)


def test_inspect_beside_a_running_broker(brokers):
    b = filled(brokers)
    b.start()
    with Wire(b.port) as w:
        for i in range(30):
            w.send_produce("t", 0, batch([b"x" * 1000]))
        for command in (["wal", "inspect", f"{b.folder}/wal"], ["ledger", "inspect", f"{b.folder}/store"], ["object", "inspect", f"{b.folder}/store", "--all"]):
            inspected(0, *command)
        assert b.alive()
