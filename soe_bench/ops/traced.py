"""The backward pass of `gradient` recorded once and replayed, or compiled."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from soe_bench.ops.flat import Forward, forward
from soe_bench.ops.gradient import Backward, backward, loss_and_slope

log = logging.getLogger("soe_bench")
RECORD_AFTER = 100  # passes of a shape: recording takes about a second, which some hundred replays save
aten = torch.ops.aten
VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default, aten.detach.default}


def compiled_backward() -> Backward:
    """`backward` with the forward pass, and so its derivative, compiled by torch.compile."""
    return partial(backward, run=compiled_forward())


def recorded_backward(after: int = RECORD_AFTER) -> Backward:
    """`backward` for inputs whose shapes repeat. After `after` passes of a shape, a pass of several models replays its
    recorded operations and gives the same bits. This saves the time that vmap takes for each operation in each pass.

    The module must do the same operations at each call.
    """
    passes: Counter[tuple] = Counter()
    records: dict[tuple, nn.Module] = {}

    def run(module: nn.Module, parameters: Mapping[str, Tensor], tokens: Tensor, precision: str) -> Tensor:
        key = module, tokens.shape, precision
        passes[key] += 1
        if len(tokens) == 1 or passes[key] <= after:
            return backward(module, parameters, tokens, precision)
        values = {name: value.detach() for name, value in parameters.items()}
        if key not in records:
            records[key] = _record(module, values, tokens, precision)
        loss, slopes = records[key](values, tokens)
        for parameter, slope in zip(parameters.values(), slopes, strict=True):
            parameter.grad = slope if parameter.grad is None else parameter.grad + slope
        return loss

    return run


def _record(module: nn.Module, parameters: Mapping[str, Tensor], tokens: Tensor, precision: str) -> nn.Module:
    """A module from parameters and tokens of these shapes to the summed loss and the gradient in each parameter."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import: only where it is used

    def whole(parameters: Mapping[str, Tensor], tokens: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        parameters = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        logits, loss, slope = loss_and_slope(module, parameters, tokens, precision, forward)
        return loss, torch.autograd.grad(logits, list(parameters.values()), slope, materialize_grads=True)

    record = make_fx(whole)(parameters, tokens)
    for node in record.graph.nodes:
        if node.target in VIEWS and _layout(node) == _layout(node.args[0]):  # a quarter of all: they change nothing
            node.replace_all_uses_with(node.args[0])
            record.graph.erase_node(node)
    record.recompile()
    return record


def _layout(node: torch.fx.Node) -> tuple | None:
    value = node.meta.get("val")
    return None if value is None else (value.shape, value.stride(), value.storage_offset())


def compiled_forward() -> Forward:
    """`forward` through torch.compile, for one module at inputs of one shape. If it cannot be compiled (without a C++
    compiler), it is `forward` itself, and the log says so."""
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import: only where it is used

    run = torch.compile(forward, fullgraph=True, dynamic=False)

    def compiled(module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        nonlocal run
        try:
            return run(module, parameters, inputs)
        except TorchDynamoException as error:
            if run is forward:
                raise
            log.warning("not compiled, which is slower but the same: %s", str(error).strip().splitlines()[0])
            run = forward
            return forward(module, parameters, inputs)

    return compiled
