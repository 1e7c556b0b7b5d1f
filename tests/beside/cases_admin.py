"""Topics, configurations and what else administrators ask for."""

import compare
from cases_common import describe, fill, gone, records, settle, topic

NAMES = ["", ".", "..", "with space", "a/b", "x" * 249, "x" * 250]
# The configurations of brokers that tools read, and what is asked of one that has been left alone.
BROKER = ["message.max.bytes", "log.retention.ms", "log.retention.hours", "log.retention.bytes", "log.segment.bytes", "num.partitions",
          "default.replication.factor", "min.insync.replicas", "auto.create.topics.enable", "compression.type", "log.cleanup.policy",
          "log.roll.ms", "log.roll.hours", "delete.topic.enable", "node.id", "broker.id", "unclean.leader.election.enable",
          "log.message.timestamp.type", "offsets.topic.num.partitions", "offsets.retention.minutes", "group.max.session.timeout.ms",
          "transaction.max.timeout.ms", "no.such.thing"]


def create_topics(c):
    for v in c.versions("CreateTopics"):
        def create(note, _v=v, **fields):
            fields.setdefault("num_partitions", 1)
            fields.setdefault("replication_factor", 1)
            more = {"validate_only": fields.pop("validate_only", False)}
            copies = fields.pop("copies", 1)
            answer = c.call(note, "CreateTopics", _v, topics=[fields] * copies, timeout_ms=20000, **more)
            for t in answer.get("topics", []):
                c.learn(t.get("topic_id"), f"id of {t['name']}")
            return answer
        name = f"made-{v}"
        if v:
            create("only checked", name=name, validate_only=True)
        create("made", name=name, num_partitions=2)
        settle(c, name, 2)
        create("exists", name=name)
        create("exists, only checked", name=name, validate_only=True)
        create("twice", name=f"twice-{v}", copies=2)
        for n in (0, -1, -2, 2_000_000):
            if n < 100:
                create(f"{n} partitions", name=f"count-{v}-{n}", num_partitions=n)
        for n in (0, -1, -2, 2):
            create(f"{n} replicas", name=f"replicas-{v}-{n}", replication_factor=n)
        for bad in NAMES:
            create(f"name {bad[:3]!r} of {len(bad)}", name=bad, validate_only=True)
        if v < 5:
            create("null name", name=None)
        create("config", name=f"config-{v}", configs=[{"name": "retention.ms", "value": "12345"}, {"name": "cleanup.policy", "value": "compact,delete"}])
        for key, value in (("no.such", "1"), ("retention.ms", "x"), ("retention.ms", "-2"), ("cleanup.policy", "never"), ("retention.ms", None),
                           ("", "1"), ("max.message.bytes", "-1"), ("compression.type", "rar"), ("segment.bytes", "1"), ("preallocate", "maybe"),
                           ("min.insync.replicas", "0"), ("message.timestamp.type", "Now"), ("retention.ms", " 5 "), ("preallocate", "TRUE")):
            create(f"config {key!r} = {value!r}", name=f"bad-config-{v}", configs=[{"name": key, "value": value}], validate_only=True)
        create("config twice", name=f"bad-config-{v}", configs=[{"name": "retention.ms", "value": "1"}, {"name": "retention.ms", "value": "2"}], validate_only=True)

        def assign(note, *lists, _v=v, **more):
            rows = [{"partition_index": i, "broker_ids": ids} for i, ids in lists]
            create(note, **{"name": f"assigned-{_v}", "num_partitions": -1, "replication_factor": -1, "assignments": rows, **more})
        assign("assigned", (0, [1]), (1, [1]))
        assign("assigned to nobody", (0, [99]), name=f"assigned-b-{v}")
        assign("assigned with a gap", (0, [1]), (2, [1]), name=f"assigned-c-{v}")
        assign("assigned to the same twice", (0, [1, 1]), name=f"assigned-d-{v}")
        assign("assigned and counted", (0, [1]), name=f"assigned-e-{v}", num_partitions=1, replication_factor=1)
        assign("assigned empty", (0, []), name=f"assigned-f-{v}")
        assign("a partition twice", (0, [1]), (0, [1]), name=f"assigned-g-{v}")
        create("with a dot", name=f"clash.{v}")
        create("with an underscore", name=f"clash_{v}")
        c.call("nothing", "CreateTopics", v, topics=[], timeout_ms=1000)
        create("internal name", name="__consumer_offsets", validate_only=True)


