"""Any request and any answer of Kafka's protocol, as dictionaries: driven by the schema files of the broker (schema/*.ox), which
tools/gen_kafka.py reads.

It sends what a client library would refuse to send: None where null is not allowed, any number in any field. A field that is
not given has its default; one that the version does not have is left out; one that no version has is a mistake of the test."""

import glob
import importlib.util
import os
import struct

FORMS = {"bool": "?", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "float64": "d"}
HIGHEST = 1 << 20  # elements in an array: more is a sign of bytes read wrongly


class Malformed(Exception):
    """The answer does not follow the schema."""


def load(root):
    """The APIs of schema/*.ox by name."""
    spec = importlib.util.spec_from_file_location("gen_kafka", os.path.join(root, "tools", "gen_kafka.py"))
    gen_kafka = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gen_kafka)
    apis = {}
    for path in sorted(glob.glob(os.path.join(root, "schema", "*.ox"))):
        for api in gen_kafka.Parser(path).file()[0]:
            apis[api.name] = api
    return apis


def has(versions, v):
    return versions[0] <= v <= versions[1]


def default(f):
    if f.array:
        return None if f.default == "null" else []
    if f.struct is not None:
        return None if f.default == "null" else {}
    if f.base == "bool":
        return f.default == "true"
    if f.base in FORMS:
        return int(f.default or 0)
    if f.base == "uuid":
        return b"\0" * 16
    if f.default == "null" or f.base == "records":
        return None
    return (f.default or "").strip('"') if f.base == "string" else b""


def uvarint(v):
    out = bytearray()
    while v > 127:
        out.append(v & 127 | 128)
        v >>= 7
    out.append(v)
    return bytes(out)


# --- Writing.

def put_size(n, small, compact):
    return uvarint(n + 1) if compact else struct.pack(">h" if small else ">i", n)


def put_one(f, value, version, flexible):
    """One value that is no array."""
    compact = flexible and not f.inflexible
    if f.struct is not None:
        if f.kind() == "KAFKA_STRUCT_POINTER" and not has(f.tagged, version):
            return b"\xff" if value is None else b"\x01" + put_struct(f.struct, value, version, flexible)
        return put_struct(f.struct, value, version, flexible)
    if f.base in FORMS:
        return struct.pack(">" + FORMS[f.base], value)
    if f.base == "uuid":
        return value
    small = f.base == "string"
    if value is None:
        return put_size(-1, small, compact)
    data = value.encode() if isinstance(value, str) else bytes(value)
    return put_size(len(data), small, compact) + data


def put_field(f, value, version, flexible):
    if not f.array:
        return put_one(f, value, version, flexible)
    compact = flexible and not f.inflexible
    if value is None:
        return put_size(-1, False, compact)
    return put_size(len(value), False, compact) + b"".join(put_one(f, v, version, flexible) for v in value)


def put_struct(s, values, version, flexible):
    unknown = set(values) - {f.name for f in s.fields}
    assert not unknown, f"{s.c_name} has no field {', '.join(sorted(unknown))}"
    out, tags = b"", {}
    for f in s.fields:
        if not has(f.versions, version):
            continue
        value = values.get(f.name, default(f))
        if not has(f.tagged, version):
            out += put_field(f, value, version, flexible)
        elif f.name in values:
            tags[f.tag] = put_field(f, value, version, flexible)
    if flexible:
        out += uvarint(len(tags))
        for tag, data in sorted(tags.items()):
            out += uvarint(tag) + uvarint(len(data)) + data
    return out


def request(api, version, correlation, values, client_id="beside"):
    """A whole frame."""
    flexible = version >= api.flexible
    head = struct.pack(">hhi", api.key, version, correlation) + struct.pack(">h", len(client_id)) + client_id.encode()
    body = head + (b"\0" if flexible else b"") + put_struct(api.messages["request"].root, values, version, flexible)
    return struct.pack(">i", len(body)) + body


# --- Reading.

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise Malformed(f"{n} bytes wanted at {self.at} of {len(self.data)}")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def uvarint(self):
        v = shift = 0
        while True:
            x = self.take(1)[0]
            v |= (x & 127) << shift
            shift += 7
            if x < 128:
                return v

    def size(self, small, compact):
        n = self.uvarint() - 1 if compact else self.number("h" if small else "i")
        if n < -1 or n > len(self.data):
            raise Malformed(f"a size of {n}")
        return n

    def one(self, f, version, flexible):
        compact = flexible and not f.inflexible
        if f.struct is not None:
            if f.kind() == "KAFKA_STRUCT_POINTER" and not has(f.tagged, version) and self.number("b") < 0:
                return None
            return self.struct(f.struct, version, flexible)
        if f.base in FORMS:
            return self.number(FORMS[f.base])
        if f.base == "uuid":
            return self.take(16)
        n = self.size(f.base == "string", compact)
        if n < 0:
            if not has(f.nullable, version):
                raise Malformed(f"{f.name} is null")
            return None
        return self.take(n).decode() if f.base == "string" else self.take(n)

    def field(self, f, version, flexible):
        if not f.array:
            return self.one(f, version, flexible)
        n = self.size(False, flexible and not f.inflexible)
        if n < 0:
            if not has(f.nullable, version):
                raise Malformed(f"{f.name} is null")
            return None
        if n > HIGHEST:
            raise Malformed(f"{n} elements in {f.name}")
        return [self.one(f, version, flexible) for _ in range(n)]

    def struct(self, s, version, flexible):
        values, tagged = {}, {}
        for f in s.fields:
            if not has(f.versions, version):
                continue
            if has(f.tagged, version):
                tagged[f.tag] = f
                values[f.name] = default(f)
            else:
                values[f.name] = self.field(f, version, flexible)
        if flexible:
            last = -1
            for _ in range(self.uvarint()):
                tag, n = self.uvarint(), self.uvarint()
                if tag <= last:
                    raise Malformed(f"tag {tag} after {last}")
                last, end = tag, self.at + n
                if tag in tagged:
                    values[tagged[tag].name] = self.field(tagged[tag], version, flexible)
                    if self.at != end:
                        raise Malformed(f"tag {tag} has {n} bytes")
                else:
                    values[f"tag {tag}"] = self.take(n)
        return values


def response(api, version, data, correlation):
    """The body of a frame. ApiVersions answers never have a flexible header."""
    r = Reader(data)
    got = r.number("i")
    if got != correlation:
        raise Malformed(f"correlation id {got}, not {correlation}")
    flexible = version >= api.flexible
    if flexible and api.name != "ApiVersions" and r.uvarint() != 0:
        raise Malformed("tags in the header")
    values = r.struct(api.messages["response"].root, version, flexible)
    if r.at != len(data):
        raise Malformed(f"{len(data) - r.at} bytes too many")
    return values
