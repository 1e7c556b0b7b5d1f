"""Cells as tables: one row for each load, one column for each broker, the median of the runs with the least and the most behind it."""

import re
import statistics

import workloads

LATENCIES = (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9"), ("max_us", "max"))
OXBOWS = {"oxbow": "Oxbow", "oxbow-store-apart": "Oxbow, store in memory", "oxbow-block": "Oxbow, log on a block device",
          "oxbow-log-in-memory": "Oxbow, log in memory"}
BESIDE = {"tansu-sqlite": "Tansu, SQLite"}
DISK = (("p50_us", False, "the disk alone with this traffic (fio): p50"), ("p99_us", False, "p99"), ("p99_us", True, "p99, processors busy"))
WAL_BLOCK, WAL_DEPTH = 1 << 20, 4  # the largest group commit, and how many are under way
FLOOR = {"all": "", "small-pages": ", with pages of 4 KiB", "no-crc": ", without the checksum", "no-upload-copy": ", without the copy for uploads",
         "no-upload": ", without uploads", "network": ", only the network and the copy into a block"}


class Results:
    def __init__(self, cells, about):
        self.about = about
        self.cells = {}
        for c in cells:
            self.cells.setdefault((c["load"], c["broker"]), []).append(c)
        present = {c["broker"] for c in cells if c["broker"] != "machine"}
        kafkas = sorted((b for b in present if b.startswith("kafka-")), key=lambda b: ([-int(x) for x in b.split("-")[1].split(".")], b.endswith("-default")))
        self.brokers = [b for b in ["oxbow"] if b in present] + kafkas + [b for b in BESIDE if b in present]
        self.variants = [b for b in workloads.VARIANTS if b in present]

    def of(self, load, broker):
        return self.cells.get((load, broker), [])

    def by_run(self, load, broker, figure):
        """{run: figure(cell)}; those that failed, or lack it, are left out."""
        found = {}
        for c in self.of(load, broker):
            if c.get("failed") and "result" not in c:
                continue
            try:
                v = figure(c)
            except (KeyError, TypeError, ZeroDivisionError):
                continue
            if v is not None:
                found[c["run"]] = v
        return found

    def values(self, load, broker, figure):
        return list(self.by_run(load, broker, figure).values())

    def ratios(self, load, over, under, figure):
        """Of two brokers, of each run that both have."""
        theirs = self.by_run(load, under, figure)
        return [v / theirs[run] for run, v in self.by_run(load, over, figure).items() if theirs.get(run)]

    def median(self, load, broker, figure):
        found = self.values(load, broker, figure)
        return statistics.median(found) if found else None

    def why(self, load, broker):
        return next((c["failed"] for c in self.of(load, broker) if c.get("failed")), None)

    def newest(self, durability):
        return next((b for b in self.brokers if b.endswith("-" + durability)), None)

    def fio(self, rw, nbytes, depth):
        for c in self.of("limits", "machine"):
            for job in c.get("fio") or []:
                if isinstance(job, dict) and (job.get("rw"), job.get("bytes"), job.get("depth")) == (rw, nbytes, depth):
                    return job.get("mb_per_s")
        return None

    def wal(self, nbytes, key):
        """MB/s of the log alone, or of fio in turns with it: each turn."""
        rows = [x for c in self.of("limits", "machine") for x in (c.get("wal") or {}).get("rows", []) if x["bytes"] == nbytes]
        return [t[key] for x in rows for t in x["turns"]]

    def floors(self):
        """{size of a frame: {parts: turns}}"""
        found = {}
        for c in self.of("limits", "machine"):
            for x in (c.get("floor") or {}).get("rows", []):
                found.setdefault(x["bytes"], {})[x["parts"]] = x["turns"]
        return found

    def floor(self):
        """(size of a frame, CPU s/GB in and out) where the floor is lowest."""
        return min(((nbytes, statistics.median(t["cpu"] for t in parts["all"])) for nbytes, parts in self.floors().items()), key=lambda x: x[1], default=(None, None))

    def limit(self, name):
        return next((c[name] for c in self.of("limits", "machine") if name in c), {})


# --- Figures of one cell.

def seconds(c):
    return c["result"]["totals"]["measured_ns"] / 1e9


def mb_in(c):
    return c["result"]["totals"]["bytes_acked"] / 1e6 / seconds(c)


def mb_out(c):
    return c["result"]["totals"]["bytes_consumed"] / 1e6 / seconds(c)


def records_in(c):
    return c["result"]["totals"]["records_acked"] / seconds(c)


def cpu_per_gb(c):
    t = c["result"]["totals"]
    return c["result"]["broker"]["cpu_ns"] / (t["bytes_acked"] + t["bytes_consumed"])


def latency_ms(kind, key):
    def figure(c):
        one = c["result"]["latency"][kind]
        return one[key] / 1e3 if one["count"] else None
    return figure


def memory_mb(key):
    return lambda c: c[key] / 1e6


def late_share(c):
    t = c["result"]["totals"]
    late = t.get("records_due_not_acked", 0)
    return late / max(1, late + t["records_acked"])


def wal_mb(c):
    """MB/s into the write-ahead log, padding included."""
    return mb_in(c) * c["counted"]["wal_bytes_total"] / c["result"]["whole_run"]["bytes_acked"]


def wal_group_kib(c):
    return c["counted"]["wal_bytes_total"] / c["counted"]["wal_groups_total"] / 1024


def disk_ms(key, busy=False):
    """Of the disk alone with the traffic of this load; busy: with processors that do not rest."""
    return lambda c: (c["disk"]["busy"] if busy else c["disk"])[key] / 1e3


def disk_mb(busy=False):
    return lambda c: (c["disk"]["busy"] if busy else c["disk"])["groups_written_per_s"] * c["disk"]["group_bytes"] / 1e6


def disk_short(busy=False):
    """The share of that traffic that the disk did not come to."""
    def share(c):
        wanted, reached = c["disk"], c["disk"]["busy"] if busy else c["disk"]
        least = [reached["groups_written_per_s"] / wanted["groups_per_s"]]
        if wanted["upload_bytes_per_s"]:
            least.append(reached["uploaded_bytes_per_s"] / wanted["upload_bytes_per_s"])
        return max(0, 1 - min(least))
    return share


def store_requests(op):
    return lambda c: c["counted"].get(f"store_requests_total.{op}", 0) / (c["result"]["whole_run"]["bytes_acked"] / 1e9)


# --- Text.

def number(v):
    if v is None:
        return ""
    if v >= 99.5:
        return f"{v:,.0f}"
    return f"{v:.1f}" if v >= 9.95 else f"{v:.2f}"


def spread(found):
    """Median, and the least and the most when there is more than one."""
    if not found:
        return None
    text, least, most = number(statistics.median(found)), number(min(found)), number(max(found))
    return f"{text} ({least} to {most})" if least != most else text


def shown(broker):
    """As people call it."""
    if broker in OXBOWS or broker in BESIDE:
        return {**OXBOWS, **BESIDE}[broker]
    _, release, durability = broker.split("-")
    return f"Kafka {release}, " + ("fsync" if durability == "fsync" else "default")


def ratio(a, b):
    return f"{number(a / b)} x" if a and b else ""


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in r) + " |" for r in rows if any(r[1:])])


