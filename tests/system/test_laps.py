"""Where the time of a command goes."""

import time

from soe_bench.system.laps import Laps


def test_the_parts_of_a_command_add_up_to_its_time(monkeypatch):
    laps = Laps()
    begin = laps.last
    for part, end in (("plan", 3.0), ("corpus", 4.5), ("plan", 5.0)):
        monkeypatch.setattr(time, "time", lambda end=end: begin + end)
        laps.end(part)
    assert str(laps) == "plan 3.5 s, corpus 1.5 s"
