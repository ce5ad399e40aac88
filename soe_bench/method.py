"""The method contract: what train.py, evaluate.py and records.py need of a method, and dense training.

A method is one class named by `_target_` in conf/method/<name>.yaml. The one training loop (train.py) asks the
method at each step for the domain weights to train on, samples the batch from them, and gives it to `update`.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from soe_bench.errors import UserError
from soe_bench.mixture import check_weights
from soe_bench.ops.adamw import Gradient, Optimizer, ParameterBank
from soe_bench.ops.flat import Flat, forward_at
from soe_bench.ops.flops import forward_flops
from soe_bench.ops.gradient import Backward, backward, gradient
from soe_bench.ops.sharding import Sliced
from soe_bench.system import distributed


@dataclass(frozen=True)
class MethodContext:
    """What every method is built from: the same base initialisation, budget and optimizer for all.

    `base` is the model at its initialisation (from seeds.init), `initial(seed)` one at another. They stay in evaluation
    mode, in training too: there is no dropout, and a loss depends on parameters and tokens alone. A step is
    `draws_per_step` draws of domain weights with `sequences` sequences of `seq_len` tokens in all. Of the corpus:
    `h_0` (k,), the generic weights; `centroids` (k, d); `domain_tokens(i)`, the token ids of domain i's
    training text; the weights (k,) of each specialist by name. `parent` holds the tensors of the run
    that the method starts from, by name; None without one. A plan builds the method without a corpus: then `parent` is
    None, there are no `domain_tokens`, and of the weights and centroids only the shapes are right."""

    base: nn.Module
    h_0: np.ndarray
    seq_len: int
    sequences: int
    draws_per_step: int
    optimizer: Optimizer
    precision: str = "float32"
    backward: Backward = backward  # or the same recorded or compiled
    moments: torch.dtype | None = None  # of AdamW; None: as the parameters
    seed: int = 0
    centroids: np.ndarray | None = None
    domain_tokens: Callable[[int], np.ndarray] | None = None
    specialists: Mapping[str, np.ndarray] = field(default_factory=dict)
    initial: Callable[[int], nn.Module] | None = None
    parent: Mapping[str, Tensor] | None = None


class Method(ABC):
    """A way to get a specialist for any domain weights h. The constructor takes the configuration only.

    `parent` ({method, fraction, ...}) names the method whose run it starts from: the run of the same configuration on
    `fraction` of the training tokens, which leaves the rest to this method. That run is trained first, once for all
    methods that start from it.

    `steps` is the number of its training steps, without those of its parent. It is set after `build`. A schedule of the
    method's own, of a temperature say, is a function of step / steps.
    """

    version = 1  # to be raised where the same settings train something else: earlier runs then no longer stand for it
    n_experts = 0
    takes_h = False  # whether the specialist depends on h
    controls: tuple[str, ...] = ("uniform", "shuffled", "h_0", "tuned")  # other h it is evaluated at, if it takes h
    pi: object = "h_0"  # the distribution of its training weights; its str is in the records
    deployable = True  # whether a specialist is one ordinary model of about P parameters
    per_specialist = False  # whether it trains a model for each specialist, and none for generic text
    one_model = False  # whether its run is one dense model, saved as `models.value` (1, P): others can start from it
    n_models = 1  # models trained side by side, each on sequences of its own
    tokens_each: float | None = None  # fraction of the token budget for each of these; None: they share the budget
    parallel = False  # whether `update` divides its work among the processes of torchrun

    context: MethodContext  # set by `build`, as is
    flat: Flat  # the order of the base model's parameters in a vector (P,)
    steps: int

    def __init__(self, name: str, lr: float, parent: Mapping | None = None) -> None:
        self.label = name
        self.lr = lr
        self.parent = parent

    def start_from(self, parent: Method) -> None:
        """Receives the method of the run that it starts from, before `build`. Raises UserError unless it can start from
        it: by default, from one dense model on a part of the tokens."""
        if not parent.one_model:
            raise UserError(
                f"method.parent.method is {parent.label}: {self.label} starts from one dense model, such as generic"
            )
        if self.parent and self.parent["fraction"] == 1:
            raise UserError("method.parent.fraction is 1: it leaves no token to train on, lower it")

    @abstractmethod
    def build(self, context: MethodContext) -> None:
        """Makes the parameters, all from the base initialisation of the seed, and sets `context` and `flat`."""

    @abstractmethod
    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        """(R, k) domain weights to train on at this step (from 1). The batch goes to model (step - 1) % n_models.

        What they depend on is `rng`, `step`, and what is in `tensors`: the state of an adaptive mixture too.
        """

    @abstractmethod
    def update(self, tokens: Tensor, weights: Tensor, step: int, lr: float) -> float:
        """One step (from 1) on tokens (R, B, T + 1) drawn from weights (R, k), both on the device, at the learning rate
        `lr`. Returns the loss in nats per token.

        Raises FloatingPointError, with nothing changed, if the loss or the gradient is not finite.
        """

    def parameters_at(self, h: Tensor | None) -> Tensor:
        """Theta(h) (R, P), differentiable in the domain weights h (R, k); None stands for "without domain information"
        and gives one row, of a method that does not need h.

        A method whose specialists are not the base model at other parameters gives `specialist` and `logits` instead.
        """
        raise NotImplementedError(f"{type(self).__name__} must give parameters_at, or specialist and logits")

    def specialist(self, h: np.ndarray | None, documents: Sequence[np.ndarray] = ()) -> nn.Module:
        """A model for the domain weights h (k,); None stands for "without domain information".

        `documents` are the specialist's validation documents (token ids), for methods that choose or tune on them.
        """
        with torch.no_grad():
            theta = self.parameters_at(None if h is None else self.weights_tensor(h)[None])[0]
        return with_parameters(self.context.base, self.flat, theta)

    def logits(self, h: Tensor, tokens: Tensor) -> Tensor:
        """Logits (R, B, T, V) of the R specialists at h (R, k), each on its own tokens (R, B, T), differentiable in h:
        what tunes h on text."""
        return forward_at(self.context.base, self.flat, self.parameters_at(h), tokens)

    def weights_tensor(self, h: np.ndarray) -> Tensor:
        """h (k,) checked, in the type and on the device of the parameters. Raises UserError off the simplex."""
        parameter = next(self.context.base.parameters())
        return torch.as_tensor(check_weights(h, len(self.context.h_0))).to(parameter)

    def gradient_at(self, theta: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """This process's share of the loss (a scalar, nats per token) and of its gradient (R, P), in the memory of
        theta (R, P), on its own tokens (R, B, T + 1): the sum over all processes is the mean over all tokens."""
        c = self.context
        loss, gradients = gradient(c.base, self.flat, theta, tokens, c.precision, theta, c.backward)
        return (
            (loss, gradients)
            if distributed.size() == 1
            else (loss / distributed.size(), gradients / distributed.size())
        )

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor | Sliced]:
        """Every tensor of the training state under its checkpoint name; loading copies into them. Those whose names end
        in `.value` are the parameters."""

    def dense_flops(self) -> int:
        """FLOPs per step of a forward and backward pass of the base model on every sequence."""
        return 3 * self.context.sequences * forward_flops(self.context.base, self.context.seq_len)

    def cost(self) -> dict[str, int]:
        """What it takes: flops_per_step, stored_parameters (trained once), deployed_parameters (one specialist), and
        state_bytes (parameters, moments and gradients held in training).

        By default counted: passes of the base model, the parameters in `tensors`, and beside these the base model and
        one gradient. A method that does more than passes of the base model adds it. What a specialist costs is counted
        when one is made.
        """
        tensors, size = self.tensors(), self.flat.size
        element = next(self.context.base.parameters()).element_size()
        return {
            "flops_per_step": self.dense_flops(),
            "stored_parameters": sum(math.prod(x.shape) for name, x in tensors.items() if name.endswith(".value")),
            "deployed_parameters": size,
            "state_bytes": sum(math.prod(x.shape) * x.dtype.itemsize for x in tensors.values()) + 2 * size * element,
        }


class ExpertMethod(Method):
    """A method whose specialist is a combination of n experts, with coefficients alpha (n,) computed from h."""

    takes_h = True
    controls = (*Method.controls, "zero")  # alpha = 0: the shared parameters alone

    @abstractmethod
    def coefficients(self, weights: np.ndarray | Tensor) -> Tensor:
        """alpha (R, n) at the domain weights (R, k)."""

    @abstractmethod
    def instantiate(self, alpha: Tensor) -> Tensor:
        """Theta (R, P) at the coefficients alpha (R, n). Under torchrun all processes call it and get it."""


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
    one_model = True

    @abstractmethod
    def mixtures(self, context: MethodContext) -> np.ndarray:
        """(m, k) domain weights, one row per model."""

    def start(self, context: MethodContext) -> Tensor:
        """(m, P) or (1, P) parameters at the start: the parent's, or else the base initialisation."""
        return self.flat.flatten(context.base)[None] if context.parent is None else context.parent["models.value"]

    def build(self, context: MethodContext) -> None:
        self.context = context
        self.flat = Flat(context.base)
        self.weights = self.mixtures(context)
        self.n_models = len(self.weights)
        self.models = ParameterBank(self.start(context).expand(self.n_models, -1).clone(), self.flat, context.moments)

    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        return np.tile(self.weights[(step - 1) % self.n_models], (self.context.draws_per_step, 1))

    def update(self, tokens: Tensor, weights: Tensor, step: int, lr: float) -> float:
        turn, row = divmod(step - 1, self.n_models)
        model, own = self.models.row(row), distributed.own_rows(tokens.flatten(0, 1))[None]
        loss, g = distributed.total(*self.gradient_at(model.value.clone(), own))
        return self.context.optimizer.step(loss, [Gradient.of_sum(model, g)], turn + 1, lr)

    def parameters_at(self, h: Tensor | None) -> Tensor:
        return self.models.value[:1].expand(1 if h is None else len(h), -1)

    def tensors(self) -> dict[str, Tensor]:
        return self.models.tensors("models")
