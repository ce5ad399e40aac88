"""Aligned merge: the average of the experts after their units are permuted to match those of the first one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from baselines.merge_linear import MergeLinear
from soe_bench.errors import UserError
from soe_bench.method import MethodContext
from soe_bench.model import Llama

Parameters = Mapping[str, Tensor]


def unit_counts(model: Llama) -> dict[str, int]:
    """The groups of units whose order can change without changing the function of the model, with their sizes: the
    residual stream, and of each layer the heads and the hidden units of the MLP.

    Heads move as wholes: within a head, the rotary positions tell queries and keys apart. (Values could be permuted
    there too, which is left out.)
    """
    counts = {"residual": model.model.norm.weight.numel()}
    for i, layer in enumerate(model.model.layers):
        counts |= {f"self_attn.{i}": layer.self_attn.heads, f"mlp.{i}": layer.mlp.up_proj.out_features}
    return counts


def axes(name: str) -> tuple[str | None, ...]:
    """The group of units on each axis of the parameter `name` of Llama; None for the vocabulary."""
    *place, module, _ = name.split(".")
    if "norm" in module:
        return ("residual",)
    if module in ("embed_tokens", "lm_head"):
        return None, "residual"
    own = f"{place[-1]}.{place[-2]}"  # such as mlp.0
    return ("residual", own) if module in ("o_proj", "down_proj") else (own, "residual")


def permuted(name: str, tensor: Tensor, permutations: Parameters, without: str | None = None) -> Tensor:
    """The parameter with the units of each group, `without` one, in the order of its permutation."""
    for axis, group in enumerate(axes(name)):
        if group is not None and group != without:
            units = tensor.unflatten(axis, (len(permutations[group]), -1))  # a head has several rows
            tensor = units.index_select(axis, permutations[group]).flatten(axis, axis + 1)
    return tensor


def match(reference: Parameters, other: Parameters, counts: Mapping[str, int]) -> dict[str, Tensor]:
    """For each group of units the order in which those of `other` are most like those of `reference`: the permutations
    with a locally largest sum of products of the parameters of both. Git Re-Basin's weight matching (Ainsworth, Hayase,
    Srinivasa, https://arxiv.org/abs/2209.04836, section 3.2 and Algorithm 1): one group after the other is solved as
    an assignment problem, until none gets better.

    The paper takes the groups in a random order. Here the residual stream is first, because the embedding, which no
    other permutation moves, tells its units.
    """
    permutations = {group: torch.arange(count) for group, count in counts.items()}

    def products(group: str) -> Tensor:
        """(count, count): of the unit i of the reference and the unit j of the other model, summed over parameters."""
        total = torch.zeros(counts[group], counts[group], dtype=torch.float64)
        for name, own in reference.items():
            if group in axes(name):
                axis = axes(name).index(group)
                each = own, permuted(name, other[name], permutations, without=group)
                a, b = (x.double().movedim(axis, 0).reshape(counts[group], -1) for x in each)
                total += a @ b.T
        return total

    better = True
    while better:
        better = False
        for group, current in permutations.items():
            score = products(group)
            rows, columns = (torch.from_numpy(x) for x in linear_sum_assignment(score.numpy(), maximize=True))
            if score[rows, columns].sum() > score[rows, current].sum() + 1e-9 * score.abs().max():
                permutations[group], better = columns, True
    return permutations


class MergeAligned(MergeLinear):
    """Weight averaging after alignment: the merge for experts from separate initialisations. Each expert is matched to
    the first, which leaves its function as it is. (For more than two models the paper has MergeMany, which matches each
    to the mean of the others in turn.)
    """

    usual_experts = "separate_experts"

    def build(self, context: MethodContext) -> None:
        if not isinstance(context.base, Llama):
            raise UserError(f"{self.label} knows the units of soe_bench.model.Llama only: use merge_linear instead")
        super().build(context)
        if context.parent is not None:
            counts = unit_counts(context.base)
            first, *others = (self.flat.unflatten(model) for model in self.models.cpu())
            orders = [match(first, other, counts) for other in others]
            aligned = [
                torch.cat([permuted(name, tensor, order).flatten() for name, tensor in other.items()])
                for other, order in zip(others, orders, strict=True)
            ]
            self.models = torch.stack([self.models[0], *(theta.to(self.models) for theta in aligned)])
