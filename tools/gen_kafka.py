#!/usr/bin/python3
"""Generates kafka_messages.h and kafka_messages.c from the schema files (schema/*.ox).

    gen_kafka.py --schema DIR --out DIR

The language, line by line ('#' begins a comment):

    api KEY Name                      or, for the headers:  header name
    versions A-B
    flexible N+                       the first version with compact lengths and tagged fields; or `none`
    request { ... }  response { ... } or, for the headers:  fields { ... }

    field  type  [versions]  [tag N [at versions]]  [= default]  [ignorable]  [inflexible]  [{]

  type       bool int8 int16 uint16 int32 uint32 int64 float64 uuid string bytes records, or the name of a struct;
             [] in front: an array; `?` behind: may be null in every version that has it; `?N+`: in these versions only
  versions   N+, A-B or N; without, all versions of what surrounds it
  tag N      the field is tagged; `at` narrows the versions in which it is
  = default  otherwise zero, false, "" and empty; `null` only for what may be null
  ignorable  left out without an error in versions that do not have it
  inflexible keeps the old length encoding in flexible versions
  {          the fields of the struct or of the array's elements follow, up to }
  struct name [versions] {            a struct that several fields of the message use by name

Structs are named kafka_<api>_<request|response>_<name>. The C code only holds structs, tables and typed wrappers:
src/kafka/codec.c interprets.
"""

import argparse
import os
import re
import sys

INTS = {
    "bool": ("bool", 1), "int8": ("int8_t", 1), "int16": ("int16_t", 2), "uint16": ("uint16_t", 2),
    "int32": ("int32_t", 4), "uint32": ("uint32_t", 4), "int64": ("int64_t", 8), "float64": ("double", 8),
}
INT_RANGE = {
    "int8": (-(2**7), 2**7 - 1), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1),
}
VIEWS = {
    "uuid": "struct kafka_uuid", "string": "struct kafka_string", "bytes": "struct kafka_bytes",
    "records": "struct kafka_records",
}
NULLABLE = {"string", "bytes", "records"}
NONE = (1, 0)  # no version
VERSIONS = re.compile(r"(\d+)(?:(\+)|-(\d+))?")
NEVER_FLEXIBLE = 127
FIELDS_MAX = 16  # the bits of the masks in struct kafka_layout


class SchemaError(Exception):
    pass


class Struct:
    def __init__(self, name, c_name, versions):
        self.name, self.c_name, self.versions = name, c_name, versions
        self.fields = []


class Field:
    def __init__(self):
        self.name = self.base = ""
        self.array = self.ignorable = self.inflexible = False
        self.versions = self.nullable = self.tagged = NONE
        self.tag = -1
        self.default = None  # text; "null"
        self.struct = None

    def kind(self):
        if self.struct is None:
            return "KAFKA_" + self.base.upper()
        if not self.array and self.nullable != NONE:
            return "KAFKA_STRUCT_POINTER"
        return "KAFKA_STRUCT"


class Message:
    """One struct tree: a request, a response or a header."""

    def __init__(self, c_name, versions, flexible):
        self.c_name, self.versions, self.flexible = c_name, versions, flexible
        self.structs = []  # inner ones first
        self.root = None


class Api:
    def __init__(self, key, name, versions, flexible):
        self.key, self.name, self.versions, self.flexible = key, name, versions, flexible
        self.messages = {}


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def parse_versions(text, limits):
    m = VERSIONS.fullmatch(text)
    if not m:
        raise SchemaError(f"'{text}' is not a range of versions")
    low = int(m.group(1))
    high = limits[1] if m.group(2) else int(m.group(3) or low)
    if low > high or low < limits[0] or high > limits[1]:
        raise SchemaError(f"versions {text} are outside {limits[0]}-{limits[1]}")
    return low, high


