"""One member of a consumer group, as a process that can be killed: it joins, reads, commits what it has read, and says everything on
its standard output, a line of JSON each, before it relies on it:

    ["joined"], ["reads", reader, topic, partition, [[offset, producer, number], ...]], ["bad", reader, topic, partition, offset, what],
    ["committing", n, topic, partition, offset], ["committed", n], ["left"]

    member.py BOOTSTRAP GROUP TOPIC NAME SEED REQUEST_SECONDS        SIGTERM: it leaves the group in order
"""

import json
import random
import signal
import sys

from confluent_kafka import Consumer, KafkaException, TopicPartition

import record


def say(*what):
    print(json.dumps(what), flush=True)


def main():
    bootstrap, group, topic, name, seed, seconds = sys.argv[1:]
    rng, over, assignments, commits = random.Random(seed), [], [0], 0
    signal.signal(signal.SIGTERM, lambda *_: over.append(True))
    c = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "client.id": name, "enable.auto.commit": False, "auto.offset.reset": "earliest",
                  "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "socket.timeout.ms": int(float(seconds) * 1000),
                  "reconnect.backoff.max.ms": 500, "topic.metadata.refresh.interval.ms": 2000,
                  "partition.assignment.strategy": "cooperative-sticky" if group.endswith("cooperative") else "range"})
    positions = {}

    def assigned(_, partitions):
        assignments[0] += 1  # a new reader from here: it begins where the group has come to
        positions.clear()
        say("joined", [p.partition for p in partitions])

    c.subscribe([topic], on_assign=assigned, on_revoke=lambda *_: positions.clear(), on_lost=lambda *_: positions.clear())
    while not over:
        got = {}
        for n in range(100):  # one by one: a whole batch may hold what came before a change of the assignment, and after it
            m = c.poll(0 if n else 0.3)
            if m is None:
                break
            if m.error():
                continue
            who, reader = record.identify(m.value()), f"{name}/{assignments[0]}"
            if who is None:
                say("bad", reader, topic, m.partition(), m.offset(), repr(m.value())[:100])
            else:
                got.setdefault((reader, m.partition()), []).append((m.offset(), *who))
            positions[m.partition()] = m.offset() + 1
        for (reader, partition), records in got.items():
            say("reads", reader, topic, partition, records)
        if positions and rng.random() < 0.4:
            wanted, numbers = [], {}
            for partition, offset in positions.items():
                commits += 1
                numbers[partition] = commits
                say("committing", commits, topic, partition, offset)
                wanted.append(TopicPartition(topic, partition, offset))
            try:
                for p in c.commit(offsets=wanted, asynchronous=False):
                    if p.error is None:
                        say("committed", numbers[p.partition])
            except KafkaException:
                pass
    c.close()
    say("left")


if __name__ == "__main__":
    main()
