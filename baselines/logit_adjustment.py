"""A trained model whose logits are shifted by the token frequencies at h: how far do these alone go?"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from baselines.untrained import Untrained
from soe_bench.errors import UserError
from soe_bench.method import ExpertMethod, Method, MethodContext

PRIOR_TOKENS = 20  # of each domain, that are added to what follows each token


class Adjusted(nn.Module):
    """A model whose logits are shifted by a row of a table (m, V): by its only row, or by that of the token before."""

    def __init__(self, base: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.base = copy.deepcopy(base)
        self.register_buffer("table", table)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.base(tokens) + self.table[tokens % len(self.table)]


class LogitAdjustment(Untrained):
    """The model of its parent run with `strength * log(p(w | h) / p(w | h_0))` added to the logit of each token w, as
    in Menon et al., https://arxiv.org/abs/2007.07314. It trains nothing itself. The parent is generic pretraining, so
    that its specialists know these frequencies of h and nothing else; or a soup, to see what that knows beside them.

    `order` 1: p(w | h) = sum_i h_i p_i(w) is the frequency of w in training text of the mixture h. Each domain's
    frequencies p_i are counted in all training text, which is more than the model reads where its budget is less than
    one pass. V further tokens of the generic text are added, V being the vocabulary's size, so that none is
    0. `order` 2: the frequency after the token before, counted in the same text, with PRIOR_TOKENS further tokens of
    each domain after every token.
    """

    takes_h = True
    controls = ("uniform", "shuffled", "h_0")

    def __init__(self, name: str, strength: float, parent: Mapping, order: int = 1) -> None:
        super().__init__(name, 0.0, parent)
        self.strength, self.order = strength, order
        self.deployable = order == 1  # a specialist's table of pairs is larger than its model
        self.counted: Sequence[Tensor] = ()  # what stands for the text

    def start_from(self, parent: Method) -> None:
        if not (parent.one_model or isinstance(parent, ExpertMethod)) or (self.parent or {}).get("fraction") != 1:
            raise UserError(
                f"{self.label} trains nothing itself: set method.parent to one dense model, such as generic, or to a "
                "soup, with fraction 1"
            )
        self.model, self.pi = parent, parent.pi
        if parent.label != "generic":
            self.label += f"_of_{parent.label}"

    def build(self, context: MethodContext) -> None:
        self.model.build(replace(context, parent=None))
        self.context, self.flat = context, self.model.flat
        own = self.model.tensors()
        for name, value in (context.parent or {}).items():
            own[name].copy_(value)
        if context.domain_tokens is None:  # in planning
            return
        like = next(context.base.parameters())
        vocabulary = context.base(torch.zeros((1, 1), dtype=torch.long, device=like.device)).shape[-1]
        texts = [context.domain_tokens(i) for i in range(len(context.h_0))]
        counts = np.stack([np.bincount(text, minlength=vocabulary) for text in texts]).astype(np.float64)
        generic = counts.sum(0) + 1
        smoothed = counts + vocabulary * generic / generic.sum()
        self.sizes = torch.as_tensor(smoothed.sum(1)).to(like)  # (k,)
        self.frequencies = torch.as_tensor(smoothed / smoothed.sum(1, keepdims=True)).to(like)  # (k, V)
        self.counted = [self.frequencies]
        if self.order == 2:
            self.pairs = _pair_counts(texts, vocabulary).to(like)
            self.counted = [self.frequencies, self.pairs.values()]

    def shift(self, h: Tensor) -> Tensor:
        """What is added to the logits at h (R, k): tables (R, 1, V), or by the token before (R, V, V)."""
        return self.strength * (
            self._log_frequencies(h) - self._log_frequencies(self.weights_tensor(self.context.h_0)[None])
        )

    def _log_frequencies(self, h: Tensor) -> Tensor:
        if self.order == 1:
            return (h @ self.frequencies).log()[:, None]
        part = h / self.sizes  # of each domain's tokens
        seen = torch.sparse.mm(self.pairs, part.T).T.unflatten(1, (-1, self.frequencies.shape[1]))
        return torch.log_softmax((seen + PRIOR_TOKENS * (part @ self.frequencies)[:, None]).log(), 2)

    def specialist(self, h: np.ndarray | None, documents: Sequence[np.ndarray] = ()) -> nn.Module:
        model = self.model.specialist(h)
        return model if h is None else Adjusted(model, self.shift(self.weights_tensor(h)[None])[0])

    def logits(self, h: Tensor, tokens: Tensor) -> Tensor:
        shift = torch.stack([table[own % len(table)] for table, own in zip(self.shift(h), tokens, strict=True)])
        return self.model.logits(h, tokens) + shift

    def cost(self) -> dict[str, int]:
        cost, table = self.model.cost(), self.counted[0].shape[1] ** self.order if self.counted else 0
        return cost | {
            "stored_parameters": cost["stored_parameters"] + sum(numbers.numel() for numbers in self.counted),
            "deployed_parameters": cost["deployed_parameters"] + table,
        }


def _pair_counts(texts: Sequence[np.ndarray], vocabulary: int) -> Tensor:
    """(V * V, k) sparse: how often token w follows token v in each text, in row v V + w."""
    found = [np.unique(text[:-1].astype(np.int64) * vocabulary + text[1:], return_counts=True) for text in texts]
    rows = np.concatenate([pairs for pairs, _ in found])
    columns = np.repeat(np.arange(len(texts)), [len(pairs) for pairs, _ in found])
    values = torch.from_numpy(np.concatenate([counts for _, counts in found]))
    size = (vocabulary**2, len(texts))
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([rows, columns])), values, size, check_invariants=True
    ).coalesce()
