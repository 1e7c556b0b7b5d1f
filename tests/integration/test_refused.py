"""What a broker must not touch it refuses, with status 1 and one clear sentence: what another broker uses, what is not ours, what is
damaged, what is newer than itself.

With the damage mended the same broker starts and has all its records: each test ends with that."""

import glob
import os
import struct

import pytest

from wire import Wire, batch, crc32c


def refused(b, *words):
    """Starts it; it must end with 1, and say one sentence with these words."""
    b.start(wait=False)
    assert b.wait(30) == 1, b.log()
    errors = b.lines("level=error")
    assert errors and any(all(w.lower() in line.lower() for w in words) for line in errors), b.log()
    assert not b.lines('msg="ready"')
    return errors


def filled(brokers, kill=True):
    """A broker that has some records, half of them in the write-ahead log alone, and is stopped."""
    b = brokers({"upload.interval.ms": 600000})
    with Wire(b.port) as w:
        w.create("t")
        for i in range(20):
            assert w.produce("t", 0, batch([b"%d" % i * 100]))[0] == 0
    b.kill9() if kill else b.stop()
    return b


def whole(b):
    b.start()
    with Wire(b.port) as w:
        assert w.list_offsets("t", 0, -1)[2] == 20
    b.stop()


def patch(path, position, data, crc_of=None):
    """Writes, and puts a checksum over crc_of = (from, to, where) right again."""
    with open(path, "r+b") as f:
        f.seek(position)
        f.write(data)
        if crc_of:
            start, end, where = crc_of
            f.seek(start)
            crc = crc32c(f.read(end - start))
            f.seek(where)
            f.write(struct.pack("<I", crc))


def test_a_second_broker(brokers, folder):
    first = brokers(name="first")
    shared = {k: first.settings[k] for k in ("storage.url", "wal.url")}
    second = brokers({"storage.url": shared["storage.url"]}, name="second", start=False)
    assert len(refused(second, "another", "store")) == 1
    third = brokers({"wal.url": shared["wal.url"]}, name="third", start=False)
    refused(third, "WAL", "another")
    fourth = brokers({"listeners": first.settings["listeners"]}, name="fourth", start=False)
    refused(fourth, "address is in use")
    with Wire(first.port) as w:
        w.create("t")
        assert w.produce("t", 0, batch([b"x"]))[0] == 0


def test_a_second_broker_on_a_block_device(mounts, brokers):
    device = mounts.loop(mounts.sparse("device.img", 20 << 20))
    brokers({"wal.url": f"block://{device}"}, name="first")
    second = brokers({"wal.url": f"block://{device}"}, name="second", start=False)
    refused(second, "WAL")


def both_superblocks(b, position, data, crc=True):
    for slot in (0, 1):
        at = slot * 4096
        patch(f"{b.folder}/wal/oxbow.wal", at + position, data, (at, at + 252, at + 252) if crc else None)


def test_wal_refused(brokers, folder):
    b = filled(brokers)
    path = f"{b.folder}/wal/oxbow.wal"
    with open(path, "rb") as f:
        good = f.read(16384)

    def restore():
        patch(path, 0, good)
    both_superblocks(b, 8, struct.pack("<I", 2))
    refused(b, "WAL", "newer")
    restore()
    both_superblocks(b, 88, b"\x55", crc=False)
    refused(b, "superblock", "damaged")
    restore()
    both_superblocks(b, 0, b"NOTOURS!", crc=False)
    refused(b, "not an Oxbow WAL")
    restore()
    both_superblocks(b, 64, b"\x11" * 16)  # another WAL's id
    refused(b, "WAL", "give it back")
    restore()
    os.rename(path, path + ".away")
    refused(b, "WAL", "give it back")
    with open(path, "rb") as f:  # made by that start, and not kept
        assert f.read(8) in (b"", b"\0" * 8)
    os.rename(path + ".away", path)
    os.truncate(path, 18 << 20)
    b.settings["wal.url"] = f"file://{b.folder}/wal?size=18MiB"
    refused(b, "WAL", "truncated")
    b.settings["wal.url"] = f"file://{b.folder}/wal?size=64MiB"


def test_one_superblock_of_two_is_enough(brokers):
    b = filled(brokers)
    path = f"{b.folder}/wal/oxbow.wal"
    with open(path, "rb") as f:
        data = f.read(8192)
    sequences = [struct.unpack_from("<Q", data, slot * 4096 + 16)[0] for slot in (0, 1)]
    patch(path, sequences.index(min(sequences)) * 4096 + 40, b"\xff\xff")
    whole(b)


def entries(b, log):
    found = sorted(glob.glob(f"{b.folder}/store/objects/*/{log}", recursive=True))
    assert found
    return found


@pytest.mark.parametrize("log", ["cluster/*", "ledger/*/*"])
def test_log_entries_refused(brokers, log):
    b = filled(brokers)
    path = entries(b, log)[-1]
    with open(path, "rb") as f:
        good = f.read()

    def damage(data):
        os.chmod(path, 0o644)
        with open(path, "wb") as f:
            f.write(data)
    name = os.path.relpath(path, f"{b.folder}/store/objects")
    newer = bytearray(good)
    newer[4] = 2
    newer[124:128] = struct.pack("<I", crc32c(bytes(newer[:124])))
    flipped = bytearray(good)
    flipped[130] ^= 4
    for data, word in ((newer, "ERR_VERSION"), (flipped, "ERR_CORRUPT"), (b"XYZ " + good[4:], "ERR_FOREIGN"), (good[:100], "ERR_TRUNCATED"),
                       (good[:-1], "ERR_TRUNCATED"), (b"", "ERR_TRUNCATED")):
        damage(bytes(data))
        errors = refused(b, word)
        in_parts = f"prefix={os.path.dirname(name)} number={int(os.path.basename(name))} "
        assert any(word in line and (f"key={name} " in line or in_parts in line) for line in errors), errors
    damage(good)
    whole(b)


def test_foreign_folders_refused(brokers, folder):
    os.makedirs(f"{folder}/documents")
    with open(f"{folder}/documents/letter.txt", "w", encoding="ascii") as f:
        f.write("dear")
    b = brokers({"storage.url": f"file://{folder}/documents"}, start=False)
    refused(b, "store")
    assert os.listdir(f"{folder}/documents") == ["letter.txt"]
    own = filled(brokers, kill=False)
    with open(f"{own.folder}/store/oxbow-store", "w", encoding="ascii") as f:
        f.write("oxbow-store 2\n")
    refused(own, "newer")
    with open(f"{folder}/file.txt", "w", encoding="ascii") as f:
        f.write("no log of ours" * 4096 * 400)
    b = brokers({"wal.url": f"file://{folder}/file.txt?size=32MiB"}, start=False)
    refused(b, "not an Oxbow WAL")
    with open(f"{folder}/file.txt", encoding="ascii") as f:
        assert f.read(10) == "no log of "


def test_a_wal_of_another_cluster_refused(brokers):
    b, other = filled(brokers), filled(brokers)
    b.settings["wal.url"], mine = other.settings["wal.url"], b.settings["wal.url"]
    refused(b, "WAL")
    b.settings["wal.url"] = mine
    whole(b)
    whole(other)
