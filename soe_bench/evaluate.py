"""Evaluation: the loss of a model on held-out documents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soe_bench.errors import UserError

IGNORED = -100  # target of padding
# Windows per forward pass: on CPU the logits of 8 stay in the cache (1.6 times as fast as 64 on one core).
WINDOWS = {"cpu": 8, "cuda": 128}


def windows(documents: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts each document into windows of `length` predictions: inputs and targets (N, length), document index (N,).

    Each window starts without context. Every token but a document's first (end of text) is predicted exactly once.
    Raises UserError if there is no token to predict.
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
def check_vocabulary(model: nn.Module, size: int) -> None:
    """Raises UserError unless the model maps tokens (B, T) to logits (B, T, size): losses over different vocabularies
    cannot be compared."""
    tokens = torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device)
    shape = tuple(model(tokens).shape)
    if shape != (1, 2, size):
        raise UserError(
            f"the specialist's logits on tokens (1, 2) have shape {shape}, not (1, 2, {size}): it must "
            f"predict over the {size} tokens of the corpus, as every method does"
        )


@torch.no_grad()
def token_losses(model: nn.Module, inputs: np.ndarray, targets: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """The loss in nats at each of the targets (N, T), of the model on the inputs (N, T). Yields, a few rows at a time,
    the slice of rows and their losses (rows, up to T), without columns at the end that are IGNORED in all of them. The
    loss is 0 where the target is IGNORED."""
    device = next(model.parameters()).device
    for start in range(0, len(inputs), WINDOWS[device.type]):
        rows = slice(start, start + WINDOWS[device.type])
        used = int((targets[rows] != IGNORED).sum(1).max())  # padding stands at the end
        target = torch.from_numpy(targets[rows, :used]).to(device)
        logits = model(torch.from_numpy(inputs[rows, :used]).to(device))
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED, reduction="none")
        yield rows, loss.view(target.shape)


def document_losses(model: nn.Module, documents: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Summed loss in nats (D,) and number of predicted tokens (D,) for each of D documents (arrays of token ids)."""
    inputs, targets, owners = windows(documents, length)
    counts = (targets != IGNORED).sum(1)
    order = np.argsort(-counts, kind="stable")  # windows of about one length side by side, so that little is padding
    owners = owners[order]
    nats, tokens = np.zeros(len(documents)), np.zeros(len(documents), dtype=np.int64)
    for rows, loss in token_losses(model, inputs[order], targets[order]):
        np.add.at(nats, owners[rows], loss.sum(1, dtype=torch.float64).cpu().numpy())
    np.add.at(tokens, owners, counts[order])
    return nats, tokens


def mean_loss(model: nn.Module, documents: Sequence[np.ndarray], length: int) -> float:
    """Nats per token of all documents (arrays of token ids) together."""
    nats, tokens = document_losses(model, list(documents), length)
    return float(nats.sum() / tokens.sum())


def copying_gain(model: nn.Module, passages: np.ndarray) -> float:
    """How much lower the loss of N passages of L > 1 tokens, (N, L), is at their second reading: nats per token, mean
    over all tokens but each passage's first. The model reads each passage twice in a row.

    0: the model does not copy from its context. Models learn to copy within a short phase of training, in which
    their loss falls (Olsson et al. 2022, In-context Learning and Induction Heads, https://arxiv.org/abs/2209.11895).
    """
    length, twice = passages.shape[1], np.concatenate([passages, passages], 1).astype(np.int64)
    gains = [
        float((loss[:, : length - 1] - loss[:, length:]).sum(dtype=torch.float64))
        for _, loss in token_losses(model, twice[:, :-1], twice[:, 1:])
    ]
    return sum(gains) / (len(passages) * (length - 1))


def shuffled(n: int, count: int, seed: int) -> np.ndarray:
    """(count,) numbers below n: one random permutation of them all after another, drawn from `seed`."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(n) for _ in range(-(-count // n))])[:count]


def ratio_error(nats: np.ndarray, tokens: np.ndarray) -> float:
    """Standard error over D > 1 documents of the ratio of nats (D,) to tokens (D,), linearised."""
    documents, total = len(nats), tokens.sum()
    residuals = nats - nats.sum() / total * tokens
    return math.sqrt(documents / (documents - 1) * np.square(residuals).sum()) / total


def summarize(nats: np.ndarray, tokens: np.ndarray, size: int) -> dict[str, Any]:
    """The loss fields of a record, from each document's nats (D,) and tokens (D,). `size` is the text's bytes.

    `loss_se_documents` is the standard error of the ratio nats/tokens over documents (linearised); None if there is one
    document.
    """
    total, count, documents = float(nats.sum()), int(tokens.sum()), len(nats)
    loss = total / count
    error = None
    if documents > 1:
        error = ratio_error(nats, tokens)
    return {
        "loss": loss,
        "nats_sum": total,
        "tokens": count,
        "bytes": size,
        "documents": documents,
        "loss_se_documents": error,
        "bits_per_byte": total / math.log(2) / size,
    }
