#!/usr/bin/python3
"""The regression guard: instructions of fixed work, counted by callgrind, against the figures in counts.toml.

  tests/perf/guard.py [--build FOLDER] [--work NAME]... [--update | --functions COUNT]

Prints a table (work, instructions, stored, difference in %, per record or message, allocations), and for each figure a line
`ok NAME`, `not ok NAME`, or `skip NAME REASON`. A figure fails when it is more than 5 % above the stored one, or is not there.
One that is more than 5 % below passes, and the table says how to store it: a saving that is not stored is not guarded.

Figures mean something only beside figures taken with the same compiler, options, valgrind, libraries and processor features
([made_with] in counts.toml). Where one of these differs, everything is skipped, and counted as such.

  --update     writes counts.toml instead of comparing; with --work, only that work's figures
  --functions  prints the COUNT functions with the most instructions for each figure

What each figure holds, and what it leaves out: README.md.

Seen to fail: produce-large with a batch's checksum computed twice (+19 %), its records walked twice (+28 %), its bytes copied twice
(+11 %); decode-produce and decode-fetch with a loop of 60 steps in front of record data (+16 %, +10 %); produce-small with one
allocation more for each request (+15 % of them)."""

import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from callgrind import Dump  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
COUNTS = os.path.join(HERE, "counts.toml")
WORKS = ["codec", "log-large", "log-small", "recover-large", "recover-small"]
LIMIT = 0.05
TIMEOUT_S = 300
# The program's own name, folder and environment lie on its stack, and copies of few bytes take a way that depends on where they
# lie: so all are the same everywhere. Symbols are bound at the start; string functions do not use `rep movs`, of which
# callgrind counts each byte.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LD_BIND_NOW": "1", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-ERMS,-FSRM"}
HEADER = """# Instructions of the work of tests/perf, and allocations, as `make guard-update` has written them; never by hand.
# Commit a change of these together with what made it, and say why in the message.
"""


class Figure:
    def __init__(self, dump, units, unit):
        self.name, self.units, self.unit = dump.name, units, unit
        self.instructions, self.allocations, self.dump = dump.instructions(), dump.allocations(), dump


def text_of(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False).stdout


def made_with(build):
    """What the figures depend on beside the code; the machine's part is told by the program itself."""
    options = json.loads(subprocess.run(["meson", "introspect", "--buildoptions", build], stdout=subprocess.PIPE, text=True,
                                        timeout=60, check=True).stdout)
    wanted = ("buildtype", "optimization", "debug", "b_lto", "b_sanitize", "b_ndebug", "b_pie", "b_coverage", "c_args",
              "c_link_args", "dcheck")
    values = {o["name"]: o["value"] for o in options if o["name"] in wanted}
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        compiler = json.load(f)[0]["command"].removeprefix("ccache ").split()[0]
    libraries = []
    for path in re.findall(r"=> (/\S+)", text_of(["ldd", os.path.join(build, "tests/guard_work")])):
        libraries.append(os.path.basename(os.path.realpath(path)))
    return {"compiler": text_of([compiler, "--version"]).splitlines()[0],
            "options": " ".join(f"{k}={values[k]}" for k in wanted if k in values),
            "valgrind": text_of(["valgrind", "--version"]).strip(),
            "libraries": " ".join(sorted(libraries))}