def with_ratios(results, loads, figure, invert=False, last=None):
    """Rows for loads: all brokers, Oxbow against the newest Kafka's two durabilities (above 1 is better for Oxbow), and last(load, median)."""
    fsync, default = results.newest("fsync"), results.newest("default")
    head = ["load", *map(shown, results.brokers)] + [f"Oxbow to {shown(b)}" for b in (fsync, default) if b and "oxbow" in results.brokers]
    rows = []
    for load in loads:
        name = workloads.LOADS[load].what if load in workloads.LOADS else load
        cells = [spread(results.values(load, b, figure)) or ("failed" if results.why(load, b) else "") for b in results.brokers]
        ours = results.median(load, "oxbow", figure)
        for b in (fsync, default):
            if b and "oxbow" in results.brokers:
                theirs = results.median(load, b, figure)
                cells.append(ratio(theirs, ours) if invert else ratio(ours, theirs))
        if last:
            cells.append(last[1](load, ours))
        if any(cells):
            rows.append([name, *cells])
    return table(head + ([last[0]] if last else []), rows) if rows else ""


# --- Tables.

FULL = ("a1", "a4", "b", "h", "gf")
LATENCY = ("p10", "p50", "p50b", "p90", "same", "c1", "c5", "g", "d", "f1", "f10")


