"""The built binary under real clients and real faults, for some minutes: is everything there that was acknowledged? See README.md.

The last line is `soak: seconds=N sent=N acked=N read=N faults: kill=N ... skipped=N failed=N`; the exit status is 0 only with failed=0
and something acknowledged and read. What was broken is said above it, with the seed, and the record and the brokers' logs are kept."""

import argparse
import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))
import harness  # noqa: E402
import s3server  # noqa: E402

import checker  # noqa: E402
import leg as legs  # noqa: E402
import record as records  # noqa: E402

FEW = 4  # problems printed of one kind and log


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "10")), help="of faults; all legs together (default 10)")
    p.add_argument("--legs", default=os.environ.get("SOAK_LEGS", "file,s3-none,s3"), help="of " + ",".join(legs.KINDS) + "; one after the other")
    p.add_argument("--faults", default=os.environ.get("SOAK_FAULTS", ",".join(legs.FAULTS)), help="of " + ",".join(legs.FAULTS))
    p.add_argument("--without", default="", help="faults to leave out")
    p.add_argument("--least", type=int, default=0, help="so many faults in each leg, however long they take on a slow machine")
    p.add_argument("--seed", default=os.environ.get("SOAK_SEED"), help="whence the faults are drawn")
    p.add_argument("--quick", action="store_true", help="short time-outs, pauses and windows: for a run of less than a minute")
    p.add_argument("--keep", default=os.environ.get("SOAK_KEEP", "soak-failed"), help="the folder for what is kept when it fails")
    p.add_argument("--unflushed", action="store_true", help="turn every flush of the brokers off: shows that power cuts are noticed")
    p.add_argument("--check", metavar="FILE", help="check a record that was kept, and do nothing else")
    p.add_argument("--quiet", dest="verbose", action="store_false", help="do not tell of each fault")
    o = p.parse_args()
    o.legs = [x for x in o.legs.split(",") if x]
    without = o.without.split(",")
    o.faults = [x for x in o.faults.split(",") if x and x not in without]
    for what, known in ((o.legs, legs.KINDS), (o.faults, legs.FAULTS), ([x for x in without if x], legs.FAULTS)):
        for x in what:
            if x not in known:
                p.error(f"'{x}' is none of {', '.join(known)}")
    o.seed = o.seed or str(random.SystemRandom().randrange(1 << 32))
    # Longer than every time-out: those of the clients' requests (request_seconds, and 6 s for a group's member), of idle connections
    # (four fifths of the pause) and of the broker's requests to S3 (20 s).
    o.request_seconds, o.pause_seconds, o.window_seconds, o.calm_seconds = (2, 7, 4, 1) if o.quick else (5, 26, 15, 5)
    o.patience = 0.2 if o.unflushed else 1  # it is to fail, and need not take its time
    return o


def check_file(path):
    problems = checker.check(records.load(path))
    print("\n".join(problems) or "nothing is wrong with it")
    return 1 if problems else 0


def shorten(problems):
    """A few of each kind and log, for one mistake can show in every record; all of them are in what is kept."""
    seen = collections.Counter()
    for text in problems:
        kind = tuple(text.split()[:1 if text.startswith("checked") else 2])
        seen[kind] += 1
        if seen[kind] <= FEW:
            yield text
    for kind, count in seen.items():
        if count > FEW:
            yield f"{' '.join(kind)} ... {count - FEW} more of these"


def keep(o, record, problems):
    """The record, what was wrong, and the brokers' logs."""
    to = os.path.join(os.path.abspath(o.keep), f"{time.strftime('%Y%m%d-%H%M%S')}-{o.seed}")
    os.makedirs(to)
    record.save(os.path.join(to, "record"))
    with open(os.path.join(to, "problems"), "w", encoding="utf-8") as f:
        f.write(f"seed {o.seed}\n" + "\n".join(problems) + "\n")
    for leg in o.legs:
        for name in ("a", "b"):
            path = os.path.join(o.folder, leg, name, "log")
            if os.path.exists(path):
                shutil.copy(path, os.path.join(to, f"{leg}-{name}.log"))
    return to


def main():
    o = arguments()
    if o.check:
        return check_file(o.check)
    # By signal it ends as by itself: all that was started ends, and what is mounted goes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    o.may_mount = harness.private_mounts()
    o.folder = tempfile.mkdtemp(prefix="oxbow-soak-")
    print(f"soak: seed {o.seed}, {o.minutes:g} min, legs {' '.join(o.legs)}, faults {' '.join(o.faults)}, {harness.OXBOW}", flush=True)
    record, began, counts, skipped = records.Record(), time.monotonic(), dict.fromkeys(legs.FAULTS, 0), {}
    gateway, interrupted = None, False
    try:
        if any(legs.KINDS[x][0] == "s3" for x in o.legs):
            why = s3server.RadosGateway.missing()
            if why:
                skipped["s3"] = why
            else:
                gateway = s3server.RadosGateway()
        for n, kind in enumerate(o.legs):
            if legs.KINDS[kind][0] == "s3" and gateway is None:
                continue
            leg = legs.Leg(kind, record, o, f"{o.seed} {n} {kind}", gateway)
            leg.run(o.minutes * 60 / len(o.legs))
            for fault, count in leg.count.items():
                counts[fault] += count
            skipped.update(leg.skipped)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if gateway:
            gateway.close()
    problems = checker.check(record.events)
    if interrupted:
        problems.append("trouble: it was interrupted")
    if not record.acked or not record.read:
        problems.append("checked: nothing was acknowledged, or nothing read")
    for what, why in skipped.items():
        print(f"SKIPPED {what}: {why}")
    if problems:
        print("\n".join(shorten(problems)))
        print(f"seed {o.seed}; kept in {keep(o, record, problems)}")
    shutil.rmtree(o.folder, ignore_errors=True)
    faults = " ".join(f"{k}={v}" for k, v in counts.items())
    print(f"soak: seconds={time.monotonic() - began:.0f} sent={record.sent} acked={record.acked} read={record.read} faults: {faults} "
          f"skipped={len(skipped)} failed={len(problems)}", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    STATUS = main()
    sys.stdout.flush()
    os._exit(STATUS)  # threads of clients that hang are no reason to stay
