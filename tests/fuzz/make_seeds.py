#!/usr/bin/python3
"""Writes the seeds of tests/fuzz/corpus that can be made of something else: Kafka's messages of tests/golden, what codecs
make of a text, records of a coordinator, answers of an object store. Run it from anywhere; it overwrites those files and
leaves the others (bytes of real logs, and inputs that once showed a bug) alone."""

import gzip
import os
import re
import struct
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CORPUS = os.path.join(ROOT, "tests/fuzz/corpus")
GOLDEN = os.path.join(ROOT, "tests/golden/kafka")
API_VERSIONS = 18


def put(target, name, data):
    os.makedirs(os.path.join(CORPUS, target), exist_ok=True)
    with open(os.path.join(CORPUS, target, name), "wb") as f:
        f.write(data)


def golden(name):
    """(case, version, bytes) of a file of golden messages."""
    with open(os.path.join(GOLDEN, name + ".txt"), encoding="utf-8") as f:
        lines = f.read().split("\n")
    for i, line in enumerate(lines):
        if m := re.fullmatch(r"case (\w+) (\d+)", line):
            yield m[1], int(m[2]), bytes.fromhex(lines[i + 2].strip("-"))


def apis():
    """(file, key, first flexible version) of each API of the schema."""
    for name in sorted(os.listdir(os.path.join(ROOT, "schema"))):
        with open(os.path.join(ROOT, "schema", name), encoding="utf-8") as f:
            text = f.read()
        if m := re.search(r"^api (\d+) ", text, re.M):
            flexible = re.search(r"^flexible (\d+)\+", text, re.M)
            yield name[:-len(".ox")], int(m[1]), int(flexible[1]) if flexible else 127


def messages():
    """Each API in its lowest and highest version, all fields set."""
    for name, key, flexible in apis():
        for what in ("request", "response"):
            cases = {v: data for case, v, data in golden(f"{name}_{what}") if case == "filled"}
            for version in sorted({min(cases), max(cases)}):
                tags = b"\0" if version >= flexible else b""
                if what == "request":
                    head = struct.pack(">hhih", key, version, 1, 1) + b"c" + tags
                else:
                    head = bytes([key, version]) + struct.pack(">i", 1) + (b"" if key == API_VERSIONS else tags)
                put(f"kafka_{what}", f"{name}_{version}_filled", head + cases[version])


def schema():
    """Something of every message: requests and responses in turns, then what is stored."""
    x = 1
    for i in range(2 * len(list(apis())) + 4):
        data = bytearray([i, 255])
        for _ in range(70):
            x = (x * 1664525 + 1013904223) % (1 << 32)
            data.append(x >> 24)
        put("kafka_schema", f"subject_{i:02}", bytes(data))


def piece(data):
    return struct.pack(">H", len(data)) + data


def subscription(*topics):
    return struct.pack(">hi", 0, len(topics)) + b"".join(piece(t.encode()) for t in topics) + struct.pack(">i", -1)


def assignment(*topics):
    out = struct.pack(">hi", 0, len(topics))
    for topic, partitions in topics:
        out += piece(topic.encode()) + struct.pack(">i", len(partitions)) + struct.pack(f">{len(partitions)}i", *partitions)
    return out + struct.pack(">i", -1)


def group_value(member_count):
    """GroupMetadataValue, version 3."""
    out = struct.pack(">h", 3) + piece(b"consumer") + struct.pack(">i", 4) + piece(b"range") + piece(b"m0")
    out += struct.pack(">qi", 1700000000000, member_count)
    for i in range(member_count):
        out += piece(b"m%d" % i) + (piece(b"i%d" % i) if i else struct.pack(">h", -1)) + piece(b"client") + piece(b"/127.0.0.1")
        out += struct.pack(">ii", 300000, 10000)
        for data in (subscription("topic", "other"), assignment(("topic", [0, 1]))):
            out += struct.pack(">i", len(data)) + data
    return out


