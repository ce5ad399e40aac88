"""Methods that generate parameters from h: against plain automatic differentiation, and what each map must be."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_soup import DRAWS, META, OPTIMIZER, RATE, ROUTER, K, batches, tiny_context
from torch.func import functional_call

from baselines.dense_conditioned import DenseConditioned
from baselines.generated_base import LowRank
from baselines.hypernetwork import Hypernetwork
from baselines.low_rank_soup import LowRankSoup
from baselines.projected import Projected
from soe_bench.errors import UserError
from soe_bench.ops.flat import Flat

COMMON = {"lr": RATE, "network_lr_ratio": 0.5, "pi": META}
METHODS = {
    "dense_conditioned": lambda: DenseConditioned("dense_conditioned", **COMMON),
    "hypernetwork": lambda: Hypernetwork(rank=2, as_experts=4, init_std=1.0, name="hypernetwork", **COMMON),
    "projected": lambda: Projected(embedding=3, as_experts=4, name="projected", **COMMON),
    "low_rank_soup": lambda: LowRankSoup(n_experts=3, rank=2, router=ROUTER, name="low_rank_soup", **COMMON),
}


@pytest.fixture(params=METHODS)
def method(request):
    built = METHODS[request.param]()
    built.build(tiny_context())
    return built


def test_training_equals_plain_automatic_differentiation(method):
    """S and the network as leaves of one graph, the draws in a loop, torch's clipping and AdamW."""
    shared = method.shared.value.clone().requires_grad_()
    omega = method.omega.value.clone().requires_grad_()
    parameters, flats = [shared, omega], [method.flat, method.network_flat]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    for step, (tokens, weights) in enumerate(batches(), start=1):
        loss = 0.0
        for draw in range(DRAWS):
            h = torch.tensor(weights[draw])[None]
            delta = functional_call(method.delta_network, method.network_flat.unflatten(omega[0]), (h,))
            theta = method.flat.unflatten((shared + delta)[0])
            logits = functional_call(method.context.base, theta, (tokens[draw, :, :-1],))
            loss = loss + F.cross_entropy(logits.flatten(0, 1), tokens[draw, :, 1:].flatten()) / DRAWS
        grads = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum(g.square().sum() for g in grads)).item()
        assert method.update(tokens, weights, step, RATE) == pytest.approx(loss.item(), rel=1e-10)
        for i, (p, g) in enumerate(zip(parameters, grads, strict=True)):
            g = g * min(1.0, OPTIMIZER.max_grad_norm / (norm + 1e-6))
            rate = RATE * (1.0, 0.5)[i]
            first, second = moments[i]
            first.mul_(0.9).add_(g, alpha=0.1)
            second.mul_(0.95).addcmul_(g, g, value=0.05)
            with torch.no_grad():
                for start, stop, decays in flats[i].spans:
                    p[..., start:stop] *= 1 - rate * OPTIMIZER.weight_decay * decays
                p.sub_(rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.95**step)).sqrt() + 1e-8))
        torch.testing.assert_close(method.shared.value, shared.detach(), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(method.omega.value, omega.detach(), rtol=1e-8, atol=1e-10)


def test_at_the_start_every_specialist_is_the_base_model_and_then_h_matters(method):
    one, other = np.eye(K)[0], np.eye(K)[1]
    tokens = torch.arange(9)[None]
    expected = tiny_context().base(tokens)
    torch.testing.assert_close(method.specialist(one)(tokens), expected)
    for step, (batch, weights) in enumerate(batches(), start=1):
        method.update(batch, weights, step, 0.1)
    first, second = method.specialist(one)(tokens), method.specialist(other)(tokens)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(method.logits(torch.tensor(one)[None], tokens[None])[0], first)
    scores = torch.zeros(K, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(method.logits(scores.softmax(0)[None], tokens[None]).square().sum(), scores)
    assert grad.abs().max() > 0


def test_a_parent_of_one_model_is_a_warm_start_of_the_shared_parameters():
    size = Flat(tiny_context().base).size
    parent = {"models.value": torch.arange(size, dtype=torch.float64)[None] / size}
    for make in METHODS.values():
        built = make()
        built.build(dataclasses.replace(tiny_context(), parent=parent))
        base = {name.removeprefix("base."): value for name, value in built.specialist(np.eye(K)[0]).named_parameters()}
        base.pop("shift", None)
        assert torch.equal(
            torch.cat([base[name].flatten() for name in Flat(tiny_context().base).shapes]), parent["models.value"][0]
        )


def test_low_rank_products_by_hand():
    low_rank = LowRank(Flat(torch.nn.Linear(2, 3)), rank=1)  # a 3 x 2 matrix and a bias
    assert low_rank.size == 5
    ((a, b),) = low_rank.pairs(torch.tensor([[1.0, 2.0, 3.0, 10.0, 20.0]]))
    assert low_rank.vector([a @ b]).tolist() == [[10, 20, 20, 40, 30, 60, 0, 0, 0]]


def test_the_low_rank_soup_is_a_weighted_sum_of_its_experts():
    method = METHODS["low_rank_soup"]()
    method.build(tiny_context())
    with torch.no_grad():
        method.omega.value.normal_()
    each = method.instantiate(torch.eye(3, dtype=torch.float64)) - method.shared.value
    alpha = torch.tensor([[0.2, -1.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(method.instantiate(alpha) - method.shared.value, alpha @ each)
    h = np.eye(K)[2]
    torch.testing.assert_close(
        method.parameters_at(torch.tensor(h)[None]), method.instantiate(method.coefficients(h[None]))
    )
    assert torch.equal(method.flat.flatten(method.specialist(None)), method.shared.value[0])


def test_the_projected_network_is_the_sum_of_the_paper_in_the_feed_forward_weights_alone():
    method = METHODS["projected"]()
    method.build(tiny_context())
    with torch.no_grad():
        method.omega.value.normal_()
    omega = method.network_flat.unflatten(method.omega.value[0])
    E, M = omega["domains"].tolist(), omega["mixing"].tolist()
    h = np.array([0.3, 0.0, 0.7, 0.0, 0.0])
    delta = method.flat.unflatten(method.delta(h[None])[0])
    layers = [name for name in delta if ".mlp." in name]
    assert len(layers) == 3 and len(M[0][0]) > 1
    for layer, name in enumerate(layers):
        T = omega[f"matrices.{layer}"]
        expected = sum(
            h[i] * E[i][q] * M[layer][q][r] * T[r] for i in range(K) for q in range(3) for r in range(len(M[layer][q]))
        )
        torch.testing.assert_close(delta[name], expected)
    assert all(not value.any() for name, value in delta.items() if name not in layers)


def test_the_projected_network_needs_feed_forward_weights():
    method = METHODS["projected"]()
    with pytest.raises(UserError, match="projected has no feed-forward weights"):
        method.build(dataclasses.replace(tiny_context(), base=torch.nn.Linear(2, 2)))


def test_the_projected_network_stores_as_many_parameters_as_the_soup_it_is_compared_with():
    method = METHODS["projected"]()
    method.build(tiny_context())
    soup = (1 + method.as_experts) * method.flat.size
    one_matrix = method.delta_network.mixing[:, :, 0].numel() + sum(m[0].numel() for m in method.delta_network.matrices)
    assert soup - one_matrix < method.cost()["stored_parameters"] <= soup


def test_the_hypernetwork_stores_as_many_parameters_as_the_soup_it_is_compared_with(method):
    if not isinstance(method, Hypernetwork):
        pytest.skip("of the hypernetwork only")
    soup = (1 + method.as_experts) * method.flat.size
    one_unit = LowRank(method.flat, method.rank).size + K + 1
    assert soup - one_unit < method.cost()["stored_parameters"] <= soup
