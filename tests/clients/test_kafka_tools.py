"""Kafka's own command-line tools, from its jars. All steps of a release run in one Java machine, in order; each is a test that looks at the
exit status and at what was written. Where ours is meant to answer otherwise than a Kafka does, NOT_KAFKA says why."""

import functools
import json
import os
import re
import subprocess

import pytest

import family as families
import harness
import maven
import versions

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, "java", "ToolRunner.java")
TOOLS = "org.apache.kafka.tools."
CLASSES = {
    "topics": TOOLS + "TopicCommand", "configs": "kafka.admin.ConfigCommand", "console-producer": TOOLS + "ConsoleProducer",
    "console-consumer": TOOLS + "consumer.ConsoleConsumer", "consumer-groups": TOOLS + "consumer.group.ConsumerGroupCommand",
    "get-offsets": TOOLS + "GetOffsetShell", "delete-records": TOOLS + "DeleteRecordsCommand", "log-dirs": TOOLS + "LogDirsCommand",
    "broker-api-versions": TOOLS + "BrokerApiVersionsCommand", "verifiable-producer": TOOLS + "VerifiableProducer",
    "verifiable-consumer": TOOLS + "VerifiableConsumer", "producer-perf-test": TOOLS + "ProducerPerformance",
    "consumer-perf-test": TOOLS + "ConsumerPerformance", "leader-election": TOOLS + "LeaderElectionCommand",
    "reassign-partitions": TOOLS + "reassign.ReassignPartitionsCommand", "cluster": TOOLS + "ClusterTool", "features": TOOLS + "FeatureCommand",
    "metadata-quorum": TOOLS + "MetadataQuorumCommand", "transactions": TOOLS + "TransactionsCommand", "client-metrics": TOOLS + "ClientMetricsCommand",
    "groups": TOOLS + "GroupsCommand", "share-groups": TOOLS + "consumer.group.ShareGroupCommand", "acls": TOOLS + "AclCommand",
}
OLD_CLASSES = {"console-producer": "kafka.tools.ConsoleProducer", "broker-api-versions": "kafka.admin.BrokerApiVersionsCommand",
               "acls": "kafka.admin.AclCommand"}
ADDRESS_FIRST = {"metadata-quorum", "features", "transactions"}  # subcommands come after it
T, G, LIVE = "tools", "tools-group", "tools-live"  # LIVE: a topic with one partition, and a group that has a member
HASH = functools.reduce(lambda h, c: (h * 31 + ord(c)) % 2**32, G, 0)  # Java's of a string
OFFSETS_PARTITION = min(HASH, 2**32 - HASH) % 50
OFFSETS = f"--topic __consumer_offsets --partition {OFFSETS_PARTITION} --offset earliest --timeout-ms 2000 --formatter " + TOOLS + "consumer."
MEMBERS = rf"{LIVE}\s+the-member\S*\s+/?127.0.0.1\s+the-member\s+1"
DYNAMIC = "log.retention.ms=1234567 sensitive=false synonyms=\\{DYNAMIC_BROKER_CONFIG:log.retention.ms=1234567, DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=2345678, "

