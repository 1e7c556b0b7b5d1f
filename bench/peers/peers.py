"""The brokers that are measured: how each is started, looked at, stopped and killed, under which limits.

All live under the same ones: the same processors, and one memory cgroup (which counts the page cache too) where this machine lets us make
one. Everything started here ends with the script, however that ends: a broker dies with the thread that started it.

Two brokers are Oxbow with one difference, for what they tell about the first: where its store is not on the disk of its write-ahead log, and
where that log is on a block device.

Kafka runs with what its own start scripts would give it: their flags for the Java machine, a heap of 1 GiB, and the thread counts of its
shipped configuration, which are its defaults. Tansu, a broker over a database or a bucket, runs where somebody has installed it ("cargo install
tansu"), with its defaults and SQLite, the one of its stores that lies in local files: what is acknowledged is in the page cache, for it asks for
no more (synchronous=normal). Oxbow runs with its defaults, and a write-ahead log of 1 GiB."""

import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "integration"), os.path.join(ROOT, "tests", "clients")]

import harness  # noqa: E402  pylint: disable=wrong-import-position
import wire  # noqa: E402  pylint: disable=wrong-import-position

START_SECONDS = 90
WAL_BYTES = 1 << 30
STORE_BYTES_MIN, STORE_BYTES_MAX = 4 << 30, 12 << 30  # of a store in memory
SETTLE_SECONDS = 30
# kafka-run-class.sh and kafka-server-start.sh of the releases that are measured.
SHIPPED_JAVA = ["java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
                "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true"]
FSYNC = {"log.flush.interval.messages": "1"}
# Deleted topics go at once, so that the next load does not share the disk with them; the same is true of Oxbow's by itself.
KAFKA = {"log.segment.delete.delay.ms": "500", "auto.create.topics.enable": "false"}


class Unmeasurable(Exception):
    """This broker cannot be measured here; the text says why."""


class Limits:
    """What all brokers are held to. `memory_bytes` 0: no limit."""

    def __init__(self, cpus, memory_bytes):
        self.cpus = cpus
        self.group, self.why_not = None, "not asked for"
        self.memory_bytes = memory_bytes
        if memory_bytes:
            self.group, self.why_not = memory_group(memory_bytes)

    def describe(self):
        memory = (f"memory cgroup of {self.memory_bytes / (1 << 30):g} GiB, page cache included" if self.group
                  else f"no memory cgroup ({self.why_not})")
        return f"processors {','.join(map(str, self.cpus))}; {memory}; at most {resource.getrlimit(resource.RLIMIT_NOFILE)[1]:,} open files each"

    def change(self, memory_bytes):
        """For one load; change(limits.memory_bytes) is the way back."""
        if self.group:
            write(self.group[1], memory_bytes)

    def enter(self):
        """In a child, before exec."""
        harness.die_with_parent()
        os.sched_setaffinity(0, self.cpus)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if self.group:
            write(os.path.join(self.group[0], "cgroup.procs"), os.getpid())

    def close(self):
        if not self.group:
            return
        for _ in range(50):  # a process that has just died may still be counted
            try:
                os.rmdir(self.group[0])
                break
            except OSError:
                time.sleep(0.1)
        self.group = None


def write(path, value):
    with open(path, "w", encoding="ascii") as f:
        f.write(str(value))


def memory_group(limit):
    """A cgroup of our own below (version 1) or beside (version 2, where a group with processes has no groups below) that of this process:
    ((folder, file of the limit), "") or (None, why not)."""
    with open("/proc/self/cgroup", encoding="ascii") as f:
        lines = [line.rstrip("\n").split(":", 2) for line in f]
    own = next((path for _, names, path in lines if "memory" in names.split(",")), None)
    unified = next((path for number, _, path in lines if number == "0"), None)
    if own is not None:
        candidates = [("/sys/fs/cgroup/memory" + own, "memory.limit_in_bytes")]
    elif unified is not None:
        candidates = [("/sys/fs/cgroup" + unified, "memory.max"), (os.path.dirname("/sys/fs/cgroup" + unified), "memory.max")]
    else:
        return None, "this kernel has none"
    why = ""
    for parent, name in candidates:
        folder = os.path.join(parent, f"oxbow-peers-{os.getpid()}")
        try:
            os.mkdir(folder)
            write(os.path.join(folder, name), limit)
            return (folder, os.path.join(folder, name)), ""
        except OSError as e:
            why = e.strerror or str(e)
            if os.path.isdir(folder):
                os.rmdir(folder)
    return None, why


