"""Message sets and record batches by hand, in every codec, and Produce and Fetch in every version: what test_formats.py speaks.
The codecs' libraries are those that the broker itself is linked with; framing and checksums are made here."""

import ctypes
import gzip
import struct
import time
import zlib

from wire import FETCH, PRODUCE, Reader, Writer, crc32c, flexible, varint

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
NAMES = ("none", "gzip", "snappy", "lz4", "zstd")
RAW_SNAPPY = 12  # snappy without snappy-java's framing
XERIAL = b"\x82SNAPPY\0\0\0\0\1\0\0\0\1"

_snappy, _lz4, _zstd = (ctypes.CDLL(n) for n in ("libsnappy.so.1", "liblz4.so.1", "libzstd.so.1"))
for _f in (_lz4.LZ4F_compressFrameBound, _lz4.LZ4F_compressFrame, _lz4.LZ4F_decompress, _zstd.ZSTD_compressBound, _zstd.ZSTD_compress,
           _zstd.ZSTD_decompress, _snappy.snappy_max_compressed_length):
    _f.restype = ctypes.c_size_t
UNPACKED_MAX = 4 << 20


def xxh32(data):
    """Seed 0."""
    p1, p2, p3, p4, p5, m = 2654435761, 2246822519, 3266489917, 668265263, 374761393, 0xFFFFFFFF

    def rotate(v, n):
        return (v << n | v >> (32 - n)) & m
    at, h = 0, p5
    if len(data) >= 16:
        lanes = [(p1 + p2) & m, p2, 0, -p1 & m]
        while at + 16 <= len(data):
            for i, word in enumerate(struct.unpack_from("<4I", data, at)):
                lanes[i] = rotate((lanes[i] + word * p2) & m, 13) * p1 & m
            at += 16
        h = sum(rotate(v, n) for v, n in zip(lanes, (1, 7, 12, 18)))
    h = (h + len(data)) & m
    while at + 4 <= len(data):
        h = rotate((h + struct.unpack_from("<I", data, at)[0] * p3) & m, 17) * p4 & m
        at += 4
    for b in data[at:]:
        h = rotate((h + b * p5) & m, 11) * p1 & m
    h = (h ^ h >> 15) * p2 & m
    h = (h ^ h >> 13) * p3 & m
    return h ^ h >> 16


def _snappy_block(data):
    size = ctypes.c_size_t(_snappy.snappy_max_compressed_length(ctypes.c_size_t(len(data))))
    out = ctypes.create_string_buffer(size.value)
    assert _snappy.snappy_compress(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size)) == 0
    return out.raw[:size.value]


def _snappy_unblock(data):
    size = ctypes.c_size_t()
    assert _snappy.snappy_uncompressed_length(data, ctypes.c_size_t(len(data)), ctypes.byref(size)) == 0
    out = ctypes.create_string_buffer(max(1, size.value))
    assert _snappy.snappy_uncompress(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size)) == 0
    return out.raw[:size.value]


def _lz4_header(frame):
    return 7 + (8 if frame[4] & 8 else 0) + (4 if frame[4] & 1 else 0)


def compress(codec, data, magic=2):
    if codec == NONE:
        return data
    if codec == GZIP:
        return gzip.compress(data)
    if codec == RAW_SNAPPY:
        return _snappy_block(data)
    if codec == SNAPPY:
        blocks = [_snappy_block(data[i:i + 32768]) for i in range(0, len(data), 32768)]
        return XERIAL + b"".join(struct.pack(">i", len(b)) + b for b in blocks)
    if codec == LZ4:
        room = _lz4.LZ4F_compressFrameBound(ctypes.c_size_t(len(data)), None)
        out = ctypes.create_string_buffer(room)
        size = _lz4.LZ4F_compressFrame(out, ctypes.c_size_t(room), data, ctypes.c_size_t(len(data)), None)
        frame = bytearray(out.raw[:size])
        if magic == 0:
            n = _lz4_header(frame)
            frame[n - 1] = xxh32(bytes(frame[:n - 1])) >> 8 & 255
        return bytes(frame)
    room = _zstd.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    out = ctypes.create_string_buffer(room)
    size = _zstd.ZSTD_compress(out, ctypes.c_size_t(room), data, ctypes.c_size_t(len(data)), 3)
    return out.raw[:size]