def run_work(build, work):
    """Returns (figures, the program's word on its machine)."""
    folder = tempfile.mkdtemp(prefix="guard-")
    try:
        command = ["valgrind", "-q", "--tool=callgrind", "--collect-atstart=no", "--dump-line=no",
                   f"--callgrind-out-file={folder}/out", "./tests/guard_work", work]
        done = subprocess.run(command, cwd=build, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
        units = {m[1]: (int(m[2]), m[3]) for m in re.finditer(r"^count (\S+) (\d+) (\w+)$", done.stdout, re.M)}
        if done.returncode != 0 or not units:
            print(done.stdout + done.stderr)
            return None, ""
        figures = []
        for path in glob.glob(f"{folder}/out.*"):
            dump = Dump(path)
            if dump.name in units:
                figures.append(Figure(dump, *units[dump.name]))
        figures.sort(key=lambda f: list(units).index(f.name))
        return figures, re.search(r"^machine (.+)$", done.stdout, re.M)[1]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_counts(conditions, old, figures):
    instructions = dict(old.get("instructions", {}), **{f.name: f.instructions for f in figures})
    allocations = dict(old.get("allocations", {}), **{f.name: f.allocations for f in figures if f.unit == "records"})
    with open(COUNTS, "w", encoding="utf-8") as f:
        f.write(HEADER)
        for title, table in (("made_with", conditions), ("instructions", instructions), ("allocations", allocations)):
            f.write(f"\n[{title}]\n")
            for key, value in table.items():
                f.write(f"{key} = {value}\n" if isinstance(value, int) else f'{key} = "{value}"\n')


def stored_counts():
    if not os.path.exists(COUNTS):
        return {}
    with open(COUNTS, "rb") as f:
        return tomllib.load(f)


def difference(now, before):
    return (now - before) / before if before else 0.0 if now == before else float("inf")


def row(figure, stored):
    """One line of the table, and what is wrong with the figure, or None."""
    before = stored.get("instructions", {}).get(figure.name)
    words = f"{figure.name:22}{figure.instructions:13,}"
    if before is None:
        return f"{words}  not stored", "is not stored: make guard-update"
    d = difference(figure.instructions, before)
    words += f"{before:13,}{100 * d:+8.2f} %{figure.instructions / figure.units:11.1f} / {figure.unit[:-1]}"
    wrong = f"{100 * d:+.1f} % instructions" if d > LIMIT else None
    if figure.unit == "records":
        had = stored.get("allocations", {}).get(figure.name, 0)
        a = difference(figure.allocations, had)
        words += f"{figure.allocations:9,} allocations"
        if a > LIMIT and not wrong:
            wrong = f"{100 * a:+.1f} % allocations"
        if figure.allocations != had:
            words += f" ({had:,} stored)"
    if wrong:
        words += "  MORE THAN 5 % ABOVE"
    elif d < -LIMIT:
        words += "  more than 5 % below: keep it with `make guard-update`"
    return words, wrong


def print_functions(figure, count):
    print(f"\n{figure.name}: {figure.instructions:,} instructions")
    for function, n in sorted(figure.dump.by_function().items(), key=lambda item: -item[1])[:count]:
        where = re.sub(r".*/((?:src|tests)/)", r"\1", function.file)
        where = os.path.basename(function.object) if where == "???" else where
        print(f"  {100 * n / figure.instructions:5.1f} %{n / figure.units:11.1f} / {figure.unit[:-1]}  {function.name}  {where}")


def why_skipped(build):
    if not shutil.which("valgrind"):
        return "valgrind is not installed (tools/deps test)"
    if not os.path.exists(os.path.join(build, "tests/guard_work")):
        return "it is not built (make guard-build)"
    return None


def compare(options, works, conditions):
    stored = {} if options.update else stored_counts()
    kept = stored.get("made_with", {})
    bad, figures = [], []
    print(f"{'work':22}{'instructions':>13}{'stored':>13}{'difference':>12}")
    for work in works:
        # What is known before the work has run is not run for nothing; the machine's word comes with the first.
        other = [k for k, v in conditions.items() if kept.get(k) != v] if kept and not options.functions else []
        if other:
            for key in other:
                print(f"{key} is '{conditions[key]}'; the stored figures were taken with '{kept.get(key)}'")
            for name in stored.get("instructions", {}):
                if name not in [f.name for f in figures]:
                    print(f"skip {name} another {' and '.join(other)} than that of the stored figures")
            return bad, figures
        made, machine = run_work(options.build, work)
        if made is None:
            print(f"not ok {work}")
            bad.append(work)
            continue
        conditions["machine"] = machine
        if kept and not options.functions and kept.get("machine") != machine:
            print(f"machine is '{machine}'; the stored figures were taken with '{kept.get('machine')}'")
            for name in stored.get("instructions", {}):
                print(f"skip {name} another machine than that of the stored figures")
            return bad, figures
        figures += made
        for figure in made:
            words, wrong = row(figure, stored)
            print(words)
            if options.functions:
                print_functions(figure, options.functions)
            elif not options.update:
                print(f"not ok {figure.name}: {wrong}" if wrong else f"ok {figure.name}")
                bad += [figure.name] if wrong else []
    if works == WORKS:
        for name in set(stored.get("instructions", {})) - {f.name for f in figures}:
            print(f"not ok {name}: it is stored, and no work has it any more: make guard-update")
            bad.append(name)
    return bad, figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.environ.get("BUILD_GUARD", "build-guard"), metavar="FOLDER")
    parser.add_argument("--work", action="append", choices=WORKS)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--functions", type=int, default=0, metavar="COUNT")
    options = parser.parse_args()
    options.build = os.path.join(ROOT, options.build)
    if reason := why_skipped(options.build):
        print(f"skip guard {reason}")
        return 1 if options.update else 0
    conditions = made_with(options.build)
    bad, figures = compare(options, options.work or WORKS, conditions)
    if options.update and not bad:
        old = stored_counts()
        if options.work and {k: v for k, v in old.get("made_with", {}).items()} != conditions:
            print("the other figures were taken with something else: update all of them")
            return 1
        write_counts(conditions, old if options.work else {}, figures)
        print(f"written: {os.path.relpath(COUNTS, ROOT)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
