"""The rules of soe_bench/method.py, each as a function that raises Broken if a method does not keep it.

The method is trained for a few steps on synthetic text (scale=test), with the code that trains every run.
"""

from __future__ import annotations

import json
import math
import os
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from soe_bench import train
from soe_bench.data import corpus as corpora
from soe_bench.data.builder import open_corpus
from soe_bench.data.corpus import Corpus
from soe_bench.errors import UserError, place
from soe_bench.estimate import own_weights, tuning_start
from soe_bench.evaluate import check_vocabulary
from soe_bench.method import Method
from soe_bench.mixture import check_weights
from soe_bench.ops.flat import Flat
from soe_bench.ops.flops import FlopCounter
from soe_bench.ops.gradient import gradient
from soe_bench.runs import evaluation
from soe_bench.runs.build import build_method, load_parameters, sampler, save_parameters
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run
from soe_bench.system.machine import prepare_process
from soe_bench.system.stop import STOP, Interrupted
from soe_bench.tracking import Tracker

COST = ("flops_per_step", "stored_parameters", "deployed_parameters", "state_bytes")
FLOPS_TOLERANCE = 0.1
LARGEST_DEPLOYED = 1.05  # times P, and SMALL more
SMALL = 1_000


class Broken(Exception):
    """A rule is broken: the message says what was seen and what to do."""


class Trial:
    """A method at the smallest size: its run, its corpus, and the trainings that the rules look at. A parent is trained
    first. The configuration's home must be a folder of its own, because the rule on test text changes its corpus."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg, self.run = cfg, Run.of(cfg)
        prepare_process(cfg.threads)
        self.corpus = open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans)
        if self.run.parent:
            execute(self.run.parent.cfg)
        self.opened: list[str] = []  # where a test split was opened
        self.drawn: defaultdict[str, dict[int, np.ndarray]] = defaultdict(dict)  # domain weights by training and step
        tokens = torch.randint(cfg.data.vocab_size, (2, cfg.train.seq_len), generator=torch.manual_seed(0))
        self.tokens = tokens.to(cfg.device)

    def build(self) -> Method:
        return build_method(self.run, self.corpus)

    def train(self, name: str, validate: Callable[[], dict[str, float | None]] = dict) -> Method:
        """Builds the method anew and trains it, from the last checkpoint in the folder `name` if there is one. Keeps
        the domain weights of each step in `drawn`."""
        folder = Path(self.cfg.home) / "check" / name
        folder.mkdir(parents=True, exist_ok=True)
        method = self.build()
        ask = method.domain_weights

        def recorded(rng: np.random.Generator, step: int) -> np.ndarray:
            weights = ask(rng, step)
            self.drawn[name][step] = np.array(weights)
            return weights

        method.domain_weights = recorded
        mixture = sampler(self.run, self.corpus, method)
        with Tracker(self.cfg, name, folder) as tracker:
            train.train(self.cfg, name, method, mixture, folder, tracker, validate)
        return method

    @cached_property
    def steps(self) -> int:
        return self.build().steps

    @cached_property
    def trained(self) -> Method:
        """The method after an uninterrupted training."""
        return self.train("whole")

    def specialists(self, method: Method) -> dict[str, nn.Module]:
        """The models that an evaluation on validation text asks for. A method may need gradients to make them."""
        make = evaluation.Maker(self.cfg, method, self.corpus)
        return {each.specialist: make.specialist(each)[0] for each in evaluation.planned(self.cfg, method, self.corpus)}

    @torch.no_grad()
    def logits(self, models: dict[str, nn.Module]) -> Tensor:
        """(specialists, B, T, V) on the same random tokens."""
        return torch.stack([model(self.tokens) for model in models.values()])

    @cached_property
    def models(self) -> dict[str, nn.Module]:
        """The specialists of the uninterrupted training."""
        return self.specialists(self.trained)

    @cached_property
    def expected(self) -> Tensor:
        """The logits of `models`, (specialists, B, T, V)."""
        return self.logits(self.models)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Context in which `opened` notes each place that reads the rows or documents of a test split."""
        rows = Corpus.rows

        def guarded(corpus: Corpus, specialist: str, split: str) -> object:
            if split == "test":
                outside = [frame for frame in traceback.extract_stack()[:-1] if frame.filename != corpora.__file__]
                self.opened.append(f"the test split of {specialist!r} ({_place(outside[-1])})")
            return rows(corpus, specialist, split)

        Corpus.rows = guarded
        try:
            yield
        finally:
            Corpus.rows = rows


