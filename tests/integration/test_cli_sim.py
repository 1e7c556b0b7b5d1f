"""`oxbow sim` as it is used: its last line and exit status, what a failed run is told as, and repeating it."""

import os
import re
import signal
import subprocess

import pytest

from harness import OXBOW, ROOT, oxbow

LAST = re.compile(r"sim: seeds=(\d+) hash=([0-9a-f]{16}) ops=(\d+) acked=(\d+) faults=(\d+) failed=(\d+)")
RUN = re.compile(r"^seed=(\d+) workload=(\S+) hash=([0-9a-f]{16}) ops=\d+ acked=\d+ faults=(\d+) steps=\d+$", re.M)


def sim(*arguments):
    return oxbow("sim", *arguments, seconds=300)


def last_of(out):
    m = LAST.fullmatch(out.rstrip("\n").split("\n")[-1])
    assert m, out[-500:]
    return dict(zip(("seeds", "hash", "ops", "acked", "faults", "failed"), m.groups()))


def promise_of(out):
    return [re.sub(r"\d+", "#", p) for p in re.findall(r"^sim: promise broken: (.+)$", out, re.M)]


def failing_seed(workload, mutant):
    status, out, _ = sim("--seeds", "1..30", "--workload", workload, "--mutant", mutant, "--no-shrink")
    assert status == 1
    seeds = re.findall(r"^sim: FAILED seed=(\d+) workload=(\S+)$", out, re.M)
    assert seeds and int(last_of(out)["failed"]) == len(seeds)
    return seeds[0][0]


def test_last_line_and_status():
    status, out, err = sim("--seeds", "1..5", "--workload", "objlog,wal", "--totals")
    last = last_of(out)
    runs = RUN.findall(out)
    assert status == 0 and err == "" and last["seeds"] == "5" and last["failed"] == "0" and int(last["acked"]) > 0
    assert [(int(s), w) for s, w, _, _ in runs] == [(s, w) for s in range(1, 6) for w in ("objlog", "wal")]
    assert sum(int(f) for _, _, _, f in runs) == int(last["faults"])
    assert sum(int(n) for n in re.findall(r"^sim: fault \S+=(\d+)$", out, re.M)) == int(last["faults"]) > 0
    # The same again, and another seed.
    assert last_of(sim("--seeds", "1..5", "--workload", "wal,objlog")[1]) == last
    assert last_of(sim("--seeds", "2..6", "--workload", "wal,objlog")[1])["hash"] != last["hash"]
    status, out, _ = sim("--seeds", "1..3", "--workload", "clusterlog", "--twice")
    assert status == 0 and last_of(out) == last_of(sim("--seeds", "1..3", "--workload", "clusterlog")[1])


def test_faults_are_chosen():
    status, out, _ = sim("--seeds", "1..3", "--faults", "none", "--totals")
    done = {name for name, n in re.findall(r"^sim: fault (\S+)=(\d+)$", out, re.M) if n != "0"}
    # After an orderly stop; and a broker that was overtaken ends.
    assert status == 0 and done <= {"restart", "crash-kill"} and int(last_of(out)["ops"]) > 100
    status, out, _ = sim("--seeds", "1..8", "--workload", "clusterlog", "--faults", "none,pause,store-slow=0.3", "--totals")
    done = {name for name, n in re.findall(r"^sim: fault (\S+)=(\d+)$", out, re.M) if n != "0"}
    assert status == 0 and done - {"restart"} == {"pause", "store-slow"}


@pytest.mark.parametrize("arguments, words", [
    (("--faults", "storm"), ["none", "usual", "swarm", "storm"]), (("--faults", "usual,,"), ["none", "swarm"]), (("--faults", "pause=2"), ["0 to 1"]),
    (("--workload", "objlog,x"), ["workloads", "objlog,x"]), (("--mutant", "x"), ["--list-mutants"]), (("--seed", "-1"), ["a seed"]),
    (("--seeds", "5..4"), ["A..B"]), (("--keep-faults", "3,2"), ["rising"]), (("--load-ms", "0"), ["milliseconds"]), (("--minutes", "0"), ["minutes"]),
    (("1",), ["only options"])])
def test_wrong_usage_has_no_last_line(arguments, words):
    status, out, err = sim(*arguments)
    assert status == 2 and out == "" and len(err.splitlines()) == 1 and all(w in err for w in words), err


def test_lists():
    lines = sim("--list-mutants")[1].splitlines()
    assert len(lines) >= 20 and all(re.fullmatch(r"[a-z0-9-]+ +[a-z]+(,[a-z]+)* +\S.*", line) for line in lines)
    faults = sim("--list-faults")[1].splitlines()
    assert len(faults) >= 20 and all(re.fullmatch(r"[a-z0-9-]+ +\S.*", line) for line in faults)
    assert all(line in sim("--list")[1] for line in lines + faults)