class Peer:
    """One broker process and its folder, which outlives it: launch() after stop() or kill9() goes on with the same data."""

    name = ""
    more_memory = 0  # bytes of the cgroup beyond what all have, for what is in memory and counted there

    deletes = True  # topics, between loads

    def __init__(self, folder, limits):
        self.folder, self.limits, self.process = folder, limits, None
        os.makedirs(folder, exist_ok=True)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def spawn(self):
        """Starts the process and remembers it in self.process."""
        raise NotImplementedError

    def prepare(self):
        """What must be done to a new folder, before and apart from the start."""

    def settle(self):
        """Between two loads, when the topics of the first have been deleted."""

    def spoilt(self):
        """Why a load that has just ended does not count, or ""."""
        return ""

    def start(self, seconds=START_SECONDS):
        """Returns how long it took, in ms: (until a connection was accepted, until it answered what it speaks and who it is)."""
        began = time.monotonic()
        self.spawn()
        accepted = None
        while True:
            try:
                if self.process.poll() is not None:
                    raise Unmeasurable(f"it ended with status {self.process.returncode}: {self.last_words()}")
                with wire.Wire(self.port, 5) as w:
                    accepted = accepted or time.monotonic()
                    if w.api_versions()[0] == 0 and brokers_known(w) > 0:
                        return (accepted - began) * 1000, (time.monotonic() - began) * 1000
            except (OSError, AssertionError):
                pass
            if time.monotonic() - began > seconds:
                raise Unmeasurable(f"it did not answer within {seconds} s: {self.last_words()}")
            time.sleep(0.001)

    def first_produce(self, topic, partition=0, seconds=START_SECONDS):
        """Seconds until a record was acknowledged."""
        began = time.monotonic()
        while True:
            try:
                with wire.Wire(self.port, 10) as w:
                    while time.monotonic() - began < seconds:
                        error, _, _ = w.produce(topic, partition, wire.batch([b"x" * 100]))
                        if error == 0:
                            return time.monotonic() - began
                        time.sleep(0.002)
            except (OSError, AssertionError):
                pass
            if self.process.poll() is not None:
                raise Unmeasurable(f"it ended with status {self.process.returncode}: {self.last_words()}")
            if time.monotonic() - began > seconds:
                raise Unmeasurable(f"no record was acknowledged within {seconds} s: {self.last_words()}")
            time.sleep(0.002)

    def last_words(self):
        try:
            with open(os.path.join(self.folder, "log"), "rb") as f:
                f.seek(max(0, os.path.getsize(f.name) - 60000))
                lines = f.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        telling = [x for x in lines if re.search(r"Error|Exception|error|failed|FATAL", x)] or lines
        return tidy(telling[0] if telling else "")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, seconds=60):
        """In order; by force when that takes too long."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        self.kill9()

    def kill9(self):
        if self.alive():
            self.process.kill()
        if self.process:
            self.process.wait()
        self.process = None

    def remove(self):
        self.kill9()
        thaw(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def memory(self):
        """Bytes: resident now, the most so far."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            text = f.read()
        return tuple(int(re.search(rf"{k}:\s+(\d+)", text)[1]) * 1024 for k in ("VmRSS", "VmHWM"))

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def counters(self):
        """What the broker itself counts, by name; {} where it is not asked."""
        return {}


def brokers_known(w):
    r = w.call(wire.METADATA, 1, wire.Writer().array([], None).out)
    return len(r.array(lambda: (r.i32(), r.string(), r.i32(), r.string())))


def tidy(text):
    """A line for people, without what is of this machine alone."""
    return re.sub(r"(?:/[\w.@+-]+){2,}/?", "...", text.strip())[:300]


def thaw(folder):
    """Undoes freeze() of any folder below."""
    frozen = os.path.join(folder, ".frozen")
    if os.path.exists(frozen):
        with open(frozen, encoding="utf-8") as f:
            subprocess.run(["chattr", "-R", "-i", f.read()], check=False, capture_output=True)
        os.unlink(frozen)


