"""`oxbow bench`: its counts are true. What it says was acknowledged is what it reads back, what kcat reads back, and what offsets
say; a timetable is kept by count; errors that pass are repeated, others end in one sentence. No figure is judged. One walk is
also made against a real Kafka where one can be had."""

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree

import pytest

import harness
import kafka_server
from harness import OXBOW, eventually

SECONDS = 180


class Bench:
    def __init__(self, address):
        self.address = address

    def command(self, *arguments):
        return [OXBOW, "bench", *map(str, arguments), "--bootstrap-server", self.address]

    def run(self, *arguments):
        p = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=SECONDS, check=False, preexec_fn=harness.die_with_parent)
        assert not harness.FORBIDDEN.search(p.stderr), p.stderr
        return p

    def json(self, *arguments):
        p = self.run(*arguments, "--json")
        assert p.returncode == 0, (arguments, p.stderr)
        return check(json.loads(p.stdout))

    def fails(self, *arguments, status=1, words=()):
        p = self.run(*arguments)
        assert p.returncode == status and p.stdout == "", (p.stdout, p.stderr)
        assert p.stderr.count("\n") == 1 and p.stderr.startswith("oxbow bench: "), p.stderr
        assert all(w in p.stderr for w in words), p.stderr

    def start(self, *arguments):
        return subprocess.Popen(self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=harness.die_with_parent)

    def kcat(self, topic):
        out = subprocess.run(["kcat", "-b", self.address, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %K %S\n"],
                             capture_output=True, text=True, timeout=SECONDS, check=True, preexec_fn=harness.die_with_parent).stdout
        return [tuple(map(int, line.split())) for line in out.splitlines()]


LATENCY = {"count", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "min_us", "mean_us"}
COUNTS = {"records_acked", "bytes_acked", "batch_bytes_acked", "batches_acked", "requests_answered", "records_consumed", "bytes_consumed",
          "batch_bytes_consumed", "fetches_answered", "batches_sent_again", "gaps"}
ROW = {"second", "took_ns", "measured", "records_acked", "bytes_acked", "records_consumed", "bytes_consumed", "errors", "produce_p50_us",
       "produce_p99_us", "produce_max_us", "end_to_end_p50_us", "end_to_end_p99_us", "end_to_end_max_us"}


def check(r):
    """What holds for every result: its shape, and sums that agree."""
    assert {"settings", "totals", "whole_run", "latency", "client", "errors", "series"} <= set(r)
    assert COUNTS | {"measured_ns"} <= set(r["totals"]) and COUNTS | {"records_missing", "interrupted"} <= set(r["whole_run"])
    measured = [row for row in r["series"] if row["measured"]]
    for key in ("records_acked", "bytes_acked", "records_consumed", "bytes_consumed"):
        assert sum(row[key] for row in measured) == r["totals"][key] <= r["whole_run"][key]
    assert sum(row["took_ns"] for row in measured) == r["totals"]["measured_ns"]
    assert [row["second"] for row in r["series"]] == list(range(len(r["series"]))) and all(set(row) == ROW for row in r["series"])
    for kind, records in (("produce", "records_acked"), ("end_to_end", "records_consumed")):
        one = r["latency"][kind]
        assert set(one) == LATENCY and one["count"] <= r["totals"][records]
        assert one["min_us"] <= one["p50_us"] <= one["p90_us"] <= one["p99_us"] <= one["p999_us"] <= one["max_us"]
    assert r["latency"]["produce"]["count"] == r["totals"]["records_acked"]
    return r


def all_read(r, records, times=1):
    w = r["whole_run"]
    assert (w["records_acked"], w["records_consumed"], w["records_missing"], w["gaps"]) == (records, records * times, 0, 0), (w, r["errors"])
    assert w["bytes_consumed"] == w["bytes_acked"] * times and w["batch_bytes_consumed"] == w["batch_bytes_acked"] * times


@pytest.fixture
def bench(brokers):
    return Bench(brokers({"auto.create.topics.enable": "false", "group.initial.rebalance.delay.ms": "0"}).address)


def test_any_cluster(any_address):
    """Produced, read at the same time, read again from the beginning, read by kcat, in a group: always the same records."""
    b = Bench(any_address)
    r = b.json("-t", "one", "-p", 5, "--records", 3000, "--producers", 2, "--consumers", 2, "--idempotence", "-z", "zstd", "--compressibility", 50, "--config",
               "retention.ms=3600000")
    all_read(r, 3000)
    assert r["whole_run"]["bytes_acked"] == 3000 * 1024 > r["whole_run"]["batch_bytes_acked"]
    assert r["latency"]["produce_from"] == "sent" and r["latency"]["end_to_end"]["count"] > 0
    assert set(r["errors"]) <= {"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"}  # a Kafka that has just started
    again = b.json("-t", "one", "--producers", 0, "--consumers", 3, "--from-beginning")["whole_run"]
    assert (again["records_consumed"], again["bytes_consumed"], again["gaps"]) == (3000, 3000 * 1024, 0)
    assert again["batch_bytes_consumed"] == r["whole_run"]["batch_bytes_acked"]
    seen = b.kcat("one")
    assert len(set(seen)) == 3000 and {p for p, _, _, _ in seen} == set(range(5)) and all(x[2:] == (-1, 1024) for x in seen)
    r = b.json("-t", "one", "--rate", 1000, "--duration", 2, "--consumers", 3, "-g", "team", "--linger-ms", 5, "--key-distribution", "uniform", "--keys", 50)
    w = r["whole_run"]
    assert w["records_missing"] == 0 and w["records_consumed"] == w["records_acked"] >= 1900, (w, r["errors"])
    assert r["latency"]["produce_from"] == "due"
    assert len(b.kcat("one")) == 3000 + w["records_acked"]
    group = json.loads(subprocess.run([OXBOW, "group", "describe", "team", "--json", "--bootstrap-server", b.address], capture_output=True, check=True).stdout)
    group = group[0] if isinstance(group, list) else group
    assert sum(p["lag"] for p in group["partitions"]) == 0, group


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_acks(bench, acks):
    r = bench.json("-t", "t", "-p", 3, "--acks", acks, "--records", 4000, "--record-size", 200, "--consumers", 1)
    all_read(r, 4000)
    assert len(bench.kcat("t")) == 4000


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4"])
def test_codecs(bench, codec):
    all_read(bench.json("-t", "t", "-z", codec, "--compressibility", 70, "--records", 1500, "--consumers", 1), 1500)
    assert len(bench.kcat("t")) == 1500


def test_timetable(bench):
    """As many records as the timetable has, not more; the same with bytes; the warm-up is not counted."""
    r = bench.json("-t", "t", "-p", 4, "--rate", 500, "--duration", 2, "--warm-up", 1, "--producers", 3, "--consumers", 1)
    assert len(r["series"]) == 3 and [row["measured"] for row in r["series"]] == [False, True, True]
    w, took = r["whole_run"], sum(row["took_ns"] for row in r["series"]) / 1e9
    # What was due before the last row ended was made, or is made a moment later; what is due later is not.
    assert 500 * took - 250 <= w["records_acked"] <= 500 * (took + 1) and w["records_missing"] == 0
    assert r["totals"]["records_acked"] <= w["records_acked"] - r["series"][0]["records_acked"]
    partitions = [p for p, _, _, _ in bench.kcat("t")]
    assert all(partitions.count(i) > len(partitions) / 8 for i in range(4))  # also thin traffic goes everywhere
    start = time.monotonic()
    r = bench.json("-t", "t", "--rate", "100kB", "--record-size", 1000, "--records", 150)
    assert r["whole_run"]["records_acked"] == 150 and time.monotonic() - start >= 1.49
    assert r["totals"]["records_due_not_acked"] == 0
    over = bench.json("-t", "t", "--rate", 10 ** 9, "--record-size", 8, "--duration", 1)["totals"]
    assert over["records_due_not_acked"] > 10 ** 8  # what nobody can keep is not hidden
    assert r["settings"]["rate_bytes"] == 100000 and r["totals"]["measured_ns"] >= 1.49e9


def test_late_is_late(brokers):
    """While the broker stands still records stay due: the stop shows in the latency of all that were due meanwhile."""
    broker = brokers()
    b = Bench(broker.address)
    p = b.start("-t", "t", "--rate", 200, "--duration", 4, "--json")
    eventually(lambda: subprocess.run(["kcat", "-b", b.address, "-L", "-t", "t"], capture_output=True, text=True, check=False).stdout.count("partition 0"))
    time.sleep(1.5)
    os.kill(broker.pid, signal.SIGSTOP)
    time.sleep(1.2)
    os.kill(broker.pid, signal.SIGCONT)
    out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 0, err
    r = check(json.loads(out))
    # At least 200 of the 800 or so were due in the 1.2 s, evenly: a tenth of all waited for 0.7 s or more.
    assert r["latency"]["produce"]["p90_us"] >= 300000 and r["latency"]["produce"]["max_us"] >= 1000000
    assert r["whole_run"]["records_acked"] >= 600


def test_fan_out_threads_topics(bench):
    r = bench.json("-t", "many", "--topics", 3, "-p", 2, "--records", 3000, "--record-size", 100, "--producers", 4, "--consumers", 3, "--consumers-each-all",
                   "--threads", 3, "--key-distribution", "zipf", "--keys", 1000, "--linger-ms", 2)
    all_read(r, 3000, times=3)
    seen = [bench.kcat(f"many-{i}") for i in range(3)]
    assert sum(map(len, seen)) == 3000 and all(len(s) > 700 for s in seen) and all(x[2:] == (8, 100) for s in seen for x in s)
    r = bench.json("-t", "many", "--topics", 3, "--producers", 0, "--consumers", 2, "--from-beginning", "--no-fetch-sessions", "--no-check-crcs", "--threads", 2)
    assert r["whole_run"]["records_consumed"] == 3000


def test_backlog_and_connections(bench, brokers):
    broker = brokers()
    b = Bench(broker.address)
    r = b.json("-t", "t", "-p", 3, "--backlog", "2MB", "--rate", "500kB", "--duration", 2, "--consumers", 1, "--connections", 50, "--broker-pid", broker.pid)
    w = r["whole_run"]
    assert r["backlog"]["records"] == 1954 and r["backlog"]["caught_up_ns"] > 0
    assert w["records_acked"] == w["records_consumed"] and w["records_acked"] >= 1954 + 900
    assert r["latency"]["end_to_end"]["count"] <= w["records_acked"] - 1954  # the backlog is not timed
    assert (w["idle_connections"], w["idle_connections_lost"]) == (50, 0)
    assert r["broker"]["resident_bytes_peak"] >= r["broker"]["resident_bytes_after"] > 1000000 and r["client"]["cpu_ns"] > 0 and r["client"]["busy_percent"] <= 150
    alone = b.json("--producers", 0, "--connections", 20, "--duration", 1, "--broker-pid", broker.pid)
    assert alone["whole_run"]["idle_connections"] == 20


def test_broker_dies(brokers):
    """Killed in the middle: what was under way is repeated, and with idempotence nothing is lost or stored twice."""
    broker = brokers()
    b = Bench(broker.address)
    p = b.start("-t", "t", "-p", 4, "--rate", 3000, "--record-size", 300, "--duration", 6, "--consumers", 2, "--idempotence", "--linger-ms", 1, "--json",
                "--config", "retention.ms=-1")
    eventually(lambda: subprocess.run([OXBOW, "topic", "list", "--bootstrap-server", b.address], capture_output=True, text=True, check=False).stdout.count("t "))
    for _ in range(2):
        time.sleep(1.2)
        broker.restart(kill=True)
    out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 0, err
    r = check(json.loads(out))
    w = r["whole_run"]
    assert w["records_missing"] == 0 and w["records_consumed"] == w["records_acked"] and w["gaps"] == 0, (w, r["errors"])
    assert r["errors"]["connection lost"] >= 2 and w["batches_sent_again"] > 0
    seen = b.kcat("t")
    assert len(seen) == len(set(seen)) == w["records_acked"]


def test_broker_is_away(brokers):
    """Hardly anything is under way when the broker goes, and it stays away for a while: connections come back all the same."""
    broker = brokers()
    b = Bench(broker.address)
    p = b.start("-t", "t", "-p", 2, "--rate", 5, "--duration", 7, "--consumers", 1, "--json")
    eventually(lambda: subprocess.run([OXBOW, "topic", "list", "--bootstrap-server", b.address], capture_output=True, text=True, check=False).stdout.count("t "))
    time.sleep(1.05)
    broker.stop()
    time.sleep(1.5)
    broker.start()
    out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 0, err
    r = check(json.loads(out))
    w = r["whole_run"]
    assert w["records_acked"] >= 30 and w["records_consumed"] >= w["records_acked"] and w["gaps"] == 0, (w, r["errors"])
    assert r["errors"]["connection lost"] >= 2 and r["series"][-1]["records_acked"] > 0


def test_two_in_one_group(bench):
    """Members of a second process join and leave again: what one does not read the other does."""
    common = ["-t", "t", "-g", "team", "--producers", 0, "--consumers", 2, "--json"]
    bench.json("-t", "t", "-p", 6, "--records", 6)
    first = bench.start(*common, "--duration", 14)
    time.sleep(1)
    second = bench.start(*common, "--duration", 4)
    time.sleep(6)  # it waits until it is sure that the rest belongs to others
    written = bench.json("-t", "t", "--rate", 400, "--duration", 2, "--linger-ms", 1)["whole_run"]["records_acked"]
    parts = []
    for p in (second, first):
        out, err = p.communicate(timeout=SECONDS)
        assert p.returncode == 0, err
        parts.append(json.loads(out)["whole_run"])
    read = sum(w["records_consumed"] for w in parts)
    assert all(w["records_consumed"] > 0 for w in parts) and written <= read <= 2 * written, (written, parts)


def test_topic_goes(bench):
    """A code that may pass is repeated, with new metadata: until the topic is there again, or else until the time-out."""
    def topic(verb, *arguments):
        subprocess.run([OXBOW, "topic", verb, "t", *arguments, "--bootstrap-server", bench.address], capture_output=True, check=True)

    def there():
        out = subprocess.run([OXBOW, "topic", "describe", "t", "--json", "--bootstrap-server", bench.address], capture_output=True, text=True, check=False)
        return out.returncode == 0 and sum(p["latest"] for p in json.loads(out.stdout)[0]["partitions"]) > 5
    p = bench.start("-t", "t", "-p", 2, "--rate", 50, "--duration", 5, "--json")
    eventually(there)
    topic("delete")
    time.sleep(0.5)
    topic("create", "--partitions", "2")
    out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 0, err
    r = check(json.loads(out))
    assert r["errors"]["UNKNOWN_TOPIC_OR_PARTITION"] > 0 and r["whole_run"]["batches_sent_again"] > 0
    assert r["series"][-1]["records_acked"] > 0 and r["whole_run"]["records_acked"] >= 225
    p = bench.start("-t", "t", "-p", 2, "--rate", 50, "--duration", 600, "--timeout-ms", 2000)
    time.sleep(1)
    topic("delete")
    out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 1 and out == "" and err.count("\n") == 1
    assert "nothing was acknowledged for 2000 ms" in err and "UNKNOWN_TOPIC_OR_PARTITION" in err, err


@pytest.mark.parametrize("version", [pytest.param(v, id=f"kafka-{v}") for v in kafka_server.versions.KAFKAS[:1]])
def test_kafkas_own_perf_tests(bench, version):
    """What Kafka's producer-perf-test writes is what we count, and its consumer-perf-test counts what we write."""
    maven = kafka_server.maven
    classpath = maven.classpath(maven.delivered(maven.kafka(version)))

    def tool(name, *arguments):
        return harness.run([*maven.JAVA, "-Xmx256m", "-cp", classpath, f"org.apache.kafka.tools.{name}", *map(str, arguments)], SECONDS)[1]
    subprocess.run([OXBOW, "topic", "create", "t", "--partitions", "3", "--bootstrap-server", bench.address], capture_output=True, check=True)
    said = tool("ProducerPerformance", "--topic", "t", "--num-records", 5000, "--record-size", 300, "--throughput", -1, "--producer-props",
                f"bootstrap.servers={bench.address}")
    assert "5000 records sent" in said, said
    w = bench.json("-t", "t", "--producers", 0, "--consumers", 2, "--from-beginning")["whole_run"]
    assert (w["records_consumed"], w["bytes_consumed"]) == (5000, 5000 * 300)
    all_read(bench.json("-t", "u", "-p", 3, "--records", 4000, "--record-size", 250, "--consumers", 1, "--idempotence"), 4000)
    said = tool("ConsumerPerformance", "--bootstrap-server", bench.address, "--topic", "u", "--messages", 4000, "--timeout", 60000)
    fields = [x.strip() for x in said.strip().splitlines()[-1].split(",")]
    assert fields[4] == "4000" and abs(float(fields[2]) - 4000 * 250 / 2 ** 20) < 0.01, said


def test_interrupt(bench):
    p = bench.start("-t", "t", "--rate", 300, "--duration", 600, "--consumers", 1)
    time.sleep(2.5)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 0 and "interrupted\n" in out and "acknowledged" in out and err == "", (out, err)


def test_pictures_and_files(bench, folder):
    svg, file = os.path.join(folder, "pictures"), os.path.join(folder, "result.json")
    with open(file, "w", encoding="ascii") as f:
        f.write("x" * 100000)  # longer than what replaces it
    p = bench.run("-t", "t", "--rate", 300, "--duration", 2, "--warm-up", 1, "--consumers", 1, "--svg", svg, "--json-file", file)
    assert p.returncode == 0 and "p99" in p.stdout.lower() and p.stderr == ""
    with open(file, encoding="utf-8") as f:
        check(json.load(f))
    assert sorted(os.listdir(svg)) == ["latency.svg", "percentiles.svg", "throughput.svg"]
    names = {"latency.svg": 6, "percentiles.svg": 2, "throughput.svg": 2}
    for name in os.listdir(svg):
        root = xml.etree.ElementTree.parse(os.path.join(svg, name)).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(root.findall(".//{*}g/{*}title")) == names[name] and root.findall(".//{*}g/{*}path")
        with open(os.path.join(svg, name), encoding="utf-8") as f:
            text = f.read()
        assert "script" not in text and text.count("http") == 1  # the name space alone


def test_sentences(bench, folder):
    b = bench
    b.fails("-t", "t", "--config", "no.such.thing=1", words=["no.such.thing", "INVALID_CONFIG"])
    b.fails("-t", "a b", words=["'a b'", "INVALID_TOPIC_EXCEPTION"])
    b.json("-t", "t", "-p", 2, "--records", 10)
    b.fails("-t", "t", "-p", 3, "--records", 10, words=["'t'", "2 partitions", "expected 3"])
    b.fails("-t", "empty", "--producers", 0, "--consumers", 1, words=["nothing was read"])
    b.fails("-t", "t", "--records", 10, "--broker-pid", 2 ** 31 - 1, words=["2147483647"])
    b.fails("-t", "t", "--records", 10, "--json-file", os.path.join(folder, "no", "such"), words=["no/such"])
    b.fails("-t", "small", "--config", "max.message.bytes=1000", "--record-size", 5000, "--records", 3, words=["'small'", "MESSAGE_TOO_LARGE"])
    for arguments in (["--record-size", 7], ["--acks", 2], ["--rate", "5 MB"], ["--idempotence", "--acks", 1], ["-g", "x"], ["stray"], ["--producers", 0],
                      ["--records", 5, "--bytes", 5], ["--idempotence", "--max-in-flight", 6], ["--batch-size", "1TB"], ["--no-such-option"]):
        b.fails("-t", "t", *arguments, status=2)
    Bench("no-such-host.invalid:9092").fails(words=["no-such-host.invalid:9092"])
    Bench(f"127.0.0.1:{harness.free_port()}").fails(words=["refused"])