def builds(trial: Trial) -> None:
    """The method builds with a corpus, and without one on the meta device, as the plan of its memory does."""
    costs = trial.build().cost(), build_method(trial.run, None, device="meta").cost()
    for entry in COST:
        for cost in costs:
            if not isinstance(cost.get(entry), int) or cost[entry] < 0:
                raise Broken(f"cost() has {cost.get(entry)!r} for {entry}: give {', '.join(COST)}, each a whole number")


def weights(trial: Trial) -> None:
    """domain_weights gives (R, k) rows on the simplex."""
    if not trial.steps:
        return  # a merge draws no batch
    method, shape = trial.build(), (trial.cfg.train.draws_per_step, trial.corpus.k)
    for step in range(1, 2 * method.n_models + 2):
        rows = method.domain_weights(np.random.default_rng([0, step]), step)
        if rows.shape != shape:
            raise Broken(f"domain_weights gives shape {rows.shape} at step {step}: give (R, k) = {shape}")
        for row in rows:
            check_weights(row, trial.corpus.k)


def trains(trial: Trial) -> None:
    """Losses and tensors stay finite, and parameters change. A method that takes no step (a merge) has a parent."""
    start, method = trial.build().tensors(), trial.trained
    tensors = method.tensors()
    values = [name for name in tensors if name.endswith(".value")]
    if trial.steps and not values:
        raise Broken(
            "tensors() has no name that ends in .value: name the parameters so, a trained run keeps only these"
        )
    if wrong := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise Broken(f"{wrong[0]} is not finite after {trial.steps} steps: update must raise FloatingPointError")
    curve = (Path(trial.cfg.home) / "check" / "whole" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    if not all(math.isfinite(json.loads(row)["train_loss"]) for row in curve):
        raise Broken("update returned a loss that is not finite: raise FloatingPointError, with nothing changed")
    if trial.steps and all(torch.equal(start[name], tensors[name]) for name in values):
        raise Broken(f"no parameter of tensors() changed in {trial.steps} steps: list what update changes")


def flops(trial: Trial) -> None:
    """flops_per_step agrees with the FLOPs of the matrix products in a training (elementwise work does not count)."""
    with FlopCounter() as counter:  # it splits some products, so the bits differ from `trained`
        method = trial.train("counted")
    claimed, steps, counted = method.cost()["flops_per_step"], trial.steps, counter.get_total_flops()
    if steps and abs(claimed * steps / counted - 1) > FLOPS_TOLERANCE:
        raise Broken(
            f"cost()['flops_per_step'] is {claimed:,}, a step took {counted // steps:,}: count all matrix "
            "products of update"
        )


def specialist(trial: Trial) -> None:
    """specialist(h) maps tokens (B, T) to finite logits (B, T, vocabulary) for each specialist."""
    for name, model in trial.models.items():
        check_vocabulary(model, trial.cfg.data.vocab_size)
        with torch.no_grad():
            logits = model(trial.tokens)
        if logits.shape[:-1] != trial.tokens.shape or not torch.isfinite(logits).all():
            raise Broken(
                f"the specialist for {name} gives logits {tuple(logits.shape)} on tokens "
                f"{tuple(trial.tokens.shape)}: give one finite row per token"
            )


def parameters(trial: Trial) -> None:
    """stored_parameters counts what the specialists depend on, deployed_parameters what one specialist holds. A
    `deployable` specialist is one model of about P parameters that can be fine-tuned."""
    method = trial.trained
    cost, size = method.cost(), sum(parameter.numel() for parameter in method.context.base.parameters())
    models = list(trial.models.values())
    extra = [_buffers(model) - _buffers(method.context.base) for model in models]  # a table of numbers, say
    held = max(sum(x.numel() for x in model.parameters()) + more for model, more in zip(models, extra, strict=True))
    if cost["deployed_parameters"] != held if method.deployable else cost["deployed_parameters"] < held:
        raise Broken(
            f"cost()['deployed_parameters'] is {cost['deployed_parameters']:,}, but a specialist holds {held:,}: "
            "its module must register every parameter and buffer, and cost() count them"
        )
    stored = sum(
        tensor.numel()
        for name, tensor in method.tensors().items()
        if name.endswith(".value") and _matters(trial, method, tensor)
    )
    if trial.steps and cost["stored_parameters"] != stored:  # without steps, the parent run stores them
        raise Broken(
            f"cost()['stored_parameters'] is {cost['stored_parameters']:,}, but the tensors that the specialists "
            f"depend on hold {stored:,}: count these"
        )
    if not method.deployable:
        return
    if held > LARGEST_DEPLOYED * size + SMALL:
        raise Broken(f"a specialist holds {held:,} parameters, but the base model {size:,}: set deployable = False")
    flat, tokens = Flat(models[0]), torch.cat([trial.tokens, trial.tokens[:, :1]], 1)
    _, slope = gradient(models[0], flat, flat.flatten(models[0])[None], tokens[None], trial.cfg.train.precision)
    if not slope.any():
        raise Broken("no gradient reaches the specialist's parameters, so no fine-tuning: set deployable = False")


def _buffers(model: nn.Module) -> int:
    """Numbers in the buffers that are kept with a model; a rotary table, which is computed anew, is none."""
    kept = model.state_dict()
    return sum(buffer.numel() for name, buffer in model.named_buffers() if name in kept)


def _matters(trial: Trial, method: Method, tensor: Tensor) -> bool:
    """Whether the specialists' logits change with the tensor, which is restored afterwards."""
    expected, kept = trial.expected, tensor.clone()
    tensor.add_(0.1)
    changed = trial.logits(trial.specialists(method))
    tensor.copy_(kept)
    return not torch.equal(expected, changed)


def logits(trial: Trial) -> None:
    """logits(h, tokens) equals the specialist at h and has a gradient in h, for methods evaluated at a tuned h."""
    method = trial.trained
    if not method.takes_h or "tuned" not in method.controls:
        return
    # At a weight of 0 a domain has no part in a merge, and may have no gradient either.
    weights = tuning_start(own_weights(trial.corpus, trial.corpus.specialists[0]), trial.corpus.h_0)
    h = method.weights_tensor(weights)[None].requires_grad_()
    logits = method.logits(h, trial.tokens[None])[0]
    if not torch.allclose(logits, method.specialist(weights)(trial.tokens), rtol=1e-4, atol=1e-4):
        raise Broken("logits(h, tokens) and specialist(h)(tokens) differ: they must be one model")
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), trial.tokens[:, 1:].flatten())
    slope = torch.autograd.grad(loss, h, allow_unused=True)[0] if loss.requires_grad else None
    if slope is None or not torch.isfinite(slope).all() or not slope.any():
        raise Broken(
            "logits(h, tokens) has no finite gradient in h: make it differentiable, or remove `tuned` from controls"
        )


