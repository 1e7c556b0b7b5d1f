"""Real S3 servers for the tests, and a client of our own to look at what they hold.

RadosGateway: Ceph's gateway from Debian's packages with the smallest cluster behind it, one monitor and one storage daemon that keeps
its objects in memory, all in one temporary folder. Minio: the server from the Go registry, built once into a cache folder outside of
the source tree (some minutes on two cores), or the binary that $OXBOW_MINIO names.

Both listen on 127.0.0.1 only, on ports of their own, have one user with KEY and SECRET, and die with the process that started
them, however that ends. Both are slow to start: one per pytest session (conftest.py), a bucket per test.

    python3 s3server.py [radosgw|minio] [PORT]     starts one to play with, until Ctrl-C
    python3 s3server.py build-minio                what tools/run-tests does in the background
"""

import contextlib
import fcntl
import hashlib
import hmac
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
import xml.etree.ElementTree as ElementTree

import harness

KEY, SECRET = "OXBOWTESTKEY00000001", "oxbow-test-secret-0000000000000000000001"
EMPTY = hashlib.sha256(b"").hexdigest()
START_SECONDS = (45, 75, 150)  # for each attempt to start a server: ten to twenty seconds is what it takes
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"


class S3Error(Exception):
    def __init__(self, status, code, text=""):
        super().__init__(f"{status} {code} {text}")
        self.status, self.code = status, code


