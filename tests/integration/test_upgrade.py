"""Upgrades: stores that brokers of the past have left, whole, are kept in tests/fixtures for ever, and the broker at hand reads them all, goes on with
them, and finds its own and the old after the next kill. What a newer broker has left it refuses: which format, which version, which it knows, what to
do; and it changes nothing of it.

Seen to fail: with the version of any format raised in src/base/format_table.h (no fixture has it); with a broker that took records of an unknown
type for a torn end of the log (it started without them); that took a newer broker's groups of an earlier lap for its own (refused for ever); that left
committed offsets of a newer version out."""

import glob
import hashlib
import json
import os
import re
import shutil
import struct
import sys
import tarfile

import confluent_kafka
import pytest

import harness
import ox
from harness import ROOT, eventually, oxbow
from test_refused import refused
from wire import Wire, crc32c
from wire_groups import Group

FOLDER = os.path.join(ROOT, "tests", "fixtures")
sys.path.insert(0, FOLDER)
import formats  # noqa: E402
from make_store import bytes_of  # noqa: E402

FIXTURES = sorted(glob.glob(f"{FOLDER}/*.tar.xz"))
SECTOR, RING = formats.SECTOR, formats.RING
# Versions that Kafka alone writes, and what a store in a folder hardly ever holds; tests/unit/<file> has their bytes instead. (Marks and claims are for
# devices that several machines reach; fences go when a folder's next holder has recovered; a pad waits at the end of a ring's lap.)
ELSEWHERE = {("wal-mark", 1): "stream/test_wal.c", ("wal-claim", 1): "stream/test_wal.c", ("wal-group-kind", 2): "stream/test_record.c",
             ("mirror-log", 1): "stream/test_mirror.c", ("log-entry-kind", 3): "objlog/test_takeover.c",
             ("cluster-record-kind", 7): "meta/test_record.c",
             **{("offset-value", v): "coord/test_records.c" for v in (0, 1, 2)}, **{("group-value", v): "coord/test_records.c" for v in (0, 1, 2, 4)}}


def unpack(path, to):
    with tarfile.open(path, "r:xz") as archive:
        archive.extractall(to)
    with open(f"{to}/expected.json", encoding="utf-8") as f:
        return json.load(f)


@pytest.fixture(params=FIXTURES, ids=lambda p: os.path.basename(p)[:-len(".tar.xz")])
def packed(request):
    return request.param


def broker_of(brokers, path, **settings):
    """A broker that has not been started, on a copy of the fixture, and what must be found."""
    b = brokers(settings, start=False)
    expected = unpack(path, b.folder)
    b.settings.update(expected["settings"])
    b.settings["wal.url"] = f"file://{b.folder}/wal?size=16MiB"
    if os.path.exists(f"{b.folder}/wal2"):
        b.settings["wal.url"] = f"mirror:file://{b.folder}/wal?size=16MiB,file://{b.folder}/wal2?size=16MiB"
    return b, expected


def read(b, partitions):
    """{(topic, partition): [(offset, timestamp, key, value, headers)]}, all from the start to the end."""
    c = confluent_kafka.Consumer({"bootstrap.servers": b.address, "group.id": "none", "enable.auto.commit": False, "enable.partition.eof": True,
                                  "check.crcs": True, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20})
    c.assign([confluent_kafka.TopicPartition(t, p, confluent_kafka.OFFSET_BEGINNING) for t, p in partitions])
    got, left = {x: [] for x in partitions}, set(partitions)
    while left:
        m = c.poll(60)
        assert m is not None
        at = m.topic(), m.partition()
        if m.error():
            assert m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, m.error()
            left.discard(at)
        else:
            got[at].append((m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers() or []))
    c.close()
    return got


def acknowledged(p):
    return [(o, t, bytes_of(k), bytes_of(v), [(n, bytes_of(x)) for n, x in headers]) for o, t, k, v, headers in p["records"]]


def newest(records):
    return {r[2]: r[0] for r in records}


