"""A proxy in front of an S3 server that does to requests what networks and servers do: loses answers after the request was carried
out, carries it out seconds later, refuses, resets, cuts, slows down, changes bytes, is away.

    with Proxy(server.endpoint) as p:
        rule = p.add("lose", kinds={"CREATE"}, times=3)   # see the methods do_...
        ...
        rule.hits, p.count["CREATE"], p.statuses["PUT", 200]

Requests are streamed, with the Host header that the client signed; a rule that must know the body reads it first. Each request has an
upstream connection of its own, so that no request is ever sent twice by the proxy. What is rewritten is signed again with the
tests' keys. All threads are daemons of the process.

    python3 s3proxy.py UPSTREAM [--port N] [--latency-ms N]     for the bench and for playing; prints the counts at the end
"""

import argparse
import collections
import contextlib
import datetime
import hashlib
import hmac
import random
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
import urllib.parse

import harness
import s3server

CHUNK = 256 << 10
KINDS = ("PUT", "CREATE", "PART", "UPLOAD", "GET", "HEAD", "LIST", "DELETE", "OTHER")


class Gone(Exception):
    """The connection is over, one way or another."""


class Request:
    def __init__(self, line, headers):
        self.method, self.target, _ = line.split(" ", 2)
        self.headers = headers  # [(name, value)], as they came
        path, _, query = self.target.partition("?")
        self.path, self.query = path, dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.key = urllib.parse.unquote(path).lstrip("/").partition("/")[2]  # path style
        self.length = int(self.header("content-length") or 0)
        self.body = None  # bytes, once a rule has wanted it
        self.kind = self.find_kind()
        self.at = time.monotonic()

    def header(self, name):
        return next((v for n, v in self.headers if n.lower() == name), None)

    def find_kind(self):
        if self.method == "PUT":
            return "PART" if "partNumber" in self.query else "CREATE" if self.header("if-none-match") else "PUT"
        if self.method == "POST":
            return "DELETE" if "delete" in self.query else "UPLOAD" if "uploads" in self.query or "uploadId" in self.query else "OTHER"
        if self.method == "GET":
            return "GET" if self.key else "LIST"
        return self.method if self.method in ("HEAD", "DELETE") else "OTHER"


class Rule:
    def __init__(self, action, kinds, key, times, skip, chance, options):
        self.action, self.kinds, self.key = action, kinds, re.compile(key) if key else None
        self.times, self.skip, self.chance, self.options = times, skip, chance, options
        self.hits = 0

    def takes(self, r, rng):
        """Under the proxy's lock."""
        if self.kinds and r.kind not in self.kinds or self.key and not self.key.search(r.key):
            return False
        if self.times is not None and self.times <= 0 or rng.random() >= self.chance:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        self.hits += 1
        return True


