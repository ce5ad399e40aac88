"""Slerp merge: the experts on the great circle between them, two at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.merging import Merge

COLLINEAR = 0.9995  # above this cosine (as in mergekit) the arc is a line


def slerp(t: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The point at t in [0, 1] on the arc from a (N,) to b (N,): Shoemake, "Animating rotation with quaternion curves",
    1985, https://doi.org/10.1145/325165.325242, for vectors of any length."""
    cosine = F.normalize(a, dim=0, eps=1e-8) @ F.normalize(b, dim=0, eps=1e-8)
    if cosine.abs() > COLLINEAR:
        return (1 - t) * a + t * b
    angle = torch.arccos(cosine)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


class MergeSlerp(Merge):
    """Spherical linear interpolation, a tensor at a time as in mergekit. More than two experts are folded in the order
    of descending weight, with t = w_j / (the weights so far + w_j). t takes the place of a scale: there is none.
    """

    def merged(self, weights: Tensor) -> Tensor:
        first, *others = weights.argsort(descending=True, stable=True).tolist()
        merged, so_far = self.models[first].split(self.flat.sizes), weights[first]
        for j in others:
            so_far = so_far + weights[j]
            t = weights[j] / so_far
            merged = [slerp(t, a, b) for a, b in zip(merged, self.models[j].split(self.flat.sizes), strict=True)]
        return torch.cat(tuple(merged))
