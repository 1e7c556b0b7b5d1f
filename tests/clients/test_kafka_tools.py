"""Kafka's own command-line tools, from its jars. All steps of a release run in one Java machine, in order; each is a test that looks at the
exit status and at what was written."""

import os
import re
import subprocess

import pytest

import harness
import maven
import versions

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = "org.apache.kafka.tools."
CLASSES = {
    "topics": TOOLS + "TopicCommand", "configs": "kafka.admin.ConfigCommand", "console-producer": TOOLS + "ConsoleProducer",
    "console-consumer": TOOLS + "consumer.ConsoleConsumer", "consumer-groups": TOOLS + "consumer.group.ConsumerGroupCommand",
    "get-offsets": TOOLS + "GetOffsetShell", "delete-records": TOOLS + "DeleteRecordsCommand", "log-dirs": TOOLS + "LogDirsCommand",
    "broker-api-versions": TOOLS + "BrokerApiVersionsCommand", "verifiable-producer": TOOLS + "VerifiableProducer",
    "verifiable-consumer": TOOLS + "VerifiableConsumer", "producer-perf-test": TOOLS + "ProducerPerformance",
    "consumer-perf-test": TOOLS + "ConsumerPerformance", "leader-election": TOOLS + "LeaderElectionCommand",
    "reassign-partitions": TOOLS + "reassign.ReassignPartitionsCommand", "cluster": TOOLS + "ClusterTool", "features": TOOLS + "FeatureCommand",
    "metadata-quorum": TOOLS + "MetadataQuorumCommand", "transactions": TOOLS + "TransactionsCommand",
}
OLD_CLASSES = {"console-producer": "kafka.tools.ConsoleProducer", "broker-api-versions": "kafka.admin.BrokerApiVersionsCommand"}
T, G = "tools", "tools-group"

# (name, tool, arguments, what it must write, by regular expression, what it reads): the status must be 0 but where the pattern says `status N`.
STEPS = [
    ("create", "topics", f"--create --topic {T} --partitions 3 --config retention.ms=7654321", rf"Created topic {T}"),
    ("create-again", "topics", f"--create --topic {T}", r"status 1(?s:.*)already exists"),
    ("create-if-not-exists", "topics", f"--create --topic {T} --if-not-exists", ""),
    ("list", "topics", "--list", rf"(?m)^{T}$"),
    ("describe", "topics", f"--describe --topic {T}", r"PartitionCount: 3\s+ReplicationFactor: 1\s+Configs:.*retention.ms=7654321(?s:.*)Partition: 2\s+Leader: 1\s+Replicas: 1\s+Isr: 1"),
    ("describe-unknown", "topics", "--describe --topic nowhere", "status 1(?s:.*)does not exist"),
    ("under-replicated", "topics", "--describe --under-replicated-partitions", r"(?s)status 0(?!.*Partition:)"),
    ("add-partitions", "topics", f"--alter --topic {T} --partitions 4", ""),
    ("configs-describe", "configs", f"--describe --entity-type topics --entity-name {T}", "retention.ms=7654321 sensitive=false synonyms=\\{DYNAMIC_TOPIC_CONFIG:retention.ms=7654321"),
    ("configs-describe-all", "configs", f"--describe --all --entity-type topics --entity-name {T}", "(?s:.*)max.message.bytes=1048588.*DEFAULT_CONFIG:message.max.bytes=1048588"),
    ("configs-alter", "configs", f"--alter --entity-type topics --entity-name {T} --add-config max.message.bytes=99999 --delete-config retention.ms", f"Completed updating config for topic {T}"),
    ("configs-altered", "configs", f"--describe --entity-type topics --entity-name {T}", r"(?s)(?!.*retention.ms).*max.message.bytes=99999"),
    ("configs-bad", "configs", f"--alter --entity-type topics --entity-name {T} --add-config retention.ms=x", r"status 1(?s:.*)InvalidConfigurationException"),
    ("configs-broker", "configs", "--describe --all --entity-type brokers --entity-name 1", "(?s:.*)message.max.bytes=1048588"),
    ("produce", "console-producer", f"--topic {T} --property parse.key=true --property key.separator=:", "", "k1:v1\\nk2:v2\\nk3:v3\\n"),
    ("consume", "console-consumer", f"--topic {T} --from-beginning --max-messages 3 --timeout-ms 20000 --group {G} --property print.key=true",
     r"(?s)(?=.*k1\tv1)(?=.*k2\tv2)(?=.*k3\tv3).*Processed a total of 3"),
    ("perf-produce", "producer-perf-test", f"--topic {T} --num-records 2000 --record-size 100 --throughput -1 --producer-props acks=all", "2000 records sent"),
    ("get-offsets", "get-offsets", f"--topic {T}", rf"{T}:0:\d+(?s:.*){T}:3:\d+"),
    ("get-offsets-earliest", "get-offsets", f"--topic {T} --time earliest", rf"{T}:0:0(?s:.*){T}:3:0"),
    ("consume-perf", "consumer-perf-test", f"--topic {T} --messages 2000 --timeout 20000", "start.time"),
    ("groups-list", "consumer-groups", "--list", rf"(?m)^{G}$"),
    ("groups-describe", "consumer-groups", f"--describe --group {G}", rf"{G}\s+{T}\s+\d+\s+\d+\s+\d+\s+\d+\s+-"),
    ("groups-state", "consumer-groups", f"--describe --group {G} --state", r"Empty\s+0"),
    ("groups-reset", "consumer-groups", f"--reset-offsets --group {G} --topic {T} --to-earliest --execute", rf"{G}\s+{T}\s+0\s+0"),
    ("groups-reset-shift", "consumer-groups", f"--reset-offsets --group {G} --topic {T}:1 --shift-by 1 --dry-run", rf"{G}\s+{T}\s+1\s+1"),
    ("groups-delete-offsets", "consumer-groups", f"--delete-offsets --group {G} --topic {T}:0", rf"(?s:.*){T}\s+0\s+Successful"),
    ("groups-delete", "consumer-groups", f"--delete --group {G}", "Deletion of requested consumer groups.*was successful"),
    ("groups-delete-again", "consumer-groups", f"--delete --group {G}", "GroupIdNotFoundException"),
    ("delete-records", "delete-records", "--offset-json-file CUT", r"partition: tools-0\s+low_watermark: 1"),
    ("get-offsets-cut", "get-offsets", f"--topic-partitions {T}:0 --time -2", rf"{T}:0:1"),
    ("log-dirs", "log-dirs", f"--describe --topic-list {T}", r'"partition":"tools-0"'),
    ("api-versions", "broker-api-versions", "", r"(?s)(?=.*Produce\(0\): 0 to 1\d)(?=.*Fetch\(1\))(?=.*CreateTopics\(19\))(?=.*OffsetCommit\(8\))"),
    ("verifiable-producer", "verifiable-producer", f"--topic {T} --max-messages 20", r'"name":"startup_complete"'),
    ("verifiable-consumer", "verifiable-consumer", f"--topic {T} --group-id {G}-v --max-messages 20 --reset-policy earliest", r'"name":"records_consumed"(?s:.*)"name":"shutdown_complete"'),
    ("leader-election", "leader-election", f"--election-type preferred --topic {T} --partition 0", "(Valid replica already elected|already elected)"),
    ("reassign-list", "reassign-partitions", "--list", "No partition reassignments found"),
    ("cluster-id", "cluster", "cluster-id", "Cluster ID: [A-Za-z0-9_-]+"),
    ("features", "features", "describe", ""),
    ("quorum", "metadata-quorum", "describe --status", "status 1(?s:.*)UnsupportedVersionException"),
    ("transactions-producers", "transactions", f"describe-producers --topic {T} --partition 0", "ProducerId"),
    ("delete", "topics", f"--delete --topic {T}", ""),
    ("delete-again", "topics", f"--delete --topic {T}", "status 1(?s:.*)does not exist"),
]
ADDRESS_OPTION = {"verifiable-producer": "--bootstrap-server", "verifiable-consumer": "--bootstrap-server"}
# What a real Kafka does otherwise, and why ours does: by hand, against one, these fail.
NOT_KAFKA = {"quorum": "there is no quorum of controllers, and the tool is told so"}


