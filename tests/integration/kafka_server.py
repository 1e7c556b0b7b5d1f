"""A real Kafka, as a process of a test: one node that is broker and controller, its data in the test's folder."""

import os
import signal
import subprocess
import sys

import harness

sys.path.insert(0, os.path.join(harness.ROOT, "tests", "clients"))
import maven  # noqa: E402
import versions  # noqa: E402,F401

SECONDS = 120  # to start, on a machine that is busy with other tests


class Kafka:
    """Like harness.Broker, as far as tests need it. Node 1, as an Oxbow broker is by default."""

    def __init__(self, folder, release, settings=None, java=None, child=harness.die_with_parent):
        """java: the command and flags of the broker's Java machine, instead of the tests' own small one. child: runs in the broker's
        process before it is one."""
        self.folder, self.release, self.java, self.child = str(folder), release, java or [*maven.JAVA, "-Xmx512m"], child
        os.makedirs(self.folder, exist_ok=True)
        self.classpath = maven.classpath(maven.delivered(maven.kafka(release)))
        self.port, self.controller = harness.free_port(), harness.free_port()
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.settings = {
            "process.roles": "broker,controller", "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": f"{self.folder}/data",
            "offsets.topic.replication.factor": "1", "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1", "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1", "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.enable": "false",
        }
        self.settings.update(settings or {})

    def command(self, main, *arguments):
        return [*maven.JAVA, "-Xmx512m", "-cp", self.classpath, main, *arguments]

    @property
    def properties(self):
        return os.path.join(self.folder, "server.properties")

    def format(self):
        with open(self.properties, "w", encoding="ascii") as f:
            f.writelines(f"{k}={v}\n" for k, v in self.settings.items())
        harness.run(self.command("kafka.tools.StorageTool", "format", "-t", "b3hib3ctYmVzaWRlLWthZg", "-c", self.properties), SECONDS)

    def launch(self):
        """Of a folder that was formatted; whether it is ready is for others to see."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.java, "-cp", self.classpath, "kafka.Kafka", self.properties], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.folder, preexec_fn=self.child)

    def start(self):
        self.format()
        self.launch()
        harness.eventually(self.ready, SECONDS, 0.1, "Kafka's port")
        return self

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"Kafka ended with {self.process.returncode}:\n{self.log()[-3000:]}")
        with harness.socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None
