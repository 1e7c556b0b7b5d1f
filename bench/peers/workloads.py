"""What is measured: one table of loads, in groups. All loads of a group are put on one broker process after the other, each on topics of
its own that are deleted behind it; a group's broker is new, and is warmed up first.

A load is `oxbow bench` with the arguments of its row. `rate` says how fast: "full" speed, records a second, or a share of what the broker's
own peak is ("own:0.5"), or of the slowest broker's ("common:0.5"); the peak is what the load PEAK came to."""

from dataclasses import dataclass

KIB = 1024
PEAK = "a4"
RECORD = KIB  # of PEAK: rates are in its records


@dataclass(frozen=True)
class Load:
    name: str
    what: str
    arguments: str = ""
    rate: str = "full"
    warm_up: int = 1
    seconds: int = 5  # measured, unless the command says otherwise
    runs: int = 0  # at most so many; 0: as many as are wanted
    wait: int = 60  # for the topics to be made, and for the end


@dataclass(frozen=True)
class Group:
    """`own` names the function of run.py that measures it, for what is more than loads one after the other."""
    name: str
    letter: str
    what: str
    loads: tuple = ()
    runs: int = 0  # at most so many; 0: as many as are wanted
    own: str = ""
    only: str = ""  # the one broker that has it; all when empty
    without: str = ""  # brokers whose name ends so do not have it
    seconds: int = 0  # a guess of what it takes beside its loads


FOUR = "-p 100 --producers 4 --consumers 4 --threads 2"
# Clients that wait a moment for a batch, with the numbers of OpenMessaging Benchmark (driver-kafka/kafka-latency.yaml) for latencies.
BATCHING, BATCHING_TEXT = " --linger-ms 1 --batch-size 128KiB", "linger.ms=1, batch.size=128 KiB"
# Before anything is measured: compilers, buffers, the first lap of a write-ahead log.
WARM = Load("warm", "", FOUR)

GROUPS = (
    Group("throughput", "abcgh", "as fast as it goes", (
        Load("a1", "(a) 1 KiB records, 100 partitions, 1 producer, 1 consumer", "-p 100 --consumers 1", seconds=10),
        Load("a4", "(a) 1 KiB records, 100 partitions, 4 producers, 4 consumers", FOUR, seconds=10),
        Load("b", "(b) 100 B records, 100 partitions, 4 and 4", FOUR + " --record-size 100", runs=1),
        Load("c1", "(c) one partition, each record a request, 1 in flight", "-p 1 --batch-size 0 --max-in-flight 1 --consumers 1"),
        Load("c5", "(c) one partition, each record a request, 5 in flight", "-p 1 --batch-size 0 --max-in-flight 5 --consumers 1"),
        Load("gf", "(g) to each of 10 consumers as fast as it goes", "-p 100 --consumers 10 --consumers-each-all --threads 2", runs=1),
        Load("h", "(h) zstd, half of each 1 KiB record compressible", FOUR + " -z zstd --compressibility 50", runs=1),
    )),
    Group("latency", "a", "at shares of the peak", (
        Load("p10", "10 % of the broker's own peak", FOUR, "own:0.1", seconds=10),
        Load("p50", "50 % of the broker's own peak", FOUR, "own:0.5", seconds=10),
        Load("p50b", f"50 %, {BATCHING_TEXT}", FOUR + BATCHING, "own:0.5", seconds=10),
        Load("p90", "90 % of the broker's own peak", FOUR, "own:0.9", seconds=10),
        Load("same", "the same rate for all: 50 % of the slowest's peak", FOUR, "common:0.5", seconds=10),
    )),
    Group("steady", "fg", "at a rate of its own", (
        Load("g", "(g) 30 MB/s to each of 10 consumers", "-p 100 --consumers 10 --consumers-each-all --threads 2", "30000"),
        Load("f1", "(f) 1,000 idle connections beside 1,000 records/s", "-p 100 --consumers 1 --connections 1000", "1000"),
        Load("f10", "(f) 10,000 idle connections beside 1,000 records/s", "-p 100 --consumers 1 --connections 10000", "1000"),
    ), runs=1),
    Group("thin", "d", "thin traffic", (
        Load("d", "(d) 10,000 partitions, 1,000 records/s in all", "--topics 2 -p 5000 --consumers 1 --timeout-ms 90000", "1000", wait=120),
    ), runs=1, seconds=60),
    Group("connections", "f", "idle connections to a broker that does nothing else", own="connections", runs=1, seconds=8),
    Group("backlog", "e", "a backlog larger than memory is read while 10 MB/s are produced", own="backlog", runs=1, seconds=90),
    Group("recovery", "", "killed with as much in the log as fits", own="recovery", runs=1, seconds=25),
    Group("many", "j", "100,000 partitions on one broker", own="many", runs=1, without="-fsync", seconds=75),
    Group("object", "i", "object durability: no write-ahead log, PUTs of 20, 50 and 150 ms", own="object", runs=1, only="oxbow", seconds=60),
    Group("honesty", "", "the load generator beside others", own="honesty", runs=1, seconds=60),
)

# Brokers that are another one with a difference, and brokers beside the two that this is about, with what they are measured with; every
# other broker has all loads.
VARIANTS = {
    "oxbow-store-apart": ("a4", "p50", "p50b"),
    "oxbow-block": ("a4", "p50", "p50b"),
    "oxbow-log-in-memory": ("a4", "p50", "p50b"),
}
BESIDE = {"tansu-sqlite": ("a1", "a4", "p50")}


def like(broker):
    """The broker whose peak counts: a variant gets the rates of the one that it is compared with."""
    return broker.split("-", maxsplit=1)[0] if broker in VARIANTS else broker


# What releases that are not the newest are measured with when there is one run of them.
OLDER = ("a1", "a4", "p50", "same")

LOADS = {load.name: load for group in GROUPS for load in group.loads}
MANY_TOPICS, MANY_PARTITIONS = 20, 5000  # Kafka makes at most 9,999 partitions at once
BACKLOG_MEMORY, BACKLOG_BYTES = 2 << 30, 3_000_000_000
OBJECT_MS = (20, 50, 150)


def chosen(only):
    """Groups, each with the loads that are wanted: `only` names groups, loads, or letters of the list in (a) to (j)."""
    if not only:
        return list(GROUPS)
    known = {g.name for g in GROUPS} | set(LOADS)
    found = []
    for g in GROUPS:
        loads = tuple(x for x in g.loads if x.name in only or x.what[1:2] in only and x.what[:1] == "(")
        if g.name in only or (not g.loads and g.letter and g.letter in only):
            found.append(g)
        elif loads:
            found.append(Group(**{**g.__dict__, "loads": loads}))
        known |= {x.what[1] for x in g.loads if x.what[0] == "("} | ({g.letter} if not g.loads and g.letter else set())
    unknown = [x for x in only if x not in known]
    if unknown:
        raise SystemExit(f"--only: '{unknown[0]}' is none of {', '.join(sorted(known))}")
    return found
