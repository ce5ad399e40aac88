"""The gate: is a specialist better than the generic models on held-out text of its own documents?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
LEAST = 2  # held-out documents (or passages of few documents) without which there is no interval


@dataclass(frozen=True)
class Row:
    """A model's loss on the held-out text in nats per token, its bits a byte, and its difference to the better generic
    model with an interval at LEVEL (None for that model itself)."""

    name: str
    loss: float
    bits_per_byte: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """`ship`: whether the specialist is not worse than the better generic model, `reference`. `sure`: whether the
    interval of the difference leaves out 0. `units` held-out documents or passages with `tokens` tokens."""

    rows: list[Row]
    specialist: str
    reference: str
    ship: bool
    sure: bool
    units: int
    tokens: int

    @property
    def words(self) -> str:
        """The verdict as a sentence."""
        row = next(row for row in self.rows if row.name == self.specialist)
        if not math.isfinite(row.loss):
            return f"The loss of the {self.specialist} is not a number."
        way = "lower" if row.difference < 0 else "higher" if row.difference > 0 else "different"
        sentence = (
            f"On {self.units} held-out texts the loss of the {self.specialist} is {abs(row.difference):.3f} nats per "
            f"token {way} than that of the {self.reference} (95 % interval of the difference: {row.low:+.3f} to "
            f"{row.high:+.3f})."
        )
        return sentence if self.sure else f"{sentence} The interval covers 0: more text may turn the verdict."


def judge(
    specialist: str,
    generic: list[str],
    nats: Mapping[str, np.ndarray],
    tokens: np.ndarray,
    size: int,
    vocabulary: int,
) -> Verdict:
    """The verdict from each model's summed loss on each of D held-out texts, nats[name] (D,), their predicted tokens
    (D,) and their bytes in all, `size`. The specialist is compared with the better of the models `generic`. Uniform
    guessing over the vocabulary is the last row. D is at least LEAST.

    Losses are those of all tokens together. The interval of a difference is Student's over the texts, of the ratio of
    nats to tokens (linearised).
    """
    total = tokens.sum()
    losses = {name: float(values.sum() / total) for name, values in nats.items()}
    reference = min(generic, key=lambda name: losses[name] if math.isfinite(losses[name]) else math.inf)
    guess = math.log(vocabulary)
    rows = []
    for name, values in {**nats, "uniform guessing": guess * tokens}.items():
        interval = () if name == reference else difference(values - nats[reference], tokens)
        loss = losses.get(name, guess)
        rows.append(Row(name, loss, loss * total / math.log(2) / size, *interval))
    own = next(row for row in rows if row.name == specialist)
    ship = own.difference is not None and own.difference <= 0
    sure = own.low is not None and (own.high < 0 or own.low > 0)
    return Verdict(rows, specialist, reference, ship, sure, len(tokens), int(total))


def difference(nats: np.ndarray, tokens: np.ndarray) -> tuple[float, float, float]:
    """The mean (nats per token) of paired differences of D texts, and the ends of its interval."""
    count, total = len(nats), tokens.sum()
    mean = float(nats.sum() / total)
    error = math.sqrt(count / (count - 1) * np.square(nats - mean * tokens).sum()) / total
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    return mean, mean - half, mean + half
