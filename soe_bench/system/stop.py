"""Stop requests: Ctrl-C and SIGTERM, in the command and in the processes that run its jobs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from soe_bench.system import distributed

STOP = threading.Event()  # a stop was requested: runs write a checkpoint and end, and no other run begins
JOBLIB = "loky.backend.popen"
WORKERS = (JOBLIB, "submitit.core._submit")  # in the command line of a process that runs jobs


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM: the run stopped, and the same command resumes it."""


def stop_requested() -> bool:
    """Whether a stop was requested of any process of this training. All processes then stop at the same step."""
    stop = distributed.anywhere(STOP.is_set())
    if stop:
        STOP.set()
    return stop


@contextmanager
def stop_requests(at_once: bool = False, waits: bool = False) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM set STOP, so that a training step is never cut in half; a second Ctrl-C stops at once.

    With `at_once`, for work that a stop cannot spoil, they also raise Interrupted. They do not under torchrun, where
    the other processes would wait for this one; nor, with `waits`, while processes run this command's jobs, which then
    write their checkpoints.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, _: object) -> None:
        again = number == signal.SIGINT and STOP.is_set()
        STOP.set()
        jobs_run = hand_on(number)
        if again or at_once and distributed.size() == 1 and not (waits and jobs_run):
            raise Interrupted("stopped; the same command goes on")

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def outlive_stops() -> None:
    """In a process that runs jobs, SIGTERM sets STOP from now on, also between two jobs and after the last one: if one
    such process dies, joblib kills the others, and they lose their steps. In the command's own process, which has a
    handler already, this changes nothing."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: STOP.set())


def hand_on(number: int) -> bool:
    """Sends SIGTERM to the processes that run this command's jobs; returns whether there are any. A terminal's Ctrl-C
    reaches joblib's by itself."""
    found = False
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended meanwhile
            command = " ".join(child.cmdline())
            names = [name for name in WORKERS if name in command]
            found |= bool(names)
            if any(number == signal.SIGTERM or name != JOBLIB for name in names):
                child.terminate()
    return found
