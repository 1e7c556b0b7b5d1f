"""Java libraries from Maven's central registry through the `mvn` client, for tests that run Kafka itself or its Java clients.

A set of artifacts is fetched once, with all that it depends on, into a folder of its own: $OXBOW_CLIENTS_CACHE/java/NAME/lib, where
the variable defaults to a folder that git ignores. Without Java, without Maven, or when the registry does not answer, the test that
asks is skipped."""

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess

import pytest

import harness

CACHE = os.environ.get("OXBOW_CLIENTS_CACHE") or os.path.join(harness.ROOT, "build", "clients")
FOLDER = os.path.join(CACHE, "java")
SECONDS = 300  # to fetch everything; usually some seconds

KAFKA = "org.apache.kafka"
LOG4J = "org.apache.logging.log4j"

# Brokers and tools are not always released together with the clients: each has its own newest.
CLIENTS = {v: [(KAFKA, "kafka-clients", v), ("org.slf4j", "slf4j-nop", "1.7.36")]
           for v in ("0.9.0.1", "0.10.0.1", "0.10.2.2", "0.11.0.3", "1.1.1", "2.8.2", "3.9.2", "4.4.0")}
SERVERS = {
    "3.9.2": [(KAFKA, "kafka_2.13", "3.9.2"), (KAFKA, "kafka-tools", "3.9.2"), ("org.slf4j", "slf4j-reload4j", "1.7.36")],
    "4.3.1": [(KAFKA, "kafka_2.13", "4.3.1"), (KAFKA, "kafka-tools", "4.3.1")] +
             [(LOG4J, a, "2.25.1") for a in ("log4j-core", "log4j-slf4j-impl", "log4j-1.2-api")],
}
SETS = {**{f"clients-{v}": d for v, d in CLIENTS.items()}, **{f"kafka-{v}": d for v, d in SERVERS.items()}}

# A JVM of a test lives for seconds on a shared machine: the first compiler alone, one thread for garbage.
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData"]

PROJECT = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>oxbow</groupId><artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{dependencies}</dependencies></project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def pom(name):
    return PROJECT.format(name=name, dependencies="".join(DEPENDENCY.format(*d) for d in SETS[name]))


def complete(name):
    """Is the set there, as it is described today?"""
    try:
        with open(os.path.join(FOLDER, name, "complete"), encoding="utf-8") as f:
            return f.read() == hashlib.sha256(pom(name).encode()).hexdigest()
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked():
    """Several tests may want the same set at the same time."""
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "lock"), "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def fetch(name):
    folder = os.path.join(FOLDER, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "pom.xml"), "w", encoding="utf-8") as f:
        f.write(pom(name))
    command = ["mvn", "-B", "-q", "-f", os.path.join(folder, "pom.xml"), f"-Dmaven.repo.local={FOLDER}/repository",
               "-Dmaven.wagon.http.retryHandler.count=1", "-Dmaven.wagon.rto=20000", "-Dmaven.wagon.http.connectionTimeout=20000",
               "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}/lib"]
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
                           preexec_fn=harness.die_with_parent)
    except subprocess.TimeoutExpired:
        return f"mvn did not fetch {name} within {SECONDS} s"
    if p.returncode != 0:
        errors = [line for line in (p.stdout + p.stderr).splitlines() if "[ERROR]" in line]
        return f"mvn cannot fetch {name}: {(errors or ['it said nothing'])[0][:200]}"
    with open(os.path.join(folder, "complete"), "w", encoding="utf-8") as f:
        f.write(hashlib.sha256(pom(name).encode()).hexdigest())
    return None


def jars(name):
    """The jars of a set; skips the test when they cannot be had."""
    if not shutil.which("java"):
        pytest.skip("needs java")
    with locked():
        if not complete(name):
            if not shutil.which("mvn"):
                pytest.skip("needs mvn")
            # What one test could not fetch, the next would only wait for.
            failed = os.path.join(FOLDER, f"failed-{os.getppid()}")
            if os.path.exists(failed):
                pytest.skip("the registry did not answer")
            problem = fetch(name)
            if problem:
                with open(failed, "w", encoding="utf-8") as f:
                    f.write(problem)
                pytest.skip(problem)
    return sorted(glob.glob(os.path.join(FOLDER, name, "lib", "*.jar")))


def classpath(name, *more):
    return ":".join(jars(name) + [str(m) for m in more])
