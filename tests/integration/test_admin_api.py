"""Everyday administration: partitions added, records deleted, configurations of topics and brokers changed, and what the cluster tells
of itself. Raw protocol in every version, confluent-kafka's and kafka-python's admin clients, restarts and kills in between."""

import time

import kafka
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions
from confluent_kafka import KafkaException
from kafka.admin import ConfigResource as OldResource
from kafka.admin import ConfigResourceType as OldType
from kafka.admin import KafkaAdminClient
from kafka.admin import NewPartitions as OldPartitions

from harness import eventually
from ox import call, versions
from wire import Wire, batch
from wire_groups import Group

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32


@pytest.fixture
def w(broker):
    with Wire(broker.port) as connection:
        yield connection


def grow(w, topics, version=3, validate_only=False):
    """topics: [(name, count, assignments or None)] -> {name: (error, message)}"""
    wanted = [{"name": n, "count": c, "assignments": None if a is None else [{"broker_ids": x} for x in a]} for n, c, a in topics]
    answer = call(w, "CreatePartitions", version, {"topics": wanted, "timeout_ms": 10000, "validate_only": validate_only})
    return {r["name"]: (r["error_code"], r["error_message"]) for r in answer["results"]}


def partitions(w, topic):
    answer = call(w, "Metadata", 12, {"topics": [{"topic_id": bytes(16), "name": topic}], "allow_auto_topic_creation": False})
    return [p["leader_epoch"] for p in sorted(answer["topics"][0]["partitions"], key=lambda p: p["partition_index"])]


def describe(w, kind, name, keys=None, version=4):
    """(error, {name: entry})"""
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys}
    answer = call(w, "DescribeConfigs", version, {"resources": [resource], "include_synonyms": True, **({"include_documentation": True} if version >= 3 else {})})
    result = answer["results"][0]
    return result["error_code"], {c["name"]: c for c in result["configs"]}


def chain(entry):
    return [(s["name"], s["value"], s["source"]) for s in entry["synonyms"]]


def alter(w, resources, version=1, validate_only=False):
    """resources: [(type, name, [(key, op, value)])] -> [(error, message)]"""
    wanted = [{"resource_type": t, "resource_name": n, "configs": [{"name": k, "config_operation": o, "value": v} for k, o, v in c]} for t, n, c in resources]
    answer = call(w, "IncrementalAlterConfigs", version, {"resources": wanted, "validate_only": validate_only})
    return [(r["error_code"], r["error_message"]) for r in answer["responses"]]


def replace(w, resources, version=2, validate_only=False):
    """AlterConfigs: [(type, name, {key: value})] -> [(error, message)]"""
    wanted = [{"resource_type": t, "resource_name": n, "configs": [{"name": k, "value": v} for k, v in c.items()]} for t, n, c in resources]
    answer = call(w, "AlterConfigs", version, {"resources": wanted, "validate_only": validate_only})
    return [(r["error_code"], r["error_message"]) for r in answer["responses"]]


def delete(w, wanted, version=2):
    """[(topic, partition, offset)] -> [(error, low watermark)]"""
    topics = [{"name": t, "partitions": [{"partition_index": p, "offset": o}]} for t, p, o in wanted]
    answer = call(w, "DeleteRecords", version, {"topics": topics, "timeout_ms": 20000})
    return [(t["partitions"][0]["error_code"], t["partitions"][0]["low_watermark"]) for t in answer["topics"]]


# --- Partitions.

def test_create_partitions(broker):
    with Wire(broker.port) as w:
        for name in ("a", "b", "c"):
            w.create(name, 2)
        assert w.produce("a", 1, batch([b"before"]))[0] == 0
        for version in versions("CreatePartitions"):
            assert grow(w, [("a", 3, None)], version, validate_only=True) == {"a": (0, None)}
        assert len(partitions(w, "a")) == 2
        found = grow(w, [("a", 2, None), ("b", 1, None), ("none", 3, None), ("c", 5, None)])
        assert found["a"] == (37, "Topic already has 2 partition(s).")
        assert found["b"] == (37, "The topic b currently has 2 partition(s); 1 would not be an increase.")
        assert found["none"][0] == 3 and found["c"] == (0, None)  # one wrong topic is no harm to another
        assert len(partitions(w, "c")) == 5
        assert grow(w, [("a", 0, None)])["a"][0] == 37 and grow(w, [("a", -1, None)])["a"][0] == 37
        assert grow(w, [("a", 4, None), ("a", 5, None)]) == {"a": (42, "Duplicate topic name.")}
        assert grow(w, [("a", 4, [[1]])]) == {"a": (39, "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.")}
        assert grow(w, [("a", 3, [[7]])]) == {"a": (39, "The manual partition assignment includes broker 7, but no such broker is registered.")}
        assert grow(w, [("a", 3, [[1, 1]])]) == {"a": (39, "The manual partition assignment includes the broker 1 more than once.")}
        assert grow(w, [("a", 3, [[]])]) == {"a": (39, "The manual partition assignment includes an empty replica list.")}
        assert grow(w, [("a", 20000, None)])["a"][0] == 44 and grow(w, [("a", 2**31 - 1, None)])["a"][0] == 44
        assert len(partitions(w, "a")) == 2
        # A fetch session that asks for what is not there yet sees it as soon as it is.
        error, session, found = w.fetch([("a", 0, 0, 1000), ("a", 2, 0, 1000)], session=(0, 0))
        assert error == 0 and session > 0 and found["a", 2][0] == 3
        assert grow(w, [("a", 4, [[1], [1]])]) == {"a": (0, None)}
        assert partitions(w, "a") == [0, 0, 0, 0]
        assert w.produce("a", 2, batch([b"new"]))[:2] == (0, 0) and w.produce("a", 3, batch([b"new"]))[:2] == (0, 0)
        error, _, found = w.fetch([], session=(session, 1))
        assert error == 0 and found["a", 2][0] == 0 and found["a", 2][1] == 1
    broker.restart(kill=True)
    with Wire(broker.port) as w:
        assert partitions(w, "a") == [1, 1, 1, 1] and len(partitions(w, "c")) == 5
        assert grow(w, [("a", 5, None)]) == {"a": (0, None)}
        assert [w.list_offsets("a", p, -1)[2] for p in range(5)] == [0, 1, 1, 1, 0]
        assert partitions(w, "a") == [1, 1, 1, 1, 0]
    broker.restart()
    with Wire(broker.port) as w:
        assert partitions(w, "a") == [2, 2, 2, 2, 1]
        assert w.produce("a", 4, batch([b"x"]))[:2] == (0, 0)


