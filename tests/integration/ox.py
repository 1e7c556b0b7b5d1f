"""Any API in any version, as dictionaries: encoded and decoded in Python by what schema/*.ox says, beside the broker's own codec.

    call(w, "AlterConfigs", 2, {"resources": [...]}) -> {"throttle_time_ms": 0, "responses": [...]}

Fields that are left out have their defaults. No tagged fields are sent; those that come are passed over."""

import os
import struct
import sys

from harness import ROOT
from wire import Reader, Wire, Writer

sys.path.insert(0, os.path.join(ROOT, "tools"))
import gen_kafka  # noqa: E402

FORMS = {"bool": "?", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "float64": "d"}
API_VERSIONS = 18


def load():
    found = {}
    folder = os.path.join(ROOT, "schema")
    for name in os.listdir(folder):
        if name.endswith(".ox"):
            for api in gen_kafka.Parser(os.path.join(folder, name)).file()[0]:
                found[api.name] = api
    return found


APIS = load()


def default(f):
    if f.default == "null":
        return None
    if f.array:
        return []
    if f.struct is not None:
        return None if f.nullable != gen_kafka.NONE else {}
    if f.base == "uuid":
        return bytes(16)
    if f.base in ("string", "bytes", "records"):
        return (f.default or "").strip('"') if f.base == "string" else b""
    if f.base == "bool":
        return f.default == "true"
    return float(f.default or 0) if f.base == "float64" else int(f.default or "0", 0)


def put_one(w, f, v, version, in_array=False):
    if f.struct is not None:
        if not in_array and f.nullable != gen_kafka.NONE:
            w.put("b", -1 if v is None else 1)
        if v is not None:
            put_struct(w, f.struct, v, version)
    elif f.base == "uuid":
        w.raw(v)
    elif f.base == "string":
        w.string(v)
    elif f.base in ("bytes", "records"):
        w.bytes(v)
    else:
        w.put(FORMS[f.base], v)


def put_struct(w, s, values, version):
    unknown = set(values) - {f.name for f in s.fields}
    assert not unknown, f"{s.name} has no {unknown}"
    for f in s.fields:
        if not gen_kafka.has(f.versions, version) or f.tag >= 0:
            continue
        v = values.get(f.name, default(f))
        if not f.array:
            put_one(w, f, v, version)
            continue
        w.size("i", -1 if v is None else len(v))
        for item in v or []:
            put_one(w, f, item, version, True)
    w.tags()


def get_one(r, f, version, in_array=False):
    if f.struct is not None:
        if not in_array and f.nullable != gen_kafka.NONE and r.i8() < 0:
            return None
        return get_struct(r, f.struct, version)
    if f.base == "uuid":
        return r.take(16)
    if f.base == "string":
        return r.string()
    if f.base in ("bytes", "records"):
        return r.bytes()
    return r.number(FORMS[f.base])


def get_struct(r, s, version):
    found = {}
    for f in s.fields:
        if not gen_kafka.has(f.versions, version) or f.tag >= 0:
            continue
        if f.array:
            n = r.size("i")
            found[f.name] = None if n < 0 else [get_one(r, f, version, True) for _ in range(n)]
        else:
            found[f.name] = get_one(r, f, version)
    r.tags()
    return found


def encode(name, version, values):
    api = APIS[name]
    w = Writer(version >= api.flexible)
    put_struct(w, api.messages["request"].root, values, version)
    return bytes(w.out)


def send(w, name, version, values):
    api = APIS[name]
    w.correlation += 1
    head = struct.pack(">hhih", api.key, version, w.correlation, 4) + b"test" + (b"\0" if version >= api.flexible else b"")
    body = encode(name, version, values)
    w.sock.sendall(struct.pack(">i", len(head) + len(body)) + head + body)


def receive(w, name, version):
    api = APIS[name]
    data = w.exactly(struct.unpack(">i", w.exactly(4))[0])
    r = Reader(data, version >= api.flexible)
    assert r.i32() == w.correlation
    if api.key != API_VERSIONS:
        r.tags()
    found = get_struct(r, api.messages["response"].root, version)
    r.end()
    return found


def call(w, name, version, values):
    if isinstance(w, int):
        with Wire(w) as once:
            return call(once, name, version, values)
    send(w, name, version, values)
    return receive(w, name, version)


def versions(name):
    low, high = APIS[name].versions
    return range(low, high + 1)