def coordinator():
    offset_key = struct.pack(">h", 1) + piece(b"group") + piece(b"topic") + struct.pack(">i", 0)
    group_key = struct.pack(">h", 2) + piece(b"group")
    for version in (0, 1, 2, 3, 4):
        values = [d for case, v, d in golden("offset_commit_value") if case == "filled" and v == version]
        groups = [d for case, v, d in golden("group_metadata_value") if case == "filled" and v == version]
        head = struct.pack(">h", version)
        put("group_records", f"golden_{version}", piece(group_key) + piece(head + groups[0]) + piece(offset_key) +
            piece(head + values[0]))
    offset = struct.pack(">hqi", 3, 42, 7) + piece(b"note") + struct.pack(">q", 1700000000000)
    whole = piece(group_key) + piece(group_value(2)) + piece(offset_key) + piece(offset)
    put("group_records", "group_and_offset", whole)
    put("group_records", "group_empty", piece(group_key) + piece(group_value(0)) + piece(offset_key) + piece(offset))
    put("group_records", "tombstones", whole + piece(offset_key) + b"\xff\xff" + piece(group_key) + b"\xff\xff")
    put("consumer_protocol", "subscription", subscription("topic", "other"))
    put("consumer_protocol", "assignment", assignment(("topic", [0, 1, 2]), ("other", [7])))


def codecs():
    """What codecs make of a text: ours of the golden batches are in kafka_batch; here those framings that differ."""
    text = b"to be or not to be, that is the question: to be or not to be " * 4
    snappy = bytes([len(text) & 0x7f | 0x80, len(text) >> 7]) + bytes([60 << 2, 59]) + text[:60]  # then copies of it
    for at in range(60, len(text), 60):
        snappy += bytes([(min(60, len(text) - at) - 1) << 2 | 2]) + struct.pack("<H", 60)
    xerial = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    literal = bytes([20, 19 << 2]) + text[:20]
    member = gzip.compress(text, mtime=0)
    frame = bytes.fromhex("28b52ffd2014a10000") + text[:20]
    lz4_block = struct.pack("<I", 0x80000014) + text[:20] + b"\0\0\0\0"
    put("compress", "none", b"\0" + text)
    put("compress", "gzip", b"\1" + member)
    put("compress", "gzip_members", b"\1" + member + gzip.compress(b"more", mtime=0))
    put("compress", "gzip_large", b"\x21" + zlib_gzip(b"\0" * 100000))
    put("compress", "snappy_raw", b"\2" + literal)
    put("compress", "snappy_copies", b"\2" + snappy)
    put("compress", "snappy_xerial", b"\2" + xerial + struct.pack(">i", len(literal)) + literal + struct.pack(">i", len(literal)) + literal)
    put("compress", "lz4", b"\3" + bytes.fromhex("04224d18604082") + lz4_block)
    put("compress", "lz4_magic0", b"\x0b" + bytes.fromhex("04224d186040ff") + lz4_block)
    put("compress", "zstd", b"\4" + frame)
    put("compress", "zstd_frames", b"\4" + frame + frame)
    for codec in range(5):
        put("compress", f"made_{codec}", bytes([16 | codec, 0, 9, 0x40]) + text)
        record = bytes([3 | (codec & 1) << 2]) + struct.pack(">q", 1700000000000) + b"\3key" + piece(b"value" * 9)
        put("conversion", f"magic0_{codec}", bytes([codec]) + record * 3)
        put("conversion", f"magic1_{codec}", bytes([8 | codec]) + record * 3)
    put("conversion", "limit", bytes([0x68, 0, 90, 1]) + record * 3)


def zlib_gzip(data):
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    return z.compress(data) + z.flush()


def answer(status, headers, body, end=0):
    return bytes([end]) + struct.pack(">H", status) + piece(headers) + piece(body)


