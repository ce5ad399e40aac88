"""Slerp merge: the experts on the great circle between them, two at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.merge_base import Merge
from soe_bench.method import MethodContext

COLLINEAR = 0.9995  # above this cosine (as in mergekit) the arc is a line
SMALLEST = 1e-8  # the least length that a tensor is divided by, as in mergekit


def slerp(t: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients of a and b at t in [0, 1] on the arc between them, at each cosine of their angle: Shoemake,
    "Animating rotation with quaternion curves", 1985, https://doi.org/10.1145/325165.325242, for vectors of any length.
    """
    line = cosine.abs() > COLLINEAR
    angle = torch.arccos(cosine.masked_fill(line, 0))
    return (
        torch.where(line, 1 - t, torch.sin((1 - t) * angle) / torch.sin(angle)),
        torch.where(line, t, torch.sin(t * angle) / torch.sin(angle)),
    )


class MergeSlerp(Merge):
    """Spherical linear interpolation, a tensor at a time as in mergekit. More than two experts are folded in the order
    of descending weight, with t = w_j / (the weights so far + w_j). t takes the place of a scale: there is none.

    Each fold is a linear combination of the experts, and their inner products give its angles: no fold reads them.
    """

    def build(self, context: MethodContext) -> None:
        super().build(context)
        if context.parent is not None:
            self.parts = self.models.split(self.flat.sizes, dim=1)
            self.products = torch.stack([part.double() @ part.double().T for part in self.parts])  # (tensors, m, m)

    def merged(self, weights: Tensor) -> Tensor:
        weights, products = weights.double(), self.products
        first, *others = weights.argsort(descending=True, stable=True).tolist()
        one_hot = torch.eye(self.count, dtype=weights.dtype, device=weights.device)
        folded, so_far = one_hot[first].expand(len(products), -1), weights[first]  # (tensors, m) coefficients
        for j in others:
            so_far = so_far + weights[j]
            inner = torch.einsum("lij,lj->li", products, folded)
            lengths = ((folded * inner).sum(1), products[:, j, j])
            cosine = inner[:, j] / (lengths[0].clamp_min(SMALLEST**2) * lengths[1].clamp_min(SMALLEST**2)).sqrt()
            a, b = slerp(weights[j] / so_far, cosine)
            folded = a[:, None] * folded + b[:, None] * one_hot[j]
        folded = folded.to(self.models.dtype)
        return torch.cat([coefficients @ part for coefficients, part in zip(folded, self.parts, strict=True)])