def throughput(r):
    disk, tcp = r.fio("write", WAL_BLOCK, WAL_DEPTH), r.limit("tcp").get("gb_per_s")
    text = []
    for title, figure, limit, what in (("MB/s of values acknowledged", mb_in, disk, "share of fio"),
                                       ("MB/s of values read by consumers", mb_out, tcp and tcp * 1000, "share of loopback")):
        share = (what, lambda _, ours, limit=limit: f"{ours / limit * 100:.0f} %" if ours and limit else "")
        body = with_ratios(r, FULL, figure, last=share if limit else None)
        if body:
            text.append(f"{title}:\n\n{body}")
    return "\n\n".join(text)


def cpu(r):
    loads = ("a1", "a4", "b", "h", "gf", "g", "p10", "p50", "p50b", "p90", "same", "c1", "c5", "d", "f1", "f10")
    return with_ratios(r, loads, cpu_per_gb, invert=True)


def percent(share):
    """Where it is worth a word."""
    return f"{share * 100:.0f} %" if share and share > 0.005 else ""


def disk_rows(r, load, broker):
    """Rows of latency() for what the disk alone does with the traffic of a load."""
    rows, what, name = [], workloads.LOADS[load].what, f"the disk alone with {shown(broker)}'s traffic (fio)"
    for busy in (False, True):
        figures = [spread(r.values(load, broker, disk_ms(key, busy))) for key, _ in LATENCIES]
        if any(figures):
            rows.append([what, name + (", processors busy" if busy else ""), *figures, number(r.median(load, broker, disk_mb(busy))),
                         percent(r.median(load, broker, disk_short(busy)))])
    failed = r.values(load, broker, lambda c: c["disk"]["failed"])
    return rows or ([[what, name, "not measured: " + failed[0], *[""] * 5]] if failed else [])


def latency(r, kind):
    head, rows = ["load", "broker", *(name for _, name in LATENCIES), "MB/s", "late"], []
    for load in LATENCY:
        for b in r.brokers:
            figures = [spread(r.values(load, b, latency_ms(kind, key))) for key, _ in LATENCIES]
            if not any(figures):
                if r.why(load, b):
                    rows.append([workloads.LOADS[load].what, shown(b), "failed: " + r.why(load, b), "", "", "", "", ""])
                continue
            rows.append([workloads.LOADS[load].what, shown(b), *figures, number(r.median(load, b, mb_in)), percent(r.median(load, b, late_share))])
            if kind == "produce":
                rows += disk_rows(r, load, b)
    return table(head, rows) if rows else ""


def variants(r):
    """What is another Oxbow than the one of the other tables, beside that one."""
    if not r.variants:
        return ""
    disk = DISK if any(r.values(load, b, lambda c: c["disk"]) for load in LATENCY for b in ["oxbow", *r.variants]) else ()
    head, rows = ["load", "", "MB/s", "broker CPU s/GB", "produce p50, ms", "p99", "p99.9", "max", "end to end p99", *(name for *_, name in disk)], []
    for load in ("a1", "a4", "p10", "p50", "p50b", "p90", "same"):
        for b in ["oxbow", *r.variants]:
            figures = [spread(r.values(load, b, f)) for f in (mb_in, cpu_per_gb, *(latency_ms("produce", key) for key, _ in LATENCIES),
                                                              latency_ms("end_to_end", "p99_us"), *(disk_ms(key, busy) for key, busy, _ in disk))]
            if any(figures):
                rows.append([workloads.LOADS[load].what, shown(b), *(f or "" for f in figures)])
            elif r.why(load, b):
                rows.append([workloads.LOADS[load].what, shown(b), "failed: " + r.why(load, b), *[""] * (len(head) - 3)])
    more = max((c.get("more_memory_bytes", 0) for (_, b), cells in r.cells.items() if b in r.variants for c in cells), default=0)
    text = ("Oxbow as in the other tables has its log and its store on one disk. Shares of the peak are of that one's for all." +
            (f" What is in memory is a tmpfs of up to {more / (1 << 30):.0f} GiB, by which the memory cgroup was larger for these, as its pages count there."
             if more else "") +
            (" The last columns are the disk alone, directly behind the load: fio with writes of the mean size and rate that the group commits had, and beside them the "
             "bytes of the uploads where those go to the same disk; \"processors busy\": with a program on each that never rests and yields to all others." if disk else ""))
    return f"{text}\n\n{table(head, rows)}" if rows else ""


