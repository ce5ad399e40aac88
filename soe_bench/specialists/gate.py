"""The gate: is a specialist better than the generic models on held-out text of its own documents?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from soe_bench.evaluate import ratio_error

LEVEL = 0.95
GUESSING = "uniform guessing"
LEAST = 2  # held-out documents (or passages of few documents) without which there is no interval


@dataclass(frozen=True)
class HeldOutDifference:
    """The mean of paired differences in nats per token, and its interval at LEVEL."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A model's loss on the held-out text in nats per token, its bits per byte, and its difference to the best
    generic model (None for that model itself)."""

    name: str
    loss: float
    bits_per_byte: float
    difference: HeldOutDifference | None


@dataclass(frozen=True)
class Verdict:
    """`ship`: whether the specialist is not worse than the best generic model, `reference`. `sure`: whether the
    interval of the difference leaves out 0. `units` held-out documents, or the passages of `documents` too few ones,
    with `tokens` tokens."""

    rows: list[Row]
    specialist: str
    reference: str
    ship: bool
    sure: bool
    units: int
    documents: int
    tokens: int

    def row(self, name: str) -> Row:
        """The row of a model."""
        return next(row for row in self.rows if row.name == name)

    @property
    def words(self) -> str:
        """The verdict as a sentence."""
        found = self.row(self.specialist).difference
        if found is None or not math.isfinite(found.mean):
            return f"The loss of the {self.specialist} is not a number."
        few = f"passages of {self.documents} document{'s' * (self.documents > 1)}"
        texts = "held-out documents" if self.units == self.documents else f"held-out {few}"
        sentence = (
            f"On {self.units} {texts} the loss of the {self.specialist} is {abs(found.mean):.3f} nats per token "
            f"{'higher' if found.mean > 0 else 'lower'} than that of the {self.reference} (95 % interval of the "
            f"difference: {found.low:+.3f} to {found.high:+.3f})."
        )
        if not self.sure:
            sentence += " The interval covers 0: more documents, or a longer training, may change the verdict."
        if self.units != self.documents:
            sentence += " It is for passages of these documents: other documents may differ by more."
        return sentence


def judge(
    specialist: str,
    generic: list[str],
    nats: Mapping[str, np.ndarray],
    tokens: np.ndarray,
    size: int,
    vocabulary: int,
    documents: int,
) -> Verdict:
    """The verdict from each model's summed loss on each of D held-out texts, nats[name] (D,), their predicted tokens
    (D,) and their bytes in all, `size`. The texts are of so many `documents`: D, or fewer that were cut into passages.
    The specialist is compared with the best of the models `generic`. Uniform guessing over the vocabulary is the last
    row. D is at least LEAST.

    Losses are those of all tokens together. The interval of a difference is Student's over the texts, of the ratio of
    nats to tokens (linearised).
    """
    total = tokens.sum()
    losses = {name: float(values.sum() / total) for name, values in nats.items()}
    reference = min(generic, key=lambda name: losses[name] if math.isfinite(losses[name]) else math.inf)
    guess = math.log(vocabulary)
    rows = []
    for name, values in {**nats, GUESSING: guess * tokens}.items():
        found = None if name == reference else difference(values - nats[reference], tokens)
        loss = losses.get(name, guess)
        rows.append(Row(name, loss, loss * total / math.log(2) / size, found))
    own = next(row for row in rows if row.name == specialist).difference
    ship = own is not None and own.mean <= 0
    sure = own is not None and (own.high < 0 or own.low > 0)
    return Verdict(rows, specialist, reference, ship, sure, len(tokens), documents, int(total))


def difference(nats: np.ndarray, tokens: np.ndarray) -> HeldOutDifference:
    """Of D texts with the paired differences `nats` (D,), each a sum over `tokens` (D,)."""
    mean = float(nats.sum() / tokens.sum())
    half = float(stdtrit(len(nats) - 1, (1 + LEVEL) / 2)) * ratio_error(nats, tokens)
    return HeldOutDifference(mean, mean - half, mean + half)
