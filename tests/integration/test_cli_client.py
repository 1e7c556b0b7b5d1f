"""`oxbow topic`, `group`, `produce` and `consume` against running brokers: Oxbow's own, and a real Kafka where one can be had."""

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import time

import pytest

import harness
from harness import OXBOW, eventually

SECONDS = 180
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class Cli:
    """The client subcommands against one address; output is bytes."""

    def __init__(self, address):
        self.address = address

    def command(self, *arguments):
        return [OXBOW, *map(str, arguments), "--bootstrap-server", self.address]

    def run(self, *arguments, data=b"", env=None):
        p = subprocess.run(self.command(*arguments), input=data, capture_output=True, timeout=SECONDS, check=False, preexec_fn=harness.die_with_parent,
                           env={**os.environ, **(env or {})})
        err = p.stderr.decode()
        assert not harness.FORBIDDEN.search(err), err
        return p.returncode, p.stdout, err

    def ok(self, *arguments, data=b""):
        status, out, err = self.run(*arguments, data=data)
        assert status == 0, (arguments, status, out[-500:], err)
        return out

    def fails(self, *arguments, words=(), status=1, data=b""):
        """Fails with one sentence on stderr that has these words in it."""
        got, out, err = self.run(*arguments, data=data)
        lines = [x for x in err.splitlines() if "acknowledged in" not in x]
        assert got == status and len(lines) == 1 and lines[0].startswith("oxbow "), (arguments, got, out, err)
        assert all(w in lines[0] for w in words), lines[0]
        return out

    def json(self, *arguments):
        return json.loads(self.ok(*arguments, "--json"))

    def start(self, *arguments, stdin=subprocess.DEVNULL):
        return subprocess.Popen(self.command(*arguments), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=harness.die_with_parent)


@pytest.fixture
def cli(brokers):
    return Cli(brokers({"auto.create.topics.enable": "false", "group.initial.rebalance.delay.ms": "0"}).address)


@pytest.fixture
def any_cli(any_address):
    return Cli(any_address)


def lines_of(count, seed=1):
    rng = random.Random(seed)
    return b"".join(b"%d %s\n" % (i, rng.randbytes(rng.randrange(30)).hex().encode()) for i in range(count))


# --- Against any cluster.