def check(b, expected, cleaned):
    """All that was acknowledged is there; of compacted topics what was there last, or, when they may have been compacted since, the newest of each key."""
    names = ox.call(b.port, "Metadata", 12, {"topics": None})["topics"]
    assert {t["name"]: t["topic_id"].hex() for t in names if not t["is_internal"]} == {n: t["id"] for n, t in expected["topics"].items()}
    records = read(b, [(name, i) for name, topic in expected["topics"].items() for i in range(len(topic["partitions"]))])
    for name, topic in expected["topics"].items():
        for i, p in enumerate(topic["partitions"]):
            with Wire(b.port) as w:
                assert w.list_offsets(name, i, -2)[2] == p["start"] and w.list_offsets(name, i, -1)[2] == p["end"], (name, i)
            got, want = records[name, i], acknowledged(p)
            if topic["compacted"]:
                assert set(newest(want).values()) <= {r[0] for r in got}
                offsets = {r[0] for r in got} if cleaned else set(expected["there"][name])
                want = [r for r in want if r[0] in offsets]
            assert got == want, (name, i)
    for name, group in expected["groups"].items():
        def found():
            with Group(b.port) as g:
                error, there = g.fetch_offsets(name)
                return None if error else (there,)
        there, = eventually(found)
        assert {f"{t}/{p}": [offset, metadata] for (t, p), (offset, metadata, _) in there.items()} == group["offsets"], name


def produce(b, expected, count):
    p, errors = confluent_kafka.Producer({"bootstrap.servers": b.address, "enable.idempotence": True}), []
    for name, topic in expected["topics"].items():
        for i, into in enumerate(topic["partitions"]):
            for n in range(count):
                record = [1_750_000_000_000 + n, f"key{n}", f"new {name} {n}", []]
                p.produce(name, record[2], record[1], i, timestamp=record[0], on_delivery=lambda e, _: errors.append(e))
                into["records"].append([into["end"], *record])
                into["end"] += 1
                expected["there"].get(name, []).append(into["end"] - 1)
    assert p.flush(60) == 0 and not any(errors), errors
    for name, group in expected["groups"].items():
        if not group["offsets"]:
            continue  # it may have a member still, who was not heard leaving
        with Group(b.port) as g:
            assert set(g.commit(name, {("plain", 0): 33}, metadata="new").values()) == {0}
        group["offsets"]["plain/0"] = [33, "new"]


def test_an_old_store_is_read_and_gone_on_with(brokers, packed):
    b, expected = broker_of(brokers, packed, **{"log.cleaner.enable": "false", "log.cleaner.backoff.ms": "100"})
    b.start()
    check(b, expected, False)
    produce(b, expected, 5)
    check(b, expected, False)
    b.restart(kill=True)
    check(b, expected, False)
    b.restart(kill=False, **{"log.cleaner.enable": "true", "upload.interval.ms": "100"})
    produce(b, expected, 5)
    check(b, expected, True)
    b.stop()
    for command in (["ledger", "inspect", f"{b.folder}/store"], ["object", "inspect", f"{b.folder}/store", "--all"]):
        status, out, err = oxbow(*command)
        assert status == 0 and "BAD" not in out, out + err
    b.start()
    check(b, expected, True)


def known():
    """{format: (oldest, newest)}"""
    found = re.findall(r"^(\S+) +reads (\d+) to (\d+), ", oxbow("version", "--formats", check=True)[1], re.M)
    return {name: (int(low), int(high)) for name, low, high in found}


def test_every_version_that_is_read_has_a_fixture(folder):
    """Who raises a version adds a fixture: tests/fixtures/make_store.py, run with the build that has it."""
    there = set()
    for i, path in enumerate(FIXTURES):
        unpack(path, f"{folder}/{i}")
        found = formats.of_store(f"{folder}/{i}")
        assert os.path.basename(path) == formats.name(found) + ".tar.xz"
        there |= {(name, v) for name, versions in found.items() for v in versions}
    wanted = {(name, v) for name, (low, high) in known().items() for v in range(low, high + 1)}
    assert wanted - there - set(ELSEWHERE) == set(), "no fixture holds these versions"
    assert there - wanted == set(), "the broker has forgotten these, or reads them without saying so"
    assert all(os.path.exists(os.path.join(ROOT, "tests", "unit", test)) for test in ELSEWHERE.values())


