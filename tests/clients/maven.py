"""Java libraries from Maven's central registry, through `mvn` as it is set up here."""

import functools
import glob
import os
import re
import shutil
import subprocess

import pytest

import registry
import versions

KAFKA, SLF4J, LOG4J = "org.apache.kafka", "org.slf4j", "org.apache.logging.log4j"
# A JVM of a test lives for seconds, on a machine that others use too: the first compiler alone, one thread for garbage.
JAVA_LEAST = 17  # for Kafka 4
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData"]

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin"
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>oxbow</groupId><artifactId>{}</artifactId><version>1</version><packaging>pom</packaging>
{}</project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>{}</dependency>"
# Streams keeps its state in memory in the tests: the other way to keep it weighs seventy megabytes.
WITHOUT = {"kafka-streams": "<exclusions><exclusion><groupId>org.rocksdb</groupId><artifactId>rocksdbjni</artifactId></exclusion></exclusions>"}

broken = {}  # delivery -> what went wrong with what arrived; it would go wrong again


def client(release):
    return f"java-client-{release}", [(KAFKA, "kafka-clients", release), (SLF4J, "slf4j-nop", versions.SLF4J)]


def kafka(release):
    """The broker and the tools."""
    logs = [(SLF4J, "slf4j-reload4j", versions.SLF4J)]
    if not release.startswith("3."):
        logs = [(LOG4J, a, versions.LOG4J) for a in ("log4j-core", "log4j-slf4j-impl", "log4j-1.2-api")]
    return f"kafka-{release}", [(KAFKA, "kafka_2.13", release), (KAFKA, "kafka-tools", release), *logs]


def streams(release):
    return f"kafka-streams-{release}", [(KAFKA, "kafka-streams", release), (SLF4J, "slf4j-nop", versions.SLF4J)]


def everything():
    return [*map(client, versions.JAVA_CLIENTS), *map(kafka, versions.KAFKAS), streams(versions.STREAMS)]


def fetch(folder):
    """All that is ever wanted, by one Maven: NAME/lib has the jars of a delivery and all that they depend on. Starting Maven for each
    would take longer than what it then does."""
    for name, artifacts in everything():
        dependencies = "".join(DEPENDENCY.format(*a, WITHOUT.get(a[1], "")) for a in artifacts)
        os.mkdir(os.path.join(folder, name))
        with open(os.path.join(folder, name, "pom.xml"), "w", encoding="ascii") as f:
            f.write(POM.format(name, f"<dependencies>{dependencies}</dependencies>"))
    modules = "".join(f"<module>{name}</module>" for name, _ in everything())
    with open(os.path.join(folder, "pom.xml"), "w", encoding="ascii") as f:
        f.write(POM.format("all", f"<modules>{modules}</modules>"))
    registry.fetch(["mvn", "-B", "-q", "-f", os.path.join(folder, "pom.xml"), f"-Dmaven.repo.local={registry.CACHE}/maven",
                    "-Dmaven.wagon.http.retryHandler.count=1", "-Dmaven.wagon.rto=8000",
                    f"{PLUGIN}:{versions.MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies",
                    "-DincludeScope=runtime", "-DoutputDirectory=${project.basedir}/lib"])


@functools.cache
def unfit():
    """Why nothing in Java can run here, or None."""
    for program in ("java", "javac"):
        if not shutil.which(program):
            return f"{program} is not installed"
    told = subprocess.run(["java", "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    m = re.search(r'version "(\d+)', told.stderr)
    return None if m and int(m[1]) >= JAVA_LEAST else f"Java {JAVA_LEAST} or newer is needed; java -version says: {told.stderr.strip()[:100]}"


def delivered(what, sources=(), make=None):
    """The folder of a delivery (of everything()): it has lib. make(folder), if any, puts more into a folder of its own, from the files
    `sources`, and returns what went wrong."""
    reason = unfit()
    if reason:
        pytest.skip(reason)
    name, artifacts = what
    if name in broken:
        pytest.fail(broken[name])
    jars = os.path.join(registry.delivered("mvn", "java-jars", [everything(), WITHOUT, versions.MAVEN_DEPENDENCY_PLUGIN], fetch), name)
    if not make:
        return jars

    def add(folder):
        os.symlink(os.path.join("..", os.path.relpath(os.path.join(jars, "lib"), registry.CACHE)), os.path.join(folder, "lib"))
        problem = make(folder)
        if problem:
            broken[name] = f"{name}: {problem}"
            pytest.fail(broken[name])
    return registry.delivered("mvn", name, [artifacts, os.path.basename(os.path.dirname(jars))], add, sources)


def javac(folder, sources):
    """For make: what went wrong, or None."""
    p = subprocess.run(["javac", "-J-XX:TieredStopAtLevel=1", "-J-Xshare:auto", "-nowarn", "-Xlint:none", "-d", folder, "-cp", classpath(folder), *sources],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    return p.stderr if p.returncode else None


def classpath(folder):
    return ":".join([folder, *sorted(glob.glob(os.path.join(folder, "lib", "*.jar")))])
