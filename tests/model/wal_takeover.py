#!/usr/bin/python3
"""Taking a write-ahead log over by a mark, when the device cannot be revoked.

The holder writes groups into a ring, several at once; they become durable in any order, whenever the device likes, also long after the holder was paused or the
survivor has read. The holder acknowledges groups as a prefix, and only those that were durable before it read "no mark". The survivor writes its mark, waits until it is durable, then
reads the ring up to the first gap. Holder and survivors may be paused at any step for any time.

Property: what a survivor has read holds every group that the holder acknowledges, before or after.
"""
from explore import Report, Violation

GROUPS = 4
WINDOW = 3


def model(read_mark=True, mark_after_durable=True, mark_first=True, mark_durable=True, prefix=True, reuse=False, survivors=2):
    """Arguments are the rules; leaving one out must be caught.
    read_mark: the holder reads the mark at all.  mark_after_durable: it counts for groups that were durable when the read began.  mark_first: the survivor marks
    before it reads.  mark_durable: it waits for the mark to be durable.  prefix: acknowledged without gaps.
    reuse: a survivor that is done clears mark and ring for a new holder (never done; must be caught)."""

    def first_gap(durable):
        n = 0
        while n in durable:
            n += 1
        return n

    def next_states(state):
        durable, holder, mark, reading = state
        sent, flying, reported, checked, looking, acked = holder
        for step, position in reading:
            if step == "done" and any(g >= position for g in acked):
                raise Violation("group %d acknowledged, the survivor read %d" % (max(acked), position))
        out = []

        def hold(text, **changed):
            new = dict(sent=sent, flying=flying, reported=reported, checked=checked, looking=looking, acked=acked)
            new.update(changed)
            out.append((text, (durable, tuple(new.values()), mark, reading)))

        # --- The device: a write becomes durable, and is reported later.
        for g in flying:
            if g not in durable:
                out.append(("group %d is durable" % g, (durable | {g}, holder, mark, reading)))
            else:
                hold("holder hears that %d is durable" % g, flying=flying - {g}, reported=reported | {g})
        # --- The holder.
        if sent < GROUPS and sent - len(acked) < WINDOW:
            hold("holder sends group %d" % sent, sent=sent + 1, flying=flying | {sent})
        # What a look at the mark would vouch for.
        candidates = reported if mark_after_durable else reported | flying
        if looking is None and read_mark and candidates - checked:
            hold("holder begins to read the mark", looking=candidates)
        if looking is not None:
            if mark == "durable":
                hold("holder finds the mark", looking=frozenset())  # and never acknowledges again
            else:
                hold("holder finds no mark", looking=None, checked=checked | looking)
        vouched = checked & reported if read_mark else reported
        for g in vouched - acked:
            if not prefix or all(k in acked for k in range(g)):
                hold("holder acknowledges %d" % g, acked=acked | {g})
        # --- The mark, written by any survivor, lands whenever it likes.
        if mark == "flying":
            out.append(("the mark is durable", (durable, holder, "durable", reading)))
        # --- Survivors.
        for i, (step, position) in enumerate(reading):
            def to(text, new_step, new_position, new_mark=mark, new_durable=durable):
                changed = reading[:i] + ((new_step, new_position),) + reading[i + 1:]
                out.append(("survivor %d %s" % (i, text), (new_durable, holder, new_mark, changed)))
            if step == "begin":
                if mark_first:
                    to("writes the mark", "marked", 0, "flying" if mark == "none" else mark)
                else:
                    to("reads before it marks", "reads", 0)
            elif step == "marked" and (mark == "durable" or not mark_durable):
                to("begins to read", "reads", 0)
            elif step == "reads":
                if position in durable:
                    to("reads %d" % position, "reads", position + 1)
                elif mark_first:
                    to("finds the gap at %d" % position, "done", position)
                else:
                    to("finds the gap at %d" % position, "marks", position)
            elif step == "marks":
                to("marks after reading", "done", position, "durable")
            elif step == "done" and reuse and mark == "durable":
                to("clears the ring for a new holder", "done", position, "none", frozenset())
        return out

    nothing = frozenset()
    initial = (nothing, (0, nothing, nothing, nothing, None, nothing), "none", (("begin", 0),) * survivors)
    return initial, next_states


if __name__ == "__main__":
    report = Report()
    report.check("wal takeover: one survivor", *model(survivors=1))
    report.check("wal takeover: two survivors", *model())
    report.catches("wal takeover: the holder does not read the mark", *model(read_mark=False))
    report.catches("wal takeover: the mark is read before the group is durable", *model(mark_after_durable=False))
    report.catches("wal takeover: the survivor reads before it marks", *model(mark_first=False))
    report.catches("wal takeover: the survivor does not wait for its mark", *model(mark_durable=False))
    report.catches("wal takeover: acknowledged with gaps", *model(prefix=False))
    report.catches("wal takeover: a marked ring is used again", *model(reuse=True))
    report.end()