def test_fixtures_are_never_changed():
    with open(f"{FOLDER}/SHA256SUMS", encoding="ascii") as f:
        listed = {name: digest for digest, name in (line.split() for line in f)}
    found = {}
    for path in FIXTURES:
        with open(path, "rb") as f:
            found[os.path.basename(path)] = hashlib.sha256(f.read()).hexdigest()
    assert found == listed


# --- What a newer broker has left.

def load(path):
    with open(path, "rb") as f:
        return bytearray(f.read())


def store(path, data):
    os.chmod(path, 0o644)
    with open(path, "wb") as f:
        f.write(data)


def seal(data, start, end, at):
    struct.pack_into("<I", data, at, crc32c(bytes(data[start:end])))


def seal_entry(data):
    size, = struct.unpack_from("<Q", data, 64)
    seal(data, 128, 128 + size, 80)
    seal(data, 128 + size, len(data), 84)
    seal(data, 0, 124, 124)


def entries(b, log, kind=None, has=0):
    """Paths of a log's entries, newest first; of ledgers the last one's."""
    folder = sorted(glob.glob(f"{b.folder}/store/objects/*/{log}"))[-1]
    found = []
    for path in sorted(glob.glob(f"{folder}/*"), reverse=True):
        data = load(path)
        if (kind is None or struct.unpack_from("<H", data, 6)[0] == kind) and (not has or struct.unpack_from("<I", data, 128 + has)[0] > 0):
            found.append(path)
    assert found, (log, kind)
    return found


def in_entry(log, kind, change, has=0):
    def newer(b):
        path = entries(b, log, kind, has)[0]
        data = load(path)
        change(data)
        seal_entry(data)
        store(path, data)
    return newer


def put(form, at, value):
    return lambda data: struct.pack_into(form, data, at, value)


def sections_at(data):
    version, = struct.unpack_from("<H", data, 128)
    return 168 + (16 + 16 * struct.unpack_from("<I", data, 176)[0] if version == 2 else 0)


def in_section(form, at, value):
    return lambda data: struct.pack_into(form, data, sections_at(data) + at, value)


def in_state(data):
    """The first state that lies in the checkpoint's own body."""
    sections, states = struct.unpack_from("<II", data, 132)
    assert sections == 0
    body = 128 + struct.unpack_from("<Q", data, 64)[0]
    for i in range(states):
        at = sections_at(data) + 40 * i
        size, = struct.unpack_from("<I", data, at + 12)
        number, position = struct.unpack_from("<QQ", data, at + 24)
        if number == 2 ** 64 - 1:
            data[body + position] = 9
            seal(data, body + position, body + position + size, at + 16)
            return
    raise AssertionError("no state in this checkpoint")


def wal_groups(data):
    """(position in the file, [records' positions]) of the last start's groups."""
    blocks = [data[at:at + 256] for at in (0, SECTOR) if data[at:at + 8] == b"OXBWWAL1"]
    last = max(blocks, key=lambda s: struct.unpack_from("<Q", s, 16)[0])
    incarnation, trim, ring = struct.unpack_from("<QQQ", last, 80)
    position, found = trim, []
    while True:
        at = RING + position % ring
        if data[at:at + 4] != b"OXWG" or struct.unpack_from("<QQ", data, at + 8) != (incarnation, position):
            return found
        size, records = struct.unpack_from("<II", data, at + 32)
        here, places = at + 64, []
        for _ in range(records):
            places.append(here)
            here += (48 + struct.unpack_from("<I", data, here)[0] + 7) & ~7
        found.append((at, places))
        position += (size + SECTOR - 1) // SECTOR * SECTOR


