"""The clients of the Go registry: Sarama as of today and as it speaks to older brokers, kafka-go, franz-go."""
# mostly waits for members of groups

import os
import re
import shutil
import subprocess

import pytest

import registry
import versions

HERE = os.path.dirname(os.path.abspath(__file__))
# name -> (program, SARAMA_VERSION)
SETUPS = {
    "sarama-0.9": ("sarama", "0.9.0.1"),
    "sarama-0.10.0": ("sarama", "0.10.0.0"),
    "sarama-0.10.2": ("sarama", "0.10.2.0"),
    "sarama-0.11": ("sarama", "0.11.0.0"),
    "sarama-new": ("sarama", ""),
    "kafka-go": ("kafkago", ""),
    "franz-go": ("franz", ""),
}
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ALL = ["group-share", "group-resume", "group-admin", "topics", "unknown-topic", "times", "acks", "idempotent"] + \
    [f"{kind}-{codec}" for kind in ("data", "peer") for codec in CODECS]
# What a set-up cannot do by its nature is no test. Sarama has LZ4 from 0.10 on (the odd frames of 0.9 it cannot read), groups from 0.10.2, administration from 0.11.
LACKS = {
    "sarama-0.9": {"group-share", "group-admin", "topics", "idempotent", "data-zstd", "data-lz4", "peer-lz4"},
    "sarama-0.10.0": {"group-share", "group-admin", "topics", "idempotent", "data-zstd"},
    "sarama-0.10.2": {"group-admin", "topics", "idempotent", "data-zstd"},
    "sarama-0.11": {"data-zstd"},
    "kafka-go": {"idempotent"},
}
BUILD_SECONDS = 170


def compiler():
    try:
        out = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        pytest.skip("there is no Go compiler")
    m = re.match(r"go(\d+)\.(\d+)", out)
    return (int(m[1]), int(m[2])), out.strip()


def sources():
    return [os.path.join(folder, n) for folder, _, names in sorted(os.walk(os.path.join(HERE, "go"))) for n in sorted(names)]


def programs():
    """The folder of the programs. Fetching what they need may fail, which skips; compiling them may not."""
    found, exact = compiler()
    rows = [modules for least, modules in versions.GO if found >= least]
    if not rows:
        pytest.skip(f"{exact} is too old")
    modules = rows[0]

    def make(folder):
        shutil.copytree(os.path.join(HERE, "go"), os.path.join(folder, "src"))
        env = {**os.environ, "GOTOOLCHAIN": "local", "GOMODCACHE": os.path.join(registry.CACHE, "go"), "GOWORK": "off", "CGO_ENABLED": "0",
               "GOFLAGS": os.environ.get("GOFLAGS", "") + " -modcacherw -mod=mod"}
        where = {"cwd": os.path.join(folder, "src"), "env": env}
        registry.fetch(["go", "mod", "init", "oxbow/clients"], **where)
        registry.fetch(["go", "get", *(f"{m}@{v}" for m, v in modules.items())], **where)
        registry.fetch(["go", "mod", "tidy"], **where)
        for name in ("sarama", "kafkago", "franz"):
            p = subprocess.run(["go", "build", "-p", "2", "-o", folder, f"./{name}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               timeout=BUILD_SECONDS, check=False, **where)
            assert p.returncode == 0, p.stdout
    return registry.delivered("go", "go-programs", [exact, modules], make, sources())


def program(name):
    return [os.path.join(programs(), SETUPS[name][0])], {"SARAMA_VERSION": SETUPS[name][1]}


@pytest.mark.parametrize("name, check", [(n, c) for n in SETUPS for c in ALL if c not in LACKS.get(n, ())])
def test_check(ran, name, check):
    ran(name).judge(check)


@pytest.mark.parametrize("name, codec", [(n, c) for n in SETUPS for c in CODECS if f"data-{c}" not in LACKS.get(n, ())])
def test_written(ran, name, codec):
    """What it wrote, as librdkafka sees it."""
    ran(name).verify(codec, timestamps=name != "sarama-0.9", headers=name not in ("sarama-0.9", "sarama-0.10.0", "sarama-0.10.2"))