def test_what_a_request_names_twice(w):
    """None of what shares a name is more right than another: one refusal for all of it, as with Kafka, and nothing is done."""
    w.create("kept")
    topic_id = call(w, "Metadata", 12, {"topics": [{"topic_id": bytes(16), "name": "kept"}]})["topics"][0]["topic_id"]
    for v in range(7):
        names = ["kept", "other", "kept"]
        fields = {"topic_names": names} if v < 6 else {"topics": [{"name": n, "topic_id": bytes(16)} for n in names]}
        answer = call(w, "DeleteTopics", v, {**fields, "timeout_ms": 1000})["responses"]
        assert [(t["name"], t["error_code"]) for t in answer] == [("kept", 42), ("other", 3)], v
    by_id, by_name = {"name": None, "topic_id": topic_id}, {"name": "kept", "topic_id": bytes(16)}
    for topics in ([by_id, by_name], [by_name, by_id]):
        answer = call(w, "DeleteTopics", 6, {"topics": topics, "timeout_ms": 1000})["responses"]
        assert [(t["name"], t["topic_id"], t["error_code"]) for t in answer] == [("kept", topic_id, 42)]
    assert [(t["name"], t["error_code"]) for t in call(w, "DeleteTopics", 6, {"topics": [by_id, by_id], "timeout_ms": 1000})["responses"]] == [(None, 42)]
    assert partitions(w, "kept") == [0]
    answer = call(w, "DeleteTopics", 6, {"topics": [by_id], "timeout_ms": 1000})["responses"]
    assert [(t["name"], t["topic_id"], t["error_code"]) for t in answer] == [("kept", topic_id, 0)]
    made = {"name": "made", "num_partitions": 1, "replication_factor": 1,
            "configs": [{"name": "retention.ms", "value": "1"}, {"name": "cleanup.policy", "value": "compact,delete"}, {"name": "retention.ms", "value": "2"}]}
    answer = call(w, "CreateTopics", 7, {"topics": [made, made], "timeout_ms": 1000})["topics"]
    assert [(t["name"], t["error_code"], t["configs"]) for t in answer] == [("made", 42, [])]
    answer = call(w, "CreateTopics", 7, {"topics": [made], "timeout_ms": 1000})["topics"]
    assert answer[0]["error_code"] == 0
    assert {c["name"]: c["value"] for c in answer[0]["configs"] if c["config_source"] == 1} == {"retention.ms": "2", "cleanup.policy": "compact,delete"}
    part = {"partition_index": 0, "timestamp": -1}
    for v in range(1, 12):
        answer = call(w, "ListOffsets", v, {"replica_id": -1, "topics": [{"name": "made", "partitions": [part] * 3}, {"name": "made", "partitions": [part]}]})
        assert [[p["error_code"] for p in t["partitions"]] for t in answer["topics"]] == [[42], []], v


def test_offsets_topic_keeps_its_partitions(w):
    call(w, "FindCoordinator", 4, {"key_type": 0, "coordinator_keys": ["g"]})
    error, why = grow(w, [("__consumer_offsets", 100, None)])["__consumer_offsets"]
    assert error == 17 and "cannot change" in why
    assert delete(w, [("__consumer_offsets", 0, 0)]) == [(17, -1)]


def test_partitions_with_clients(broker):
    server = f"127.0.0.1:{broker.port}"
    admin = AdminClient({"bootstrap.servers": server})
    old = KafkaAdminClient(bootstrap_servers=server)
    with Wire(broker.port) as w:
        w.create("t", 1)
    admin.create_partitions([NewPartitions("t", 3)])["t"].result(20)
    with pytest.raises(KafkaException):
        admin.create_partitions([NewPartitions("t", 2)])["t"].result(20)
    old.create_partitions({"t": OldPartitions(total_count=5)})
    consumer = kafka.KafkaConsumer(bootstrap_servers=server)
    assert consumer.partitions_for_topic("t") == {0, 1, 2, 3, 4}
    consumer.close()
    old.close()


# --- Deleting records.