def seal_record(data, group, at):
    size, = struct.unpack_from("<I", data, at)
    seed = bytes(data[group + 8:group + 16]) + bytes(data[group + 24:group + 32])
    struct.pack_into("<I", data, at + 4, crc32c(seed + bytes(data[at + 8:at + 48 + size])))


def in_wal(change):
    def newer(b):
        for path in glob.glob(f"{b.folder}/wal*/oxbow.wal"):
            data = load(path)
            change(data)
            store(path, data)
    return newer


def superblocks(data):
    for at in (0, SECTOR):
        struct.pack_into("<I", data, at + 8, 9)
        seal(data, at, at + 252, at + 252)


def one_superblock(data):
    struct.pack_into("<I", data, 8, 9)
    seal(data, 0, 252, 252)


def in_group(form, at, value):
    def change(data):
        group = wal_groups(data)[1][0]
        struct.pack_into(form, data, group + at, value)
        seal(data, group, group + 60, group + 60)
    return change


def record_type(data):
    group, records = wal_groups(data)[-1]
    data[records[0] + 8] = 9
    seal_record(data, group, records[0])


def marker(b):
    store(f"{b.folder}/store/oxbow-store", b"oxbow-store 9\n")


def cluster_object(b):
    path = f"{b.folder}/store/objects/oxbow.cluster"
    data = load(path)
    struct.pack_into("<H", data, 4, 9)
    seal(data, 0, 52, 52)
    store(path, data)


NEWER = [("store-folder", marker), ("cluster-object", cluster_object),
         ("log-entry", in_entry("cluster", None, put("<H", 4, 9))), ("log-entry", in_entry("ledger/*", None, put("<H", 4, 9))),
         ("log-entry-kind", in_entry("cluster", None, put("<H", 6, 9))), ("log-entry-kind", in_entry("ledger/*", None, put("<H", 6, 9))),
         ("cluster-record", in_entry("cluster", 1, put("<H", 130, 9))), ("cluster-record-kind", in_entry("cluster", 1, put("<H", 128, 99))),
         ("cluster-snapshot", in_entry("cluster", 2, put("<H", 128, 9))), ("ledger-head", in_entry("ledger/*", None, put("<H", 128, 9))),
         ("ledger-section-kind", in_entry("ledger/*", 1, in_section("<I", 12, 9), 4)),
         ("partition-state", in_entry("ledger/*", 1, in_section("<B", 20, 9), 4)), ("partition-state", in_entry("ledger/*", 2, in_state, 8)),
         ("wal-superblock", in_wal(superblocks)), ("wal-superblock", in_wal(one_superblock)),
         ("wal-group", in_wal(in_group("<H", 4, 9))), ("wal-group-kind", in_wal(in_group("<H", 6, 9))), ("wal-record-type", in_wal(record_type))]


def everything(b):
    """The bytes of all that is stored, but for the cluster log: a start notes there that it began."""
    return {path: hashlib.sha256(load(path)).digest() for path in glob.glob(f"{b.folder}/store/objects/**", recursive=True) + glob.glob(f"{b.folder}/wal*/*")
            if os.path.isfile(path) and "/cluster/" not in path}


def this_version():
    """The newest fixture of a store with one write-ahead log."""
    return max(p for p in FIXTURES if "ledger-head-1_partition-state-3" in p)


@pytest.mark.parametrize("name,newer", NEWER, ids=[f"{i}-{name}" for i, (name, _) in enumerate(NEWER)])
def test_newer_is_refused_by_name(brokers, name, newer):
    b, expected = broker_of(brokers, this_version())
    shutil.copytree(f"{b.folder}/store", f"{b.folder}/good/store")
    shutil.copytree(f"{b.folder}/wal", f"{b.folder}/good/wal")
    newer(b)
    before = everything(b)
    for _ in range(2):
        lines = refused(b, f"format={name} ", "ERR_VERSION", "found=9", f"known={known()[name][0]}..{known()[name][1]}", "advice=")
        assert any("run that version" in x or "start that version" in x for x in lines), lines
        assert not any(word in line for line in lines for word in ("ERR_CORRUPT", "ERR_TRUNCATED", "ERR_FOREIGN", "damaged")), lines
    after = everything(b)
    assert {p: after.get(p) for p in before} == before, "something was changed"
    assert all("/ledger/" in p for p in after if p not in before)
    for part in ("store", "wal"):
        shutil.rmtree(f"{b.folder}/{part}")
        shutil.move(f"{b.folder}/good/{part}", f"{b.folder}/{part}")
    b.start(**{"log.cleaner.enable": "false"})
    check(b, expected, False)


