#!/usr/bin/python3
"""A ledger: one writer that pipelines, trimming, and fencers whose view may be arbitrarily old.

The writer sends entries within a window behind its acknowledged prefix. Each entry carries the newest checkpoint of that prefix (here every entry is one).
A request lands at any time; its answer is a step of its own and may never be looked at; a copy of a request (a repetition whose first try was lost on
the way) may land after all else is over. Numbers below a boundary that a prefix entry carries are deleted in any order.

A fencer begins at 0 or at the boundary of the highest entry, walks to the first hole or fence, puts a fence there, and believes it after a LIST.
Having lost a race it may put a fence ahead, a window beyond the hole, and walk on.

Property: a fencer that is done has seen the end: nothing is acknowledged from there on, ever, and all fencers that are done agree.
"""
from explore import Report, Violation

WINDOW = 2


def model(list_check=True, check_found=True, carried=True, prefix=True, look=True, fencers=2, ghosts=1, ahead=True, N=6):
    """Arguments are the rules; leaving one out must be caught.
    list_check: a fence that was made is checked.  check_found: one that was found, too.  carried: trimming waits until an entry that carries the boundary
    is in the prefix.  prefix: acknowledged as a prefix.  look: after an unclear answer or "exists" the writer looks whose entry it is."""
    def acked_of(known):
        if not prefix:
            return max(known) + 1 if known else 0
        a = 0
        while a in known:
            a += 1
        return a

    def next_states(state):
        cells, writer, trim, fence_states = state
        following, flying, known, dead, ghost = writer
        acked = acked_of(known)
        ends = {f[2] for f in fence_states if f[0] == "done"}
        for end in ends:
            if acked > end:
                raise Violation("acknowledged up to %d, fenced at %d" % (acked, end))
        if len(ends) > 1:
            raise Violation("two ends: %s" % sorted(ends))
        out = []

        def put(number, cell):
            return cells[:number] + (cell,) + cells[number + 1:]

        # --- The writer.
        if not dead and following < N and following - acked < WINDOW:
            boundary = max(acked - 1, 0)
            out.append(("writer sends %d, boundary %d" % (following, boundary),
                        (cells, (following + 1, flying | {(following, boundary)}, known, dead, ghost), trim, fence_states)))
        for entry in flying:
            number, boundary = entry
            cell = cells[number]
            rest = flying - {entry}
            if cell is None:
                landed = put(number, ("E", boundary))
                out.append(("entry %d lands" % number, (landed, writer, trim, fence_states)))
                if len(ghost) < ghosts:
                    out.append(("entry %d lands, a copy is still on its way" % number,
                                (landed, (following, flying, known, dead, ghost | {entry}), trim, fence_states)))
            elif cell[0] == "E" or not look:
                out.append(("writer finds %d its own" % number,
                            (cells, (following, rest, known | {number}, dead, ghost), trim, fence_states)))
            else:
                out.append(("writer finds %d taken: the end" % number, (cells, (following, rest, known, True, ghost), trim, fence_states)))
        for number, boundary in ghost:
            if cells[number] is None:
                out.append(("the copy of %d lands" % number,
                            (put(number, ("E", boundary)), (following, flying, known, dead, ghost - {(number, boundary)}), trim, fence_states)))
        # --- Trimming.
        highest = trim
        for number in range(acked):
            if cells[number] is not None and cells[number][0] == "E":
                highest = max(highest, cells[number][1] if carried else max(acked - 1, 0))
        if highest > trim:
            out.append(("boundary %d counts" % highest, (cells, writer, highest, fence_states)))
        for number in range(trim):
            if cells[number] is not None and cells[number][0] == "E":
                out.append(("%d deleted" % number, (put(number, None), writer, trim, fence_states)))
        # --- Fencers.
        for i, fencer in enumerate(fence_states):
            if i > 0 and fence_states[i - 1] == ("idle", 0, 0, False):
                continue  # they are alike: the first begins first

            def to(text, changed, new_cells=cells):
                out.append(("fencer %d %s" % (i, text), (new_cells, writer, trim, fence_states[:i] + (changed,) + fence_states[i + 1:])))
            step, position, boundary, lost = fencer
            cell = cells[position] if position < N else None
            if step == "idle":
                to("begins at 0", ("walk", 0, 0, False))
                top = [c for c in cells if c is not None]
                if top and top[-1][-1] > 0:
                    to("begins at %d" % top[-1][-1], ("walk", top[-1][-1], top[-1][-1], False))
            elif step == "walk" and position < N:
                if cell is None:
                    to("finds a hole at %d" % position, ("put", position, boundary, lost))
                elif cell[0] == "E":
                    to("reads %d" % position, ("walk", position + 1, max(boundary, cell[1]), lost))
                elif list_check and check_found:
                    to("finds a fence at %d" % position, ("list", position, boundary, lost))
                else:
                    to("finds a fence at %d" % position, ("done", 0, position, False))
            elif step == "put":
                if cell is None:
                    done = ("list", position, boundary, lost) if list_check else ("done", 0, position, False)
                    to("fences %d" % position, done, put(position, ("F", boundary)))
                else:
                    to("loses the race for %d" % position, ("walk", position, boundary, ahead))
                if lost and position + WINDOW < N and cells[position + WINDOW] is None:
                    to("fences ahead at %d" % (position + WINDOW), ("put", position, boundary, False), put(position + WINDOW, ("F", boundary)))
            elif step == "list":
                above = [c[1] for c in cells[position + 1:] if c is not None and c[1] > position]
                if above:
                    to("lists: begins anew at %d" % max(above), ("walk", max(above), max(above), False))
                else:
                    to("lists: %d is the end" % position, ("done", 0, position, False))
        return out

    initial = ((None,) * N, (0, frozenset(), frozenset(), False, frozenset()), 0, (("idle", 0, 0, False),) * fencers)
    return initial, next_states


if __name__ == "__main__":
    report = Report()
    report.check("ledger: two fencers that fence ahead", *model(ghosts=0, N=5))
    report.check("ledger: one fencer, a fence ahead, a late copy", *model(fencers=1))
    report.catches("ledger: without the LIST", *model(list_check=False, fencers=1, ghosts=0))
    report.catches("ledger: without the LIST for a fence that was found", *model(check_found=False, ghosts=0, ahead=False))
    report.catches("ledger: trimming before the boundary is carried", *model(carried=False, fencers=1, ghosts=0))
    report.catches("ledger: acknowledged out of order", *model(prefix=False, fencers=1, ghosts=0))
    report.catches("ledger: 'exists' taken for one's own", *model(look=False, fencers=1, ghosts=0))
    report.end()
