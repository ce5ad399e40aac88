"""The method contract: what train.py, evaluate.py and records.py need of a method, and dense training.

A method is one class named by `_target_` in conf/method/<name>.yaml. The one training loop (train.py) asks it at each
step for the domain weights to train on, samples the batch from them, and hands it back for the update.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from soe_bench.errors import UserError
from soe_bench.mixture import check_weights
from soe_bench.ops.adamw import Bank, Optimizer, squared_norm
from soe_bench.ops.flat import Flat, forward_at
from soe_bench.ops.flops import forward_flops
from soe_bench.ops.gradient import Backward, backward, gradient
from soe_bench.system import distributed


@dataclass(frozen=True)
class Setup:
    """What every method is built from: the same base initialisation, budget and optimizer for all.

    `base` is the model at its initialisation (from seeds.init), `initial(seed)` one at another; a step is `draws` draws
    of domain weights with `sequences` sequences of `length` tokens in all. Of the corpus: `h_0` (k,), the generic
    weights; `centroids` (k, d); the weights (k,) of each specialist by name. `parent` holds the tensors of the run that
    the method starts from, by name; None without one.
    """

    base: nn.Module
    h_0: np.ndarray
    length: int
    sequences: int
    draws: int
    optimizer: Optimizer
    precision: str = "float32"
    backward: Backward = backward  # or the same recorded or compiled
    moments: torch.dtype | None = None  # of AdamW; None: as the parameters
    seed: int = 0
    centroids: np.ndarray | None = None
    specialists: Mapping[str, np.ndarray] = field(default_factory=dict)
    initial: Callable[[int], nn.Module] | None = None
    parent: Mapping[str, Tensor] | None = None


class Method(ABC):
    """A way to get a specialist for any domain weights h. The constructor takes the configuration only.

    `parent` ({method, share}) names the method whose run it starts from: the run of the same configuration on `share`
    of the training tokens, which leaves the rest to this method. It is trained first, once for all that start from it.
    """

    n_experts = 0
    takes_h = False  # whether the specialist depends on h
    controls = ("uniform", "shuffled", "h_0", "tuned")  # other h that it is evaluated at, if it takes h
    pi = "h_0"  # the law of its training weights, in words
    deployable = True  # whether a specialist is one ordinary model of about P parameters
    serves_generic = True  # whether it has a model for generic text
    one_model = False  # whether its run is one dense model, saved as `models.value` (1, P): others can start from it
    streams = 1  # models trained side by side, each on sequences of its own
    tokens_each: float | None = None  # share of the token budget for each of these models; None: they share the budget
    parallel = False  # whether `update` divides its work among the processes of torchrun
    trained_for: int | None = None  # specialists that a model each was trained for; None: one training for all

    def __init__(self, name: str, learning_rate: float, parent: Mapping | None = None) -> None:
        self.label = name
        self.learning_rate = learning_rate
        self.parent = parent

    def check_parent(self, parent: Method) -> None:
        """Raises UserError unless it can start from a run of `parent`: one dense model on a part of the tokens."""
        if not parent.one_model:
            raise UserError(f"method.parent.method is {parent.label}: {self.label} starts from one dense model, "
                            "such as generic")
        if self.parent["share"] == 1:
            raise UserError("method.parent.share is 1: it leaves no token to train on, lower it")

    @abstractmethod
    def build(self, setup: Setup) -> None:
        """Makes the parameters, all from the base initialisation of the seed."""

    @abstractmethod
    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        """(R, k) domain weights to train on at this step (from 1); the batch comes from stream (step - 1) % streams."""

    @abstractmethod
    def update(self, tokens: Tensor, weights: Tensor, step: int, rate: float) -> float:
        """One step (from 1) on tokens (R, B, T + 1) drawn from weights (R, k), both on the device; returns the loss in
        nats/token.

        `rate` is the learning rate of this step. Raises FloatingPointError, with nothing changed, if the loss or the
        gradient is not finite.
        """

    def theta(self, h: Tensor | None) -> Tensor:
        """Theta(h) (P,), differentiable in the domain weights h (k,); None stands for "without domain information".

        A method whose specialists are not the base model at other parameters gives `specialist` and `logits` instead.
        """
        raise NotImplementedError(f"{type(self).__name__} must give theta, or specialist and logits")

    def specialist(self, h: np.ndarray | None, documents: Sequence[np.ndarray] = ()) -> nn.Module:
        """A model for the domain weights h (k,); None stands for "without domain information".

        `documents` are the specialist's validation documents (token ids), for methods that choose or tune on them.
        """
        with torch.no_grad():
            theta = self.theta(None if h is None else self.weights_tensor(h))
        return with_parameters(self.setup.base, self.flat, theta)

    def logits(self, h: Tensor, tokens: Tensor) -> Tensor:
        """The specialist's logits (B, T, V) on tokens (B, T), differentiable in h (k,): what tunes h on text."""
        return forward_at(self.setup.base, self.flat, self.theta(h)[None], tokens[None])[0]

    def weights_tensor(self, h: np.ndarray) -> Tensor:
        """h (k,) checked, in the type and on the device of the parameters. Raises UserError off the simplex."""
        parameter = next(self.setup.base.parameters())
        return torch.as_tensor(check_weights(h, len(self.setup.h_0))).to(parameter)

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the training state under its checkpoint name; loading copies into them."""

    @abstractmethod
    def cost(self) -> dict[str, int]:
        """flops_per_step, stored_parameters (trained once), deployed_parameters (one specialist), and
        state_bytes (parameters, moments and gradients held in training). What a specialist costs is counted when one
        is made (evaluate.py)."""


def gradient_share(setup: Setup, flat: Flat, theta: Tensor, tokens: Tensor,
                   out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`gradient` as this process's share of the mean over all of them, which is the sum: each has its own tokens."""
    loss, grad = gradient(setup.base, flat, theta, tokens, setup.precision, out, setup.backward)
    return loss / distributed.size(), grad / distributed.size() if distributed.size() > 1 else grad