def newer_value(group):
    """The last value of that kind in the log."""
    def change(data):
        for at, records in reversed(wal_groups(data)):
            for here in records:
                size, = struct.unpack_from("<I", data, here)
                batch = here + 48
                if not data[here + 9] & 2:
                    continue
                place = value_of(bytes(data[batch:batch + size]), group)
                if place is None:
                    continue
                struct.pack_into(">h", data, batch + place, 9)
                struct.pack_into(">I", data, batch + 17, crc32c(bytes(data[batch + 21:batch + size])))
                seal_record(data, at, here)
                return
        raise AssertionError("no such value")
    return change


def value_of(batch, group):
    """Where the first record's value begins, when it is a group's or an offset as asked for."""
    r = formats.Reader(batch[61:])
    r.varint()
    r.take(1)
    r.varint()
    r.varint()
    key = r.take(r.varint())
    size = r.varint()
    return 61 + r.at if size > 2 and (key[:2] == b"\0\2") == group else None


def test_newer_offsets_are_not_left_out(brokers):
    """Consumers would begin anew without them: the coordinator is not there, and says why."""
    b, expected = broker_of(brokers, this_version())
    shutil.copytree(b.folder, f"{b.folder}.good")
    in_wal(newer_value(False))(b)
    b.start()
    with Group(b.port) as g:
        for _ in range(3):
            errors = [g.fetch_offsets(name)[0] for name in expected["groups"]]
            assert set(errors) <= {0, 14, 15} and any(errors), errors
    assert any("format=offset-value " in x and "found=9 known=0..4" in x and "advice=" in x for x in b.lines("level=error")), b.log()
    b.stop()
    b.start()
    assert any(g[0] for g in [Group(b.port).fetch_offsets(name) for name in expected["groups"]])
    b.stop()
    shutil.rmtree(f"{b.folder}.good")


def test_groups_that_a_newer_broker_left_in_the_ring(brokers):
    """Of an earlier start, which was closed in order: they are as good as nothing, as those of this version are."""
    b, expected = broker_of(brokers, this_version(), **{"log.cleaner.enable": "false"})
    data = load(f"{b.folder}/wal/oxbow.wal")
    old = wal_groups(data)
    b.start()
    check(b, expected, False)
    b.kill9()
    data = load(f"{b.folder}/wal/oxbow.wal")
    mine = wal_groups(data)
    behind = [at for at, _ in old if at >= (mine[-1][0] + SECTOR if mine else RING)]
    assert behind
    for at in range(behind[0], RING + (4 << 20), SECTOR):
        if data[at:at + 4] == b"OXWG":
            struct.pack_into("<H", data, at + 4, 9)
            seal(data, at, at + 60, at + 60)
    store(f"{b.folder}/wal/oxbow.wal", data)
    b.start()
    check(b, expected, False)


def test_inspect_names_a_newer_data_object(brokers):
    b, _ = broker_of(brokers, this_version())
    path = sorted(glob.glob(f"{b.folder}/store/objects/*/data/*/*"))[-1]
    data = load(path)
    struct.pack_into("<H", data, 4, 9)
    seal(data, 0, 60, 60)
    store(path, data)
    status, out, err = oxbow("object", "inspect", f"{b.folder}/store", "--all")
    assert status == 1 and "ERR_VERSION" in out + err and os.path.basename(path) in out + err
    assert harness.OXBOW