def compiled(folder):
    p = subprocess.run(["javac", "-nowarn", "-d", folder, "-cp", maven.classpath(folder), SOURCE], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=120, check=False)
    return p.stderr if p.returncode else None


SOURCE = os.path.join(HERE, "java", "ToolRunner.java")


def line_of(step, address, folder, release):
    name, tool, arguments, *more = step
    reads = more[1] if len(more) > 1 else ""
    words = arguments.replace("CUT", os.path.join(folder, "cut.json")).split()
    if tool == "producer-perf-test":
        words.append(f"bootstrap.servers={address}")
    elif tool == "metadata-quorum" or tool == "features" or tool == "transactions":
        words = ["--bootstrap-server", address, *words]
    else:
        words += ["--bootstrap-server", address]
    main = OLD_CLASSES.get(tool, CLASSES[tool]) if release.startswith("3.") else CLASSES[tool]
    return "\t".join([name, main, reads, *words])


def run_steps(cluster, release, folder):
    jars = maven.delivered(maven.kafka(release), [SOURCE], compiled)
    with open(os.path.join(folder, "cut.json"), "w", encoding="ascii") as f:
        f.write('{"partitions": [{"topic": "tools", "partition": 0, "offset": 1}], "version": 1}')
    steps = os.path.join(folder, "steps")
    with open(steps, "w", encoding="utf-8") as f:
        f.writelines(line_of(s, cluster.address, folder, release) + "\n" for s in STEPS)
    try:
        p = subprocess.run([*maven.JAVA, "-Xmx384m", "-cp", maven.classpath(jars), "ToolRunner", steps], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=240, check=False, preexec_fn=harness.die_with_parent)
        output = p.stdout
    except subprocess.TimeoutExpired as e:
        output = e.stdout or b""
    text = output.decode("utf-8", "replace")
    return {m[1]: (m[2], m[3]) for m in re.finditer(r"^=== (\S+) (\S+ \d+ ms)\n(.*?)^=== end$", text, re.M | re.S)}, text


@pytest.fixture(scope="module")
def results(cluster, tmp_path_factory):
    done = {}

    def get(release):
        if release not in done:
            done[release] = run_steps(cluster, release, str(tmp_path_factory.mktemp("tools")))
        return done[release]
    return get


@pytest.mark.parametrize("release, step", [(r, s[0]) for r in versions.KAFKAS for s in STEPS])
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