def test_delete_records(broker):
    with Wire(broker.port) as w:
        w.create("t", 2)
        w.create("compacted", 1, {"cleanup.policy": "compact"})
        w.create("both", 1, {"cleanup.policy": "compact,delete"})
        for _ in range(4):
            assert w.produce("t", 0, batch([b"x"] * 5))[0] == 0
        assert delete(w, [("t", 0, 21), ("t", 0, -2), ("t", 2, 0), ("none", 0, 0)]) == [(1, -1), (1, -1), (3, -1), (3, -1)]
        assert delete(w, [("compacted", 0, -1), ("both", 0, -1)]) == [(44, -1), (0, 0)]
        w.create("__consumer_offsets")
        assert delete(w, [("__consumer_offsets", 0, 0)]) == [(17, -1)]  # internal
        for version in versions("DeleteRecords"):
            assert delete(w, [("t", 0, 7)], version) == [(0, 7)]  # in the middle of a batch; a repetition is no harm
        assert delete(w, [("t", 0, 3)]) == [(0, 7)]  # gone already
        assert w.list_offsets("t", 0, -2)[2] == 7 and w.list_offsets("t", 0, -1)[2] == 20
        assert w.fetch([("t", 0, 6, 1000)])[2]["t", 0][0] == 1
        assert w.fetch([("t", 0, 7, 1000)])[2]["t", 0][0] == 0
    broker.restart(kill=True)
    with Wire(broker.port) as w:
        assert w.list_offsets("t", 0, -2)[2] == 7 and w.list_offsets("t", 0, -1)[2] == 20
        assert delete(w, [("t", 0, 12)]) == [(0, 12)]
    broker.restart()
    with Wire(broker.port) as w:
        assert w.list_offsets("t", 0, -2)[2] == 12
        assert delete(w, [("t", 0, -1), ("t", 1, -1)]) == [(0, 20), (0, 0)]
        assert w.produce("t", 0, batch([b"y"]))[:2] == (0, 20)  # a deletion takes no offset
        assert w.fetch([("t", 0, 20, 1000)])[2]["t", 0][:3] == (0, 21, 20)
    admin = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{broker.port}")
    if hasattr(admin, "delete_records"):
        admin.delete_records({kafka.TopicPartition("t", 0): 21})
        with Wire(broker.port) as w:
            assert w.list_offsets("t", 0, -2)[2] == 21
    admin.close()


def test_deleted_is_deleted_after_every_kill(broker):
    """Answered means durable: the broker is killed right after each answer."""
    with Wire(broker.port) as w:
        w.create("t")
    for n in range(1, 6):
        with Wire(broker.port) as w:
            assert w.produce("t", 0, batch([b"x"] * 10))[0] == 0
            assert delete(w, [("t", 0, 10 * n - 5)]) == [(0, 10 * n - 5)]
        broker.restart(kill=True)
        with Wire(broker.port) as w:
            assert w.list_offsets("t", 0, -2)[2] == 10 * n - 5 and w.list_offsets("t", 0, -1)[2] == 10 * n


# --- Configurations.

def test_every_topic_config(w):
    """Kafka's names, types and defaults: facts from its documentation."""
    w.create("t")
    long, top = 5, str(2**63 - 1)
    expected = {
        "cleanup.policy": ("delete", 7), "compression.gzip.level": ("-1", 3), "compression.lz4.level": ("9", 3), "compression.type": ("producer", 2),
        "compression.zstd.level": ("3", 3), "delete.retention.ms": ("86400000", long), "file.delete.delay.ms": ("60000", long), "flush.messages": (top, long),
        "flush.ms": (top, long), "follower.replication.throttled.replicas": ("", 7), "index.interval.bytes": ("4096", 3),
        "leader.replication.throttled.replicas": ("", 7), "local.retention.bytes": ("-2", long), "local.retention.ms": ("-2", long),
        "max.compaction.lag.ms": (top, long), "max.message.bytes": ("1048588", 3), "message.timestamp.after.max.ms": ("3600000", long),
        "message.timestamp.before.max.ms": (top, long), "message.timestamp.type": ("CreateTime", 2), "min.cleanable.dirty.ratio": ("0.5", 6),
        "min.compaction.lag.ms": ("0", long), "min.insync.replicas": ("1", 3), "preallocate": ("false", 1), "remote.log.copy.disable": ("false", 1),
        "remote.log.delete.on.disable": ("false", 1), "remote.storage.enable": ("false", 1), "retention.bytes": ("-1", long),
        "retention.ms": ("604800000", long), "segment.bytes": ("1073741824", 3), "segment.index.bytes": ("10485760", 3), "segment.jitter.ms": ("0", long),
        "segment.ms": ("604800000", long), "unclean.leader.election.enable": ("false", 1), "oxbow.durability": ("wal", 2)}
    for version in (1, 2, 3, 4):
        error, found = describe(w, TOPIC, "t", version=version)
        assert error == 0 and set(found) == set(expected)
        for name, (value, kind) in expected.items():
            c = found[name]
            assert (c["value"], c["config_source"], c["read_only"], c["is_sensitive"]) == (value, 5, False, False), name
            topics_alone = name.split(".")[0] in ("follower", "leader", "remote")  # the broker has no property of that meaning
            assert chain(c) == [] if topics_alone else chain(c)[-1][1:] == (value, 5), name
            assert version < 3 or (c["config_type"] == kind and len(c["documentation"]) > 20), name
    assert describe(w, TOPIC, "t", ["retention.ms", "nothing"])[1].keys() == {"retention.ms"}
    # The names that Kafka 4 dropped are taken, and shown where they are set.
    assert alter(w, [(TOPIC, "t", [("message.format.version", 0, "2.8-IV1"), ("message.downconversion.enable", 0, "false"),
                                   ("message.timestamp.difference.max.ms", 0, "9")])]) == [(0, None)]
    assert len(describe(w, TOPIC, "t")[1]) == len(expected) + 3


