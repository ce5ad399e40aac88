"""Where the time of a command goes."""

import json
import time

from soe_bench.system import laps
from soe_bench.system.laps import Laps


def test_the_parts_of_a_command_add_up_to_its_time(monkeypatch, tmp_path, capsys):
    own = Laps()
    begin = own.last
    for part, end in (("plan", 3.0), ("corpus", 4.5), ("plan", 5.0)):
        monkeypatch.setattr(time, "time", lambda end=end: begin + end)
        own.end(part)
    own.say()
    assert capsys.readouterr().out == "time: plan 3.5 s, corpus 1.5 s\n"
    monkeypatch.setenv(laps.FILE, str(tmp_path / "times.json"))
    own.say({"training": 1.25})
    assert capsys.readouterr().out.endswith("\nof the runs that are trained, added up: training 1.2 s\n")
    written = json.loads((tmp_path / "times.json").read_bytes())
    assert written == {"command": own.seconds, "jobs": {"training": 1.25}} and written["command"]["plan"] == 3.5
