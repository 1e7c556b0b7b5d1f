"""Real clients at work, each a thread (or a process of its own) that notes in the record what it does before it does it and what it was
told. None of them gives up: time-outs are for the requests, and a record waits for as long as its broker is away."""

import collections
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import traceback

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as OldTopicPartition
from kafka.errors import KafkaError as OldKafkaError

import harness
import record as records
from ox import call
from place import SOAK
from wire import Wire

# In librdkafka's words: the sequence number that was refused, and the last of the batch that failed before.
SEQUENCES = re.compile(r"base seq (\d+), idemp state.*last partition error \w+ \(actions [^)]*MsgPossiblyPersisted, base seq \d+\.\.(\d+)")
OUTSTANDING = {"idempotent": 300, "plain": 300, "ordered": 40}  # records of one producer that wait for their acknowledgement: "ordered" sends
                                                                # one batch at a time, which may be one record, and may wait for an upload
# topic -> (partitions, oxbow.durability). "grouped" is read by groups, "trimmed" loses its beginning, "kcat" and "old" name their clients.
TOPICS = {"idem-wal": (3, "wal"), "idem-object": (2, "object"), "plain-wal": (2, "wal"), "plain-object": (1, "object"), "grouped": (4, "wal"),
          "trimmed": (2, "wal"), "kcat": (2, "wal"), "old": (2, "wal")}
GROUPS = ("group-range", "group-cooperative")


