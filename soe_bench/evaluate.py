"""Evaluation: the loss of a model on held-out documents, and of a method on every specialist."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import nn

from soe_bench.data.corpus import Corpus
from soe_bench.data.parts import GENERIC
from soe_bench.errors import UserError
from soe_bench.method import Method
from soe_bench.specialize import CONTROLS, domain_weights

IGNORED = -100  # target of padding
WINDOWS = 8  # windows a forward pass: their logits stay in the cache (1.6 times as fast as 64 on one core)


def windows(documents: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts each document into windows of `length` predictions: inputs and targets (N, length), document index (N,).

    Context starts afresh in each window. Every token but a document's first (end of text) is predicted exactly once.
    """
    inputs, targets, owners = [], [], []
    for index, tokens in enumerate(documents):
        for start in range(0, len(tokens) - 1, length):
            piece = tokens[start : start + length + 1].astype(np.int64)
            padding = length + 1 - len(piece)
            inputs.append(np.pad(piece[:-1], (0, padding)))
            targets.append(np.pad(piece[1:], (0, padding), constant_values=IGNORED))
            owners.append(index)
    if not inputs:
        raise UserError("the documents hold no token to predict: give longer documents")
    return np.stack(inputs), np.stack(targets), np.array(owners)


@torch.no_grad()
def document_losses(model: nn.Module, documents: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Summed loss in nats (D,) and number of predicted tokens (D,) of each document (arrays of token ids)."""
    device = next(model.parameters()).device
    inputs, targets, owners = windows(documents, length)
    nats = np.zeros(len(documents))
    for start in range(0, len(inputs), WINDOWS):
        batch = slice(start, start + WINDOWS)
        target = torch.from_numpy(targets[batch]).to(device)
        logits = model(torch.from_numpy(inputs[batch]).to(device))
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED, reduction="none")
        np.add.at(nats, owners[batch], loss.view(target.shape).sum(1, dtype=torch.float64).cpu().numpy())
    tokens = np.zeros(len(documents), dtype=np.int64)
    np.add.at(tokens, owners, (targets != IGNORED).sum(1))
    return nats, tokens


def summarize(nats: np.ndarray, tokens: np.ndarray, size: int) -> dict[str, float | int | None]:
    """The loss fields of a record. `size` is the text's length in bytes.

    `loss_se_documents` is the standard error of the ratio nats/tokens over documents (linearised); None for one.
    """
    total, count, documents = float(nats.sum()), int(tokens.sum()), len(nats)
    loss = total / count
    error = None
    if documents > 1:
        error = math.sqrt(documents / (documents - 1) * np.square(nats - loss * tokens).sum()) / count
    return {
        "loss": loss,
        "nats_sum": total,
        "tokens": count,
        "bytes": size,
        "documents": documents,
        "loss_se_documents": error,
        "bits_per_byte": total / math.log(2) / size,
        "perplexity": math.exp(loss),
    }


def validation_loss(cfg: DictConfig, method: Method, corpus: Corpus) -> float:
    """Mean over the specialists of the loss on the first train.curve_tokens tokens of their validation parts."""
    losses = []
    for name in corpus.specialists:
        documents = [tokens for _, tokens, _ in corpus.documents(name, "validation")]
        model = method.specialist(domain_weights(corpus, name, "estimate") if method.takes_h else None, documents)
        tokens = np.concatenate(documents)
        nats, count = document_losses(model, [tokens[: cfg.train.curve_tokens]], cfg.train.length)
        losses.append(nats.sum() / count.sum())
    return float(np.mean(losses))


@dataclass(frozen=True)
class Cell:
    """What one record rests on, under the names of the record's fields (results/README.md)."""

    specialist: str
    part: str
    h_source: str
    estimator: str | None = None
    n_documents: int | None = None
    document_draw: int | None = None
    budget_tokens: int = 0


def cells(cfg: DictConfig, method: Method, corpus: Corpus) -> Iterator[Cell]:
    """Every cell that the configuration asks for: the specialists and generic text on evaluate.parts at what the method
    knows of h, and the controls on the test part."""
    for name in [*corpus.specialists, GENERIC][: None if method.serves_generic else -1]:
        own = {"h_source": "none" if not method.takes_h else "h_0"}
        if method.takes_h and name != GENERIC:
            own = {"h_source": "estimate", "estimator": "nearest_centroid",
                   "n_documents": len(corpus.documents(name, "estimate"))}
        for part in cfg.evaluate.parts:
            yield Cell(name, part, **own)
        if method.takes_h and name != GENERIC and "test" in cfg.evaluate.parts:
            for control in CONTROLS:
                yield Cell(name, "test", control)


def specialist(method: Method, corpus: Corpus, cell: Cell) -> nn.Module:
    """The model that a cell is about."""
    validation = [tokens for _, tokens, _ in corpus.documents(cell.specialist, "validation")]
    return method.specialist(domain_weights(corpus, cell.specialist, cell.h_source), validation)


def evaluate_all(cfg: DictConfig, method: Method, corpus: Corpus) -> Iterator[dict]:
    """The varying fields of every record of a run."""
    for cell in cells(cfg, method, corpus):
        documents = corpus.documents(cell.specialist, cell.part)
        model = specialist(method, corpus, cell)
        nats, tokens = document_losses(model, [tokens for _, tokens, _ in documents], cfg.train.length)
        yield asdict(cell) | summarize(nats, tokens, sum(size for _, _, size in documents))


def alpha_table(method: Method, corpus: Corpus) -> pd.DataFrame:
    """Coefficients at each specialist's estimated h: specialist, expert, alpha. Empty for a method without experts."""
    rows = []
    for name in [*corpus.specialists, GENERIC] if method.n_experts else []:
        alpha = method.coefficients(domain_weights(corpus, name, "estimate")[None])[0]
        rows += [(name, expert, value) for expert, value in enumerate(alpha.tolist())]
    return pd.DataFrame(rows, columns=["specialist", "expert", "alpha"])
