#!/usr/bin/python3
"""Exhaustive search of a small state space, breadth first, so that a violation is shown by a shortest way to it.

A model is an initial state (hashable) and a function next_states(state) that yields (action, state) or raises Violation.
check() expects no violation; catches() expects one: a rule left out must be noticed, or the model is too small to show anything.
"""
import sys
import time
from collections import deque


class Violation(Exception):
    pass


def explore(initial, next_states, limit):
    """Returns (number of states, None or (text, actions)). More states than `limit` is an error of the model."""
    seen = {initial: None}
    queue = deque([initial])
    while queue:
        state = queue.popleft()
        try:
            for action, successor in next_states(state):
                if successor not in seen:
                    seen[successor] = (state, action)
                    queue.append(successor)
        except Violation as v:
            actions = []
            while seen[state] is not None:
                state, action = seen[state]
                actions.append(action)
            return len(seen), (str(v), actions[::-1])
        if len(seen) > limit:
            raise SystemExit("not ok: over %d states" % limit)
    return len(seen), None


class Report:
    def __init__(self, limit=3000000):
        self.failed = 0
        self.limit = limit
        self.verbose = "-v" in sys.argv

    def _line(self, good, name, states, began, found):
        print("%s %s - %d states" % ("ok" if good else "not ok", name, states), flush=True)
        if self.verbose:
            print("#   %.1f s" % (time.time() - began))
        if found and (not good or self.verbose):
            print("#   %s, after:" % found[0])
            for action in found[1]:
                print("#     " + action)
        self.failed += not good

    def check(self, name, initial, next_states):
        began = time.time()
        states, found = explore(initial, next_states, self.limit)
        self._line(found is None, name, states, began, found)

    def catches(self, name, initial, next_states):
        began = time.time()
        states, found = explore(initial, next_states, self.limit)
        self._line(found is not None, name, states, began, found)

    def end(self):
        sys.exit(1 if self.failed else 0)


def self_test():
    """Counting to 9 in steps of 1 and 2: ten states, and 7 is reached in four steps at best."""
    def steps(s):
        for n in (1, 2):
            if s + n < 10:
                yield "+%d" % n, s + n

    def until_7(s):
        if s == 7:
            raise Violation("seven")
        return steps(s)

    report = Report()
    report.check("explore: counts all states", 0, steps)
    report.failed += explore(0, steps, 100)[0] != 10
    report.catches("explore: finds a violation", 0, until_7)
    report.failed += len(explore(0, until_7, 100)[1][1]) != 4
    report.end()


if __name__ == "__main__":
    self_test()