# (name, tool, arguments, what it must write, by regular expression, what it reads or how it runs): the status must be 0 but where the
# pattern says `status N`. Arguments in capitals are files, see FILES. How it runs: see ToolRunner.java.
STEPS = [
    ("create", "topics", f"--create --topic {T} --partitions 3 --config retention.ms=7654321", rf"Created topic {T}"),
    ("create-again", "topics", f"--create --topic {T}", r"status 1(?s:.*)already exists"),
    ("create-if-not-exists", "topics", f"--create --topic {T} --if-not-exists", ""),
    ("create-live", "topics", f"--create --topic {LIVE} --replica-assignment 1", f"Created topic {LIVE}"),
    ("create-bad", "topics", f"--create --topic {T}-bad --config no.such=1", r"status 1(?s:.*)no.such"),
    ("live", "console-consumer", f"--topic {LIVE} --group {LIVE} --consumer-property client.id=the-member", "", "&"),
    ("list", "topics", "--list", rf"(?m)^{T}$"),
    ("describe", "topics", f"--describe --topic {T}", r"PartitionCount: 3\s+ReplicationFactor: 1\s+Configs:.*retention.ms=7654321(?s:.*)Partition: 2\s+Leader: 1\s+Replicas: 1\s+Isr: 1"),
    ("describe-unknown", "topics", "--describe --topic nowhere", "status 1(?s:.*)does not exist"),
    ("describe-overrides", "topics", "--describe --topics-with-overrides", rf"(?m)^Topic: {T}\s.*retention.ms=7654321"),
    ("under-replicated", "topics", "--describe --under-replicated-partitions", r"(?s)status 0(?!.*Partition:)"),
    ("unavailable", "topics", "--describe --unavailable-partitions", r"(?s)status 0(?!.*Partition:)"),
    ("add-partitions", "topics", f"--alter --topic {T} --partitions 4", ""),
    ("fewer-partitions", "topics", f"--alter --topic {T} --partitions 2", "status 1(?s:.*)currently has 4 partition.*2 would not be an increase"),
    ("configs-describe", "configs", f"--describe --entity-type topics --entity-name {T}", "retention.ms=7654321 sensitive=false synonyms=\\{DYNAMIC_TOPIC_CONFIG:retention.ms=7654321"),
    ("configs-describe-all", "configs", f"--describe --all --entity-type topics --entity-name {T}", "(?s:.*)max.message.bytes=1048588.*DEFAULT_CONFIG:message.max.bytes=1048588"),
    ("configs-alter", "configs", f"--alter --entity-type topics --entity-name {T} --add-config max.message.bytes=99999,cleanup.policy=[compact,delete] --delete-config retention.ms", f"Completed updating config for topic {T}"),
    ("configs-altered", "configs", f"--describe --entity-type topics --entity-name {T}", r"(?s)(?!.*retention.ms)(?=.*cleanup.policy=(compact,delete|delete,compact) ).*max.message.bytes=99999"),
    ("configs-bad", "configs", f"--alter --entity-type topics --entity-name {T} --add-config retention.ms=x", r"status 1(?s:.*)InvalidConfigurationException"),
    ("configs-delete", "configs", f"--alter --entity-type topics --entity-name {T} --delete-config max.message.bytes,cleanup.policy", "Completed"),
    ("broker-configs", "configs", "--describe --all --entity-type brokers --entity-name 1", r"(?s)(?!.*\n\s*=).*\n\s*message.max.bytes=1048588 "),
    ("broker-configs-default", "configs", "--alter --entity-type brokers --entity-default --add-config log.retention.ms=2345678,max.connections=5000", "Completed updating default config for brokers"),
    ("broker-configs-set", "configs", "--alter --entity-type brokers --entity-name 1 --add-config log.retention.ms=1234567", "Completed updating config for broker 1"),
    ("broker-configs-shown", "configs", "--describe --entity-type brokers --entity-name 1", DYNAMIC),
    ("broker-configs-shown-default", "configs", "--describe --entity-type brokers --entity-default", r"(?s)(?=.*max.connections=5000).*log.retention.ms=2345678"),
    ("broker-configs-topic", "configs", f"--describe --all --entity-type topics --entity-name {T}", "retention.ms=1234567 sensitive=false synonyms=\\{DYNAMIC_BROKER_CONFIG:log.retention.ms=1234567", "~retention.ms=1234567"),
    ("broker-configs-bad", "configs", "--alter --entity-type brokers --entity-name 1 --add-config message.max.bytes=x", "status 1(?s:.*)Invalid"),
    ("broker-configs-static", "configs", "--alter --entity-type brokers --entity-name 1 --add-config log.dirs=/nowhere", "status 1(?s:.*)InvalidRequestException"),
    ("broker-configs-delete", "configs", "--alter --entity-type brokers --entity-name 1 --delete-config log.retention.ms", "Completed updating config for broker 1"),
    ("broker-configs-left", "configs", f"--describe --all --entity-type topics --entity-name {T}", "retention.ms=2345678 sensitive=false synonyms=\\{DYNAMIC_DEFAULT_BROKER_CONFIG:", "~retention.ms=2345678"),
    ("broker-configs-delete-default", "configs", "--alter --entity-type brokers --entity-default --delete-config log.retention.ms,max.connections", "Completed"),
    ("broker-configs-gone", "configs", "--describe --entity-type brokers --entity-name 1", r"(?s)(?!.*log.retention.ms=\d+ .*DYNAMIC).*for broker 1"),
    ("logger-configs", "configs", "--describe --entity-type broker-loggers --entity-name 1", r"root=\w+"),
    ("logger-configs-alter", "configs", "--alter --entity-type broker-loggers --entity-name 1 --add-config root=WARN", "Completed"),
    ("logger-configs-altered", "configs", "--describe --entity-type broker-loggers --entity-name 1", r"root=WARN"),
    ("logger-configs-delete", "configs", "--alter --entity-type broker-loggers --entity-name 1 --add-config root=INFO", "Completed"),
    ("produce", "console-producer", f"--topic {T} --property parse.key=true --property key.separator=:", "", "k1:v1\\nk2:v2\\nk3:v3\\n"),
    ("consume", "console-consumer", f"--topic {T} --from-beginning --max-messages 3 --timeout-ms 20000 --group {G} --property print.key=true",
     r"(?s)(?=.*k1\tv1)(?=.*k2\tv2)(?=.*k3\tv3).*Processed a total of 3"),
    ("perf-produce", "producer-perf-test", f"--topic {T} --num-records 2000 --record-size 100 --throughput -1 --producer-props acks=all", "2000 records sent"),
    ("get-offsets", "get-offsets", f"--topic {T}", rf"{T}:0:\d+(?s:.*){T}:3:\d+"),
    ("get-offsets-earliest", "get-offsets", f"--topic {T} --time earliest", rf"{T}:0:0(?s:.*){T}:3:0"),
    ("get-offsets-times", "get-offsets", f"--topic {T} --time 1", rf"(?m)^{T}:\d:0$"),
    ("get-offsets-max", "get-offsets", f"--topic {T} --time max-timestamp", rf"{T}:1:\d+"),
    ("get-offsets-local", "get-offsets", f"--topic {T} --time earliest-local", rf"{T}:1:0"),
    ("get-offsets-internal", "get-offsets", "--topic-partitions __consumer_offsets:0-50", r"(?s)(__consumer_offsets:\d+:\d+\s+){50}"),
    ("consume-perf", "consumer-perf-test", f"--topic {T} --messages 2000 --timeout 20000", r"start.time(?s:.*), 200\d, "),
    ("offsets-formatter", "console-consumer", OFFSETS + "OffsetsMessageFormatter",
     rf'"group":"{G}","topic":"{T}","partition":\d\}}.*"offset":1,"leaderEpoch":0,"metadata":"","commitTimestamp":\d+'),
    ("groups-formatter", "console-consumer", OFFSETS + "GroupMetadataMessageFormatter",
     rf'"group":"{G}"\}}.*"protocolType":"consumer","generation":1,"protocol":"range","leader":"console-consumer-.*"memberId":"console-consumer-'),
    ("groups-list", "consumer-groups", "--list", rf"(?m)^{G}$"),
    ("groups-list-state", "consumer-groups", "--list --state", rf"(?s)(?=.*{G}\s+Empty)(?=.*{LIVE}\s+Stable)"),
    ("groups-describe", "consumer-groups", f"--describe --group {G}", rf"{G}\s+{T}\s+\d+\s+\d+\s+\d+\s+\d+\s+-"),
    ("groups-describe-all", "consumer-groups", "--describe --all-groups", rf"(?s)(?=.*{G}\s+{T}\s+1\s)(?=.*{LIVE}\s+{LIVE}\s+0\s+\S+\s+0\s+\S+\s+the-member)"),
    ("groups-state", "consumer-groups", f"--describe --group {G} --state", r"Empty\s+0"),
    ("groups-members", "consumer-groups", f"--describe --group {LIVE} --members --verbose", MEMBERS + r"\s.*[(:]0", "~" + MEMBERS),
    ("groups-state-live", "consumer-groups", f"--describe --group {LIVE} --state", r"127.0.0.1:\d+\s+\(1\)\s+range\s+Stable\s+1"),
    ("groups-delete-live", "consumer-groups", f"--delete --group {LIVE}", "GroupNotEmptyException"),
    ("groups-reset-live", "consumer-groups", f"--reset-offsets --group {LIVE} --topic {LIVE} --to-earliest --execute", "Assignments can only be reset if the group"),
    ("groups-reset", "consumer-groups", f"--reset-offsets --group {G} --topic {T} --to-earliest --execute", rf"{G}\s+{T}\s+0\s+0"),
    ("groups-reset-shift", "consumer-groups", f"--reset-offsets --group {G} --topic {T}:1 --shift-by 1 --dry-run", rf"{G}\s+{T}\s+1\s+1"),
    ("groups-reset-to", "consumer-groups", f"--reset-offsets --group {G} --topic {T}:1 --to-offset 2 --execute", rf"{G}\s+{T}\s+1\s+2"),
    ("groups-reset-export", "consumer-groups", f"--reset-offsets --group {G} --all-topics --to-current --dry-run --export", f'"?{T}"?,1,2'),
    ("groups-reset-file", "consumer-groups", f"--reset-offsets --group {G} --from-file RESET --execute", rf"{G}\s+{T}\s+1\s+3"),
    ("groups-reset-datetime", "consumer-groups", f"--reset-offsets --group {G} --topic {T}:1 --to-datetime 2020-01-01T00:00:00.000 --execute", rf"{G}\s+{T}\s+1\s+0"),
    ("groups-reset-latest", "consumer-groups", f"--reset-offsets --group {G} --all-topics --to-latest --execute", rf"{G}\s+{T}\s+1\s+\d\d+"),
    ("groups-after-reset", "consumer-groups", f"--describe --group {G}", rf"{G}\s+{T}\s+1\s+(\d+)\s+\1\s+0\s+-"),
    ("groups-delete-offsets", "consumer-groups", f"--delete-offsets --group {G} --topic {T}:0", rf"(?s:.*){T}\s+0\s+Successful"),
    ("groups-deleted-offsets", "consumer-groups", f"--describe --group {G}", rf"(?s)(?!.*{T}\s+0\s).*{G}\s+{T}\s+1\s"),
    ("groups-delete", "consumer-groups", f"--delete --group {G}", "Deletion of requested consumer groups.*was successful"),
    ("groups-delete-again", "consumer-groups", f"--delete --group {G}", "GroupIdNotFoundException"),
    ("groups-describe-gone", "consumer-groups", f"--describe --group {G}", "does not exist|GroupIdNotFoundException"),
    ("groups-all", "groups", "--list", rf"{LIVE}\s+Classic\s+consumer"),
    ("groups-share", "share-groups", "--list", ""),
    ("delete-records", "delete-records", "--offset-json-file CUT", r"partition: tools-0\s+low_watermark: 1"),
    ("delete-records-beyond", "delete-records", "--offset-json-file BEYOND", r"partition: tools-0\s+error: .*OffsetOutOfRange"),
    ("get-offsets-cut", "get-offsets", f"--topic-partitions {T}:0 --time -2", rf"{T}:0:1"),
    ("log-dirs", "log-dirs", f"--describe --topic-list {T}", r'"partition":"tools-0","size":\d+,"offsetLag":0,"isFuture":false'),
    ("log-dirs-all", "log-dirs", "--describe --broker-list 1", r'"broker":1,"logDirs":\[\{(?s:.*)"partition":"__consumer_offsets-'),
    ("api-versions", "broker-api-versions", "", r"(?s)(?=.*Produce\(0\): 0 to 1\d)(?=.*Fetch\(1\))(?=.*CreateTopics\(19\))(?=.*OffsetCommit\(8\))"),
    ("verifiable-create", "topics", f"--create --topic {T}-v --partitions 1", "Created topic"),
    ("verifiable-producer", "verifiable-producer", f"--topic {T}-v --max-messages 50", r'"name":"startup_complete"(?s:.*)"value":"49","topic":"tools-v","partition":0,"offset":49\}(?s:.*)"name":"shutdown_complete"(?s:.*)"name":"tool_data","sent":50,"acked":50'),
    ("verifiable-consumer", "verifiable-consumer", f"--topic {T}-v --group-id {G}-v --max-messages 50 --reset-policy earliest", r'"name":"records_consumed",(?s:.*)"count":50,"minOffset":0,"maxOffset":49\}(?s:.*)"name":"offsets_committed","offsets":\[\{"topic":"tools-v","partition":0,"offset":50\}\],"success":true(?s:.*)"name":"shutdown_complete"'),
    ("verifiable-committed", "consumer-groups", f"--describe --group {G}-v", rf"{G}-v\s+{T}-v\s+0\s+50\s+50\s+0\s"),
    ("consume-pattern", "console-consumer", f"--include {T}-[v] --from-beginning --max-messages 50 --timeout-ms 20000 --property print.timestamp=true --property print.offset=true --property print.partition=true --property print.headers=true", r"CreateTime:\d+\tPartition:0\tOffset:49\tNO_HEADERS\t49\s+Processed a total of 50"),
    ("consume-partition", "console-consumer", f"--topic {T}-v --partition 0 --offset 47 --max-messages 3 --timeout-ms 20000 --isolation-level read_committed", r"\s47\s+48\s+49\s+Processed a total of 3"),
    ("leader-election", "leader-election", f"--election-type preferred --topic {T} --partition 0", "(Valid replica already elected|already elected)"),
    ("leader-election-all", "leader-election", "--election-type unclean --all-topic-partitions", r"status 0"),
    ("reassign-list", "reassign-partitions", "--list", "No partition reassignments found"),
    ("reassign-generate", "reassign-partitions", "--generate --topics-to-move-json-file MOVE --broker-list 1", r"Proposed partition reassignment configuration\s+\{.*\"topic\":\"tools\",\"partition\":3,\"replicas\":\[1\]"),
    ("reassign-execute", "reassign-partitions", "--execute --reassignment-json-file PLACES --throttle 1000000", "Successfully started partition reassignments? for tools-0,tools-1"),
    ("reassign-verify", "reassign-partitions", "--verify --reassignment-json-file PLACES", "Reassignment of partition tools-0 is completed(?s:.*)Clearing topic-level throttles on topic tools"),
    ("reassign-cancel", "reassign-partitions", "--cancel --reassignment-json-file PLACES", "None of the specified partition reassignments are active"),
    ("reassign-elsewhere", "reassign-partitions", "--execute --reassignment-json-file ELSEWHERE", "status 1(?s:.*)Unknown broker id 2"),
    ("cluster-id", "cluster", "cluster-id", "Cluster ID: [A-Za-z0-9_-]+"),
    ("cluster-endpoints", "cluster", "list-endpoints", r"1\s+127.0.0.1\s+\d+"),
    ("unregister", "cluster", "unregister --id 7", "does not support"),
    ("features", "features", "describe", r"status 0"),
    ("client-metrics", "client-metrics", "--list", r"status 0"),
    ("quorum", "metadata-quorum", "describe --status", "status 1(?s:.*)UnsupportedVersionException"),
    ("quotas", "configs", "--describe --entity-type users", "status 1(?s:.*)UnsupportedVersionException"),
    ("acls", "acls", "--list", "status 1(?s:.*)UnsupportedVersionException"),
    ("transactions-producers", "transactions", f"describe-producers --topic {T} --partition 1", r"ProducerId.*\n\d+\s+0\s+-1\s+\d+\s+\d+\s+None"),
    ("transactions", "transactions", "list", "status 1(?s:.*)does not support LIST_TRANSACTIONS"),
    ("delete", "topics", f"--delete --topic {T},{T}-v", ""),
    ("delete-again", "topics", f"--delete --topic {T}", "status 1(?s:.*)does not exist"),
]
# Tools that a release does not have.
LACKS = {"3.9.2": {"groups-all", "groups-share", "cluster-endpoints"}}
# What a real Kafka does otherwise, and why ours does: by hand, against one, these fail.
NOT_KAFKA = {
    "quorum": "there is no quorum of controllers, and the tool is told so",
    "unregister": "a broker that is gone is forgotten by itself",
    "quotas": "there are no quotas of clients yet",
    "acls": "there is no authorization yet; a Kafka without an authorizer says SecurityDisabledException",
    "transactions": "there are no transactions yet",
}
PLACES = {"version": 1, "partitions": [{"topic": T, "partition": p, "replicas": [1], "log_dirs": ["any"]} for p in range(4)]}
FILES = {
    "CUT": {"version": 1, "partitions": [{"topic": T, "partition": 0, "offset": 1}]},
    "BEYOND": {"version": 1, "partitions": [{"topic": T, "partition": 0, "offset": 99999}]},
    "MOVE": {"version": 1, "topics": [{"topic": T}]},
    "PLACES": PLACES,
    "ELSEWHERE": {"version": 1, "partitions": [{"topic": T, "partition": 0, "replicas": [2]}]},
    "RESET": f"{T},1,3\n",
}