def starts(r, broker, key):
    return [c[key] for (load, b), cells in r.cells.items() if load == "start" and b == broker for c in cells if key in c]


def small(r):
    """Start, memory, recovery: one column for each broker."""
    head, rows = ["what", *map(shown, r.brokers)], []

    def row(name, value):
        cells = [value(b) or "" for b in r.brokers]
        if any(cells):
            rows.append([name, *cells])
    row("start, until a connection is accepted, ms", lambda b: spread(starts(r, b, "accepted_ms")))
    row("start, until it has told its versions and its cluster, ms", lambda b: spread(starts(r, b, "answered_ms")))
    row("resident after a start, MB", lambda b: spread([v / 1e6 for v in starts(r, b, "idle_resident_bytes")]))
    for count in (1000, 10000):
        row(f"resident with {count:,} idle connections and nothing else, MB", lambda b, n=count: spread(r.values("connections", b, lambda c: c[f"resident_bytes_{n}"] / 1e6)))
    for load, name in (("a4", "resident after (a) with 4 and 4, MB"), ("d", "resident with 10,000 partitions under load, MB")):
        row(name, lambda b, load=load: spread(r.values(load, b, lambda c: c["result"]["broker"]["resident_bytes_after"] / 1e6)))
    row("killed: MB in the log that is recovered", lambda b: spread(r.values("recovery", b, lambda c: c["written_bytes"] / 1e6)))
    row("killed: until it answers again, ms", lambda b: spread(r.values("recovery", b, lambda c: c["answered_ms"])))
    row("killed: until a record is acknowledged again, ms", lambda b: spread(r.values("recovery", b, lambda c: c["first_produce_ms"])) or r.why("recovery", b))
    return table(head, rows) if rows else ""


def backlog(r):
    head, rows = ["what", *map(shown, r.brokers)], []
    known = {b: r.of("backlog", b) for b in r.brokers}

    def row(name, figure):
        cells = [spread(r.values("backlog", b, figure)) or "" for b in r.brokers]
        if any(cells):
            rows.append([name, *cells])

    def rate(key):
        return lambda c: c["result"]["backlog"]["bytes"] * 1e3 / c["result"]["backlog"][key] if c["result"]["backlog"][key] else None
    row("backlog, MB", lambda c: c["result"]["backlog"]["bytes"] / 1e6)
    row("written at MB/s", rate("written_ns"))
    row("read at MB/s", rate("caught_up_ns"))
    row("read within, s", lambda c: c["result"]["backlog"]["caught_up_ns"] / 1e9 or None)
    row("produce p50 meanwhile, ms", latency_ms("produce", "p50_us"))
    row("produce p99 meanwhile, ms", latency_ms("produce", "p99_us"))
    row("broker CPU s/GB in and out", cpu_per_gb)
    whole = [c.get("failed") or ("" if c.get("result", {}).get("backlog", {}).get("caught_up_ns") else "not read to its end in time")
             for b in r.brokers for c in known[b][:1] or [{"failed": " "}]]
    if any(w.strip() for w in whole):
        rows.append(["", *whole])
    return table(head, rows) if rows else ""


def many(r):
    head, rows = ["broker", "partitions asked for", "s", "resident, MB", "produce p50 / p99, ms at 1,000 records/s", "opened again, ms", "what happened"], []
    for b in r.brokers:
        for c in r.of("many", b):
            p = c["result"]["latency"]["produce"] if "result" in c else None
            rows.append([shown(b), f"{c.get('partitions', 0):,}", number(c.get("create_s")), number(c.get("resident_bytes", 0) / 1e6 or None),
                         f"{p['p50_us'] / 1e3:.1f} / {p['p99_us'] / 1e3:.1f}" if p else "", number(c.get("open_first_produce_ms")), c.get("failed", "")])
    return table(head, rows) if rows else ""