def decompress(codec, data, magic=2):
    if codec == NONE:
        return data
    if codec == GZIP:
        return gzip.decompress(data)
    if codec == SNAPPY:
        if data[:8] != XERIAL[:8]:
            assert magic == 2, "old readers want snappy-java's framing"
            return _snappy_unblock(data)
        at, out = 16, b""
        while at < len(data):
            n = struct.unpack_from(">i", data, at)[0]
            out += _snappy_unblock(data[at + 4:at + 4 + n])
            at += 4 + n
        return out
    if codec == LZ4:
        n = _lz4_header(data)
        # Old readers insist on the checksum of their magic.
        assert data[n - 1] == xxh32(data[0 if magic == 0 else 4:n - 1]) >> 8 & 255
        frame = data[:n - 1] + bytes([xxh32(data[4:n - 1]) >> 8 & 255]) + data[n:]
        context, out = ctypes.c_void_p(), ctypes.create_string_buffer(UNPACKED_MAX)
        assert _lz4.LZ4F_createDecompressionContext(ctypes.byref(context), 100) == 0
        made, taken = ctypes.c_size_t(len(out)), ctypes.c_size_t(len(frame))
        left = _lz4.LZ4F_decompress(context, out, ctypes.byref(made), frame, ctypes.byref(taken), None)
        _lz4.LZ4F_freeDecompressionContext(context)
        assert left == 0 and taken.value == len(frame)
        return out.raw[:made.value]
    out = ctypes.create_string_buffer(UNPACKED_MAX)
    size = _zstd.ZSTD_decompress(out, ctypes.c_size_t(len(out)), data, ctypes.c_size_t(len(data)))
    assert size <= len(out)
    return out.raw[:size]


# --- Message sets. A record is (offset, timestamp, key, value).