def deterministic(trial: Trial) -> None:
    """Two trainings from the same seeds end with the same bits."""
    if name := _differing(trial.trained, trial.train("again")):
        raise Broken(
            f"two trainings from the same seeds differ in {name}: draw from context.seed and (rng, step) only, "
            "never from a global generator"
        )


def resumes(trial: Trial) -> None:
    """A training (a merge has none) that is stopped half-way and resumed in a fresh build draws the same domain weights
    and ends with the same bits."""
    if not trial.steps:
        return

    def stop() -> dict[str, float | None]:
        STOP.set()
        return {}

    try:
        trial.train("stopped", validate=stop)
        raise Broken("a training of one step cannot be stopped half-way: give more train.tokens, for two steps or more")
    except Interrupted:
        pass
    finally:
        STOP.clear()
    whole, resumed = trial.trained, trial.train("stopped")
    expected, drawn = trial.drawn["whole"], trial.drawn["stopped"]
    if wrong := [step for step in expected if not np.array_equal(expected[step], drawn[step])]:
        raise Broken(
            f"a training that was stopped and resumed draws other domain weights at step {wrong[0]}: what they depend "
            "on beside rng and step must be in tensors()"
        )
    if name := _differing(whole, resumed):
        raise Broken(
            f"a training that was stopped and resumed differs in {name}: tensors() must list all that update "
            "changes, optimizer moments too"
        )