class Parser:
    def __init__(self, path):
        self.lines = []
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                words = line.split("#", 1)[0].split()
                if words:
                    self.lines.append((number, words))
        self.at = 0

    def next(self):
        if self.at == len(self.lines):
            raise SchemaError("the file ends too early")
        self.at += 1
        return self.lines[self.at - 1][1]

    def line(self):
        return self.lines[max(self.at - 1, 0)][0] if self.lines else 0

    def file(self):
        words = self.next()
        if words[0] == "api" and len(words) == 3:
            versions, flexible = self.ranges()
            api = Api(int(words[1]), words[2], versions, flexible)
            for part in ("request", "response"):
                if self.next() != [part, "{"]:
                    raise SchemaError(f"expected '{part} {{'")
                api.messages[part] = self.message(f"kafka_{snake(api.name)}_{part}", versions, flexible)
            if self.at != len(self.lines):
                self.next()
                raise SchemaError("expected the end of the file")
            return [api], []
        headers = []
        while True:
            if words[0] != "header" or len(words) != 2:
                raise SchemaError("expected 'api KEY Name' or 'header name'")
            versions, flexible = self.ranges()
            if self.next() != ["fields", "{"]:
                raise SchemaError("expected 'fields {'")
            headers.append(self.message("kafka_" + words[1], versions, flexible))
            if self.at == len(self.lines):
                return [], headers
            words = self.next()

    def ranges(self):
        words = self.next()
        if words[0] != "versions" or len(words) != 2:
            raise SchemaError("expected 'versions A-B'")
        versions = parse_versions(words[1], (0, NEVER_FLEXIBLE - 1))
        words = self.next()
        if words[0] != "flexible" or len(words) != 2:
            raise SchemaError("expected 'flexible N+' or 'flexible none'")
        if words[1] == "none":
            return versions, NEVER_FLEXIBLE
        return versions, int(words[1].rstrip("+"))

    def message(self, c_name, versions, flexible):
        m = Message(c_name, versions, flexible)
        m.common = {}
        m.root = Struct(c_name, c_name, versions)
        self.fields(m, m.root)
        m.structs.append(m.root)
        names = [s.c_name for s in m.structs]
        for n in names:
            if names.count(n) > 1:
                raise SchemaError(f"struct {n} is defined twice")
        return m

    def fields(self, m, struct):
        while True:
            words = self.next()
            if words == ["}"]:
                break
            if words[0] == "struct":
                if words[-1] != "{" or len(words) not in (3, 4):
                    raise SchemaError("expected 'struct name [versions] {'")
                versions = parse_versions(words[2], struct.versions) if len(words) == 4 else struct.versions
                s = Struct(words[1], f"{m.c_name}_{words[1]}", versions)
                self.fields(m, s)
                m.structs.append(s)
                m.common[words[1]] = s
                continue
            struct.fields.append(self.field(m, struct, words))
        names = [f.name for f in struct.fields]
        if len(set(names)) != len(names):
            raise SchemaError(f"a field of {struct.c_name} is named twice")
        if len(names) > FIELDS_MAX:
            raise SchemaError(f"{struct.c_name} has more than {FIELDS_MAX} fields")
        self.check_tags(m, struct)

    @staticmethod
    def check_tags(m, struct):
        for version in range(struct.versions[0], struct.versions[1] + 1):
            tags = sorted(f.tag for f in struct.fields if f.tagged[0] <= version <= f.tagged[1])
            if tags != list(range(len(tags))):
                raise SchemaError(f"the tags of {struct.c_name} at version {version} are not 0, 1, 2, ...")
            if tags and version < m.flexible:
                raise SchemaError(f"{struct.c_name} has a tag at version {version}, which is not flexible")

    def field(self, m, struct, words):
        if len(words) < 2:
            raise SchemaError("expected 'field type ...'")
        f = Field()
        f.name, words = words[0], words[1:]
        opens = words[-1] == "{"
        if opens:
            words = words[:-1]
        base, question, null_versions = words[0].partition("?")
        words = words[1:]
        f.array = base.startswith("[]")
        f.base = base[2:] if f.array else base
        f.versions = struct.versions
        if words and VERSIONS.fullmatch(words[0]):
            f.versions = parse_versions(words[0], struct.versions)
            words = words[1:]
        if question:
            f.nullable = parse_versions(null_versions, f.versions) if null_versions else f.versions
        self.attributes(f, words)
        if opens:
            f.struct = Struct(f.base, f"{m.c_name}_{f.base}", f.versions)
            self.fields(m, f.struct)
            m.structs.append(f.struct)
        elif f.base in m.common:
            f.struct = m.common[f.base]
        elif f.base not in INTS and f.base not in VIEWS:
            raise SchemaError(f"unknown type '{f.base}'")
        self.check(f)
        return f

    @staticmethod
    def attributes(f, words):
        words = list(words)
        while words:
            word = words.pop(0)
            if word == "ignorable":
                f.ignorable = True
            elif word == "inflexible":
                f.inflexible = True
            elif word == "tag" and words:
                f.tag = int(words.pop(0))
                f.tagged = f.versions
                if len(words) >= 2 and words[0] == "at":
                    f.tagged = parse_versions(words[1], f.versions)
                    words = words[2:]
            elif word == "=" and words:
                f.default = words.pop(0)
            else:
                raise SchemaError(f"'{word}' is not understood")

    @staticmethod
    def check(f):
        can_be_null = f.array or f.struct is not None or f.base in NULLABLE
        if f.nullable != NONE and not can_be_null:
            raise SchemaError(f"{f.base} {f.name} cannot be null")
        if f.default == "null" and f.nullable == NONE:
            raise SchemaError(f"{f.name} is never null, but by default")
        if f.kind() == "KAFKA_STRUCT_POINTER" and f.default != "null":
            raise SchemaError(f"{f.name}: a struct that may be null needs '= null'")
        if f.default in (None, "null"):
            return
        if f.array or f.struct is not None or f.base in ("bytes", "records", "uuid", "float64"):
            raise SchemaError(f"{f.name} cannot have the default '{f.default}'")
        if f.base == "bool" and f.default not in ("true", "false"):
            raise SchemaError(f"{f.name}: '{f.default}' is not a bool")
        if f.base in INT_RANGE:
            low, high = INT_RANGE[f.base]
            if not low <= int(f.default) <= high:
                raise SchemaError(f"{f.name}: {f.default} does not fit {f.base}")


