"""One broker process after its warm-up, and the loads that are put on it one after the other."""

import json
import os
import re
import subprocess
import time

import cells as cells_module
import disk
import peers
import workloads

IDLE_SECONDS = 2


class Session:
    def __init__(self, options, cells, limits, group, broker, run):
        self.options, self.cells, self.limits, self.group, self.broker, self.run = options, cells, limits, group, broker, run
        self.folder = os.path.join(cells.data, f"{group.name}-{broker}-{run}")
        self.peer = None

    # --- The broker.

    def make(self, settings=None, env=None, name=""):
        self.peer = peers.make(self.broker, os.path.join(self.folder, name or "broker"), self.limits, self.options.oxbow, settings, env)
        self.peer.prepare()
        if self.peer.more_memory:
            self.limits.change(self.limits.memory_bytes + self.peer.more_memory)
        return self.peer

    def close(self):
        if self.peer:
            self.peer.remove()
            if self.peer.more_memory:
                self.limits.change(self.limits.memory_bytes)
            self.peer = None
        subprocess.run(["rm", "-rf", self.folder], check=False)

    def note(self, load, content):
        content.setdefault("load_average", os.getloadavg()[0])
        self.cells.write(load, self.broker, self.run, content)
        print(f"    {load}: {summary(content)}", flush=True)

    # --- Loads.

    def bench(self, topic, arguments, seconds, warm_up=0, wait=60, drain=2):
        """`oxbow bench` on the broker: {"result": its JSON} or {"failed": why}; both with what the broker counted meanwhile."""
        command = [self.options.oxbow, "bench", "--bootstrap-server", self.peer.address, "-t", topic, *arguments.split(), "--warm-up", str(warm_up),
                   "--duration", str(seconds), "--drain", str(drain), "--broker-pid", str(self.peer.pid), "--json"]
        before = self.peer.counters()
        began = time.monotonic()
        try:
            p = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + warm_up + drain + wait,
                               preexec_fn=peers.harness.die_with_parent)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done within {seconds + warm_up + drain + wait} s", "arguments": arguments}
        found = {"arguments": arguments, "took_s": round(time.monotonic() - began, 2)}
        if p.returncode != 0 or not p.stdout:
            found["failed"] = peers.tidy(p.stderr.strip().split("\n")[-1]) or f"status {p.returncode}"
        else:
            found["result"] = json.loads(p.stdout)
            found["result"].get("broker", {}).pop("pid", None)
        if not self.peer.alive():
            found["failed"] = f"the broker ended: {self.peer.last_words()}"
            return found
        after = self.peer.counters()
        if after:
            found["counted"] = {k: after[k] - before.get(k, 0) for k in after if k.endswith("_total") or "_total." in k}
        return found

    def delete(self, topic):
        if not self.peer.deletes:
            return
        subprocess.run([self.options.oxbow, "topic", "delete", topic, "--if-exists", "--bootstrap-server", self.peer.address], capture_output=True,
                       check=False, timeout=120)
        time.sleep(0.7)  # files go in the background
        self.peer.settle()

    def start(self, settings=None):
        """A new broker, and what its start and its idleness come to."""
        self.make(settings)
        accepted, answered = self.peer.start()
        time.sleep(IDLE_SECONDS)
        resident, _ = self.peer.memory()
        self.cells.write("start", self.broker, f"{self.run}-{self.group.name}",
                         {"accepted_ms": accepted, "answered_ms": answered, "idle_resident_bytes": resident, "load_average": os.getloadavg()[0]})

    def warm(self):
        found = self.bench("warm", workloads.WARM.arguments, self.options.warm)
        self.delete("warm")
        if "failed" in found and not self.peer.alive():
            raise peers.Unmeasurable(found["failed"])

    def touch(self, topic, arguments, wait=60):
        """Makes the topics, and puts two records into each partition: the first one costs a broker files and folders, and Kafka an fsync, which
        is not what a load is about. Gives up after 20 seconds; the load goes on then."""
        topics = re.findall(r"--topics \d+", arguments)
        partitions = re.findall(r"-p (\d+)", arguments)[0]
        records = 2 * int(partitions) * int(topics[0].split()[1] if topics else 1)
        self.bench(topic, " ".join([*topics, "-p", partitions, "--batch-size 0 --records", str(records), *re.findall(r"--timeout-ms \d+", arguments)]), 20,
                   wait=wait)

    def loads(self, loads):
        rates = {x.name: self.rate(x) for x in loads}
        self.start()
        if any(disk.wanted(load, self.broker) for load in loads):
            disk.prepare(self.peer, self.options.quick)
        self.warm()
        for load in loads:
            if not self.peer.alive():
                self.note(load.name, {"failed": "the broker had ended in an earlier load"})
                continue
            rate = rates[load.name]
            if rate is None:
                self.note(load.name, {"failed": "no peak is known: it needs the group 'throughput'"})
                continue
            arguments = load.arguments + (f" --rate {rate}" if rate else "")
            seconds = self.options.seconds or load.seconds
            self.touch(load.name, load.arguments, load.wait)
            found = self.bench(load.name, arguments, seconds, 0 if self.options.quick else load.warm_up, load.wait)
            if self.peer.alive():
                found["resident_bytes"], found["peak_bytes"] = self.peer.memory()
                if self.peer.spoilt():
                    found = {"failed": self.peer.spoilt()}
                if self.peer.more_memory:
                    found["more_memory_bytes"] = self.peer.more_memory
                if "result" in found and disk.wanted(load, self.broker):
                    found["disk"] = disk.measure(self.peer, found, seconds, self.options.quick)
                self.delete(load.name)
            self.note(load.name, found)

    def rate(self, load):
        """Records a second; 0: full speed; None: not known. Once computed it stays, so that all runs have the same."""
        if load.rate == "full":
            return 0
        if load.rate.isdigit():
            return int(load.rate)
        kind, share = load.rate.split(":")
        peaks = self.peaks(kind == "common")
        of = kind if kind == "common" else workloads.like(self.broker)
        peak = peaks.get(of) or peaks.get(self.broker)
        return max(1, int(peak * float(share))) if peak else None

    def peaks(self, common):
        """{broker: records a second}; with `common` also the least of them, under that name."""
        path = os.path.join(self.cells.folder, "peaks.json")
        known = {}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                known = json.load(f)
        cells = self.cells.read()
        for broker in self.options.brokers:
            if broker not in known:
                peak = cells_module.peak_records(cells, workloads.PEAK, broker, workloads.RECORD)
                if peak:
                    known[broker] = peak
        if common and "common" not in known and set(known) - {*workloads.VARIANTS, *workloads.BESIDE}:
            known["common"] = min(peak for broker, peak in known.items() if broker not in {**workloads.VARIANTS, **workloads.BESIDE})
        with open(path, "w", encoding="utf-8") as f:
            json.dump(known, f, indent=1)
        return known