def objects(r):
    rows = []
    for c in r.of("object", "oxbow"):
        for x in c.get("rows", []):
            if "result" not in x:
                rows.append([f"{x['added_ms']} ms", number(x["put_ms"]), x["load"], "failed: " + x.get("failed", ""), "", "", "", ""])
                continue
            p = x["result"]["latency"]["produce"]
            rows.append([f"{x['added_ms']} ms", number(x["put_ms"]), x["load"], number(mb_in(x)), number(p["p50_us"] / 1e3), number(p["p99_us"] / 1e3),
                         f"{p['p99_us'] / 1e3 / x['put_ms']:.1f}", number(cpu_per_gb(x))])
    return table(["added", "one PUT of 1 MiB, ms", "load", "MB/s", "p50 ms", "p99 ms", "p99 in PUTs", "CPU s/GB in and out"], rows) if rows else ""


def requests(r):
    rows = []
    for load in ("a1", "a4", "b", "h", "c1", "p50", "p50b"):
        cells = [spread(r.values(load, "oxbow", store_requests(op))) or "" for op in ("create", "get", "list", "delete")]
        more = r.median(load, "oxbow", lambda c: c["counted"].get("store_bytes_total.create", 0) / c["result"]["whole_run"]["bytes_acked"])
        if any(cells):
            rows.append([workloads.LOADS[load].what, *cells, number(more), spread(r.values(load, "oxbow", wal_mb)), spread(r.values(load, "oxbow", wal_group_kib))])
    return table(["load", "create", "get", "list", "delete", "bytes into the store for each byte produced", "MB/s into the log", "KiB of a group commit"], rows) if rows else ""


def honesty(r):
    rows = []
    for b in r.brokers:
        for c in r.of("honesty", b):
            for x in c.get("rows", []):
                gb = x.get("bytes", 0) / 1e9
                rows.append([shown(b), x["load"], x["tool"], number(x.get("mb_per_s")) or "failed: " + x.get("failed", ""), number(x.get("p50_ms")),
                             number(x.get("p99_ms")), number(x.get("max_ms")), number(x["broker_cpu_s"] / gb if gb else None),
                             number(x["client_cpu_s"] / gb if gb else None)])
    return table(["broker", "load", "tool", "MB/s", "p50 ms", "p99 ms", "max ms", "broker CPU s/GB", "tool's CPU s/GB"], rows) if rows else ""


def machine(r):
    rows = []
    for nbytes in (64 << 10, WAL_BLOCK):
        for key, what in (("fio_mb_per_s", "fio"), ("wal_mb_per_s", "the write-ahead log alone")):
            found = r.wal(nbytes, key)
            if found:
                rows.append([f"in turns: {what}, write of {nbytes // 1024} KiB, {WAL_DEPTH} under way, median of {len(found)}", spread(found), "", ""])
    for c in r.of("limits", "machine"):
        for j in c.get("fio") or []:
            if isinstance(j, dict) and "mb_per_s" in j:
                rows.append([f"fio, {j['rw']} of {j['bytes'] // 1024} KiB, {j['depth']} under way, O_DIRECT" + (", O_DSYNC" if j["rw"] == "write" else ""),
                             number(j["mb_per_s"]), f"{number(j['p50_us'])} / {number(j['p99_us'])}", ""])
        for name, what in (("tcp", "TCP over loopback, 64 KiB sends"), ("memcpy", "copying memory, not in the caches"), ("crc32c", "crc32c, 64 KiB pieces")):
            if name in c:
                rows.append([what, number(c[name]["gb_per_s"] * 1000), "", number(c[name]["cpu"])])
    for nbytes, by_parts in r.floors().items():
        for parts, turns in by_parts.items():
            if parts == "all" or nbytes == r.floor()[0]:
                rows.append([f"floor, frames of {nbytes // 1024} KiB{FLOOR[parts]}", spread([t["gb_per_s"] * 1000 for t in turns]), "",
                             spread([t["cpu"] for t in turns]) + " in and out"])
    return table(["what", "MB/s", "p50 / p99 µs", "CPU s/GB"], rows) if rows else ""


