"""Cross entropy and its gradient, chunk by chunk."""

from __future__ import annotations

import torch
from torch import Tensor

LOSS_NUMBERS = {"cpu": 2**20, "cuda": 2**27}  # logits per chunk


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss (nats) of logits (..., V) at targets (...), and its gradient in the logits (..., V), in their memory.

    It works on one chunk of rows at a time, so it holds one chunk besides the logits. Autograd through
    `F.cross_entropy` holds three more tensors of the logits' size.
    """
    rows = logits.flatten(0, -2)
    total = rows.new_zeros((), dtype=torch.promote_types(rows.dtype, torch.float32))
    size = max(1, LOSS_NUMBERS[logits.device.type] // logits.shape[-1])
    for x, target in zip(rows.split(size), targets.reshape(-1, 1).split(size), strict=True):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # x itself, unless its type is shorter
        picked, top = wide.gather(1, target), wide.amax(1, keepdim=True)
        torch.softmax(wide, 1, out=wide)  # takes half the time of log_softmax and exp
        log = picked - top + wide.amax(1, keepdim=True).log()  # the largest of a row is 1 / sum(exp(x - top))
        total = total - log.sum()
        wide.scatter_(1, target, log.expm1())
        if wide is not x:
            x.copy_(wide)
    return total, rows.view(logits.shape)
