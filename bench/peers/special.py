"""What is more than loads one after the other: each function measures one group on one broker and returns the cell. The broker goes with the
session."""

import glob
import json
import os
import re
import resource
import subprocess
import sys
import time

import peers
import workloads

HONEST_RATE = 10000
CREATE_SECONDS = 60  # for the topics of "many", in all
SECONDS = 5  # of a load, unless the command says otherwise


def seconds_of(s):
    return s.options.seconds or SECONDS


# --- (e): reading what memory cannot hold.

def backlog(s):
    quick = s.options.quick
    s.limits.change(workloads.BACKLOG_MEMORY)
    try:
        s.start()
        s.warm()
        size = 60_000_000 if quick else workloads.BACKLOG_BYTES
        found = s.bench("backlog", f"{workloads.FOUR} --rate 10000 --backlog {size}", 3 if quick else 15, wait=200, drain=30)
        if s.peer.alive():
            found["resident_bytes"], found["peak_bytes"] = s.peer.memory()
        found["memory_limit_bytes"] = workloads.BACKLOG_MEMORY if s.limits.group else 0
        return found
    finally:
        s.limits.change(s.limits.memory_bytes)


# --- Killed, and started again.

def recovery(s):
    """Oxbow: uploads are held off, so that the write-ahead log is as full as it gets. Kafka has as much written, and is killed at once."""
    oxbow = s.broker == "oxbow"
    wanted = peers.WAL_BYTES // (16 if s.options.quick else 1)
    s.make({"cache.log.bytes": "1536MiB", "upload.bytes": "64MiB", "upload.interval.ms": "3600000"} if oxbow else None)
    s.peer.start()
    create(s, "recovery", 100)
    s.peer.first_produce("recovery")
    held = oxbow and s.peer.freeze()
    command = [s.options.oxbow, "bench", "--bootstrap-server", s.peer.address, "-t", "recovery", "--producers", "4", "--bytes", str(wanted), "--drain", "2",
               "--timeout-ms", "60000"]
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=peers.harness.die_with_parent)
    used, still = 0, 0
    end = time.monotonic() + 120
    while client.poll() is None and still < 4 and time.monotonic() < end:  # a full log lets the client wait for ever
        time.sleep(0.25)
        now = s.peer.counters().get("wal_used_bytes", 0) if oxbow else 0
        still = still + 1 if oxbow and now == used and used > 0 else 0
        used = max(used, now)
    if oxbow:
        used = s.peer.counters().get("wal_used_bytes", used)
    s.peer.kill9()
    if client.poll() is None:
        client.kill()
    client.wait()
    peers.thaw(s.peer.folder)
    began = time.monotonic()
    accepted, answered = s.peer.start()
    s.peer.first_produce("recovery")
    first = time.monotonic() - began
    return {"written_bytes": used if oxbow else wanted, "uploads_held": bool(held), "accepted_ms": accepted, "answered_ms": answered,
            "first_produce_ms": first * 1000}


def create(s, topic, partitions, seconds=60):
    """Seconds it took; raises Unmeasurable."""
    began = time.monotonic()
    try:
        p = subprocess.run([s.options.oxbow, "topic", "create", topic, "--partitions", str(partitions), "--bootstrap-server", s.peer.address, "--timeout-ms",
                            str(int(seconds * 1000))], capture_output=True, text=True, timeout=seconds + 10, check=False)
    except subprocess.TimeoutExpired:
        raise peers.Unmeasurable(f"topic '{topic}' with {partitions} partitions was not made within {seconds:.0f} s") from None
    if p.returncode != 0:
        raise peers.Unmeasurable(f"topic '{topic}' with {partitions} partitions was not made: {peers.tidy(p.stderr)}")
    return time.monotonic() - began


# --- (f): what connections cost that nobody uses.

def connections(s):
    """Resident memory with so many idle connections to a broker that has done nothing else."""
    s.start()
    found = {}
    for count in (100,) if s.options.quick else (1000, 10000):
        one = s.bench("none", f"--producers 0 --connections {count}", 2)
        if "failed" in one:
            return {**found, "failed": one["failed"]}
        found[f"resident_bytes_{count}"] = one["result"]["broker"]["resident_bytes_after"]
        found[f"lost_{count}"] = one["result"]["whole_run"]["idle_connections_lost"]
    return found


# --- (j): more partitions than a broker is used to.