def line_of(step, address, folder, release):
    name, tool, arguments, *more = step
    reads = more[1] if len(more) > 1 else ""
    how, reads = (reads, "") if reads[:1] in ("&", "~") else ("", reads)
    words = [os.path.join(folder, w) if w in FILES else w for w in arguments.split()]
    if tool == "producer-perf-test":
        words.append(f"bootstrap.servers={address}")
    elif tool in ADDRESS_FIRST:
        words = ["--bootstrap-server", address, *words]
    else:
        words += ["--bootstrap-server", address]
    main = OLD_CLASSES.get(tool, CLASSES[tool]) if release.startswith("3.") else CLASSES[tool]
    return "\t".join([name, main, how, reads, *words])


def steps_of(release):
    return [s for s in STEPS if s[0] not in LACKS.get(release, ())]


def run_steps(cluster, release, jars, folder):
    for name, content in FILES.items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            f.write(content if isinstance(content, str) else json.dumps(content))
    steps = os.path.join(folder, "steps")
    with open(steps, "w", encoding="utf-8") as f:
        f.writelines(line_of(s, cluster.address, folder, release) + "\n" for s in steps_of(release))
    try:
        p = subprocess.run([*maven.JAVA, "-Xmx384m", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp", maven.classpath(jars), "ToolRunner", steps],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240, check=False,
                           preexec_fn=harness.die_with_parent)
        output = p.stdout
    except subprocess.TimeoutExpired as e:
        output = e.stdout or b""
    text = output.decode("utf-8", "replace")
    return {m[1]: (m[2], m[3]) for m in re.finditer(r"^=== (\S+) (\S+ \d+ ms)\n(.*?)^=== end$", text, re.M | re.S)}, text


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the steps of a release did. Each has a broker of its own: what one leaves behind is no concern of the next."""
    done = {}

    def get(release):
        if release not in done:
            jars = maven.delivered(maven.kafka(release), [SOURCE], lambda folder: maven.javac(folder, [SOURCE]))
            cluster = families.Cluster(str(tmp_path_factory.mktemp("broker")))
            try:
                done[release] = run_steps(cluster, release, jars, str(tmp_path_factory.mktemp("tools")))
                cluster.close()
            finally:
                if cluster.broker:
                    cluster.broker.end()
                    print(f"--- the broker's log\n{cluster.broker.whole_log()[-6000:]}")
        return done[release]
    return get


@pytest.mark.parametrize("release, step", [(r, s[0]) for r in versions.KAFKAS for s in steps_of(r)])
def test_tool(results, release, step):
    found, text = results(release)
    if step not in found:
        pytest.fail(f"{step} did not run; at the end:\n{text[-2000:]}")
    status, output = found[step]
    pattern = next(s[3] for s in STEPS if s[0] == step)
    print(f"{step} of {release}: status {status}\n{output}")
    if not pattern.startswith("status"):
        assert status.startswith("0 "), f"status {status}: {output[:2000]}"
    assert re.search(pattern, f"status {status}\n{output}"), f"expected {pattern}, found status {status}: {output[:2000]}"
