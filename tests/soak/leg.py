"""One leg of a soak: a broker on one kind of store, clients on it, and faults, one after the other, each followed by the question
whether everything serves again."""

import contextlib
import os
import random
import re
import shutil
import signal
import time

import harness
import place as places
import s3server
from load import Load
from place import Place
from s3proxy import Proxy

KEYS = {"AWS_ACCESS_KEY_ID": s3server.KEY, "AWS_SECRET_ACCESS_KEY": s3server.SECRET, "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}
SERVES_AGAIN_SECONDS = 90  # after a fault: something is acknowledged. Generous: S3 requests wait 20 s, clients back off, machines are slow
STARTS_SECONDS = 90
STILL_SECONDS = 90         # after the last fault: so long nothing at all is acknowledged or read, and something still waits
IMAGE_BYTES = 1 << 30

FAULTS = ("kill", "stop", "power", "store", "eio", "enospc", "hang", "twin")
# What a leg is: its store, and whether there is a write-ahead log.
KINDS = {"file": ("file", True), "file-none": ("file", False), "s3": ("s3", True), "s3-none": ("s3", False)}

STORE_FAULTS = {
    "refuse": lambda p: p.outage("refuse"),
    "silent": lambda p: p.outage("silent"),
    "503": lambda p: p.add("answer", status=503, code="SlowDown", chance=0.5),
    "500 after": lambda p: p.add("answer", kinds={"CREATE"}, status=500, code="InternalError", after=True, chance=0.3),
    "reset before": lambda p: p.add("reset_before", chance=0.3),
    "reset after": lambda p: p.add("reset_after", chance=0.3),
    "reset within": lambda p: p.add("reset_within", kinds={"CREATE", "PUT", "PART"}, chance=0.3),
    "lost answers": lambda p: p.add("lose", kinds={"CREATE", "PUT"}, chance=0.1),
    "late": lambda p: p.add("delay", kinds={"CREATE"}, seconds=4, silent=False, chance=0.3),
    "slow": lambda p: p.add("latency", seconds=1.0, chance=0.5),
    "cut": lambda p: p.add("cut", kinds={"GET", "LIST"}, chance=0.3),
    "changed": lambda p: p.add("change", kinds={"GET"}, chance=0.2),
}
EVERYTHING = places.READ | places.WRITE | places.FSYNC | places.CREATE | places.LINK | places.MKDIR | places.UNLINK | places.ALLOCATE | places.OPEN
EIO = [(places.WRITE, places.BEFORE), (places.WRITE, places.AFTER), (places.WRITE, places.HALF), (places.FSYNC, places.BEFORE), (places.READ, places.BEFORE),
       (places.LINK, places.AFTER), (places.LINK, places.BEFORE), (places.CREATE | places.OPEN, places.BEFORE), (places.FSYNCDIR, places.AFTER),
       (EVERYTHING, places.BEFORE)]
ENOSPC = places.WRITE | places.CREATE | places.LINK | places.MKDIR | places.ALLOCATE


class Failed(Exception):
    """A promise about the broker itself was broken; the leg ends here."""


class Leg:
    def __init__(self, kind, record, options, seed, gateway):
        self.kind, self.record, self.o, self.gateway = kind, record, options, gateway
        self.rng = random.Random(seed)
        self.store, self.wal = KINDS[kind]
        self.count = dict.fromkeys(FAULTS, 0)
        self.skipped = {}
        self.stack = contextlib.ExitStack()
        self.serving = None     # the broker that clients are served by
        self.steady = True      # and there is surely no other beside it
        self.brokers = []
        self.proxy = self.place = self.load = None
        self.faulty = False     # a window is open: starts may be refused
        self.met = False        # the start that is under way met one: it may still be refused

    def note(self, text):
        self.record.add("note", f"{self.kind}: {text}")
        if self.o.verbose:
            print(f"  {time.monotonic() - self.record.began:6.1f} {self.kind}: {text}", flush=True)

    # --- Brokers.

    def set_up(self):
        folder = os.path.join(self.o.folder, self.kind)
        os.makedirs(folder)
        self.place = Place(folder, self.o.may_mount, IMAGE_BYTES)
        self.stack.callback(self.place.close)
        r = self.rng
        settings = {"http.listen": "127.0.0.1:0", "upload.bytes": r.choice(["64KiB", "256KiB", "1MiB"]), "upload.interval.ms": r.choice([100, 500, 3000]),
                    "cache.log.bytes": "16MiB", "cache.block.bytes": "4MiB", "checkpoint.interval.ms": r.choice([500, 3000, 20000]),
                    "shards": r.choice([1, 2]), "io.backend": r.choice(["auto", "epoll"]), "group.initial.rebalance.delay.ms": 200,
                    "connections.max.idle.ms": int(self.o.pause_seconds * 800), "group.min.session.timeout.ms": 1000, "offsets.topic.num.partitions": 3, "auto.create.topics.enable": "false",
                    "log.segment.bytes": r.choice(["1200000", "10000000"])}
        env = {}
        if self.store == "s3":
            bucket = self.gateway.bucket()
            self.stack.callback(self.gateway.client.empty, bucket)
            self.proxy = self.stack.enter_context(Proxy(self.gateway.endpoint, seed=r.random()))
            settings["storage.url"] = self.gateway.url(bucket, "soak", self.proxy.endpoint)
            env = KEYS
        else:
            settings["storage.url"] = f"file://{self.place.data}/store"
        settings["wal.url"] = f"file://{self.place.data}/wal?size=24MiB" if self.wal else "none"
        self.note("settings " + " ".join(f"{k}={v}" for k, v in settings.items()))
        if self.o.unflushed:
            settings["io.backend"] = "epoll"
            env = {**env, **harness.preload(harness.compile_c("unflushed.c", os.path.join(folder, "unflushed.so"), ["-shared", "-fPIC", "-ldl"]))}
        for n, name in enumerate(("a", "b"), 1):
            # Ids of their own: librdkafka forgets the bootstrap address of a broker that turns up elsewhere under the same id.
            b = harness.Broker(os.path.join(folder, name), {**settings, "node.id": n}, env)
            b.name = name
            self.stack.callback(b.end)
            self.brokers.append(b)
        self.serving = self.brokers[0]
        self.serving.start()
        addresses = [b.address for b in self.brokers] if self.may_take_over() else [self.serving.address]
        self.load = Load(self.record, self.kind, addresses, lambda: (self.serving.port, self.steady), self.o.request_seconds, r)
        self.stack.callback(self.load.end)
        self.load.start()

    def may_take_over(self):
        return self.store == "s3" and not self.wal

    def other(self):
        return next(b for b in self.brokers if b is not self.serving)

    def revive(self, b=None):
        """Starts it, again and again where it is refused: a supervisor's work."""
        b = b or self.serving
        end = time.monotonic() + STARTS_SECONDS
        refusals = []
        while True:
            b.start(wait=False)
            while b.alive() and 'msg="ready"' not in b.log():
                if time.monotonic() > end:
                    raise Failed(f"no start within {STARTS_SECONDS} s; the log:\n{b.log()[-3000:]}")
                time.sleep(0.02)
            if b.alive():
                return refusals
            status = b.wait()
            refusals.append(last_error(b))
            self.note(f"a start ended with {status}: {refusals[-1]}")
            if not self.faulty and len(refusals) > 8 or time.monotonic() > end:
                raise Failed(f"it does not start: {refusals[-1]}; the log:\n{b.log()[-3000:]}")
            if self.faulty:
                return refusals
            time.sleep(1)

    def running(self):
        """A broker that ended by itself is a broken promise, but where a fault explains it."""
        b = self.serving
        if self.met and b.process is not None:
            if 'msg="ready"' in b.log():
                self.met = False
            elif not b.alive():
                # Also some time after the window: what it asked of a store that said nothing then is answered by its time-out.
                self.met = False
                self.end_start()
        if b.process is not None and not b.alive():
            status = b.wait()
            raise Failed(f"the broker ended by itself with {status}: {last_error(b)}; the log:\n{b.log()[-4000:]}")

    def kill(self):
        if self.serving.process is not None:
            self.running()
            self.serving.kill9()

    def end_start(self):
        """A start that a window met: it was refused, or is ended."""
        if self.serving.alive():
            if 'msg="ready"' in self.serving.log():
                raise Failed(f"it serves another store beside its log; the log:\n{self.serving.log()[-3000:]}")
            self.serving.kill9()
        else:
            self.note(f"the start met the fault and ended with {self.serving.wait()}: {last_error(self.serving)}")

    def serves_again(self, after):
        self.faulty = False
        if self.serving.process is None:
            self.revive()
        before, end = self.record.acked, time.monotonic() + self.o.patience * SERVES_AGAIN_SECONDS
        while self.record.acked < before + 20 or self.met:
            self.running()
            if self.serving.process is None:
                self.revive()
            if time.monotonic() > end:
                raise Failed(f"within {SERVES_AGAIN_SECONDS} s after {after} almost nothing is acknowledged; the log:\n{self.serving.log()[-3000:]}")
            time.sleep(0.05)

    # --- Faults. Each is over when its function returns; True: it was one.

    def fault_kill(self):
        for _ in range(self.rng.choice([1, 1, 1, 3])):
            if self.rng.random() < 0.25:
                self.note("SIGTERM")
                self.running()
                self.serving.stop(60)
            else:
                self.note("kill -9")
                self.kill()
            time.sleep(self.rng.choice([0, 0, 1]))
            self.serving.start(wait=False)
            # Sometimes again before it has come to itself.
            if self.rng.random() < 0.3:
                time.sleep(self.rng.uniform(0, 0.5))
                if self.serving.alive():
                    self.serving.kill9()
                else:
                    self.serving.wait()
            else:
                self.serving.wait_ready()
            if self.serving.process is None:
                self.revive()
            time.sleep(self.rng.uniform(0, 1))
        return True

    def fault_stop(self):
        self.note(f"SIGSTOP for {self.o.pause_seconds} s")
        self.running()
        self.serving.process.send_signal(signal.SIGSTOP)
        time.sleep(self.o.pause_seconds)
        self.serving.process.send_signal(signal.SIGCONT)
        return True

    def fault_power(self):
        if "power" in self.place.missing:
            return False
        self.note("power cut")
        self.running()
        self.place.cut(self.serving)
        time.sleep(self.rng.choice([0, 1]))
        return True

    def window(self, begin, end, what, nested=True):
        """A fault that lasts; in some of them the broker is killed or stands still, too."""
        seconds = self.rng.uniform(0.3, 1) * self.o.window_seconds
        self.note(f"{what} for {seconds:.1f} s")
        self.faulty = True
        begin()
        try:
            half = self.rng.uniform(0.2, 0.8) * seconds
            time.sleep(half)
            also = self.rng.random() if nested else 1
            if also < 0.35:
                self.note("and kill -9")
                self.kill()
                self.serving.start(wait=False)
                self.faulty = True
            elif also < 0.45:
                self.note("and SIGSTOP")
                self.serving.process.send_signal(signal.SIGSTOP)
                time.sleep(seconds - half)
                self.serving.process.send_signal(signal.SIGCONT)
            time.sleep(seconds - half)
        finally:
            end()
        self.met = also < 0.35
        self.faulty = False

    def fault_store(self):
        if self.store == "file":
            path = f"{self.place.data}/store"

            def put_back():
                # Who is started meanwhile makes a store of its own, and must leave a log alone that belongs to another.
                if os.path.exists(path):
                    self.end_start()
                    shutil.rmtree(path)
                os.rename(path + ".away", path)
            self.window(lambda: os.rename(path, path + ".away"), put_back, "the store's folder is away", nested=self.wal)
            return True
        how = self.rng.choice(["gateway", *STORE_FAULTS, *STORE_FAULTS])
        if how == "gateway":
            server = next(p for p in self.gateway.processes if os.path.basename(p.args[0]) == "radosgw")

            def end():
                self.gateway.processes.remove(server)
                self.gateway.spawn("radosgw", *server.args)
                harness.eventually(self.gateway.answers, 60, 0.2, "the gateway answers again")
            self.window(lambda: (server.kill(), server.wait()), end, "the S3 server is killed")
        else:
            def back():
                self.proxy.clear()
                if self.proxy.away:
                    self.proxy.back()
            self.window(lambda: STORE_FAULTS[how](self.proxy), back, f"the store: {how}")
        return True

    def under(self):
        """Which of the folders a disk's fault meets."""
        found = ["/wal"] if self.wal else []
        if self.store == "file":
            found += ["/store", ""]
        return self.rng.choice(found) if found else None

    def fault_disk(self, error):
        if not self.place.fuse:
            return False
        under = self.under()
        if error == "eio":
            operations, how = self.rng.choice(EIO)
        else:
            operations, how = ENOSPC, places.BEFORE
        chance = self.rng.choice([1.0, 1.0, 0.3, 0.05])
        hits = []
        self.window(lambda: self.place.fuse.fail(places.ERRORS[error], operations, chance, how, under), lambda: hits.append(self.place.fuse.heal()),
                    f"{error} under {under or '/'}, operations {operations:#x}, how {how}, chance {chance}")
        self.note(f"{hits[0]} operations failed")
        if operations & places.FSYNCDIR and hits[0]:
            # A folder's failed fsync leaves open what is durable: the folder store writes nothing more until it is started again.
            self.note("started again, after fsyncs of folders that failed")
            self.kill()
        return hits[0] > 0

    def fault_eio(self):
        return self.fault_disk("eio")

    def fault_enospc(self):
        return self.fault_disk("enospc")

    def fault_hang(self):
        """The disk says nothing for a while, then goes on."""
        if not self.place.fuse:
            return False
        self.window(self.place.fuse.hang, self.place.fuse.go_on, "the disk hangs", nested=False)
        return True

    def fault_twin(self):
        """The broker stands still, another starts on the same store; then the first goes on and believes itself alone."""
        first, second = self.serving, self.other()
        self.note(f"a twin: {first.name} stands still, {second.name} starts")
        self.running()
        self.steady = False
        try:
            first.process.send_signal(signal.SIGSTOP)
            time.sleep(self.rng.choice([0, self.o.request_seconds]))
            self.faulty = True
            refusals = [] if not self.may_take_over() else None
            if refusals is None:
                refusals = self.revive(second)
                if refusals:
                    raise Failed(f"the twin could not take over: {refusals}")
                time.sleep(self.rng.choice([0, 1, self.o.request_seconds * 2]))
            else:
                second.start(wait=False)
                end = time.monotonic() + 60
                while second.alive() and time.monotonic() < end:
                    time.sleep(0.05)
                if second.alive() or second.wait() != 1:
                    raise Failed(f"{second.name} runs beside {first.name} on the same store or WAL; the log:\n{second.log()[-2000:]}")
                self.note(f"the twin was refused: {last_error(second)}")
            first.process.send_signal(signal.SIGCONT)
            if self.may_take_over():
                self.serving = second
                # It finds out with the next thing that it writes, and clients still write to it.
                end = time.monotonic() + 15
                while first.alive() and time.monotonic() < end:
                    time.sleep(0.05)
                if first.alive():
                    self.note(f"{first.name} still runs: it is killed")
                    first.kill9()
                else:
                    self.note(f"{first.name} ended with {first.wait()}: {last_error(first)}")
        finally:
            self.faulty = False
            if self.serving is first and first.alive():
                first.process.send_signal(signal.SIGCONT)
            self.steady = True
        return True

    # --- The whole.

    def enabled(self):
        found = [f for f in FAULTS if f in self.o.faults]
        local = self.wal or self.store == "file"
        for fault in list(found):
            why = None
            if fault == "power":
                why = self.place.missing.get("power") if local else "nothing local"
            elif fault in ("eio", "enospc", "hang"):
                why = self.place.missing.get("fuse") if local else "nothing local"
            if why:
                found.remove(fault)
                if why != "nothing local":
                    self.skipped[fault] = why
        return found

    def run(self, seconds):
        try:
            self.set_up()
            end, faults, deck = time.monotonic() + seconds, self.enabled(), []
            time.sleep(1)
            self.serves_again("the start")
            while faults and (time.monotonic() < end or sum(self.count.values()) < self.o.least):
                if not deck:
                    deck = self.rng.sample(faults, len(faults))
                fault = deck.pop()
                if getattr(self, f"fault_{fault}")():
                    self.count[fault] += 1
                self.serves_again(fault)
                time.sleep(min(max(0, end - time.monotonic()), self.rng.uniform(0, self.o.calm_seconds)))
            self.note("the faults are over")
            self.serves_again("the last fault")
            self.all_is_there()
            self.running()
            self.serving.stop(60)
        except (Failed, AssertionError, OSError) as e:
            self.record.add("problem", f"{self.kind}: {e}")
        except KeyboardInterrupt:
            self.record.add("problem", f"{self.kind}: interrupted")
            raise
        finally:
            self.take_down()

    def all_is_there(self):
        """What waits is acknowledged, and everything is read; and again, after a kill."""
        still = self.o.patience * STILL_SECONDS
        good = self.load.finish(still) and self.load.read_all(still)
        if good:
            self.note("everything was read; once more, after a kill")
            self.kill()
            self.revive()
            good = self.load.read_all(still)
        self.running()
        if not good:
            self.record.add("problem", f"{self.kind}: the end of the log of {self.serving.name}, which serves:\n{self.serving.log()[-3000:]}")

    def take_down(self):
        if self.place and self.place.fuse and self.place.fuse.process:
            with contextlib.suppress(OSError, ValueError):
                self.place.fuse.heal()
                self.place.fuse.go_on()
        for b in self.brokers:
            if b.process is not None:
                b.end()
            if os.path.exists(b.log_path):
                try:
                    b.check_log()
                except AssertionError as e:
                    self.record.add("problem", f"{self.kind}: {e}")
        try:
            self.stack.close()
        except (AssertionError, OSError, s3server.S3Error) as e:
            self.note(f"while tidying up: {e}")


def last_error(b):
    """What a broker's log says of why it ended."""
    lines = [x for x in b.log().splitlines() if "level=error" in x]
    return re.sub(r"^time=\S+ ", "", lines[-1])[:300] if lines else "(no error in its log)"
