"""Reads what callgrind wrote: one dump, as instructions by function, without those that stand for the kernel's and the clients'.

The counted program runs a broker in the simulator (work_log.c), so a step of the broker's loop holds some of the simulator's
instructions: carrying bytes over its network, keeping its disks, filling fresh memory with a pattern. Taken off are
  - functions of src/sim and tests/perf themselves;
  - libc's allocator, where memory comes from the simulator;
  - what those call in libraries and in src/base (copies, hashes).
What they call elsewhere is the broker's: a socket's events, a fiber that is woken. The broker's own calls into libraries count,
but its memory comes from the simulator: an allocation counts as the call alone, and is counted apart."""

import re

LINE = re.compile(r"(\w+)=(?:\((\d+)\))?\s*(.*)$")
OURS_NOT = re.compile(r"(?:^|/)(?:src/sim|tests/perf)/")
HELPERS = re.compile(r"(?:^|/)src/base/")
MAIN_OBJECT = "/guard_work"
ALLOCATOR = "sim_mem_alloc"
LEVELS = 10  # helpers call each other no deeper


class Function:
    def __init__(self, name, file, thing):
        self.name, self.file, self.object = name, file, thing
        self.self_cost = 0
        self.calls = {}  # of another Function -> [calls, instructions in and below it]
        self.simulated = False

    @property
    def helper(self):
        return not self.object.endswith(MAIN_OBJECT) or HELPERS.search(self.file) is not None


class Dump:
    """name: what count_end said; functions: a list; total: all that was counted, the simulator's instructions among it."""

    def __init__(self, path):
        self.name, self.total = None, 0
        self.names = {"ob": {}, "fl": {}, "fn": {}}
        self.by_id = {}
        with open(path, encoding="utf-8", errors="replace") as f:
            self.read(f)
        self.functions = list(self.by_id.values())
        in_simulator = any(f.name == ALLOCATOR for f in self.functions)
        for f in self.functions:
            ours = f.object.endswith(MAIN_OBJECT)
            f.simulated = OURS_NOT.search(f.file) is not None if ours else in_simulator and f.file.endswith("/malloc.c")

    def named(self, kind, number, text):
        table = self.names[kind]
        if number is None:
            return text, text
        if text:
            table[number] = text
        return number, table.get(number, "???")

    def function(self, number, name, file, thing):
        f = self.by_id.get(number)
        if f is None:
            f = self.by_id[number] = Function(name, file, thing)
        return f

    def read(self, lines):
        thing = file = called_thing = called_file = ""
        current = called = None
        call_count = None  # set: the next line of costs is a call's
        for line in lines:
            line = line.rstrip("\n")
            if not line:
                continue
            if m := re.match(r"desc: Trigger: Client Request: (.+)", line):
                self.name = m[1]
            elif m := re.match(r"(?:summary|totals): (\d+)", line):
                self.total = int(m[1])
            elif m := re.match(r"calls=(\d+)", line):
                call_count = int(m[1])
            elif (m := LINE.match(line)) and m[1] in ("ob", "fl", "fi", "fe", "fn", "cob", "cfi", "cfl", "cfn"):
                kind = {"ob": "ob", "cob": "ob", "fn": "fn", "cfn": "fn"}.get(m[1], "fl")
                number, text = self.named(kind, m[2], m[3])
                if m[1] == "ob":
                    thing = text
                elif m[1] == "fl":
                    file = text
                elif m[1] == "fn":
                    current = self.function(number, text, file, thing)
                    current.file, current.object = file, thing
                    called_thing, called_file = thing, file
                elif m[1] == "cob":
                    called_thing = text
                elif m[1] in ("cfi", "cfl"):
                    called_file = text
                elif m[1] == "cfn":
                    called = self.function(number, text, called_file, called_thing)
            elif m := re.match(r"[+*-]?\d*\s+(\d+)$", line):
                if call_count is not None:
                    edge = current.calls.setdefault(called, [0, 0])
                    edge[0] += call_count
                    edge[1] += int(m[1])
                    call_count = None
                    called_thing, called_file = thing, file
                else:
                    current.self_cost += int(m[1])

    def allocations(self):
        return sum(n for f in self.functions if not f.simulated for g, (n, _) in f.calls.items() if g.name == ALLOCATOR)

    def by_function(self):
        """Instructions by function, the simulator's taken off. Libraries' functions are less by what the simulator called."""
        cost = {f: f.self_cost for f in self.functions if not f.simulated}
        level = {}
        for f in self.functions:
            if f.simulated:
                for g, (_, below) in f.calls.items():
                    if g.helper:
                        level[g] = level.get(g, 0) + below
        # Down the calls: of a helper's instructions, and those below it, each function gets off its share.
        for _ in range(LEVELS):
            deeper = {}
            for f, amount in level.items():
                calls = [(g, n) for g, (_, n) in f.calls.items() if g is not f and not g.simulated]
                whole = f.self_cost + sum(n for g, (_, n) in f.calls.items() if g is not f)
                if whole == 0:
                    continue
                if f in cost:
                    cost[f] -= amount * f.self_cost / whole
                for g, n in calls:
                    deeper[g] = deeper.get(g, 0) + amount * n / whole
            level = deeper
        return cost

    def instructions(self):
        """All of the broker's."""
        return round(sum(self.by_function().values()))