LIST = (b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>gen/a</Key><Size>3</Size></Contents>'
        b"<Contents><Key>gen/b</Key><Size>4</Size></Contents></ListBucketResult>")
NOTHING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


def error(code):
    return b"<Error><Code>%s</Code><Region>eu-west-1</Region><ServerTime>2024-01-01T00:00:00Z</ServerTime></Error>" % code


def store():
    opened = answer(200, b"x: y", NOTHING)
    got = answer(206, b"ETag:\"a\"\nContent-Range:bytes 0-4/5", b"hello")
    put("s3", "list", b"\0" + opened + b"\0" + answer(200, b"", LIST) + b"\1" + answer(200, b"", NOTHING))
    put("s3", "get", b"\2" + opened + b"\2" + got + b"\2" + answer(200, b"ETag:\"a\"", b"whole object"))
    put("s3", "get_missing", b"\0" + opened + b"\2" + answer(404, b"", error(b"NoSuchKey")) + b"\2" +
        answer(416, b"", error(b"InvalidRange")))
    put("s3", "put", b"\0" + opened + b"\4" + answer(200, b"ETag:\"a\"", b"") + b"\4" + answer(412, b"", error(b"PreconditionFailed")) +
        b"\5" + answer(503, b"", error(b"SlowDown")) + b"\4" + answer(501, b"", error(b"NotImplemented")))
    deleted = b"<DeleteResult><Error><Key>gen/a</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    put("s3", "delete", b"\0" + opened + b"\x0d" + answer(200, b"", deleted) + b"\x0d" + answer(501, b"", b"") + answer(204, b"", b""))
    put("s3", "marker", b"\4" + answer(200, b"", LIST) + answer(206, b"ETag:x\nContent-Range:bytes 0-0/56", b"O"))
    for code in (b"NoSuchBucket", b"SignatureDoesNotMatch", b"RequestTimeTooSkewed", b"PermanentRedirect", b"AccessDenied",
                 b"InvalidAccessKeyId"):
        put("s3", "refused_" + code.decode().lower(), b"\0" + answer(403, b"x-amz-bucket-region:eu-west-1\nDate:now", error(code)))
    put("s3", "cut", b"\0" + opened + b"\4" + answer(0, b"", b"", 3) + b"\2" + answer(0, b"", b"", 2))
    head = lambda line: b"\1" + piece(line)
    body = lambda data: b"\0" + piece(data)
    begin = b"\0" + struct.pack(">HHB", 200, 0, 1)
    put("http", "plain", begin + head(b"HTTP/1.1 200 OK") + head(b"Content-Length: 5") + head(b"ETag: \"x\"") + head(b"") + body(b"hello"))
    put("http", "interim", begin + head(b"HTTP/1.1 100 Continue") + head(b"") + head(b"HTTP/1.1 200 OK") + head(b"A:b") + head(b"") +
        body(b"hel") + body(b"lo"))
    put("http", "cut", begin + head(b"HTTP/1.1 200 OK") + head(b"A:b"))
    put("http", "broken", b"\3" + begin[1:] + head(b"HTTP/1.1 500") + head(b"") + body(b"x"))


def credentials():
    files = (b"[default]\naws_access_key_id = AKIA # mine\naws_secret_access_key=secret\n[other one]\nrole_arn = arn:x\n"
             b"web_identity_token_file=/t\ns3 =\n  nested = 1\n")
    put("s3_credentials", "file", b"\0" + files)
    put("s3_credentials", "config", b"\x08" + files.replace(b"[other", b"[profile other") + b"sso_session=x\n")
    keys = (b"<R><Credentials><AccessKeyId>AKIA</AccessKeyId><SecretAccessKey>a&amp;b</SecretAccessKey><SessionToken>tok</SessionToken>"
            b"<Expiration>2030-01-02T03:04:05.5Z</Expiration></Credentials></R>")
    put("s3_credentials", "sts", b"\1" + keys)
    put("s3_credentials", "sts_empty", b"\1")
    put("s3_credentials", "metadata", b'\2{"Code":"Success","AccessKeyId":"AKIA","SecretAccessKey":"s","Token":"t",'
        b'"Expiration":"2030-01-02T03:04:05Z"}')
    put("s3_credentials", "line", b"\3role-name\n")
    put("s3_credentials", "time", b"\x042030-01-02T03:04:05+00:00")
    put("s3_credentials", "sts_error", b"\5<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")