def topics_walk(cli):
    assert cli.json("topic", "list") == []
    out = cli.ok("topic", "create", "one", "two", "--partitions", "3", "--config", "retention.ms=3600000", "--config", "cleanup.policy=compact,delete")
    assert out == b"topic 'one' created\ntopic 'two' created\n"
    cli.fails("topic", "create", "one", words=["'one'", "TOPIC_ALREADY_EXISTS"])
    assert cli.ok("topic", "create", "one", "--if-not-exists") == b"topic 'one' exists already\n"
    assert json.loads(cli.fails("topic", "create", "a b", "--json", words=["'a b'", "INVALID_TOPIC_EXCEPTION"]))[0]["result"] == "failed"
    cli.fails("topic", "create", "odd", "--config", "no.such.thing=1", words=["no.such.thing", "INVALID_CONFIG"])
    eventually(lambda: len(cli.json("topic", "list")) == 2)
    assert cli.json("topic", "list")[0] == {"name": "one", "partitions": 3, "replication_factor": 1, "internal": False}
    assert cli.ok("topic", "list").split(b"\n")[1].split() == [b"one", b"3", b"1", b"no"]
    cli.ok("produce", "one", "-p", "1", "-k", ":", data=b"k:x\nl:y\n")
    one = cli.json("topic", "describe", "one")[0]
    assert (one["name"], one["internal"], len(one["topic_id"]), [p["partition"] for p in one["partitions"]]) == ("one", False, 22, [0, 1, 2])
    policies = sorted(one["configs"].pop("cleanup.policy").split(","))
    assert one["configs"] == {"retention.ms": "3600000"} and policies == ["compact", "delete"]
    assert [(p["leader"], p["replicas"], p["isr"], p["earliest"], p["latest"]) for p in one["partitions"]] == [
        (1, [1], [1], 0, 0), (1, [1], [1], 0, 2), (1, [1], [1], 0, 0)]
    assert one["partitions"][1]["size_bytes"] > 60
    text = cli.ok("topic", "describe").decode()
    assert "topic one  id=" in text and "topic two  id=" in text and "config retention.ms=3600000" in text
    assert text.splitlines()[5].split()[:7] == ["1", "1", "0", "1", "1", "0", "2"]
    cli.fails("topic", "describe", "three", words=["'three'", "UNKNOWN_TOPIC_OR_PARTITION"])
    assert cli.ok("topic", "partitions", "one", "5") == b"topic 'one' has 5 partitions\n"
    eventually(lambda: len(cli.json("topic", "describe", "one")[0]["partitions"]) == 5)
    cli.fails("topic", "partitions", "one", "4", words=["'one'", "INVALID_PARTITIONS"])
    configs = cli.json("topic", "config", "one", "--set", "max.message.bytes=100000", "--delete", "cleanup.policy")["configs"]
    assert {c["name"]: (c["value"], c["source"]) for c in configs} == {"retention.ms": ("3600000", "topic"), "max.message.bytes": ("100000", "topic")}
    everything = cli.json("topic", "config", "one", "--all")["configs"]
    assert {"cleanup.policy", "min.insync.replicas", "segment.bytes"} <= {c["name"] for c in everything if c["source"] != "topic"}
    assert b"max.message.bytes  100000   topic" in cli.ok("topic", "config", "one")
    cli.fails("topic", "config", "one", "--set", "retention.ms=soon", words=["'one'", "INVALID_CONFIG"])
    cli.fails("topic", "config", "three", words=["'three'", "UNKNOWN_TOPIC_OR_PARTITION"])
    cli.fails("produce", "one", "-p", "1", "-k", ":", data=b"k:" + b"x" * 200000, words=["line 1 ", "'one' partition 1", "MESSAGE_TOO_LARGE"])
    assert b"topic 'one' deleted" in cli.fails("topic", "delete", "one", "three", words=["'three'", "UNKNOWN_TOPIC_OR_PARTITION"])
    assert cli.ok("topic", "delete", "three", "--if-exists") == b"topic 'three' does not exist\n"
    eventually(lambda: [t["name"] for t in cli.json("topic", "list")] == ["two"])


def records_walk(cli):
    lines = lines_of(100000)
    for codec in CODECS:
        topic = f"records-{codec}"
        cli.ok("topic", "create", topic, "-p", "1")
        status, out, err = cli.run("produce", topic, "-z", codec, "--json", data=lines if codec != "zstd" else lines[:-1])
        said = json.loads(err)
        assert status == 0 and out == b"" and said["records"] == 100000 and said["retries"] == 0
        assert codec not in ("gzip", "zstd") or said["bytes"] < len(lines)
        got = cli.ok("consume", topic, "--from-beginning", "--until-end")
        assert hashlib.sha256(got).digest() == hashlib.sha256(lines).digest(), codec
    all_lines = lines.split(b"\n")
    assert cli.ok("consume", "records-gzip", "--offset", "99998", "-e").split(b"\n")[:-1] == all_lines[99998:100000]
    assert cli.ok("consume", "records-gzip", "--tail", "2", "-e").split(b"\n")[:-1] == all_lines[99998:100000]
    assert cli.ok("consume", "records-gzip", "-o", "77777", "-n", "3").split(b"\n")[:-1] == all_lines[77777:77780]
    cli.fails("consume", "records-gzip", "-o", "100001", words=["no offset 100001", "begins at 0 and ends at 100000"])
    cli.fails("consume", "records-gzip", "-p", "1", words=["no partition 1"])
    cli.fails("consume", "nothing", words=["'nothing'", "UNKNOWN_TOPIC_OR_PARTITION"])
    cli.fails("produce", "nothing", data=b"x", words=["'nothing'", "UNKNOWN_TOPIC_OR_PARTITION"])


