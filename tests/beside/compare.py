"""Sends the same requests to two brokers, makes their answers comparable, and tells what differs.

A case is a function of one `Side`; it runs once on each side and every call it makes is a step. What a broker is free to choose
(ports, ids, times) becomes a symbol before the answers are compared: RULES below, and what cases teach with `learn`. Arrays of
structs are compared as sets by the fields that identify an element: Kafka answers in the order of a hash table."""

import gzip
import re
import socket
import struct
import time
import tomllib

import codec

SECONDS = 5  # for an answer
ABSENT = "absent"

# What a field becomes before it is compared, whatever its value: a function of the value.
TEXT = lambda v: None if v is None else "text"  # noqa: E731  (wording is free; whether there is any is not)
SIGN = lambda v: "-1" if v == -1 else "time" if v > 1_500_000_000_000 else v  # noqa: E731
RULES = {
    "throttle_time_ms": lambda v: "-",
    "error_message": TEXT,
    "batch_index_error_message": TEXT,
    "log_append_time_ms": SIGN,
    "last_timestamp": SIGN,
    "session_id": lambda v: "session" if v else 0,
    "producer_id": lambda v: "producer" if v >= 0 else v,
    "log_dir": lambda v: "folder",
    "total_bytes": SIGN,
    "usable_bytes": SIGN,
    "cluster_id": TEXT,
    "documentation": TEXT,
    "rack": lambda v: v or None,
    "finalized_features_epoch": lambda v: "-",
}
# The fields by which elements of an array are told apart.
IDENTITY = ("name", "topic", "topic_id", "group_id", "resource_type", "resource_name", "partition_index", "partition", "partition_id", "index",
            "key", "api_key", "node_id", "broker_id", "batch_index", "source", "member_id", "group_instance_id", "leader_epoch_start", "producer_id")


def blank(s, version):
    """A struct of defaults: what a tagged field that is not sent means."""
    return {f.name: blank(f.struct, version) if f.struct is not None and not f.array and f.default != "null" else codec.default(f)
            for f in s.fields if codec.has(f.versions, version)}


def complete(values, s, version):
    """Puts defaults in where a tagged struct was not sent."""
    for f in s.fields:
        if f.name not in values or f.struct is None:
            continue
        if f.array:
            for element in values[f.name] or []:
                complete(element, f.struct, version)
        elif values[f.name] == {}:
            values[f.name] = blank(f.struct, version)
        elif values[f.name] is not None:
            complete(values[f.name], f.struct, version)
    return values


def opened(entry):
    """A batch or message whose content is compressed with gzip, as what is in it: two gzips of the same bytes need not be equal."""
    if entry[16] == 2 and entry[22] & 7 == 1:
        return f"gzip {entry[21:61].hex()}:{gzip.decompress(entry[61:]).hex()}"
    at = 18 if entry[16] == 0 else 26
    if entry[16] < 2 and entry[17] & 7 == 1 and len(entry) > at + 8 and entry[at:at + 4] == b"\xff" * 4:
        return f"gzip {entry[16:at].hex()}:{records(gzip.decompress(entry[at + 8:]))}"
    return entry.hex()


def records(data):
    """Record batches and message sets, in hex, without what lies outside of their checksum: the leader epoch."""
    out, at = [], 0
    while at + 17 <= len(data):
        size = struct.unpack_from(">i", data, at + 8)[0]
        entry = data[at:at + 12 + size]
        if len(entry) < 12 + size:
            break  # cut at a limit: clients throw it away
        if entry[16] == 2:
            entry = entry[:12] + b"\0\0\0\0" + entry[16:]
        out.append(f"{struct.unpack_from('>q', data, at)[0]}:magic {entry[16]}:{opened(entry)}")
        at += 12 + size
    return out