def test_alter_configs_resets_the_rest(broker):
    with Wire(broker.port) as w:
        w.create("t", 1, {"retention.ms": "1000", "segment.bytes": "2000", "flush.ms": "7"})
        for version in versions("AlterConfigs"):
            assert replace(w, [(TOPIC, "t", {"retention.ms": "5"})], version, validate_only=True) == [(0, None)]
        assert describe(w, TOPIC, "t")[1]["segment.bytes"]["value"] == "2000"
        assert replace(w, [(TOPIC, "t", {"retention.ms": "5", "max.message.bytes": "99"}), (TOPIC, "none", {})])[0] == (0, None)
        found = describe(w, TOPIC, "t")[1]
        assert {n: c["value"] for n, c in found.items() if c["config_source"] == 1} == {"retention.ms": "5", "max.message.bytes": "99"}
        assert found["segment.bytes"]["value"] == "1073741824" and found["flush.ms"]["config_source"] == 5
        assert replace(w, [(TOPIC, "none", {})]) == [(3, "The topic 'none' does not exist.")]
        assert replace(w, [(TOPIC, "t", {"retention.ms": None, "flush.ms": None})]) == [(42, "Null value not supported for : retention.ms, flush.ms")]
        assert replace(w, [(TOPIC, "t", {"retention.ms": "x"})])[0][0] == 40
        assert replace(w, [(TOPIC, "t", {"no.such": "1"})])[0] == (40, "Unknown topic config name: no.such")
        assert [e for e, _ in replace(w, [(TOPIC, "t", {}), (TOPIC, "t", {})])] == [42, 42]
        assert describe(w, TOPIC, "t")[1]["retention.ms"]["value"] == "5"
    broker.restart(kill=True)
    with Wire(broker.port) as w:
        assert describe(w, TOPIC, "t")[1]["max.message.bytes"]["value"] == "99"
        assert w.produce("t", 0, batch([b"x" * 100]))[0] == 10
        assert replace(w, [(TOPIC, "t", {})]) == [(0, None)]
        assert w.produce("t", 0, batch([b"x" * 100]))[0] == 0


def test_incremental_alter_configs_errors(w):
    w.create("t")
    w.create("u")
    found = alter(w, [(TOPIC, "t", [("retention.ms", 0, "x")]), (TOPIC, "u", [("retention.ms", 0, "77")]), (TOPIC, "none", [("retention.ms", 0, "1")])])
    assert [e for e, _ in found] == [40, 0, 3]  # the others succeed
    assert describe(w, TOPIC, "u")[1]["retention.ms"]["value"] == "77"
    assert alter(w, [(TOPIC, "t", [("flush.ms", 0, "1"), ("flush.ms", 1, None)])]) == [(42, "Error due to duplicate config keys")]
    assert alter(w, [(TOPIC, "t", [("flush.ms", 0, None)])]) == [(42, "Null value not supported for : flush.ms")]
    assert alter(w, [(TOPIC, "t", [("flush.ms", 2, "1")])]) == [(40, "Can't APPEND to key flush.ms because its type is not LIST")]
    assert alter(w, [(TOPIC, "t", [("flush.ms", 9, "1")])])[0][0] == 42
    assert [m for _, m in alter(w, [(TOPIC, "t", []), (TOPIC, "t", [])])] == ["Each resource must appear at most once."] * 2
    assert alter(w, [(TOPIC, "t", [("min.compaction.lag.ms", 0, "10"), ("max.compaction.lag.ms", 0, "9")])])[0][0] == 40
    assert alter(w, [(3, "t", [("a", 0, "1")])])[0][0] == 42
    assert alter(w, [(GROUP, "g", [("consumer.session.timeout.ms", 0, "1")])]) == [(40, "Unknown group config name: consumer.session.timeout.ms")]
    assert alter(w, [(METRICS, "m", [("interval.ms", 0, "1")])])[0][0] == 42


def test_few_unknown_names_are_told_what_is_near(w):
    """Comparing a name with all that there are takes long, on the loop that all administration waits for."""
    names = [f"t{i}" for i in range(30)]
    topics = [{"name": n, "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": [{"name": "flush.sm", "value": "1"}]} for n in names]

    def told(messages):
        assert all(m.startswith("Unknown topic config name: flush.sm") for m in messages), messages
        return ["(nearest: flush.ms)" in m for m in messages]
    few = [True] * 8 + [False] * 22
    answer = call(w, "CreateTopics", 5, {"topics": topics, "timeout_ms": 10000, "validate_only": False})
    assert told([t["error_message"] for t in answer["topics"]]) == few
    for n in names:
        w.create(n)
    assert told([m for _, m in alter(w, [(TOPIC, n, [("flush.sm", 0, "1")]) for n in names])]) == few
    assert told([m for _, m in replace(w, [(TOPIC, n, {"flush.sm": "1"}) for n in names])]) == few


def test_broker_configs_are_described(w):
    error, found = describe(w, BROKER, "1")
    assert error == 0
    values = {n: c["value"] for n, c in found.items()}
    assert values["node.id"] == values["broker.id"] == "1" and values["log.retention.ms"] == "604800000"
    assert values["inter.broker.protocol.version"].startswith("4.") and values["log.dirs"].startswith("file://")
    assert values["log.cleaner.min.cleanable.ratio"] == "0.5" and values["min.insync.replicas"] == "1"
    assert found["listeners"]["read_only"] and found["listeners"]["config_source"] == 4
    assert not found["log.retention.ms"]["read_only"] and found["log.retention.ms"]["config_type"] == 5
    assert all(c["documentation"] and chain(c) and chain(c)[0][1] == c["value"] for c in found.values())
    assert describe(w, BROKER, "") == (0, {})  # nothing was set for all
    assert describe(w, BROKER, "2")[0] == 42 and describe(w, BROKER, "x")[0] == 42
    assert describe(w, GROUP, "g") == (0, {}) and describe(w, GROUP, "")[0] == 42
    assert describe(w, METRICS, "m") == (0, {}) and describe(w, METRICS, "")[0] == 42
    assert describe(w, 99, "x")[0] == 42 and describe(w, TOPIC, "none")[0] == 3 and describe(w, TOPIC, "a b")[0] == 17


