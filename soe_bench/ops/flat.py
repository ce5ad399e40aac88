"""Any module's parameters as one flat vector, and the module run at R such vectors in one batched pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

Forward = Callable[[nn.Module, Mapping[str, Tensor], Tensor], Tensor]
BLOCK = 2**15  # columns of a combination in blocks


class Flat:
    """The order, shapes and offsets of a module's parameters inside a flat vector of `size` = P numbers: of all of
    them, or without `frozen` of those that require a gradient."""

    def __init__(self, module: nn.Module, frozen: bool = True) -> None:
        self.shapes = {name: x.shape for name, x in module.named_parameters() if frozen or x.requires_grad}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.size = sum(self.sizes)

    def flatten(self, module: nn.Module) -> Tensor:
        """The parameters of `module` as one new vector (P,)."""
        parts = [module.get_parameter(name).detach().reshape(-1) for name in self.shapes]
        return torch.cat(parts) if parts else torch.empty(0)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta (..., P) under the parameters' names, each (..., *shape)."""
        parts = theta.split(self.sizes, dim=-1)
        return {name: part.unflatten(-1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    @cached_property
    def spans(self) -> list[tuple[int, int, bool]]:
        """(start, stop, decays) of the columns, in order. Weight decay shrinks the columns of matrices, where `decays`
        is true, and not those of vectors (norms and biases)."""
        spans, start = [], 0
        for decays, shapes in groupby(self.shapes.values(), lambda shape: len(shape) > 1):
            stop = start + sum(shape.numel() for shape in shapes)
            spans.append((start, stop, decays))
            start = stop
        return spans


def forward_at(module: nn.Module, flat: Flat, theta: Tensor, inputs: Tensor) -> Tensor:
    """`module` at R parameter vectors: theta (R, P), inputs (R, B, ...) -> outputs (R, B, ...), in one batched pass."""
    return forward(module, flat.unflatten(theta), inputs)


def forward(module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """`module` at R values of each of its parameters, (R, *shape): inputs (R, B, ...) -> outputs (R, B, ...)."""

    def one(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(module, dict(parameters), (inputs,))

    if len(inputs) == 1:  # vmap over a single model would only cost time
        return one({name: value[0] for name, value in parameters.items()}, inputs[0])[None]
    with nullcontext() if torch.compiler.is_compiling() else _BatchedAttention():  # torch cannot trace it
        return vmap(one)(parameters, inputs)


ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")  # its positional arguments, in order


class _Attention(torch.autograd.Function):
    """Attention has no parameters, so under vmap the batches of all models can be one batch. On CPU torch has no such
    rule: it would attend model by model, each with a zero-filled gradient of the whole batch. It still does where the
    batch is not plain to see, as with a mask that is made of the tokens."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple, given: dict) -> tuple:
        own = {name: given[name].movedim(dim, 0) for name, dim in in_dims[0].items() if dim is not None}
        mask = given.get("attn_mask")
        if (
            own.keys() != {*ATTENTION[:3]}
            or any(x.dim() < 4 or x.shape[:2] != own["query"].shape[:2] for x in own.values())  # no common batch
            or (mask is not None and mask.dim() > 2)  # it may have the batch's dimension
        ):
            return vmap(lambda given: F.scaled_dot_product_attention(**given), in_dims)(given), 0
        merged = {name: x.flatten(0, 1) for name, x in own.items()}
        return F.scaled_dot_product_attention(**given | merged).unflatten(0, (info.batch_size, -1)), 0

    @staticmethod
    def forward(*_: Any) -> None:
        raise NotImplementedError("only under vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        raise NotImplementedError("only under vmap")


class _BatchedAttention(TorchFunctionMode):
    """Inside, scaled_dot_product_attention has a rule for vmap."""

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function is F.scaled_dot_product_attention:
            return _Attention.apply(dict(zip(ATTENTION, args, strict=False)) | (kwargs or {}))
        return function(*args, **kwargs or {})


def add_product(shared: Tensor, alpha: Tensor, rows: Tensor) -> Tensor:
    """shared (1, P) + alpha (R, n) @ rows (n, P) -> (R, P), reading the rows once.

    For one row on CPU in blocks of columns: in a single product of one row MKL reads at two thirds of the memory's
    speed, in many small ones at all of it.
    """
    if len(alpha) > 1 or alpha.requires_grad or rows.device.type != "cpu":
        return torch.addmm(shared, alpha, rows)
    out, count = torch.empty_like(shared), shared.shape[1] // BLOCK
    whole = count * BLOCK
    shared_blocks, row_blocks, blocks = (  # (count, 1, BLOCK), (count, n, BLOCK)
        x[:, :whole].unflatten(1, (count, BLOCK)).transpose(0, 1) for x in (shared, rows, out)
    )
    torch.baddbmm(shared_blocks, alpha.expand(count, *alpha.shape), row_blocks, out=blocks)
    torch.addmm(shared[:, whole:], alpha, rows[:, whole:], out=out[:, whole:])
    return out
