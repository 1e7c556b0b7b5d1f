"""The command line's contract: help, versions, exit status, messages that name what was meant; and that the documentation of the
configuration is the one that the binary prints."""

import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
OXBOW = os.environ.get("OXBOW", os.path.join(ROOT, "build-test/oxbow"))


def oxbow(*arguments, stdin="", stdout=subprocess.PIPE):
    return subprocess.run([OXBOW, *arguments], input=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60)


def subcommands():
    listing = oxbow("help").stdout.split("Subcommands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in listing.splitlines()]


def case_help():
    for arguments in (["help"], ["--help"], ["-h"], ["help", "help"]):
        run = oxbow(*arguments)
        assert run.returncode == 0 and run.stdout.startswith("usage: oxbow") and not run.stderr, run
    assert {"config", "version", "help"} <= set(subcommands())
    for name in subcommands():
        run = oxbow("help", name)
        assert run.returncode == 0 and run.stdout.startswith("usage: oxbow"), run
        if name != "help":
            assert run.stdout.startswith(f"usage: oxbow {name}"), run
            assert oxbow(name, "--help").stdout == run.stdout and oxbow(name, "-h").stdout == run.stdout
        assert run.stdout.endswith("\n") and all(len(line) <= 120 for line in run.stdout.splitlines()), run


def case_usage():
    run = oxbow()
    assert run.returncode == 2 and not run.stdout and run.stderr.startswith("usage: oxbow"), run
    run = oxbow("confgi")
    assert run.returncode == 2 and run.stderr == "oxbow: unknown subcommand 'confgi'; did you mean 'config'?\n", run
    run = oxbow("help", "versoin")
    assert run.returncode == 2 and "did you mean 'version'?" in run.stderr, run
    assert oxbow("--nonsense").returncode == 2
    for name in subcommands():
        if name != "help":
            run = oxbow(name, "--no-such-option-at-all")
            assert run.returncode == 2 and f"oxbow {name}: unknown option '--no-such-option-at-all'" in run.stderr, run
    run = oxbow("config", "--markdwon")
    assert run.returncode == 2 and "did you mean '--markdown'?" in run.stderr, run
    for arguments in (["config", "--set"], ["config", "-c"], ["config", "stray"], ["config", "--markdown=yes"], ["version", "stray"],
                      ["config", "-c", "a", "-c", "b"], ["help", "config", "stray"]):
        run = oxbow(*arguments)
        assert run.returncode == 2 and len(run.stderr.splitlines()) == 1, run


def case_cost_page():
    """The page shows the prices and assumptions that the binary has."""
    with open(os.path.join(ROOT, "docs", "cost.md"), encoding="utf-8") as f:
        page = f.read()
    standard, express = oxbow("cost", "--list").stdout, oxbow("cost", "--list", "--prices", "s3-express").stdout
    assert f"```\n{standard}```" in page, standard
    changed = [line for i, line in enumerate(express.splitlines()) if i == 0 or line.split() != standard.splitlines()[i].split()]
    assert len(changed) == 6 and all(line in page for line in changed), changed
    run = oxbow("cost", "--list", "--set", "retention.hours=1")
    assert run.returncode == 0 and run.stdout != standard, run
    for bad in (["--prices", "gcs"], ["--set", "retention=1"], ["--set", "zones=0"], ["--interval", "0"], ["--metrics-url", "localhost"], ["stray"], [],
                ["--metrics-file", "a", "--metrics-url", "http://a"], ["--interval", "3", "--metrics-file", "a"]):
        run = oxbow("cost", *bad)
        assert run.returncode == 2 and not run.stdout and len(run.stderr.splitlines()) == 1, run


def case_version():
    for arguments in (["version"], ["--version"]):
        run = oxbow(*arguments)
        assert run.returncode == 0 and re.fullmatch(r"oxbow \d+\.\d+\.\d+( \(\S+\))?\n", run.stdout), run


def case_config_settings():
    run = oxbow("config", "--set", "node.id=42", "--set=num.partitions = 7")
    assert run.returncode == 0 and "\nnode.id=42\n" in run.stdout and "\nnum.partitions=7\n" in run.stdout and not run.stderr, run
    with tempfile.NamedTemporaryFile("w", suffix=".properties") as f:
        f.write("node.id=1\nprocess.roles=broker\nnum.partitions=3\n")
        f.flush()
        run = oxbow("config", "--set", "node.id=9", "-c", f.name)
        assert run.returncode == 0 and "\nnode.id=9\n" in run.stdout and "\nnum.partitions=3\n" in run.stdout, run
        assert run.stderr == "oxbow config: warning: process.roles: has no effect here\n", run
        f.write("num.partitons=3\n")
        f.flush()
        run = oxbow("config", "-c", f.name)
        assert run.returncode == 2 and not run.stdout, run
        assert f"{f.name}:4: unknown property 'num.partitons'; did you mean 'num.partitions'?" in run.stderr, run
    run = oxbow("config", "-c", "-", stdin="node.id=5\n")
    assert run.returncode == 0 and "\nnode.id=5\n" in run.stdout, run
    run = oxbow("config", "-c-", stdin="node.id=x\n")
    assert run.returncode == 2 and "-:1: node.id: expected a whole number" in run.stderr, run
    run = oxbow("config", "-c", "/does/not/exist")
    assert run.returncode == 1 and run.stderr == "oxbow config: cannot open /does/not/exist: No such file or directory\n", run
    run = oxbow("config", "--set", "wal.url=nowhere")
    assert run.returncode == 2 and "wal.url: expected" in run.stderr, run


def case_printed_config_loads():
    printed = oxbow("config", "--set", "node.id=77").stdout
    again = oxbow("config", "-c", "-", stdin=printed)
    assert again.returncode == 0 and again.stdout == printed and not again.stderr, again


def case_output_must_arrive():
    with open("/dev/full", "w", encoding="utf-8") as full:
        for arguments in (["config"], ["help"], ["version"]):
            run = oxbow(*arguments, stdout=full)
            assert run.returncode == 1 and "cannot write to standard output" in run.stderr, run


def case_documentation_is_current():
    with open(os.path.join(ROOT, "docs/configuration.md"), encoding="utf-8") as f:
        assert f.read() == oxbow("config", "--markdown").stdout, \
            "docs/configuration.md is old: build/oxbow config --markdown > docs/configuration.md"


def case_compatibility_is_current():
    page = oxbow("config", "--compatibility").stdout
    with open(os.path.join(ROOT, "docs/compatibility.md"), encoding="utf-8") as f:
        assert f.read() == page, "docs/compatibility.md is old: build/oxbow config --compatibility > docs/compatibility.md"
    # Every API of Kafka 4.3 that is meant for clients is on it, once, and says something where it does not just work.
    rows = re.findall(r"^\| (\d+) \| (\w+) \| [\d-]+ \| (.*) \|$", page, re.M)
    keys = [int(key) for key, _, _ in rows]
    assert sorted(keys) == [*range(0, 4), *range(8, 52), 55, 57, 60, 61, 64, 65, 66, 68, 69, 71, 72, *range(74, 80), *range(88, 93)], sorted(keys)
    absent = page[page.index("## APIs that are answered"):page.index("## Topic configurations that take")]
    for _, name, text in re.findall(r"^\| (\d+) \| (\w+) \| [\d-]+ \| (.*) \|$", absent, re.M):
        assert len(text) > 10 and text.endswith("."), name
        if text.startswith("As "):
            assert f"| {re.split(r'[ .;]', text)[1]} |" in absent, f"{name} refers to what is not there"


def case_atlas_is_current():
    begin, end = "<!-- atlas: begin -->\n\n", "\n<!-- atlas: end -->\n"
    atlas = oxbow("sim", "--atlas").stdout
    assert atlas.count("\n| `") > 20, atlas
    with open(os.path.join(ROOT, "docs/reliability.md"), encoding="utf-8") as f:
        page = f.read()
    assert page.count(begin) == 1 and page.count(end) == 1, "docs/reliability.md has no place for the fault atlas, or two"
    assert page[page.index(begin) + len(begin):page.index(end)] == atlas, \
        "docs/reliability.md: the fault atlas is old: put what build/oxbow sim --atlas prints between its markers"


def main():
    failed = False
    for name, case in sorted(globals().items()):
        if not name.startswith("case_"):
            continue
        try:
            case()
            print(f"ok cli-{name[5:]}")
        except AssertionError as e:
            failed = True
            print(f"not ok cli-{name[5:]}\n  " + str(e).replace("\n", "\n  "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
