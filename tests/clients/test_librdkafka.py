"""librdkafka as Debian has it: confluent-kafka and kcat."""
# mostly waits for members of groups

import os

import pytest

import registry

HERE = os.path.dirname(os.path.abspath(__file__))
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ALL = ["group-share", "group-share-cooperative", "group-static", "group-resume", "group-admin", "kcat-group", "kcat-codecs", "topics",
       "unknown-topic", "times", "acks", "idempotent"] + [f"{kind}-{codec}" for kind in ("data", "peer") for codec in CODECS]


def program(_):
    return [registry.PYTHON, os.path.join(HERE, "librdkafka.py")], {}


@pytest.mark.parametrize("name, check", [("librdkafka", c) for c in ALL])
def test_check(ran, name, check):
    ran(name).judge(check)