def many(s):
    """Bounded by time-outs. What went wrong, and how far it came, is the result then."""
    quick = s.options.quick
    topics, partitions = (2, 100) if quick else (workloads.MANY_TOPICS, workloads.MANY_PARTITIONS)
    s.start()
    found = {"partitions": 0, "files_allowed": resource.getrlimit(resource.RLIMIT_NOFILE)[1], "create_s": 0.0}
    try:
        for i in range(topics):
            left = CREATE_SECONDS - found["create_s"]
            if left < 1:
                raise peers.Unmeasurable(f"not done within {CREATE_SECONDS} s")
            found["create_s"] += create(s, f"many-{i}", partitions, left)
            found["partitions"] += partitions
        found["resident_bytes"], found["peak_bytes"] = s.peer.memory()
        found.update(s.bench("many", f"--topics {topics} -p {partitions} --rate 1000 --consumers 1 --timeout-ms {s.options.open_seconds * 1000}", seconds_of(s),
                             0 if quick else 2, s.options.open_seconds + 20))
        if "failed" in found:
            raise peers.Unmeasurable(found.pop("failed"))
        found["loaded_resident_bytes"], found["peak_bytes"] = s.peer.memory()
        s.peer.stop()
        began = time.monotonic()
        _, found["open_ms"] = s.peer.start(s.options.open_seconds + 20)
        s.peer.first_produce("many-0", seconds=s.options.open_seconds)
        found["open_first_produce_ms"] = (time.monotonic() - began) * 1000
    except peers.Unmeasurable as e:
        there = glob.glob(os.path.join(s.peer.folder, "data", "many-*"))
        words = [str(e)] + ([f"{len(there):,} partitions had their folders then"] if there else [])
        if not s.peer.alive() and "ended" not in str(e):
            words.append(f"the broker ended: {s.peer.last_words()}")
        found["failed"] = "; ".join(words)
    if s.peer.alive():
        found["resident_bytes"] = found.get("resident_bytes") or s.peer.memory()[0]
    return found


# --- (i): without a write-ahead log.

def object(s):  # pylint: disable=redefined-builtin
    """The bucket is Ceph's gateway with objects in memory, behind a proxy that lets each request wait (as in bench/object)."""
    import s3server
    missing = s3server.RadosGateway.missing()
    if missing:
        raise peers.Unmeasurable(missing)
    server, rows = s3server.RadosGateway(), []
    try:
        for ms in workloads.OBJECT_MS[:1] if s.options.quick else workloads.OBJECT_MS:
            rows += object_at(s, s3server, server.endpoint, ms)
    finally:
        server.close()
    return {"rows": rows}


