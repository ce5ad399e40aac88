"""Floating-point operations: matrix products as torch counts them, and attention by its formula, on every device alike.

torch's own counter leaves attention out on CPU and counts causal attention on CUDA as if it had no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
ATTENTION = [  # the kernels that scaled_dot_product_attention chooses from
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention,
]


def attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, causal: bool) -> int:
    """FLOPs of attention's two products, forward: query (..., T, d), key (..., S, d), value (..., S, e). A causal query
    at position t meets only the keys up to t: T (T + 1) / 2 pairs instead of T S."""
    length = query[-2]
    pairs = length * (length + 1) // 2 if causal else length * key[-2]
    return 2 * math.prod(query[:-2]) * pairs * (query[-1] + value[-1])


def _formula(kernel: Any, passes: int) -> Callable[..., int]:
    """What a kernel's call counts as: `passes` times the forward products (2 in the backward pass)."""
    names = [argument.name for argument in kernel.default._schema.arguments]
    first, causal = names.index("query"), names.index("is_causal")

    def flops(*arguments: Any, **named: Any) -> int:
        query, key, value = (tensor.shape for tensor in arguments[first : first + 3])
        masked = arguments[causal] if causal < len(arguments) else named.get("is_causal", False)
        return passes * attention_flops(query, key, value, masked)

    vars(flops)["_get_raw"] = True  # torch's mark for a formula that takes the call's arguments themselves
    return flops


FORMULAS = {kernel: _formula(kernel, 1) for kernel in ATTENTION} | {
    backward: _formula(backward, 2)
    for backward in (getattr(aten, f"{kernel.__name__}_backward") for kernel in ATTENTION)
}


class FlopCounter(FlopCounterMode):
    """Context that counts the FLOPs of what runs inside it: `get_total_flops()`."""

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=FORMULAS)


def forward_flops(module: nn.Module, length: int) -> int:
    """FLOPs of `module` on one sequence of `length` tokens, forward. Nothing is computed, whatever its device."""
    with FakeTensorMode(), FlopCounter() as counter, torch.no_grad():
        state = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype)
            for name, tensor in chain(module.named_parameters(), module.named_buffers())
        }
        functional_call(module, state, (torch.zeros(1, length, dtype=torch.long),))
    return counter.get_total_flops()
