"""The soup as the paper writes it: the reference that the soup's step is compared with, in numbers and in cost."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from soe_bench.ops.flat import Flat
from soe_bench.soup import SoupOfExperts


class PlainSoup:
    """Autograd through S + sum_j alpha_j E_j on the stacked experts, a loop over the draws, torch's AdamW and clipping.

    Starts from copies of the parameters of a built `method`, which it does not keep.
    """

    def __init__(self, method: SoupOfExperts) -> None:
        def parameters(flat: Flat, value: Tensor) -> dict[str, nn.Parameter]:
            return {name: nn.Parameter(x.clone()) for name, x in flat.unflatten(value).items()}

        self.base, self.router_module, self.optimizer = method.context.base, method.router, method.context.optimizer
        self.shared = parameters(method.flat, method.shared.value[0])
        self.experts = parameters(method.flat, method.experts.value)  # each (n, *shape)
        self.router = parameters(method.router_flat, method.omega.value[0])
        self.factors, groups = [], []
        for owned, like, factor in (
            (self.shared, self.shared, 1.0),
            (self.experts, self.shared, method.expert_lr_ratio),
            (self.router, self.router, 1.0),
        ):
            for matrices in (True, False):  # weight decay shrinks matrices only
                params = [owned[name] for name in owned if (like[name].dim() > 1) == matrices]
                decay = self.optimizer.weight_decay if matrices else 0.0
                groups.append({"params": params, "weight_decay": decay})
                self.factors.append(factor)
        self.adamw = torch.optim.AdamW(
            groups, betas=(self.optimizer.beta1, self.optimizer.beta2), eps=self.optimizer.eps
        )

    def update(self, tokens: Tensor, weights: Tensor, step: int, rate: float) -> float:
        """One step on tokens (R, B, T + 1) drawn from weights (R, k), as `SoupOfExperts.update`."""
        like, total = next(iter(self.shared.values())), 0.0
        for draw, h in zip(tokens, torch.as_tensor(weights).to(like), strict=True):
            alpha = functional_call(self.router_module, self.router, (h[None],))[0]
            theta = {name: x + torch.tensordot(alpha, self.experts[name], 1) for name, x in self.shared.items()}
            logits = functional_call(self.base, theta, (draw[:, :-1],))
            loss = F.cross_entropy(logits.flatten(0, 1), draw[:, 1:].flatten()) / len(tokens)
            loss.backward()
            total += loss.item()
        parameters = [x for group in self.adamw.param_groups for x in group["params"]]
        nn.utils.clip_grad_norm_(parameters, self.optimizer.max_grad_norm)
        for group, factor in zip(self.adamw.param_groups, self.factors, strict=True):
            group["lr"] = rate * factor
        self.adamw.step()
        self.adamw.zero_grad()
        return total
