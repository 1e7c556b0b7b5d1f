"""Java libraries from Maven's central registry, through `mvn` as it is set up here."""

import fcntl
import glob
import os
import shutil

import pytest

import registry
import versions

KAFKA, SLF4J, LOG4J = "org.apache.kafka", "org.slf4j", "org.apache.logging.log4j"
# A JVM of a test lives for seconds, on a machine that others use too: the first compiler alone, one thread for garbage.
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData"]

PROJECT = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>oxbow</groupId><artifactId>{}</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{}</dependencies></project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


broken = {}  # delivery -> what went wrong with what arrived; it would go wrong again


def client(release):
    return f"java-client-{release}", [(KAFKA, "kafka-clients", release), (SLF4J, "slf4j-nop", versions.SLF4J)]


def kafka(release):
    """The broker and the tools."""
    logs = [(SLF4J, "slf4j-reload4j", versions.SLF4J)]
    if not release.startswith("3."):
        logs = [(LOG4J, a, versions.LOG4J) for a in ("log4j-core", "log4j-slf4j-impl", "log4j-1.2-api")]
    return f"kafka-{release}", [(KAFKA, "kafka_2.13", release), (KAFKA, "kafka-tools", release), *logs]


def fetch(name, artifacts, folder):
    """The artifacts and all that they depend on, into folder/lib."""
    pom = os.path.join(folder, "pom.xml")
    with open(pom, "w", encoding="ascii") as f:
        f.write(PROJECT.format(name, "".join(DEPENDENCY.format(*a) for a in artifacts)))
    with open(os.path.join(registry.CACHE, ".maven.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Maven's own cache is for one process at a time
        registry.fetch(["mvn", "-B", "-q", "-f", pom, f"-Dmaven.repo.local={registry.CACHE}/maven", "-Dmaven.wagon.http.retryHandler.count=1",
                        "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}/lib"])


def delivered(what, sources=(), make=None):
    """The folder of a delivery (client() or kafka()); make(folder), if any, goes on where
    fetching ends, and returns what went wrong."""
    if not shutil.which("java"):
        pytest.skip("needs java")
    name, artifacts = what
    if name in broken:
        pytest.fail(broken[name])

    def all_of_it(folder):
        fetch(name, artifacts, folder)
        problem = make(folder) if make else None
        if problem:
            broken[name] = problem
            pytest.fail(problem)
    return registry.delivered("mvn", name, artifacts, all_of_it, sources)


def classpath(folder):
    return ":".join([folder, *sorted(glob.glob(os.path.join(folder, "lib", "*.jar")))])