@pytest.mark.parametrize("workload, mutant", [("clusterlog", "unknown-is-ok"), ("objlog", "ack-early")])
def test_failure_is_told_repeated_and_shrunk(workload, mutant):
    seed = failing_seed(workload, mutant)
    status, out, _ = sim("--seed", seed, "--workload", workload, "--mutant", mutant)
    assert status == 1 and last_of(out)["failed"] == "1"
    assert f"sim: FAILED seed={seed} workload={workload}\n" in out
    promises = promise_of(out)
    assert len(promises) == 2 and promises[0] == promises[1]
    histories = re.findall(r"^sim: history:\n((?:  .*\n)+)", out, re.M)
    assert len(histories) == 2 and all(1 <= len(h.splitlines()) <= 61 and "t=" in h for h in histories)

    command = re.search(r"^sim: repeat with: oxbow sim (.+)$", out, re.M)[1].split()
    status, again, _ = sim(*command, "--no-shrink")
    assert status == 1 and promise_of(again) == promises[:1] and RUN.search(again)[3] == RUN.search(out)[3]
    assert re.search(r"^sim: history:\n((?:  .*\n)+)", again, re.M)[1] == histories[0]

    before, after, long, short = re.search(r"^sim: shrunk from (\d+) to (\d+) faults, from ([\d.]+) to ([\d.]+) virtual seconds, in \d+ runs$", out, re.M).groups()
    assert int(after) < int(before) and RUN.search(out)[4] == before and float(short) > 0 and float(long) > 0
    command = re.search(r"^sim: repeat the shrunk run with: oxbow sim (.+)$", out, re.M)[1].split()
    assert "--keep-faults" in command
    status, again, _ = sim(*command, "--no-shrink")
    assert status == 1 and promise_of(again) == promises[1:]
    assert RUN.search(again)[3] == re.search(r"^sim: hash=([0-9a-f]{16}) ", out, re.M)[1] and RUN.search(again)[4] == after
    assert re.search(r"^sim: history:\n((?:  .*\n)+)", again, re.M)[1] == histories[1]


def start_endless():
    p = subprocess.Popen([OXBOW, "sim", "--seeds", "1..1000000", "--workload", "objlog"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in p.stdout:  # it has come as far as a third seed
        if line.startswith("seed=3 "):
            break
    return p


def test_a_run_that_aborts_is_told():
    p = start_endless()
    p.send_signal(signal.SIGABRT)  # as a failed assertion does
    out, _ = p.communicate(timeout=60)
    assert p.returncode == 1 and last_of(out)["failed"] == "1" and int(last_of(out)["seeds"]) >= 4
    seed = re.findall(r"^sim: FAILED seed=(\d+) workload=objlog$", out, re.M)[-1]
    assert f"sim: repeat with: oxbow sim --seed {seed} --workload objlog --trace\n" in out and seed == last_of(out)["seeds"]
    assert re.search(r"^sim: promise broken: .*assertion", out, re.M)


def test_a_signal_ends_it_in_order():
    p = start_endless()
    p.send_signal(signal.SIGTERM)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0 and err == "" and last_of(out)["failed"] == "0" and int(last_of(out)["seeds"]) >= 3


def test_long_runs_are_added_up():
    build = os.path.dirname(OXBOW)
    small = os.path.join(build, "tests", "oxbow-small")
    if not os.path.exists(small):
        pytest.skip("there is no build with small sizes")
    command = [os.path.join(ROOT, "tools", "sim"), "--build", build, "--minutes", "0.05", "--jobs", "2", "--first", "1", "--workload", "objlog"]
    p = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    last = last_of(p.stdout)
    assert p.returncode == 0 and p.stderr == "" and last["failed"] == "0" and int(last["seeds"]) >= 2, p.stdout
    assert sum(int(n) for n in re.findall(r"^sim: fault \S+=(\d+)$", p.stdout, re.M)) == int(last["faults"]) > 0
    p = subprocess.run([*command, "--mutant", "ack-early", "--no-shrink"], capture_output=True, text=True, timeout=300, check=False)
    assert p.returncode == 1 and int(last_of(p.stdout)["failed"]) == len(re.findall("^sim: FAILED ", p.stdout, re.M)) > 0


def test_trace_ends_with_the_promise():
    seed = failing_seed("objlog", "ack-early")
    out = sim("--seed", seed, "--workload", "objlog", "--mutant", "ack-early", "--trace", "--no-shrink")[1]
    trace = [line for line in out.splitlines() if line.startswith("  t=")]
    assert len(trace) > 50 and any(" BROKEN " in line for line in trace)
