"""The training loop: exact resume, stop requests, divergence, damaged checkpoints, a full disk."""

import errno
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from arguments import base_arguments
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from soe_bench import checkpoint, train
from soe_bench.config import job_configs, make
from soe_bench.data.builder import open_corpus
from soe_bench.errors import UserError
from soe_bench.mixture import Mixture
from soe_bench.records import read_lines, read_training
from soe_bench.runs.build import build_method
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run, parent_of
from soe_bench.soup import SoupOfExperts
from soe_bench.system.stop import STOP, Interrupted
from soe_bench.train import Curve, Progress, send, total_steps

STEPS = 25
TOKENS = f"train.tokens={STEPS * 16 * 64}"


class Killed(Exception):
    """Stands for kill -9: nothing of the program runs after it."""


def break_at(monkeypatch, step, action):
    """Makes the update of one step call `action` first."""
    update = SoupOfExperts.update

    def broken(self, tokens, weights, number, rate):
        if number == step:
            action()
        return update(self, tokens, weights, number, rate)

    monkeypatch.setattr(SoupOfExperts, "update", broken)


def test_a_batch_and_its_weights_are_sent_in_one_transfer():
    sent = []

    class Sent(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **kwargs or {})
            if args and isinstance(args[0], torch.Tensor) and args[0].device != result[0].device:
                sent.append(function)
            return result

    batch, weights = np.arange(24).reshape(2, 3, 4), np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    with Sent():
        tokens, h = send(batch, weights, "meta")
    assert len(sent) == 1 and tokens.is_meta and h.is_meta
    tokens, h = send(batch, weights, "cpu")
    assert tokens.dtype == torch.int64 and tokens.tolist() == batch.tolist()
    assert h.dtype == torch.float64 and h.tolist() == weights.tolist()


def final(cfg):
    """The trained values and the validation losses of a finished run."""
    folder = Run.of(cfg).folder
    rows = [line for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line.split('"lr"')[0] for line in rows]  # without the speed
    return load_file(folder / "model.safetensors"), losses


def assert_same(a, b):
    assert a[1] == b[1]
    assert a[0].keys() == b[0].keys()
    for name, value in a[0].items():
        assert torch.equal(value, b[0][name]), name


@pytest.fixture(scope="module")
def reference(tmp_path_factory, shared_home):
    """An uninterrupted run."""

    folder = tmp_path_factory.mktemp("reference")
    cfg = job_configs([*base_arguments(folder, shared_home), TOKENS, "method.n_experts=4", "method.parent=null"])[0][0]
    execute(cfg)
    return final(cfg)


@pytest.mark.parametrize(
    "step", [pytest.param(5, marks=pytest.mark.slow), 11, pytest.param(25, marks=pytest.mark.slow)]
)
def test_a_killed_run_resumes_bit_for_bit(compose, monkeypatch, reference, step):
    """Killed before the first checkpoint, right after one, and at the last step."""
    cfg = compose(TOKENS, "method.n_experts=4", "method.parent=null")

    def kill():
        raise Killed

    with monkeypatch.context() as patch:
        break_at(patch, step, kill)
        with pytest.raises(Killed):
            execute(cfg)
    assert Run.of(cfg).status() == "failed: Killed"
    execute(cfg)
    assert_same(final(cfg), reference)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_writes_a_checkpoint_and_the_run_goes_on_from_it(compose, monkeypatch, reference, number):
    cfg = compose(TOKENS, "method.n_experts=4", "method.parent=null")
    with monkeypatch.context() as patch:
        break_at(patch, 14, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted, match="stopped at step 14 of 25"):
            execute(cfg)
    assert Run.of(cfg).status().startswith("stopped at step 14")
    STOP.clear()
    execute(cfg)
    assert_same(final(cfg), reference)