def object_at(s, s3server, upstream, ms):
    s3server.Client(upstream).make_bucket(f"bench-{ms}")
    proxy = subprocess.Popen([sys.executable, os.path.join(peers.ROOT, "tests", "integration", "s3proxy.py"), upstream, "--latency-ms", str(ms)],
                             stdout=subprocess.PIPE, text=True, preexec_fn=peers.harness.die_with_parent)
    rows = []
    try:
        endpoint = proxy.stdout.readline().split()[-1]
        client, body, taken = s3server.Client(endpoint), os.urandom(1 << 20), []
        for i in range(9):
            began = time.monotonic()
            client.put(f"bench-{ms}", f"yardstick/{i}", body)
            taken.append((time.monotonic() - began) * 1000)
        s.make({"storage.url": f"s3://bench-{ms}/oxbow?endpoint={endpoint}&path.style=true&region=us-east-1", "wal.url": "none"},
               {"AWS_ACCESS_KEY_ID": s3server.KEY, "AWS_SECRET_ACCESS_KEY": s3server.SECRET}, f"object-{ms}")
        s.peer.start()
        for name, arguments in (("as fast as it goes, 1 MB batches, 5 in flight", "-p 1 --batch-size 1000000 --consumers 1"),
                                ("5 MB/s, 4 producers, 12 partitions", "-p 12 --producers 4 --consumers 1 --rate 5000")):
            found = s.bench(f"object{len(rows)}", arguments, seconds_of(s), 0 if s.options.quick else 2)
            rows.append({"added_ms": ms, "put_ms": sorted(taken)[len(taken) // 2], "load": name, **found})
        s.peer.remove()
    finally:
        proxy.terminate()
        proxy.wait()
    return rows


# --- The load generator beside others.

def honest_for(broker, brokers):
    """On this broker and on one Kafka."""
    first = next((b for b in brokers if b.endswith("-default")), None)
    return broker in ("oxbow", first)


def honesty(s):
    """The same load by `oxbow bench`, by Kafka's own producer-perf-test and by kcat: 1 KiB records, 12 partitions, batches of 16 KiB, acks of
    all. At full speed the others wait 5 ms for their batches to fill, as `oxbow bench` fills each; at a rate nobody waits."""
    quick = s.options.quick
    records, seconds = (5000, 2) if quick else (600_000, seconds_of(s))
    s.start()
    s.warm()
    s.touch("honest", "-p 12")
    rows = []

    def row(tool, load, run):
        cpu, own = s.peer.cpu_seconds(), resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            found = run()
        except (OSError, subprocess.SubprocessError, ValueError) as e:
            found = {"failed": peers.tidy(str(e))}
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.update(tool=tool, load=load, broker_cpu_s=s.peer.cpu_seconds() - cpu,
                     client_cpu_s=after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime)
        rows.append(found)

    row("oxbow bench", "full speed", lambda: by_bench(s, f"--records {records}"))
    row("producer-perf-test", "full speed", lambda: by_perf_test(s, records, -1, 5))
    row("kcat", "full speed", lambda: by_kcat(s, records))
    row("oxbow bench", f"{HONEST_RATE} records/s", lambda: by_bench(s, f"--records {HONEST_RATE * seconds} --rate {HONEST_RATE}"))
    row("producer-perf-test", f"{HONEST_RATE} records/s", lambda: by_perf_test(s, HONEST_RATE * seconds, HONEST_RATE, 0))
    return {"rows": rows}


def by_bench(s, arguments):
    p = subprocess.run([s.options.oxbow, "bench", "--bootstrap-server", s.peer.address, "-t", "honest", *arguments.split(), "--json"], capture_output=True,
                       text=True, timeout=120, check=False, preexec_fn=peers.harness.die_with_parent)
    if p.returncode != 0:
        return {"failed": peers.tidy(p.stderr)}
    r = json.loads(p.stdout)
    w, latency = r["totals"], r["latency"]["produce"]
    return {"bytes": w["bytes_acked"], "mb_per_s": w["bytes_acked"] * 1e3 / w["measured_ns"], "p50_ms": latency["p50_us"] / 1e3, "p99_ms": latency["p99_us"] / 1e3,
            "max_ms": latency["max_us"] / 1e3}


def by_perf_test(s, records, rate, linger_ms):
    import maven
    import versions
    classpath = maven.classpath(maven.delivered(maven.kafka(versions.KAFKAS[-1])))
    p = subprocess.run(["java", "-Xmx512m", "-cp", classpath, "org.apache.kafka.tools.ProducerPerformance", "--topic", "honest", "--num-records", str(records),
                        "--record-size", "1024", "--throughput", str(rate), "--producer-props", f"bootstrap.servers={s.peer.address}", "acks=all",
                        "batch.size=16384", f"linger.ms={linger_ms}", "enable.idempotence=false", "max.in.flight.requests.per.connection=5"],
                       capture_output=True, text=True, timeout=120, check=False, preexec_fn=peers.harness.die_with_parent)
    m = re.findall(r"(\d+) records sent, ([\d.]+) records/sec.*?([\d.]+) ms avg latency, ([\d.]+) ms max latency, (\d+) ms 50th.*?(\d+) ms 99th", p.stdout)
    if p.returncode != 0 or not m:
        return {"failed": peers.tidy((p.stderr or p.stdout).strip().split("\n")[-1])}
    last = m[-1]
    return {"bytes": int(last[0]) * 1024, "mb_per_s": float(last[1]) * 1024 / 1e6, "p50_ms": float(last[4]), "p99_ms": float(last[5]), "max_ms": float(last[3])}


def by_kcat(s, records):
    path = os.path.join(s.folder, "lines")
    with open(path, "w", encoding="ascii") as f:
        for _ in range(records // 1000):
            f.writelines(os.urandom(512).hex() + "\n" for _ in range(1000))
    began = time.monotonic()
    p = subprocess.run(["kcat", "-P", "-q", "-b", s.peer.address, "-t", "honest", "-l", path, "-X", "batch.size=16384", "-X", "linger.ms=5", "-X", "acks=all",
                        "-X", "max.in.flight=5"], capture_output=True, text=True, timeout=120, check=False, preexec_fn=peers.harness.die_with_parent)
    took = time.monotonic() - began
    os.unlink(path)
    if p.returncode != 0:
        return {"failed": peers.tidy(p.stderr)}
    nbytes = records // 1000 * 1000 * 1024
    return {"bytes": nbytes, "mb_per_s": nbytes / 1e6 / took}
