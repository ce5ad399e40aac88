"""The README's commands are planned, its make targets and files exist, and a short command line runs end to end."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soe_bench.config import quoted
from soe_bench.runs import sweep

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python -m soe_bench(?: [^#`\n|]*)?(?=[#`\n|])", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_accepted(command, tmp_path, monkeypatch):
    (tmp_path / "my texts").mkdir()
    (tmp_path / "my texts" / "a.txt").write_text("Some text of a user's own.")
    monkeypatch.chdir(tmp_path)
    if "method=x" in command:
        pytest.skip("the reader's own method")
    arguments = [quoted(argument) for argument in shlex.split(command)[3:]]
    assert sweep.Plan.of([*arguments, f"home={tmp_path}", f"results_dir={tmp_path / 'results'}"]).runs


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", README))
    assert named and named <= targets


def test_every_file_exists():
    paths = re.findall(r"^    ((?:soe_bench|baselines|conf|results)/\S*)", README, re.MULTILINE)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.slow
def test_two_jobs_side_by_side_through_the_real_command_line(arguments, tmp_path):
    """Hydra, its joblib launcher, W&B offline, records, tables and figures, as a user runs them."""
    command = [
        sys.executable,
        "-m",
        "soe_bench",
        *arguments,
        "+sweep=experts",
        "seed=0",
        "method.n_experts=4,0",
        "method.parent=null",
        "train.tokens=8192",
        "wandb.mode=offline",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  done\n") == 3 and "3 jobs: 0 done before, 3 to run, 2 at once" in done.stderr
    results = tmp_path / "results"
    assert (results / "figures" / "experts.png").stat().st_size > 10_000
    assert (results / "tables" / "main.md").read_text().count("soup n=4")
    mirrored = list((tmp_path / "home").rglob("*.wandb"))
    assert len(mirrored) == 4  # three runs, one for the figures
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and "3 jobs: 3 done before, 0 to run" in again.stderr


def test_an_unknown_key_is_one_line(arguments):
    command = [sys.executable, "-m", "soe_bench", *arguments, "train.stepz=3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: there is no setting train.stepz: python -m soe_bench --cfg job lists what there is"
    ]


def test_sigterm_stops_both_jobs_at_a_checkpoint(arguments, tmp_path):
    command = [
        sys.executable,
        "-m",
        "soe_bench",
        *arguments,
        "+sweep=experts",
        "seed=0",
        "method.n_experts=4,0",
        "method.parent=null",
        "train.tokens=40_000_000",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "home").glob("runs/*/metrics.jsonl"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.count("stopped: stopped at step") == 2 and out.count("not run") == 1
    assert len(list((tmp_path / "home").glob("runs/*/checkpoint-*.safetensors"))) >= 2