def half(r, row, load, how):
    """Goals: what is acknowledged at half of the peak, and the limits of that in the same run."""
    for b, where in HALF:
        found = r.values(load, b, latency_ms("produce", "p99_us"))
        p99 = statistics.median(found) if found else None
        row(f"produce p99 at half of the peak{how}, {where}", "under 3 ms", p99, f"{spread(found)} ms", p99 and p99 < 3)
        for busy, processors in ((False, ""), (True, ", with processors kept busy by what yields to all")):
            found, short = r.values(load, b, disk_ms("p99_us", busy)), percent(r.median(load, b, disk_short(busy)))
            row(f"the disk alone with that traffic (fio){processors}, p99: the limit in the same run{how}, {where}", "", found or None,
                f"{spread(found)} ms{f', {short} short of the traffic' if short else ''}", True)
    found = r.values(load, NO_DISK, latency_ms("produce", "p99_us"))
    row(f"the processors alone: p99 with the log in memory, where nothing waits for a disk{how}", "", found or None, f"{spread(found)} ms", True)


def goals(r):
    """What was wanted on two processors, and what this run came to."""
    fsync, default = r.newest("fsync"), r.newest("default")
    rows = []

    def row(what, goal, value, text, met):
        if value is not None:
            rows.append([what, goal, text, "" if not goal else "yes" if met else "**no**"])

    def over(a, b):
        return a / b if a and b else None

    def compared(what, load, upper, lower, figure, goal):
        """The ratio of the medians, and the least and the most of the runs that both have."""
        if not upper or not lower:
            return
        v, runs = over(r.median(load, upper, figure), r.median(load, lower, figure)), r.ratios(load, upper, lower, figure)
        row(what, f"{goal} x", v, ratio(v, 1) + (f" ({number(min(runs))} to {number(max(runs))}, {len(runs)} runs)" if len(runs) > 1 else ""), v and v >= goal)
    compared(f"broker CPU per GB, {shown(default) if default else ''} to Oxbow, (a) 4 and 4", "a4", default, "oxbow", cpu_per_gb, 4)
    floor = r.floor()[1]
    v = over(r.median("a4", default, cpu_per_gb), floor) if default else None
    row(f"broker CPU per GB, {shown(default) if default else ''} to the floor: the most that a broker with these passes can reach", "", v, ratio(v, 1), True)
    v = over(floor, r.median("a4", "oxbow", cpu_per_gb))
    row("the floor, of Oxbow's broker CPU per GB, (a) 4 and 4", "", v, f"{(v or 0) * 100:.0f} %", True)
    for b, goal in ((fsync, 3), (default, 1)):
        compared(f"throughput, Oxbow to {shown(b) if b else ''}, (a) 4 and 4", "a4", "oxbow", b, mb_in, goal)
    disk, tcp = r.fio("write", WAL_BLOCK, WAL_DEPTH), r.limit("tcp").get("gb_per_s")
    alone, device = r.wal(WAL_BLOCK, "wal_mb_per_s"), r.wal(WAL_BLOCK, "fio_mb_per_s")
    v = over(statistics.median(alone), statistics.median(device)) if alone else None
    row("write-ahead log, of what fio writes in turns with it (1 MiB, 4 under way)", "80 %", v, f"{(v or 0) * 100:.0f} %", v and v >= 0.8)
    disk = statistics.median(device) if device else disk
    v = over(max(r.median("a1", "oxbow", wal_mb) or 0, r.median("a4", "oxbow", wal_mb) or 0), disk)
    row("the same under the whole broker at full speed, which uploads beside it: (a)", "", v, f"{(v or 0) * 100:.0f} %", True)
    v = over(r.median("gf", "oxbow", mb_out), tcp and tcp * 1000)
    row("read by 10 consumers at the tail, of loopback copying", "70 %", v, f"{(v or 0) * 100:.0f} %", v and v >= 0.7)
    for load, how in (("p50", ""), ("p50b", f", {workloads.BATCHING_TEXT}")):
        half(r, row, load, how)
        for b in (fsync, default):
            compared(f"produce p99 at half of the own peak{how}, {shown(b) if b else ''} to Oxbow", load, b, "oxbow", latency_ms("produce", "p99_us"), 3)
    for b in (fsync, default):
        compared(f"produce p99 at the same rate, {shown(b) if b else ''} to Oxbow", "same", b, "oxbow", latency_ms("produce", "p99_us"), 3)
    idle = [x / 1e6 for x in starts(r, "oxbow", "idle_resident_bytes")]
    v = statistics.median(idle) if idle else None
    row("resident, idle", "20 MB", v, f"{v or 0:.1f} MB", v and v <= 20)
    found = starts(r, "oxbow", "answered_ms")
    v = statistics.median(found) if found else None
    row("start, new folder", "50 ms", v, f"{v or 0:.0f} ms", v and v < 50)
    v = r.median("connections", "oxbow", lambda c: c["resident_bytes_10000"] / 1e6)
    row("resident with 10,000 idle connections", "100 MB", v, f"{v or 0:.0f} MB", v and v < 100)
    v = r.median("many", "oxbow", lambda c: c["loaded_resident_bytes"] / 1e6 if c["partitions"] >= 100000 else None)
    row("resident with 100,000 partitions", "1 GB", v, f"{v or 0:.0f} MB", v and v < 1000)
    v, size = r.median("recovery", "oxbow", lambda c: c["first_produce_ms"] / 1e3), r.median("recovery", "oxbow", lambda c: c["written_bytes"] / 1e6)
    read = r.fio("read", 1 << 20, 4)
    if v is not None and read:
        goal = size / read + 1
        row(f"a write-ahead log of {size:.0f} MB recovered, and a record acknowledged", f"{goal:.1f} s (its reading and 1 s)", v, f"{v:.1f} s", v <= goal)
    return table(["what", "goal", "measured", "met"], rows) if rows else ""