def delete_topics(c):
    for v in c.versions("DeleteTopics"):
        def delete(note, names, _v=v, **more):
            fields = {"topic_names": names} if _v < 6 else {"topics": [{"name": n} for n in names]}
            c.call(note, "DeleteTopics", _v, timeout_ms=20000, **{**fields, **more})
        name = f"gone-{v}"
        topic(c, name)
        delete("deleted", [name])
        gone(c, name)
        delete("again", [name])
        delete("unknown and bad", ["nobody", "", "a b"])
        topic(c, name)
        delete("twice", [name, name])
        delete("none", [])
        if v >= 6:
            kept = topic(c, f"kept-{v}")
            delete("unknown id", [], topics=[{"topic_id": b"\x07" * 16}])
            delete("neither name nor id", [], topics=[{}])
            delete("name and id", [], topics=[{"name": f"kept-{v}", "topic_id": kept}])
            delete("by name and by id", [], topics=[{"name": f"kept-{v}"}, {"topic_id": kept}])
            c.say("is it there still", describe(c, f"kept-{v}")["error_code"])
            delete("by id", [], topics=[{"topic_id": kept}])


def resource(kind, name, keys=None):
    return {"resource_type": kind, "resource_name": name, "configuration_keys": keys}


def describe_configs(c):
    topic(c, "configs", configs={"retention.ms": "5000", "cleanup.policy": "compact"})
    for v in c.versions("DescribeConfigs"):
        def ask(note, *resources, _v=v, **more):
            c.call(note, "DescribeConfigs", _v, resources=list(resources), **more)
        ask("topic", resource(2, "configs"))
        ask("topic with synonyms", resource(2, "configs"), include_synonyms=True, include_documentation=True)
        ask("some", resource(2, "configs", ["retention.ms", "no.such", "segment.ms"]), include_synonyms=True)
        ask("no keys", resource(2, "configs", []))
        ask("a key twice", resource(2, "configs", ["retention.ms", "retention.ms"]))
        ask("unknown topic", resource(2, "nobody"), resource(2, "configs", ["retention.ms"]))
        ask("bad name", resource(2, "a b"), resource(2, ""))
        ask("a topic twice", resource(2, "configs", ["retention.ms"]), resource(2, "configs", ["segment.ms"]))
        ask("broker", resource(4, "1", BROKER), include_synonyms=True)
        ask("broker's default", resource(4, "", BROKER), include_synonyms=True)
        ask("another broker", resource(4, "2"))
        ask("no broker", resource(4, "x"))
        ask("unknown kinds", resource(0, "x"), resource(1, "x"), resource(99, "x"))
        ask("nothing")


def change(kind, name, *pairs):
    keys = ("name", "config_operation", "value") if pairs and len(pairs[0]) == 3 else ("name", "value")
    return {"resource_type": kind, "resource_name": name, "configs": [dict(zip(keys, p)) for p in pairs]}


def configs_of(c, note, name):
    """What has been set, and nothing of the defaults. Kafka's brokers learn of changes in their order, a moment after the answer: what
    was asked for is there when a change behind it is."""
    c.marks = getattr(c, "marks", 0) + 1
    mark = change(2, "marks", ("flush.ms", 0, str(c.marks)))
    c.ask("IncrementalAlterConfigs", 0, resources=[mark])

    def there():
        answer = c.ask("DescribeConfigs", 1, resources=[resource(2, "marks", ["flush.ms"])])
        return answer["results"][0]["configs"][0]["value"] == str(c.marks)
    compare.wait_for(there)
    answer = c.ask("DescribeConfigs", 1, resources=[resource(2, name)])
    c.say(note, sorted((x["name"], x["value"]) for x in answer["results"][0]["configs"] if x["config_source"] == 1))


