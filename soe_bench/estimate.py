"""The domain weights h of a specialist: Algorithm 3's estimate, its variants, and the controls that test whether h
matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import Tensor

from soe_bench.data import domains
from soe_bench.data.corpus import Corpus
from soe_bench.data.splits import GENERIC
from soe_bench.evaluate import IGNORED, shuffled, windows
from soe_bench.method import ExpertMethod, Method
from soe_bench.ops.flat import forward_at
from soe_bench.ops.gradient import SMALL, sequences_at_once

PRIOR_TOKENS = 2_000  # weight of h_0 in the smoothed estimate: about four passages
TUNING_WINDOWS = 4  # windows of text per gradient step
TUNING_START = 0.1  # weight of h_0 in the h that tuning starts from: a softmax has no gradient at a weight of 0
# Steps of Adam, and its learning rate. For h, 50 steps at 0.1 end within 0.001 nats/token of these.
H_STEPS, H_RATE = 20, 0.4
COEFFICIENTS_STEPS, COEFFICIENTS_RATE = 50, 0.02


def own_weights(corpus: Corpus, specialist: str) -> np.ndarray:
    """(k,) weights of a specialist by Algorithm 3, from all its estimate documents; of generic text, h_0."""
    return corpus.h_0 if specialist == GENERIC else estimate(corpus, specialist)


def domain_weights(corpus: Corpus, specialist: str, h_source: str) -> np.ndarray | None:
    """(k,) weights for a specialist, as `h_source` says; None stands for no domain information.

    `estimate`: Algorithm 3 on all its estimate documents (for generic text: h_0). `uniform`: 1/k. `shuffled`: the
    estimate of the next specialist in the alphabet. `h_0`: the generic weights. None for `zero` (alpha = 0, only the
    shared parameters) and `none` (the method takes no h). The source `tuned` needs the method: see `tuned_weights`.
    Raises KeyError for any other.
    """
    if h_source in ("zero", "none"):
        return None
    if h_source == "uniform":
        return np.full(corpus.k, 1 / corpus.k)
    if h_source == "h_0" or specialist == GENERIC:
        return corpus.h_0
    if h_source == "shuffled":
        names = corpus.specialists
        specialist = names[(names.index(specialist) + 1) % len(names)]
    elif h_source != "estimate":
        raise KeyError(h_source)
    return estimate(corpus, specialist)


def estimate(
    corpus: Corpus, specialist: str, estimator: str = "nearest_centroid", n_documents: int | None = None, draw: int = 0
) -> np.ndarray:
    """(k,) weights from the specialist's estimate documents, or from `n_documents` of them, drawn with the seed `draw`.

    `nearest_centroid`: each passage's tokens count for the nearest centroid (Algorithm 3); `tuned_coefficients` starts
    from it. `smoothed`: the same with PRIOR_TOKENS tokens of h_0 added. `soft`: each passage is divided among the
    domains by its probability under spherical Gaussians around the centroids, with the variance of the generic training
    passages around theirs. Raises KeyError for any other.
    """
    if estimator == "soft":
        rows = corpus.estimate_rows(specialist, n_documents, draw)
        responsibilities = _responsibilities(corpus, specialist).loc[rows.index]
        return np.average(responsibilities, axis=0, weights=rows.tokens)
    h = corpus.histogram(specialist, n_documents, draw)
    if estimator in ("nearest_centroid", "tuned_coefficients"):
        return h
    if estimator == "smoothed":
        tokens = corpus.estimate_rows(specialist, n_documents, draw).tokens.sum()
        return (tokens * h + PRIOR_TOKENS * corpus.h_0) / (tokens + PRIOR_TOKENS)
    raise KeyError(estimator)


@lru_cache(maxsize=1)  # the specialists come one after the other, each with many draws
def _responsibilities(corpus: Corpus, specialist: str) -> pd.DataFrame:
    """Probabilities of the k domains, one row per estimate passage, indexed as corpus.passages."""
    rows = corpus.estimate_rows(specialist)
    vectors = corpus.embedder.embed(corpus.texts(rows))
    squared = domains.squared_distances(vectors, corpus.centroids)
    generic = corpus.rows(GENERIC, "train").distance.to_numpy(np.float64)
    variance = np.square(generic).mean() / vectors.shape[1]
    return pd.DataFrame(softmax(-squared / (2 * variance), axis=1), index=rows.index)


def tuning_start(h: np.ndarray, h_0: np.ndarray) -> np.ndarray:
    """The weights, as h (k,) or (R, k), that tuning starts from: near h, and not 0 on any domain of the corpus."""
    return (1 - TUNING_START) * h + TUNING_START * h_0


def tuned_weights(
    method: Method, h: np.ndarray, documents: Sequence[Sequence[np.ndarray]], steps: int = H_STEPS
) -> np.ndarray:
    """(R, k) weights, each a softmax of k free numbers, tuned by gradient on the text of its `documents[r]` (token
    ids). They start near h (R, k). Up to `tuned_at_once` rows are tuned together, so that the experts are read once
    for all."""
    start = tuning_start(h, method.context.h_0)
    scores = torch.stack([method.weights_tensor(row) for row in start]).log().requires_grad_()
    minimise(scores, lambda tokens: method.logits(scores.softmax(1), tokens), method, documents, steps, H_RATE)
    return scores.detach().double().softmax(1).cpu().numpy()


def tuned_coefficients(
    method: ExpertMethod,
    h: np.ndarray,
    documents: Sequence[Sequence[np.ndarray]],
    steps: int = COEFFICIENTS_STEPS,
) -> Tensor:
    """Coefficients alpha (R, n), each tuned by gradient on the text of its `documents[r]` (token ids). They start from
    the router's alpha at h (R, k)."""
    with torch.no_grad():
        alpha = method.coefficients(h).clone()
    alpha.requires_grad_()

    def logits(tokens: Tensor) -> Tensor:
        return forward_at(method.context.base, method.flat, method.instantiate(alpha), tokens)

    minimise(alpha, logits, method, documents, steps, COEFFICIENTS_RATE)
    return alpha.detach()


