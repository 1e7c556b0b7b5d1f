"""The admin server: health, readiness, metrics; nothing of it where it is not wanted."""

import re
import urllib.error
import urllib.request

from wire import Wire, batch

SAMPLE = re.compile(r'^([a-z_][a-z0-9_]*)(?:\{([a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*)\})? ([-+0-9.eE]+|NaN|\+Inf)$')


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as r:
            return r.status, r.headers.get("Content-Type"), r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers.get("Content-Type"), e.read().decode()


def metrics(broker):
    """Checks the form of every line; {(name, labels): value}"""
    status, kind, text = get(broker.http + "/metrics")
    assert status == 200 and kind.startswith("text/plain")
    types, found = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, what = line[7:].split()
            assert name not in types, f"{name} twice"
            types[name] = what
        elif not line.startswith("# HELP ") and line:
            m = SAMPLE.match(line)
            assert m, line
            family = m[1] if m[1] in types else re.sub(r"_(bucket|sum|count)$", "", m[1])
            assert family in types, line
            assert (m[1], m[2]) not in found, line
            found[m[1], m[2]] = float(m[3])
            if types[family] == "counter":
                assert family.endswith("_total") and found[m[1], m[2]] >= 0
    return found


def test_http(brokers):
    b = brokers({"http.listen": "127.0.0.1:0"})
    assert get(b.http + "/healthz")[0] == 200
    assert get(b.http + "/readyz")[0] == 200
    assert get(b.http + "/nothing")[0] == 404
    before = metrics(b)
    with Wire(b.port) as w:
        w.create("topic-of-metrics")
        for _ in range(10):
            assert w.produce("topic-of-metrics", 0, batch([b"x" * 100] * 5))[0] == 0
        w.fetch([("topic-of-metrics", 0, 0, 1 << 20)])
        w.produce("unknown", 0, batch([b"x"]))
        after = metrics(b)
        assert after["oxbow_connections", None] == 1

    def grown(name, labels=None):
        return after.get((name, labels), 0) - before.get((name, labels), 0)
    assert grown("oxbow_requests_total", 'api="Produce"') == 11
    assert grown("oxbow_requests_total", 'api="Fetch"') == 1
    assert grown("oxbow_request_duration_seconds_count", 'api="Produce"') == 11
    assert grown("oxbow_wal_groups_total") >= 1 and grown("oxbow_wal_bytes_total") >= 5000
    assert grown("oxbow_network_received_bytes_total") > 5000 and grown("oxbow_network_sent_bytes_total") > 5000
    assert any(labels and "topic-of-metrics" in labels and v >= 5000 for (name, labels), v in after.items())
    assert any(name == "oxbow_errors_total" for name, _ in after)
    assert after["oxbow_wal_size_bytes", None] > 60 << 20
    b.stop()


def test_off_by_default(broker):
    assert broker.field("ready", "http_port") == "none"
    with open(f"/proc/{broker.pid}/maps", encoding="ascii") as f:
        assert "libmicrohttpd" not in f.read()  # not even loaded


def test_topic_names_cannot_break_the_page(brokers):
    b = brokers({"http.listen": "127.0.0.1:0"})
    with Wire(b.port) as w:
        assert w.create('quo"te\n')[0] == 17
        w.create("a.b_c-D")
        w.produce("a.b_c-D", 0, batch([b"x"]))
    metrics(b)
