"""Garbage bodies behind good headers, in every version of every API that is offered: random bytes, counts that nobody could mean, and
good requests spoilt. Each connection is closed by the broker; memory stays bounded (64 MiB more, 192 with ASan); lines are few."""

import contextlib
import os
import random
import re
import socket
import struct
import time

import harness
import ox
import wire
from test_admin import metrics
from wire import Wire, Writer, batch
from wire_groups import Group

MIB = 1 << 20
FLEXIBLE_FROM = {api.key: api.flexible for api in ox.APIS.values()}
CLOSED = ("oxbow_connections_closed_on_error_total", None)
ASAN = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=4:thread_local_quarantine_size_kb=64"}


def frame(data):
    return struct.pack(">i", len(data)) + data


def header(api, version):
    return struct.pack(">hhih", api, version, 1, 4) + b"test" + (b"\0" if version >= FLEXIBLE_FROM[api] else b"")


def send_all(b, data):
    with socket.create_connection(("127.0.0.1", b.port), 20) as s, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        s.sendall(data)
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass


class Recorder(Group):
    def __init__(self, port):
        super().__init__(port)
        self.sent = []

    def send(self, api, version, body=b""):
        self.sent.append((api, version, bytes(body)))
        return super().send(api, version, body)

    def ox(self, name, version, values):
        self.sent.append((ox.APIS[name].key, version, ox.encode(name, version, values)))
        ox.call(self, name, version, values)

    def raw(self, api, version, body):
        self.send(api, version, body)
        self.exactly(struct.unpack(">i", self.exactly(4))[0])


def good_requests(b):
    with Recorder(b.port) as w:
        topic_id = w.create("good", 3, {"retention.ms": "100000"})[1]
        w.producer_id()
        for version in (3, 7, 8):
            p = Writer()
            p.string(None).put("hi", -1, 1000)
            p.array([0], lambda _, p=p: p.string("good").array([0, 1], lambda i, p=p: p.put("i", i).bytes(batch([b"a", b"bb"]) + batch([b"c" * 300]))))
            w.raw(wire.PRODUCE, version, p.out)
        for version in (11, 12):
            w.fetch([("good", i, 0, MIB) for i in range(3)], version=version)
        w.fetch([(topic_id, 0, 0, MIB)], version=13)
        for version in (4, 8):
            w.list_offsets("good", 0, -1, version)
        p = Writer(True)
        w.raw(wire.METADATA, 12, p.array(["good"], lambda t: p.raw(b"\0" * 16).string(t).tags()).put("bb", 1, 0).tags().out)
        p = Writer(True)
        w.raw(wire.FIND_COORDINATOR, 4, p.put("b", 0).array(["a"], p.string).tags().out)
        p = Writer()
        w.raw(32, 1, p.array([0], lambda _: p.put("b", 2).string("good").array(["retention.ms"], p.string)).put("b", 0).out)
        p = Writer()
        w.raw(44, 0, p.array([0], lambda _: p.put("b", 2).string("good").array([0], lambda _: p.string("retention.ms").put("b", 0).string("5000000"))).put("b", 0).out)
        topics = [{"name": "good", "partitions": [{"partition_index": p, "offset": 0} for p in range(3)]}]
        for version in (1, 2):
            w.ox("DeleteRecords", version, {"topics": topics})
        for version in (3, 4):
            w.ox("OffsetForLeaderEpoch", version, {"topics": [{"topic": "good", "partitions": [{"partition": 0, "leader_epoch": 0}]}]})
        for version in (1, 2):
            w.ox("AlterConfigs", version, {"resources": [{"resource_type": 2, "resource_name": "good", "configs": [{"name": "retention.ms", "value": "100000"}]}]})
            w.ox("DescribeLogDirs", version, {"topics": [{"topic": "good", "partitions": [0, 1]}]})
            w.ox("CreatePartitions", version, {"topics": [{"name": "good", "count": 4, "assignments": [{"broker_ids": [1]}]}], "validate_only": True})
            w.ox("ElectLeaders", version, {"topic_partitions": [{"topic": "good", "partitions": [0, 1]}]})
        w.ox("AlterPartitionReassignments", 0, {"topics": [{"name": "good", "partitions": [{"partition_index": 0, "replicas": [1]}]}]})
        w.ox("ListPartitionReassignments", 0, {"topics": [{"name": "good", "partition_indexes": [0]}]})
        w.ox("DescribeCluster", 2, {})
        w.ox("DescribeProducers", 0, {"topics": [{"name": "good", "partition_indexes": [0, 1]}]})
        w.ox("ListConfigResources", 1, {"resource_types": [2, 4]})
        w.ox("DescribeTopicPartitions", 0, {"topics": [{"name": "good"}], "cursor": {"topic_name": "good", "partition_index": 1}})
        for version in (0, 4, 5, 9):
            _, generation, _, _, member, _ = w.joined(f"good-{version}", version)
            w.sync(f"good-{version}", generation, member, {member: b"all"}, version=min(version, 5))
            w.heartbeat(f"good-{version}", generation, member, version=min(version, 4))
            w.describe(f"good-{version}", min(version, 6))
            w.list(min(version, 5))
            w.leave(f"good-{version}", [(member, None)], min(version, 5))
        for version in (1, 4, 7, 8, 10):
            w.commit("good", {("good", 0): 5, ("good", 2): 6}, version=version, ids={"good": topic_id})
            w.fetch_offsets("good", {"good": [0, 1, 2]}, version, {"good": topic_id})
        w.delete_offsets("good", {"good": [0]})
        for version in (0, 2):
            w.delete(["good", "good-0"], version)
        return w.sent


