"""The command line's contract, as far as a running broker or its files are needed; options and `oxbow config` have tests of their own."""

import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import oxbow
from wire import Wire, batch


def test_version_help_and_status():
    status, out, err = oxbow("version")
    assert status == 0 and re.match(r"oxbow \d+\.\d+", out) and err == ""
    assert oxbow("--help")[0] == 0 and oxbow()[0] == 2
    commands = re.findall(r"^  (\w+) ", oxbow("--help")[1], re.M)
    assert {"serve", "config", "sim", "wal", "ledger", "object", "version", "help"} <= set(commands)
    for c in commands:
        status, out, err = oxbow(c, "--help")
        assert status == 0 and out.startswith("usage: oxbow") and err == "", c
        assert oxbow(c, "--no-such-option")[0] == 2, c
    assert oxbow("serv")[0] == 2 and "serve" in oxbow("serv")[2]


def test_wrong_properties(folder):
    for setting, words in (("listener=x", ["listener", "listeners"]), ("node.id=many", ["node.id", "many"]), ("storage.url=ftp://x", ["storage.url", "ftp"]),
                           ("shards=-1", ["shards"]), ("io.backend=kqueue", ["io.backend", "uring", "epoll"])):
        status, out, err = oxbow("serve", "--set", setting, cwd=folder)
        assert status == 2 and out == "" and len(err.splitlines()) == 1 and all(w in err for w in words), err
    with open(f"{folder}/server.properties", "w", encoding="ascii") as f:
        f.write("node.id=1\nauto.create.topic.enable=true\n")
    status, _, err = oxbow("serve", "-c", f"{folder}/server.properties")
    assert status == 2 and "server.properties:2" in err and "auto.create.topics.enable" in err
    assert oxbow("serve", "-c", f"{folder}/none")[0] != 0
    status, out, _ = oxbow("config", "--set", "node.id=17")
    assert status == 0 and "node.id=17" in out and "wal.url=" in out


def test_stop_in_order_leaves_nothing_to_replay(brokers):
    b = brokers({"upload.interval.ms": 600000})
    with Wire(b.port) as w:
        w.create("t")
        for i in range(10):
            assert w.produce("t", 0, batch([b"%d" % i]))[:2] == (0, i)
    b.restart()
    assert not b.lines('msg="wal recovered"')
    with Wire(b.port) as w:
        assert w.produce("t", 0, batch([b"10"]))[:2] == (0, 10)
    b.restart(kill=True)
    assert b.field("wal recovered", "records") == "1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_a_start(brokers, number):
    """A start that waits for its store is over with the first signal, and says that it was asked. Without that, this one ended when its
    own patience did, with status 1, for the store could not be opened; and one that had opened it waited for ever (test_s3)."""
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections and never answers
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true"}
        url = f"s3://bucket?endpoint=http://127.0.0.1:{server.getsockname()[1]}&region=us-east-1&path.style=true"
        b = brokers({"storage.url": url}, env=keys, start=False)
        b.start(wait=False)
        server.accept()[0].recv(1)  # it asks
        os.kill(b.pid, number)
        assert b.wait() == 0
        assert len(b.lines('msg="stopped while starting" reason=signal')) == 1 and not b.lines("level=error"), b.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(brokers, number):
    """Both are sent while the process stands still, so that the second is there before the first has had its effect."""
    b = brokers()
    with Wire(b.port) as w:
        w.create("t")
        w.produce("t", 0, batch([b"x"]))
    os.kill(b.pid, signal.SIGSTOP)
    os.kill(b.pid, number)
    time.sleep(0.05)
    os.kill(b.pid, signal.SIGINT if number == signal.SIGTERM else signal.SIGTERM)
    os.kill(b.pid, signal.SIGCONT)
    assert b.wait(10) in (0, 1)  # it may have been quicker than the second
    b.start()
    with Wire(b.port) as w:
        assert w.list_offsets("t", 0, -1)[2] == 1


def test_idle_is_silent(brokers):
    b = brokers({"shards": 2})
    with Wire(b.port) as w:
        w.create("t")
        w.produce("t", 0, batch([b"x"]))
        w.send_fetch([("t", 0, 1, 1000)], wait_ms=60_000, min_bytes=1)  # and somebody waits
        time.sleep(0.5)

        def used():
            with open(f"/proc/{b.pid}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            switches = sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", open(f"{t}/status", encoding="ascii").read(), re.M)[1])
                           for t in glob.glob(f"/proc/{b.pid}/task/*"))
            return int(fields[11]) + int(fields[12]), switches
        lines, before = len(b.log().splitlines()), used()
        time.sleep(3)
        after = used()
        assert len(b.log().splitlines()) == lines, b.log()
        # A thread that does not wake makes no system call. Sanitizers have a thread that wakes ten times a second.
        print(f"in 3 s: {after[0] - before[0]} ticks of CPU, {after[1] - before[1]} wake-ups")
        assert after[0] - before[0] <= 5 and after[1] - before[1] < 60


