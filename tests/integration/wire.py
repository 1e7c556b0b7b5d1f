"""Kafka's protocol by hand, where a client library would not send what a test wants to send: only the requests and versions that
the tests use. Facts from the protocol's definition; flexible versions have compact sizes and tagged fields."""

import socket
import struct
import time

PRODUCE, FETCH, LIST_OFFSETS, METADATA, FIND_COORDINATOR = 0, 1, 2, 3, 10
API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, INIT_PRODUCER_ID = 18, 19, 20, 22
FLEXIBLE_FROM = {PRODUCE: 9, FETCH: 12, LIST_OFFSETS: 6, METADATA: 9, FIND_COORDINATOR: 3, API_VERSIONS: 3, CREATE_TOPICS: 5,
                 DELETE_TOPICS: 4, INIT_PRODUCER_ID: 2}

_TABLE = []
for _i in range(256):
    for _ in range(8):
        _i = (_i >> 1) ^ (0x82F63B78 if _i & 1 else 0)
    _TABLE.append(_i)


def crc32c(data):
    c = 0xFFFFFFFF
    for x in data:
        c = _TABLE[(c ^ x) & 255] ^ (c >> 8)
    return c ^ 0xFFFFFFFF


def uvarint(v):
    out = bytearray()
    while v > 127:
        out.append(v & 127 | 128)
        v >>= 7
    out.append(v)
    return bytes(out)


def varint(v):
    return uvarint((v << 1) ^ (v >> 63))


def batch(values, pid=-1, epoch=-1, sequence=-1, timestamp=None, base_offset=0):
    """A record batch, uncompressed; the values are bytes."""
    first = int(time.time() * 1000) if timestamp is None else timestamp
    records = b""
    for i, v in enumerate(values):
        body = b"\0" + varint(0) + varint(i) + varint(-1) + varint(len(v)) + v + varint(0)
        records += varint(len(body)) + body
    tail = struct.pack(">hiqqqhii", 0, len(values) - 1, first, first, pid, epoch, sequence, len(values)) + records
    return struct.pack(">qiibI", base_offset, 9 + len(tail), 0, 2, crc32c(tail)) + tail


def batches(data):
    """(base offset, last offset, values) of every whole batch; values of uncompressed ones alone."""
    found, at = [], 0
    while at + 61 <= len(data):
        base, size = struct.unpack_from(">qi", data, at)
        if at + 12 + size > len(data):
            break
        last, count = struct.unpack_from(">i", data, at + 23)[0], struct.unpack_from(">i", data, at + 57)[0]
        r, values = Reader(data[at + 61:at + 12 + size]), []
        if struct.unpack_from(">h", data, at + 21)[0] & 7 == 0:
            for _ in range(count):
                r.varint()
                r.take(1)
                r.varint()
                r.varint()
                key = r.varint()
                r.take(max(0, key))
                values.append(r.take(r.varint()))
                assert r.varint() == 0
        found.append((base, base + last, values))
        at += 12 + size
    return found


class Reader:
    def __init__(self, data, flexible=False):
        self.data, self.at, self.flexible = data, 0, flexible

    def take(self, n):
        assert n >= 0 and self.at + n <= len(self.data), "the answer is too short"
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def i8(self):
        return self.number("b")

    def i16(self):
        return self.number("h")

    def i32(self):
        return self.number("i")

    def i64(self):
        return self.number("q")

    def uvarint(self):
        v = shift = 0
        while True:
            x = self.take(1)[0]
            v |= (x & 127) << shift
            shift += 7
            if x < 128:
                return v

    def varint(self):
        v = self.uvarint()
        return (v >> 1) ^ -(v & 1)

    def size(self, form):
        return self.uvarint() - 1 if self.flexible else self.number(form)

    def string(self):
        n = self.size("h")
        return None if n < 0 else self.take(n).decode()

    def bytes(self):
        n = self.size("i")
        return None if n < 0 else self.take(n)

    def array(self, one):
        n = self.size("i")
        return [one() for _ in range(max(0, n))]

    def tags(self):
        found = {}
        if self.flexible:
            for _ in range(self.uvarint()):
                tag = self.uvarint()
                found[tag] = self.take(self.uvarint())
        return found

    def end(self):
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes too many in the answer"


class Writer:
    def __init__(self, flexible=False):
        self.out, self.flexible = bytearray(), flexible

    def put(self, form, *values):
        self.out += struct.pack(">" + form, *values)
        return self

    def raw(self, data):
        self.out += data
        return self

    def size(self, form, n):
        return self.raw(uvarint(n + 1)) if self.flexible else self.put(form, n)

    def string(self, s):
        return self.size("h", -1) if s is None else self.size("h", len(s.encode())).raw(s.encode())

    def bytes(self, b):
        return self.size("i", -1) if b is None else self.size("i", len(b)).raw(b)

    def array(self, items, one):
        self.size("i", len(items))
        for item in items:
            one(item)
        return self

    def tags(self):
        return self.raw(b"\0") if self.flexible else self


def flexible(api, version):
    return version >= FLEXIBLE_FROM.get(api, 999)


