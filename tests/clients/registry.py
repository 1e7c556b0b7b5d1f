"""What the language registries deliver, fetched once and kept: registry.delivered() hands out a folder.

The cache is $OXBOW_CLIENTS_CACHE, or build-clients/ in the repository. Each delivery is a folder of its own, named after what it is
made of, so that a new release in versions.py is a new folder; it is put together aside and renamed into place, so that a killed run
leaves nothing half done. Runs beside each other wait for one another, by a lock per delivery.

A registry that does not answer skips the tests that need it, with the reason; it is asked once per run of a test file. What does
arrive and then does not build or does not run is a failure."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("OXBOW_ROOT", os.path.dirname(os.path.dirname(HERE)))
CACHE = os.path.abspath(os.environ.get("OXBOW_CLIENTS_CACHE") or os.path.join(ROOT, "build-clients"))
FETCH_SECONDS = 100  # for one delivery; the whole suite has less than four minutes

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable  # Debian's, as in tools/run-tests

silent = {}  # registry -> why it is not asked again


class Unanswered(Exception):
    """The registry's client could not fetch what was asked for."""


def fetch(command, seconds=FETCH_SECONDS, **options):
    """Runs a registry's client; Unanswered when it does not succeed in time."""
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False,
                           **options)
    except FileNotFoundError:
        raise Unanswered(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{os.path.basename(command[0])} did not end within {seconds} s") from None
    if p.returncode != 0:
        print(p.stdout, file=sys.stderr)
        lines = [line.strip() for line in p.stdout.splitlines() if line.strip()] or [f"exit status {p.returncode}"]
        telling = [line for line in lines if re.search(r"refused|timed? ?out|unreachable|resol|ECONN|ENOTFOUND|certificate|denied", line, re.I) and "[Help 1] http" not in line]
        raise Unanswered((telling or lines)[-1][-200:])
    return p.stdout


def delivered(registry, name, what, make, sources=()):
    """A folder that `make(folder)` fills through fetch(). `what` (anything that json can write) and the content of the files `sources`
    decide whether it must be made anew. Skips the test when the registry does not answer."""
    parts = [json.dumps(what, sort_keys=True)]
    for path in sources:
        with open(path, encoding="utf-8") as f:
            parts.append(f.read())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    folder = os.path.join(CACHE, f"{name}-{key}")
    if os.path.isdir(folder):
        return folder
    if registry in silent:
        pytest.skip(silent[registry])
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, f".{name}.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(folder):
            return folder
        aside = tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE)
        try:
            make(aside)
            os.chmod(aside, 0o755)
            os.rename(aside, folder)
        except Unanswered as e:
            silent[registry] = f"{registry} does not deliver: {e}"
            pytest.skip(silent[registry])
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder


def pip(name, packages):
    """A folder for PYTHONPATH. All that is needed is listed, with its release; wheels, where there are some, need no compiler."""
    def make(folder):
        command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--prefer-binary", "--retries", "2",
                   "--target", folder]
        fetch(command + ["--no-deps"] + list(packages))
    return delivered("pip", name, [sys.version_info[:2], list(packages)], make)


def npm(name, packages):
    """A folder with node_modules."""
    def make(folder):
        with open(os.path.join(folder, "package.json"), "w", encoding="ascii") as f:
            json.dump({"name": name, "version": "1.0.0", "private": True, "dependencies": packages}, f)
        fetch(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts", "--fetch-retries=1",
               "--fetch-retry-mintimeout=2000"], cwd=folder)
    return delivered("npm", name, packages, make)
