"""Was a promise broken? A pure function over a record (record.py): check(events) gives a list of sentences, none when all is well.

Every promise has a made-up history in test_checker.py that breaks it and nothing else."""

import collections

MOST = 40  # sentences of one kind of trouble; one mistake can show in every record


class Log:
    """What is known of one log."""

    def __init__(self):
        self.values = {}         # offset -> (producer, number), by whoever saw it first
        self.sent = set()
        self.acked = []          # (producer, number, offset), in order
        self.at = collections.defaultdict(set)  # (producer, number) -> offsets
        self.trim_asked = 0      # nothing at and above it may be missing
        self.trim_done = 0       # nothing below it is shown any more
        self.end = 0             # shown or acknowledged so far: the end never lies before it
        self.final = None        # (reader, low, high)
        self.reads = []          # all, for the final one among them


class Checker:
    def __init__(self):
        self.logs = {}
        self.promises = {}
        self.groups = {}         # reader -> group
        self.overtaken = set()   # names of logs whose broker may be one that was overtaken, and does not know
        self.positions = {}      # (reader, log) -> next offset
        self.covered = collections.defaultdict(set)  # (group, log) -> offsets read by its members
        self.asked = {}          # token -> what was known then
        self.commits = {}        # token -> (group, log, offset)
        self.committed = collections.defaultdict(lambda: -1)  # (group, log) -> highest acknowledged
        self.unresolved = collections.defaultdict(dict)       # (group, log) -> token -> offset
        self.problems = collections.defaultdict(list)
        self.more = collections.Counter()

    def say(self, promise, text):
        if len(self.problems[promise]) < MOST:
            self.problems[promise].append(f"{promise}: {text}")
        else:
            self.more[promise] += 1

    # --- One event after the other.

    def on_log(self, log):
        self.logs[log] = Log()

    def on_producer(self, producer, promise):
        self.promises[producer] = promise

    def on_send(self, log, producer, number):
        self.logs[log].sent.add((producer, number))

    def on_ack(self, log, producer, number, offset):
        found = self.logs[log]
        found.acked.append((producer, number, offset))
        if offset is not None:
            self.seen(log, offset, (producer, number), "acknowledged")
            found.end = max(found.end, offset + 1)

    def on_unsure(self, log, producer, number):
        pass

    def on_refused(self, log, producer, number, why):
        self.say("refused", f"{show(log)}: {(producer, number)} was told {why}")

    def seen(self, log, offset, who, how):
        found = self.logs[log]
        if who not in found.sent:
            self.say("invented", f"{show(log)} offset {offset}: {how}, and nobody had sent {who}")
        first = found.values.setdefault(offset, who)
        if first != who:
            self.say("one offset, one value", f"{show(log)} offset {offset}: {who} {how}, and before it was {first}")
        found.at[who].add(offset)

    def on_reader(self, reader, group):
        self.groups[reader] = group

    def on_reads(self, reader, log, records):
        found = self.logs[log]
        group = self.groups[reader]
        for offset, producer, number in records:
            self.seen(log, offset, (producer, number), f"read by {reader}")
            due = self.positions.get((reader, log))
            # What was trimmed may be missing, and nothing else.
            if due is not None and offset != due and not due < offset <= found.trim_asked:
                self.say("no gaps", f"{show(log)}: {reader} read offset {offset} where {due} was next")
            self.positions[reader, log] = offset + 1
            if group is not None:
                self.covered[group, log].add(offset)
            found.end = max(found.end, offset + 1)
        found.reads.append((reader, records))

    def on_overtaken(self, name):
        self.overtaken.add(name)

    def on_bad(self, reader, log, offset, what):
        self.say("invented", f"{show(log)} offset {offset}: {reader} read {what}")

    def on_trim(self, log, offset):
        self.logs[log].trim_asked = max(self.logs[log].trim_asked, offset)

    def on_trimmed(self, log, low):
        self.logs[log].trim_done = max(self.logs[log].trim_done, low)

    def on_asking(self, token, log):
        self.asked[token] = (self.logs[log].end, self.logs[log].trim_done)

    def on_ends(self, token, log, low, high):
        end, trimmed = self.asked.pop(token)
        if high < end:
            self.say("lost", f"{show(log)}: its end was told to be {high}, and offset {end - 1} had been shown or acknowledged before")
        self.check_low(log, low, trimmed)

    def check_low(self, log, low, trimmed):
        if low < trimmed:
            self.say("deleted records", f"{show(log)}: its beginning was told to be {low}, and {trimmed} had been answered to DeleteRecords")
        if low > self.logs[log].trim_asked:
            self.say("lost", f"{show(log)}: its beginning was told to be {low}, and only what is below {self.logs[log].trim_asked} was to go")

    def on_committing(self, token, group, log, offset):
        self.commits[token] = (group, log, offset)
        self.unresolved[group, log][token] = offset

    def on_committed(self, token):
        group, log, offset = self.commits[token]
        self.unresolved[group, log].pop(token, None)
        self.committed[group, log] = max(self.committed[group, log], offset)

    def on_looking(self, token, group, log):
        self.asked[token] = (group, log, self.committed[group, log])

    def on_found(self, token, offset):
        group, log, least = self.asked.pop(token)
        told = -1 if offset is None else offset
        # A commit that nobody answered may be carried out late.
        if told < least and told not in self.unresolved[group, log].values():
            self.say("committed offsets", f"group {group} on {show(log)}: {offset} was found, and {least} had been committed")

    def on_final(self, log, reader, low, high):
        self.logs[log].final = (reader, low, high)

    def on_gone(self, log):
        if self.logs[log].final is None:
            self.say("checked", f"{show(log)} was deleted before it had been read whole")

    def on_problem(self, text):
        self.say("trouble", text)

    def on_note(self, *_):
        pass

    # --- All of it.

    def finish_log(self, log, found):
        if found.final is None:
            self.say("checked", f"{show(log)} was never read whole")
            return
        reader, low, high = found.final
        self.check_low(log, low, found.trim_done)
        if high < found.end:
            self.say("lost", f"{show(log)}: it ends at {high}, and offset {found.end - 1} had been shown or acknowledged")
        there = {}
        for who, records in found.reads:
            if who == reader:
                there.update((offset, (producer, number)) for offset, producer, number in records)
        missing = [o for o in range(low, high) if o not in there]
        if missing:
            self.say("no gaps", f"{show(log)}: of offsets {low} to {high - 1}, {len(missing)} were not read, the first {missing[0]}")
        present = set(there.values())
        for producer, number, offset in found.acked:
            who = (producer, number)
            if offset is None:
                if who not in present and not any(o < low for o in found.at[who]):
                    self.say("lost", f"{show(log)}: {who} was acknowledged and is not there")
            elif offset >= low and there.get(offset) != who:
                moved = [o for o, v in there.items() if v == who]
                self.say("moved" if moved else "lost", f"{show(log)}: {who} was acknowledged at {offset}, there lies {there.get(offset)}"
                         + (f", and it lies at {moved}" if moved else ""))
        answered = {(p, n) for p, n, _ in found.acked}
        self.check_order(log, found, answered)

    def check_order(self, log, found, answered):
        last = {}
        for offset in sorted(found.values):
            producer, number = found.values[offset]
            promise = self.promises.get(producer, "plain")
            # With a request under way at each of two brokers, "one at a time" is no order; only sequence numbers are.
            if promise == "ordered" and log[0].partition("/")[0] in self.overtaken:
                promise = "plain"
            who = (producer, number)
            if promise == "idempotent" and len(found.at[who]) > 1 and offset == min(found.at[who]):
                self.say("doubled", f"{show(log)}: {who} of an idempotent producer lies at {sorted(found.at[who])}")
            if promise == "plain" or offset != min(found.at[who]) or promise == "ordered" and who not in answered:
                continue
            if producer in last and last[producer] > number:
                self.say("order", f"{show(log)} offset {offset}: {who} lies behind {last[producer]} of the same producer")
            last[producer] = max(number, last.get(producer, number))

    def finish_groups(self):
        """A group that has committed an offset has read everything before it."""
        for (group, log), offset in self.committed.items():
            if offset < 0:
                continue
            covered = self.covered[group, log]
            missed = [o for o in range(self.logs[log].trim_asked, offset) if o not in covered]
            if missed:
                self.say("group", f"group {group} committed {offset} on {show(log)}, and none of its members read {len(missed)} before it, the first {missed[0]}")

    def run(self, events):
        for event in events:
            getattr(self, f"on_{event[0]}")(*event[1:])
        for log, found in self.logs.items():
            self.finish_log(log, found)
        self.finish_groups()
        return [text for promise, texts in self.problems.items()
                for text in texts + ([f"{promise}: and {self.more[promise]} more"] if self.more[promise] else [])]


def show(log):
    name, life, partition = log
    return f"{name}[{partition}]" + (f" (life {life})" if life else "")


def check(events):
    return Checker().run(events)
