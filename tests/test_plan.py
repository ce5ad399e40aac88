"""The plan of a run: hand-computed memory and hours, nothing allocated, bad input in one line."""

import json
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from soe_bench import plan
from soe_bench.config import job_configs, make
from soe_bench.data.builder import open_corpus
from soe_bench.ops.flat import Flat
from soe_bench.runs import forecast, sweep
from soe_bench.system.laps import Laps
from soe_bench.system.machine import Rates


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(forecast, "machine_rates", lambda _: Rates(bandwidth=1e9, matmul=1e10))
    monkeypatch.setattr(forecast.psutil, "virtual_memory", lambda: SimpleNamespace(total=24e9, available=24e9))


def test_the_largest_n_fits_and_one_more_does_not(compose):
    """(4 + 3 n + R) P words of 4 bytes. bfloat16 moments save 2 bytes in each of two moments of S and of E."""
    size, draws = Flat(make(compose().model.base)).size, compose().train.draws_per_step
    memory = 4 * size * (4 + 3 * 37 + draws)
    assert forecast.largest_n(compose(), memory) == "37"
    assert forecast.largest_n(compose(), memory - 1) == "36"
    assert forecast.largest_n(compose(), 4 * size) == "none"
    memory -= 4 * size * (37 + 1)
    assert forecast.largest_n(compose("train.moments=bfloat16"), memory) == "37"
    assert forecast.largest_n(compose("train.moments=bfloat16"), memory - 1) == "36"


def test_a_corpus_takes_what_its_last_build_took(compose, tmp_path):
    cfg = compose(f"home={tmp_path}")
    for when, (name, seconds) in enumerate([("f", 999), ("0", 10)]):
        audit = tmp_path / "data" / f"{cfg.data.name}-{name}" / "audit.json"
        audit.parent.mkdir(parents=True)
        audit.write_text(json.dumps({"seconds": {"files": seconds}}))
        os.utime(audit, (when, when))
    assert forecast.corpus_time(cfg) == f"about 0:00:10 (as an earlier build of {cfg.data.name})"


def test_hours_by_hand():
    cost = {"flops_per_step": 3 * 10**10, "stored_parameters": 10**8}
    assert forecast.step_seconds(cost, Rates(bandwidth=1e9, matmul=1e10)) == pytest.approx(3 + 3.2)


