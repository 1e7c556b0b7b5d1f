"""The object store in a bucket of a real S3 server (s3server.py), directly and through a proxy that does to requests what networks do
(s3proxy.py): every byte comes back, nothing acknowledged is lost through faults, kills and outages; what is set up wrongly is said in
one sentence; no secret is seen anywhere.

Faults are mostly waiting: their tests run a few at a time, each with a bucket, a proxy and a broker of its own in a thread of its own.
What `make test` runs is short: each fault under one kind of write-ahead log, those that once lost data elsewhere under both, little
load, outages of some seconds. $OXBOW_S3_LONG=1 runs every fault under both, with more load and outages of a minute;
$OXBOW_OUTAGE_SECONDS says how long outages are.

Seen to fail: with the proxy's rules taken away (no hits); with a proxy that creates unconditionally and a store that is not checked;
with records expected one further on."""
# mostly waits for time-outs

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time

import pytest

import harness
import s3server
from harness import eventually, oxbow
from ox import call
from s3proxy import Proxy
from test_admin import get, metrics
from test_data import create, now_ms
from test_faults import Trickle
from wire import Wire, batch
from wire_groups import Group

WALS = ["file", "none"]  # what wal.url is: a file, or "none"
PREFIX = "some/where"
SMALL = {"http.listen": "127.0.0.1:0", "upload.bytes": "1MiB", "upload.interval.ms": 200, "cache.log.bytes": "16MiB", "cache.block.bytes": "8MiB"}
KEYS = {"AWS_ACCESS_KEY_ID": s3server.KEY, "AWS_SECRET_ACCESS_KEY": s3server.SECRET, "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}
LONG = bool(os.environ.get("OXBOW_S3_LONG"))
OUTAGE_SECONDS = float(os.environ.get("OXBOW_OUTAGE_SECONDS", "60" if LONG else "8"))
AT_ONCE = 4  # faults that are tried beside each other


@pytest.fixture
def bucket(rgw):
    name = rgw.bucket()
    yield name
    rgw.client.empty(name)  # it lies in memory


@pytest.fixture
def proxy(rgw):
    """Name it before `brokers` in a test's arguments: what is named first ends last."""
    with Proxy(rgw.endpoint) as p:
        yield p


def settings(server, bucket, proxy=None, wal="file", **more):
    found = {**SMALL, "storage.url": server.url(bucket, PREFIX, proxy.endpoint if proxy else None), **more}
    if wal == "none":
        found["wal.url"] = "none"
    return found


def revive(b, wal):
    """After a kill: where nothing local matters, nothing local is left, and it goes on in another folder."""
    b.kill9()
    if wal == "none":
        shutil.rmtree(b.folder)
        b.folder += "-elsewhere"
        os.makedirs(b.folder)
        b.log_path = os.path.join(b.folder, "log")
    return b.start()


# --- The tools of these tests.

def test_the_proxy_does_what_it_says(proxy, bucket, rgw):
    c, direct = s3server.Client(proxy.endpoint, timeout=3), rgw.client

    def fails(*errors):
        return pytest.raises(errors or (OSError, EOFError, s3server.http.client.HTTPException))

    def once(action, **options):
        proxy.clear()
        return proxy.add(action, times=1, **options)
    big = os.urandom(3_000_000)
    c.put(bucket, "a/b", big, **{"if-none-match": "*"})
    assert c.get(bucket, "a/b") == big and direct.list(bucket) == {"a/b": len(big)} == c.list(bucket)
    for n, action in enumerate(("lose", "reset_after")):
        once(action, kinds={"PUT"})
        with fails():
            c.put(bucket, f"after{n}", b"x")
        assert direct.get(bucket, f"after{n}") == b"x"
    for n, action in enumerate(("reset_before", "reset_within")):
        once(action, kinds={"PUT"})
        with fails():
            c.put(bucket, f"not{n}", big)
    once("answer", status=503, code="SlowDown")
    with fails(s3server.S3Error) as e:
        c.put(bucket, "not2", b"x")
    assert (e.value.status, e.value.code) == (503, "SlowDown")
    time.sleep(0.5)
    assert not [k for k in direct.list(bucket) if k.startswith("not")]
    once("answer", status=500, code="InternalError", after=True)
    with fails(s3server.S3Error):
        c.put(bucket, "after2", b"x")
    assert direct.get(bucket, "after2") == b"x"
    once("delay", seconds=2, silent=False)
    with fails():
        c.put(bucket, "late", b"x")
    assert "late" not in direct.list(bucket)
    eventually(lambda: "late" in direct.list(bucket))
    once("cut")
    with fails():
        c.get(bucket, "a/b")
    once("change")
    assert c.get(bucket, "a/b") != big
    once("slow", bytes_per_second=10)
    assert c.get(bucket, "late") == b"x"
    once("skew", seconds=3600)
    with fails(s3server.S3Error) as e:
        c.get(bucket, "late")
    assert e.value.code == "RequestTimeTooSkewed"
    assert direct.put(bucket, "new", b"1", **{"if-none-match": "*"})[0] == 200
    with fails(s3server.S3Error) as e:
        c.put(bucket, "new", b"2", **{"if-none-match": "*"})
    assert e.value.code == "PreconditionFailed"
    once("unconditional")
    c.put(bucket, "new", b"3", **{"if-none-match": "*"})
    assert direct.get(bucket, "new") == b"3"
    proxy.clear()
    for how in ("refuse", "silent"):
        proxy.outage(how)
        with fails():
            c.get(bucket, "late")
        proxy.back()
        assert c.get(bucket, "late") == b"x"
    proxy.latency_s = 0.3
    began = time.monotonic()
    c.get(bucket, "late")
    assert time.monotonic() - began >= 0.3
    assert proxy.count["CREATE"] == 3 and proxy.statuses["CREATE", 200] == 2 and proxy.statuses["CREATE", 412] == 1


# --- Records in, records out.

def every_byte_comes_back(brokers, processes, client, server, wal, total):
    bucket = server.bucket()
    b = brokers(settings(server, bucket, wal=wal), env=KEYS)
    create(b, client, "data", 12)
    arguments = [b.address, "data", 12, total, now_ms()]
    assert f"produced {total}" in processes(client, "produce", *arguments).finish()
    assert f"consumed {total}" in processes(client, "consume", *arguments).finish()
    b.restart()
    assert f"consumed {total}" in processes(client, "consume", *arguments).finish()
    revive(b, wal)
    assert f"consumed {total}" in processes(client, "consume", *arguments).finish()
    b.stop()
    keys = server.client.list(bucket)
    assert keys and all(k.startswith(PREFIX + "/") for k in keys), list(keys)[:10]
    assert not server.client.uploads(bucket)
    server.client.empty(bucket)


def through_kills(brokers, processes, client, server, wal, total):
    """Nothing acknowledged is lost and nothing doubled: the client knows each record's offset."""
    bucket = server.bucket()
    b = brokers(settings(server, bucket, wal=wal), env=KEYS)
    create(b, client, "data", 12)
    arguments = [b.address, "data", 12, total, now_ms()]
    producer, follower = processes(client, "produce", *arguments), processes(client, "consume", *arguments)
    for at in (total // 6, total // 3, total // 2, total * 3 // 4):
        while (line := producer.line()) is not None and not (line.startswith("acked") and int(line.split()[1]) >= at):
            pass
        assert line is not None, "the producer ended before all kills:\n" + producer.finish()
        revive(b, wal)
    producer.finish()
    follower.finish()
    revive(b, wal)
    assert f"consumed {total}" in processes(client, "consume", *arguments).finish()
    b.stop()
    server.client.empty(bucket)


@pytest.mark.parametrize("wal", WALS)
def test_every_byte_comes_back(brokers, processes, client, rgw, wal):
    every_byte_comes_back(brokers, processes, client, rgw, wal, 50_000 if LONG else 20_000)


@pytest.mark.parametrize("wal", WALS)
def test_kills(brokers, processes, client, rgw, wal):
    through_kills(brokers, processes, client, rgw, wal, 60_000 if LONG else 30_000)


# --- Faults, some at a time.

class Gentle(Trickle):
    """As much as a store needs to be kept busy, and no more: many run beside each other."""

    def value(self, n):
        return b"%06d" % n + bytes([n % 251]) * (100_000 if LONG else 40_000)

    def run(self, seconds):
        before, end = len(self.acked), time.monotonic() + seconds
        while time.monotonic() < end:
            if self.sent - len(self.acked) < 60:
                self.send(3)
            self.producer.poll(0.05)
        return len(self.acked) - before


class Case:
    """A fault's test while it runs: its bucket, its proxy, its broker. All of it stays in one thread: brokers die with the thread that
    started them."""

    def __init__(self, rgw, wal, stack):
        self.bucket = rgw.bucket()
        stack.callback(rgw.client.empty, self.bucket)  # it lies in memory
        self.proxy = stack.enter_context(Proxy(rgw.endpoint))
        self.folder = tempfile.mkdtemp(prefix="oxbow-it-")
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.b = harness.Broker(os.path.join(self.folder, "broker"), settings(rgw, self.bucket, self.proxy, wal), env=KEYS)
        stack.callback(self.b.end)
        self.b.start()
        create(self.b, None, "data", 1)
        self.t = Gentle(self.b, "data")
        self.wal = wal

    def told(self):
        return [x for x in self.b.log().splitlines() if "level=error" in x or "level=warn" in x]

    def recovers(self):
        """The fault is over: all that waited is acknowledged, and more; every record is there once, also after a kill."""
        self.proxy.clear()
        self.t.finish()
        eventually(lambda: self.t.run(0.2) > 0, what="records are acknowledged again")
        self.t.finish()
        eventually(lambda: metrics(self.b)["oxbow_store_failing", None] == 0, 60, what="the metric goes back")
        self.t.check(self.b)
        revive(self.b, self.wal)
        self.t.check(self.b)
        self.b.stop()


def run_case(rgw, function, wal, arguments):
    with contextlib.ExitStack() as stack:
        case = None
        try:
            case = Case(rgw, wal, stack)
            function(case, *arguments)
            case.b.check_log()
        except BaseException:
            if case and os.path.exists(case.b.log_path):
                print(f"--- the log of {function.__name__}{(wal, *arguments)}\n{case.b.whole_log()[-6000:]}")
            raise


@pytest.fixture(scope="module", autouse=True)
def tried(request):
    """tried((function, wal, ...)): waits for `function(case, ...)`, and fails as it failed. All of them start with the first test of the
    file, a few at a time, in the order of their tests; the other tests run meanwhile."""
    asked = [i.callspec.params["asked"] for i in request.session.items
             if getattr(i, "module", None) is request.module and "asked" in getattr(getattr(i, "callspec", None), "params", ())]
    rgw = request.getfixturevalue("rgw")
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {a: pool.submit(run_case, rgw, a[0], a[1], a[2:]) for a in asked}
        yield lambda a: futures[a].result()
        for f in futures.values():
            f.cancel()


def each(*asked):
    return pytest.mark.parametrize("asked", asked, ids=["-".join(a[1:][::-1]) for a in asked])


def storm(p):
    """Each kind of request, again and again."""
    return [p.add("answer", status=503, code="SlowDown", chance=0.5)]


FAULTS = {
    "answers lost": lambda p: [p.add("lose", kinds={"CREATE"}, times=2), p.add("lose", kinds={"PUT", "PART", "UPLOAD"}, times=1)],
    "late and silent": lambda p: [p.add("delay", kinds={"CREATE"}, seconds=5, times=2)],
    "late": lambda p: [p.add("delay", kinds={"CREATE"}, seconds=3, silent=False, chance=0.3)],
    "reset after": lambda p: [p.add("reset_after", kinds={"CREATE"}, chance=0.3)],
    "storm": storm,
    "500 after": lambda p: [p.add("answer", kinds={"CREATE"}, status=500, code="InternalError", after=True, chance=0.3)],
    "409 after": lambda p: [p.add("answer", kinds={"CREATE"}, status=409, code="ConditionalRequestConflict", after=True, chance=0.3)],
    "reset before": lambda p: [p.add("reset_before", chance=0.3)],
    "reset within": lambda p: [p.add("reset_within", kinds={"CREATE", "PUT", "PART"}, chance=0.3)],
    "409": lambda p: [p.add("answer", kinds={"CREATE"}, status=409, code="ConditionalRequestConflict", chance=0.3)],
    "slow": lambda p: [p.add("latency", seconds=1.0, chance=0.5)],
    "gateway": lambda p: [p.add("nonsense", status=502, chance=0.3)],
    "login page": lambda p: [p.add("nonsense", status=200, chance=0.3)],
    "denied": lambda p: [p.add("answer", status=403, code="AccessDenied", chance=0.3)],
    "clock": lambda p: [p.add("skew", chance=0.3)],
}
# What is carried out and not confirmed, now or later, is where records are lost or doubled.
UNDER_BOTH = {"answers lost", "late and silent", "late", "reset after", "storm"}


def under_load(case, fault):
    proxy, b, t = case.proxy, case.b, case.t
    eventually(lambda: t.run(0.3) > 0, what="the first records are acknowledged")
    rules = FAULTS[fault](proxy)
    began = time.monotonic()
    while (spent := time.monotonic() - began) < 40:
        t.run(1)
        if spent > (4 if LONG else 3) and any(r.hits for r in rules):
            break
    assert any(r.hits for r in rules), f"nothing was disturbed: {proxy.count}"
    assert b.alive(), b.log()[-3000:]
    # The ledger's writes fail and work again many times a second, and each change is told.
    told = [x for x in case.told() if "refuses writes" not in x]
    assert len(told) <= 40, f"{len(told)} lines:\n" + "\n".join(told[:60])
    case.recovers()


@each(*((under_load, wal, fault) for n, fault in enumerate(FAULTS) for m, wal in enumerate(WALS)
        if LONG or fault in UNDER_BOTH or (n + m) % 2))
def test_faults_under_load(tried, asked):
    tried(asked)


READ_FAULTS = {
    "cut": lambda p: p.add("cut", kinds={"GET"}, chance=0.3),
    "changed": lambda p: p.add("change", kinds={"GET"}, chance=0.15),
    "reset": lambda p: p.add("reset_after", kinds={"GET", "LIST"}, chance=0.3),
    "503": lambda p: p.add("answer", kinds={"GET", "LIST"}, chance=0.3),
    "slow": lambda p: p.add("slow", kinds={"GET"}, bytes_per_second=200_000, chance=0.3),
    "no answer": lambda p: p.add("lose", kinds={"GET"}, times=1),
}


def of_reading(case, fault):
    """What a consumer gets is right, or late: never other bytes."""
    proxy, b, t = case.proxy, case.b, case.t
    t.send(200)
    t.finish()
    b.restart()
    rule = READ_FAULTS[fault](proxy)
    t.check(b)
    for _ in range(5):  # chance has it that few requests met none
        if not rule.hits:
            proxy.clear()
            b.restart()
            rule = READ_FAULTS[fault](proxy)
            t.check(b)
    assert rule.hits, proxy.count
    assert b.alive()
    proxy.clear()
    t.check(b)
    b.stop()


@each(*((of_reading, "file", fault) for fault in READ_FAULTS))
def test_faults_of_reading(tried, asked):
    tried(asked)


def at_the_start(case, fault):
    """A start meets the same faults and has everything in the end."""
    proxy, b, t = case.proxy, case.b, case.t
    t.send(100)
    t.finish()
    b.kill9()
    rule = READ_FAULTS[fault](proxy)
    rule.times, rule.chance = 3, 1.0
    b.start(wait=False)

    def ready():
        if b.lines('msg="ready"'):
            return True
        if not b.alive():  # it may refuse what it cannot believe; it must not believe it
            b.process.wait()
            assert b.process.returncode == 1, b.log()
            b.process = None
            b.start(wait=False)
        return False
    eventually(ready, 120, 0.1, "it starts")
    assert rule.hits
    proxy.clear()
    t.check(b)
    b.stop()


@each(*((at_the_start, wal, fault) for wal, fault in (("file", "changed"), ("none", "cut"), ("file", "503"), ("none", "reset"))))
def test_starts_through_faults(tried, asked):
    tried(asked)


def silent_at_the_start(case):
    case.t.send(20)
    case.t.finish()
    case.b.kill9()
    case.proxy.outage("silent")
    case.b.start(wait=False)
    refused(case.b, "endpoint", seconds=90)
    case.proxy.back()
    case.b.start()
    case.t.check(case.b)
    case.b.stop()


@each((silent_at_the_start, "none"))
def test_starts_while_the_server_says_nothing(tried, asked):
    tried(asked)


def gone_for_a_while(case, how):
    proxy, b, t = case.proxy, case.b, case.t
    eventually(lambda: t.run(0.3) > 0, what="the first records are acknowledged")
    proxy.outage(how)
    t.run(OUTAGE_SECONDS)
    # A server that says nothing is known to be away only after a request's time is up.
    eventually(lambda: t.run(0.2) is not None and metrics(b)["oxbow_store_failing", None] >= 1, 60, what="the metric says so")
    assert b.alive(), b.log()[-3000:]
    told = case.told()
    assert 1 <= len(told) <= 15 + OUTAGE_SECONDS / 4, f"{len(told)} lines:\n" + "\n".join(told[:60])
    proxy.back()
    case.recovers()


@each(*((gone_for_a_while, wal, how) for wal, how in (("none", "silent"), ("file", "silent"), ("none", "refuse"), ("file", "refuse"))))
def test_store_is_gone_for_a_while(tried, asked):
    tried(asked)


def small_pages(case):
    """Everything is found, however many pages a list has."""
    rule = case.proxy.add("pages", kinds={"LIST"})
    for _ in range(20):
        case.t.send(5)
        case.t.finish()
    revive(case.b, case.wal)
    assert rule.hits > 3, case.proxy.count
    case.recovers()


@each((small_pages, "none"), (small_pages, "file"))
def test_pages_of_a_list(tried, asked):
    tried(asked)


def idle(case):
    proxy, t = case.proxy, case.t
    t.send(20)
    t.finish()
    time.sleep(3)
    before = sum(proxy.count.values())
    time.sleep(10)
    assert sum(proxy.count.values()) - before <= 2, proxy.count
    case.b.stop()


@each((idle, "none"), (idle, "file"))
def test_idle_asks_for_nothing(tried, asked):
    tried(asked)


# --- The store without a broker: what the broker's use of it does not show exactly.

def store_by_itself(server, lists_uploads, endpoint=None):
    bucket = server.bucket()
    for key in ("gen/a", "gen/b", "other/c"):
        server.client.request("POST", f"/{bucket}/{PREFIX}/{key}", {"uploads": ""})
    env = {**os.environ, **KEYS, "OXBOW_S3_ENDPOINT": endpoint or server.endpoint, "OXBOW_S3_BUCKET": bucket, "OXBOW_S3_REGION": server.region}
    program = os.path.join(os.path.dirname(harness.OXBOW), "tests", "store_by_itself")
    _, out, err = harness.run([program], 120, env={**env, **({"OXBOW_S3_LISTS_UPLOADS": "1"} if lists_uploads else {})})
    print(out, err)
    if lists_uploads:
        assert len(server.client.uploads(bucket)) == 1, "what is another's stays"


def test_the_store_by_itself(rgw):
    store_by_itself(rgw, lists_uploads=True)


def test_an_upload_whose_beginning_is_not_answered_is_given_up(proxy, rgw):
    """The server has begun it, and nobody knows its id; the next one makes the object. Neither is left.

    Seen to fail: with nobody asking for the list, one was."""
    rule = proxy.add("reset_after", kinds={"UPLOAD"}, times=1)
    store_by_itself(rgw, lists_uploads=True, endpoint=proxy.endpoint)
    assert rule.hits == 1


def test_what_may_not_be_deleted_holds_up_nothing_else(request, brokers, rgw, bucket):
    """A policy forbids to delete one object that nobody needs: the others go, a restart's sweep goes past it, the operator is told of it
    once, and when the policy is gone it goes as well.

    Seen to fail: with the batch repeated until all of it was gone."""
    b = brokers(settings(rgw, bucket, wal="none", **{"upload.interval.ms": 50, "checkpoint.interval.ms": 200}), env=KEYS)

    def allow():
        rgw.client.request("DELETE", f"/{bucket}", {"policy": ""}, allow=(404,))

    def entries():
        return sorted(k for k in rgw.client.list(bucket) if "/ledger/" in k)

    def passes(n):
        """Entries of the ledger come, and what they make superfluous goes."""
        for _ in range(n):
            w.produce("data", 0, batch([b"x" * 100]))
            time.sleep(0.3)
    request.addfinalizer(allow)  # should it fail
    with Wire(b.port) as w:
        w.create("data")
        passes(2)
        key = entries()[0]
        statement = {"Effect": "Deny", "Principal": "*", "Action": ["s3:DeleteObject"], "Resource": [f"arn:aws:s3:::{bucket}/{key}"]}
        rgw.client.request("PUT", f"/{bucket}", {"policy": ""}, json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode())
        passes(40)
        eventually(lambda: metrics(b)["oxbow_objects_not_deleted", None] == 1)
        second = entries()
        assert second[0] == key
        eventually(lambda: passes(2) or not set(entries()) & set(second[1:4]), what="the others go")
    told = b.lines("cannot be deleted")
    assert len(told) == 1 and f"key={key.removeprefix(PREFIX + '/')}" in told[0] and "ERR_PERMISSION" in told[0], told
    b.restart()
    eventually(lambda: metrics(b)["oxbow_objects_not_deleted", None] == 1)
    eventually(lambda: b.lines("swept objects"))
    assert "not_deleted=1" in b.lines("swept objects")[0]
    allow()
    eventually(lambda: key not in entries(), 60)
    eventually(lambda: metrics(b)["oxbow_objects_not_deleted", None] == 0)
    b.stop()


# --- What is set up wrongly.

def refused(b, *words, seconds=60):
    """The start stops with 1, and says one sentence with these words and no secret."""
    if b.process is None:
        b.start(wait=False)
    assert b.wait(seconds) == 1, b.log()
    errors = b.lines("level=error")
    assert len(errors) == 1 and all(w.lower() in errors[0].lower() for w in words), b.log()
    assert not b.lines('msg="ready"')
    assert s3server.SECRET not in b.log() and "Signature=" not in b.log()
    return errors[0]


def test_wrong_endpoint(proxy, brokers, rgw, bucket):
    """Most of them try for a while before they give up: side by side."""
    def broker(endpoint):
        return brokers({"storage.url": rgw.url(bucket, endpoint=endpoint)}, env=KEYS, start=False).start(wait=False)
    proxy.add("nonsense")
    nobody, unknown = broker(f"http://127.0.0.1:{harness.free_port()}"), broker("http://no-such-host.invalid:80")
    no_tls, no_s3 = broker(rgw.endpoint.replace("http:", "https:")), broker(proxy.endpoint)
    refused(nobody, "reached", "endpoint")
    refused(unknown, "reached", "endpoint")
    refused(no_tls, "endpoint")
    refused(no_s3, "S3", "endpoint")
    assert not rgw.client.list(bucket)


def test_wrong_url(brokers, rgw, bucket):
    for url in ("s3://", "s3://?region=x", f"s3://{bucket}?endpoint=ftp://x", f"s3://{bucket}?nonsense=1", f"s3://{bucket}?path.style=perhaps",
                "s3://Bad_Bucket!/x"):
        b = brokers({"storage.url": url}, env=KEYS, start=False)
        b.start(wait=False)
        assert b.wait(30) in (1, 2), url
        assert "storage.url" in b.log() or "store" in b.log(), b.log()


def test_wrong_bucket(brokers, rgw):
    refused(brokers({"storage.url": rgw.url("no-such-bucket-here")}, env=KEYS, start=False), "no bucket", "no-such-bucket-here")


def test_wrong_keys(brokers, rgw, bucket):
    def broker(**env):
        return brokers({"storage.url": rgw.url(bucket)}, env={**KEYS, **env}, start=False)
    refused(broker(AWS_ACCESS_KEY_ID="AKIANOBODY"), "access key")
    refused(broker(AWS_SECRET_ACCESS_KEY="not-this-secret"), "secret")
    refused(broker(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""), "AWS_ACCESS_KEY_ID", "~/.aws/credentials")
    refused(broker(AWS_SECRET_ACCESS_KEY=""), "AWS_SECRET_ACCESS_KEY", "only one")
    refused(broker(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_PROFILE="nobody"), "nobody")
    assert not rgw.client.list(bucket)


def test_wrong_region(proxy, brokers, rgw, bucket):
    """Ceph takes any; AWS says which it wants."""
    proxy.add("answer", status=400, code="AuthorizationHeaderMalformed", message="the region is wrong; expecting 'eu-west-7'",
              headers=[("x-amz-bucket-region", "eu-west-7")])
    refused(brokers({"storage.url": rgw.url(bucket, endpoint=proxy.endpoint)}, env=KEYS, start=False), "region", "eu-west-7")
    proxy.clear()
    proxy.add("answer", status=301, code="PermanentRedirect", headers=[("x-amz-bucket-region", "eu-west-7")])
    refused(brokers({"storage.url": rgw.url(bucket, endpoint=proxy.endpoint)}, env=KEYS, start=False), "region", "eu-west-7")


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_wrong_clock(proxy, brokers, rgw, bucket, seconds):
    proxy.add("skew", seconds=seconds)
    refused(brokers({"storage.url": rgw.url(bucket, endpoint=proxy.endpoint)}, env=KEYS, start=False), "clock")


def test_bucket_without_conditional_create(proxy, brokers, rgw, bucket):
    proxy.add("unconditional", kinds={"CREATE"})
    refused(brokers({"storage.url": rgw.url(bucket, endpoint=proxy.endpoint)}, env=KEYS, start=False), "only if absent")
    proxy.clear()
    proxy.add("answer", kinds={"CREATE"}, status=501, code="NotImplemented")
    refused(brokers({"storage.url": rgw.url(bucket, endpoint=proxy.endpoint)}, env=KEYS, start=False), "condition")


def test_one_signal_ends_a_start_on_a_dead_store(proxy, brokers, rgw, bucket):
    """Once it had opened the store a start waits for it as long as that takes; who stops it must not. Nothing of it is in the way of the
    next one.

    Seen to fail: with a stop that waits for the start, b.wait() gives up."""
    b = brokers(settings(rgw, bucket, proxy), env=KEYS)
    create(b, None, "data", 1)
    proxy.add("answer", kinds={"CREATE"}, status=503)
    b.kill9()
    b.start(wait=False)
    before = proxy.statuses["CREATE", 503]
    eventually(lambda: proxy.statuses["CREATE", 503] > before, 60, what="a start that meets the store")
    b.stop()
    assert b.lines('msg="stopped while starting" reason=signal') and not b.lines('msg="ready"')
    proxy.clear()
    b.start()
    create(b, None, "more", 1)
    b.stop()


def test_a_start_by_mistake_leaves_the_first_alone(brokers, rgw, bucket):
    """A bucket has no lock, and a start takes the cluster over; but not one that cannot serve, for its port or its log is the first's.

    Seen to fail: with the log and the port looked at after the takeover, the first stopped at its next write."""
    first = brokers(settings(rgw, bucket), env=KEYS, name="first")
    same_wal = brokers(settings(rgw, bucket, **{"wal.url": first.settings["wal.url"]}), env=KEYS, name="wal", start=False)
    same_port = brokers(settings(rgw, bucket, wal="none", listeners=first.settings["listeners"]), env=KEYS, name="port", start=False)
    for b, word in ((same_wal, "another process uses this WAL"), (same_port, "address is in use")):
        refused(b, word)
        create(first, None, f"after-{b.settings['wal.url'] == 'none'}", 1)  # a write to the cluster log
    first.stop()


@pytest.mark.parametrize("what", ["commit", "delete", "config"])
def test_an_overtaken_broker_says_of_nothing_that_it_is_done(brokers, rgw, bucket, what):
    """It stood still while another took over, and is asked for what changes nothing as far as it knows: it needs to write nothing for that,
    so no fence tells it; but what its successor has is something else.

    Seen to fail: with the APIs' flags taken away, each was answered with success."""
    def set_retention(w, operation, value):
        config = {"name": "retention.ms", "config_operation": operation, "value": value}
        asked = {"resources": [{"resource_type": 2, "resource_name": "t", "configs": [config]}], "validate_only": False}
        return call(w, "IncrementalAlterConfigs", 1, asked)["responses"][0]["error_code"]
    first = brokers(settings(rgw, bucket, wal="none"), env=KEYS, name="first")
    create(first, None, "t", 2)
    with Group(first.port) as old:
        assert old.commit("g", {("t", 0): 5}) == {("t", 0): 0}
        os.kill(first.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        second = brokers(settings(rgw, bucket, wal="none"), env=KEYS, name="second")
        with Group(second.port) as new:
            assert new.commit("g", {("t", 0): 3, ("t", 1): 9}) == {("t", 0): 0, ("t", 1): 0}
            assert set_retention(new, 0, "7") == 0
            time.sleep(max(0, stopped + 6 - time.monotonic()))  # longer than the lease
            os.kill(first.pid, signal.SIGCONT)
            done = {"commit": lambda: old.commit("g", {("t", 0): 5})[("t", 0)],
                    "delete": lambda: old.delete_offsets("g", {"t": [1]})[0],
                    "config": lambda: set_retention(old, 1, None)}[what]
            with contextlib.suppress(ConnectionError):
                assert done() != 0
            assert new.fetch_offsets("g")[1] == {("t", 0): (3, "", 0), ("t", 1): (9, "", 0)}
    assert first.wait() != 0  # it has seen that another is there


def test_topics_are_described_while_the_store_does_not_tell(proxy, brokers, rgw, bucket):
    """What is known is said, as Metadata says it; that a topic is not there is said by nobody who is not sure.

    Seen to fail: the connection was closed."""
    b = brokers(settings(rgw, bucket, proxy), env=KEYS)
    create(b, None, "data", 3)

    def told():
        asked = {"topics": [{"name": "data"}, {"name": "nothere"}], "response_partition_limit": 2000, "cursor": None}
        with Wire(b.port) as w:
            return {t["name"]: (t["error_code"], len(t["partitions"])) for t in call(w, "DescribeTopicPartitions", 0, asked)["topics"]}
    assert told() == {"data": (0, 3), "nothere": (3, 0)}
    proxy.outage("silent")
    time.sleep(6)  # longer than the lease
    assert told() == {"data": (0, 3), "nothere": (5, 0)}
    proxy.back()
    eventually(lambda: told() == {"data": (0, 3), "nothere": (3, 0)})


def test_prefix_of_something_else(brokers, rgw, bucket):
    rgw.client.put(bucket, "backup/photo.jpg", b"mine")
    refused(brokers({"storage.url": rgw.url(bucket, "backup")}, env=KEYS, start=False), "prefix", "backup")
    refused(brokers({"storage.url": rgw.url(bucket)}, env=KEYS, start=False), "prefix")
    assert rgw.client.list(bucket) == {"backup/photo.jpg": 4}
    b = brokers({"storage.url": rgw.url(bucket, "backup-2")}, env=KEYS)  # a longer name beside it is another prefix
    create(b, None, "data", 1)
    b.stop()
    assert rgw.client.get(bucket, "backup/photo.jpg") == b"mine"


# --- No secret is seen.

def test_no_secret_is_seen(proxy, brokers, rgw, bucket, folder):
    words = (s3server.SECRET, "oxbow-test-secret", "Signature=", "AWS4-HMAC")
    seen = []

    def look(text):
        seen.append(len(text))
        for w in words:
            assert w not in text, f"{w!r} in: ...{text[max(0, text.find(w) - 200):text.find(w) + 100]}"
    b = brokers(settings(rgw, bucket, proxy, **{"log.level": "debug"}), env=KEYS)
    create(b, None, "data", 1)
    t = Trickle(b, "data")
    proxy.add("answer", status=403, code="SignatureDoesNotMatch", chance=0.2,
              message=f"{s3server.SECRET} AWS4-HMAC-SHA256 Signature=0")
    proxy.add("cut", kinds={"GET"}, chance=0.3)
    proxy.add("reset_after", chance=0.2)
    t.run(5)
    look(get(b.http + "/metrics")[2])
    proxy.clear()
    t.finish()
    b.stop()
    look(b.whole_log())
    for arguments in (["config"], ["config", "--markdown"], ["version"]):
        look("".join(oxbow(*arguments, "--set", f"storage.url={b.settings['storage.url']}", env={**os.environ, **KEYS})[1:]))
        look("".join(oxbow(*arguments, env={**os.environ, **KEYS})[1:]))
    assert all(seen[:2])
