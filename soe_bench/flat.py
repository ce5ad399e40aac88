"""Any module's parameters as one flat vector, and the module run at R such vectors in one batched pass."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

# Attention on CPU has no batching rule and runs draw by draw under vmap; a rule of our own was measured no faster.
warnings.filterwarnings("ignore", message="There is a performance drop because we have not yet implemented")


class Flat:
    """The order, shapes and offsets of a module's parameters inside a flat vector of `size` = P numbers."""

    def __init__(self, module: nn.Module) -> None:
        self.shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.size = sum(self.sizes)

    def flatten(self, module: nn.Module) -> Tensor:
        """The parameters of `module` as one new vector (P,)."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta (..., P) under the parameters' names, each (..., *shape)."""
        parts = theta.split(self.sizes, dim=-1)
        return {name: part.unflatten(-1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def decay_mask(self, like: Tensor) -> Tensor:
        """(P,) ones for the matrices, which weight decay shrinks; zeros for vectors (norms and biases)."""
        return torch.cat([like.new_full((shape.numel(),), float(len(shape) > 1)) for shape in self.shapes.values()])


def forward_at(module: nn.Module, flat: Flat, theta: Tensor, inputs: Tensor) -> Tensor:
    """`module` at R parameter vectors: theta (R, P), inputs (R, B, ...) -> outputs (R, B, ...), in one batched pass."""

    def one(theta: Tensor, inputs: Tensor) -> Tensor:
        return functional_call(module, flat.unflatten(theta), (inputs,))

    if len(theta) == 1:  # vmap over a single model would only cost time
        return one(theta[0], inputs[0])[None]
    return vmap(one)(theta, inputs)