def has(versions, v):
    return versions[0] <= v <= versions[1]


def min_size(struct, version, flexible):
    """The smallest encoding of a struct at a version."""
    total = 1 if version >= flexible else 0
    for f in struct.fields:
        if not has(f.versions, version) or has(f.tagged, version):
            continue
        compact = version >= flexible and not f.inflexible
        if f.array:
            total += 1 if compact else 4
        elif f.struct is not None:
            total += 1 if f.kind() == "KAFKA_STRUCT_POINTER" else min_size(f.struct, version, flexible)
        elif f.base in INTS:
            total += INTS[f.base][1]
        elif f.base == "uuid":
            total += 16
        elif f.base == "string":
            total += 1 if compact else 2
        else:
            total += 1 if compact else 4
    return total


def c_type(f):
    if f.struct is not None:
        if f.array:
            return f"struct {f.struct.c_name}_array "
        return f"struct {f.struct.c_name} " + ("*" if f.kind() == "KAFKA_STRUCT_POINTER" else "")
    if f.array:
        return f"struct kafka_{f.base}_array "
    return (INTS[f.base][0] if f.base in INTS else VIEWS[f.base]) + " "


def versions_text(versions, limits):
    if versions[1] == limits[1]:
        return f"{versions[0]}+"
    return f"{versions[0]}" if versions[0] == versions[1] else f"{versions[0]}-{versions[1]}"


def field_comment(f, struct, m):
    notes = []
    if f.versions != struct.versions:
        notes.append(versions_text(f.versions, m.versions))
    if f.tag >= 0:
        notes.append("tagged")
    if f.nullable != NONE:
        notes.append("may be null" if f.nullable == f.versions else f"null in {versions_text(f.nullable, m.versions)}")
    if f.default is not None:
        notes.append(f"default {f.default}")
    return f" /* {', '.join(notes)} */" if notes else ""


def write_struct(out, s, m):
    out.append(f"struct {s.c_name} {{")
    for f in s.fields:
        out.append(f"    {c_type(f)}{f.name};{field_comment(f, s, m)}")
    if not s.fields:
        out.append("    uint8_t unused; /* C has no empty structs */")
    out.append("};")
    out.append(f"extern const struct kafka_struct {s.c_name}_type;")
    out.append(f"KAFKA_ARRAY({s.c_name}_array, struct {s.c_name});")
    out.append(f"""static inline void {s.c_name}_init(struct {s.c_name} *m) {{
    kafka_init(&{s.c_name}_type, m);
}}
static inline struct {s.c_name} *{s.c_name}_new(struct arena *a, size_t count) {{
    return kafka_new(&{s.c_name}_type, a, count);
}}""")