class Client:
    """As much of S3 as tests need, signed (Signature Version 4), path style, one connection per request."""

    def __init__(self, endpoint, key=KEY, secret=SECRET, region="us-east-1", timeout=30):
        self.host = urllib.parse.urlsplit(endpoint).netloc
        self.key, self.secret, self.region, self.timeout = key, secret, region, timeout

    def _sign(self, method, path, query, headers, payload_hash):
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {**headers, "host": self.host, "x-amz-date": now, "x-amz-content-sha256": payload_hash}
        names = ";".join(sorted(headers))
        lines = [method, path, query, *(f"{n}:{headers[n].strip()}" for n in sorted(headers)), "", names, payload_hash]
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
        k = ("AWS4" + self.secret).encode()
        for part in (now[:8], self.region, "s3", "aws4_request"):
            k = hmac.new(k, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(k, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return headers

    def request(self, method, path, query=None, body=b"", headers=None, allow=()):
        """(status, headers, body); a status of 300 and above that is not in `allow` is an S3Error."""
        path = urllib.parse.quote(path, safe="/-._~")
        q = "&".join(f"{urllib.parse.quote(k, safe='-._~')}={urllib.parse.quote(str(v), safe='-._~')}" for k, v in sorted((query or {}).items()))
        signed = self._sign(method, path, q, headers or {}, hashlib.sha256(body).hexdigest())
        c = http.client.HTTPConnection(self.host, timeout=self.timeout)
        try:
            c.request(method, path + ("?" + q if q else ""), body, signed)
            r = c.getresponse()
            got = r.read()
        finally:
            c.close()
        if r.status >= 300 and r.status not in allow:
            code = re.search(rb"<Code>([^<]*)</Code>", got)
            raise S3Error(r.status, code[1].decode() if code else r.reason, got[:300].decode("utf-8", "replace"))
        return r.status, {k.lower(): v for k, v in r.getheaders()}, got

    def make_bucket(self, bucket):
        self.request("PUT", f"/{bucket}")

    def put(self, bucket, key, data, **headers):
        return self.request("PUT", f"/{bucket}/{key}", body=data, headers=headers)

    def get(self, bucket, key):
        return self.request("GET", f"/{bucket}/{key}")[2]

    def delete(self, bucket, key):
        self.request("DELETE", f"/{bucket}/{key}")

    def list(self, bucket, prefix=""):
        """Every key with its size."""
        found, after = {}, ""
        while True:
            query = {"list-type": "2", "prefix": prefix, "max-keys": "1000"}
            if after:
                query["start-after"] = after
            root = ElementTree.fromstring(self.request("GET", f"/{bucket}", query)[2])
            space = root.tag[:root.tag.index("}") + 1] if "}" in root.tag else ""
            for item in root.iter(f"{space}Contents"):
                after = item.findtext(f"{space}Key")
                found[after] = int(item.findtext(f"{space}Size"))
            if root.findtext(f"{space}IsTruncated") != "true":
                return found

    def uploads(self, bucket):
        """Multipart uploads that were begun and neither completed nor given up."""
        return re.findall(r"<UploadId>([^<]*)<", self.request("GET", f"/{bucket}", {"uploads": ""})[2].decode())

    def empty(self, bucket):
        for key in self.list(bucket):
            self.delete(bucket, key)


class Server:
    """What both kinds have in common: a folder, processes, an endpoint, buckets."""

    name, region = None, "us-east-1"

    def __init__(self, port=None):
        self.buckets = 0
        began = time.monotonic()
        for attempt, seconds in enumerate(START_SECONDS, 1):
            self.until = time.monotonic() + seconds
            self.folder = tempfile.mkdtemp(prefix=f"oxbow-{self.name}-")
            self.port = port or harness.free_port()
            self.endpoint = f"http://127.0.0.1:{self.port}"
            self.client = Client(self.endpoint)
            self.processes = []
            try:
                self.start()
                harness.eventually(self.answers, self.left(), 0.1, f"{self.name} answers")
                break
            except (AssertionError, subprocess.TimeoutExpired) as e:
                # Once in a while a cluster does not come up (a port that somebody else was quicker to take, a daemon that hangs). The
                # next one has another folder and other ports.
                print(f"{self.name} did not start, attempt {attempt}: {e}\n{self.outputs()}", file=sys.stderr)
                self.close()
                if attempt == len(START_SECONDS):
                    raise
            except BaseException:
                self.close()
                raise
        self.start_seconds = time.monotonic() - began

    def left(self):
        """Seconds that this attempt to start still has."""
        return max(1.0, self.until - time.monotonic())

    def spawn(self, name, *command, env=None):
        with open(os.path.join(self.folder, f"{name}.out"), "ab") as out:
            p = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder,
                                 env={**os.environ, **(env or {})}, preexec_fn=harness.die_with_parent)
        self.processes.append(p)
        return p

    def answers(self):
        dead = [p for p in self.processes if p.poll() is not None]
        assert not dead, f"{dead[0].args[0]} ended with {dead[0].returncode}:\n{self.outputs()}"
        with contextlib.suppress(OSError, http.client.HTTPException, S3Error):
            return self.client.request("GET", "/")[0] == 200
        return False

    def outputs(self):
        text = ""
        for name in sorted(os.listdir(self.folder)):
            if name.endswith((".out", ".log")):
                with open(os.path.join(self.folder, name), "rb") as f:
                    text += f"--- {name}\n" + f.read().decode("utf-8", "replace")[-3000:]
        return text

    def bucket(self):
        """A new one."""
        self.buckets += 1
        name = f"bucket-{self.buckets}-{uuid.uuid4().hex[:8]}"
        self.client.make_bucket(name)
        return name

    def url(self, bucket, prefix="", endpoint=None, **parameters):
        """For storage.url."""
        p = {"endpoint": endpoint or self.endpoint, "region": self.region, "path.style": "true", **parameters}
        return f"s3://{bucket}/{prefix}?" + "&".join(f"{k}={v}" for k, v in p.items() if v is not None)

    def close(self):
        for p in reversed(self.processes):
            if p.poll() is None:
                p.kill()
            p.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.close()


class RadosGateway(Server):
    name = "radosgw"

    @staticmethod
    def missing():
        """Why it cannot be started here; None if it can."""
        tools = ["ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph"]
        gone = [t for t in tools if not shutil.which(t)]
        return f"not installed: {' '.join(gone)}" if gone else None

    def run(self, *command):
        return harness.run([command[0], "-c", f"{self.folder}/ceph.conf", *command[1:]], min(60, self.left()), cwd=self.folder)[1]

    def start(self):
        # The daemon's ports are this cluster's own: no other cluster's daemon that has just been there is mistaken for it.
        at, fsid, mon, daemons = self.folder, uuid.uuid4(), harness.free_port(), harness.free_port()
        with open(f"{at}/ceph.conf", "w", encoding="ascii") as f:
            f.write(f"""[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon}
mon initial members = a
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
keyring = {at}/keyring
run dir = {at}
log file = {at}/$name.log
mon cluster log file = {at}/cluster.log
admin socket = {at}/$name.asok
pid file = {at}/$name.pid
crash dir = {at}
setuser match path = {at}
mon data = {at}/mon
mon allow pool size one = true
mon data avail crit = 0
mon data avail warn = 0
mon warn on pool no redundancy = false
ms bind port min = {daemons}
ms bind port max = {daemons + 40}
osd data = {at}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = true
mon max pg per osd = 1000
rgw frontends = beast endpoint=127.0.0.1:{self.port}
rgw data = {at}/rgw
rgw enable usage log = false
rgw lc debug interval = -1
rgw enable gc threads = true
debug rgw = 0
""")
        for sub in ("mon", "osd", "rgw"):
            os.mkdir(f"{at}/{sub}")
        harness.run(["ceph-authtool", "--create-keyring", f"{at}/keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"])
        harness.run(["ceph-authtool", f"{at}/keyring", "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *"])
        harness.run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{mon}]", f"{at}/monmap"])
        self.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", f"{at}/monmap", "--keyring", f"{at}/keyring")
        self.spawn("ceph-mon", "ceph-mon", "-c", f"{at}/ceph.conf", "-i", "a", "-f")
        osd = str(uuid.uuid4())
        self.run("ceph", "--connect-timeout", "60", "osd", "create", osd)
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        storage = self.spawn("ceph-osd", "ceph-osd", "-c", f"{at}/ceph.conf", "-i", "0", "-f")
        # Waits until the cluster has a daemon to store what it writes.
        user = self.spawn("user", "radosgw-admin", "-c", f"{at}/ceph.conf", "user", "create", "--uid", "oxbow", "--display-name", "oxbow",
                          "--access-key", KEY, "--secret", SECRET)
        while user.poll() is None:
            if storage.poll() is not None:
                # With other clusters starting beside this one, the daemon is sometimes refused by its monitor ("wrong fsid") and ends.
                self.processes.remove(storage)
                storage = self.spawn("ceph-osd", "ceph-osd", "-c", f"{at}/ceph.conf", "-i", "0", "-f")
            assert time.monotonic() < self.until, "radosgw-admin does not end"
            time.sleep(0.1)
        assert user.returncode == 0, f"radosgw-admin ended with {user.returncode}"
        self.processes.remove(user)
        self.spawn("radosgw", "radosgw", "-c", f"{at}/ceph.conf", "-n", "client.admin", "-f")


