"""Where the time of a command goes."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from soe_bench.system.files import write_text

FILE = "SOE_BENCH_TIMES"  # environment variable: a file that a command also writes its times to, as JSON


class Laps:
    """The parts of a command and their seconds. The first begins with the process, each other where the last ended."""

    def __init__(self) -> None:
        self.last = psutil.Process().create_time()
        self.seconds: dict[str, float] = {}

    def end(self, part: str) -> None:
        """Ends a part; parts of one name are added up."""
        now = time.time()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.last
        self.last = now

    def say(self, jobs: Mapping[str, float] | None = None) -> None:
        """Prints the parts, and those of the trained `jobs` added up, in seconds: a stopped one is not among them.
        Writes both to the file that FILE names."""
        print(f"time: {_words(self.seconds)}")
        if jobs:
            print(f"of the runs that are trained, added up: {_words(jobs)}")
        if path := os.environ.get(FILE):
            write_text(Path(path), json.dumps({"command": self.seconds, "jobs": jobs or {}}))


def _words(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{part} {value:.1f} s" for part, value in seconds.items())
