#!/usr/bin/python3
"""Deleting the fences of dead incarnations.

An incarnation appends to its ledger, several entries at once, and dies or is only slow. Its successor finds the first hole, fences it, commits elsewhere that the ledger ends there and
what it held, and only then deletes the ledger, entries and fence in any order. It may die on the way, and the next one goes on.

In an exclusive store a successor begins when the operating system has given it the lock: the earlier process is gone, and no request of its is under way. Elsewhere
the earlier one may be slow, and what it sent may land at any time: there a fence must stay for ever.

Property: everything the incarnation acknowledges, at any time, is in what was committed.
"""
from explore import Report, Violation

N = 4
WINDOW = 2


def model(lock=True, delete_fences=True, commit_first=True, recoverers=2):
    """lock: successors wait for the death of the one before.  commit_first: nothing is deleted before the end of the ledger is committed."""

    def next_states(state):
        cells, writer, committed, members = state
        alive, sent, flying, known = writer
        acked = 0
        while acked in known:
            acked += 1
        if committed is not None and acked > committed:
            raise Violation("acknowledged up to %d, committed %d" % (acked, committed))
        out = []

        def put(number, cell):
            return cells[:number] + (cell,) + cells[number + 1:]

        # --- The writer. Death takes what it sent with it where the store is a folder of the same machine.
        if alive:
            if sent < N and sent - acked < WINDOW:
                out.append(("writer sends %d" % sent, (cells, (alive, sent + 1, flying | {sent}, known), committed, members)))
            for n in flying:
                if cells[n] == "entry":
                    out.append(("writer finds %d its own" % n, (cells, (alive, sent, flying - {n}, known | {n}), committed, members)))
                elif cells[n] == "fence":
                    out.append(("writer is fenced at %d" % n, (cells, (False, sent, flying - {n}, known), committed, members)))
            out.append(("writer dies", (cells, (False, sent, frozenset() if lock else flying, known), committed, members)))
        for n in flying:
            if cells[n] is None:
                out.append(("entry %d lands" % n, (put(n, "entry"), writer, committed, members)))
        # --- Its successors, one after the other.
        for i, (step, position) in enumerate(members):
            def to(text, new_step, new_position, new_cells=cells, new_committed=committed):
                changed = members[:i] + ((new_step, new_position),) + members[i + 1:]
                out.append(("successor %d %s" % (i, text), (new_cells, writer, new_committed, changed)))
            if step == "begin":
                if (alive and lock) or (i > 0 and members[i - 1][0] != "dead"):
                    continue
                if committed is not None:
                    to("finds the ledger's end committed", "deletes", 0)
                else:
                    to("begins", "walks", 0)
            elif step == "walks":
                if cells[position] == "entry" and position + 1 < N:
                    to("reads %d" % position, "walks", position + 1)
                elif cells[position] == "fence":
                    to("finds a fence at %d" % position, "ends", position)
                elif cells[position] is None:
                    to("fences %d" % position, "ends", position, put(position, "fence"))
            elif step == "ends":
                if commit_first:
                    to("commits that it ends at %d" % position, "deletes", position, new_committed=position)
                else:
                    to("deletes before it commits", "deletes", position)
            elif step == "deletes":
                for n, cell in enumerate(cells):
                    if cell == "entry" or (cell == "fence" and delete_fences):
                        to("deletes %d" % n, "deletes", position, put(n, None))
                if not commit_first and committed is None:
                    to("commits that it ends at %d" % position, "deletes", position, new_committed=position)
            if step not in ("begin", "dead"):
                to("dies", "dead", 0)
        return out

    initial = ((None,) * N, (True, 0, frozenset(), frozenset()), None, (("begin", 0),) * recoverers)
    return initial, next_states


if __name__ == "__main__":
    report = Report()
    report.check("fence deletion: with the lock", *model())
    report.check("fence deletion: without the lock, fences stay", *model(lock=False, delete_fences=False))
    report.catches("fence deletion: without the lock", *model(lock=False))
    report.catches("fence deletion: before the end is committed", *model(commit_first=False))
    report.end()