def test_long_answers_have_an_end(brokers):
    """What is too much for one answer is refused thing by thing, and told when fewer are asked for."""
    b = brokers({"queued.max.response.bytes": "1048576"})
    with Group(b.port) as w:
        names = [f"topic-{i}" for i in range(400)]
        wanted = [{"name": n, "num_partitions": 1, "replication_factor": 1, "configs": [{"name": "retention.ms", "value": str(1000000 + i)}]} for i, n in enumerate(names)]
        made = call(w, "CreateTopics", 7, {"topics": wanted, "timeout_ms": 60000, "validate_only": False})["topics"]
        told = [t for t in made if t["configs"] is not None]
        assert {t["error_code"] for t in made} == {0} and 50 < len(told) < 400
        assert len(call(w, "Metadata", 12, {"topics": None})["topics"]) >= 400

        def configs(some):
            resources = [{"resource_type": TOPIC, "resource_name": n, "configuration_keys": None} for n in some]
            return call(w, "DescribeConfigs", 4, {"resources": resources, "include_synonyms": True, "include_documentation": True})["results"]
        answer = configs(names)
        codes = [r["error_code"] for r in answer]
        told = codes.count(0)
        assert 10 < told < 200 and codes == [0] * told + [44] * (400 - told)
        assert "ask for fewer" in answer[-1]["error_message"] and not answer[-1]["configs"]
        assert {r["error_code"] for r in configs(names[-10:])} == {0}
        assert {c["name"]: c["value"] for c in configs(names[-1:])[0]["configs"]}["retention.ms"] == "1000399"

        eventually(lambda: w.find("g")[3] == 0, 20, 0.1)
        assert set(w.commit("g", {("topic-0", 0): 1, **{(f"topic-{i}", 0): 1 for i in range(20)}}, metadata="m" * 4000).values()) == {0}
        groups = call(w, "OffsetFetch", 8, {"groups": [{"group_id": "g", "topics": None}] * 50, "require_stable": False})["groups"]
        codes = [g["error_code"] for g in groups]
        told = codes.count(0)
        assert 1 <= told < 20 and codes == [0] * told + [44] * (50 - told) and len(groups[0]["topics"]) == 20
        assert len(call(w, "DescribeGroups", 5, {"groups": ["g"] * 1000, "include_authorized_operations": False})["groups"]) == 1000  # as Kafka does


def test_dynamic_broker_configs(brokers):
    b = brokers({"log.retention.ms": "500000", "compression.gzip.level": "5", "shards": "2"})
    with Wire(b.port) as w:
        w.create("plain")
        w.create("own", 1, {"retention.ms": "3"})
        assert chain(describe(w, TOPIC, "own")[1]["retention.ms"]) == [
            ("retention.ms", "3", 1), ("log.retention.ms", "500000", 4), ("log.retention.ms", "604800000", 5)]
        assert chain(describe(w, TOPIC, "own")[1]["compression.gzip.level"]) == [("compression.gzip.level", "5", 4), ("compression.gzip.level", "-1", 5)]
        assert alter(w, [(BROKER, "", [("log.retention.ms", 0, "7000"), ("message.max.bytes", 0, "200"), ("log.flush.interval.ms", 0, "12")])]) == [(0, None)]
        assert alter(w, [(BROKER, "1", [("log.retention.ms", 0, "8000")])]) == [(0, None)]
        found = describe(w, TOPIC, "plain")[1]
        assert found["retention.ms"]["value"] == "8000" and found["retention.ms"]["config_source"] == 2
        assert chain(found["retention.ms"]) == [("log.retention.ms", "8000", 2), ("log.retention.ms", "7000", 3), ("log.retention.ms", "500000", 4),
                                                ("log.retention.ms", "604800000", 5)]
        assert (found["flush.ms"]["value"], found["flush.ms"]["config_source"]) == ("12", 3)
        assert describe(w, TOPIC, "own")[1]["retention.ms"]["value"] == "3"
        assert w.produce("plain", 0, batch([b"x" * 300]))[0] == 10  # at once, on whatever shard
        assert {n: c["value"] for n, c in describe(w, BROKER, "")[1].items()} == {
            "log.retention.ms": "7000", "message.max.bytes": "200", "log.flush.interval.ms": "12"}
        assert describe(w, BROKER, "1")[1]["log.retention.ms"]["config_source"] == 2
        # What cannot be changed, or not to that.
        assert alter(w, [(BROKER, "1", [("node.id", 0, "3")])]) == [(42, "Cannot update these configs dynamically: Set(node.id)")]
        assert alter(w, [(BROKER, "", [("no.such.thing", 0, "3")])])[0][0] == 42
        assert alter(w, [(BROKER, "2", [("log.retention.ms", 0, "3")])]) == [(42, "Unexpected broker id, expected 1, but received 2")]
        assert alter(w, [(BROKER, "x", [])]) == [(42, "Node id must be an integer, but it is: x")]
        for name, value in (("log.retention.ms", "x"), ("log.retention.ms", "-2"), ("log.cleanup.policy", "shred"), ("max.connections", "-1"),
                            ("log.cleaner.min.cleanable.ratio", "2"), ("leader.replication.throttled.rate", "-1")):
            error, message = alter(w, [(BROKER, "", [(name, 0, value)])])[0]
            assert error == 42 and name in message, (name, message)
        assert alter(w, [(BROKER, "", [("log.cleaner.min.compaction.lag.ms", 0, "10"), ("log.cleaner.max.compaction.lag.ms", 0, "9")])])[0][0] == 42
        assert alter(w, [(BROKER, "", [("log.cleanup.policy", 2, "compact")])], validate_only=True) == [(0, None)]
        assert alter(w, [(BROKER, "", [("log.cleanup.policy", 2, "compact"), ("leader.replication.throttled.rate", 0, "1000")])]) == [(0, None)]
        assert describe(w, TOPIC, "plain")[1]["cleanup.policy"]["value"] == "delete,compact"
        assert alter(w, [(BROKER, "", [("log.cleanup.policy", 3, "compact")])]) == [(0, None)]
    for kill in (True, False):
        b.restart(kill=kill)
        with Wire(b.port) as w:
            assert describe(w, TOPIC, "plain")[1]["retention.ms"]["value"] == "8000"
            assert w.produce("plain", 0, batch([b"x" * 300]))[0] == 10
            assert describe(w, BROKER, "")[1]["leader.replication.throttled.rate"]["value"] == "1000"
            answer = call(w, "CreateTopics", 5, {"topics": [{"name": f"new{kill}", "num_partitions": 1, "replication_factor": 1}], "timeout_ms": 1000})
            told = {c["name"]: (c["value"], c["config_source"]) for c in answer["topics"][0]["configs"]}
            assert told["retention.ms"] == ("8000", 2) and told["flush.ms"] == ("12", 3)
    with Wire(b.port) as w:
        assert alter(w, [(BROKER, "1", [("log.retention.ms", 1, None)])]) == [(0, None)]
        assert describe(w, TOPIC, "plain")[1]["retention.ms"]["value"] == "7000"
        assert replace(w, [(BROKER, "", {"log.retention.ms": "6000"})]) == [(0, None)]  # the others go
        assert set(describe(w, BROKER, "")[1]) == {"log.retention.ms"}
        assert w.produce("plain", 0, batch([b"x" * 300]))[0] == 0