def spoil(rng, body):
    data = bytearray(body)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, what = rng.randrange(len(data) + 1), rng.randrange(6)
        if what == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[at:at + 4] = rng.choice([b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff", b"\0\xff\xff\xff", b"\0\0\0\0"])
        elif what == 2:
            data[at:at + 1] = rng.choice([b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80" * 6, b"\xfe\xff\xff\xff\x07"])
        elif what == 3:
            del data[at:at + rng.randrange(1, 20)]
        elif what == 4:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        else:
            data[at:at + 2] = rng.choice([b"\x7f\xff", b"\xff\xff", b"\x80\0"])
    return bytes(data)


def test_garbage_bodies_of_every_api(brokers):
    b = brokers({"auto.create.topics.enable": "false", "http.listen": "127.0.0.1:0", "group.initial.rebalance.delay.ms": 0}, env=ASAN)
    rng = random.Random(2)
    good = good_requests(b)
    with Wire(b.port) as w:
        apis = w.api_versions(0)[1]
    assert {api for api, _, _ in good} | {wire.API_VERSIONS, wire.DELETE_TOPICS} <= {a for a, _, _ in apis}
    rss, before, began = b.resident_mb(), metrics(b)[CLOSED], time.monotonic()
    for api, low, high in apis:
        for version in range(low, high + 1):
            bodies = [b"", rng.randbytes(7), rng.randbytes(300), rng.randbytes(70_000), b"\x7f\xff\xff\xff" * 9, b"\xff" * 40, b"\0" * 80, b"\xff\xff\xff\xff\x0f" * 9,
                      b"\0\x01a\0\0\xff\xff" * 9, b"\x01" * 50_000]
            bodies += [spoil(rng, body) for a, v, body in good if a == api and (v >= FLEXIBLE_FROM[a]) == (version >= FLEXIBLE_FROM[a]) for _ in range(4)]
            for body in bodies:
                send_all(b, frame(header(api, version) + body))
    for api, version, body in good:  # in their own version they are read furthest
        for _ in range(40):
            send_all(b, frame(header(api, version) + spoil(rng, body)))
    closed = metrics(b)[CLOSED] - before
    print("closed", closed, len(good), len(apis), round(time.monotonic() - began, 2))
    assert closed > 300
    lines = b.lines('msg="connection closed"')
    assert 1 <= len(lines) <= time.monotonic() - began + 2
    assert len(lines) + sum(int(re.search(r"more_not_shown=(\d+)", line)[1]) for line in lines) <= closed
    assert b.resident_mb() - rss < (192 if harness.sanitized() else 64)
    with Wire(b.port) as w:
        w.create("after")
        assert w.produce("after", 0, batch([b"x"]))[:2] == (0, 0)
    b.restart(kill=True)
    with Wire(b.port) as w:
        assert w.list_offsets("after", 0, -1)[2] == 1


def test_unfinished_requests_stay_in_the_budget(brokers):
    """700 connections send the first 150 kB of 10 MB: 105 MB, where 16 MiB are allowed; the rest stays in the sockets."""
    b = brokers({"queued.max.request.bytes": "16MiB", "socket.request.max.bytes": 12_000_000, "http.listen": "127.0.0.1:0"}, env=ASAN)
    rss, opened = b.resident_mb(), []
    try:
        for _ in range(700):
            s = socket.create_connection(("127.0.0.1", b.port), 20)
            opened.append(s)
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.send(struct.pack(">i", 10_000_000) + b"\0" * 150_000)
        harness.eventually(lambda: metrics(b)["oxbow_connections", None] >= 700)
        time.sleep(1)
        assert 8 * MIB < metrics(b)["oxbow_receive_buffer_bytes", None] < 18 * MIB
        assert b.resident_mb() - rss < (16 + 700 * 24 / 1024) * (4 if harness.sanitized() else 1)
    finally:
        for s in opened:
            s.close()
    harness.eventually(lambda: metrics(b)["oxbow_receive_buffer_bytes", None] <= MIB)
    with Wire(b.port) as w:
        assert w.api_versions(0)[0] == 0


def test_silent_connections_are_closed(brokers):
    b = brokers({"connections.max.idle.ms": "1500", "http.listen": "127.0.0.1:0"})
    opened = [socket.create_connection(("127.0.0.1", b.port), 20) for _ in range(30)]
    for i, s in enumerate(opened):
        s.sendall((struct.pack(">i", 1000) + b"\0" * 100)[:[0, 1, 3, 4, 104][i % 5]])
    for s in opened:
        assert s.recv(1) == b""
        s.close()
    harness.eventually(lambda: metrics(b)["oxbow_connections", None] == 0)