HALF = (("oxbow", "log and store on one disk"), ("oxbow-store-apart", "store not on the log's disk"),
        ("oxbow-block", "log on a block device, store on the same disk"))
NO_DISK = "oxbow-log-in-memory"

PARTS = (("The machine's limits, in the same run", machine), ("Goals", goals), ("Throughput, as fast as it goes", throughput),
         ("Broker CPU seconds per GB in and out", cpu), ("Produce latency, ms", lambda r: latency(r, "produce")),
         ("End to end latency, ms", lambda r: latency(r, "end_to_end")), ("What shares the disk of the write-ahead log", variants), ("Start, memory, recovery", small),
         ("(e) A backlog larger than memory", backlog), ("(j) 100,000 partitions on one broker", many),
         ("(i) Object durability, Oxbow alone", objects), ("Oxbow: object requests per GB produced, group commits", requests),
         ("The load generator beside others", honesty))


def length(r):
    """How long loads were measured."""
    found = sorted({round(seconds(c)) for (load, _), cells in r.cells.items() if load in workloads.LOADS for c in cells if "result" in c
                    and c["result"]["totals"]["measured_ns"] > 5e8})
    if not found:
        return f"{r.about.get('seconds') or 5} s each"
    return f"{found[0]} s each" if found[0] == found[-1] else f"{found[0]} to {found[-1]} s each"


def markdown(r):
    a = r.about
    text = []
    if a:
        text.append(f"{a.get('oxbow')}; {re.sub(r' +', ' ', a.get('model', ''))}, {a.get('processors')} processors, {a.get('memory_bytes', 0) / 1e9:.0f} GB, Linux {a.get('kernel')}; "
                    f"{a.get('java') or 'no Java'}{'; ' + a['beside'] if a.get('beside') else ''}. Brokers: {a.get('limits')}. {length(r)}, up to {a.get('runs')} runs: the median, and the least and the most."
                    + (" **A quick run: its figures mean nothing.**" if a.get("quick") else ""))
    for title, part in PARTS:
        body = part(r)
        if body:
            text.append(f"### {title}\n\n{body}")
    return "\n\n".join(text) + "\n"