BAD = (("no.such", "1"), ("retention.ms", "x"), ("retention.ms", "-2"), ("cleanup.policy", "never"), ("retention.ms", None), ("", "1"))


def alter_configs(c):
    # A topic twice and unknown kinds are not sent: Kafka never answers them.
    topic(c, "marks")
    topic(c, "alter", configs={"retention.ms": "5000"})
    for v in c.versions("AlterConfigs"):
        def alter(note, *resources, _v=v, **more):
            c.call(note, "AlterConfigs", _v, resources=list(resources), **more)
            configs_of(c, f"after {note}", "alter")
        alter("sets", change(2, "alter", ("segment.ms", "70000")))
        alter("sets two", change(2, "alter", ("retention.ms", "70000"), ("cleanup.policy", "compact")))
        alter("only checked", change(2, "alter", ("retention.ms", "1")), validate_only=True)
        for key, value in BAD:
            alter(f"{key!r} = {value!r}", change(2, "alter", (key, value)))
        alter("a key twice", change(2, "alter", ("retention.ms", "1"), ("retention.ms", "2")))
        alter("resets", change(2, "alter"))
        alter("unknown topic", change(2, "nobody", ("retention.ms", "1")))
        alter("another broker", change(4, "2", ("message.max.bytes", "100000")))
        alter("broker, read only", change(4, "1", ("node.id", "7")))
        alter("nothing")


def incremental_alter_configs(c):
    topic(c, "marks")
    for v in c.versions("IncrementalAlterConfigs"):
        name = f"incremental-{v}"
        topic(c, name, configs={"retention.ms": "5000"})

        def alter(note, *resources, _v=v, _name=name, **more):
            c.call(note, "IncrementalAlterConfigs", _v, resources=list(resources), **more)
            configs_of(c, f"after {note}", _name)
        alter("sets", change(2, name, ("segment.ms", 0, "70000"), ("cleanup.policy", 0, "compact")))
        alter("appends", change(2, name, ("cleanup.policy", 2, "delete")))
        alter("appends again", change(2, name, ("cleanup.policy", 2, "delete")))
        alter("subtracts", change(2, name, ("cleanup.policy", 3, "compact")))
        alter("subtracts what is not there", change(2, name, ("cleanup.policy", 3, "compact")))
        alter("appends to a number", change(2, name, ("segment.ms", 2, "7")))
        alter("subtracts all", change(2, name, ("cleanup.policy", 3, "delete")))
        alter("deletes", change(2, name, ("segment.ms", 1, None)))
        alter("deletes again", change(2, name, ("segment.ms", 1, None)))
        alter("deletes with a value", change(2, name, ("retention.ms", 1, "x")))
        alter("sets empty", change(2, name, ("cleanup.policy", 0, "")))
        alter("unknown operation", change(2, name, ("retention.ms", 9, "1")))
        alter("only checked", change(2, name, ("retention.ms", 0, "1")), validate_only=True)
        for key, value in BAD:
            alter(f"{key!r} = {value!r}", change(2, name, (key, 0, value)))
        alter("deletes an unknown one", change(2, name, ("no.such", 1, None)))
        alter("a key twice", change(2, name, ("retention.ms", 0, "1"), ("retention.ms", 0, "2")))
        alter("a topic twice", change(2, name, ("retention.ms", 0, "1")), change(2, name, ("segment.ms", 0, "70000")))
        alter("good and bad", change(2, name, ("retention.ms", 0, "100")), change(2, "nobody", ("retention.ms", 0, "1")))
        alter("a good one beside a bad one", change(2, name, ("retention.ms", 0, "200"), ("segment.ms", 0, "x")))
        alter("bad kinds", change(0, "x"), change(99, "x"), change(2, "a b"), change(2, ""))
        alter("another broker", change(4, "2", ("message.max.bytes", 0, "100000")))
        alter("broker, read only", change(4, "1", ("node.id", 0, "7")))
        alter("nothing")


