"""Fixtures: see harness.py for what they hand out."""

import os
import shutil
import subprocess
import tempfile

import pytest

import harness
import kafka_server
import s3server

MAY_MOUNT = harness.private_mounts()


@pytest.fixture
def folder():
    """A folder of the test's own that is gone afterwards. Shorter than pytest's, and never kept: stores and logs can be large."""
    path = tempfile.mkdtemp(prefix="oxbow-it-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def brokers(folder):
    """Makes brokers: brokers(settings, ...) is one that has been started. All must still be sound at the end of the test."""
    made = []

    def make(settings=None, name=None, start=True, **options):
        if settings and settings.get("io.backend") == "uring" and not harness.has_io_uring():
            pytest.skip("needs io_uring")
        b = harness.Broker(os.path.join(folder, name or f"broker{len(made)}"), settings, **options)
        made.append(b)
        return b.start() if start else b
    yield make
    problems = []
    for b in made:
        try:
            if b.process is not None:
                if b.alive():
                    b.stop()
                else:
                    problems.append(f"a broker had ended by itself with {b.process.returncode}:\n{b.log()[-4000:]}")
            b.check_log()
        except AssertionError as e:
            problems.append(str(e))
        except FileNotFoundError:
            pass  # its folder was unmounted
        finally:
            b.end()
    for b in made:
        if os.path.exists(b.log_path):
            print(f"--- the log of {b.folder}\n" + b.whole_log()[-6000:])
    assert not problems, "\n".join(problems)


@pytest.fixture
def broker(brokers):
    return brokers()


def kafka_release(version):
    return pytest.param(version, id=f"kafka-{version}")


@pytest.fixture(params=["oxbow", *map(kafka_release, kafka_server.versions.KAFKAS)])
def any_address(request, folder):
    """The address of a cluster that makes no topics by itself: Oxbow's, and of every Kafka that Maven delivers."""
    settings = {"auto.create.topics.enable": "false", "group.initial.rebalance.delay.ms": "0"}
    if request.param == "oxbow":
        yield request.getfixturevalue("brokers")(settings).address
        return
    kafka = kafka_server.Kafka(os.path.join(folder, "kafka"), request.param, settings)
    try:
        address = f"127.0.0.1:{kafka.start().port}"
        harness.eventually(lambda: harness.oxbow("topic", "list", "--bootstrap-server", address)[0] == 0, 60, 0.5)
        yield address
    finally:
        kafka.end()


@pytest.fixture
def processes():
    """Starts helper programs that end with the test."""
    made = []

    def start(*command, **options):
        made.append(harness.Process(command, **options))
        return made[-1]
    yield start
    for p in made:
        p.end()


@pytest.fixture
def mounts(folder):
    """Name it before `brokers` in a test's arguments: what is named first ends last."""
    if not MAY_MOUNT:
        pytest.skip("needs root and loop devices")
    m = harness.Mounts(folder)
    yield m
    m.close()


@pytest.fixture(scope="session")
def client(tmp_path_factory):
    """The C client of librdkafka (client.c)."""
    return harness.compile_c("client.c", tmp_path_factory.mktemp("bin") / "client", ["-lrdkafka"])


def s3_session(kind):
    why = kind.missing()
    if why:
        pytest.skip(why)
    with kind() as server:
        yield server


@pytest.fixture(scope="session")
def rgw():
    """Ceph's S3 gateway, one for the whole session; tests take a bucket each (s3server.py)."""
    yield from s3_session(s3server.RadosGateway)


@pytest.fixture(scope="session")
def minio():
    yield from s3_session(s3server.Minio)


def pytest_report_header(config):
    version = subprocess.run([harness.OXBOW, "version"], capture_output=True, text=True, check=False).stdout.strip()
    return f"binary: {harness.OXBOW} ({version}), sanitized: {harness.sanitized()}"