def test_inspect(brokers):
    b = brokers({"upload.interval.ms": 600000})
    with Wire(b.port) as w:
        w.create("t", 3)
        for i in range(30):
            assert w.produce("t", i % 3, batch([b"%d" % i * 50]))[0] == 0
    wal, store = f"{b.folder}/wal", f"{b.folder}/store"

    def sound():
        for command in (["wal", "inspect", wal], ["ledger", "inspect", f"file://{store}"], ["object", "inspect", store, "--all"]):
            status, out, err = oxbow(*command)
            assert status == 0 and out and "BAD" not in out, (command, out, err)
    sound()  # while the broker runs
    b.kill9()
    sound()
    assert re.search(r"\b30\b", oxbow("wal", "inspect", wal)[1])
    b.start()
    b.stop()
    sound()
    # A changed byte is found, wherever it is.
    for path in sorted(glob.glob(f"{store}/objects/*/ledger/*/*")) + sorted(glob.glob(f"{store}/objects/*/cluster/*")):
        with open(path, "rb") as f:
            good = f.read()
        bad = bytearray(good)
        bad[len(bad) * 2 // 3] ^= 0x20
        with open(path, "wb") as f:
            f.write(bad)
        status, out, _ = oxbow("object", "inspect", store, "--all")
        assert status == 1 and "BAD" in out and os.path.basename(path) in out, path
        with open(path, "wb") as f:
            f.write(good)
    sound()
    assert oxbow("wal", "inspect", f"{wal}/none")[0] == 1
    assert oxbow("ledger", "inspect")[0] == 2


def test_wal_init(brokers, folder):
    """By hand: new, again, where something else lies, after a broker that was killed."""
    wal = f"{folder}/new.wal"
    url = f"file://{wal}?size=17MiB"
    assert oxbow("wal", "inspect", wal)[0] == 1
    status, out, err = oxbow("wal", "init", url)
    assert status == 0 and "new WAL" in out and os.path.getsize(wal) == 17 << 20, err
    made = json.loads(oxbow("wal", "inspect", wal, "--json", check=True)[1])
    assert made["bad"] == 0 and made["groups"] == 0 and all(s["closed"] for s in made["superblocks"]), made
    status, again, err = oxbow("wal", "init", url)  # nothing is in it
    assert status == 0 and re.search("id [0-9a-f]{32}$", again) and again != out, err
    # A broker takes it; killed, it is not made new for the asking.
    b = brokers({"wal.url": url, "upload.interval.ms": 600000})
    with Wire(b.port) as w:
        w.create("t")
        assert w.produce("t", 0, batch([b"one"]))[0] == 0
    status, out, err = oxbow("wal", "init", url, "--force")
    assert status == 1 and out == "" and "another process" in err, err
    b.kill9()
    with open(wal, "rb") as f:
        held = f.read()
    status, out, err = oxbow("wal", "init", url)
    assert status == 1 and out == "" and "--force" in err, err
    with open(wal, "rb") as f:
        assert f.read() == held
    b.start()
    with Wire(b.port) as w:
        assert w.fetch([("t", 0, 0, 1 << 20)])[2]["t", 0][:2] == (0, 1)
    b.stop()
    assert oxbow("wal", "init", url)[0] == 0
    # What is no WAL stays what it is, also with --force.
    other = f"{folder}/letters"
    with open(other, "wb") as f:
        f.write(b"dear all " * 20000)
    for extra in ((), ("--force",)):
        status, out, err = oxbow("wal", "init", other, *extra)
        assert status == 1 and out == "" and "letters" in err and err.count("\n") == 1, err
    with open(other, "rb") as f:
        assert f.read() == b"dear all " * 20000
    for wrong in (("inspect", wal, "--force"), ("init", wal, "--json"), ("init", wal, "-v"), ("init",), ("make", wal), ("init", wal, other)):
        status, out, err = oxbow("wal", *wrong)
        assert status == 2 and out == "" and err, wrong


@pytest.mark.skipif(not shutil.which("kcat"), reason="needs kcat")
def test_with_nothing_given(folder):
    """No file, no settings: the current folder and port 9092, if that is free."""
    import socket
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", 9092))
        except OSError:
            pytest.skip("port 9092 is in use")
    p = subprocess.Popen([harness.OXBOW, "serve"], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                         preexec_fn=harness.die_with_parent)
    try:
        harness.eventually(lambda: subprocess.run(["kcat", "-b", "127.0.0.1:9092", "-L"], capture_output=True, check=False).returncode == 0)
        assert os.path.isdir(f"{folder}/data/store") and os.path.exists(f"{folder}/data/wal/oxbow.wal")
        p.send_signal(signal.SIGINT)
        assert p.wait(30) == 0
    finally:
        if p.poll() is None:
            p.kill()
        p.communicate()