def _sized(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def message(magic, offset, timestamp, key, value, attributes=0):
    body = struct.pack(">bb", magic, attributes) + (struct.pack(">q", timestamp) if magic == 1 else b"") + _sized(key) + _sized(value)
    return struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body


def message_set(magic, codec, records, base=0):
    """records: (timestamp, key, value)"""
    inner = b"".join(message(magic, base + i, *r) for i, r in enumerate(records))
    if codec == NONE:
        return inner
    return wrapper(magic, codec, inner, base + len(records) - 1, max(r[0] for r in records))


def wrapper(magic, codec, inner, offset=0, timestamp=0):
    return message(magic, offset, timestamp, None, compress(codec, inner, magic), SNAPPY if codec == RAW_SNAPPY else codec)


def _read_messages(data, partial):
    at = 0
    while at < len(data):
        if at + 12 > len(data) or at + 12 + struct.unpack_from(">i", data, at + 8)[0] > len(data):
            assert partial, "a message is cut"
            return
        offset, size, crc, magic, attributes = struct.unpack_from(">qiIbb", data, at)
        assert zlib.crc32(data[at + 16:at + 12 + size]) == crc
        r = Reader(data[at + 18:at + 12 + size])
        timestamp = r.i64() if magic == 1 else -1
        key, value = r.bytes(), r.bytes()
        r.end()
        yield offset, magic, attributes, timestamp, key, value
        at += 12 + size


def read_set(data, magic, partial=False):
    """What a reader that knows only this magic makes of it: records, and the codecs seen."""
    found, codecs = [], set()
    for offset, m, attributes, timestamp, key, value in _read_messages(data, partial):
        assert m == magic, f"magic {m} for a reader of {magic}"
        codec, appended = attributes & 7, bool(attributes & 8)
        codecs.add(codec)
        if codec == NONE:
            found.append((offset, timestamp, key, value))
            continue
        inner = list(_read_messages(decompress(codec, value, magic), False))
        assert inner and all(i[1] == magic and i[2] & 7 == 0 for i in inner)
        first = offset - inner[-1][0] if magic == 1 else 0
        if magic == 1 and not appended:
            assert timestamp == max(i[3] for i in inner)
        assert first + inner[-1][0] == offset
        found += [(first + i[0], timestamp if appended else i[3], i[4], i[5]) for i in inner]
    return found, codecs


# --- Record batches.

def record_batch(codec, records, headers=()):
    """records: (timestamp, key, value)"""
    first, body = records[0][0], b""
    for i, (timestamp, key, value) in enumerate(records):
        one = b"\0" + varint(timestamp - first) + varint(i)
        for part in (key, value):
            one += varint(-1) if part is None else varint(len(part)) + part
        one += varint(len(headers)) + b"".join(varint(len(k)) + k + varint(len(v)) + v for k, v in headers)
        body += varint(len(one)) + one
    codec, body = (SNAPPY, compress(codec, body)) if codec == RAW_SNAPPY else (codec, compress(codec, body))
    last = max(r[0] for r in records)
    tail = struct.pack(">hiqqqhii", codec, len(records) - 1, first, last, -1, -1, -1, len(records)) + body
    return struct.pack(">qiibI", 0, 9 + len(tail), 0, 2, crc32c(tail)) + tail


def read_batches(data):
    found, codecs, at = [], set(), 0
    while at < len(data):
        base, size, _, magic = struct.unpack_from(">qiib", data, at)
        attributes, _, first, last = struct.unpack_from(">hiqq", data, at + 21)
        count = struct.unpack_from(">i", data, at + 57)[0]
        assert magic == 2 and at + 12 + size <= len(data)
        codecs.add(attributes & 7)
        r = Reader(decompress(attributes & 7, data[at + 61:at + 12 + size]))
        for _ in range(count):
            r.varint()
            r.take(1)
            timestamp, offset = first + r.varint(), base + r.varint()
            n = r.varint()
            key = None if n < 0 else r.take(n)
            n = r.varint()
            value = None if n < 0 else r.take(n)
            for _ in range(r.varint()):
                r.take(r.varint())
                r.take(r.varint())
            found.append((offset, last if attributes & 8 else timestamp, key, value))
        r.end()
        at += 12 + size
    return found, codecs


def read_any(version, data, partial=False):
    return read_batches(data) if version >= 4 else read_set(data, 0 if version < 2 else 1, partial)


# --- Requests in every version. A topic is (name, id).

def send_produce(w, version, topic, data, partition=0, acks=-1):
    out = Writer(flexible(PRODUCE, version))
    if version >= 3:
        out.string(None)
    out.put("hi", acks, 30000)

    def one(_):
        out.raw(topic[1]) if version >= 13 else out.string(topic[0])
        out.array([0], lambda _: out.put("i", partition).bytes(data).tags()).tags()
    return w.send(PRODUCE, version, out.array([0], one).tags().out)


def receive_produce(w, version, correlation=None):
    """(error, base offset)"""
    r = w.receive(PRODUCE, version, correlation)
    got = []

    def one():
        r.i32()
        got.append((r.i16(), r.i64()))
        if version >= 2:
            r.i64()
        if version >= 5:
            r.i64()
        if version >= 8:
            r.array(lambda: (r.i32(), r.string(), r.tags()))
            r.string()
        r.tags()
    r.array(lambda: (r.take(16) if version >= 13 else r.string(), r.array(one), r.tags()))
    if version >= 1:
        r.i32()
    r.tags()
    r.end()
    return got[0]


def produce(w, version, topic, data, **options):
    return receive_produce(w, version, send_produce(w, version, topic, data, **options))


def fetch(w, version, wants, wait_ms=0, min_bytes=0, max_bytes=1 << 24):
    """wants: (topic, partition, offset, max bytes); {(name or id, partition): (error, high watermark, records)}"""
    out = Writer(flexible(FETCH, version))
    if version < 15:
        out.put("i", -1)
    out.put("ii", wait_ms, min_bytes)
    if version >= 3:
        out.put("i", max_bytes)
    if version >= 4:
        out.put("b", 0)
    if version >= 7:
        out.put("ii", 0, -1)

    def partition(x):
        out.put("i", x[1])
        if version >= 9:
            out.put("i", -1)
        out.put("q", x[2])
        if version >= 12:
            out.put("i", -1)
        if version >= 5:
            out.put("q", -1)
        out.put("i", x[3]).tags()

    def topic(x):
        out.raw(x[0][1]) if version >= 13 else out.string(x[0][0])
        out.array([x], partition).tags()
    out.array(list(wants), topic)
    if version >= 7:
        out.array([], None)
    if version >= 11:
        out.string("")
    w.send(FETCH, version, out.tags().out)
    r = w.receive(FETCH, version)
    if version >= 1:
        r.i32()
    if version >= 7:
        assert (r.i16(), r.i32()) == (0, 0)
    got = {}

    def answer(name):
        index, error, high = r.i32(), r.i16(), r.i64()
        if version >= 4:
            r.i64()
        if version >= 5:
            r.i64()
        if version >= 4:
            r.array(lambda: (r.i64(), r.i64(), r.tags()))
        if version >= 11:
            r.i32()
        got[name, index] = (error, high, r.bytes() or b"")
        r.tags()

    def answers():
        name = r.take(16) if version >= 13 else r.string()
        r.array(lambda: answer(name))
        r.tags()
    r.array(answers)
    r.tags()
    r.end()
    return got


def fetch_one(w, version, topic, offset=0, limit=1 << 20, partition=0, **options):
    """(error, high watermark, bytes)"""
    got = fetch(w, version, [(topic, partition, offset, limit)], **options)
    return got[topic[1] if version >= 13 else topic[0], partition]


def some_records(count, tag="", size=40):
    now = int(time.time() * 1000) - 10000
    return [(now + i * 3 % 7, None if i % 4 == 0 else b"key-%d" % i, None if i % 5 == 3 else b"%s-%d-" % (tag.encode(), i) + b"v" * size)
            for i in range(count)]