class Minio(Server):
    name = "minio"

    @staticmethod
    def cached():
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        return os.path.join(cache, "oxbow-tests", f"minio-{MINIO_VERSION}")

    @classmethod
    def binary(cls):
        """Where it is: (path, None), or (None, why not)."""
        if os.environ.get("OXBOW_MINIO"):
            return os.environ["OXBOW_MINIO"], None
        if os.path.exists(cls.cached()):
            return cls.cached(), None
        with contextlib.suppress(OSError):
            with open(cls.cached() + ".why", encoding="utf-8") as f:
                return None, "no MinIO: " + f.read()
        return None, "no MinIO: `s3server.py build-minio` builds it once (some minutes), OXBOW_MINIO names a binary"

    @classmethod
    def build(cls):
        """Into the cache, unless it is there. What hinders it, or that it is under way, stands in a file beside it, for binary()."""
        path = cls.cached()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".lock", "w", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the end, however that comes
            except OSError:
                return  # somebody else is at it
            if os.path.exists(path):
                return
            cls.say("it is not built yet; what is done of it is kept for the next run")
            with tempfile.TemporaryDirectory(prefix="oxbow-minio-build-") as at:
                try:
                    status, out, err = harness.run(["go", "install", "-p", "2", f"github.com/minio/minio@{MINIO_VERSION}"], 3600, check=False,
                                                   env={**os.environ, "GOBIN": at, "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"})
                except OSError:
                    return cls.say("there is no Go to build it with")
                if status != 0:
                    return cls.say(f"the Go registry does not give it, or it does not build: {(out + err).strip()[-200:]}")
                shutil.copy2(f"{at}/minio", path + ".new")
                os.rename(path + ".new", path)
                os.unlink(path + ".why")

    @classmethod
    def say(cls, why):
        with open(cls.cached() + ".why", "w", encoding="utf-8") as f:
            f.write(why.replace("\n", " "))

    @classmethod
    def missing(cls):
        return cls.binary()[1]

    def start(self):
        self.spawn("minio", self.binary()[0], "server", "--quiet", "--address", f"127.0.0.1:{self.port}", "--console-address",
                   f"127.0.0.1:{harness.free_port()}", "--certs-dir", f"{self.folder}/certs", f"{self.folder}/data",
                   env={"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off",
                        "HOME": self.folder, "MINIO_CALLHOME_ENABLE": "off", "MINIO_SITE_REGION": self.region})


KINDS = {c.name: c for c in (RadosGateway, Minio)}

if __name__ == "__main__":
    if sys.argv[1:] == ["build-minio"]:
        sys.exit(Minio.build())
    kind = KINDS[sys.argv[1] if len(sys.argv) > 1 else "radosgw"]
    if kind.missing():
        sys.exit(kind.missing())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with kind(int(sys.argv[2]) if len(sys.argv) > 2 else None) as server:
        print(f"{server.endpoint} after {server.start_seconds:.1f} s; access key {KEY}, secret key {SECRET}\nstorage.url={server.url(server.bucket(), 'oxbow')}",
              flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
