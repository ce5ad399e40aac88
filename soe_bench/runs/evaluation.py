"""What is evaluated: the evaluations of a run, the model that each is about, and what that model cost."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from torch import Tensor, nn

from soe_bench.data.corpus import Corpus
from soe_bench.data.splits import GENERIC
from soe_bench.errors import UserError
from soe_bench.estimate import (
    COEFFICIENTS_STEPS,
    H_STEPS,
    domain_weights,
    estimate,
    own_weights,
    tuned_at_once,
    tuned_coefficients,
    tuned_weights,
)
from soe_bench.evaluate import check_vocabulary, copying_gain, document_losses, mean_loss, summarize
from soe_bench.finetune import fine_tune
from soe_bench.method import ExpertMethod, Method, with_parameters
from soe_bench.ops.flops import FlopCounter
from soe_bench.records import Evaluation, EvaluationRecord
from soe_bench.system import distributed
from soe_bench.system.files import refusals, rename
from soe_bench.system.stop import Interrupted, stop_requested
from soe_bench.train import PROGRESS_SECONDS

COPIED = 32  # passages that the copying gain is measured on
log = logging.getLogger("soe_bench")


def planned(cfg: DictConfig, method: Method, corpus: Corpus) -> Iterator[Evaluation]:
    """Every evaluation that the configuration asks for: the specialists and generic text on evaluate.splits at what the
    method knows of h; on the test split also the controls, the fine-tuning budgets (where a specialist has as much
    text) and the drawn documents (where it has as many)."""
    e = cfg.evaluate
    for name in [*corpus.specialists, GENERIC][: -1 if method.per_specialist else None]:
        own: dict[str, Any] = {"h_source": "none" if not method.takes_h else "h_0"}
        if method.takes_h and name != GENERIC:
            own = {
                "h_source": "estimate",
                "estimator": "nearest_centroid",
                "n_documents": len(corpus.documents(name, "estimate")),
            }
        for split in e.splits:
            yield Evaluation(name, split, **own)
        if name == GENERIC or "test" not in e.splits:
            continue
        for budget in e.budgets if method.deployable else ():
            if corpus.training_tokens(name, budget) is not None:
                yield Evaluation(name, "test", **own, budget_tokens=budget)
        if method.takes_h:
            yield from (
                Evaluation(name, "test", control)
                for control in method.controls
                if control in e.controls
                if control != "shuffled" or len(corpus.specialists) > 1
            )  # another's h needs another
            yield from (
                Evaluation(name, "test", "estimate", estimator, count, draw)
                for estimator in e.estimators
                if estimator != "tuned_coefficients" or isinstance(method, ExpertMethod)
                for count in e.documents
                if count <= own["n_documents"]
                for draw in range(e.draws)
            )


@dataclass(frozen=True)
class Spent:
    """What making one specialist took: FLOPs and seconds."""

    flops: int
    seconds: float


class Maker:
    """Makes the models that evaluations are about. What several share is made once: the specialist that is evaluated on
    two splits, and the tuned domain weights, whose specialists are tuned side by side."""

    def __init__(self, cfg: DictConfig, method: Method, corpus: Corpus) -> None:
        self.cfg, self.method, self.corpus = cfg, method, corpus
        self.last: tuple[Evaluation, nn.Module, dict] | None = None
        self.tuned: dict[Evaluation, tuple[np.ndarray | Tensor, Spent]] = {}

    def specialist(self, evaluation: Evaluation) -> tuple[nn.Module, dict]:
        """The model that an evaluation is about, and the fields of its record that say what delivering it took (under
        torchrun in one process, which has its slice of the combination).

        Raises UserError for a model over another vocabulary than the corpus's, and RuntimeError if anything reads test
        text meanwhile: what is chosen or tuned is chosen without it.
        """
        key = replace(evaluation, split="")
        if self.last is None or self.last[0] != key:
            with self.corpus.withheld("test"):
                self.last = key, *self._specialist(evaluation)
            check_vocabulary(self.last[1], self.cfg.data.vocab_size)
        return self.last[1:]

    def _specialist(self, evaluation: Evaluation) -> tuple[nn.Module, dict]:
        cfg, corpus, validation = self.cfg, self.corpus, self._validation(evaluation.specialist)
        tuned, before = self._tuned(evaluation)
        start, trained, flops, rate = time.perf_counter(), 0, 0, None
        with FlopCounter() as counter:
            model = self._instantiate(evaluation, tuned, validation)
        tokens = (
            corpus.training_tokens(evaluation.specialist, evaluation.budget_tokens)
            if evaluation.budget_tokens
            else None
        )
        if tokens is not None:
            better = fine_tune(model, tokens, np.concatenate(validation), cfg, cfg.seeds.mix)
            model, trained, flops, rate = better.model, better.tokens, better.flops, better.rate
        return model, {
            "specialist_tokens": trained,
            "specialist_flops": before.flops + counter.get_total_flops() + flops,
            "specialist_seconds": round(before.seconds + time.perf_counter() - start, 4),
            "fine_tuning_rate": rate,
        }

    def _validation(self, name: str) -> list[np.ndarray]:
        return [tokens for _, tokens, _ in self.corpus.documents(name, "validation")]

    def _instantiate(self, evaluation: Evaluation, tuned: Any, validation: list[np.ndarray]) -> nn.Module:
        method, corpus = self.method, self.corpus
        if isinstance(tuned, Tensor) and isinstance(method, ExpertMethod):
            theta = method.instantiate(tuned[None])[0]
            return with_parameters(method.context.base, method.flat, theta)
        if tuned is not None:
            return method.specialist(tuned, validation)
        if evaluation.estimator is None or evaluation.document_draw is None:
            return method.specialist(domain_weights(corpus, evaluation.specialist, evaluation.h_source), validation)
        h = estimate(
            corpus, evaluation.specialist, evaluation.estimator, evaluation.n_documents, evaluation.document_draw
        )
        return method.specialist(h, validation)

    def _tuned(self, evaluation: Evaluation) -> tuple[np.ndarray | Tensor | None, Spent]:
        """What an evaluation has tuned by gradient: domain weights (k,), coefficients (n,) or nothing; and its share of
        what that took. It is tuned side by side with what others need. Who is beside whom does not depend on what was
        evaluated before, so that an interrupted run gives the same numbers."""
        if evaluation.h_source == "tuned":
            evaluations = [replace(evaluation, specialist=name) for name in self.corpus.specialists]
        elif evaluation.estimator == "tuned_coefficients":
            evaluations = [replace(evaluation, document_draw=draw) for draw in range(self.cfg.evaluate.draws)]
        else:
            return None, Spent(0, 0.0)
        if evaluation not in self.tuned:
            size = tuned_at_once(self.method)
            first = evaluations.index(evaluation) // size * size
            group, start = evaluations[first : first + size], time.perf_counter()
            with FlopCounter() as counter:  # of one step of one: counting takes a third as long as the step itself
                self._tune(group[:1], 1)
            steps = H_STEPS if evaluation.h_source == "tuned" else COEFFICIENTS_STEPS
            values, flops = self._tune(group, steps), counter.get_total_flops() * steps
            spent = Spent(flops, (time.perf_counter() - start) / len(group))
            self.tuned |= {each: (value, spent) for each, value in zip(group, values, strict=True)}
        return self.tuned[evaluation]

    def _tune(self, evaluations: list[Evaluation], steps: int) -> np.ndarray | Tensor:
        method, corpus = self.method, self.corpus
        if not isinstance(method, ExpertMethod) or evaluations[0].h_source == "tuned":
            h = np.stack([own_weights(corpus, each.specialist) for each in evaluations])
            return tuned_weights(method, h, [self._validation(each.specialist) for each in evaluations], steps)
        drawn = [(each.specialist, each.n_documents or 0, each.document_draw or 0) for each in evaluations]
        h = np.stack([corpus.histogram(*each) for each in drawn])
        return tuned_coefficients(method, h, [corpus.estimate_documents(*each) for each in drawn], steps)


def evaluate_all(cfg: DictConfig, method: Method, corpus: Corpus, facts: dict, path: Path) -> list[dict]:
    """Writes the records of a run to `path` and returns them: `facts`, a RunRecord's fields, and those of each
    evaluation.

    Each is appended to a partial file as soon as it is known, and what stands there is not evaluated again. Says how
    far it is. Under torchrun every process has every specialist and evaluates it, so that none ever holds the whole
    bank, and the first one writes. Raises Interrupted on a stop request, UserError where the disk refuses and for a
    loss that is not finite.
    """
    partial = path.with_suffix(".partial")
    every, known = list(planned(cfg, method, corpus)), distributed.on_first(_known, partial)
    missing = [each for each in every if each not in known]
    make, begin = Maker(cfg, method, corpus), time.perf_counter()
    shown = begin
    for number, evaluation in enumerate(missing):
        if stop_requested():
            raise Interrupted(f"stopped with {len(known)} of {len(every)} evaluations done; the same command goes on")
        if (now := time.perf_counter()) - shown > PROGRESS_SECONDS:
            left = timedelta(seconds=round((len(missing) - number) * (now - begin) / number))
            log.info("%s  evaluated %d/%d  %s left", method.label, len(known), len(every), left)
            shown = now
        documents = corpus.documents(evaluation.specialist, evaluation.split)
        model, cost = make.specialist(evaluation)
        start = time.perf_counter()
        nats, tokens = document_losses(model, [tokens for _, tokens, _ in documents], cfg.train.seq_len)
        losses = summarize(nats, tokens, sum(size for _, _, size in documents))
        if not math.isfinite(losses["loss"]):
            raise UserError(
                f"{method.label}: the loss on {evaluation.specialist} is {losses['loss']}, so the run is not recorded: "
                "give its settings other values"
            )
        seconds = round(time.perf_counter() - start, 4)
        record = EvaluationRecord(
            run_id=facts["run_id"], sweep=cfg.sweep_name, **asdict(evaluation), **cost, loss_seconds=seconds, **losses
        )
        known[evaluation] = facts | asdict(record)
        distributed.on_first(_append, partial, known[evaluation])
    distributed.on_first(rename, partial, path)
    return list(known.values())


def _append(partial: Path, record: dict) -> None:
    with refusals(partial), open(partial, "ab") as file:
        file.write(json.dumps(record).encode() + b"\n")


def _known(partial: Path) -> dict[Evaluation, dict]:
    """The evaluations in a partial file, which is cut off behind its last whole line: a killed process may have left
    half a line."""
    known, size = {}, 0
    with refusals(partial), open(partial, "ab+") as file:
        file.seek(0)
        for line in file:
            try:
                record = json.loads(line) if line.endswith(b"\n") else {}
                known[Evaluation(**{field.name: record[field.name] for field in fields(Evaluation)})] = record
            except (ValueError, KeyError, TypeError):
                break
            size += len(line)
        file.truncate(size)
    return known


def validate(cfg: DictConfig, method: Method, corpus: Corpus) -> dict[str, float | None]:
    """The columns of the learning curve that are measured on validation text."""
    return {
        "validation_loss": validation_loss(cfg, method, corpus),
        "copying_gain": generic_copying_gain(cfg, method, corpus),
    }


def validation_loss(cfg: DictConfig, method: Method, corpus: Corpus) -> float | None:
    """Mean over the specialists of the loss on the first train.curve_tokens tokens of their validation splits. None for
    a corpus without specialists."""
    losses = []
    for name in corpus.specialists:
        documents = [tokens for _, tokens, _ in corpus.documents(name, "validation")]
        model = method.specialist(own_weights(corpus, name) if method.takes_h else None, documents)
        losses.append(mean_loss(model, [np.concatenate(documents)[: cfg.train.curve_tokens]], cfg.train.seq_len))
    return float(np.mean(losses)) if losses else None


def generic_copying_gain(cfg: DictConfig, method: Method, corpus: Corpus) -> float | None:
    """`evaluate.copying_gain` of the model at h_0, on the beginnings of the first COPIED generic validation documents
    that fill half of the context. None for a method without a model at h_0, and without such documents."""
    if method.per_specialist:
        return None
    documents, half = [tokens for _, tokens, _ in corpus.documents(GENERIC, "validation")], cfg.train.seq_len // 2
    passages = [tokens[1 : half + 1] for tokens in documents if len(tokens) > half][:COPIED]  # without the end of text
    if not passages or half < 2:
        return None
    return copying_gain(method.specialist(corpus.h_0 if method.takes_h else None, documents), np.stack(passages))


def alpha_table(method: Method, corpus: Corpus) -> pd.DataFrame:
    """Coefficients at each specialist's estimated h: specialist, expert, alpha. Empty for a method without experts."""
    rows = []
    if isinstance(method, ExpertMethod):
        for name in [*corpus.specialists, GENERIC]:
            alpha = method.coefficients(own_weights(corpus, name)[None])[0]
            rows += [(name, expert, value) for expert, value in enumerate(alpha.tolist())]
    return pd.DataFrame(rows, columns=["specialist", "expert", "alpha"])
