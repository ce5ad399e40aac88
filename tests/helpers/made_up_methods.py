"""Methods that keep the contract, and methods that each break one rule of it."""

import numpy as np
import torch
from torch import nn

from baselines.generic import Generic
from soe_bench.data import corpus as corpora
from soe_bench.method import with_parameters
from soe_bench.ops.gradient import gradient
from soe_bench.soup import SoupOfExperts


class TwoFiles(Generic):
    """What a stranger would write: a model of h. The shared parameters, and a vector added to them for each domain."""

    takes_h = True

    def build(self, context):
        super().build(context)
        self.shift = torch.zeros(len(context.h_0), self.flat.size)

    def update(self, tokens, weights, step, rate):
        loss = super().update(tokens, weights, step, rate)
        self.shift += 0.01 * torch.as_tensor(weights.mean(0)).float()[:, None] * self.models.value
        return loss

    def parameters_at(self, h):
        theta = super().parameters_at(h)
        return theta if h is None else theta + h @ self.shift

    def tensors(self):
        return super().tensors() | {"shift.value": self.shift}


class OwnSoup(SoupOfExperts):
    """A soup of a stranger's. Its coefficients have a parameter, and a constant that is made when it is built."""

    def build(self, context):
        super().build(context)
        self.shift = torch.zeros(1, self.n_experts)
        self.scale = 1 + context.centroids.max() + next(context.base.parameters()).detach().flatten()[0]

    def update(self, *given):
        self.shift += 0.01
        return super().update(*given)

    def coefficients(self, weights):
        return self.scale * super().coefficients(weights) + self.shift

    def tensors(self):
        return super().tensors() | {"shift.value": self.shift}


class HalfFrozen(SoupOfExperts):
    """A soup whose router learns its second layer alone: what is frozen is in no file of parameters."""

    def make_router(self, context):
        router = super().make_router(context)
        router.inner_weight.requires_grad_(False)
        return router


class TunedOnText(Generic):
    """Takes a step of gradient on the specialist's validation text, as tuned merges do."""

    def specialist(self, h, documents=()):
        text = torch.from_numpy(documents[0][: self.context.seq_len + 1].astype(np.int64))
        _, slope = gradient(self.context.base, self.flat, self.models.value, text[None, None], self.context.precision)
        return with_parameters(self.context.base, self.flat, self.models.value[0] - 0.1 * slope[0])


class Unsaved(TwoFiles):
    def tensors(self):
        return Generic.tensors(self)

    def cost(self):
        return Generic.cost(self)


class Misnamed(TwoFiles):
    def tensors(self):
        return Generic.tensors(self) | {"shift": self.shift}

    def cost(self):
        return Generic.cost(self)


class WithoutMoments(Generic):
    def tensors(self):
        return {"models.value": self.models.value}


class Random(Generic):
    def update(self, tokens, weights, step, rate):
        self.models.value += 1e-6 * torch.randn_like(self.models.value)
        return super().update(tokens, weights, step, rate)


class Stateful(Generic):
    def domain_weights(self, rng, step):
        self.asked = getattr(self, "asked", 0) + 1
        return np.roll(super().domain_weights(rng, step), self.asked, axis=1)


class Adaptive(Generic):
    """An adaptive mixture: its domain weights move with the losses, and what they are made from is in `tensors`."""

    def build(self, context):
        super().build(context)
        self.scores = torch.tensor(context.h_0).float().log()

    def domain_weights(self, rng, step):
        return np.tile(self.scores.softmax(0).double().numpy(), (self.context.draws_per_step, 1))

    def update(self, tokens, weights, step, rate):
        loss = super().update(tokens, weights, step, rate)
        self.scores += 1e-4 * loss * weights.mean(0)
        return loss

    def tensors(self):
        return super().tensors() | {"scores": self.scores}


class Forgetful(Adaptive):
    """Does not save it. Its weights move so little that the same sequences are drawn, so the parameters do not tell."""

    def tensors(self):
        return Generic.tensors(self)


class OffTheSimplex(Generic):
    def domain_weights(self, rng, step):
        return 2 * super().domain_weights(rng, step) if step > 2 else super().domain_weights(rng, step)


class OneRow(Generic):
    def domain_weights(self, rng, step):
        rows = super().domain_weights(rng, step)
        return rows if step <= 2 else rows[0]


class Still(Generic):
    def update(self, tokens, weights, step, rate):
        return 1.0


class Poisoned(Generic):
    def update(self, tokens, weights, step, rate):
        super().update(tokens, weights, step, rate)
        if step == 4:  # the last
            self.models.exp_avg[0, 0] = torch.nan
        return 1.0


class Crashing(Generic):
    def update(self, tokens, weights, step, rate):
        raise KeyError("omega")


class CrashingInTorch(Generic):
    def update(self, tokens, weights, step, rate):
        return nn.Linear(2, 2)(tokens)


class Peeking(Generic):
    def specialist(self, h, documents=()):
        corpora.load(self.folder).documents("first", "test")
        return super().specialist(h, documents)


class PeekingAtTheFile(Generic):
    """Reads every token, the test splits' too, past the corpus."""

    def parameters_at(self, h):
        tokens = np.load(self.folder / "tokens.npy")
        return self.models.value[:1] * (1 + 1e-3 * float(tokens.mean()))


class Widened(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return nn.functional.pad(self.model(tokens), (0, 1), value=-1e9)


class OtherVocabulary(Generic):
    def specialist(self, h, documents=()):
        return Widened(super().specialist(h, documents))


class Ensemble(Generic):
    """The mean of two models, called one ordinary model."""

    def specialist(self, h, documents=()):
        return Mean(super().specialist(h, documents), super().specialist(h, documents))

    def cost(self):
        cost = super().cost()
        return cost | {"deployed_parameters": 2 * cost["deployed_parameters"]}


class Mean(nn.Module):
    def __init__(self, *models):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, tokens):
        return sum(model(tokens) for model in self.models) / len(self.models)


class OtherLogits(TwoFiles):
    def logits(self, h, tokens):
        return 2 * super().logits(h, tokens)


class WithoutGradient(TwoFiles):
    def logits(self, h, tokens):
        return super().logits(h.detach(), tokens)


def costing(entry, factor):
    def cost(self):
        cost = Generic.cost(self)
        return cost | {entry: cost[entry] * factor}

    return cost


class TooFewFlops(Generic):
    cost = costing("flops_per_step", 0)


class TooManyFlops(Generic):
    cost = costing("flops_per_step", 2)


class OtherStored(Generic):
    cost = costing("stored_parameters", 2)


class OtherDeployed(Generic):
    cost = costing("deployed_parameters", 2)


class HalfACost(Generic):
    def cost(self):
        return {"flops_per_step": 1}
