"""kafkajs, from npm."""

import os

import pytest

import registry
import versions

HERE = os.path.dirname(os.path.abspath(__file__))
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ALL = ["group-share", "group-resume", "group-admin", "topics", "unknown-topic", "times", "acks", "idempotent"] + \
    [f"{kind}-{codec}" for kind in ("data", "peer") for codec in CODECS]


def program():
    packages = registry.npm("kafkajs", versions.KAFKAJS)
    return ["node", os.path.join(HERE, "node", "kafkajs.js")], {"NODE_PATH": os.path.join(packages, "node_modules"), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}


@pytest.mark.parametrize("check", ALL)
def test_check(ran, check):
    ran("kafkajs", program).judge(check)


@pytest.mark.parametrize("codec", CODECS)
def test_written(ran, codec):
    """What it wrote, as librdkafka sees it."""
    ran("kafkajs", program).verify(codec)
