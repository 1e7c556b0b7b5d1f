"""The same requests to a broker and to a real Kafka, the answers compared field by field. The oldest release that still answers
the oldest versions, and the newest; what may differ is listed with its reason in tests/beside/differences.toml.

Seen to fail: with one more in Fetch's last_stable_offset there are 40 differences and more, from "fetch_versions/offset 0: Fetch v4-12
responses[fetch].partitions[0].last_stable_offset: ours 13, theirs 12" on."""

import os
import sys

import pytest

import harness
import kafka_server

BESIDE = os.path.join(harness.ROOT, "tests", "beside")
sys.path.insert(0, BESIDE)
import cases  # noqa: E402  pylint: disable=wrong-import-position
import codec  # noqa: E402  pylint: disable=wrong-import-position
import compare  # noqa: E402  pylint: disable=wrong-import-position

SETTINGS = {"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000"}
# Kafka 4 names versions of Produce that it then refuses, for the sake of librdkafka.
LOWEST = {"4": {"Produce": 3}}


def served(side):
    """{API: (lowest, highest)} as the broker says."""
    answer = side.ask("ApiVersions", 0)
    names = {api.key: name for name, api in side.apis.items()}
    return {names[a["api_key"]]: (a["min_version"], a["max_version"]) for a in answer["api_keys"] if a["api_key"] in names}


def oxbow_settings():
    """Those of SETTINGS that this broker has."""
    known = harness.oxbow("config")[1]
    return {k: v for k, v in SETTINGS.items() if k in known}


@pytest.mark.parametrize("release", kafka_server.versions.KAFKAS)
def test_same_answers(brokers, folder, release):
    kafka = kafka_server.Kafka(os.path.join(folder, "kafka"), release, SETTINGS)
    try:
        apis = codec.load(harness.ROOT)
        oxbow = compare.Side("oxbow", brokers(oxbow_settings()).port, apis)
        other = compare.Side("kafka", kafka.start().port, apis)
        one, two = served(oxbow), served(other)
        for name, low in LOWEST.get(release.split(".", maxsplit=1)[0], {}).items():
            two[name] = (max(low, two[name][0]), two[name][1])
        both = {n: (max(one[n][0], two[n][0]), min(one[n][1], two[n][1])) for n in one if n in two}
        oxbow.served = other.served = both
        only = os.environ.get("BESIDE_ONLY", "")  # by hand: one case alone
        for side in (oxbow, other):
            cases.run(side, only)
        found = compare.differences(oxbow, other)
    finally:
        kafka.end()
        if sys.exc_info()[0]:
            print(kafka.log()[-3000:] if os.path.exists(kafka.log_path) else "")
    fresh, stale = compare.judge(found, compare.listed(os.path.join(BESIDE, "differences.toml")), release)
    if os.environ.get("BESIDE_OPEN"):  # by hand: what is new, as entries to be judged
        with open(os.environ["BESIDE_OPEN"], "a", encoding="utf-8") as f:
            f.write(compare.as_open(fresh, release))
        fresh = []
    asked = {(s[2], s[3]) for s in oxbow.steps}
    missing = [f"{n} v{v}" for n, (low, high) in both.items() for v in range(low, high + 1) if (n, v) not in asked]
    for side in (oxbow, other):
        print(f"slow with {side.name}: {side.slow[:50]}; seconds of each case: {side.took}")
    print(f"{len(oxbow.steps)} steps, {len(asked)} versions of {len(both)} APIs, {len(found)} differences")
    text = [f"{side.name}: {s[0]} did not go on: {s[5]['value']}" for side in (oxbow, other) for s in side.steps if s[1] == cases.WENT_ON and s[5]["value"] != "yes"]
    text += [f"{d}" for d in fresh] + [f"listed, but no longer there: {e.entry}" for e in stale if not only]
    if not only:
        text += [f"no case asks for {m}" for m in missing]
    assert not text, f"{len(text)} differences\n" + "\n".join(text)
