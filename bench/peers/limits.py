"""What the machine itself can do, taken in the same run: fio on the disk the brokers use, with the block sizes and the depth of the write-ahead
log; loopback TCP, memory copies and checksums by bench/limits.c."""

import json
import os
import re
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
DEPTHS = (1, 4)  # the write-ahead log has up to four group commits under way


def measure(options):
    os.makedirs(options.out, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="limits-", dir=options.out)
    try:
        return {"fio": fio(folder, options), **plain(folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fio(folder, options):
    if not shutil.which("fio"):
        return {"failed": "fio is not installed"}
    found, seconds, size = [], 1 if options.quick else 3, 64 if options.quick else 1024
    base = ["fio", "--name=wal", f"--filename={folder}/fio", f"--size={size}m", "--direct=1", "--output-format=json"]
    # A file that was written before, as the ring is after its first lap.
    subprocess.run([*base, "--rw=write", "--bs=1m", "--ioengine=psync"], capture_output=True, check=True)
    jobs = [("write", bs, depth, ["--sync=dsync"]) for bs in SIZES for depth in DEPTHS] + [("read", 1 << 20, 4, [])]
    for rw, bs, depth, more in jobs:
        out = subprocess.run([*base, f"--rw={rw}", f"--bs={bs}", f"--iodepth={depth}", "--ioengine=io_uring", "--time_based", f"--runtime={seconds}", *more],
                             capture_output=True, text=True, check=False)
        if out.returncode != 0:
            found.append({"rw": rw, "bytes": bs, "depth": depth, "failed": out.stderr.strip().split("\n")[-1][:200]})
            continue
        job = json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0][rw]
        p = job["clat_ns"].get("percentile", {})
        found.append({"rw": rw, "bytes": bs, "depth": depth, "mb_per_s": job["bw_bytes"] / 1e6, "per_s": job["iops"],
                      "p50_us": p.get("50.000000", 0) / 1e3, "p99_us": p.get("99.000000", 0) / 1e3})
        print(f"    fio {rw} {bs // 1024} KiB, {depth} under way: {found[-1]['mb_per_s']:.0f} MB/s, p50 {found[-1]['p50_us']:.0f} us", flush=True)
    return found


def plain(folder):
    source = os.path.join(os.path.dirname(HERE), "limits.c")
    binary = os.path.join(folder, "limits")
    cc = os.environ.get("CC", "cc")
    subprocess.run([cc, "-O2", "-std=gnu17", "-D_GNU_SOURCE", source, "-o", binary, "-lisal"], check=True)
    out = subprocess.run([binary, folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {}
    for line in out.splitlines():
        name = line.split()[0]
        if name in ("memcpy", "crc32c", "tcp"):
            found[name] = {k: float(v) for k, v in re.findall(r"(\w+)=([-0-9.]+)", line)}
            print(f"    {line}", flush=True)
    return found
