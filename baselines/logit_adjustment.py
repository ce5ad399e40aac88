"""Generic pretraining that knows the token frequencies at h and nothing else: how far do these alone go?"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from baselines.generic import Generic
from soe_bench.errors import UserError
from soe_bench.method import Method, MethodContext


class Adjusted(nn.Module):
    """A model whose logits are all shifted by one vector (V,)."""

    def __init__(self, base: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.base = copy.deepcopy(base)
        self.register_buffer("shift", shift)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.base(tokens) + self.shift


class LogitAdjustment(Generic):
    """The generic model with `strength * log(p(w | h) / p(w | h_0))` added to the logit of each token w, as in Menon et
    al., https://arxiv.org/abs/2007.07314. p(w | h) = sum_i h_i p_i(w) is the frequency of w in training text of the
    mixture h. Each domain's frequencies p_i are counted with V further tokens of the generic text, V being the
    vocabulary's size, so that none is 0. It trains nothing itself.
    """

    takes_h = True
    controls = ("uniform", "shuffled", "h_0")
    one_model = False

    def __init__(self, name: str, strength: float, parent: Mapping) -> None:
        super().__init__(name, 0.0, parent)
        self.strength = strength

    def start_from(self, parent: Method) -> None:
        if not parent.one_model or (self.parent or {}).get("fraction") != 1:
            raise UserError(
                f"{self.label} trains nothing itself: set method.parent to one dense model, such as generic, with "
                "fraction 1"
            )

    def build(self, context: MethodContext) -> None:
        super().build(context)
        if context.token_counts is not None:  # None in planning
            counts = context.token_counts().astype(np.float64)
            generic = counts.sum(0) + 1
            smoothed = counts + counts.shape[1] * generic / generic.sum()
            frequencies = smoothed / smoothed.sum(1, keepdims=True)
            self.frequencies = torch.as_tensor(frequencies).to(self.models.value)

    def shift(self, h: Tensor) -> Tensor:
        """What is added to the logits (R, V) at h (R, k)."""
        generic = self.weights_tensor(self.context.h_0) @ self.frequencies
        return self.strength * ((h @ self.frequencies).log() - generic.log())

    def specialist(self, h: np.ndarray | None, documents: Sequence[np.ndarray] = ()) -> nn.Module:
        model = super().specialist(h)
        return model if h is None else Adjusted(model, self.shift(self.weights_tensor(h)[None])[0])

    def logits(self, h: Tensor, tokens: Tensor) -> Tensor:
        return super().logits(h, tokens) + self.shift(h)[:, None, None]
