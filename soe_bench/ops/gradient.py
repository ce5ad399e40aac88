"""Loss and gradient of one module at R parameter vectors: the forward and backward passes of a training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from soe_bench.ops.flat import Flat, Forward, forward
from soe_bench.ops.loss import cross_entropy

# Below this number of parameters one pass takes several draws: measured to be faster, but it holds a gradient of each.
SMALL = {"cpu": 1_500_000, "cuda": 20_000_000}
TOKENS_AT_ONCE = {"cpu": 2**12, "cuda": 2**16}  # in one pass: they fill the machine, and more would only take memory
Backward = Callable[[nn.Module, Mapping[str, Tensor], Tensor, str], Tensor]  # see `backward`


def backward(
    module: nn.Module, parameters: Mapping[str, Tensor], tokens: Tensor, precision: str, run: Forward = forward
) -> Tensor:
    """Summed loss (nats) on tokens (R, B, T + 1); adds its gradient to that of the parameters (R, *shape)."""
    logits, loss, slope = loss_and_slope(module, parameters, tokens, precision, run)
    logits.backward(slope)
    return loss


def loss_and_slope(
    module: nn.Module, parameters: Mapping[str, Tensor], tokens: Tensor, precision: str, run: Forward
) -> tuple[Tensor, Tensor, Tensor]:
    """The logits (R, B, T, V), their summed loss (nats), and the gradient of the loss in the logits."""
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        logits = run(module, parameters, tokens[..., :-1])
    # Not detach(): cross_entropy changes the logits in place. Autograd would see a changed view, and add a buffer of
    # zeros and a copy of all logits.
    return logits, *cross_entropy(logits.data, tokens[..., 1:])


def gradient(
    module: nn.Module,
    flat: Flat,
    theta: Tensor,
    tokens: Tensor,
    precision: str,
    out: Tensor | None = None,
    run: Backward = backward,
) -> tuple[Tensor, Tensor]:
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
