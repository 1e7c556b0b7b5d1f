"""kafkajs, from npm."""
# mostly waits for members of groups

import os

import pytest

import registry
import versions

HERE = os.path.dirname(os.path.abspath(__file__))
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ALL = ["group-share", "group-resume", "group-admin", "topics", "unknown-topic", "times", "acks", "idempotent"] + \
    [f"{kind}-{codec}" for kind in ("data", "peer") for codec in CODECS]


def program(_):
    packages = registry.npm("kafkajs", versions.KAFKAJS)
    return ["node", os.path.join(HERE, "node", "kafkajs.js")], {"NODE_PATH": os.path.join(packages, "node_modules"), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}


@pytest.mark.parametrize("name, check", [("kafkajs", c) for c in ALL])
def test_check(ran, name, check):
    ran(name).judge(check)


@pytest.mark.parametrize("name, codec", [("kafkajs", c) for c in CODECS])
def test_written(ran, name, codec):
    """What it wrote, as librdkafka sees it."""
    ran(name).verify(codec)