def saves(trial: Trial) -> None:
    """The parameters that a trained run keeps, loaded into a fresh build, give the same specialists."""
    loaded, folder = trial.build(), Path(trial.cfg.home) / "check"
    save_parameters(trial.trained, folder, {})
    load_parameters(loaded, folder)
    if not torch.equal(trial.expected, trial.logits(trial.specialists(loaded))):
        raise Broken(
            "specialists differ after saving and loading: name every parameter of tensors() NAME.value (only these "
            "are kept), and use nothing else that training changes"
        )


def no_test_text(trial: Trial) -> None:
    """Building, training and making specialists opens no test split, and another test text changes nothing."""
    if trial.opened:
        raise Broken(f"the method opened {trial.opened[0]}: choose and tune on validation text")
    expected = trial.expected  # with the first test text
    _replace_test_text(trial.corpus)
    trial.corpus = corpora.Corpus(trial.corpus.path)
    other = trial.train("other")
    if (name := _differing(trial.trained, other)) or not torch.equal(expected, trial.logits(trial.specialists(other))):
        raise Broken(
            f"with another test text {name or 'a specialist'} comes out different: do not use text of a test split"
        )


def _replace_test_text(corpus: Corpus) -> None:
    tokens = np.load(corpus.path / "tokens.npy")
    for row in corpus.passages[corpus.passages.split == "test"].itertuples():
        text = slice(row.start + 1, row.start + row.tokens)
        tokens[text] = 1 + tokens[text] % (corpus.vocab_size - 1)  # the next token of the vocabulary
    np.save(corpus.path / "other.npy", tokens)
    os.replace(corpus.path / "other.npy", corpus.path / "tokens.npy")


def _differing(one: Method, other: Method) -> str | None:
    """The name of the first tensor in which two methods differ."""
    others = other.tensors()
    return next((name for name, tensor in one.tensors().items() if not torch.equal(tensor, others[name])), None)


Rule = Callable[[Trial], None]
# The rules in this order. If an essential one fails, the later ones mean nothing and are not checked.
RULES = (builds, weights, trains, flops, specialist, parameters, logits, deterministic, resumes, saves, no_test_text)
ESSENTIAL = (builds, weights, trains, specialist, deterministic)


def conformance(cfg: DictConfig) -> Iterator[tuple[Rule, str | None]]:
    """Yields each rule with None if it holds, else with what is wrong and what to do. Raises UserError for a
    configuration that is refused."""
    trial = Trial(cfg)
    with trial.guard():
        for rule in RULES:
            try:
                rule(trial)
                wrong = None
            except (Broken, UserError) as error:
                wrong = str(error)
            except (Exception, SystemExit) as error:  # an error of the method: say where in its package, if it is there
                where = place(error, [cfg.method._target_.partition(".")[0]])
                last = traceback.extract_tb(error.__traceback__)[-1]
                wrong = f"{type(error).__name__}: {error} ({where or _place(last)})"
            yield rule, wrong
            if wrong and rule in ESSENTIAL:
                return


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno}"