def with_parameters(module: nn.Module, flat: Flat, theta: Tensor) -> nn.Module:
    """A copy of `module` with the parameters theta (P,)."""
    module = copy.deepcopy(module)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), flat.unflatten(theta).values(), strict=True):
            parameter.copy_(value)
    return module.requires_grad_(False)


class Dense(Method):
    """Ordinary models, one for each row of `mixtures` (m, k), trained side by side: step s trains row (s - 1) % m.

    Under torchrun each process has all parameters and its share of the sequences; the gradients are summed.
    """

    parallel = True

    @abstractmethod
    def mixtures(self, setup: Setup) -> np.ndarray:
        """(m, k) domain weights, one row a model."""

    def start(self, setup: Setup) -> Tensor:
        """(m, P) or (1, P) parameters at the start: the parent's, or else the base initialisation."""
        return self.flat.flatten(setup.base)[None] if setup.parent is None else setup.parent["models.value"]

    def build(self, setup: Setup) -> None:
        self.setup = setup
        self.flat = Flat(setup.base)
        self.weights = self.mixtures(setup)
        self.streams = len(self.weights)
        self.models = Bank(self.start(setup).expand(self.streams, -1).clone(), self.flat, setup.moments)

    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        return np.tile(self.weights[(step - 1) % self.streams], (self.setup.draws, 1))

    def update(self, tokens: Tensor, weights: Tensor, step: int, rate: float) -> float:
        optimizer, (turn, row) = self.setup.optimizer, divmod(step - 1, self.streams)
        model = self.models.row(row)
        own = distributed.own_rows(tokens.flatten(0, 1))[None]
        share = gradient_share(self.setup, self.flat, model.value, own)
        loss, grad = distributed.total(*share)
        one = torch.ones_like(grad[:, :1])
        loss, scale = optimizer.clip_scale(loss, squared_norm(one, grad @ grad.T))
        model.adamw_(scale * one, grad, turn + 1, rate, optimizer)
        return loss

    def theta(self, h: Tensor | None) -> Tensor:
        return self.models.value[0]

    def tensors(self) -> dict[str, Tensor]:
        return self.models.tensors("models")

    def cost(self) -> dict[str, int]:
        size = self.flat.size
        return {
            "flops_per_step": 3 * self.setup.sequences * forward_flops(self.setup.base, self.setup.length),
            "stored_parameters": self.streams * size,
            "deployed_parameters": size,
            "state_bytes": self.models.bytes + 2 * size * self.models.value.element_size(),  # gradient and base
        }
