"""kafka-python: an old release as it speaks to brokers of 0.9, 0.10 and 0.11, and later ones as they find out by themselves."""
# mostly waits for members of groups

import os

import pytest

import registry
import versions

HERE = os.path.dirname(os.path.abspath(__file__))
# name -> (release, the broker version that it takes for granted)
SETUPS = {
    "python-0.9": (versions.KAFKA_PYTHON_OLD, "0,9"),
    "python-0.10": (versions.KAFKA_PYTHON_OLD, "0,10"),
    "python-0.11": (versions.KAFKA_PYTHON_OLD, "0,11,0"),
    "python-2.0": (versions.KAFKA_PYTHON_MIDDLE, ""),
    "python-new": (versions.KAFKA_PYTHON_NEW, ""),
}
ALL = ["group-share", "group-resume", "group-admin", "topics", "unknown-topic", "times", "acks", "idempotent"] + \
    [f"{kind}-{codec}" for kind in ("data", "peer") for codec in ("none", "gzip", "snappy", "lz4", "zstd")]
# What a set-up cannot do by its nature is no test.
LACKS = {
    "python-0.9": {"group-admin", "topics", "idempotent", "data-zstd"},
    "python-0.10": {"group-admin", "topics", "idempotent", "data-zstd"},
    "python-0.11": {"idempotent", "data-zstd"},
    "python-2.0": {"idempotent"},
    "python-new": set(),
}


def program(name):
    release, api = SETUPS[name]
    library = registry.pip(f"kafka-python-{release}", [f"kafka-python=={release}"])
    codecs = registry.pip("python-codecs", versions.PYTHON_CODECS)
    return [registry.PYTHON, os.path.join(HERE, "kafka_python.py")], {"PYTHONPATH": f"{library}:{codecs}", "KAFKA_PYTHON_API": api}


@pytest.mark.parametrize("name, check", [(n, c) for n in SETUPS for c in ALL if c not in LACKS[n]])
def test_check(ran, name, check):
    ran(name).judge(check)


@pytest.mark.parametrize("name, codec", [(n, c) for n in SETUPS for c in ("none", "gzip", "snappy", "lz4", "zstd") if f"data-{c}" not in LACKS[n]])
def test_written(ran, name, codec):
    """What it wrote, as librdkafka sees it."""
    ran(name).verify(codec, timestamps=name != "python-0.9", headers=name not in ("python-0.9", "python-0.10"))