def groups_walk(cli):
    cli.ok("topic", "create", "work", "-p", "4")
    cli.ok("produce", "work", "-k", ":", data=b"".join(b"k%d:%d\n" % (i, i) for i in range(1000)))
    cli.fails("group", "describe", "g", words=["'g'", "GROUP_ID_NOT_FOUND"])
    assert cli.ok("consume", "work", "-g", "g", "-e") == b""  # the end is where a new group begins
    assert cli.json("group", "list") == [{"group": "g", "state": "Empty", "type": cli.json("group", "list")[0]["type"], "protocol_type": "consumer"}]
    assert cli.json("group", "list", "--state", "Stable") == []
    view = cli.json("group", "describe", "g")[0]
    assert view["state"] == "Empty" and [(p["partition"], p["lag"]) for p in view["partitions"]] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    ends = [p["end"] for p in view["partitions"]]
    assert sum(ends) == 1000 and all(ends)
    # Nothing happens without --execute.
    plan = json.loads(cli.run("group", "reset", "g", "--topic", "work", "--to-earliest", "--json")[1])
    assert not plan["executed"] and [(p["committed"], p["new"]) for p in plan["partitions"]] == [(e, 0) for e in ends]
    assert cli.json("group", "describe", "g")[0] == view
    cli.ok("group", "reset", "g", "--topic", "work", "--to-earliest", "--execute")
    first = cli.ok("consume", "work", "-g", "g", "-n", "300").split()
    rest = cli.ok("consume", "work", "-g", "g", "-e").split()
    assert len(first) == 300 and sorted(map(int, first + rest)) == list(range(1000))  # none lost, none twice
    for how, new in ((["--shift-by", "-7"], [e - 7 for e in ends]), (["--to-offset", "3"], [3] * 4), (["--to-latest"], ends), (["--shift-by", "99999"], ends),
                     (["--to-datetime", "2001-01-01T00:00:00Z"], [0] * 4), (["--by-duration", "PT0S"], ends), (["--by-duration", "P1D"], [0] * 4)):
        plan = cli.json("group", "reset", "g", "-t", "work", *how)
        assert [p["new"] for p in plan["partitions"]] == new, how
    plan = cli.json("group", "reset", "g", "-t", "work:3,1", "--to-earliest")
    assert [p["partition"] for p in plan["partitions"]] == [3, 1]
    cli.fails("group", "reset", "g", "-t", "work:9", "--to-earliest", words=["no partition 9"])
    with cli.start("consume", "work", "-g", "g") as member:
        view = eventually(lambda: [v for v in cli.json("group", "describe", "g") if v["state"] == "Stable"], 60, 0.2)[0]
        assert view["protocol"] == "range" and view["members"][0]["assignment"] == [{"topic": "work", "partitions": [0, 1, 2, 3]}]
        assert {p["member_id"] for p in view["partitions"]} == {view["members"][0]["member_id"]}
        assert b"work:0,1,2,3" in cli.ok("group", "describe", "g")
        cli.fails("group", "reset", "g", "-t", "work", "--to-earliest", "--execute", words=["1 member", "stop its consumers"])
        cli.fails("group", "delete", "g", words=["'g'", "NON_EMPTY_GROUP"])
        member.send_signal(signal.SIGINT)
        out, err = member.communicate(timeout=SECONDS)
        assert (member.returncode, out, err) == (0, b"", b"")
    assert cli.json("group", "describe", "g")[0]["state"] == "Empty"  # it has left
    assert cli.ok("group", "delete", "g") == b"group 'g' deleted\n"
    cli.fails("group", "delete", "g", words=["'g'", "GROUP_ID_NOT_FOUND"])
    assert cli.json("group", "list") == []


def test_topics(any_cli):
    topics_walk(any_cli)


def test_records(any_cli):
    records_walk(any_cli)


def test_groups(any_cli):
    groups_walk(any_cli)


# --- Oxbow's own.