def turned_away(port):
    try:
        with Wire(port) as w:
            return w.closed()
    except ConnectionResetError:
        return True


def test_dynamic_limits_of_the_broker(broker):
    with Wire(broker.port) as w:
        assert alter(w, [(BROKER, "1", [("max.connections", 0, "3"), ("auto.create.topics.enable", 0, "false"), ("producer.id.expiration.ms", 0, "1000")])]) == [(0, None)]
        metadata = {"topics": [{"topic_id": bytes(16), "name": "auto"}], "allow_auto_topic_creation": True}
        assert call(w, "Metadata", 12, metadata)["topics"][0]["error_code"] == 3
        with Wire(broker.port), Wire(broker.port):
            assert turned_away(broker.port)
            assert alter(w, [(BROKER, "1", [("max.connections", 1, None), ("max.connections.per.ip", 0, "4")])]) == [(0, None)]
            with Wire(broker.port) as fourth:
                assert fourth.api_versions(0)[0] == 0
                assert turned_away(broker.port)
    broker.restart()
    with Wire(broker.port) as w:
        assert call(w, "Metadata", 12, metadata)["topics"][0]["error_code"] == 3
        assert describe(w, BROKER, "1")[1]["max.connections.per.ip"]["value"] == "4"
        assert alter(w, [(BROKER, "1", [("auto.create.topics.enable", 0, "true")])]) == [(0, None)]
        assert call(w, "Metadata", 12, metadata)["topics"][0]["error_code"] == 0


def test_log_level(broker):
    with Wire(broker.port) as w:
        assert describe(w, LOGGER, "1")[1]["root"]["value"] == "INFO"
        assert alter(w, [(LOGGER, "1", [("root", 0, "ERROR")])]) == [(0, None)]
        assert describe(w, LOGGER, "1")[1]["root"]["value"] == "ERROR" and describe(w, LOGGER, "1")[1]["root"]["config_source"] == 6
        w.create("silent")
        assert alter(w, [(LOGGER, "1", [("root", 0, "INFO")])]) == [(0, None)]
        w.create("loud")
        assert broker.lines("topic=loud") and not broker.lines("topic=silent")
        assert alter(w, [(LOGGER, "1", [("kafka.server", 0, "INFO")])]) == [(40, "Logger kafka.server does not exist!")]
        assert alter(w, [(LOGGER, "1", [("root", 0, "loud")])])[0][0] == 40 and alter(w, [(LOGGER, "1", [("root", 1, None)])])[0][0] == 42
        assert alter(w, [(LOGGER, "2", [("root", 0, "INFO")])])[0][0] == 42 and replace(w, [(LOGGER, "1", {"root": "INFO"})])[0][0] == 42
        assert describe(w, LOGGER, "")[0] == 42


def test_list_config_resources(w):
    w.create("b")
    w.create("a")
    assert call(w, "ListConfigResources", 0, {})["config_resources"] == []

    def listed(types):
        return sorted((c["resource_type"], c["resource_name"]) for c in call(w, "ListConfigResources", 1, {"resource_types": types})["config_resources"])
    assert listed([]) == [(TOPIC, "a"), (TOPIC, "b"), (BROKER, "1"), (LOGGER, "1")]
    assert listed([TOPIC]) == [(TOPIC, "a"), (TOPIC, "b")] and listed([METRICS, GROUP]) == []
    assert call(w, "ListConfigResources", 1, {"resource_types": [7]})["error_code"] == 35


