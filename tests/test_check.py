"""The conformance check: sound methods keep the contract, and each way to break it is caught by its own rule."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_methods import (
    Adaptive,
    Crashing,
    CrashingInTorch,
    Ensemble,
    Forgetful,
    HalfACost,
    Misnamed,
    OffTheSimplex,
    OneRow,
    OtherDeployed,
    OtherLogits,
    OtherStored,
    OtherVocabulary,
    Peeking,
    PeekingAtTheFile,
    Poisoned,
    Random,
    Stateful,
    Still,
    TooFewFlops,
    TooManyFlops,
    TunedOnText,
    TwoFiles,
    Unsaved,
    WithoutGradient,
    WithoutMoments,
)

from soe_bench import check
from soe_bench.config import CONF, job_configs
from soe_bench.conformance import RULES, conformance
from soe_bench.data.builder import open_corpus
from soe_bench.errors import UserError
from soe_bench.ops.flops import FlopCounter
from soe_bench.runs import execute as executing
from soe_bench.runs import sweep
from soe_bench.runs.build import build_method
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run
from soe_bench.system.laps import Laps

METHODS = [  # every one that conf/ has, the soup alone in the quick suite
    pytest.param(path.stem, marks=[] if path.stem == "soup" else pytest.mark.slow)
    for path in sorted((CONF / "method").glob("*.yaml"))
]
ALL = [rule.__name__ for rule in RULES]


@pytest.fixture
def first_broken(compose):
    """first_broken(class) -> the first broken rule of a method of made_up_methods and what is wrong, or None."""

    def call(method):
        cfg = compose("method=generic", "train.tokens=4096", "evaluate.splits=[validation]")
        cfg.method._target_ = f"made_up_methods.{method.__name__}"
        corpus = open_corpus(cfg.data, Path(cfg.home), 0).path
        if corpus.parent.is_symlink():  # the check changes the corpus
            shared = corpus.resolve()
            corpus.parent.unlink()
            shutil.copytree(shared, corpus)
        method.folder = corpus
        return next(((rule.__name__, wrong) for rule, wrong in conformance(cfg) if wrong), None)

    return call


@pytest.mark.parametrize("method", [TwoFiles, TunedOnText, Adaptive])
def test_a_sound_method_keeps_the_contract(first_broken, method):
    assert first_broken(method) is None


@pytest.mark.parametrize(
    ("method", "rule", "says"),
    [
        (Unsaved, "saves", "name every parameter"),
        (Misnamed, "saves", "NAME.value"),
        (WithoutMoments, "resumes", "models.value: tensors() must list all that update changes"),
        (Random, "deterministic", "differ in models.value"),
        (Stateful, "resumes", "other domain weights at step 3: what they depend on beside rng and step must be"),
        (Forgetful, "resumes", "other domain weights at step 3: what they depend on beside rng and step must be"),
        (OffTheSimplex, "weights", "off the simplex"),
        (OneRow, "weights", "give (R, k) = (4, 4)"),
        (Still, "trains", "no parameter of tensors() changed"),
        (Poisoned, "trains", "models.exp_avg is not finite"),
        (Crashing, "trains", "KeyError: 'omega' (made_up_methods.py:"),
        (CrashingInTorch, "trains", "(made_up_methods.py:"),
        (Peeking, "no_test_text", "the test split of 'first' (made_up_methods.py:"),
        (PeekingAtTheFile, "no_test_text", "with another test text a specialist comes out different"),
        (OtherVocabulary, "specialist", "shape (1, 2, 321), not (1, 2, 320)"),
        (Ensemble, "parameters", "set deployable = False"),
        (OtherLogits, "logits", "must be one model"),
        (WithoutGradient, "logits", "no finite gradient in h"),
        (TooFewFlops, "flops", "flops_per_step'] is 0, a step took"),
        (TooManyFlops, "flops", "count all matrix products"),
        (OtherStored, "parameters", "stored_parameters"),
        (OtherDeployed, "parameters", "deployed_parameters"),
        (HalfACost, "builds", "None for stored_parameters"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_each_broken_method_is_caught_by_its_rule(first_broken, method, rule, says):
    broken, wrong = first_broken(method)
    assert broken == rule and says in wrong


@pytest.mark.parametrize("method", METHODS)
def test_the_command_line_passes_a_sound_method(method, capsys, monkeypatch):
    monkeypatch.setattr("baselines.merge_gradient.STEPS", 5)  # no rule depends on their number
    assert check.main([f"method={method}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"pass  {rule.__name__}: {check.meaning(rule)}" for rule in RULES),
        f"{method} keeps the contract (soe_bench/method.py)",
    ]


def test_one_step_is_too_few_to_stop_and_resume(capsys):
    assert check.main(["method=generic", "method._target_=made_up_methods.WithoutMoments", "train.tokens=1024"]) == 1
    assert "FAIL  resumes: a training of one step cannot be stopped half-way: give more" in capsys.readouterr().out


def test_the_command_line_says_what_fails_and_what_was_not_checked(capsys):
    assert check.main(["method=generic", "method._target_=made_up_methods.OtherVocabulary", "train.tokens=4096"]) == 1
    first, _, third, *_, failed, left, verdict = capsys.readouterr().out.splitlines()
    assert first == "pass  builds: " + (
        "The method builds with a corpus, and without one on the meta device, as the plan of its memory does."
    )
    assert third == "pass  trains: Losses and tensors stay finite, and parameters change."
    assert failed.startswith("FAIL  specialist: the specialist's logits")
    assert left == f"not checked until that is fixed: {', '.join(ALL[ALL.index('specialist') + 1 :])}"
    assert verdict.startswith("generic breaks 1 of the rules")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["method=nope"], "there is no method 'nope'"),
        (["method=generic,soup", "-m"], "one method at a time"),
        (["scale=demo"], "at scale=test"),
        (["method.n_experts=-1"], "it must be a whole number from 1 (without experts"),
        (["method._target_=made_up_methods.Nothing"], "Nothing"),
    ],
)
def test_bad_input_is_one_line(arguments, says, capsys):
    assert check.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and says in line


def test_another_vocabulary_is_refused_before_anything_is_trained(arguments, compose, monkeypatch):
    target = ["method=generic", "method._target_=made_up_methods.OtherVocabulary"]
    plan = sweep.Plan.of(*job_configs([*arguments, *target]))
    monkeypatch.setattr(executing, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match=r"not \(1, 2, 320\): it must predict over the 320 tokens"):
        plan.prepare(Laps())


def test_another_vocabulary_is_refused_in_evaluation(compose, monkeypatch):
    with pytest.raises(UserError, match=r"not \(1, 2, 320\)"):
        execute(compose("method=generic", "train.tokens=4096", "method._target_=made_up_methods.OtherVocabulary"))


@pytest.mark.parametrize("draws", [1, 16])
@pytest.mark.parametrize("name", ["soup", "low_rank_soup", "dense_conditioned", "hypernetwork", "projected"])
def test_the_cost_of_what_reads_h_is_the_counted_flops_for_few_draws_and_many(compose, name, draws):
    """With one draw per sequence the products of the gradient's norm are an eighth of the step."""
    cfg = compose(f"method={name}", f"train.draws_per_step={draws}")
    method = build_method(Run.of(cfg), None)
    tokens = torch.zeros(draws, cfg.train.batch_size // draws, cfg.train.seq_len + 1, dtype=torch.long)
    with FlopCounter() as counter:
        method.update(tokens, method.domain_weights(np.random.default_rng(0), 1), 1, 0.0)
    assert method.cost()["flops_per_step"] == pytest.approx(counter.get_total_flops(), rel=0.01)
