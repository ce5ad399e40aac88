"""Domain weights h, the distribution pi that training draws them from, and batches of mix(h) (Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from soe_bench.errors import UserError


def check_weights(h: np.ndarray, k: int) -> np.ndarray:
    """Returns h as float64 (k,). Raises UserError unless it is a point of the simplex of k domains."""
    h = np.asarray(h, dtype=np.float64)
    if h.shape != (k,):
        raise UserError(f"domain weights have shape {h.shape}, but the corpus has {k} domains: give {k} weights")
    if not np.all(np.isfinite(h)) or h.min() < 0 or abs(h.sum() - 1) > 1e-6:
        raise UserError(
            f"domain weights are off the simplex (least {h.min():.3g}, sum {h.sum():.6g}): they must be "
            "non-negative and sum to 1"
        )
    return h


@dataclass(frozen=True)
class MetaDistribution:
    """The distribution pi of the domain weights in training. The paper's is not confirmed; this one is ours.

    A fraction `generic_fraction` of the draws is h_0. Each other draw has between 1 and max_support domains, all these
    numbers equally likely. The domains are drawn without replacement, in proportion to h_0 or all alike (`domains`:
    `h_0` or `uniform`), and their weights are Dirichlet(concentration)."""

    max_support: int
    domains: str
    concentration: float
    generic_fraction: float

    def __str__(self) -> str:
        return (
            f"support 1..{self.max_support} by {self.domains}, Dirichlet({self.concentration:g}), "
            f"{self.generic_fraction:.0%} h_0"
        )

    def sample(self, rng: np.random.Generator, draws: int, h_0: np.ndarray) -> np.ndarray:
        """(draws, k) domain weights."""
        k = len(h_0)
        weights = np.zeros((draws, k))
        sizes = None if self.domains == "uniform" else h_0
        for row in weights:
            if rng.random() < self.generic_fraction:
                row[:] = h_0
                continue
            support = rng.choice(k, size=rng.integers(1, min(self.max_support, k) + 1), replace=False, p=sizes)
            row[support] = rng.dirichlet(np.full(len(support), self.concentration))
        return weights


class Mixture:
    """mix(h) = sum_i h_i D_i over the corpus: each sequence comes from domain i with probability h_i (Algorithm 1).

    The t-th sequence that a model takes from domain i depends on `seed`, i and t only, so it is the same for every
    method. `taken` (models, k) counts the sequences taken so far: with the seed it is the sampler's whole state. Raises
    UserError for a domain that is shorter than one sequence.
    """

    def __init__(self, streams: list[np.ndarray], length: int, seed: int, models: int = 1) -> None:
        self.streams, self.length, self.seed = streams, length, seed
        self.sizes = np.array([(len(stream) - 1) // length for stream in streams])
        if self.sizes.min() < 1:
            raise UserError(
                f"domain {int(self.sizes.argmin())} is shorter than one sequence of {length} tokens: "
                "raise data.minimum_domain_tokens or lower train.seq_len"
            )
        self.taken = np.zeros((models, len(streams)), dtype=np.int64)
        self._orders: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    @property
    def epochs(self) -> np.ndarray:
        """(models, k) passes of each model over each domain so far."""
        return self.taken / self.sizes

    def _next(self, model: int, domain: int) -> np.ndarray:
        epoch, place = divmod(int(self.taken[model, domain]), int(self.sizes[domain]))
        self.taken[model, domain] += 1
        if self._orders.get((model, domain), (-1, None))[0] != epoch:
            order = np.random.default_rng([self.seed, domain, epoch]).permutation(self.sizes[domain])
            self._orders[model, domain] = (epoch, order)
        start = self._orders[model, domain][1][place] * self.length
        return self.streams[domain][start : start + self.length + 1]

    def batch(self, rng: np.random.Generator, weights: np.ndarray, sequences: int, model: int = 0) -> np.ndarray:
        """Domain weights (R, k) -> tokens (R, sequences, length + 1), int64: the next sequences for a model. Raises
        UserError for weights off the simplex."""
        k = len(self.streams)
        domains = [rng.choice(k, size=sequences, p=_normalised(check_weights(h, k))) for h in weights]
        return np.stack([np.stack([self._next(model, i) for i in row]) for row in domains]).astype(np.int64)


def _normalised(h: np.ndarray) -> np.ndarray:
    """h (k,) with a sum that `rng.choice` accepts. That of a softmax in float32 is too far from 1 for it."""
    return h if abs(h.sum() - 1) < 1e-8 else h / h.sum()