def test_two_members_share(cli):
    """A second member takes half, and gives it back; nothing is read twice."""
    cli.ok("topic", "create", "t", "-p", "4")
    with cli.start("consume", "t", "-g", "g", "-f", "%v\\n", "--from-beginning") as one, cli.start("consume", "t", "-g", "g", "--from-beginning") as two:
        def shared():
            view = cli.run("group", "describe", "g", "--json")
            members = json.loads(view[1])[0]["members"] if view[0] == 0 else []
            return sorted(sum((len(a["partitions"]) for a in m["assignment"]), 0) for m in members) == [2, 2]
        eventually(shared, 60, 0.2)
        for p in range(4):
            cli.ok("produce", "t", "-p", p, data=b"".join(b"%d\n" % i for i in range(p, 400, 4)))
        eventually(lambda: all(x["lag"] == 0 and x["end"] == 100 for x in cli.json("group", "describe", "g")[0]["partitions"]), 60, 0.2)
        two.send_signal(signal.SIGTERM)
        got = two.communicate(timeout=SECONDS)[0]
        assert two.returncode == 0
        eventually(lambda: [len(m["assignment"]) for m in cli.json("group", "describe", "g")[0]["members"]] == [1] and
                   len(cli.json("group", "describe", "g")[0]["members"][0]["assignment"][0]["partitions"]) == 4, 60, 0.2)
        cli.ok("produce", "t", data=b"400\n")
        eventually(lambda: sum(x["lag"] for x in cli.json("group", "describe", "g")[0]["partitions"]) == 0, 60, 0.2)
        one.send_signal(signal.SIGINT)
        got += one.communicate(timeout=SECONDS)[0]
    assert sorted(map(int, got.split())) == list(range(401))


def test_forms_of_records(cli, folder):
    cli.ok("topic", "create", "t", "-p", "3")
    cli.ok("produce", "t", "-p", "0", "-k", "::", "-H", "h=v=1", "-H", "e=", data=b"a::1\nno key\n::empty key\nb::\n\n")
    rows = [json.loads(x) for x in cli.ok("consume", "t", "-p", "0", "--from-beginning", "-e", "--json").splitlines()]
    assert [(r["key"], r["value"]) for r in rows] == [("a", "1"), (None, "no key"), ("", "empty key"), ("b", ""), (None, "")]
    assert rows[0]["headers"] == [{"key": "h", "value": "v=1"}, {"key": "e", "value": ""}] and rows[4]["offset"] == 4
    assert abs(rows[0]["timestamp"] / 1000 - time.time()) < 600
    assert cli.ok("consume", "t", "-p", "0", "-o", "0", "-n", "1", "-f", r"%t %p %o %k %K %v %s %S %h%%\x21\n") == b"t 0 0 a 1 1 1 1 h=v=1,e=%!\n"
    # Bytes of every kind, between zero bytes.
    blobs = [bytes(x for x in range(1, 256)), b"", b"\n\n", "späť".encode(), b"x" * 300000]
    path = os.path.join(folder, "blobs")
    with open(path, "wb") as f:
        f.write(b"\0".join(blobs))
    cli.ok("produce", "t", "-p", "1", "-0", "--file", path)
    assert cli.ok("consume", "t", "-p", "1", "--from-beginning", "-e", "-f", r"%v\0") == b"\0".join(blobs) + b"\0"
    values = [json.loads(x)["value"] for x in cli.ok("consume", "t", "-p", "1", "--from-beginning", "-e", "--json").splitlines()]
    assert base64.b64decode(values[0]["base64"]) == blobs[0] and values[3] == "späť"
    moment = time.time()
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment + 3600))
    assert cli.ok("consume", "t", "-e", "--from-datetime", later) == b""
    assert len(cli.ok("consume", "t", "-p", "0", "-e", "--from-datetime", "2001-01-01").splitlines()) == 5
    assert cli.ok("consume", "t", "-e") == b"" and cli.ok("consume", "t", "-n", "0") == b""
    cli.ok("produce", "t", "-p", "2", "--acks", "1", data=b"one")
    cli.ok("produce", "t", "-p", "2", "--acks", "0", data=b"none")
    eventually(lambda: cli.ok("consume", "t", "-p", "2", "--from-beginning", "-e") == b"one\nnone\n")
    cli.ok("produce", "t", "-p", "2", "--no-idempotence", "--batch-bytes", "1", "--linger-ms", "0", data=b"a\nb\nc\n")
    assert cli.ok("consume", "t", "-p", "2", "--tail", "3", "-e", "--isolation", "read_committed") == b"a\nb\nc\n"