def tuned_at_once(method: Method) -> int:
    """How many specialists fill one pass of tuning: for a larger base model one, as in training."""
    device = next(method.context.base.parameters()).device.type
    if method.flat.size >= SMALL[device]:
        return 1
    return max(1, sequences_at_once(device, method.context.seq_len) // TUNING_WINDOWS)


def minimise(
    parameter: Tensor,
    logits: Callable[[Tensor], Tensor],
    method: Method,
    documents: Sequence[Sequence[np.ndarray]],
    steps: int,
    rate: float,
) -> None:
    """Minimises by Adam, in place in the rows of `parameter` (R, ...), each row's mean loss on windows of its own
    `documents[r]` (token ids), TUNING_WINDOWS per step. `logits` maps tokens (R, B, T) to (R, B, T, V), differentiable
    in `parameter`; its row r depends on the parameter's row r alone, so that the rows do not affect each other."""
    batches = [_batches(own, method.context.seq_len, steps) for own in documents]
    inputs, targets = (torch.from_numpy(np.stack(x, 1)).to(parameter.device) for x in zip(*batches, strict=True))
    adam = torch.optim.Adam([parameter], lr=rate)
    for own, target in zip(inputs, targets, strict=True):  # (R, B, T)
        losses = F.cross_entropy(logits(own).flatten(0, 2), target.flatten(), ignore_index=IGNORED, reduction="none")
        loss = losses.view_as(target).sum((1, 2)) / (target != IGNORED).sum((1, 2))
        (parameter.grad,) = torch.autograd.grad(loss.sum(), parameter)
        adam.step()


def _batches(documents: Sequence[np.ndarray], length: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (steps, TUNING_WINDOWS, length): the documents' windows, one random order after another."""
    inputs, targets, _ = windows(documents, length)
    rows = shuffled(len(inputs), steps * TUNING_WINDOWS, seed=0).reshape(steps, TUNING_WINDOWS)
    return inputs[rows], targets[rows]