def test_configs_with_clients(broker):
    server = f"127.0.0.1:{broker.port}"
    admin = AdminClient({"bootstrap.servers": server})
    with Wire(broker.port) as w:
        w.create("t", 1, {"segment.bytes": "2000"})
    own = ConfigResource(ConfigResource.Type.TOPIC, "t", set_config={"retention.ms": "4000"})
    admin.alter_configs([own])[own].result(20)
    found = admin.describe_configs([own])[own].result(20)
    assert found["retention.ms"].value == "4000" and found["segment.bytes"].is_default
    assert [s.name for s in found["retention.ms"].synonyms.values()][0] == "retention.ms"
    self = ConfigResource(ConfigResource.Type.BROKER, "1")
    assert admin.describe_configs([self])[self].result(20)["log.retention.ms"].value == "604800000"
    old = KafkaAdminClient(bootstrap_servers=server)
    old.alter_configs([OldResource(OldType.TOPIC, "t", {"retention.ms": "5000"})])
    old.alter_configs([OldResource(OldType.BROKER, "1", {"log.segment.bytes": "30000"})])
    old.close()
    found = admin.describe_configs([own])[own].result(20)
    assert found["retention.ms"].value == "5000" and found["segment.bytes"].value == "30000"


# --- What the cluster tells of itself.

def test_describe_cluster(w):
    for version in versions("DescribeCluster"):
        found = call(w, "DescribeCluster", version, {"include_cluster_authorized_operations": True})
        assert found["error_code"] == 0 and found["controller_id"] == 1 and len(found["cluster_id"]) == 22
        assert [(x["broker_id"], x["host"]) for x in found["brokers"]] == [(1, "127.0.0.1")]
        assert found["cluster_authorized_operations"] > 0
    assert call(w, "DescribeCluster", 1, {"endpoint_type": 2})["error_code"] == 114
    assert call(w, "DescribeCluster", 2, {"endpoint_type": 9})["error_code"] == 115
    assert call(w, "DescribeCluster", 0, {})["cluster_authorized_operations"] == -2**31


def test_log_dirs(brokers):
    b = brokers({"shards": "2"})
    with Wire(b.port) as w:
        w.create("t", 3)
        w.create("u")
        w.produce("t", 1, batch([b"x" * 1000]))

        def dirs(topics, version=4):
            found = call(w, "DescribeLogDirs", version, {"topics": topics})
            assert len(found["results"]) == 1 and found["results"][0]["error_code"] == 0
            assert found["results"][0]["log_dir"].startswith("file://")
            return {(t["name"], p["partition_index"]): p["partition_size"] for t in found["results"][0]["topics"] for p in t["partitions"]}
        for version in versions("DescribeLogDirs"):
            assert set(dirs(None, version)) == {("t", 0), ("t", 1), ("t", 2), ("u", 0)}
        found = dirs([{"topic": "t", "partitions": [1, 0, 9]}, {"topic": "none", "partitions": [0]}])
        assert set(found) == {("t", 0), ("t", 1)} and found["t", 0] == 0 and 1000 < found["t", 1] < 1200
        assert dirs([]) == {}
        assert delete(w, [("t", 1, -1)]) == [(0, 1)]
        assert dirs(None)["t", 1] == 0


def test_topic_partitions_page_by_page(w):
    for name, count in (("c", 3), ("a", 2), ("b", 4)):
        w.create(name, count)

    def page(topics=(), limit=2000, cursor=None):
        at = cursor and {"topic_name": cursor[0], "partition_index": cursor[1]}
        found = call(w, "DescribeTopicPartitions", 0, {"topics": [{"name": t} for t in topics], "response_partition_limit": limit, "cursor": at})
        more = found["next_cursor"]
        return ([(t["name"], t["error_code"], [p["partition_index"] for p in t["partitions"]]) for t in found["topics"]],
                more and (more["topic_name"], more["partition_index"]))
    assert page() == ([("a", 0, [0, 1]), ("b", 0, [0, 1, 2, 3]), ("c", 0, [0, 1, 2])], None)
    assert page(["c", "none", "a", "c"]) == ([("a", 0, [0, 1]), ("c", 0, [0, 1, 2]), ("none", 3, [])], None)
    for limit in range(1, 10):
        seen, cursor = [], None
        for _ in range(20):
            topics, cursor = page(limit=limit, cursor=cursor)
            got = [(name, p) for name, _, numbers in topics for p in numbers]
            assert 0 < len(got) <= limit
            seen += got
            if not cursor:
                break
        assert seen == [(n, p) for n, c in (("a", 2), ("b", 4), ("c", 3)) for p in range(c)], limit
    assert page(limit=0)[0] == [("a", 0, [0])]  # at least one
    assert page(cursor=("aa", 1))[0][0] == ("b", 0, [0, 1, 2, 3])  # the cursor's topic has gone
    assert page(cursor=("b", 9))[0] == [("b", 0, []), ("c", 0, [0, 1, 2])]
    assert page(["a", "c"], cursor=("b", 2)) == ([("a", 42, []), ("c", 42, [])], None)  # no page of this request ends there
    assert page(["a"], cursor=("a", -1)) == ([("a", 42, [])], None)
    found = call(w, "DescribeTopicPartitions", 0, {"topics": [{"name": "a"}]})["topics"][0]
    assert found["topic_id"] != bytes(16) and found["partitions"][0]["replica_nodes"] == found["partitions"][0]["isr_nodes"] == [1]
    assert found["partitions"][0]["eligible_leader_replicas"] == [] and not found["is_internal"]