def test_partitions_of_keys(cli):
    """Where Kafka's Java client puts these keys, of seven partitions: murmur2 as its own tests have it."""
    cli.ok("topic", "create", "t", "-p", "7")
    hashes = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
              "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107}
    cli.ok("produce", "t", "-k", "=", data="".join(f"{k}=v\n" for k in hashes).encode())
    got = dict(x.split() for x in cli.ok("consume", "t", "--from-beginning", "-e", "-f", r"%k %p\n").decode().splitlines())
    assert got == {k: str((h & 0x7fffffff) % 7) for k, h in hashes.items()}


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_broker_killed_under_a_producer(brokers, codec):
    """kill -9 in the middle, five times: all is there, once, in order; the producer only says that it repeated something."""
    b = brokers()
    cli = Cli(b.address)
    cli.ok("topic", "create", "t", "-p", "1")
    with cli.start("produce", "t", "-p", "0", "-z", codec, "--timeout-ms", "120000", "--batch-bytes", "2000", "--linger-ms", "0", "--json", stdin=subprocess.PIPE) as p:
        count = 0
        for _ in range(5):
            for _ in range(40):
                p.stdin.write(b"".join(b"%d\n" % i for i in range(count, count + 500)))
                p.stdin.flush()
                count += 500
            b.kill9()
            p.stdin.write(b"%d\n" % count)
            p.stdin.flush()
            count += 1
            b.start()
        out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 0 and out == b"", err
    said = json.loads(err)
    assert said["records"] == count and said["retries"] > 0
    assert cli.ok("consume", "t", "--from-beginning", "-e") == b"".join(b"%d\n" % i for i in range(count))


def test_broker_killed_under_a_consumer(brokers):
    b = brokers()
    cli = Cli(b.address)
    cli.ok("topic", "create", "t", "-p", "2")
    cli.ok("produce", "t", data=lines_of(1000))
    with cli.start("consume", "t", "--from-beginning", "-n", "2000", "--timeout-ms", "120000") as p:
        got = [p.stdout.readline() for _ in range(1000)]
        b.restart(kill=True)
        cli.ok("produce", "t", data=lines_of(1000, seed=2))
        out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 0 and err == b""
    assert sorted(got + out.splitlines(True)) == sorted(lines_of(1000).splitlines(True) + lines_of(1000, seed=2).splitlines(True))


def test_no_broker(folder):
    nobody = Cli(f"127.0.0.1:{harness.free_port()}")
    for arguments in (["topic", "list"], ["topic", "create", "t"], ["group", "list"], ["group", "describe", "g"], ["produce", "t"], ["consume", "t"],
                      ["consume", "t", "-g", "g"], ["topic", "delete", "t"], ["group", "reset", "g", "-t", "t", "--to-latest"]):
        nobody.fails(*arguments, words=["no broker answers at 127.0.0.1:", "refused"])
    # Somebody listens, and says nothing, or nonsense, or hangs up.
    for answer, words in ((None, ["did not answer ApiVersions within 300 ms"]), (b"HTTP/1.1 400 Bad Request\r\n\r\n", ["does not speak Kafka's protocol"]),
                          (b"", ["closed the connection"])):
        with harness.socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            deaf = Cli(f"127.0.0.1:{s.getsockname()[1]}")
            with deaf.start("topic", "list", "--timeout-ms", "300" if answer is None else "60000") as p:
                peer = s.accept()[0]
                if answer is not None:
                    peer.recv(1)
                    peer.sendall(answer)
                    peer.shutdown(harness.socket.SHUT_WR)
                err = p.communicate(timeout=SECONDS)[1].decode()
                peer.close()
            assert p.returncode == 1 and len(err.splitlines()) == 1 and all(w in err for w in words), err


def test_addresses(cli):
    port = cli.address.split(":")[1]
    dead = f"127.0.0.1:{harness.free_port()}"
    assert Cli(f"{dead},{cli.address}").json("topic", "list") == []
    assert Cli(f"PLAINTEXT://localhost:{port}").json("topic", "list") == []
    status, out, _ = harness.run([OXBOW, "topic", "list", "--json"], env={**os.environ, "OXBOW_BOOTSTRAP_SERVER": cli.address})
    assert status == 0 and json.loads(out) == []
    for wrong in ("host:port", ":1", "host:0", "host:99999", ",", "[::1"):
        Cli(wrong).fails("topic", "list", words=["expected HOST:PORT", wrong], status=2)