def summary(content):
    """For who watches."""
    if content.get("failed"):
        return f"failed: {content['failed']}"
    r = content.get("result")
    if not r:
        return ", ".join(f"{k} {v:.6g}" for k, v in content.items() if isinstance(v, (int, float)) and k != "load_average")
    t, p, e = r["totals"], r["latency"]["produce"], r["latency"]["end_to_end"]
    ns = max(1, t["measured_ns"])
    text = f"in {t['bytes_acked'] * 1e3 / ns:.1f} MB/s, out {t['bytes_consumed'] * 1e3 / ns:.1f} MB/s, produce p50 {p['p50_us']} p99 {p['p99_us']} us, "
    text += f"end to end p50 {e['p50_us']} p99 {e['p99_us']} us"
    if "broker" in r:
        text += f", broker {r['broker']['cpu_ns_per_gb'] / 1e9:.2f} CPU s/GB, {r['broker']['resident_bytes_peak'] / 1e6:.0f} MB"
    text += f", client {r['client']['busy_percent']} %"
    if "disk" in content:
        d = content["disk"]
        text += ", disk alone " + (f"not measured: {d['failed']}" if "failed" in d else f"p50 {d['p50_us']:.0f} p99 {d['p99_us']:.0f} us")
    if r["errors"]:
        text += f", errors {r['errors']}"
    return text
