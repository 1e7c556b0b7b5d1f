"""What the cases share: topics, and records in each of Kafka's three formats."""

import gzip
import struct
import zlib

import compare
from wire import crc32c, varint

T0 = 1_400_000_000_000  # the time of the first record: fixed, so that answers are equal; long ago, as nobody looks at the clock


def topic(c, name, partitions=1, configs=None):
    """A topic that is ready; its id becomes a symbol."""
    given = [{"name": k, "value": v} for k, v in (configs or {}).items()]
    c.ask("CreateTopics", 5, topics=[{"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": given}])
    settle(c, name, partitions)
    return topic_id(c, name)


def describe(c, name):
    return c.ask("Metadata", 10, topics=[{"name": name}], allow_auto_topic_creation=False)["topics"][0]


def settle(c, name, partitions):
    """Kafka's brokers learn of a topic a moment after its creation was answered."""
    def there():
        t = describe(c, name)
        return t["error_code"] == 0 and len(t["partitions"]) == partitions and all(p["leader_id"] == 1 for p in t["partitions"])
    assert compare.wait_for(there), f"{c.name}: no topic {name}"

    def leads():
        parts = [{"partition_index": p, "timestamp": -1} for p in range(partitions)]
        answer = c.ask("ListOffsets", 1, replica_id=-1, topics=[{"name": name, "partitions": parts}])
        return all(p["error_code"] == 0 for p in answer["topics"][0]["partitions"])
    assert compare.wait_for(leads), f"{c.name}: nobody leads {name}"


def gone(c, name):
    assert compare.wait_for(lambda: describe(c, name)["error_code"] == 3), f"{c.name}: {name} is still there"


def topic_id(c, name):
    found = describe(c, name)["topic_id"]
    c.learn(found, f"id of {name}")
    return found


def records(pairs, base_offset=0, pid=-1, epoch=-1, sequence=-1, attributes=0, timestamp=T0, headers=(), count=None):
    """A batch of magic 2; pairs of key and value, either of which may be None."""
    body = b""
    for i, (key, value) in enumerate(pairs):
        one = b"\0" + varint(i) + varint(i)
        for part in (key, value):
            one += varint(-1) if part is None else varint(len(part)) + part
        one += varint(len(headers))
        for k, v in headers:
            one += varint(len(k)) + k + varint(len(v)) + v
        body += varint(len(one)) + one
    n = len(pairs)
    if attributes & 7 == 1:
        body = gzip.compress(body, mtime=0)
    tail = struct.pack(">hiqqqhii", attributes, n - 1, timestamp, timestamp + max(0, n - 1), pid, epoch, sequence, n if count is None else count)
    tail += body
    return struct.pack(">qiibI", base_offset, 9 + len(tail), 0, 2, crc32c(tail)) + tail


def message(magic, offset, key, value, attributes=0, timestamp=T0):
    """One message of magic 0 or 1."""
    body = struct.pack(">bb", magic, attributes) + (struct.pack(">q", timestamp) if magic else b"")
    for part in (key, value):
        body += struct.pack(">i", -1) if part is None else struct.pack(">i", len(part)) + part
    body = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", offset, len(body)) + body


def message_set(magic, pairs, codec=0):
    """Messages of magic 0 or 1, or with codec 1 (gzip) a wrapper around them."""
    inner = b"".join(message(magic, i, k, v, timestamp=T0 + i) for i, (k, v) in enumerate(pairs))
    if not codec:
        return inner
    return message(magic, len(pairs) - 1, None, gzip.compress(inner, mtime=0), codec, T0 + len(pairs) - 1)


def in_format(version, pairs):
    """Records as a producer of that version of Produce sends them."""
    return records(pairs) if version >= 3 else message_set(1 if version == 2 else 0, pairs)


def produce(c, note, version, name, data, partition=0, acks=-1, **more):
    return c.call(note, "Produce", version, **produce_fields(c, name, data, partition, acks), **more)


def produce_fields(c, name, data, partition=0, acks=-1):
    return {"acks": acks, "timeout_ms": 10000,
            "topic_data": [{"name": name, "topic_id": known_id(c, name), "partition_data": [{"index": partition, "records": data}]}]}


def known_id(c, name):
    for value, symbol in c.symbols.items():
        if symbol == f"id of {name}" and isinstance(value, bytes):
            return value
    return b"\x07" * 16


def fill(c, name, data, partition=0):
    """Appends without its being a step."""
    answer = c.ask("Produce", 8, **produce_fields(c, name, data, partition))
    assert answer["responses"][0]["partition_responses"][0]["error_code"] == 0, answer


def fetch_fields(c, name, offset=0, partition=0, max_bytes=1 << 20, total=1 << 20, wait=0, minimum=1, part=None, **more):
    one = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": max_bytes, **(part or {})}
    return {"max_wait_ms": wait, "min_bytes": minimum, "max_bytes": total,
            "topics": [{"topic": name, "topic_id": known_id(c, name), "partitions": [one]}], **more}


def fetch(c, note, version, name, offset=0, **more):
    return c.call(note, "Fetch", version, **fetch_fields(c, name, offset, **more))
