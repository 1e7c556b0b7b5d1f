"""What the machine itself can do, taken in the same run: fio on the disk the brokers use, with the block sizes and the depth of the write-ahead
log, and that log alone in turns with fio; loopback TCP, memory copies and checksums by bench/limits.c, and the floor by bench/floor.c: what a
broker costs that does nothing but pass bytes on through a log and an upload."""

import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
DEPTHS = (1, 4)  # the write-ahead log has up to four group commits under way

WAL_SIZES, WAL_TURNS = (64 << 10, 1 << 20), 5

# Requests of (a) at full speed are 1 MiB, its group commits some 616 KiB ("KiB of a group commit" in the tables).
FLOOR_FRAMES, FLOOR_GROUP, FLOOR_MB, FLOOR_TURNS = (64 << 10, 256 << 10, 1 << 20), 616 << 10, 1000, 3


def seconds(options):
    """What measure() takes, about."""
    fio_s, wal_s = lengths(options)
    floor_s = len(FLOOR_FRAMES) * (12 if options.quick else 35)
    return 25 + floor_s + (len(SIZES) * len(DEPTHS) + 1) * (fio_s + 1) + len(WAL_SIZES) * WAL_TURNS * 2 * (wal_s + 1)


def lengths(options):
    """Seconds of (one of the jobs of fio, each turn of the write-ahead log and of fio beside it)."""
    return (1, 1) if options.quick else (2, 2)


def measure(options):
    os.makedirs(options.out, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="limits-", dir=options.out)
    try:
        return {"fio": fio(folder, options), "wal": wal(folder, options), **plain(compiled("limits", folder), folder),
                "floor": floor(compiled("floor", folder), folder, options)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fio(folder, options):
    if not shutil.which("fio"):
        return {"failed": "fio is not installed"}
    found, runtime = [], lengths(options)[0]
    base = fio_base(folder, 64 if options.quick else 1024)
    jobs = [("write", bs, depth, ["--sync=dsync"]) for bs in SIZES for depth in DEPTHS] + [("read", 1 << 20, 4, [])]
    for rw, bs, depth, more in jobs:
        try:
            job = fio_job(base, rw, bs, depth, runtime, more)
        except ValueError as e:
            found.append({"rw": rw, "bytes": bs, "depth": depth, "failed": str(e)})
            continue
        p = job["clat_ns"].get("percentile", {})
        found.append({"rw": rw, "bytes": bs, "depth": depth, "mb_per_s": job["bw_bytes"] / 1e6, "per_s": job["iops"],
                      "p50_us": p.get("50.000000", 0) / 1e3, "p99_us": p.get("99.000000", 0) / 1e3})
        print(f"    fio {rw} {bs // 1024} KiB, {depth} under way: {found[-1]['mb_per_s']:.0f} MB/s, p50 {found[-1]['p50_us']:.0f} us", flush=True)
    return found


def fio_base(folder, megabytes):
    """The command up to what is done: on a file that was written before, as the ring is after its first lap."""
    base = ["fio", "--name=wal", f"--filename={folder}/fio", f"--size={megabytes}m", "--direct=1", "--output-format=json"]
    subprocess.run([*base, "--rw=write", "--bs=1m", "--ioengine=psync"], capture_output=True, check=True)
    return base


def fio_job(base, rw, nbytes, depth, runtime, more):
    """What fio says of one job; ValueError tells why it did not come to an end."""
    out = subprocess.run([*base, f"--rw={rw}", f"--bs={nbytes}", f"--iodepth={depth}", "--ioengine=io_uring", "--time_based", f"--runtime={runtime}", *more],
                         capture_output=True, text=True, check=False)
    if out.returncode != 0:
        raise ValueError(out.stderr.strip().split("\n")[-1][:200])
    return json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0][rw]


def wal(folder, options):
    """The write-ahead log alone (bench/wal.c), and fio with the same block size, depth and length of file, in turns: MB/s of each turn."""
    build = os.path.dirname(options.oxbow)
    binary = os.path.join(build, "bench_wal")
    if not shutil.which("fio"):
        return {"failed": "fio is not installed"}
    made = subprocess.run(["ninja", "-C", build, "bench_wal"], capture_output=True, text=True, check=False) if shutil.which("ninja") else None
    if not os.path.exists(binary):
        return {"failed": f"bench_wal was not built: {made.stdout.strip().split(chr(10))[-1][:200] if made else 'there is no ninja'}"}
    rows, runtime = [], lengths(options)[1]
    base = fio_base(folder, 256)
    for nbytes in WAL_SIZES:
        turns = []
        for _ in range(1 if options.quick else WAL_TURNS):
            device = fio_job(base, "write", nbytes, DEPTHS[-1], runtime, ["--sync=dsync"])["bw_bytes"] / 1e6
            run = subprocess.run([binary, folder, str(nbytes), str(DEPTHS[-1]), str(runtime)], capture_output=True, text=True, check=True)
            turns.append({"fio_mb_per_s": device, "wal_mb_per_s": float(re.search(r"gb_per_s=([\d.]+)", run.stdout)[1]) * 1000})
        rows.append({"bytes": nbytes, "depth": DEPTHS[-1], "turns": turns})
        print(f"    log alone, {nbytes // 1024} KiB: {statistics.median(t['wal_mb_per_s'] for t in turns):.0f} MB/s, "
              f"fio {statistics.median(t['fio_mb_per_s'] for t in turns):.0f}", flush=True)
    return {"rows": rows}


def compiled(name, folder):
    source = os.path.join(os.path.dirname(HERE), name + ".c")
    binary = os.path.join(folder, name)
    cc = os.environ.get("CC", "cc")
    subprocess.run([cc, "-O2", "-std=gnu17", "-D_GNU_SOURCE", source, "-o", binary, "-lisal"], check=True)
    return binary


def pairs(line):
    return {k: float(v) for k, v in re.findall(r"(\w+)=([-0-9.]+)", line)}


def plain(binary, folder):
    out = subprocess.run([binary, folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {}
    for line in out.splitlines():
        name = line.split()[0]
        if name in ("memcpy", "crc32c", "tcp"):
            found[name] = pairs(line)
            print(f"    {line}", flush=True)
    return found


def floor(binary, folder, options):
    """For each size of frame and each set of parts: CPU s/GB in and out, and GB/s in, of each turn."""
    rows = []
    for frame in FLOOR_FRAMES:
        megabytes, turns = (100, 1) if options.quick else (FLOOR_MB, FLOOR_TURNS)
        run = subprocess.run([binary, folder, str(frame), str(FLOOR_GROUP), str(megabytes), str(turns)], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            return {"failed": run.stderr.strip().split("\n")[0][:200]}
        by_parts = {}
        for line in run.stdout.splitlines():
            by_parts.setdefault(re.search(r"parts=(\S+)", line)[1], []).append(pairs(line))
        for parts, found in by_parts.items():
            if parts != "checked":
                rows.append({"bytes": frame, "parts": parts, "turns": [{k: t[k] for k in ("cpu", "clients_cpu", "gb_per_s")} for t in found]})
        print(f"    floor, frames of {frame // 1024} KiB: {statistics.median(t['cpu'] for t in by_parts['all']):.3f} CPU s/GB in and out", flush=True)
    return {"rows": rows}