def test_activations_are_what_a_real_forward_keeps(compose):
    cfg = compose()
    torch.manual_seed(0)
    base, kept = make(cfg.model.base), {}
    own = {parameter.data_ptr() for parameter in base.parameters()}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = base(torch.zeros(cfg.train.batch_size, cfg.train.seq_len, dtype=torch.long))
    expected = sum(x.nbytes() for key, x in kept.items() if key not in own) + logits.nbytes
    count = cfg.train.batch_size
    assert forecast.activation_bytes(cfg, count) == forecast.activation_bytes(cfg, count + 1) == expected
    assert forecast.activation_bytes(cfg, count // 2) == pytest.approx(expected / 2, rel=0.01)


def test_dropout_that_is_off_keeps_no_activations(compose):
    kept = []
    for name in ("Plain", "Dropped"):
        cfg = compose()
        cfg.model.base = {"_target_": f"made_up_bases.{name}", "vocab_size": cfg.data.vocab_size}
        kept.append(forecast.activation_bytes(cfg, 2))
    assert kept[0] == kept[1]


def test_the_size_of_the_paper_is_planned_in_lines(capsys):
    assert plan.main(["scale=paper", "wandb.mode=disabled"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("soup, n = 16 experts, scale=paper: P = 86.53M")
    assert [line.split()[0] for line in lines[2:]] == ["memory", "FLOPs", "CPU", "GPU", "24", "139"]
    assert "20.77 GB" in lines[2] and "(n = 19 without" in lines[6] and "(n = 129 without" in lines[7]


def test_a_method_that_trains_nothing_says_so(capsys):
    assert plan.main(["method=bigram_adjustment", "wandb.mode=disabled"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line == "nothing is trained; the generic run that it starts from is not counted"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scale=papr"], "there is no scale 'papr': choose one of paper"),
        (["method.n_experts=-1"], "method.n_experts is -1: it must be a whole number from 1"),
        (["train.moments=float8"], "train.moments is 'float8'"),
        (["train.compile=false"], "train.compile is False: it must be true or null"),
        (["train.stepz=1"], "there is no setting train.stepz"),
        (["+sweep=experts", "train.stepz=1"], "there is no setting train.stepz"),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys):
    assert plan.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err


@pytest.mark.parametrize(
    ("seeds", "runs", "at_once"), [("0,1", 8, 2), pytest.param("0", 4, 2, id="one run and its references")]
)
def test_a_sweep_is_planned_and_not_begun(arguments, seeds, runs, at_once, tmp_path, caplog):
    home = tmp_path / "nothing yet"
    given = ["+sweep=experts", "method.n_experts=4", f"seed={seeds}", "hydra.launcher.n_jobs=2", *arguments]
    with caplog.at_level("INFO", "soe_bench"):
        assert plan.main([*given, f"home={home}"]) == 0
    lines = caplog.messages
    start = f"{runs} runs, with those that they start from: 0 done before, {runs} to run, {at_once} at once"
    assert lines[0] == start
    assert len(lines[2:-1]) == runs and all("steps of" in line for line in lines[2:-1])
    assert re.match(r"time: corpus not known, training about 0:00:\d\d", lines[-1])
    assert not home.exists()


def test_the_plan_of_a_sweep_says_what_trains_nothing(arguments, tmp_path, caplog):
    given = ["+sweep=compute", "method=logit_adjustment", "seed=0,1", "train.tokens=8192", *arguments]
    with caplog.at_level("INFO", "soe_bench"):
        assert plan.main([*given, f"home={tmp_path}"]) == 0
    told = [line.split(None, 1)[1] for line in caplog.messages[2:-1]]
    assert all(re.fullmatch(r"\d+ steps of \d+\.\d\d s", line) for line in told[:2])
    assert told[2:] == ["nothing to train, to be evaluated"] * 2


def test_the_tokens_of_an_evaluation_by_hand(compose):
    """Of the synthetic corpus: validation and test text, each control on the test text, and the tuning of h."""
    cfg = compose("method=soup", "evaluate.budgets=[1000]", "evaluate.fine_tuning.lrs=[0.1,0.2]")
    corpus = open_corpus(cfg.data, Path(cfg.home), 0)
    size = {
        (n, s): corpus.rows(n, s).tokens.sum() for n in [*corpus.specialists, "generic"] for s in cfg.evaluate.splits
    }
    test = sum(size[name, "test"] for name in corpus.specialists)
    tuned = 3 * 20 * 4 * cfg.train.seq_len * 3  # three specialists, 20 steps of 4 windows, forward and backward
    fine = 3 * (3 * 2 * 4 * 1000)
    method = make(cfg.method)
    expected = sum(size.values()) + 5 * test + tuned + test + fine
    assert forecast.evaluation_tokens(cfg, method, corpus) == expected
    generic = compose("method=generic", "evaluate.splits=[validation]")
    assert forecast.evaluation_tokens(generic, make(generic.method), corpus) == sum(
        tokens for (_, split), tokens in size.items() if split == "validation"
    )
    generic.data.specialists = None
    assert math.isinf(forecast.evaluation_tokens(generic, make(generic.method), None))


def test_each_part_of_the_time_is_named(compose, arguments, caplog):
    caplog.set_level("INFO", "soe_bench")
    open_corpus(compose().data, Path(compose().home), 0)
    for extra, corpus in ([], "built before"), (["data.k=3"], "about 0:0"), (["data.name=other"], "not known"):
        sweep.Plan.of(*job_configs([*arguments, "method=generic", "train.tokens=4096", *extra])).prepare(Laps())
        (line,) = [record.message for record in caplog.records if record.message.startswith("time: ")]
        assert f"corpus {corpus}" in line and "training about 0:0" in line and "evaluation about 0:0" in line
        caplog.clear()