def create_partitions(c):
    find_coordinator(c)
    topic(c, "grows")
    for v in c.versions("CreatePartitions"):
        def grow(note, name="grows", count=1, assignments=None, copies=1, **more):
            c.call(note, "CreatePartitions", v, timeout_ms=20000, topics=[{"name": name, "count": count, "assignments": assignments}] * copies, **more)  # noqa: B023
        now = v + 1
        for count in (now, now - 1, 0, -1):
            grow(f"{count - now:+}", count=count)
        grow("only checked", count=now + 1, validate_only=True)
        grow("one more", count=now + 1)
        settle(c, "grows", now + 1)
        grow("unknown", name="nobody", count=2)
        grow("bad name", name="a b", count=2)
        grow("internal", name="__consumer_offsets", count=100, validate_only=True)
        grow("twice", count=now + 2, copies=2)
        for note, rows in (("assigned to nobody", [[9]]), ("assigned too few", []), ("assigned too many", [[1], [1]]), ("assigned twice", [[1, 1]]),
                           ("assigned empty", [[]]), ("assigned", [[1]])):
            grow(note, count=now + 2, assignments=[{"broker_ids": r} for r in rows], validate_only=True)
        c.call("nothing", "CreatePartitions", v, timeout_ms=1000, topics=[])


def find_coordinator(c):
    """There is __consumer_offsets when this is over."""
    compare.wait_for(lambda: c.ask("FindCoordinator", 1, key="warm")["error_code"] == 0)


def delete_records(c):
    find_coordinator(c)
    topic(c, "cut")
    topic(c, "cut-compact", configs={"cleanup.policy": "compact"})
    topic(c, "cut-both", configs={"cleanup.policy": "compact,delete"})
    for name in ("cut", "cut-compact", "cut-both"):
        for _ in range(4):
            fill(c, name, records([(b"k", b"v")] * 3))
    for v in c.versions("DeleteRecords"):
        def cut(note, offset, name="cut", partition=0):
            c.call(note, "DeleteRecords", v, timeout_ms=10000,  # noqa: B023
                   topics=[{"name": name, "partitions": [{"partition_index": partition, "offset": offset}]}])
        cut("forward", 2 + v)
        cut("back", 1)
        cut("beyond", 100)
        cut("negative", -2)
        cut("compacted", 1, "cut-compact")
        cut("compacted and deleted", 1, "cut-both")
        cut("unknown", 0, "nobody")
        cut("no such partition", 0, partition=3)
        cut("internal", 0, "__consumer_offsets")
        c.call("earliest", "ListOffsets", 1, replica_id=-1, topics=[{"name": "cut", "partitions": [{"partition_index": 0, "timestamp": -2}]}])
        if v == max(c.versions("DeleteRecords")):
            cut("all", -1)
            cut("all again", -1)
        c.call("nothing", "DeleteRecords", v, timeout_ms=1000, topics=[])


def describe_cluster(c):
    for v in c.versions("DescribeCluster"):
        c.call("plain", "DescribeCluster", v)
        c.call("operations", "DescribeCluster", v, include_cluster_authorized_operations=True)
        if v >= 1:
            for kind in (2, 0, 9):
                c.call(f"endpoints {kind}", "DescribeCluster", v, endpoint_type=kind)
        if v >= 2:
            c.call("fenced too", "DescribeCluster", v, include_fenced_brokers=True)


def describe_log_dirs(c):
    topic(c, "dirs", 2)
    fill(c, "dirs", records([(b"k", b"v")]))
    for v in c.versions("DescribeLogDirs"):
        def ask(note, *topics, _v=v):
            c.call(note, "DescribeLogDirs", _v, topics=list(topics))
        ask("one", {"topic": "dirs", "partitions": [0]})
        ask("empty partition", {"topic": "dirs", "partitions": [1]})
        ask("no such partition", {"topic": "dirs", "partitions": [7]})
        ask("unknown", {"topic": "nobody", "partitions": [0]})
        ask("none of it", {"topic": "dirs", "partitions": []})
        ask("nothing")