@pytest.mark.parametrize("arguments, words", [
    (["topic"], ["expected one of list, create"]), (["topic", "lst"], ["'lst'", "did you mean 'list'"]), (["topic", "list", "x"], ["expected nothing"]),
    (["topic", "create"], ["expected NAME"]), (["topic", "create", "t", "-p", "0"], ["partitions"]), (["topic", "create", "t", "--config", "x"], ["key=value"]),
    (["topic", "list", "--partitions", "1"], ["--partitions does not belong"]), (["topic", "partitions", "t", "many"], ["'many'"]),
    (["group", "describe"], ["expected NAME"]), (["group", "reset", "g"], ["--topic", "exactly one"]), (["group", "reset", "g", "-t", "t"], ["exactly one"]),
    (["group", "reset", "g", "-t", "t", "--to-latest", "--to-earliest"], ["exactly one"]), (["group", "reset", "g", "-t", "t", "--to-datetime", "then"], ["'then'"]),
    (["group", "reset", "g", "-t", "t", "--by-duration", "1h"], ["'1h'"]), (["group", "reset", "g", "-t", "t", "--shift-by", "x"], ["'x'"]),
    (["produce"], ["a TOPIC"]), (["produce", "t", "u"], ["one TOPIC"]), (["produce", "t", "-z", "rar"], ["'rar'", "zstd"]), (["produce", "t", "--acks", "2"], ["'2'"]),
    (["produce", "t", "-H", "x"], ["key=value"]), (["produce", "t", "--timeout-ms", "0"], ["milliseconds"]),
    (["consume"], ["a TOPIC"]), (["consume", "t", "-o", "-1"], ["an offset"]), (["consume", "t", "-o", "1", "--tail", "1"], ["at most one of"]),
    (["consume", "t", "-g", "g", "-p", "1"], ["--group"]), (["consume", "t", "-f", "%q"], ["%q"]), (["consume", "t", "--isolation", "x"], ["read_committed"]),
])
def test_wrong_usage(arguments, words):
    """Nobody is asked: there is no broker."""
    Cli("127.0.0.1:1").fails(*arguments, words=words, status=2)


def test_a_file_that_is_not_there(cli):
    cli.fails("produce", "t", "-f", "/nonexistent/file", words=["/nonexistent/file"])


def test_closed_pipe_is_quiet(cli):
    cli.ok("topic", "create", "t", "-p", "1")
    cli.ok("produce", "t", data=lines_of(100000))
    for arguments in (["consume", "t", "--from-beginning"], ["consume", "t", "--from-beginning", "--json", "-g", "g"]):
        with cli.start(*arguments) as p:
            p.stdout.readline()
            p.stdout.close()
            assert p.stderr.read() == b"" and p.wait(SECONDS) == 0
    # What was not written was not committed, and the member has left.
    view = cli.json("group", "describe", "g")[0]
    assert view["state"] == "Empty" and sum(p["committed"] or 0 for p in view["partitions"]) < 100000
    with open("/dev/full", "wb") as full:
        p = subprocess.run(cli.command("topic", "list"), stdout=full, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    assert p.returncode == 1 and b"No space left" in p.stderr


def test_lines_that_come_slowly(cli):
    """A line is there soon after it was written, though more may come; an interruption ends in order, with all lines sent."""
    cli.ok("topic", "create", "t", "-p", "1")
    with cli.start("produce", "t", stdin=subprocess.PIPE) as p:
        for text in (b"one\n", b"two\n"):
            p.stdin.write(text)
            p.stdin.flush()
            eventually(lambda t=text: cli.ok("consume", "t", "--tail", "1", "-e") == t, 60, 0.1)
        p.send_signal(signal.SIGINT)
        assert p.wait(SECONDS) == 0 and b"2 records" in p.stderr.read()
        p.stdin.close()
