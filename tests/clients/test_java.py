"""The Java client, each generation from 0.9 to the newest. One program, compiled with each; before 0.10.2 clients ask for no ApiVersions
and take for granted that the broker is as old as they are, or newer. Kafka Streams counts words, goes away and comes back.

Seen to fail: with OffsetFetch one too high, group-share and group-resume from 0.9 to the newest, group-admin, and of the tools' steps
those that look at offsets again; with timestamps one too high when message sets v1 are made, all that 0.10 reads."""

import os

import pytest

import maven
import versions

AT_ONCE = 2  # a Java machine is no small thing
HERE = os.path.dirname(os.path.abspath(__file__))
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
SOURCES = {"JavaClient": (0, 0), "AdminOld": (0, 11), "AdminChecks": (2, 8)}  # and the release from which they compile


def release_of(release):
    return tuple(int(n) for n in release.split(".")[:2])


def sources(release):
    names = [n for n, since in SOURCES.items() if since <= release_of(release) and not (n == "AdminOld" and release_of(release) >= (2, 8))]
    return [os.path.join(HERE, "java", n + ".java") for n in names]


def checks(release):
    r = release_of(release)
    names = ["group-share", "group-resume", "unknown-topic", "times", "acks"]
    names += ["group-static"] if r >= (2, 3) else []
    names += ["group-cooperative"] if r >= (2, 4) else []
    names += ["idempotent", "topics"] if r >= (0, 11) else []
    names += ["group-admin", "records", "cluster"] if r >= (2, 8) else []
    return names + [f"{kind}-{codec}" for kind in ("data", "peer") for codec in codecs(release)]


def codecs(release):
    return [c for c in CODECS if c != "zstd" or release_of(release) >= (2, 1)]


def program(name):
    if name == "streams":
        files = [os.path.join(HERE, "java", "WordCount.java")]
        folder = maven.delivered(maven.streams(versions.STREAMS), files, lambda folder: maven.javac(folder, files))
        return [*maven.JAVA, "-Xmx384m", "-cp", maven.classpath(folder), "WordCount"], {}
    release = name[len("java-"):]
    files = sources(release)

    folder = maven.delivered(maven.client(release), files, lambda folder: maven.javac(folder, files))
    return [*maven.JAVA, "-Xmx384m", f"-Drelease={release}", "-cp", maven.classpath(folder), "JavaClient"], {}


@pytest.mark.parametrize("name, check", [("streams", c) for c in ("wordcount", "restart")])
def test_streams(ran, name, check):
    ran(name).judge(check)


@pytest.mark.parametrize("name, check", [(f"java-{r}", c) for r in versions.JAVA_CLIENTS for c in checks(r)])
def test_check(ran, name, check):
    ran(name).judge(check)


@pytest.mark.parametrize("name, codec", [(f"java-{r}", c) for r in versions.JAVA_CLIENTS for c in codecs(r)])
def test_written(ran, name, codec):
    """What it wrote, as librdkafka sees it."""
    release = release_of(name[len("java-"):])
    ran(name).verify(codec, timestamps=release >= (0, 10), headers=release >= (0, 11))