def describe_topic_partitions(c):
    for name in ("pages-a", "pages-b"):
        topic(c, name, 3)
    names = [{"name": "pages-a"}, {"name": "pages-b"}]
    for v in c.versions("DescribeTopicPartitions"):
        def ask(note, topics, _v=v, **more):
            c.call(note, "DescribeTopicPartitions", _v, topics=topics, **more)
        ask("two", names)
        ask("unknown", [{"name": "nobody"}, {"name": "pages-a"}])
        ask("bad name", [{"name": "a b"}, {"name": ""}])
        ask("twice", [names[0], names[0]])
        for limit in (1, 3, 4, 0, -1):
            ask(f"limit {limit}", names, response_partition_limit=limit)
        for where, index in (("pages-a", 2), ("pages-b", 0), ("pages-b", 9), ("pages-zz", 0), ("aaa", 0), ("pages-a", -1), ("nobody", 0)):
            ask(f"from {where} {index}", names, cursor={"topic_name": where, "partition_index": index})


def describe_producers(c):
    topic(c, "producers")
    for v in c.versions("DescribeProducers"):
        for name, partition in (("producers", 0), ("producers", 1), ("nobody", 0), ("a b", 0)):
            c.call(f"{name} {partition}", "DescribeProducers", v, topics=[{"name": name, "partition_indexes": [partition]}])
        c.call("nothing", "DescribeProducers", v, topics=[])


def elect_leaders(c):
    topic(c, "elect", 2)
    for v in c.versions("ElectLeaders"):
        for kind in (0, 1, 7) if v >= 1 else (0,):
            for name, partitions in (("elect", [0, 1]), ("elect", [5]), ("nobody", [0]), ("elect", [])):
                c.call(f"{name} {partitions}, kind {kind}", "ElectLeaders", v, election_type=kind, topic_partitions=[{"topic": name, "partitions": partitions}],
                       timeout_ms=10000)
            c.call(f"nothing, kind {kind}", "ElectLeaders", v, election_type=kind, topic_partitions=[], timeout_ms=10000)
        c.call("all", "ElectLeaders", v, topic_partitions=None, timeout_ms=10000)


def reassignments(c):
    topic(c, "moves", 2)
    for v in c.versions("AlterPartitionReassignments"):
        for name, partition, replicas in (("moves", 0, [1]), ("moves", 0, [2]), ("moves", 0, [1, 1]), ("moves", 0, []), ("moves", 0, None), ("moves", 9, [1]),
                                          ("nobody", 0, [1]), ("moves", 0, [-1])):
            c.call(f"{name} {partition} to {replicas}", "AlterPartitionReassignments", v, timeout_ms=10000,
                   topics=[{"name": name, "partitions": [{"partition_index": partition, "replicas": replicas}]}])
        c.call("nothing", "AlterPartitionReassignments", v, topics=[])
    for v in c.versions("ListPartitionReassignments"):
        for name, partitions in (("moves", [0, 1]), ("moves", [9]), ("nobody", [0]), ("moves", [])):
            c.call(f"{name} {partitions}", "ListPartitionReassignments", v, topics=[{"name": name, "partition_indexes": partitions}])
        c.call("all", "ListPartitionReassignments", v, topics=None)
        c.call("none", "ListPartitionReassignments", v, topics=[])


def list_config_resources(c):
    topic(c, "resources")
    for v in c.versions("ListConfigResources"):
        c.call("client metrics", "ListConfigResources", v, **({"resource_types": [16]} if v else {}))
        if v:
            for kinds in ([4], [8], [32], [99], [0], [16, 32]):
                c.call(f"kinds {kinds}", "ListConfigResources", v, resource_types=kinds)


CASES = [create_topics, delete_topics, describe_configs, alter_configs, incremental_alter_configs, create_partitions, delete_records,
         describe_cluster, describe_log_dirs, describe_topic_partitions, describe_producers, elect_leaders, reassignments, list_config_resources]
