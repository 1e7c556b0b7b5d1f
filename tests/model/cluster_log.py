#!/usr/bin/python3
"""The cluster log: nodes that read it, are elected, append one entry at a time, write snapshots, delete what these cover, crash and come back.

The true log is what was put first at each number. An entry put into a number that had been deleted is an island. A node's image is tainted once it has
applied an island. A request may stay on its way when its node crashes, and land at any time.

Properties: nothing is acknowledged on an island; nobody leads on an island, or with a tainted image.
"""
from explore import Report, Violation

ZERO = ("zero", -1, -1)  # what number 0 names as its predecessor


def model(chain=True, list_check=True, nodes=2, N=5, ghosts=1, crashes=2):
    """chain: entries name their predecessor, and a reader that meets another begins anew.  list_check: an election counts after a LIST.
    An entry is (kind, node, number, boundary, island, predecessor); its identity (kind, node, number)."""

    def identity(entry):
        return entry[:3]

    def next_states(state):
        cells, true, trim, members, ghost, crashed = state
        out = []

        def put(number, entry):
            return cells[:number] + (entry,) + cells[number + 1:]

        def land(entry):
            """Cells and true log after an entry lands in a free number."""
            number = entry[2]
            truth = true + (identity(entry),) if number == len(true) else true
            island = truth[number] != identity(entry)
            return put(number, entry[:4] + (island,) + entry[5:]), truth

        # --- Deletion of what a snapshot covers, in any order; elections stay.
        for number in range(trim):
            if cells[number] is not None and cells[number][0] == "record":
                out.append(("%d deleted" % number, (put(number, None), true, trim, members, ghost, crashed)))
        # --- Requests whose node is gone.
        for entry in ghost:
            if cells[entry[2]] is None:
                landed, truth = land(entry)
                out.append(("late: %s of node %d lands at %d" % entry[:3], (landed, truth, trim, members, ghost - {entry}, crashed)))
        for i, (role, position, boundary, last, taint) in enumerate(members):
            def to(text, member, new_cells=cells, truth=true, new_trim=trim, new_ghost=ghost, new_crashed=crashed):
                out.append(("node %d %s" % (i, text),
                            (new_cells, truth, new_trim, members[:i] + (member,) + members[i + 1:], new_ghost, new_crashed)))

            def snapshot(number, before):
                """The image at a snapshot: the entry before it is the true one."""
                return ("reads", number, max(before, number), true[number - 1], False)

            def entry_of(kind, new_boundary):
                return (kind, i, position, new_boundary, False, last)

            if position >= N:
                continue
            cell = cells[position]
            sending = None
            if role == "reads":
                if cell is None:
                    to("finds a hole at %d and stands for election" % position, ("stands", position, boundary, last, taint))
                elif not chain or cell[5] == last:
                    to("applies %d" % position, ("reads", position + 1, max(boundary, cell[3]), identity(cell), taint or cell[4]))
                if trim > position:
                    to("begins anew at the snapshot %d" % trim, snapshot(trim, boundary))
            elif role == "stands":
                sending = entry_of("election", boundary)
                if cell is None:
                    landed, truth = land(sending)
                    to("puts its election at %d" % position, ("lists" if list_check else "leads?", position, boundary, last, taint), landed, truth)
                elif identity(cell) == identity(sending):
                    to("finds its election at %d" % position, ("lists" if list_check else "leads?", position, boundary, last, taint))
                else:
                    to("loses %d" % position, ("reads", position, boundary, last, taint))
            elif role == "lists":
                above = [c[3] for c in cells[position + 1:] if c is not None and c[3] > position]
                if above:
                    to("lists: begins anew", snapshot(max(above), boundary))
                else:
                    to("lists: nothing above", ("leads?", position, boundary, last, taint))
            elif role == "leads?":
                mine = ("election", i, position)
                if true[position] != mine:
                    raise Violation("node %d leads on an island at %d" % (i, position))
                if taint:
                    raise Violation("node %d leads with a tainted image" % i)
                to("leads from %d" % position, ("leads", position + 1, boundary, mine, taint))
            elif role == "leads":
                to("sends a record for %d" % position, ("sends", position, boundary, last, taint))
                to("sends a record for %d with a snapshot of all before it" % position, ("sends", position, position, last, taint))
            elif role == "sends":
                sending = entry_of("record", boundary)
                if cell is None:
                    landed, truth = land(sending)
                    to("puts a record at %d, the answer is lost" % position, members[i], landed, truth)
                elif identity(cell) == identity(sending):
                    if true[position] != identity(sending):
                        raise Violation("node %d acknowledges an island at %d" % (i, position))
                    to("finds its record at %d, acknowledges" % position,
                       ("leads", position + 1, boundary, identity(cell), taint), new_trim=max(trim, boundary))
                else:
                    to("loses %d, and its office" % position, ("reads", position, boundary, last, taint))
            if crashed < crashes and role in ("stands", "sends", "leads"):
                fresh = snapshot(trim, 0) if trim > 0 else ("reads", 0, 0, ZERO, False)
                to("crashes", fresh, new_crashed=crashed + 1)
                if sending is not None and len(ghost) < ghosts and cell is None:
                    to("crashes, its request is on its way", fresh, new_ghost=ghost | {sending}, new_crashed=crashed + 1)
        return out

    initial = ((None,) * N, (), 0, (("reads", 0, 0, ZERO, False),) * nodes, frozenset(), 0)
    return initial, next_states


if __name__ == "__main__":
    report = Report()
    report.check("cluster log: two nodes, crashes, late requests", *model(crashes=1))
    report.check("cluster log: three nodes", *model(nodes=3, N=5, ghosts=0, crashes=0))
    report.catches("cluster log: without the predecessor's nonce", *model(chain=False, nodes=3, N=5, ghosts=0, crashes=0))
    report.catches("cluster log: without the LIST", *model(list_check=False))
    report.end()