class Side:
    """One broker: a connection, what has been learnt about its ids, and the steps so far."""

    def __init__(self, name, port, apis, served=None):
        self.name, self.port, self.apis = name, port, apis
        self.symbols, self.steps, self.case = {}, [], ""
        self.sock, self.correlation = None, 0
        self.took = {}  # seconds of each case
        self.slow = []  # (seconds, case, note, API, version) of what took long
        self.served = served or {}

    # --- The wire.

    def connect(self):
        self.sock = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = None

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def send(self, name, version, **values):
        """Sends and expects nothing; for acks=0 and for requests that wait."""
        if self.sock is None:
            self.connect()
        self.correlation += 1
        self.sock.sendall(codec.request(self.apis[name], version, self.correlation, values))

    def receive(self, name, version):
        """The answer as a dictionary, or one that says why there is none."""
        try:
            data = self.exactly(struct.unpack(">i", self.exactly(4))[0])
        except (ConnectionError, socket.timeout) as e:
            self.close()
            return {"broken": "no answer in time" if isinstance(e, socket.timeout) else "closed"}
        # A broker that does not know the version of ApiVersions answers in version 0.
        if name == "ApiVersions" and data[4:6] == b"\0\x23":
            version = 0
        try:
            api = self.apis[name]
            return complete(codec.response(api, version, data, self.correlation), api.messages["response"].root, version)
        except (codec.Malformed, UnicodeDecodeError) as e:
            self.close()
            return {"broken": f"malformed: {e}"}

    def ask(self, name, version, **values):
        """A call that is no step of the comparison."""
        began = time.monotonic()
        self.send(name, version, **values)
        answer = self.receive(name, version)
        took = time.monotonic() - began
        if took > 0.3:
            self.slow.append((round(took, 2), self.case, name, version))
        return answer

    # --- Steps.

    def call(self, note, name, version, **values):
        answer = self.ask(name, version, **values)
        self.steps.append((self.case, note, name, version, values, answer))
        return answer

    def got(self, note, name, version):
        answer = self.receive(name, version)
        self.steps.append((self.case, note, name, version, {}, answer))
        return answer

    def say(self, note, value):
        """A step that is no answer: something worked out from several of them."""
        self.steps.append((self.case, note, "", 0, {}, {"value": value}))

    def versions(self, name, low=0, high=99):
        """The versions of an API that both sides serve."""
        if name not in self.apis or name not in self.served:
            return range(0)
        return range(max(low, self.served[name][0]), min(high, self.served[name][1]) + 1)

    def newest(self, name, high=99):
        versions = self.versions(name, 0, high)
        return versions[-1] if versions else None

    def learn(self, value, symbol):
        if value and value != b"\0" * 16:
            self.symbols[value] = symbol

    # --- Comparable answers.

    def plain(self, name, value):
        """A value without what the broker was free to choose."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (str, bytes)) and value in self.symbols:
            return self.symbols[value]
        if name == "producer_id" and (name, value) in self.symbols:
            return self.symbols[name, value]
        if name == "port":
            return "its port" if value == self.port else value
        if name in RULES:
            return RULES[name](value)
        if isinstance(value, bytes):
            return records(value) if name == "records" else value.hex()
        return value

    def flat(self, value, path="", name=""):
        """{path: plain value}; an element of an array of structs is named by what identifies it."""
        if isinstance(value, dict):
            found = {}
            for k, v in value.items():
                if k == "error_message" and value.get("error_code") == 0:
                    continue  # Kafka sends NONE or an empty text beside some codes of 0; clients look at it after an error only
                found.update(self.flat(v, f"{path}.{k}" if path else k, k))
            return found
        if isinstance(value, list) and name != "records":
            if all(not isinstance(v, dict) for v in value):
                return {path: sorted((self.plain(name, v) for v in value), key=repr)}
            found, seen = {path + "[]": len(value)}, {}
            for v in value:
                key = ",".join(str(self.plain(k, v[k])) for k in IDENTITY if k in v and not isinstance(v[k], (list, dict)))
                seen[key] = seen.get(key, 0) + 1
                if seen[key] > 1:
                    key += f"#{seen[key]}"
                found[f"{path}[{key}]"] = "there"
                found.update(self.flat(v, f"{path}[{key}]"))
            return found
        return {path: self.plain(name, value)}


class Difference:
    """One field of one kind of step, in the versions in which it differs in the same way."""

    def __init__(self, case, note, api, field, ours, theirs, request):
        self.case, self.note, self.api, self.field, self.ours, self.theirs = case, note, api, field, ours, theirs
        self.request, self.versions, self.listed = request, [], False

    def __str__(self):
        versions = f"{self.versions[0]}-{self.versions[-1]}" if len(self.versions) > 1 else str(self.versions[0])
        return f"{self.case}/{self.note}: {self.api} v{versions} {self.field}: ours {self.ours}, theirs {self.theirs}\n    sent {self.request}"


def short(value):
    text = repr(value)
    return text if len(text) < 160 else text[:150] + f"... ({len(text)})"


def numbered(steps):
    """{(case, note, API, version, which of several): step}"""
    found, seen = {}, {}
    for step in steps:
        seen[step[:4]] = seen.get(step[:4], 0) + 1
        found[(*step[:4], seen[step[:4]])] = step
    return found


def below_absent(field, a, b):
    """Is it a part of an element that only one has? The element is a difference already."""
    parts = [field[:i] for i, x in enumerate(field) if x in ".[" and i > 0]
    return any((p in a) != (p in b) for p in parts)


def is_prefix(field, a, b):
    """Are these records the same, only that one answer has more of them? Where an answer ends is free within limits."""
    if not field.endswith("records") or not isinstance(a, list) or not isinstance(b, list):
        return False
    n = min(len(a), len(b))
    return len(a) != len(b) and n > 0 and a[:n] == b[:n]


def differences(ours, theirs):
    """Compares the steps of two sides."""
    found = {}

    def note(step, field, a, b):
        case, text, api, version, values, _ = step
        key = (case, text, api, field, short(a), short(b))
        d = found.setdefault(key, Difference(case, text, api, field, short(a), short(b), short(values)))
        d.versions.append(version)
    one, other = numbered(ours.steps), numbered(theirs.steps)
    for key in dict.fromkeys([*one, *other]):
        if key not in one or key not in other:
            note(one.get(key) or other[key], "step", "taken" if key in one else "not taken", "taken" if key in other else "not taken")
            continue
        step = one[key]
        a, b = ours.flat(step[5]), theirs.flat(other[key][5])
        if "broken" in a or "broken" in b:
            if a != b:
                note(step, "answer", a.get("broken", "an answer"), b.get("broken", "an answer"))
            continue
        for field in dict.fromkeys([*a, *b]):
            if is_prefix(field, a.get(field), b.get(field)):
                note(step, f"{field} how many", len(a[field]), len(b[field]))
            elif a.get(field, ABSENT) != b.get(field, ABSENT) and not below_absent(field, a, b):
                note(step, field, a.get(field, ABSENT), b.get(field, ABSENT))
    return list(found.values())


# --- The list of what may differ.

class Listed:
    """An entry of differences.toml. In patterns `*` stands for anything."""

    def __init__(self, entry, is_open=False):
        self.open = is_open  # nobody has judged it yet: it need not occur in every state of the work
        unknown = set(entry) - {"where", "api", "field", "oxbow", "kafka", "only", "versions", "reason"}
        assert not unknown and entry.get("reason"), f"an entry needs a reason and has only known keys: {entry}"
        self.entry, self.used = entry, 0

    def about(self, release):
        return release.startswith(self.entry["only"]) if "only" in self.entry else True

    def covers(self, d):
        def fits(key, value):
            pattern = self.entry.get(key, "*")
            return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), value, re.S) is not None
        low, high = (int(x) for x in self.entry.get("versions", "0-99").split("-"))
        return (low <= d.versions[0] and d.versions[-1] <= high and fits("where", f"{d.case}/{d.note}") and fits("api", d.api) and fits("field", d.field) and
                fits("oxbow", d.ours) and fits("kafka", d.theirs))


def listed(path):
    with open(path, "rb") as f:
        found = tomllib.load(f)
    return [Listed(e) for e in found.get("difference", [])] + [Listed(e, True) for e in found.get("open", [])]


def judge(found, entries, release):
    """(differences that are not listed, entries that no longer occur)"""
    entries = [e for e in entries if e.about(release)]
    fresh = []
    for d in found:
        covering = [e for e in entries if e.covers(d)]
        for e in covering:
            e.used += 1
        if not covering:
            fresh.append(d)
    return fresh, [e for e in entries if not e.used and not e.open]


def as_open(found, release):
    """Entries for differences that nobody has judged yet, to be judged: text for differences.toml."""
    out = {}
    for d in found:
        field = re.sub(r"\[[^\]]*\]", "[*]", d.field).replace("[*].", "*.").replace("[*]", "*")
        out[(f"{d.case}/{d.note}", d.api, field)] = release[:1]
    def quote(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "".join(f"[[open]]\nwhere = {quote(w)}\napi = {quote(a)}\nfield = {quote(f)}\nreason = \"not judged yet\"\n\n"
                   for w, a, f in sorted(out))


def wait_for(check, seconds=20):
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