class Load:
    def __init__(self, record, name, addresses, current, request_seconds, rng):
        """`addresses`: every one at which a broker may be found; current(): (port, steady) of the one that serves now, and whether there
        surely is no other beside it."""
        self.record, self.name, self.addresses, self.current, self.seconds, self.rng = record, name, addresses, current, request_seconds, rng
        self.over, self.quiet = threading.Event(), threading.Event()  # over: nothing is begun any more; quiet: all is to end
        self.threads, self.producers, self.members = [], [], []
        self.lock = threading.Lock()
        self.logs = []         # those that live
        self.committed = set()  # (group, log) that were ever committed
        self.errors = collections.deque(maxlen=8)  # what clients last complained about, for who reads a failure
        self.number = 0

    # --- The threads.

    def start(self):
        if len(self.addresses) > 1:
            self.record.add("overtaken", self.name)
        admin = AdminClient(self.client())
        wanted = [NewTopic(t, p, 1, config={"oxbow.durability": d}) for t, (p, d) in TOPICS.items()]
        for topic, future in admin.create_topics(wanted).items():
            future.result(30)
            self.born(topic, 0, TOPICS[topic][0])
        for topic, promise in (("idem-wal", "idempotent"), ("idem-wal", "idempotent"), ("idem-object", "idempotent"), ("plain-wal", "ordered"),
                               ("plain-wal", "plain"), ("plain-object", "ordered"), ("grouped", "idempotent"), ("trimmed", "idempotent")):
            self.run(self.produce, topic, promise)
        self.run(self.produce_old)
        self.run(self.produce_kcat)
        for topic in ("idem-wal", "idem-object", "plain-wal", "trimmed"):
            self.run(self.follow, topic)
        self.run(self.follow_old)
        for group in GROUPS:
            self.run(self.keep_group, group)
        self.run(self.trim)
        self.run(self.churn)
        self.run(self.ask_ends)
        self.run(self.look_up_commits)

    def run(self, function, *arguments):
        rng = random.Random(self.rng.random())

        def guarded():
            try:
                function(rng, *arguments)
            except Exception:  # a client that ends by itself is a client that no longer looks
                self.record.add("problem", f"{self.name}: {function.__name__}{arguments} ended:\n{traceback.format_exc()}")
        t = threading.Thread(target=guarded, daemon=True, name=f"{function.__name__}{arguments}")
        t.start()
        self.threads.append(t)

    def born(self, topic, life, partitions):
        with self.lock:
            for p in range(partitions):
                log = self.log(topic, p, life)
                self.record.add("log", log)
                self.logs.append(log)

    def gone(self, log):
        with self.lock:
            self.logs.remove(log)
        self.record.add("gone", log)

    def log(self, topic, partition, life=0):
        return (f"{self.name}/{topic}", life, partition)

    def new_name(self, what, promise=None):
        with self.lock:
            self.number += 1
            name = f"{self.name}-{what}-{self.number}"
        if promise:
            self.record.add("producer", name, promise)
        return name

    def reader(self, what, group=None):
        name = self.new_name(what)
        self.record.add("reader", name, group)
        return name

    def client(self, **more):
        return {"bootstrap.servers": ",".join(self.addresses), "socket.timeout.ms": int(self.seconds * 1000), "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 500, "topic.metadata.refresh.interval.ms": 2000, "log_level": 0, "broker.address.ttl": 100, "client.id": f"soak-{self.name}",
                "error_cb": self.complaint, **more}

    def complaint(self, error):
        self.errors.append(f"{time.monotonic() - self.record.began:.1f} {threading.current_thread().name}: {error}"[:300])

    def consumer(self, port=None, **more):
        found = self.client(**{"group.id": "nobody", "enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 200, **more})
        if port:
            found["bootstrap.servers"] = f"127.0.0.1:{port}"
        return Consumer(found)

    # --- Those who send.

    def producer(self, promise, rng):
        more = {"idempotent": {"enable.idempotence": True}, "ordered": {"max.in.flight.requests.per.connection": 1}, "plain": {}}[promise]
        if promise == "idempotent" and os.environ.get("SOAK_DEBUG"):  # what librdkafka thinks, on standard error
            more = {**more, "debug": os.environ["SOAK_DEBUG"], "log_level": 7}
        return Producer(self.client(**{"message.timeout.ms": 0, "request.timeout.ms": int(self.seconds * 1000), "linger.ms": rng.choice([0, 5, 50]),
                                       "compression.type": rng.choice(["none", "gzip", "snappy", "lz4", "zstd"]),
                                       "batch.num.messages": rng.choice([1, 10, 1000]), "retry.backoff.ms": 100, "acks": -1, **more}))

    def told(self, log, name, number):
        def delivered(error, message):
            if error is None and message.offset() is None and len(self.addresses) > 1:
                self.record.add("unsure", log, name, number)  # librdkafka concludes it from a later answer (gave_up)
            elif error is None:
                self.record.add("ack", log, name, number, message.offset())
            else:
                self.record.add("unsure", log, name, number)
                if len(self.addresses) > 1 and error.code() in (KafkaError._FATAL, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER):
                    return  # the producer gives up, and why is judged there
                # Without a time-out there is no error that would be right: these topics stay, these records are sound.
                self.record.add("refused", log, name, number, str(error))
        return delivered

    def produce(self, rng, topic, promise):
        partitions = TOPICS[topic][0]
        while not self.over.is_set():
            name = self.new_name(f"{topic}-{promise}", promise)
            p = self.producer(promise, rng)
            try:
                until, number = time.monotonic() + rng.uniform(3, 40), 0
                while time.monotonic() < until and not self.over.is_set():
                    partition = rng.randrange(partitions)
                    for _ in range(rng.choice([1, 1, 5, 20]) if len(p) < OUTSTANDING[promise] else 0):
                        self.send(p, topic, self.log(topic, partition), name, number)
                        number += 1
                    p.poll(rng.uniform(0.02, 0.4))
                self.flush(p)
            except KafkaException as e:
                self.gave_up(name, p, e)

    def gave_up(self, name, p, e):
        """After a producer's exception, which is raised again unless it is this: librdkafka (seen in 2.0.2) overtakes itself when a partition
        moves while a request to its old broker is under way. When that request fails, the next batch may go to the new broker before the
        failed one is back in the queue. The new broker rightly says that something is missing before it, which librdkafka takes for fatal;
        or, where it is the producer's first batch that failed, takes the next, for it knows nothing of the producer, and librdkafka concludes
        that the first was taken, too. It is told from the accusation of a broker that does not know what its successor has by the batch
        that failed: the one right before the one that was refused."""
        error = e.args[0]
        if error.code() == KafkaError._FATAL:
            try:
                p.poll(0)  # says more
            except KafkaException as more:
                error = more.args[0]
        found = SEQUENCES.search(str(error))
        if len(self.addresses) < 2 or not found or int(found[1]) != int(found[2]) + 1:
            raise e
        self.record.add("note", f"{name} gave up: {error}")

    def send(self, p, topic, log, name, number):
        self.record.add("send", log, name, number)
        p.produce(topic, records.value(name, number), partition=log[2], on_delivery=self.told(log, name, number))

    def flush(self, p):
        """Until everything is acknowledged, however long that takes; given up only with the whole run, which says so."""
        while len(p) and not self.quiet.is_set():
            p.flush(0.5)
        return len(p) == 0

    def produce_old(self, rng):
        """kafka-python. It gives a record up when it takes too long; where it is then nobody knows."""
        waiting = {}

        def settle(log, name, number, future):
            if future.succeeded():
                self.record.add("ack", log, name, number, future.value.offset)
            else:
                self.record.add("unsure", log, name, number)

        while not self.over.is_set():
            name = self.new_name("old-ordered", "ordered")
            try:
                p = KafkaProducer(bootstrap_servers=self.addresses, acks="all", retries=1000, max_in_flight_requests_per_connection=1, linger_ms=5,
                                  request_timeout_ms=int(self.seconds * 1000), max_block_ms=2000, reconnect_backoff_max_ms=500, api_version=(2, 5, 0))
            except OldKafkaError:
                time.sleep(0.5)
                continue
            until, number, waiting = time.monotonic() + rng.uniform(5, 40), 0, {}
            while time.monotonic() < until and not self.over.is_set() or waiting and not self.quiet.is_set():
                if len(waiting) < 100 and not self.over.is_set() and time.monotonic() < until:
                    log = self.log("old", rng.randrange(TOPICS["old"][0]))
                    self.record.add("send", log, name, number)
                    try:
                        waiting[number] = log, p.send("old", records.value(name, number), partition=log[2])
                    except OldKafkaError:
                        self.record.add("unsure", log, name, number)
                    number += 1
                time.sleep(rng.uniform(0.005, 0.1))
                for n, (log, future) in list(waiting.items()):
                    if future.is_done:
                        settle(log, name, n, future)
                        del waiting[n]
            p.close(timeout=5)
        if waiting:
            self.record.add("problem", f"{self.name}: {len(waiting)} records of kafka-python were never answered")

    def produce_kcat(self, rng):
        while not self.over.wait(rng.uniform(0.5, 3)):
            name, log = self.new_name("kcat", "idempotent"), self.log("kcat", rng.randrange(TOPICS["kcat"][0]))
            count = rng.choice([1, 30, 200])
            for n in range(count):
                self.record.add("send", log, name, n)
            data = b"\n".join(records.value(name, n) for n in range(count)) + b"\n"
            options = ["-X", "enable.idempotence=true", "-X", "message.timeout.ms=0", "-X", f"socket.timeout.ms={int(self.seconds * 1000)}",
                       "-X", "reconnect.backoff.max.ms=500", "-d", "eos,broker,metadata"]  # what it says is shown where it does not end
            p = subprocess.Popen(["kcat", "-P", "-E", "-b", ",".join(self.addresses), "-t", "kcat", "-p", str(log[2]), *options], stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=harness.die_with_parent)
            try:
                problems, said = self.communicate(p, data), b""
                if problems is None:
                    p.kill()
                    said = p.communicate()[1]
            finally:
                p.kill()
                p.wait()
            good = problems is not None and p.returncode == 0 and b"elivery failed" not in problems
            for n in range(count):
                self.record.add(*(("ack", log, name, n, None) if good else ("unsure", log, name, n)))
            if not good:
                what = f"did not end:\n{said[-3000:].decode(errors='replace')}" if problems is None else f"ended with {p.returncode}: {problems[-300:]}"
                self.record.add("problem", f"{name}: kcat {what}")

    def communicate(self, p, data):
        """What it wrote on stderr; None when the run was over before."""
        while not self.quiet.is_set():
            try:
                return p.communicate(data, timeout=0.5)[1]
            except subprocess.TimeoutExpired:
                data = None
        return None

    # --- Those who read.

    def note_reads(self, reader, topic, messages, life=0):
        found = {}
        for m in messages:
            partition, offset, data = (m.partition, m.offset, m.value) if hasattr(m, "_asdict") else (m.partition(), m.offset(), m.value())
            who = records.identify(data)
            if who is None:
                self.record.add("bad", reader, self.log(topic, partition, life), offset, repr(data)[:100])
            else:
                found.setdefault(partition, []).append((offset, *who))
        for partition, batch in found.items():
            self.record.add("reads", reader, self.log(topic, partition, life), batch)
        return {p: batch[-1][0] + 1 for p, batch in found.items()}

    def follow(self, rng, topic):
        """From somewhere, first from the beginning, to the end and along with it; then again."""
        positions = dict.fromkeys(range(TOPICS[topic][0]), 0)
        while not self.over.is_set():
            reader, c = self.reader(f"follow-{topic}"), self.consumer(**{"check.crcs": True, "fetch.message.max.bytes": rng.choice([1000, 100_000])})
            c.assign([TopicPartition(topic, p, max(0, o - rng.choice([0, 100, 1000]))) for p, o in positions.items()])
            until = time.monotonic() + rng.uniform(10, 40)
            while time.monotonic() < until and not self.over.is_set():
                positions.update(self.note_reads(reader, topic, [m for m in c.consume(200, 0.5) if not m.error()]))
            c.close()

    def follow_old(self, rng):
        positions = dict.fromkeys(range(TOPICS["old"][0]), 0)
        while not self.over.is_set():
            try:
                c = KafkaConsumer(bootstrap_servers=self.addresses, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
                                  request_timeout_ms=int(self.seconds * 1000) + 1000, session_timeout_ms=int(self.seconds * 1000), fetch_max_wait_ms=200,
                                  reconnect_backoff_max_ms=500, api_version=(2, 5, 0))
            except OldKafkaError:
                time.sleep(0.5)
                continue
            reader = self.reader("follow-old")
            c.assign([OldTopicPartition("old", p) for p in positions])
            for p, offset in positions.items():
                c.seek(OldTopicPartition("old", p), offset)
            until = time.monotonic() + rng.uniform(10, 40)
            while time.monotonic() < until and not self.over.is_set():
                for batch in c.poll(500).values():
                    positions.update(self.note_reads(reader, "old", batch))
            c.close()

    # --- Groups: members come, leave and are killed.

    def keep_group(self, rng, group):
        while not self.over.is_set():
            mine = [m for m in self.members if m.group == group and m.process.poll() is None]
            if len(mine) < 1 or len(mine) < 3 and rng.random() < 0.3:
                member = Member(self, group, rng)
                self.members.append(member)
                self.run(member.listen)
            elif len(mine) > 1 and rng.random() < 0.2:
                rng.choice(mine).process.send_signal(rng.choice([15, 9]))
            self.over.wait(rng.uniform(1, 4))
        end = time.monotonic() + self.seconds * 2
        for m in [m for m in self.members if m.group == group]:
            if m.process.poll() is None:
                m.process.terminate()
        for m in [m for m in self.members if m.group == group]:
            while m.process.poll() is None and time.monotonic() < end and not self.quiet.is_set():
                time.sleep(0.1)
            m.process.kill()
            m.process.wait()

    def look_up_commits(self, rng):
        while not self.over.wait(rng.uniform(1, 4)):
            with self.lock:
                known = sorted(self.committed)
            if known:
                self.look_up(*rng.choice(known))

    def look_up(self, group, log):
        """Asks for a committed offset; is it told?"""
        port, steady = self.current()
        if not steady:
            return False
        token, c = self.record.token(), self.consumer(port, **{"group.id": group})
        self.record.add("looking", token, group, log)
        try:
            p = c.committed([TopicPartition("grouped", log[2])], timeout=self.seconds * 2)[0]
            told = p.error is None
            if told and self.current() == (port, True):
                self.record.add("found", token, p.offset if p.offset >= 0 else None)
        except KafkaException as e:
            self.complaint(f"{group}, {log}: {e}")
            told = False
        c.close()
        return told

    # --- Administration.

    def ask_ends(self, rng):
        while not self.over.wait(rng.uniform(0.3, 2)):
            with self.lock:
                log = rng.choice([x for x in self.logs if not x[0].endswith("/churn")])
            self.ends(log)

    def ends(self, log):
        """(low, high), noted; None when nobody answered. Asked without a client: librdkafka's query (before 2.3) ignores its time-out and never
        returns when its broker does not."""
        port, steady = self.current()
        if not steady:
            return None
        token, found = self.record.token(), []
        self.record.add("asking", token, log)
        try:
            with Wire(port, self.seconds * 2) as w:
                for timestamp in (-2, -1):
                    answer = call(w, "ListOffsets", 5, {"replica_id": -1, "topics": [{"name": log[0].partition("/")[2], "partitions": [
                        {"partition_index": log[2], "current_leader_epoch": -1, "timestamp": timestamp}]}]})["topics"][0]["partitions"][0]
                    if answer["error_code"]:
                        raise OSError(f"error {answer['error_code']}")
                    found.append(answer["offset"])
        except (OSError, EOFError, AssertionError) as e:
            self.complaint(f"ends of {log}: {e!r}")
            return None
        if self.current() != (port, True):
            return None
        self.record.add("ends", token, log, *found)
        return tuple(found)

    def trim(self, rng):
        """DeleteRecords, to somewhere in the newest part. A late execution of an earlier request changes nothing."""
        while not self.over.wait(rng.uniform(1, 5)):
            log = self.log("trimmed", rng.randrange(TOPICS["trimmed"][0]))
            ends = self.ends(log)
            if not ends or ends[0] == ends[1]:
                continue
            wanted = rng.randint(ends[0], ends[1])
            self.record.add("trim", log, wanted)
            try:
                with Wire(self.current()[0], self.seconds * 2) as w:
                    answer = call(w, "DeleteRecords", 2, {"topics": [{"name": "trimmed", "partitions": [
                        {"partition_index": log[2], "offset": wanted}]}], "timeout_ms": int(self.seconds * 1000)})
            except (OSError, EOFError, AssertionError):
                continue
            got = answer["topics"][0]["partitions"][0]
            if got["error_code"] == 0:
                self.record.add("trimmed", log, got["low_watermark"])

    def churn(self, rng):
        """A topic that is made, written, read, deleted, and made again under its name. Where a request was not answered it may still be
        carried out, and the name is left alone from then on."""
        life, names, topic, clean = 0, 0, "churn", True
        while not self.over.is_set():
            if not clean:
                names += 1
                topic, clean = f"churn{names}", True
            config = {"oxbow.durability": rng.choice(["wal", "object"])}
            made = self.ask(lambda a: a.create_topics([NewTopic(topic, 2, 1, config=config)])[topic], KafkaError.TOPIC_ALREADY_EXISTS)
            if made is None:
                return
            clean = clean and made
            logs = [self.log(topic, p, life) for p in range(2)]
            self.born(topic, life, 2)
            name, p = self.new_name("churn", "idempotent"), self.producer("idempotent", rng)
            try:
                for n in range(rng.choice([1, 50, 300])):
                    self.send(p, topic, logs[rng.randrange(2)], name, n)
                    p.poll(0)
                sent = self.flush(p)
            except KafkaException as e:
                self.gave_up(name, p, e)
                # What it sent may still come: this life is not written to its end, and neither deleted nor made again.
                clean = False
                life += 1
                continue
            if not sent or not self.read_whole(logs):
                return  # the run is over; what is left is read at its end
            if self.over.is_set():
                return
            deleted = self.ask(lambda a: a.delete_topics([topic])[topic], KafkaError.UNKNOWN_TOPIC_OR_PART)
            if deleted is None:
                self.record.add("problem", f"{self.name}: {topic} could not be deleted")
                return
            for log in logs:
                self.gone(log)
            clean = clean and deleted
            life += 1
            self.over.wait(rng.uniform(0, 1))

    def ask(self, request, done):
        """An administrative request until it has been carried out: True when it was answered at the first attempt, False when it took
        more (the answer may then be `done`), None when the run was over first."""
        first = True
        while not self.quiet.is_set():
            port, _ = self.current()
            admin = AdminClient(self.client(**{"bootstrap.servers": f"127.0.0.1:{port}"}))
            try:
                request(admin).result(self.seconds * 3)
                return first
            except KafkaException as e:
                if e.args[0].code() == done and not first:
                    return False
                self.complaint(e)
            except Exception as e:  # the future's time-out
                self.complaint(repr(e))
            first = False
            time.sleep(0.3)
        return None

    # --- Reading a whole log.

    def read_whole(self, logs, still=None):
        """Every record that there is, by a new reader that is `final` for these logs. Nothing may be under way. False: the run was over first,
        or for `still` seconds there was no progress. Goes on with a new client when another broker serves, for that one is found by its
        address alone, and when the client gets nothing for a while."""
        where = {(log[0].partition("/")[2], log[2]): log for log in logs}
        lives = {log[0].partition("/")[2]: log[1] for log in logs}
        reader, ends, at = self.reader("whole"), {}, {}
        c, port, begun, moved = None, None, 0, time.monotonic()
        try:
            while len(ends) < len(where) or any(at[k] < ends[k][1] for k in where):
                now = time.monotonic()
                if self.quiet.is_set() or still and now - moved > still:
                    return False
                if c is None or self.current()[0] != port or now - max(begun, moved) > self.seconds * 5:
                    if c:
                        c.close()
                    (port, _), begun = self.current(), now
                    c, assigned = self.consumer(port), None
                for key in [k for k in where if k not in ends]:
                    found = self.ends(where[key]) if self.current() == (port, True) else None
                    if found is None:
                        time.sleep(0.1)
                        break
                    ends[key], at[key], moved = found, found[0], time.monotonic()
                if len(ends) < len(where):
                    continue
                if assigned is None:
                    assigned = [TopicPartition(*k, at[k]) for k in where if at[k] < ends[k][1]]
                    c.assign(assigned)
                batch = collections.defaultdict(list)
                for m in c.consume(1000, 0.3):
                    if m.error():
                        self.complaint(f"{m.topic()} {m.partition()}: {m.error()}")
                    else:
                        batch[m.topic()].append(m)
                for topic, messages in batch.items():
                    for partition, offset in self.note_reads(reader, topic, messages, lives[topic]).items():
                        at[topic, partition], moved = offset, time.monotonic()
        finally:
            if c:
                c.close()
        for key, log in where.items():
            self.record.add("final", log, reader, *ends[key])
        return True

    # --- The end.

    def finish(self, still):
        """Nothing new is begun; what waits is acknowledged. False: for `still` seconds nothing went on and something still waited, and the
        record says what."""
        self.over.set()
        before, moved = None, time.monotonic()
        while time.monotonic() - moved < still:
            alive = [t for t in self.threads if t.is_alive()]
            if not alive:
                break
            state = (len(alive), self.record.acked, self.record.read)
            if state != before:
                before, moved = state, time.monotonic()
            alive[0].join(0.1)
        late = [f"{t.name} ({self.place_of(t)})" for t in self.threads if t.is_alive()]
        if late:
            self.record.add("problem", f"{self.name}: after the faults stopped nothing went on for {still:.0f} s, and there still wait: "
                            + ", ".join(late) + self.complaints())
        self.quiet.set()
        self.join(20)
        return not late

    def join(self, seconds):
        """Waits for the threads, all together for so long. Those that hang in a client are daemons, and end with the process."""
        end = time.monotonic() + seconds
        for t in self.threads:
            t.join(max(0, end - time.monotonic()))
        late = [f"{t.name} ({self.place_of(t)})" for t in self.threads if t.is_alive()]
        if late:
            self.record.add("note", f"{self.name}: these threads do not end: " + ", ".join(late))

    def place_of(self, thread):
        """Where it is in these files, innermost first, and with what."""
        found, frame = [], sys._current_frames().get(thread.ident)
        while frame:
            if os.path.dirname(frame.f_code.co_filename) == SOAK:
                known = {k: str(v)[:100] for k, v in frame.f_locals.items() if k in ("name", "log", "logs", "number", "waiting", "topic", "ends", "at")}
                found.append(f"{frame.f_code.co_name}:{frame.f_lineno} {known}")
            frame = frame.f_back
        return ", in ".join(found)

    def complaints(self):
        return "; the clients' last complaints:" + "".join(f"\n    {x}" for x in self.errors)

    def read_all(self, still):
        """All that there is, and what the groups committed. False: not, and the record says what."""
        with self.lock:
            logs, known = list(self.logs), sorted(self.committed)
        self.quiet.clear()
        if not self.read_whole(logs, still):
            self.record.add("problem", f"{self.name}: after the faults stopped not everything could be read; nothing went on for {still:.0f} s" + self.complaints())
            return False
        for group, log in known:
            end = time.monotonic() + still
            while not self.look_up(group, log):
                if time.monotonic() > end:
                    self.record.add("problem", f"{self.name}: group {group} was not told what it had committed on {log}" + self.complaints())
                    return False
        return True

    def end(self):
        """Whatever state it is in."""
        self.over.set()
        self.quiet.set()
        for m in self.members:
            m.process.kill()
            m.process.wait()
        self.join(10)


class Member:
    """member.py, and who writes down what it says."""

    def __init__(self, load, group, rng):
        self.load, self.group, self.name = load, group, load.new_name(group)
        command = [sys.executable, os.path.join(SOAK, "member.py"), ",".join(load.addresses), group, "grouped", self.name, str(rng.random()), str(load.seconds)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        preexec_fn=harness.die_with_parent)

    def listen(self, _):
        load, record, known, tokens = self.load, self.load.record, set(), {}
        for line in self.process.stdout:
            try:
                kind, *rest = json.loads(line)
            except ValueError:
                break  # it was killed within a line
            if kind in ("reads", "bad") and rest[0] not in known:
                known.add(rest[0])
                record.add("reader", rest[0], self.group)
            if kind == "reads":
                record.add("reads", rest[0], load.log(rest[1], rest[2]), [tuple(r) for r in rest[3]])
            elif kind == "bad":
                record.add("bad", rest[0], load.log(rest[1], rest[2]), *rest[3:])
            elif kind == "committing":
                tokens[rest[0]] = record.token()
                record.add("committing", tokens[rest[0]], self.group, load.log(rest[1], rest[2]), rest[3])
                with load.lock:
                    load.committed.add((self.group, load.log(rest[1], rest[2])))
            elif kind == "committed":
                record.add("committed", tokens[rest[0]])
        self.process.wait()
