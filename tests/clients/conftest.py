"""Fixtures of the client tests: see family.py for what a family's program is, registry.py for where clients come from."""

import os
import shutil
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))  # harness.py: brokers as processes

import family as families  # noqa: E402

AT_ONCE = 3  # programs that run beside each other in one test file, unless it says otherwise


@pytest.fixture(scope="module")
def cluster():
    """One broker for a test file. It must be sound, and stop in order, when the file is done."""
    folder = tempfile.mkdtemp(prefix="oxbow-clients-")
    c = families.Cluster(folder)
    try:
        yield c
        c.close()
    finally:
        if c.broker:
            c.broker.end()
            print(f"--- the broker's log\n{c.broker.whole_log()[-6000:]}")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ran(cluster, request):
    """ran(name): the program of a set-up, when it is done. The test file has `program(name)`, which tells command and environment, and
    gives the set-up's name to its tests as the parameter `name`: so the next ones can be started already. They mostly wait."""
    module, started = request.module, {}
    at_once = getattr(module, "AT_ONCE", AT_ONCE)
    names = list(dict.fromkeys(i.callspec.params["name"] for i in request.session.items
                               if getattr(i, "module", None) is module and "name" in getattr(getattr(i, "callspec", None), "params", ())))

    def get(name):
        later = names[names.index(name):][:at_once] if name in names else [name]
        for n in later:
            if n not in started:
                try:
                    command, env = module.program(n)
                except pytest.skip.Exception:
                    if n == name:
                        raise
                    continue
                started[n] = families.Family(cluster, n, command, env)
        return started[name].wait()
    yield get
    for f in started.values():
        f.end()
