"""Loss and gradient of one module at R parameter vectors: the forward and backward passes of a training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from soe_bench.flat import Flat, Forward, compiled_forward, forward

LOSS_NUMBERS = {"cpu": 2**20, "cuda": 2**27}  # logits whose loss is computed at once
# Parameters below which one pass takes several draws: faster where it was measured, but each draw has its own gradient.
SMALL = {"cpu": 1_500_000, "cuda": 20_000_000}
TOKENS_AT_ONCE = {"cpu": 2**12, "cuda": 2**16}  # in one pass: they fill the machine, more would only take memory
RECORD_AFTER = 100  # passes of a shape: recording one takes about a second, what some hundred replays save
aten = torch.ops.aten
VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default, aten.detach.default}

Backward = Callable[[nn.Module, Mapping[str, Tensor], Tensor, str], Tensor]  # see `backward`


def backward(module: nn.Module, parameters: Mapping[str, Tensor], tokens: Tensor, precision: str,
             run: Forward = forward) -> Tensor:
    """Summed loss (nats) on tokens (R, B, T + 1); adds its gradient to that of the parameters (R, *shape)."""
    logits, loss, slope = _loss(module, parameters, tokens, precision, run)
    logits.backward(slope)
    return loss


def _loss(module: nn.Module, parameters: Mapping[str, Tensor], tokens: Tensor, precision: str,
          run: Forward) -> tuple[Tensor, Tensor, Tensor]:
    """The logits (R, B, T, V), their summed loss, and its gradient in them."""
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        logits = run(module, parameters, tokens[..., :-1])
    # not detach(): autograd would take the change for one of a view, and add a buffer of zeros and a copy of all logits
    return logits, *cross_entropy(logits.data, tokens[..., 1:])


def gradient(module: nn.Module, flat: Flat, theta: Tensor, tokens: Tensor, precision: str,
             out: Tensor | None = None, run: Backward = backward) -> tuple[Tensor, Tensor]:
    """Loss (a scalar, nats/token, mean over the R draws) and its gradient G (R, P) at theta (R, P) on tokens
    (R, B, T + 1), TOKENS_AT_ONCE at a time: some draws of a SMALL model in one batched pass, or a part of a draw's
    sequences.

    `out` (R, P) takes G; it may be theta, whose draws are not needed after their own gradient. `run` is `backward`, or
    the same recorded or compiled.
    """
    out = torch.empty_like(theta) if out is None else out
    at_once = sequences_at_once(theta.device.type, tokens.shape[2] - 1)
    draws = max(1, at_once // tokens.shape[1]) if flat.size < SMALL[theta.device.type] else 1
    total = theta.new_zeros((), dtype=torch.promote_types(theta.dtype, torch.float32))
    count = tokens[..., 1:].numel()
    for point, own, target in zip(theta.split(draws), tokens.split(draws), out.split(draws), strict=True):
        parameters = {name: value.detach().requires_grad_() for name, value in flat.unflatten(point).items()}
        for batch in own.split(at_once, dim=1):
            total += run(module, parameters, batch, precision)
        for part, parameter in zip(flat.unflatten(target).values(), parameters.values(), strict=True):
            part.zero_() if parameter.grad is None else torch.div(parameter.grad, count, out=part)
    return total / count, out


def sequences_at_once(device: str, length: int) -> int:
    """Sequences of `length` tokens in one pass on a kind of device."""
    return max(1, TOKENS_AT_ONCE[device] // length)


def compiled_backward() -> Backward:
    """`backward` with the forward pass through torch.compile, and so its derivative."""
    return partial(backward, run=compiled_forward())


def recorded_backward(after: int = RECORD_AFTER) -> Backward:
    """`backward` for inputs of the same shapes again and again. After `after` passes of a shape, that of several
    models is a replay of its operations, in the same bits: vmap would take its time for each operation in each pass.

    A module must do the same operations at each call, which vmap asks for nearly as much.
    """
    passes, records = Counter(), {}

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
    """Takes parameters and tokens of these shapes to the summed loss and the gradient in each parameter."""
    from torch.fx.experimental.proxy_tensor import make_fx  # a second that no other start needs

    def whole(parameters: Mapping[str, Tensor], tokens: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        parameters = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        logits, loss, slope = _loss(module, parameters, tokens, precision, forward)
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


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss (nats) of logits (..., V) at targets (...), and its gradient in the logits (..., V), in their memory.

    Chunk by chunk of the rows: beside the logits there is one chunk, where autograd through `F.cross_entropy` holds
    three more tensors of their size.
    """
    rows, total = logits.flatten(0, -2), 0.0
    size = max(1, LOSS_NUMBERS[logits.device.type] // logits.shape[-1])
    for x, target in zip(rows.split(size), targets.reshape(-1, 1).split(size), strict=True):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # x itself, unless it is of a shorter type
        picked, top = wide.gather(1, target), wide.amax(1, keepdim=True)
        torch.softmax(wide, 1, out=wide)  # in half the time of log_softmax and exp
        log = picked - top + wide.amax(1, keepdim=True).log()  # the largest of a row is 1 / sum(exp(x - top))
        total = total - log.sum()
        wide.scatter_(1, target, log.expm1())
        if wide is not x:
            x.copy_(wide)
    return total, rows.view(logits.shape)
