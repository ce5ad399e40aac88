"""Stop requests of a command whose jobs run in other processes."""

import os
import signal
import subprocess
import sys

import pytest

from soe_bench.system import stop
from soe_bench.system.stop import Interrupted, outlive_stops, stop_requests


@pytest.fixture
def worker(monkeypatch):
    """A process that runs jobs, as joblib's. No other counts as one."""
    monkeypatch.setattr(stop, "JOBLIB", "worker of a test")
    monkeypatch.setattr(stop, "WORKERS", ("worker of a test",))
    stop.STOP.clear()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "worker of a test"]) as process:
        yield process
        process.kill()
    stop.STOP.clear()


def ask(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def test_the_command_waits_for_the_processes_that_run_its_jobs_and_hands_the_request_on(worker):
    with stop_requests(at_once=True, waits=True):
        ask()
    assert stop.STOP.is_set() and worker.wait(10) == -signal.SIGTERM


def test_a_second_ctrl_c_does_not_wait(worker):
    with stop_requests(at_once=True, waits=True):
        ask(signal.SIGINT)
        with pytest.raises(Interrupted):
            ask(signal.SIGINT)
    assert worker.poll() is None  # a terminal's Ctrl-C reaches it by itself


def test_before_they_are_there_the_command_ends_at_once(worker):
    worker.kill()
    worker.wait(10)
    with pytest.raises(Interrupted), stop_requests(at_once=True, waits=True):
        ask()


def test_a_process_that_runs_jobs_outlives_a_second_request_and_one_between_two_jobs():
    code = """
import os, signal
from soe_bench.system.stop import STOP, Interrupted, outlive_stops, stop_requests
outlive_stops()
for _ in range(2):
    try:
        with stop_requests(at_once=True):
            os.kill(os.getpid(), signal.SIGTERM)
    except Interrupted:
        os.kill(os.getpid(), signal.SIGTERM)
STOP.clear()
os.kill(os.getpid(), signal.SIGTERM)
print(STOP.is_set())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_the_command_keeps_its_own_handler(worker):
    with stop_requests():
        own = signal.getsignal(signal.SIGTERM)
        outlive_stops()
        assert signal.getsignal(signal.SIGTERM) is own
