"""What both brokers are asked: functions of one side, run in this order on each. To cover an API, write a function here or in one
of the modules named below, with good and bad input, over `c.versions(API)`; the test fails when a version that both serve is never
asked for."""

import time

import cases_admin
import cases_data
import cases_groups

WENT_ON = "the case went on"
ALL = [*cases_data.CASES, *cases_admin.CASES, *cases_groups.CASES]


def run(side, only=""):
    for function in ALL:
        if only not in function.__name__:
            continue
        side.case = function.__name__
        began = time.monotonic()
        try:
            function(side)
        except (KeyError, IndexError, TypeError, AssertionError) as e:  # an answer of another shape: a difference, told by the steps before
            side.say(WENT_ON, f"no: {e!r}")
        else:
            side.say(WENT_ON, "yes")
        side.close()
        side.took[side.case] = round(time.monotonic() - began, 1)
