"""Fixtures of the client tests: see family.py for what a family's program is, registry.py for where clients come from."""

import os
import shutil
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))  # harness.py: brokers as processes

import family as families  # noqa: E402


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
def ran(cluster):
    """ran(name, lambda: (command, env)): the program of a family, run at the first call."""
    done = {}

    def get(name, prepare):
        if name not in done:
            command, env = prepare()
            done[name] = families.Family(cluster, name, command, env)
        return done[name]
    return get