def write_wrappers(out, m):
    n = m.c_name
    out.append(f"""static inline WARN_UNUSED enum err {n}_decode(struct {n} *m, int16_t version, const uint8_t *data,
                                                      size_t size, struct arena *a) {{
    return kafka_decode(&{n}_type, version, data, size, a, m);
}}
static inline WARN_UNUSED enum err {n}_encode(const struct {n} *m, int16_t version, struct outbuf *out) {{
    return kafka_encode(&{n}_type, version, m, out);
}}
""")


def write_header(apis, headers):
    out = ["/* Generated from schema/ by tools/gen_kafka.py. See codec.h for what the parts mean.",
           " * X_init sets defaults; X_new gives `count` initialised structs from an arena; X_decode and X_encode",
           " * take a version. */",
           "#ifndef OXBOW_KAFKA_MESSAGES_H", "#define OXBOW_KAFKA_MESSAGES_H", "", '#include "kafka/codec.h"', ""]
    out.append("/* X(NAME, c_name, text, key, min version, max version, first flexible version or 127) */")
    out.append("#define KAFKA_APIS(X) \\")
    rows = [f'    X({snake(a.name).upper()}, {snake(a.name)}, "{a.name}", {a.key}, '
            f'{a.versions[0]}, {a.versions[1]}, {a.flexible})' for a in apis]
    out.append(" \\\n".join(rows))
    out.append("")
    out.append("enum kafka_api_key {")
    out += [f"    KAFKA_API_{snake(a.name).upper()} = {a.key}," for a in apis]
    out.append("};")
    out.append(f"#define KAFKA_API_COUNT {len(apis)}")
    out.append(f"#define KAFKA_API_KEY_MAX {max((a.key for a in apis), default=0)}")
    out.append("extern const struct kafka_api kafka_apis[KAFKA_API_COUNT]; /* ordered by key */")
    out.append("/* Index into kafka_apis by key; -1: not in the schema. */")
    out.append("extern const int8_t kafka_api_index[KAFKA_API_KEY_MAX + 1];")
    out.append("")
    for m in headers + [a.messages[p] for a in apis for p in ("request", "response")]:
        for s in m.structs:
            write_struct(out, s, m)
        write_wrappers(out, m)
    out.append("#endif")
    return "\n".join(out) + "\n"


def c_int(text):
    v = {"true": 1, "false": 0}.get(text)
    v = int(text) if v is None else v
    return "INT64_MIN" if v == -(2**63) else str(v)


def write_field(f, s):
    flags = [name for name, on in (("KAFKA_FIELD_ARRAY", f.array), ("KAFKA_FIELD_IGNORABLE", f.ignorable),
                                   ("KAFKA_FIELD_DEFAULT_NULL", f.default == "null"),
                                   ("KAFKA_FIELD_INFLEXIBLE", f.inflexible)) if on]
    parts = [f'.name = "{f.name}"', f".offset = offsetof(struct {s.c_name}, {f.name})", f".kind = {f.kind()}",
             f".tag = {f.tag}"]
    for name, versions in (("versions", f.versions), ("nullable", f.nullable), ("tagged", f.tagged)):
        parts.append(f".{name} = {{{versions[0]}, {versions[1]}}}")
    if flags:
        parts.append(f".flags = {' | '.join(flags)}")
    if f.base in INTS and f.base != "bool" and not f.array:
        parts.append(f".width = {INTS[f.base][1]}")
    if f.struct is not None:
        parts.append(f".of = &{f.struct.c_name}_type")
    if f.default not in (None, "null"):
        if f.base == "string":
            if f.default != '""':
                parts.append(f'.default_string = "{f.default}"')
        else:
            parts.append(f".default_int = {c_int(f.default)}")
    return "    {" + ", ".join(parts) + "},"


def default_value(f):
    """A field's default as a C initialiser; None: all zeros."""
    null = f.default == "null"
    if f.base == "records" and not f.array:
        return "{.size = -1}" if null else None
    if f.array or f.base == "bytes":
        return "{NULL, -1}" if null else None
    if f.struct is not None:
        return None if null else default_values(f.struct)
    if f.base == "string":
        text = (f.default or "").strip('"')
        return "{NULL, -1}" if null else f'{{"{text}", {len(text)}}}'
    return None if f.default is None else c_int(f.default)


def default_values(s):
    parts = [f".{f.name} = {value}" for f in s.fields if (value := default_value(f))]
    return f"{{{', '.join(parts)}}}" if parts else None


