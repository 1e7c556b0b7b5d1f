"""bench/peers: what is planned, that tables say what the cells say, also of a part of them, and that a tiny load is really measured. No figure
is judged, and no Kafka is needed. Seen to fail: the table's ratios the wrong way round; a variant of Oxbow taken for a release of Kafka; the slowest
peak taken from a variant; the log's goal taken from what it does under the whole broker; the disk's rates taken from the measured seconds alone;
runs compared across their numbers."""

import glob
import json
import os
import subprocess
import sys
import tempfile
import types
from importlib.machinery import SourceFileLoader

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
OXBOW = os.environ.get("OXBOW", os.path.join(ROOT, "build-test/oxbow"))
PEERS = os.path.join(ROOT, "bench", "peers")
sys.dont_write_bytecode = True
sys.path.insert(0, PEERS)

import disk  # noqa: E402  pylint: disable=wrong-import-position
import session  # noqa: E402  pylint: disable=wrong-import-position
import tables  # noqa: E402  pylint: disable=wrong-import-position
from cells import Cells  # noqa: E402  pylint: disable=wrong-import-position

FSYNC, DEFAULT = "kafka-4.3.1-fsync", "kafka-4.3.1-default"


def cell(mb_per_s, cpu_per_gb, p99_us):
    """Two seconds of as much in as out."""
    size = int(mb_per_s * 2e6)
    one = {"count": 1, "p50_us": 1, "p90_us": 1, "p99_us": p99_us, "p999_us": p99_us, "max_us": p99_us}
    return {"result": {"settings": {"topic": "t"}, "series": [{"second": 0, "produce_p99_us": p99_us}], "latency": {"produce": one, "end_to_end": one},
                       "totals": {"measured_ns": 2000000000, "bytes_acked": size, "bytes_consumed": size, "records_acked": size // 1024},
                       "whole_run": {"bytes_acked": size}, "broker": {"cpu_ns": int(cpu_per_gb * 2 * size), "resident_bytes_after": 5000000}},
            "counted": {"store_requests_total.create": 3, "nothing": 0}}


def results(folder, brokers):
    c = Cells(folder)
    for broker, runs in brokers.items():
        for i, one in enumerate(runs):
            c.write("a4", broker, i + 1, one)
    return c


def row(text, title, first):
    """The cells of the row that begins with `first`, in the part with that title."""
    part = text.split(title)[1].split("\n### ")[0]
    return next(line for line in part.splitlines() if line.startswith("| " + first))[2:-2].split(" | ")


def report(folder, *more):
    return subprocess.run([sys.executable, os.path.join(PEERS, "report"), folder, *more], capture_output=True, text=True, check=False)


def case_tables(folder):
    """Median, least and most; ratios against the newest Kafka, above 1 when we are better; what failed is said."""
    c = results(folder, {"oxbow": [cell(400, 1, 900), cell(300, 2, 700), cell(200, 3, 800)], FSYNC: [cell(30, 40, 9000)],
                         DEFAULT: [{"failed": "it fell over"}], "kafka-3.9.2-default": [cell(600, 4, 1)]})
    text = tables.markdown(tables.Results(c.read(), {}))
    assert row(text, "values acknowledged", "(a) 1 KiB records, 100 partitions, 4")[1:] == ["300 (200 to 400)", "30.0", "failed", "600", "10.0 x", ""], text
    assert row(text, "Broker CPU", "(a)")[1:] == ["2.00 (1.00 to 3.00)", "40.0", "failed", "4.00", "20.0 x", ""], text
    assert row(text, "### Goals", "throughput, Oxbow to Kafka 4.3.1, fsync")[1:] == ["3 x", "10.0 x", "yes"], text


def case_variants(folder):
    """They have a table of their own, and never stand in the columns or ratios of the others."""
    c = results(folder, {"oxbow": [cell(400, 1, 900)], "oxbow-block": [cell(300, 2, 500)], "oxbow-store-apart": [{"failed": "no room"}], DEFAULT: [cell(50, 1, 900)]})
    c.write("p50", "oxbow", 1, cell(200, 1, 9000))
    c.write("p50", "oxbow-store-apart", 1, {**cell(200, 1, 2000), "more_memory_bytes": 3 << 30})
    text = tables.markdown(tables.Results(c.read(), {}))
    assert row(text, "values acknowledged", "(a) 1 KiB records, 100 partitions, 4")[1:] == ["400", "50.0", "8.00 x"], text
    part = text.split("### What shares the disk")[1].split("\n### ")[0]
    lines = [line[2:-2].split(" | ") for line in part.splitlines() if line.startswith("| ") and "---" not in line]
    assert [x[1:3] for x in lines[1:4]] == [["Oxbow", "400"], ["Oxbow, store in memory", "failed: no room"], ["Oxbow, log on a block device", "300"]], part
    assert "3 GiB" in part, part
    assert row(text, "### Goals", "produce p99 at half of the peak, log and store on one disk")[1:] == ["under 3 ms", "9.00 ms", "**no**"], text
    assert row(text, "### Goals", "produce p99 at half of the peak, store not")[1:] == ["under 3 ms", "2.00 ms", "yes"], text
    assert "the processors alone" not in text and "batch.size" not in text, text


def case_batching(folder):
    """Clients that wait for a batch have goals of their own, and the log in memory is only told."""
    c = results(folder, {"oxbow": [cell(400, 1, 900)], DEFAULT: [cell(50, 1, 900)]})
    for broker, p99_us in (("oxbow", 2500), ("oxbow-log-in-memory", 2000), (DEFAULT, 5000)):
        c.write("p50b", broker, 1, cell(200, 1, p99_us))
    text = tables.markdown(tables.Results(c.read(), {}))
    assert row(text, "### Goals", "produce p99 at half of the peak, linger.ms=1, batch.size=128 KiB, log and store")[1:] == ["under 3 ms", "2.50 ms", "yes"], text
    assert row(text, "### Goals", "the processors alone: ")[1:] == ["", "2.00 ms", ""], text
    assert row(text, "### Goals", "produce p99 at half of the own peak, linger.ms=1, batch.size=128 KiB, Kafka 4.3.1, default to Oxbow")[1:] == ["3 x", "2.00 x", "**no**"], text


def case_floor(folder):
    """Where it is lowest it is what all brokers are compared with, and there its parts are told; elsewhere only the whole."""
    c = results(folder, {"oxbow": [cell(300, 0.8, 1)], DEFAULT: [cell(150, 1.6, 1)]})

    def rows(nbytes, *by_parts):
        return [{"bytes": nbytes, "parts": parts, "turns": [{"cpu": x, "clients_cpu": 1, "gb_per_s": 0.5} for x in cpu]} for parts, cpu in by_parts]
    c.write("limits", "machine", 1, {"floor": {"rows": rows(65536, ("all", [0.5, 0.7, 0.6]), ("no-crc", [0.1])) + rows(262144, ("all", [0.4, 0.3, 0.9]), ("no-crc", [0.2]))}})
    text = tables.markdown(tables.Results(c.read(), {}))
    assert row(text, "machine's limits", "floor, frames of 64 KiB")[1:] == ["500", "", "0.60 (0.50 to 0.70) in and out"], text
    assert row(text, "machine's limits", "floor, frames of 256 KiB,")[0] == "floor, frames of 256 KiB, without the checksum", text
    assert "frames of 64 KiB," not in text, text
    assert row(text, "### Goals", "broker CPU per GB, Kafka 4.3.1, default to the floor")[2] == "4.00 x", text
    assert row(text, "### Goals", "the floor, of Oxbow's")[2] == "50 %", text
    c.write("limits", "machine", 1, {"floor": {"failed": "io_uring: Operation not permitted"}})
    assert "floor" not in tables.markdown(tables.Results(c.read(), {})), text


def case_wal(folder):
    """Like with like: the log alone against fio in turns with it; what it does under a broker is told, and no goal."""
    one = cell(100, 1, 900)
    one["counted"]["wal_bytes_total"] = one["result"]["whole_run"]["bytes_acked"]
    c = results(folder, {"oxbow": [one]})
    turns = [{"fio_mb_per_s": f, "wal_mb_per_s": w} for f, w in ((1000, 900), (100, 900), (1200, 880))]
    c.write("limits", "machine", 1, {"fio": [{"rw": "write", "bytes": 1 << 20, "depth": 4, "mb_per_s": 7, "p50_us": 1, "p99_us": 1}],
                                     "wal": {"rows": [{"bytes": 1 << 20, "depth": 4, "turns": turns}]}})
    text = tables.markdown(tables.Results(c.read(), {}))
    assert row(text, "### Goals", "write-ahead log, of what fio")[1:] == ["80 %", "90 %", "yes"], text
    assert row(text, "### Goals", "the same under the whole broker")[1:] == ["", "10 %", ""], text
    assert row(text, "machine's limits", "in turns: the write-ahead log alone, write of 1024 KiB")[1] == "900 (880 to 900)", text


def alone(p99_us, share=1.0, uploads=100_000_000):
    """What disk.measure() returns."""
    def reached(p99_us, share):
        return {"seconds": 5, "groups_written_per_s": 1000 * share, "uploaded_bytes_per_s": uploads, "p50_us": 200, "p99_us": p99_us,
                "p999_us": 2 * p99_us, "max_us": 3 * p99_us}
    return {"group_bytes": 100_000, "groups_per_s": 1000, "upload_bytes_per_s": uploads, **reached(p99_us, share), "busy": reached(4 * p99_us, share / 2)}


def case_disk(folder):
    """The disk alone stands beside what the broker came to on it, and is no goal; where it was not measured nothing is said, or why."""
    c = results(folder, {"oxbow": [cell(400, 1, 900)], DEFAULT: [cell(50, 1, 900)]})
    for run, p99_us in enumerate((1500, 2500, 1900)):
        c.write("p50", "oxbow", run + 1, {**cell(200, 1, 9000), "disk": alone(p99_us)})
    c.write("p50", "oxbow-store-apart", 1, {**cell(200, 1, 2000), "disk": alone(700, 0.8, 0)})
    c.write("p50", "oxbow-block", 1, cell(200, 1, 2000))
    c.write("p90", "oxbow", 1, {**cell(200, 1, 9000), "disk": {"failed": "fio is not installed"}})
    text = tables.markdown(tables.Results(c.read(), {}))
    goals = [line[2:-2].split(" | ") for line in text.split("### Goals")[1].split("\n### ")[0].splitlines() if "| produce p99 at half" in line or "| the disk alone" in line]
    assert [g[0][:16] for g in goals] == ["produce p99 at h", *["the disk alone w"] * 2] * 2 + ["produce p99 at h"], text
    assert goals[1][1:] == ["", "1.90 (1.50 to 2.50) ms", ""] and goals[4][1:] == ["", "0.70 ms, 20 % short of the traffic", ""], text
    assert "processors kept busy" in goals[2][0] and goals[2][1:] == ["", "7.60 (6.00 to 10.0) ms, 50 % short of the traffic", ""], text
    lines = [line[2:-2].split(" | ") for line in text.split("### Produce latency")[1].split("\n### ")[0].splitlines() if "the disk alone" in line]
    assert lines == [["50 % of the broker's own peak", "the disk alone with Oxbow's traffic (fio)",
                      "0.20", "1.90 (1.50 to 2.50)", "3.80 (3.00 to 5.00)", "5.70 (4.50 to 7.50)", "100", ""],
                     ["50 % of the broker's own peak", "the disk alone with Oxbow's traffic (fio), processors busy",
                      "0.20", "7.60 (6.00 to 10.0)", "15.2 (12.0 to 20.0)", "22.8 (18.0 to 30.0)", "50.0", "50 %"],
                     ["90 % of the broker's own peak", "the disk alone with Oxbow's traffic (fio)", "not measured: fio is not installed", "", "", "", "", ""]], lines
    assert "the disk alone" not in text.split("### End to end latency")[1].split("\n### ")[0], text
    lines = [line[2:-2].split(" | ") for line in text.split("### What shares the disk")[1].split("\n### ")[0].splitlines() if line.startswith("| 50 %")]
    assert [x[1:2] + x[-3:] for x in lines] == [["Oxbow", "0.20", "1.90 (1.50 to 2.50)", "7.60 (6.00 to 10.0)"], ["Oxbow, store in memory", "0.20", "0.70", "2.80"],
                                                ["Oxbow, log on a block device", "", "", ""]], lines


def case_disk_traffic(_):
    """Counters are of 4 seconds, of which 2 were measured. Groups are whole pages, a store elsewhere takes nothing from the disk."""
    one = cell(100, 1, 900)
    one["result"]["whole_run"]["bytes_acked"] *= 2
    one["counted"] = {"wal_groups_total": 4000, "wal_bytes_total": 4000 * 9000, "store_bytes_total.create": 80_000_000}
    assert disk.traffic_of(one, True) == {"group_bytes": 8192, "groups_per_s": 1000, "upload_bytes_per_s": 20_000_000}
    assert disk.traffic_of(one, False)["upload_bytes_per_s"] == 0
    peer = types.SimpleNamespace(uploads_beside=True)
    which = disk.shutil
    try:
        for there, why in ((None, "fio is not installed"), ("fio", "the broker has counted no group commits")):
            disk.shutil = types.SimpleNamespace(which=lambda _, there=there: there)
            assert disk.measure(peer, {**one, "counted": {}}, 1, True) == {"failed": why}, why
    finally:
        disk.shutil = which
    loads = session.workloads.LOADS
    assert [name for name in loads if disk.wanted(loads[name], "oxbow-block")] == ["p10", "p50", "p50b", "p90", "same"]
    assert not any(disk.wanted(loads["p50"], broker) for broker in (DEFAULT, "oxbow-log-in-memory"))


def burners():
    """Children of this process that yield to all others."""
    found = []
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(os.path.join(folder, "stat"), encoding="ascii") as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == os.getpid() and os.sched_getscheduler(int(folder[6:])) == os.SCHED_IDLE:
                    found.append(int(folder[6:]))
        except (OSError, ValueError):
            pass
    return found


def case_busy_processors(_):
    """One program on each processor that yields to all others, and none behind it, also when what was measured has failed."""
    processors = os.sched_getaffinity(0)
    try:
        with disk.busy_processors():
            there = burners()
            assert sorted(map(os.sched_getaffinity, there), key=min) == [{x} for x in sorted(processors)], there
            raise ValueError("fio has failed")
    except ValueError:
        pass
    assert not burners() and os.sched_getaffinity(0) == processors


def case_runs(folder):
    """The least and the most of a ratio are of runs that both have."""
    c = results(folder, {"oxbow": [cell(400, 1, 1), cell(500, 2, 1), cell(100, 0.5, 1)], DEFAULT: [cell(100, 4, 1)]})
    goal = "broker CPU per GB, Kafka 4.3.1, default to Oxbow"
    assert row(tables.markdown(tables.Results(c.read(), {})), "### Goals", goal)[2] == "4.00 x"
    c.write("a4", DEFAULT, 3, cell(100, 3, 1))
    text = tables.markdown(tables.Results(c.read(), {}))
    assert row(text, "### Goals", goal)[1:] == ["4 x", "3.50 x (4.00 to 6.00, 2 runs)", "**no**"], text
    assert row(text, "### Goals", "throughput, Oxbow to Kafka 4.3.1, default")[1:] == ["1 x", "4.00 x (1.00 to 4.00, 2 runs)", "yes"], text


def case_rates(folder):
    """A variant is driven as the broker that it is compared with, and does not count as the slowest."""
    brokers = ["oxbow", "oxbow-block", DEFAULT, "tansu-sqlite"]
    c = results(folder, {"tansu-sqlite": [cell(8, 1, 900)], "oxbow": [cell(400, 1, 900)], "oxbow-block": [cell(10, 1, 900)], DEFAULT: [cell(100, 1, 900)]})
    options, rates = types.SimpleNamespace(brokers=brokers), {}
    for broker in brokers:
        s = session.Session(options, c, None, session.workloads.GROUPS[0], broker, 1)
        rates[broker] = [round(s.rate(session.workloads.LOADS[name]) * 1024 / 1e6) for name in ("p50", "same")]
    assert rates == {"oxbow": [200, 50], "oxbow-block": [200, 50], DEFAULT: [50, 50], "tansu-sqlite": [4, 50]}, rates


def case_parts(folder):
    """One cell alone makes a report; none is refused."""
    run = report(folder)
    assert run.returncode == 1 and "holds no results" in run.stderr, run
    results(folder, {"oxbow": [cell(123, 1, 900)]})
    run = report(folder)
    assert run.returncode == 0 and "| 123 |" in run.stdout and "Kafka" not in run.stdout, run


def case_kept(folder):
    """What is kept in the tree says the same; the page's other text stays."""
    results(folder, {"oxbow": [cell(123, 1, 900)], DEFAULT: [cell(50, 1, 900)]})
    kept, page = os.path.join(folder, "kept"), os.path.join(folder, "page.md")
    with open(page, "w", encoding="utf-8") as f:
        f.write("before\n<!-- bench/peers/report: from here -->\nold\n<!-- bench/peers/report: to here -->\nafter\n")
    run = report(folder, "--keep", kept, "--into", page)
    assert run.returncode == 0, run
    with open(page, encoding="utf-8") as f:
        text = f.read()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text and "| 123 |" in text and "](kept/throughput.svg)" in text, text
    again = report(kept).stdout
    assert again == report(folder).stdout and "| 123 |" in again, again
    with open(os.path.join(kept, "runs.jsonl"), encoding="utf-8") as f:
        lines = [json.loads(line) for line in f]
    assert len(lines) == 2 and "settings" not in lines[0]["result"] and lines[0]["counted"] == {"store_requests_total.create": 3}, lines
    assert os.path.exists(os.path.join(kept, "throughput.svg"))
    with open(page, "w", encoding="utf-8") as f:
        f.write("no marks\n")
    assert report(folder, "--into", page).returncode == 1


def case_plan(folder):
    """Interleaved; older releases less often; what is there already is not measured again."""
    run = SourceFileLoader("peers_run", os.path.join(PEERS, "run")).load_module()
    brokers = run.peers.names(["oxbow", "kafka-4.3.1", "kafka-3.9.2-fsync"])
    assert brokers == ["oxbow", FSYNC, DEFAULT, "kafka-3.9.2-fsync"]
    assert run.peers.names(["oxbow-block", "tansu-sqlite", "oxbow-store-apart"]) == ["oxbow-block", "tansu-sqlite", "oxbow-store-apart"]
    options = types.SimpleNamespace(brokers=brokers, only=["a4", "backlog"], runs=2, older_runs=1, again=False)
    c = Cells(folder)
    plan = [(g.name, b, n) for g, b, n, _ in run.plan(options, c)]
    first = [("throughput", b, 1) for b in brokers] + [("backlog", b, 1) for b in brokers[:3]]
    assert plan == first + [("throughput", b, 2) for b in brokers[:3]], plan
    c.write("a4", FSYNC, 1, cell(1, 1, 1))
    plan = [(g.name, b, n) for g, b, n, _ in run.plan(options, c)]
    assert ("throughput", FSYNC, 1) not in plan and ("throughput", FSYNC, 2) in plan, plan
    options = types.SimpleNamespace(brokers=["oxbow", "oxbow-block", DEFAULT, FSYNC, "kafka-3.9.2-fsync"], only=[], runs=2, older_runs=1, again=False, warm=10, seconds=0,
                                    quick=False)
    plan = run.plan(options, Cells(os.path.join(folder, "none")))
    loads = {(b, x.name) for _, b, _, loads in plan for x in loads}
    assert {name for b, name in loads if b == "oxbow-block"} == {"a4", "p50", "p50b"} and {name for b, name in loads if "3.9" in b} == set(run.workloads.OLDER), loads
    assert {(g.name, n) for g, b, n, loads in plan if b == "oxbow-block" or "3.9" in b} == {("throughput", 1), ("latency", 1), ("throughput", 2), ("latency", 2)}, plan
    assert not any("b" in [x.name for x in loads] for _, _, n, loads in plan if n == 2), plan
    assert ("many", FSYNC) not in {(g.name, b) for g, b, _, _ in plan} and ("many", DEFAULT) in {(g.name, b) for g, b, _, _ in plan}, plan
    seconds = {name: s for name, (_, s) in run.estimate(options, plan).items()}
    options.seconds = 60
    assert all(s >= seconds[name] for name, (_, s) in run.estimate(options, plan).items()) and run.estimate(options, plan)["latency"][1] > seconds["latency"] + 1000
    options.brokers, options.only, options.runs, options.seconds = ["oxbow", DEFAULT], ["a4", "latency"], 3, 0
    c = Cells(os.path.join(folder, "kept"))
    for load in run.workloads.LOADS:
        for broker in options.brokers:
            c.write(load, broker, 1, cell(1, 1, 1))
    plan = run.plan(options, c)
    assert [(g.name, b, n, len(loads)) for g, b, n, loads in plan] == [(g, b, n, k) for n in (2, 3) for g, k in (("throughput", 1), ("latency", 5)) for b in options.brokers], plan
    for bad in (lambda: run.workloads.chosen(["nothing"]), lambda: run.peers.names(["pulsar"])):
        try:
            bad()
        except SystemExit:
            continue
        raise AssertionError("taken")


def case_measured(folder):
    """The whole way, on a broker of this build."""
    out = os.path.join(folder, "out")
    command = [sys.executable, os.path.join(PEERS, "run"), "--oxbow", OXBOW, "--brokers", "oxbow", "--only", "c1", "--quick", "--out", out]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 0, run
    found = {c["load"]: c for c in Cells(out).read()}
    assert set(found) == {"c1", "start"} and found["c1"]["result"]["totals"]["records_acked"] > 0 and found["start"]["answered_ms"] > 0, found
    assert found["c1"]["counted"]["wal_bytes_total"] > 0 and not glob.glob(os.path.join(out, "data", "*")), found
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 0 and run.stdout.startswith("0 brokers"), run


def case_estimate(folder):
    """Tells, and does nothing."""
    out = os.path.join(folder, "out")
    run = subprocess.run([sys.executable, os.path.join(PEERS, "run"), "--oxbow", OXBOW, "--estimate", "--out", out], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0 and "latency" in run.stdout and "minutes" in run.stdout and not glob.glob(os.path.join(out, "cells", "*")), run


def case_store_apart(folder):
    """The memory is there while the broker is, and gone behind it."""
    out = os.path.join(folder, "out")
    command = [sys.executable, os.path.join(PEERS, "run"), "--oxbow", OXBOW, "--brokers", "oxbow-store-apart,oxbow-block,oxbow-log-in-memory", "--only", "a4,p50", "--quick", "--out", out]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run
    with open("/proc/self/mounts", encoding="utf-8") as f:
        assert out not in f.read()
    one = next(c for c in Cells(out).read() if c["load"] == "p50" and c["broker"] == "oxbow-log-in-memory")
    assert "disk" not in one and ("a log in memory needs" in one["failed"] or "mounted" in one["failed"] if "failed" in one else one["more_memory_bytes"] > 0), one
    for broker, needs in (("oxbow-store-apart", "a store in memory needs"), ("oxbow-block", "a loop device needs root")):
        one = next(c for c in Cells(out).read() if c["load"] == "a4" and c["broker"] == broker)
        if "failed" in one:
            assert needs in one["failed"] or "mounted" in one["failed"] or "no loop device" in one["failed"], one
        else:
            assert one["result"]["totals"]["records_acked"] > 0 and ("more_memory_bytes" in one) == (broker == "oxbow-store-apart"), one
            half = next(c for c in Cells(out).read() if c["load"] == "p50" and c["broker"] == broker)["disk"]
            assert half == {"failed": "fio is not installed"} or 0 < half["p50_us"] <= half["p99_us"] <= half["max_us"] and half["group_bytes"] % 4096 == 0, half
            if "failed" not in half:
                assert (half["uploaded_bytes_per_s"] > 0) == (half["upload_bytes_per_s"] > 0) and half["busy"]["p50_us"] > 0, half
                assert broker == "oxbow-block" or not half["upload_bytes_per_s"], half


def main():
    failed = False
    for name, case in sorted((n, f) for n, f in globals().items() if n.startswith("case_")):
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            try:
                case(folder)
                print(f"ok peers-{name[5:]}")
            except (AssertionError, OSError, KeyError, StopIteration, subprocess.SubprocessError) as e:
                failed = True
                print(f"not ok peers-{name[5:]}\n{type(e).__name__}: {e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