def text(s):
    return bytes([len(s)]) + s


def others():
    def change(op, name, value):
        return bytes([op, 0xff]) + text(name) + text(value)
    put("topic_config", "set", b"\1" + b"\xff" + text(b"retention.ms") + text(b"100") + change(0, b"cleanup.policy", b"compact") +
        change(2, b"cleanup.policy", b"delete") + change(3, b"cleanup.policy", b"compact") + change(1, b"retention.ms", b""))
    put("topic_config", "refused", b"\0" + change(0, b"retention.ms", b"ten") + change(0, b"no.such", b"1") + change(4, b"retention.ms", b"1"))
    put("topic_config", "all", b"\0" + b"".join(bytes([0, i]) + text(v) for i in range(40) for v in (b"1", b"true", b"gzip")))
    put("cli", "moment", b"\0" + b"2024-02-29T12:30:45.123+02:00")
    put("cli", "day", b"\0" + b"2024-02-29")
    put("cli", "duration", b"\0" + b"P1DT2H3M4S")
    put("cli", "number", b"\0" + b"4999")
    put("cli", "format", b"\1" + text(rb"%t %p %o %T %k %K %v %s %S %h %% \n\t\x41") + piece(b"key") + piece(b"value"))
    put("cli", "names", b"\2" + text("größe\u2028\n\"\\".encode()) + text(b"\xff\xfe\x1b[31m") + text(b""))
    frames = struct.pack(">i", 9) + b"123456789" + struct.pack(">i", 20) + b"x" * 20
    put("receive", "two", b"\0\1\xff" + frames)
    put("receive", "pieces", b"\0\3\2\4\6" + frames * 3)
    put("receive", "kept", b"\0\2\xc0\xff" + frames * 8)
    put("receive", "slabs", b"\2\xff\2\xc1\xff" + frames * 40)
    put("receive", "large", b"\1\2\xff\3" + struct.pack(">i", 2000) + b"y" * 2000 + struct.pack(">i", 1 << 21))
    entry = lambda number, flags, boundary=0, head=b"": bytes([number, flags, boundary, len(head)]) + head
    put("objlog_replay", "whole", entry(0, 8) + b"".join(entry(n, 12 + (n == 3), n and 0, b"head") for n in range(1, 6)))
    put("objlog_replay", "boundary", entry(3, 13) + entry(4, 12, 3) + entry(5, 12, 3) + entry(6, 14, 3))
    put("objlog_replay", "hole", entry(0, 8) + entry(1, 12) + entry(5, 12) + entry(6, 12, 5))
    put("objlog_replay", "fence_ahead", entry(0, 8) + entry(1, 8 + 2 + 16) + entry(2, 12))
    # Whole ledger entries: of the ledger's seeds (kind, head size, head, body) with a header in front, whose checksums the
    # target makes match.
    folder = os.path.join(CORPUS, "ledger")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as f:
            data = f.read()
        head_size = struct.unpack_from("<H", data, 1)[0]
        header = b"OXLG" + struct.pack("<HHQ", 1, 2 if data[0] & 1 else 1, 5) + b"\1" * 32 + struct.pack("<QQQ", 0, 1, head_size)
        if len(data) < 8192 and name.endswith("_plain"):
            put("inspect", name[:-len("_plain")] + "_whole", b"\x1c" + header.ljust(128, b"\0") + data[3:])



if __name__ == "__main__":
    for make in (messages, schema, coordinator, codecs, store, credentials, others):
        make()
