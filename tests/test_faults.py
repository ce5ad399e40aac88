"""Kills, full disks, stop requests outside of training, and two launches of one sweep at the same time."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from full_disk import full
from safetensors.torch import load_file

from soe_bench import checkpoint, finetune
from soe_bench.command import finish
from soe_bench.config import job_configs
from soe_bench.data import builder
from soe_bench.data.builder import open_corpus
from soe_bench.errors import UserError
from soe_bench.runs import evaluation
from soe_bench.runs import execute as executing
from soe_bench.runs.build import save_parameters
from soe_bench.runs.collect import collect
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run
from soe_bench.runs.sweep import Plan
from soe_bench.system.laps import Laps
from soe_bench.system.stop import STOP, Interrupted

ROOT = Path(__file__).parents[1]
MEASURED = (
    "seconds",
    "parent_seconds",
    "tokens_per_second",
    "specialist_seconds",
    "loss_seconds",
    "peak_memory_bytes",
    "seconds each",
    "peak memory GB",
)


def lines(path):
    """The rows of a .jsonl file without what a clock or the system measured."""
    rows = map(json.loads, path.read_text().splitlines())
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


def assert_same(one, other):
    """Two homes hold the same corpora and runs: the same files, bits, losses and records."""
    names = [sorted(str(path.relative_to(home)) for path in home.rglob("*")) for home in (one, other)]
    names = [[name for name in each if not name.startswith("hydra")] for each in names]
    assert names[0] == names[1]  # nothing temporary is left, either
    for name in names[0]:
        if name.endswith(".jsonl"):
            assert lines(one / name) == lines(other / name), name
        elif name.endswith("model.safetensors"):
            a, b = load_file(one / name), load_file(other / name)
            assert all(torch.equal(a[key], b[key]) for key in a.keys() | b.keys()), name
        elif name.endswith(".csv"):
            a, b = (pd.read_csv(home / name).drop(columns=list(MEASURED), errors="ignore") for home in (one, other))
            pd.testing.assert_frame_equal(a, b, check_exact=True, obj=name)
        elif name.endswith((".npy", ".parquet")):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
def test_a_run_killed_20_times_ends_in_the_same_bits(tmp_path):
    """In building the corpus, training, writing checkpoints, and evaluating and writing records."""
    homes = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "tests/helpers/killed.py", "1", *map(str, homes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert_same(*homes)


SHORT = ["method=generic", "train.tokens=4096"]
TUNED = [*SHORT, "evaluate.budgets=[300]", "evaluate.fine_tuning.lrs=[1e-3]"]


def at_call(monkeypatch, module, name, number, action):
    """Makes the `number`-th call of a function call `action` first. Returns the list of its calls."""
    function, calls = getattr(module, name), []

    def called(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            action()
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, called)
    return calls


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def varying(cfg):
    return [row | {"seconds": 0} for row in lines(Run.of(cfg).records)]


def test_a_stop_in_fine_tuning_is_at_once_and_the_evaluation_goes_on_by_cell(compose, tmp_path, monkeypatch):
    cfg, other = compose(*TUNED), compose(*TUNED, f"home={tmp_path / 'home' / '..' / 'other'}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data").symlink_to(tmp_path / "home" / "data")
    execute(other)
    with monkeypatch.context() as patch:
        steps = at_call(patch, finetune, "gradient", 2, terminate)
        with pytest.raises(Interrupted, match="the same command goes on"):
            execute(cfg)
        assert len(steps) == 2  # not the end of the cell
    run = Run.of(cfg)
    assert run.status() == "stopped; the same command goes on" and not run.records.exists()
    partial = run.records.with_suffix(".partial")
    known = len(partial.read_text().splitlines())
    assert known == 2
    odd = '{"specialist": ["a"], "split": "test"}\n[1]\n'  # lines that are no evaluation end what is known
    partial.write_text(partial.read_text() + odd + '{"schema": 1, "lo')  # what a kill may leave
    STOP.clear()
    evaluated = at_call(monkeypatch, evaluation.Maker, "specialist", 0, None)
    execute(cfg)
    records = varying(cfg)
    assert len(evaluated) == len(records) - known and records == varying(other)
    assert not partial.exists()


def test_an_evaluation_of_other_parameters_is_not_gone_on_with(compose, monkeypatch):
    cfg = compose(*SHORT)
    with monkeypatch.context() as patch:
        at_call(patch, evaluation.Maker, "specialist", 3, terminate)
        with pytest.raises(Interrupted):
            execute(cfg)
    STOP.clear()
    (Run.of(cfg).folder / "training.json").unlink()
    evaluated = at_call(monkeypatch, evaluation.Maker, "specialist", 0, None)
    execute(cfg)
    assert len(evaluated) == len(varying(cfg))


def test_a_second_training_that_is_cut_does_not_pass_for_the_first(compose, monkeypatch):
    """Cut between the new parameters and the file that says the run is trained."""
    run = Run.of(compose(*SHORT))
    execute(run.cfg)
    (run.folder / "model.safetensors").unlink()
    at_call(monkeypatch, evaluation, "alpha_table", 1, lambda: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        execute(run.cfg)
    assert (run.folder / "model.safetensors").exists() and not run.trained and not run.records.exists()


def test_a_stop_while_the_corpus_is_built_leaves_nothing(compose, tmp_path, monkeypatch):
    cfg = compose(*SHORT, f"home={tmp_path / 'new'}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # no worker processes for so little
    at_call(monkeypatch, builder.domains, "cluster", 1, terminate)
    with pytest.raises(Interrupted):
        execute(cfg)
    assert [path.name for path in (tmp_path / "new" / "data").iterdir() if path.is_dir()] == []


def test_a_killed_run_is_not_called_running(compose):
    run = Run.of(compose(*SHORT))
    run.folder.mkdir(parents=True)
    (run.folder / "status").write_text("running")
    with executing.FileLock(run.folder / ".lock"):
        assert run.status() == "running"
    assert run.status() == "killed; the same command goes on"


def test_a_disk_that_fills_up_in_a_checkpoint_keeps_the_old_one(tmp_path):
    checkpoint.save_step(tmp_path, 1, {"a": torch.ones(50_000)}, {"step": 1})
    with full(100_000), pytest.raises(UserError, match="cannot write .*checkpoint-000000002.* free some disk space"):
        checkpoint.save_step(tmp_path, 2, {"a": torch.ones(50_000)}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000001.safetensors"]
    assert checkpoint.load_last(tmp_path)[1] == {"step": 1}


def test_a_disk_that_fills_up_in_the_records_loses_one_cell_and_no_committed_line(compose, tmp_path, monkeypatch):
    cfg = compose(*SHORT)
    corpus = open_corpus(cfg.data, Path(cfg.home), 0)  # built before the disk is full
    with monkeypatch.context() as patch, full(5_000):
        patch.setattr(executing, "train", unlimited(executing.train))
        patch.setattr(executing, "save_parameters", unlimited(save_parameters))
        with pytest.raises(UserError, match=r"cannot write .*records-.*\.partial: .* free some disk space"):
            execute(cfg)
    run = Run.of(cfg)
    assert run.status().startswith("failed: cannot write")
    evaluated = at_call(monkeypatch, evaluation.Maker, "specialist", 0, None)
    execute(cfg)
    records = varying(cfg)
    assert 0 < len(evaluated) < len(records) == 8
    collect([run.records], [corpus], tmp_path / "results")
    before = (tmp_path / "results" / "evaluations.csv").read_bytes()
    with full(1_000), pytest.raises(UserError, match=r"cannot write .*evaluations\.csv: .* free some disk space"):
        collect([run.records], [corpus], tmp_path / "results")
    assert (tmp_path / "results" / "evaluations.csv").read_bytes() == before
    assert not list((tmp_path / "results").glob(".*.tmp"))


def unlimited(function):
    """The function with room on the disk."""

    def called(*arguments):
        with full(resource.getrlimit(resource.RLIMIT_FSIZE)[1]):
            return function(*arguments)

    return called


@pytest.mark.slow
def test_two_launches_at_the_same_time_train_every_run_once(arguments, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    sweep = [
        "-m",
        *arguments[:3],
        "method=dense_on_pi",
        "method.lr=1e-3,2e-3",
        "train.tokens=4096",
        "method.parent={method:generic,fraction:0.5}",
        "evaluate.splits=[test]",
    ]
    command = [sys.executable, "-m", "soe_bench", *sweep, f"home={two}", f"results_dir={two / 'results'}"]
    launches = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [launch.communicate(timeout=500) for launch in launches]
    assert 0 in [launch.returncode for launch in launches], said  # the last to end has seen every run done
    assert {launch.returncode for launch in launches} <= {0, 1}, said

    plan = Plan.of(*job_configs([*sweep, f"home={one}", f"results_dir={one / 'results'}"]))
    for run in plan.runs:
        execute(run.cfg)
    finish(plan, Laps())
    for run in [*plan.parents, *plan.runs]:
        ends = [line for text in said for line in "".join(text).splitlines() if f"{run.name}  step " in line]
        assert len(ends) == 1, (run.name, said)  # the one progress line of so short a training is its last
    assert_same(one, two)