def written(path, nbytes):
    """A file that was written before, as the log is after its first lap."""
    for command in (["fallocate", "-l", str(nbytes), path],
                    ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={nbytes >> 20}", "oflag=direct", "conv=notrunc,fsync"]):
        subprocess.run(command, capture_output=True, check=True)
    return path


class Oxbow(Peer):
    name = "oxbow"
    log_on_disk, uploads_beside = True, True  # and uploads on the same disk

    def __init__(self, folder, limits, binary, settings=None, env=None):
        super().__init__(folder, limits)
        self.binary, self.env, self.like = binary, env, None
        self.port = harness.free_port()
        self.settings = {"listeners": f"PLAINTEXT://127.0.0.1:{self.port}", "storage.url": f"file://{folder}/store",
                         "wal.url": f"file://{folder}/wal?size={WAL_BYTES}", "http.listen": "127.0.0.1:0",
                         "group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "false", **(settings or {})}

    def spawn(self):
        command = [self.binary, "serve"]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        path = os.path.join(self.folder, "log")
        self.log_from = os.path.getsize(path) if os.path.exists(path) else 0
        with open(path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, preexec_fn=self.limits.enter,
                                            env={**os.environ, **(self.env or {})})

    def http_port(self):
        """Where the metrics are, or None."""
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as f:
            f.seek(self.log_from)
            port = re.findall(r"http_port=(\d+)", f.read())
        return port[-1] if port else None

    def counters(self):
        port = self.http_port()
        if not port:
            return {}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        found = {}
        for name, labels, value in re.findall(r'^oxbow_(\w+)(\{[^}]*\})? ([0-9.e+-]+)$', text, re.M):
            op = re.search(r'op="(\w+)"', labels or "")
            key = f"{name}.{op[1]}" if op else name
            if not labels or op:
                found[key] = found.get(key, 0) + float(value)
        return found

    def like_log(self, nbytes):
        """A place where a log could be, of the same kind and on the same disk as its own, written before. It stays until remove()."""
        self.like = self.like or written(os.path.join(self.folder, "like-log"), nbytes)
        return self.like

    def freeze(self):
        """From here on no object can be written: uploads fail and are repeated, and the write-ahead log fills. False: not to be done here."""
        objects = os.path.join(self.settings["storage.url"][len("file://"):], "objects")
        with open(os.path.join(self.folder, ".frozen"), "w", encoding="utf-8") as f:
            f.write(objects)
        try:
            return subprocess.run(["chattr", "-R", "+i", objects], check=False, capture_output=True).returncode == 0
        except FileNotFoundError:
            return False


class OxbowPartInMemory(Oxbow):
    """With a part of what it keeps in memory (tmpfs) at `place`."""

    def prepare(self):
        size, least = self.sizes(memory_free())
        os.makedirs(self.place, exist_ok=True)
        if os.geteuid() == 0:
            run = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "oxbow-peers", self.place], capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise Unmeasurable(f"no memory file system could be mounted: {tidy(run.stderr)}")
        size = min(size, space(self.place)[0])
        if size < least:
            raise Unmeasurable(f"{self.what} in memory needs {least / (1 << 30):.1f} GiB, there are {size / (1 << 30):.1f}")
        self.more_memory = size

    def remove(self):
        self.kill9()
        unmount(self.place)
        shutil.rmtree(self.place, ignore_errors=True)
        super().remove()


class OxbowStoreApart(OxbowPartInMemory):
    """With its store in memory: what the broker does when objects go somewhere else than to the disk of its write-ahead log, as they
    do with S3 or a second volume. What a network card and TLS would cost is missing; the copy into memory is there in its place."""

    name, what = "oxbow-store-apart", "a store"
    uploads_beside = False

    def __init__(self, folder, limits, binary, settings=None, env=None):
        self.place = memory_folder(folder)
        super().__init__(folder, limits, binary, {"storage.url": f"file://{self.place}/store", **(settings or {})}, env)

    @staticmethod
    def sizes(free):
        """(What is wanted of that, what is needed.)"""
        return min(STORE_BYTES_MAX, free // 2), STORE_BYTES_MIN

    def settle(self):
        """What was deleted must be gone before more comes: it is memory."""
        end = time.monotonic() + SETTLE_SECONDS
        while space(self.place)[1] > self.more_memory // 8 and time.monotonic() < end:
            time.sleep(0.2)

    def spoilt(self):
        return "the store in memory was full" if space(self.place)[1] > self.more_memory * 0.95 else ""


class OxbowLogInMemory(OxbowPartInMemory):
    """With its write-ahead log in memory: what it acknowledges is as lost with the machine as with Kafka's default. Nobody should run this; it is
    what the processors alone make of a load, with no disk to wait for."""

    name, what = "oxbow-log-in-memory", "a log"
    log_on_disk = False

    def __init__(self, folder, limits, binary, settings=None, env=None):
        self.place = memory_folder(folder)
        super().__init__(folder, limits, binary, {"wal.url": f"file://{self.place}/wal?size={WAL_BYTES}", **(settings or {})}, env)

    @staticmethod
    def sizes(_):
        return WAL_BYTES + (64 << 20), WAL_BYTES


class OxbowBlock(Oxbow):
    """With its write-ahead log on a block device: a loop device over a file of the same disk, written once before it starts."""

    name = "oxbow-block"

    def __init__(self, folder, limits, binary, settings=None, env=None):
        super().__init__(folder, limits, binary, settings, env)
        self.devices = {}  # by image: (name, descriptor that keeps it)

    def device(self, name, nbytes):
        """A loop device over a file of that name in the folder."""
        image = os.path.join(self.folder, name)
        if image not in self.devices:
            run = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", written(image, nbytes)], capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise Unmeasurable(f"no loop device: {tidy(run.stderr)}")
            device = run.stdout.strip()
            self.devices[image] = device, os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            subprocess.run(["losetup", "-d", device], check=True)  # when the last user is gone, however that comes
        return self.devices[image][0]

    def prepare(self):
        if os.geteuid() != 0:
            raise Unmeasurable("a loop device needs root")
        self.settings["wal.url"] = f"block://{self.device('device', WAL_BYTES)}"

    def like_log(self, nbytes):
        return self.device("like-device", nbytes)

    def remove(self):
        self.kill9()
        for _, fd in self.devices.values():
            os.close(fd)
        self.devices = {}
        super().remove()


def memory_free():
    with open("/proc/meminfo", encoding="utf-8") as f:
        return int(re.search(r"MemAvailable:\s+(\d+)", f.read())[1]) * 1024


def space(folder):
    """Bytes of the file system: (in all, used)."""
    s = os.statvfs(folder)
    return s.f_blocks * s.f_frsize, (s.f_blocks - s.f_bfree) * s.f_frsize


def memory_folder(folder):
    """A place below `folder` where root mounts memory; others have one in /dev/shm, of the same name for the same folder, so that it is found."""
    if os.geteuid() == 0:
        return os.path.join(folder, "apart")
    return "/dev/shm/oxbow-peers-" + hashlib.sha256(os.path.dirname(os.path.dirname(os.path.abspath(folder))).encode()).hexdigest()[:12]


def unmount(folder):
    """All that is mounted there or below."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        places = [line.split()[1] for line in f]
    for place in reversed(places):
        if place == folder or place.startswith(folder + "/"):
            subprocess.run(["umount", "-l", place], capture_output=True, check=False)


class Kafka(Peer):
    """A release with one durability: every write on disk before it is acknowledged ("fsync"), or Kafka's default."""

    def __init__(self, folder, limits, release, durability):
        super().__init__(folder, limits)
        import kafka_server  # needs pytest, as all that fetches from registries does here
        import pytest
        self.name = kafka_name(release, durability)
        settings = {**KAFKA, **(FSYNC if durability == "fsync" else {})}
        try:
            self.kafka = kafka_server.Kafka(folder, release, settings, SHIPPED_JAVA, limits.enter)
        except (pytest.skip.Exception, pytest.fail.Exception) as e:
            raise Unmeasurable(str(e)) from None
        self.port = self.kafka.port

    def prepare(self):
        self.kafka.format()

    def spawn(self):
        self.kafka.launch()
        self.process = self.kafka.process


class Tansu(Peer):
    name = "tansu-sqlite"
    deletes = False  # 0.6.0 answers nobody any more after a topic was deleted

    def __init__(self, folder, limits):
        super().__init__(folder, limits)
        self.port = harness.free_port()

    @staticmethod
    def binary():
        return shutil.which("tansu")

    @classmethod
    def version(cls):
        """"tansu 0.6.0", or "" where it is not installed."""
        return subprocess.run([cls.binary(), "--version"], capture_output=True, text=True, check=False).stdout.strip() if cls.binary() else ""

    def prepare(self):
        if not self.binary():
            raise Unmeasurable("tansu is not installed")

    def spawn(self):
        command = [self.binary(), "broker", "--storage-engine", "sqlite://tansu.db", "--listener-url", f"tcp://{self.address}", "--advertised-listener-url",
                   f"tcp://{self.address}"]
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, preexec_fn=self.limits.enter)


OXBOWS = {kind.name: kind for kind in (Oxbow, OxbowStoreApart, OxbowBlock, OxbowLogInMemory)}


def kafka_name(release, durability):
    return f"kafka-{release}-{durability}"


def names(wanted):
    """The brokers that a list means: `kafka-4.3.1` is both of its durabilities."""
    found = []
    for name in wanted:
        if name in OXBOWS or name == Tansu.name:
            found.append(name)
            continue
        m = re.fullmatch(r"kafka-(\d[\d.]*)(-fsync|-default)?", name)
        if m and m[2]:
            found.append(name)
        elif m:
            found += [kafka_name(m[1], d) for d in ("fsync", "default")]
        else:
            raise SystemExit(f"--brokers: '{name}' is none; expected {', '.join(OXBOWS)}, kafka-RELEASE, kafka-RELEASE-fsync, kafka-RELEASE-default or {Tansu.name}")
    return list(dict.fromkeys(found))


def make(name, folder, limits, binary, settings=None, env=None):
    """A broker with a new folder, not prepared and not started."""
    if name in OXBOWS:
        return OXBOWS[name](folder, limits, binary, settings, env)
    if name == Tansu.name:
        return Tansu(folder, limits)
    _, release, durability = name.split("-")
    return Kafka(folder, limits, release, durability)
