"""Where the time of a command goes."""

import time

import psutil


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

    def __str__(self) -> str:
        return ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.seconds.items())
