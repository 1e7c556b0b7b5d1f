"""Where results are kept: DIR/cells/LOAD.BROKER.RUN.json for each, DIR/about.json for what they have in common. A folder that holds
`runs.jsonl` instead has the same in one file, a cell a line, as kept in the tree."""

import json
import os
import platform
import re
import statistics
import subprocess

KEPT = "runs.jsonl"


class Cells:
    def __init__(self, folder):
        self.folder = folder
        self.data = os.path.join(folder, "data")

    def path(self, load, broker, run):
        return os.path.join(self.folder, "cells", f"{load}.{broker}.{run}.json")

    def has(self, load, broker, run):
        return os.path.exists(self.path(load, broker, run))

    def write(self, load, broker, run, content):
        """Whole or not at all."""
        path = self.path(load, broker, run)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as f:
            json.dump({"load": load, "broker": broker, "run": run, **content}, f, indent=1)
        os.rename(path + ".new", path)

    def read(self):
        """All cells that are there."""
        kept = os.path.join(self.folder, KEPT)
        if os.path.exists(kept):
            with open(kept, encoding="utf-8") as f:
                return [json.loads(line) for line in f if line.strip()]
        found = []
        folder = os.path.join(self.folder, "cells")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if name.endswith(".json"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    found.append(json.load(f))
        return found

    def about(self, options, limits, beside=""):
        os.makedirs(os.path.join(self.folder, "cells"), exist_ok=True)
        version = subprocess.run([options.oxbow, "version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
        java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr.split("\n")[0] if any(
            b.startswith("kafka-") for b in options.brokers) else ""
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            model = re.search(r"model name\s*:\s*(.+)", f.read())
        with open("/proc/meminfo", encoding="utf-8") as f:
            memory = int(f.read().split()[1]) * 1024
        about = {"oxbow": version, "java": java, "beside": beside, "processors": os.cpu_count(), "model": model[1] if model else platform.machine(),
                 "memory_bytes": memory, "kernel": platform.release().split("-")[0], "limits": limits, "seconds": options.seconds,
                 "runs": options.runs, "brokers": options.brokers, "quick": options.quick}
        with open(os.path.join(self.folder, "about.json"), "w", encoding="utf-8") as f:
            json.dump(about, f, indent=1)

    def read_about(self):
        path = os.path.join(self.folder, "about.json")
        if not os.path.exists(path):
            return {}
        with open(path, encoding="utf-8") as f:
            return json.load(f)


def peak_records(cells, load, broker, record_size):
    """Records a second that went in and came out; None without a run."""
    found = []
    for c in cells:
        t = (c.get("result") or {}).get("totals")
        if c["load"] == load and c["broker"] == broker and t and t["measured_ns"]:
            found.append(min(t["bytes_acked"], t["bytes_consumed"]) / record_size / (t["measured_ns"] / 1e9))
    return statistics.median(found) if found else None