def layout(s, version, m):
    """The masks of struct kafka_layout: bit i is field i."""
    wire = tagged = lacking = 0
    for i, f in enumerate(s.fields):
        if has(f.tagged, version):
            tagged |= 1 << i
        elif has(f.versions, version):
            wire |= 1 << i
        elif not f.ignorable:
            lacking |= 1 << i
    return f"{{{wire:#x}, {tagged:#x}, {lacking:#x}, {min_size(s, version, m.flexible)}}}"


def write_type(out, s, m):
    versions = range(m.versions[0], m.versions[1] + 1)
    layouts = ", ".join(layout(s, v, m) for v in versions)
    out.append(f"static const struct kafka_layout {s.c_name}_layouts[] = {{{layouts}}};")
    out.append(f"static const struct {s.c_name} {s.c_name}_defaults = {default_values(s) or '{0}'};")
    if s.fields:
        out.append(f"static const struct kafka_field {s.c_name}_fields[] = {{")
        out += [write_field(f, s) for f in s.fields]
        out.append("};")
    fields = f"{s.c_name}_fields" if s.fields else "NULL"
    out.append(f'const struct kafka_struct {s.c_name}_type = {{"{s.c_name}", {fields}, {s.c_name}_layouts,'
               f" &{s.c_name}_defaults, {len(s.fields)}, sizeof(struct {s.c_name}), {m.versions[0]}, {m.versions[1]}, {m.flexible}}};")


def write_element_asserts(out, m):
    """An array element's struct is at most KAFKA_DECODE_RATIO times its smallest encoding: decoding is bounded."""
    for s in m.structs:
        for f in s.fields:
            if f.struct is None or not (f.array or f.kind() == "KAFKA_STRUCT_POINTER"):
                continue
            smallest = min(min_size(f.struct, v, m.flexible) for v in range(f.versions[0], f.versions[1] + 1))
            name = f.struct.c_name
            out.append(f'_Static_assert(sizeof(struct {name}) <= KAFKA_DECODE_RATIO * {smallest}, "{name}");')


def write_source(apis, headers):
    out = ["/* Generated from schema/ by tools/gen_kafka.py. */", '#include "kafka/kafka_messages.h"', "", ""]
    for m in headers + [a.messages[p] for a in apis for p in ("request", "response")]:
        for s in m.structs:
            write_type(out, s, m)
        write_element_asserts(out, m)
        out.append("")
    out.append("const struct kafka_api kafka_apis[KAFKA_API_COUNT] = {")
    for a in apis:
        out.append(f'    {{{a.key}, {a.versions[0]}, {a.versions[1]}, {a.flexible}, "{a.name}", '
                   f'&{a.messages["request"].c_name}_type, &{a.messages["response"].c_name}_type}},')
    out.append("};")
    index = [-1] * (max((a.key for a in apis), default=0) + 1)
    for i, a in enumerate(apis):
        index[a.key] = i
    out.append(f"const int8_t kafka_api_index[KAFKA_API_KEY_MAX + 1] = {{{', '.join(map(str, index))}}};")
    return "\n".join(out) + "\n"


def write_if_changed(path, text):
    try:
        with open(path, encoding="utf-8") as f:
            if f.read() == text:
                os.utime(path)
                return
    except FileNotFoundError:
        pass
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--schema", required=True)
    arguments.add_argument("--out", required=True)
    options = arguments.parse_args()
    apis, headers = [], []
    for name in sorted(n for n in os.listdir(options.schema) if n.endswith(".ox")):
        parser = None
        try:
            parser = Parser(os.path.join(options.schema, name))
            a, h = parser.file()
        except (SchemaError, ValueError) as e:
            sys.exit(f"{os.path.join(options.schema, name)}:{parser.line() if parser else 0}: {e}")
        apis += a
        headers += h
    apis.sort(key=lambda a: a.key)
    for one, other in zip(apis, apis[1:]):
        if one.key == other.key:
            sys.exit(f"{one.name} and {other.name} have the same key {one.key}")
    os.makedirs(options.out, exist_ok=True)
    write_if_changed(os.path.join(options.out, "kafka_messages.h"), write_header(apis, headers))
    write_if_changed(os.path.join(options.out, "kafka_messages.c"), write_source(apis, headers))


if __name__ == "__main__":
    main()
