"""The disk alone with the traffic of a load, which no broker can do better with. Directly behind the load fio writes to the same disk what the broker
has counted meanwhile, while nobody asks the broker for anything: groups of their mean size at their mean rate, coming as randomly as requests do,
and beside them the bytes of the uploads. The tail of a disk is another one every few minutes: a yardstick of an hour before says little.

Latency is from when fio hands a write to the kernel until it is durable. That a group waits because as many are under way as may be is not in it.

Taken twice: with processors that have nothing else to do, and with one program on each that never rests and yields to all others (SCHED_IDLE). A
write becomes durable by way of threads of the kernel (its completion, then the flush), which wait where processors are busy."""

import contextlib
import functools
import json
import math
import os
import shutil
import subprocess
import time

import peers

ALIGN = 4096
DEPTH = 4  # group commits that the write-ahead log has under way
UPLOAD_BYTES = 512 << 10  # of one write
RAMP_SECONDS = 1
QUICK_LOG_BYTES = 64 << 20
QUIET_SECONDS, QUIET_STEP, QUIET_BYTES = 10, 0.5, 1 << 20
PERCENTILES = (("p50_us", "50.000000"), ("p99_us", "99.000000"), ("p999_us", "99.900000"))


def wanted(load, broker):
    """Where latency at a share of a peak is what is measured, on brokers that count their group commits."""
    return ":" in load.rate and broker in peers.OXBOWS and peers.OXBOWS[broker].log_on_disk


def lengths(load_seconds, quick):
    """Seconds of (what is not counted, what is)."""
    return (0, 1) if quick else (RAMP_SECONDS, max(1, load_seconds // 2))


def seconds(load_seconds, quick):
    """What measure() takes, about."""
    return 2 * sum(lengths(load_seconds, quick)) + (1 if quick else 3)


def log_like(peer, quick):
    return peer.like_log(QUICK_LOG_BYTES if quick else peers.WAL_BYTES)


def prepare(peer, quick):
    """Before the first load, so that what is written for this is in none of their minutes. What fails is told by measure()."""
    try:
        if shutil.which("fio"):
            log_like(peer, quick)
    except (peers.Unmeasurable, OSError, subprocess.SubprocessError):
        pass


def measure(peer, found, load_seconds, quick):
    """What belongs to a load that has come to {"result", "counted"} on that broker, which still runs; {"failed": why} is no failure of the load."""
    if not shutil.which("fio"):
        return {"failed": "fio is not installed"}
    try:
        traffic = traffic_of(found, peer.uploads_beside)
        quiet(peer)
        where = (log_like(peer, quick), os.path.join(peer.folder, "like-objects"))
        alone = fio(traffic, *where, *lengths(load_seconds, quick))
        with busy_processors():
            return {**traffic, **alone, "busy": fio(traffic, *where, *lengths(load_seconds, quick))}
    except (peers.Unmeasurable, OSError, KeyError, ValueError, subprocess.SubprocessError) as e:
        return {"failed": peers.tidy(str(e)) or type(e).__name__}


def traffic_of(found, uploads):
    """Counters are of the whole run, warm-up included; rates are those of what was measured."""
    result, counted = found["result"], found.get("counted", {})
    acked, whole, groups = result["totals"]["bytes_acked"], result["whole_run"]["bytes_acked"], counted.get("wal_groups_total", 0)
    if not acked or not groups:
        raise peers.Unmeasurable("the broker has counted no group commits")
    span = whole / acked * result["totals"]["measured_ns"] / 1e9
    return {"group_bytes": max(1, round(counted["wal_bytes_total"] / groups / ALIGN)) * ALIGN, "groups_per_s": max(1, round(groups / span)),
            "upload_bytes_per_s": round(counted.get("store_bytes_total.create", 0) / span) if uploads else 0}


def quiet(peer):
    """Returns when the broker has done what the load has left it to do: uploads, merging, freeing what was deleted before."""
    end, before = time.monotonic() + QUIET_SECONDS, None
    while time.monotonic() < end:
        counters = peer.counters()
        now = sum(counters.get(k, 0) for k in ("wal_bytes_total", "store_bytes_total.create", "store_bytes_total.get"))
        if before is not None and now - before < QUIET_BYTES and counters.get("store_freeing_bytes", 0) == 0:
            return
        before = now
        time.sleep(QUIET_STEP)


def yield_to_all(processor):
    """In a child, before exec."""
    peers.harness.die_with_parent()
    os.sched_setaffinity(0, {processor})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@contextlib.contextmanager
def busy_processors():
    """None of the processors rests meanwhile, though all are to be had."""
    burners = []
    try:
        for processor in sorted(os.sched_getaffinity(0)):
            burners.append(subprocess.Popen(["sh", "-c", "while :; do :; done"], preexec_fn=functools.partial(yield_to_all, processor)))
        yield
    finally:
        for b in burners:
            b.kill()
            b.wait()


def fio(traffic, log, objects, ramp_s, runtime_s):
    """Latencies of the groups, in us, and the rates that were reached."""
    command = ["fio", "--output-format=json", "--name=global", "--thread", "--rw=write", "--direct=1", "--time_based", f"--runtime={runtime_s}",
               f"--ramp_time={ramp_s}", "--clat_percentiles=0", "--lat_percentiles=1", "--name=groups", f"--filename={log}",
               f"--bs={traffic['group_bytes']}", "--sync=dsync", "--ioengine=io_uring", f"--iodepth={DEPTH}",
               f"--rate_iops={traffic['groups_per_s']}", "--rate_process=poisson"]
    rate = traffic["upload_bytes_per_s"]
    if rate:
        # No place is written twice: objects are new files. The file of the load before is made new in place, as freeing it would take the disk's time.
        size = math.ceil(rate * (ramp_s + runtime_s + 1) / UPLOAD_BYTES) * UPLOAD_BYTES
        with open(objects, "ab"):
            pass
        subprocess.run(["fallocate", "--zero-range", "-l", str(size), objects], capture_output=True, check=False)
        command += ["--name=uploads", f"--filename={objects}", f"--size={size}", f"--bs={UPLOAD_BYTES}", "--ioengine=psync", f"--rate={rate}"]
    out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ramp_s + runtime_s + 60, preexec_fn=peers.harness.die_with_parent)
    if out.returncode != 0:
        raise ValueError((out.stderr.strip().split("\n")[-1] or f"fio ended with status {out.returncode}")[:200])
    jobs = {job["jobname"]: job["write"] for job in json.loads(out.stdout[out.stdout.index("{"):])["jobs"]}
    latency = jobs["groups"]["lat_ns"]
    return {"seconds": runtime_s, "groups_written_per_s": jobs["groups"]["iops"], "uploaded_bytes_per_s": jobs["uploads"]["bw_bytes"] if rate else 0,
            **{key: latency["percentile"][name] / 1e3 for key, name in PERCENTILES}, "max_us": latency["max"] / 1e3}