class Wire:
    """One connection."""

    def __init__(self, port, seconds=30):
        self.sock = socket.create_connection(("127.0.0.1", port), seconds)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, api, version, body=b""):
        self.correlation += 1
        flex = flexible(api, version)
        head = struct.pack(">hhih", api, version, self.correlation, 4) + b"test" + (b"\0" if flex else b"")
        self.sock.sendall(struct.pack(">i", len(head) + len(body)) + head + bytes(body))
        return self.correlation

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise ConnectionError("closed by the broker")
            data += piece
        return data

    def receive(self, api, version, correlation=None):
        data = self.exactly(struct.unpack(">i", self.exactly(4))[0])
        r = Reader(data, flexible(api, version))
        assert r.i32() == (self.correlation if correlation is None else correlation)
        if api != API_VERSIONS:
            r.tags()
        return r

    def call(self, api, version, body=b""):
        self.send(api, version, body)
        return self.receive(api, version)

    def closed(self):
        """Waits for the broker to close the connection."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    # --- Requests.

    def api_versions(self, version=0):
        r = self.call(API_VERSIONS, version)
        error = r.i16()
        return error, r.array(lambda: (r.i16(), r.i16(), r.i16())), r

    def create(self, name, partitions=1, configs=None):
        """(error, topic id)"""
        w = Writer(True)
        w.array([0], lambda _: w.string(name).put("ih", partitions, 1).array([], None).array(
            list((configs or {}).items()), lambda c: w.string(c[0]).string(c[1]).tags()).tags())
        r = self.call(CREATE_TOPICS, 7, w.put("ib", 30000, 0).tags().out)
        r.i32()
        assert r.uvarint() == 2 and r.string() == name
        topic_id = r.take(16)
        return r.i16(), topic_id

    def producer_id(self):
        r = self.call(INIT_PRODUCER_ID, 0, Writer().string(None).put("i", 60000).out)
        r.i32()
        assert r.i16() == 0
        return r.i64(), r.i16()

    def send_produce(self, topic, partition, data, acks=-1, version=8):
        w = Writer()
        w.string(None).put("hi", acks, 30000)
        w.array([0], lambda _: w.string(topic).array([0], lambda _: w.put("i", partition).bytes(data)))
        return self.send(PRODUCE, version, w.out)

    def receive_produce(self, correlation=None, version=8):
        """(error, base offset, log append time)"""
        r = self.receive(PRODUCE, version, correlation)
        got = []

        def one():
            r.i32()
            got.append((r.i16(), r.i64(), r.i64()))
            r.i64()
            r.array(lambda: (r.i32(), r.string()))
            r.string()
        r.array(lambda: (r.string(), r.array(one)))
        r.i32()
        r.end()
        return got[0]

    def produce(self, topic, partition, data, acks=-1):
        self.send_produce(topic, partition, data, acks)
        return self.receive_produce()

    def send_fetch(self, wants, version=11, wait_ms=0, min_bytes=0, max_bytes=1 << 20, session=(0, -1), forgotten=(), isolation=0):
        """wants: (topic name, or id from version 13, partition, offset, max bytes)"""
        flex = flexible(FETCH, version)
        w = Writer(flex)
        if version < 15:
            w.put("i", -1)
        w.put("iiibii", wait_ms, min_bytes, max_bytes, isolation, *session)

        def topic(t):
            w.raw(t) if version >= 13 else w.string(t)

        def want(x):
            topic(x[0])
            w.array([x], lambda y: w.put("i", y[1]).put("i", -1).put("q", y[2]).raw(struct.pack(">i", -1) if version >= 12 else b"").put("qi", -1, y[3]).tags())
            w.tags()

        def forget(x):
            topic(x[0])
            w.array([x[1]], lambda p: w.put("i", p)).tags()
        w.array(list(wants), want).array(list(forgotten), forget).string("").tags()
        return self.send(FETCH, version, w.out)

    def receive_fetch(self, version=11, correlation=None):
        """(error, session id, {(topic, partition): (error, high watermark, log start, records)})"""
        r = self.receive(FETCH, version, correlation)
        r.i32()
        error, session = r.i16(), r.i32()
        got = {}

        def one(topic):
            index, e, high = r.i32(), r.i16(), r.i64()
            r.i64()
            start = r.i64()
            r.array(lambda: (r.i64(), r.i64(), r.tags()))
            r.i32()
            got[(topic, index)] = (e, high, start, r.bytes() or b"")
            r.tags()

        def topic():
            t = r.take(16) if version >= 13 else r.string()
            r.array(lambda: one(t))
            r.tags()
        r.array(topic)
        r.tags()
        r.end()
        return error, session, got

    def fetch(self, wants, version=11, **options):
        self.send_fetch(wants, version, **options)
        return self.receive_fetch(version)

    def list_offsets(self, topic, partition, timestamp, version=8):
        """(error, timestamp, offset)"""
        w = Writer(flexible(LIST_OFFSETS, version))
        w.put("ib", -1, 0).array([0], lambda _: w.string(topic).array(
            [0], lambda _: w.put("i", partition).raw(struct.pack(">i", -1) if version >= 4 else b"").put("q", timestamp).tags()).tags()).tags()
        r = self.call(LIST_OFFSETS, version, w.out)
        r.i32()
        got = []

        def one():
            r.i32()
            got.append((r.i16(), r.i64(), r.i64()))
            if version >= 4:
                r.i32()
            r.tags()
        r.array(lambda: (r.string(), r.array(one), r.tags()))
        return got[0]