class Wire:
    """One direction's reading end, buffered; writing goes past it."""

    def __init__(self, s):
        self.socket, self.buffer = s, bytearray()

    def fill(self):
        got = self.socket.recv(CHUNK)
        if not got:
            raise Gone
        self.buffer += got

    def head(self):
        """First line and headers."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self.fill()
        lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        del self.buffer[:end + 4]
        return lines[0], [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]

    def pieces(self, length):
        while length > 0:
            if not self.buffer:
                self.fill()
            piece = bytes(self.buffer[:length])
            del self.buffer[:length]
            length -= len(piece)
            yield piece

    def line(self):
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.fill()
        text = bytes(self.buffer[:end])
        del self.buffer[:end + 2]
        return text

    def chunked(self):
        data = b""
        while True:
            size = int(self.line().split(b";")[0], 16)
            data += b"".join(self.pieces(size))
            self.line()
            if size == 0:
                return data


def reset(s):
    """The peer sees a reset connection, not an end."""
    with contextlib.suppress(OSError):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        s.shutdown(socket.SHUT_RD)  # wakes a thread that reads it
    with contextlib.suppress(OSError):
        s.close()


class Proxy:
    def __init__(self, upstream, port=None, latency_s=0.0, seed=1):
        where = urllib.parse.urlsplit(upstream)
        self.upstream = (where.hostname, where.port)
        self.port = port or harness.free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.latency_s = latency_s  # from a request's arrival to its answer, at least, for `latency_kinds` (None: all)
        self.latency_kinds = None
        self.rng = random.Random(seed)
        self.lock = threading.Lock()
        self.rules, self.live = [], set()
        self.count, self.statuses, self.bytes_in = collections.Counter(), collections.Counter(), collections.Counter()
        self.under_way = collections.Counter()
        self.most_under_way = collections.Counter()
        self.away = None  # None, "refuse" or "silent"
        self.listener = None
        self.listen()

    # --- What tests use.

    def add(self, action, kinds=None, key=None, times=None, skip=0, chance=1.0, **options):
        """action: the name of a do_ method. kinds: of KINDS, default all. key: a regular expression searched in the key. The first
        rule that takes a request decides."""
        assert hasattr(self, f"do_{action}"), action
        assert not kinds or set(kinds) <= set(KINDS), kinds
        rule = Rule(action, kinds and set(kinds), key, times, skip, chance, options)
        with self.lock:
            self.rules.append(rule)
        return rule

    def clear(self):
        with self.lock:
            self.rules = []

    def outage(self, how="refuse"):
        """"refuse": nobody listens, and all connections are reset. "silent": packets go in, nothing comes out."""
        self.away = how
        if how == "refuse":
            self.stop_listening()
        with self.lock:
            live, self.live = self.live, set()
        if how == "refuse":
            for s in live:
                reset(s)

    def back(self):
        how, self.away = self.away, None
        if how == "refuse":
            self.listen()

    def close(self):
        self.stop_listening()
        with self.lock:
            live, self.live, self.rules = self.live, set(), []
        for s in live:
            reset(s)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.close()

    # --- Connections.

    def listen(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", self.port))
        s.listen(512)
        self.listener = s
        threading.Thread(target=self.accept, args=(s,), daemon=True).start()

    def stop_listening(self):
        s, self.listener = self.listener, None
        if s:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)  # wakes accept()
            s.close()

    def accept(self, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.live.add(s)
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        wire = Wire(s)
        try:
            while True:
                r = Request(*wire.head())
                if self.away == "silent":
                    self.hold(s)
                self.one(r, s, wire)
                if (r.header("connection") or "").lower() == "close":
                    break
        except (Gone, OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.live.discard(s)
            with contextlib.suppress(OSError):
                s.close()

    def one(self, r, s, wire):
        with self.lock:
            self.count[r.kind] += 1
            self.bytes_in[r.kind] += r.length
            self.under_way[r.kind] += 1
            self.most_under_way[r.kind] = max(self.most_under_way[r.kind], self.under_way[r.kind])
            rule = next((x for x in self.rules if x.takes(r, self.rng)), None)
        try:
            if (r.header("expect") or "").lower() == "100-continue":
                s.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if rule:
                getattr(self, f"do_{rule.action}")(r, s, wire, **rule.options)
            else:
                self.relay(r, s, wire)
        finally:
            with self.lock:
                self.under_way[r.kind] -= 1

    # --- Parts that rules are made of.

    def read_body(self, r, wire):
        if r.body is None:
            r.body = b"".join(wire.pieces(r.length))
        r.at = time.monotonic()

    def forward(self, r, wire, body_limit=None):
        """Sends the request upstream, with the body as it comes. The upstream connection, and its answer's status line and headers."""
        up = socket.create_connection(self.upstream, 60)
        try:
            up.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = [f"{r.method} {r.target} HTTP/1.1"] + [f"{n}: {v}" for n, v in r.headers if n.lower() not in ("connection", "expect")]
            up.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
            if r.body is not None:
                up.sendall(r.body[:body_limit])
            else:
                left = r.length if body_limit is None else min(body_limit, r.length)
                refused = False
                for piece in wire.pieces(left):
                    # A server that refuses a request for its headers answers at once and reads no more; what the client still sends is
                    # thrown away, as a client would be reset otherwise before it sees the answer.
                    refused = refused or bool(select.select([up], [], [], 0)[0])
                    if not refused:
                        try:
                            up.sendall(piece)
                        except OSError:
                            refused = True
                r.at = time.monotonic()
            if body_limit is not None:
                return up, None, None, None
            answer = Wire(up)
            line, headers = answer.head()
            while line.split(" ")[1].startswith("1"):
                line, headers = answer.head()
            return up, answer, line, headers
        except BaseException:
            up.close()
            raise

    def answer_body(self, r, answer, line, headers):
        """What follows the headers, as pieces, and how much it is; headers changed so that they announce it."""
        names = {n.lower(): v for n, v in headers}
        status = int(line.split(" ")[1])
        if r.method == "HEAD" or status in (204, 304):
            return headers, 0, iter(())
        if names.get("transfer-encoding", "").lower() == "chunked":
            data = answer.chunked()
            headers = [(n, v) for n, v in headers if n.lower() != "transfer-encoding"] + [("Content-Length", str(len(data)))]
            return headers, len(data), iter((data,))
        length = int(names.get("content-length", 0))
        return headers, length, answer.pieces(length)

    def wait(self, r):
        if self.latency_s and (self.latency_kinds is None or r.kind in self.latency_kinds):
            left = r.at + self.latency_s - time.monotonic()
            if left > 0:
                time.sleep(left)

    def say(self, s, line, headers):
        headers = [(n, v) for n, v in headers if n.lower() not in ("connection", "keep-alive")]
        s.sendall((line + "\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers) + "\r\n").encode("latin-1"))

    def counted(self, r, line):
        with self.lock:
            self.statuses[r.kind, int(line.split(" ")[1])] += 1

    def relay(self, r, s, wire, change=None, bytes_per_second=None, cut=None):
        up, answer, line, headers = self.forward(r, wire)
        with contextlib.closing(up):
            headers, length, pieces = self.answer_body(r, answer, line, headers)
            self.wait(r)
            self.counted(r, line)
            self.say(s, line, headers)
            sent = 0
            for piece in pieces:
                if change:
                    piece = change(piece)
                if cut is not None and sent + len(piece) > length * cut:
                    s.sendall(piece[:int(length * cut) - sent])
                    raise Gone
                if bytes_per_second:
                    self.dribble(s, piece, bytes_per_second)
                else:
                    s.sendall(piece)
                sent += len(piece)

    def dribble(self, s, piece, bytes_per_second):
        step = max(1, int(bytes_per_second / 20))
        for at in range(0, len(piece), step):
            s.sendall(piece[at:at + step])
            time.sleep(0.05)

    def hold(self, s, seconds=None):
        """Says nothing until the client has gone away."""
        s.settimeout(seconds)
        with contextlib.suppress(OSError):
            while s.recv(CHUNK):
                pass
        raise Gone

    def carry_out(self, r, wire):
        """All of it, and the answer thrown away."""
        up, answer, line, headers = self.forward(r, wire)
        with contextlib.closing(up):
            for _ in self.answer_body(r, answer, line, headers)[2]:
                pass
        self.counted(r, line)

    def sign(self, r):
        """After a change; the tests' keys."""
        names = {n.lower(): v for n, v in r.headers}
        old = re.search(r"Credential=[^/]*/[^/]*/([^/]*)/.*SignedHeaders=([^,]*)", names["authorization"])
        now, signed = names["x-amz-date"], [n for n in old[2].split(";") if n in names]
        path, _, query = r.target.partition("?")
        lines = [r.method, path, query, *(f"{n}:{' '.join(names[n].split())}" for n in signed), "", ";".join(signed), names["x-amz-content-sha256"]]
        scope = f"{now[:8]}/{old[1]}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
        k = ("AWS4" + s3server.SECRET).encode()
        for part in (*scope.split("/"), text):
            k = hmac.new(k, part.encode(), hashlib.sha256).digest()
        value = f"AWS4-HMAC-SHA256 Credential={s3server.KEY}/{scope},SignedHeaders={';'.join(signed)},Signature={k.hex()}"
        r.headers = [(n, value if n.lower() == "authorization" else v) for n, v in r.headers]

    # --- What is done to a request. Each is the name of a rule.

    def do_lose(self, r, s, wire, seconds=None):
        """Carried out; the answer never comes."""
        self.carry_out(r, wire)
        self.hold(s, seconds)

    def do_reset_after(self, r, s, wire):
        """Carried out; then the connection is reset."""
        self.carry_out(r, wire)
        reset(s)
        raise Gone

    def do_reset_before(self, r, s, wire):
        """Read, never carried out."""
        self.read_body(r, wire)
        reset(s)
        raise Gone

    def do_reset_within(self, r, s, wire):
        """Half of the body reaches the server."""
        up, *_ = self.forward(r, wire, body_limit=r.length // 2)
        reset(up)
        reset(s)
        raise Gone

    def do_delay(self, r, s, wire, seconds, silent=True):
        """Carried out that much later, however long the client waits: it gets no answer (silent), or a reset at once."""
        self.read_body(r, wire)

        def later():
            time.sleep(seconds)
            with contextlib.suppress(OSError, Gone):
                self.carry_out(r, None)
        threading.Thread(target=later, daemon=True).start()
        if silent:
            self.hold(s)
        reset(s)
        raise Gone

    def do_answer(self, r, s, wire, status=503, code="SlowDown", after=False, message="made by the proxy", headers=()):
        """An error of S3's form, instead of carrying it out, or (after) having carried it out."""
        if after:
            self.carry_out(r, wire)
        else:
            self.read_body(r, wire)
        self.wait(r)
        body = (f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message>'
                f"<RequestId>proxy</RequestId></Error>").encode()
        if r.method == "HEAD":
            body = b""
        line = f"HTTP/1.1 {status} {code}"
        self.counted(r, line)
        self.say(s, line, [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), *headers])
        s.sendall(body)

    def do_cut(self, r, s, wire, at=0.5):
        """The answer's body ends in its middle, with the connection."""
        self.relay(r, s, wire, cut=at)

    def do_slow(self, r, s, wire, bytes_per_second=1000):
        """The answer's body dribbles."""
        self.relay(r, s, wire, bytes_per_second=bytes_per_second)

    def do_change(self, r, s, wire):
        """Some bytes of the answer's body are others, of the same number."""
        def change(piece):
            b = bytearray(piece)
            for _ in range(3):
                if b:
                    b[self.rng.randrange(len(b))] ^= 1 << self.rng.randrange(8)
            return bytes(b)
        self.relay(r, s, wire, change=change)

    def do_latency(self, r, s, wire, seconds):
        """This much later than usual."""
        self.read_body(r, wire)
        time.sleep(seconds)
        self.relay(r, s, wire)

    def do_nonsense(self, r, s, wire, body=b"<html><body>It works!</body></html>", status=200):
        """Something answers that is no S3 server."""
        self.read_body(r, wire)
        self.counted(r, f"HTTP/1.1 {status}")
        self.say(s, f"HTTP/1.1 {status} OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
        s.sendall(b"" if r.method == "HEAD" else body)

    def do_unconditional(self, r, s, wire):
        """The condition of a create does not reach the server."""
        r.headers = [(n, v) for n, v in r.headers if n.lower() != "if-none-match"]
        self.sign(r)
        self.relay(r, s, wire)

    def do_pages(self, r, s, wire, size=3):
        """A LIST's pages are small."""
        path, _, query = r.target.partition("?")
        words = [w for w in query.split("&") if not w.startswith("max-keys=")]
        r.target = path + "?" + "&".join(sorted([*words, f"max-keys={size}"]))
        self.sign(r)
        self.relay(r, s, wire)

    def do_skew(self, r, s, wire, seconds=3600):
        """As if the client's clock were wrong."""
        def shifted(v):
            at = datetime.datetime.strptime(v, "%Y%m%dT%H%M%SZ") + datetime.timedelta(seconds=seconds)
            return at.strftime("%Y%m%dT%H%M%SZ")
        r.headers = [(n, shifted(v) if n.lower() == "x-amz-date" else v) for n, v in r.headers]
        self.sign(r)
        self.relay(r, s, wire)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("upstream")
    p.add_argument("--port", type=int)
    p.add_argument("--latency-ms", type=float, default=0)
    a = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Proxy(a.upstream, a.port, a.latency_ms / 1000) as proxy:
        print(proxy.endpoint, flush=True)
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            signal.pause()
        print(dict(proxy.count), dict(proxy.most_under_way))


if __name__ == "__main__":
    main()
