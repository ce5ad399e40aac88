"""What is evaluated: every cell of a run's records, the model that it is about, and what that model cost."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from torch import nn

from soe_bench.data.corpus import Corpus
from soe_bench.data.splits import GENERIC
from soe_bench.evaluate import check_vocabulary, document_losses, summarize
from soe_bench.finetune import fine_tune
from soe_bench.method import ExpertMethod, Method, with_parameters
from soe_bench.ops.flops import FlopCounter
from soe_bench.records import Evaluation, EvaluationRecord
from soe_bench.specialize import domain_weights, estimate, own_weights, tuned_coefficients, tuned_weights
from soe_bench.system import distributed
from soe_bench.system.files import refusals, rename
from soe_bench.system.stop import Interrupted, stop_requested
from soe_bench.train import PROGRESS_SECONDS

log = logging.getLogger("soe_bench")


def cells(cfg: DictConfig, method: Method, corpus: Corpus) -> Iterator[Evaluation]:
    """Every cell that the configuration asks for: the specialists and generic text on evaluate.splits at what the
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


def specialist(cfg: DictConfig, method: Method, corpus: Corpus, cell: Evaluation) -> tuple[nn.Module, dict]:
    """The model that a cell is about, and the fields of its record that say what delivering it took (under torchrun in
    one process, which has its slice of the combination). Raises UserError for a model over another vocabulary than the
    corpus's."""
    validation = [tokens for _, tokens, _ in corpus.documents(cell.specialist, "validation")]
    start, trained, flops = time.perf_counter(), 0, 0
    with FlopCounter() as counter:
        model = _instantiate(method, corpus, cell, validation)
    tokens = corpus.training_tokens(cell.specialist, cell.budget_tokens) if cell.budget_tokens else None
    if tokens is not None:
        tuned = fine_tune(model, tokens, np.concatenate(validation), cfg, cfg.seeds.mix)
        model, trained, flops = tuned.model, tuned.tokens, tuned.flops
    seconds = round(time.perf_counter() - start, 4)
    check_vocabulary(model, cfg.data.vocab_size)
    return model, {
        "specialist_tokens": trained,
        "specialist_flops": counter.get_total_flops() + flops,
        "specialist_seconds": seconds,
    }


def _instantiate(method: Method, corpus: Corpus, cell: Evaluation, validation: list[np.ndarray]) -> nn.Module:
    if cell.h_source == "tuned":
        return method.specialist(tuned_weights(method, own_weights(corpus, cell.specialist), validation), validation)
    if cell.estimator is None or cell.n_documents is None or cell.document_draw is None:
        return method.specialist(domain_weights(corpus, cell.specialist, cell.h_source), validation)
    h = estimate(corpus, cell.specialist, cell.estimator, cell.n_documents, cell.document_draw)
    if cell.estimator == "tuned_coefficients" and isinstance(method, ExpertMethod):
        documents = corpus.estimate_documents(cell.specialist, cell.n_documents, cell.document_draw)
        theta = method.instantiate(tuned_coefficients(method, h, documents)[None])[0]
        return with_parameters(method.context.base, method.flat, theta)
    return method.specialist(h, validation)


def evaluate_all(cfg: DictConfig, method: Method, corpus: Corpus, facts: dict, path: Path) -> list[dict]:
    """Writes the records of a run to `path` and returns them: `facts`, a RunRecord's fields, and those of every cell.

    Each is appended to a partial file as soon as it is known, and a cell that stands there is not evaluated again. Says
    how far it is. Under torchrun every process has every specialist and evaluates it, so that none ever holds the whole
    bank, and the first one writes. Raises Interrupted on a stop request, UserError where the disk refuses.
    """
    partial = path.with_suffix(".partial")
    every, known = list(cells(cfg, method, corpus)), distributed.on_first(_known, partial)
    missing = [cell for cell in every if cell not in known]
    begin = shown = time.perf_counter()
    for number, cell in enumerate(missing):
        if stop_requested():
            raise Interrupted(f"stopped with {len(known)} of {len(every)} cells evaluated; the same command goes on")
        if (now := time.perf_counter()) - shown > PROGRESS_SECONDS:
            left = timedelta(seconds=round((len(missing) - number) * (now - begin) / number))
            log.info("%s  evaluated %d/%d  %s left", method.label, len(known), len(every), left)
            shown = now
        documents = corpus.documents(cell.specialist, cell.split)
        model, cost = specialist(cfg, method, corpus, cell)
        nats, tokens = document_losses(model, [tokens for _, tokens, _ in documents], cfg.train.seq_len)
        losses = summarize(nats, tokens, sum(size for _, _, size in documents))
        record = EvaluationRecord(run_id=facts["run_id"], sweep=cfg.sweep_name, **asdict(cell), **cost, **losses)
        known[cell] = facts | asdict(record)
        distributed.on_first(_append, partial, known[cell])
    distributed.on_first(rename, partial, path)
    return list(known.values())


def _append(partial: Path, record: dict) -> None:
    with refusals(partial), open(partial, "ab") as file:
        file.write(json.dumps(record).encode() + b"\n")


def _known(partial: Path) -> dict[Evaluation, dict]:
    """The cells in a partial file, which is cut off behind its last whole line: a killed process may have left half."""
    known, size = {}, 0
    with refusals(partial), open(partial, "ab+") as file:
        file.seek(0)
        for line in file:
            try:
                record = json.loads(line) if line.endswith(b"\n") else {}
                known[Evaluation(**{field.name: record[field.name] for field in fields(Evaluation)})] = record
            except (ValueError, KeyError):
                break
            size += len(line)
        file.truncate(size)
    return known


def validation_loss(cfg: DictConfig, method: Method, corpus: Corpus) -> float:
    """Mean over the specialists of the loss on the first train.curve_tokens tokens of their validation splits."""
    losses = []
    for name in corpus.specialists:
        documents = [tokens for _, tokens, _ in corpus.documents(name, "validation")]
        model = method.specialist(own_weights(corpus, name) if method.takes_h else None, documents)
        nats, count = document_losses(model, [np.concatenate(documents)[: cfg.train.curve_tokens]], cfg.train.seq_len)
        losses.append(nats.sum() / count.sum())
    return float(np.mean(losses))


def alpha_table(method: Method, corpus: Corpus) -> pd.DataFrame:
    """Coefficients at each specialist's estimated h: specialist, expert, alpha. Empty for a method without experts."""
    rows = []
    if isinstance(method, ExpertMethod):
        for name in [*corpus.specialists, GENERIC]:
            alpha = method.coefficients(own_weights(corpus, name)[None])[0]
            rows += [(name, expert, value) for expert, value in enumerate(alpha.tolist())]
    return pd.DataFrame(rows, columns=["specialist", "expert", "alpha"])
