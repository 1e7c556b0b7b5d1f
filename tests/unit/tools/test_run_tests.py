"""tools/run-tests counts what it should, prints what failed, never calls an empty or crashed run a success, and leaves nothing
running. It works on a small tree of its own."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

CMOCKA_GOOD = "[==========] Running 2 test(s).\n[ RUN      ] a\n[       OK ] a\n[ RUN      ] b (epoll)\n[       OK ] b (epoll)\n"
CMOCKA_BAD = ("[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\nwhat went wrong\n[  FAILED  ] b\n[ RUN      ] c\n[  SKIPPED ] c\n"
              "[  FAILED  ] 1 test(s), listed below:\n[  FAILED  ] b\n")

PYTEST = """
import pytest, os
def test_good(): assert os.environ["OXBOW"].endswith("/oxbow")
def test_bad(): assert 1 + 1 == 3
def test_skipped(): pytest.skip("there is no loop device")
"""


def shell(text, status=0):
    return f"#!/bin/sh\ncat <<'EOF'\n{text}EOF\nexit {status}\n"


class Tree:
    def __init__(self, files):
        self.root = tempfile.mkdtemp(prefix="run-tests-")
        os.makedirs(os.path.join(self.root, "tools"))
        shutil.copy(os.path.join(ROOT, "tools/run-tests"), os.path.join(self.root, "tools/run-tests"))
        for path, text in files.items():
            full = os.path.join(self.root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as f:
                f.write(text)
            os.chmod(full, os.stat(full).st_mode | stat.S_IXUSR)

    def run(self, *arguments):
        env = {k: v for k, v in os.environ.items() if k not in ("BUILD_TEST", "BUILD_FUZZ", "SEEDS")}
        return subprocess.run([os.path.join(self.root, "tools/run-tests"), *arguments], capture_output=True, text=True,
                              check=False, timeout=100, env=env)


def case_counts(tree_run):
    run = tree_run({"build-test/tests/test_x": shell(CMOCKA_GOOD), "tests/model/m.py": "# __main__\nprint('ok one')\nprint('skip two no such thing')\n",
                    "tests/model/silent.py": "# __main__\n", "tests/model/shared.py": "raise SystemExit(1)\n"}, "unit", "model")
    assert run.returncode == 0, run
    assert run.stdout.endswith("\n4 passed, 0 failed, 1 skipped\n"), run.stdout
    assert "skipped model model/m: two: no such thing" in run.stdout, run.stdout


def case_failure(tree_run):
    run = tree_run({"build-test/tests/test_x": shell(CMOCKA_BAD, 1)}, "unit")
    assert run.returncode == 1 and run.stdout.endswith("\n1 passed, 1 failed, 1 skipped\n"), run
    assert "what went wrong" in run.stdout and "failed unit x: b" in run.stdout, run.stdout


def case_crash(tree_run):
    run = tree_run({"build-test/tests/test_x": "#!/bin/sh\necho '[ RUN      ] a'; echo '[       OK ] a'; echo '[ RUN      ] deadly'; kill -ABRT $$\n"},
                   "unit")
    assert run.returncode == 1 and run.stdout.endswith("\n1 passed, 1 failed\n"), run
    assert "killed by signal 6 in deadly" in run.stdout, run.stdout


def case_bad_exit(tree_run):
    run = tree_run({"build-test/tests/test_x": shell(CMOCKA_GOOD, 23), "tests/model/m.py": "# __main__\nprint('ok one')\nraise SystemExit(3)\n"})
    assert run.returncode == 1 and "2 failed" not in run.stdout.splitlines()[0], run
    assert re.search(r"^\d+ passed, \d+ failed$", run.stdout.splitlines()[-1]), run.stdout
    assert "x: exit status 23" in run.stdout and "m: exit status 3" in run.stdout, run.stdout


def case_nothing_ran(tree_run):
    run = tree_run({}, "unit", "model")
    assert run.returncode == 1 and run.stdout == "nothing ran\n0 passed, 0 failed\n", run
    run = tree_run({"build-test/tests/test_x": shell("")}, "unit")
    assert run.returncode == 1 and "ran no test" in run.stdout and run.stdout.endswith("0 passed, 1 failed\n"), run
    run = tree_run({"tests/model/m.py": "# __main__\nprint('skip all of it')\n"}, "model")
    assert run.returncode == 1 and run.stdout.endswith("0 passed, 0 failed, 1 skipped\n"), run


def case_pytest(tree_run):
    run = tree_run({"tests/integration/test_x.py": PYTEST}, "integration")
    assert run.returncode == 1 and run.stdout.endswith("\n1 passed, 1 failed, 1 skipped\n"), run
    assert "1 + 1" in run.stdout and "there is no loop device" in run.stdout.split("--- end of")[1], run.stdout


def case_clients(tree_run):
    run = tree_run({"tests/clients/test_x.py": PYTEST, "tests/clients/family.py": "raise SystemExit('a module')\n"}, "clients")
    assert run.returncode == 1 and run.stdout.endswith("\n1 passed, 1 failed, 1 skipped\n"), run


def case_pytest_broken(tree_run):
    run = tree_run({"tests/integration/test_x.py": "import does_not_exist\n"}, "integration")
    assert run.returncode == 1 and re.search(r"0 passed, [1-9] failed", run.stdout), run


def case_leaves_nothing_running(tree_run):
    script = ("# __main__\nimport os, subprocess, sys\n"
              "for new_session in (False, True):\n"
              "    p = subprocess.Popen(['/bin/sleep', '987'], start_new_session=new_session)\n"
              "    print('pid', p.pid, flush=True)\n"
              "print('not ok to show the pids', flush=True)\n")
    run = tree_run({"tests/model/m.py": script}, "model")
    pids = re.findall(r"^pid (\d+)$", run.stdout, re.M)
    assert len(pids) == 2, run

    def alive(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                return f.read().rsplit(")", 1)[1].split()[0] != "Z"
        except FileNotFoundError:
            return False
    deadline = time.monotonic() + 20
    while any(alive(p) for p in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(p) for p in pids), pids


def case_unknown_suite(tree_run):
    run = tree_run({}, "nonsense")
    assert run.returncode == 2 and "unknown suite 'nonsense'" in run.stderr, run


def main():
    failed = False
    for name, case in sorted(globals().items()):
        if not name.startswith("case_"):
            continue
        trees = []

        def tree_run(files, *arguments, made=trees):
            made.append(Tree(files))
            return made[-1].run(*arguments)
        try:
            case(tree_run)
            print(f"ok run-tests-{name[5:]}")
        except AssertionError as e:
            failed = True
            print(f"not ok run-tests-{name[5:]}\n  " + str(e).replace("\n", "\n  "))
        for tree in trees:
            shutil.rmtree(tree.root)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