def test_leader_epochs(broker):
    def epochs(wanted, version=4):
        topics = [{"topic": "t", "partitions": [{"partition": p, "leader_epoch": e, **({"current_leader_epoch": c} if version >= 2 else {})} for p, c, e in wanted]}]
        values = {"topics": topics, **({"replica_id": -2} if version >= 3 else {})}
        found = call(broker.port, "OffsetForLeaderEpoch", version, values)["topics"][0]["partitions"]
        return [(x["error_code"], x.get("leader_epoch"), x["end_offset"]) for x in found]
    with Wire(broker.port) as w:
        w.create("t")
    for n in range(3):  # three records in epoch 0, none in epoch 1, three in epoch 2
        if n != 1:
            with Wire(broker.port) as w:
                assert w.produce("t", 0, batch([b"x"] * 3))[0] == 0
        broker.restart(kill=n == 0)
    assert epochs([(0, 3, 0), (0, 3, 1), (0, -1, 2), (0, 3, 3), (0, 3, 4)]) == [(0, 0, 3), (0, 0, 3), (0, 2, 6), (0, 3, 6), (0, -1, -1)]
    assert epochs([(0, 2, 0), (0, 4, 0), (1, -1, 0), (0, -1, -1)]) == [(74, -1, -1), (75, -1, -1), (3, -1, -1), (0, -1, -1)]
    for version in versions("OffsetForLeaderEpoch"):
        assert epochs([(0, -1, 0)], version) == [(0, 0 if version >= 1 else None, 3)]


def test_producers(broker):
    def producers(partition=0):
        found = call(broker.port, "DescribeProducers", 0, {"topics": [{"name": "t", "partition_indexes": [partition]}]})["topics"][0]["partitions"][0]
        return found["error_code"], found["active_producers"]
    with Wire(broker.port) as w:
        w.create("t")
        assert producers() == (0, [])
        pid, epoch = w.producer_id()
        now = int(time.time() * 1000)
        for first in (0, 3):
            assert w.produce("t", 0, batch([b"x"] * 3, pid, epoch, first, timestamp=now + first))[0] == 0
    expected = {"producer_id": pid, "producer_epoch": epoch, "last_sequence": 5, "last_timestamp": now + 3, "coordinator_epoch": -1, "current_txn_start_offset": -1}
    assert producers() == (0, [expected])
    broker.restart(kill=True)
    error, found = producers()
    assert error == 0 and {**found[0], "last_timestamp": 0} == {**expected, "last_timestamp": 0}
    assert producers(1)[0] == 3
    answer = call(broker.port, "DescribeProducers", 0, {"topics": [{"name": "t", "partition_indexes": [0, 0]}, {"name": "none", "partition_indexes": [0]}]})
    assert [p["error_code"] for t in answer["topics"] for p in t["partitions"]] == [0, 42, 3]


def test_elections_and_reassignments(w):
    w.create("t", 2)
    for version in versions("ElectLeaders"):
        found = call(w, "ElectLeaders", version, {"topic_partitions": [{"topic": "t", "partitions": [0, 5]}, {"topic": "none", "partitions": [0]}]})
        assert [[p["error_code"] for p in t["partition_result"]] for t in found["replica_election_results"]] == [[84, 3], [3]]
        everything = call(w, "ElectLeaders", version, {"topic_partitions": None})
        assert [(t["topic"], t["partition_result"]) for t in everything["replica_election_results"]] == [("t", [])]
    assert call(w, "ElectLeaders", 2, {"election_type": 1, "topic_partitions": [{"topic": "t", "partitions": [1]}]})["error_code"] == 0
    assert call(w, "ElectLeaders", 2, {"election_type": 2, "topic_partitions": []})["error_code"] == 42
    for version in versions("AlterPartitionReassignments"):
        wanted = [{"partition_index": 0, "replicas": [1]}, {"partition_index": 1, "replicas": None}, {"partition_index": 0, "replicas": [1, 2]},
                  {"partition_index": 0, "replicas": []}, {"partition_index": 2, "replicas": [1]}]
        found = call(w, "AlterPartitionReassignments", version, {"topics": [{"name": "t", "partitions": wanted}, {"name": "none", "partitions": wanted[:1]}]})
        assert found["error_code"] == 0
        assert [[p["error_code"] for p in t["partitions"]] for t in found["responses"]] == [[0, 85, 39, 39, 3], [3]]
    assert call(w, "ListPartitionReassignments", 0, {"topics": None})["topics"] == []
    assert call(w, "ListPartitionReassignments", 0, {"topics": [{"name": "t", "partition_indexes": [0]}]}) == {
        "throttle_time_ms": 0, "error_code": 0, "error_message": None, "topics": []}


def test_grown_topic_reaches_a_waiting_consumer(broker):
    """A consumer that knows the topic takes the new partitions up when it looks at the metadata again."""
    server = f"127.0.0.1:{broker.port}"
    with Wire(broker.port) as w:
        w.create("t", 1)
        consumer = kafka.KafkaConsumer(bootstrap_servers=server, metadata_max_age_ms=500, auto_offset_reset="earliest")
        assert consumer.partitions_for_topic("t") == {0}
        assert grow(w, [("t", 3, None)]) == {"t": (0, None)}

        def seen():
            consumer.topics()
            return consumer.partitions_for_topic("t") == {0, 1, 2}
        eventually(seen, 30, what="the new partitions")
        consumer.close()