def test_the_speed_after_a_resume_counts_the_steps_since_then(compose, monkeypatch):
    """On a clock on which each step takes a second; a row is due every five steps, and the run stops between two."""
    cfg, update, now = compose(TOKENS, "method.n_experts=4", "method.parent=null"), SoupOfExperts.update, [0.0]

    def ticking(*given):
        now[0] += 1
        return update(*given)

    monkeypatch.setattr(SoupOfExperts, "update", ticking)
    monkeypatch.setattr(train, "ROWS", 5)
    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    with monkeypatch.context() as patch:
        break_at(patch, 14, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Interrupted, match="stopped at step 14"):
            execute(cfg)
    STOP.clear()
    execute(cfg)
    rows = [json.loads(line) for line in (Run.of(cfg).folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["step"] % 5 == 0] == [5, 10, 15, 20, 25]
    assert {row["tokens_per_second"] for row in rows} == {16 * 64}


def test_a_curve_is_cut_to_its_checkpoint_and_knows_its_length_before_the_next_row(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"a row\nmore than the checkpoint knows\n")
    curve = Curve(path, "run", Progress(step=1, curve_bytes=6), 2, None)
    assert curve.size() == 6 and path.read_bytes() == b"a row\n"


def test_divergence_names_the_step_and_keeps_the_last_checkpoint(compose, monkeypatch, reference):
    cfg = compose(TOKENS, "method.n_experts=4", "method.parent=null")
    folder = Run.of(cfg).folder
    update = SoupOfExperts.update

    def poisoned(self, tokens, weights, number, rate):
        if number == 17:
            self.shared.value[0, 0] = torch.nan
        return update(self, tokens, weights, number, rate)

    with monkeypatch.context() as patch:
        patch.setattr(SoupOfExperts, "update", poisoned)
        with pytest.raises(UserError, match=r"diverged at step 17 of 25.*; lower method.lr$"):
            execute(cfg)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-000000010.safetensors"]
    execute(cfg)
    assert_same(final(cfg), reference)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(compose, monkeypatch, reference):
    cfg = compose(TOKENS, "method.n_experts=4", "method.parent=null")
    folder = Run.of(cfg).folder
    with monkeypatch.context() as patch:
        break_at(patch, 23, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            execute(cfg)
    STOP.clear()
    last = folder / "checkpoint-000000023.safetensors"
    damaged = bytearray(last.read_bytes())
    damaged[-5] ^= 1  # one flipped bit in the numbers: only the checksum can tell
    last.write_bytes(damaged)
    execute(cfg)
    assert_same(final(cfg), reference)


def test_a_damaged_checkpoint_is_none_of_the_two_that_are_kept(tmp_path):
    for step in (10, 20):
        checkpoint.save_step(tmp_path, step, {"a": torch.ones(3)}, {"step": step})
    (tmp_path / "checkpoint-000000020.safetensors").write_bytes(b"damaged")
    assert checkpoint.load_last(tmp_path)[1] == {"step": 10}
    checkpoint.save_step(tmp_path, 15, {"a": torch.ones(3)}, {"step": 15})
    assert [checkpoint.load(path)[1]["step"] for path in sorted(tmp_path.iterdir())] == [10, 15]


def test_when_every_checkpoint_is_damaged_it_says_what_to_do(compose, monkeypatch):
    cfg = compose(TOKENS, "method.n_experts=4", "method.parent=null")
    with monkeypatch.context() as patch:
        break_at(patch, 12, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            execute(cfg)
    STOP.clear()
    for path in Run.of(cfg).folder.glob("checkpoint-*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="every checkpoint in .* is damaged: delete them"):
        execute(cfg)


def test_a_full_disk_loses_nothing(compose, monkeypatch, reference):
    cfg = compose(TOKENS, "method.n_experts=4", "method.parent=null")
    folder = Run.of(cfg).folder
    replace = os.replace

    def full(source, target):
        if "checkpoint-000000020" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match="No space left on device; free some disk space"):
            execute(cfg)
    assert [path.name for path in folder.glob("*checkpoint*")] == ["checkpoint-000000010.safetensors"]
    execute(cfg)
    assert_same(final(cfg), reference)


def test_checkpoint_round_trip_keeps_the_last_two(tmp_path):
    for step in (1, 2, 3):
        tensors = {"a": torch.full((3,), float(step)), "b": torch.zeros(0, 4)}
        checkpoint.save_step(tmp_path, step, tensors, {"step": step})
    assert len(list(tmp_path.iterdir())) == 2
    tensors, state = checkpoint.load_last(tmp_path)
    assert state == {"step": 3} and tensors["a"].tolist() == [3, 3, 3] and tensors["b"].shape == (0, 4)


@pytest.mark.parametrize(
    ("tokens", "fraction"), [(8_000_000, 0.25), (1_000_000, 0.3), (40_960, 0.5), (1024, 0.999), (8192, 0.05)]
)
def test_a_run_and_its_parent_take_as_many_steps_as_one_run_of_both_budgets(compose, tokens, fraction):
    whole = compose("method.parent=null", f"train.tokens={tokens}")
    run = compose(f"method.parent.fraction={fraction}", f"train.tokens={tokens}")
    splits = sum(total_steps(cfg, make(cfg.method)) for cfg in (run, parent_of(run)))
    one = total_steps(whole, make(whole.method))
    assert splits == one or one == 1  # the least is a step for each


def test_a_method_knows_from_its_first_step_on_how_many_it_takes(compose, monkeypatch):
    seen, update = [], SoupOfExperts.update

    def noted(self, tokens, weights, step, rate):
        seen.append((step, self.steps))
        return update(self, tokens, weights, step, rate)

    monkeypatch.setattr(SoupOfExperts, "update", noted)
    execute(compose("method.n_experts=2", "train.tokens=8192", "method.parent={method:generic,fraction:0.5}"))
    assert seen == [(step, 4) for step in (1, 2, 3, 4)]


def test_what_a_parent_took_is_part_of_a_record(compose):
    parent = "method.parent={method:generic,fraction:0.5}"
    run = Run.of(compose("method.n_experts=2", "train.tokens=8192", parent, "evaluate.splits=[validation]"))
    execute(run.cfg)
    before, own = read_training(run.parent.folder), read_lines(run.records)[0]
    method = build_method(run, open_corpus(run.cfg.data, Path(run.cfg.home), 0))
    assert before["flops"] > 0 and own["flops"] == before["flops"] + 4 * method.cost()["flops_per_step"]
    assert before["training_tokens"] == 4096 and own["training_tokens"] == 8192
    assert own["seconds"] > before["seconds"] > 0


def test_a_resumed_curve_that_was_cut_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"0123456789")
    with pytest.raises(UserError, match="metrics.jsonl is damaged .*: delete the checkpoints there"):
        Curve(tmp_path / "metrics.jsonl", "run", Progress(step=3, curve_bytes=11), 5, tracker=None)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"0123456789"
    Curve(tmp_path / "metrics.jsonl", "run", Progress(step=3, curve_bytes=4), 5, tracker=None)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"0123"


@pytest.mark.slow
def test_bfloat16_trains_to_nearly_the_same_loss(compose):
    losses = []
    for precision in ("float32", "bfloat16"):
        cfg = compose(TOKENS, "method.n_experts=4", "method.parent=null", f"train.precision={precision}")
        execute(cfg)
        records = read_lines(Run.of(cfg).records)
        losses.append(np.mean([record["loss"] for record in records if record["h_source"] == "estimate"]))
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], abs=0.05)


def test_every_method_trains_on_the_same_sequences_of_a_domain(compose, monkeypatch):
    """Paired by seed: the t-th sequence of each domain is the same for generic and for a soup."""
    seen = {}
    take = Mixture._next

    def recorded(self, model, domain):
        sequence = take(self, model, domain)
        seen.setdefault(current, {}).setdefault(domain, []).append(np.array(sequence))
        return sequence

    monkeypatch.setattr(Mixture, "_next", recorded)
    for current in ("generic", "soup"):
        execute(compose(f"method={current}"))
    for domain in range(4):
        for a, b in zip(seen["generic"][domain], seen["soup"][domain], strict=False):
            assert np.array_equal(a, b)
