"""Dense models side by side: groups of domains, CRISP's model for each specialist, and the budget each of them has."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_info, threadpool_limits
from tiny_soup import RATE, K, tiny_context

from baselines import domain_experts
from baselines.crisp import Crisp
from baselines.domain_experts import DomainExperts, SeparateExperts, domain_groups
from soe_bench.records import read_lines
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run

H_0 = np.array([0.1, 0.2, 0.3, 0.2, 0.2])
CENTROIDS = np.array([[0.0, 0], [0.1, 0], [5, 5], [5.1, 5], [9, 0]])


def made(method):
    base = tiny_context()
    specialists = {"first": np.eye(K)[0], "mixed": np.array([0, 0.5, 0.5, 0, 0])}

    def initial(seed):
        torch.manual_seed(seed)
        return type(base.base)(
            17,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=12,
            max_position_embeddings=9,
        ).double()

    method.build(dataclasses.replace(base, h_0=H_0, centroids=CENTROIDS, specialists=specialists, initial=initial))
    return method


def test_groups_are_of_near_centroids_and_their_mixtures_are_h_0_restricted():
    labels = domain_groups(CENTROIDS, H_0, 3)
    assert labels[0] == labels[1] and labels[2] == labels[3] and len(set(labels)) == 3
    assert len(set(domain_groups(CENTROIDS, H_0, 16))) == K  # never more groups than domains
    method = made(DomainExperts("domain_experts", RATE, 3))
    first = method.weights[labels[0]]
    assert first == pytest.approx([1 / 3, 2 / 3, 0, 0, 0]) and method.n_models == 3


def test_groups_are_found_by_one_thread(monkeypatch):
    """sklearn sums chunks of 256 centroids in the order in which its threads end."""
    threads = []

    class Watched(KMeans):
        def fit(self, *args, **kwargs):
            threads.extend(pool["num_threads"] for pool in threadpool_info())
            return super().fit(*args, **kwargs)

    monkeypatch.setattr(domain_experts, "KMeans", Watched)
    with threadpool_limits(2):
        domain_groups(CENTROIDS, H_0, 3)
    assert set(threads) == {1}


def test_the_expert_at_h_is_that_of_the_group_with_the_largest_fraction():
    method = made(DomainExperts("domain_experts", RATE, 3))
    with torch.no_grad():
        method.models.value.normal_()
    labels = domain_groups(CENTROIDS, H_0, 3)
    h = np.array([0.2, 0.2, 0.35, 0, 0.25])
    assert torch.equal(method.parameters_at(torch.tensor(h)[None])[0], method.models.value[labels[0]])


def test_half_generic_experts_read_h_0_beside_their_group_and_are_chosen_by_their_group():
    plain = made(DomainExperts("domain_experts", RATE, 3))
    half = made(DomainExperts("domain_experts_half_generic", RATE, 3, generic_fraction=0.5))
    assert half.weights == pytest.approx((plain.weights + H_0) / 2) and (half.weights > 0).all()
    assert half.domain_weights(np.random.default_rng(0), 1)[0] == pytest.approx(half.weights[0])
    assert np.array_equal(half.own, plain.weights)
    with torch.no_grad():
        half.models.value.normal_()
    for group, h in enumerate(plain.weights):
        assert torch.equal(half.flat.flatten(half.specialist(h)), half.models.value[group])


def test_experts_have_one_start_or_one_each():
    common, separate = (
        made(m) for m in (DomainExperts("domain_experts", RATE, 3), SeparateExperts("separate_experts", RATE, 3, 0.5))
    )
    assert torch.equal(common.models.value, common.common.expand(3, -1))
    assert torch.equal(separate.models.value[0], separate.flat.flatten(tiny_context().base))
    assert len({row.sum().item() for row in separate.models.value}) == 3


def test_crisp_gives_each_specialist_the_model_trained_at_its_h():
    method = made(Crisp("crisp", RATE))
    assert method.weights.tolist() == [[1, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0]] and method.n_models == 2
    with torch.no_grad():
        method.models.value.normal_()
    for row, h in enumerate([[1.0, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0]]):
        assert torch.equal(method.parameters_at(torch.tensor(h)[None])[0], method.models.value[row])


def test_crisp_has_the_whole_budget_for_each_specialist_and_experts_share_one(compose):
    spent = {}
    for name in ("crisp", "domain_experts", "generic"):
        cfg = compose(f"method={name}", "train.tokens=8192", "evaluate.controls=[]", "evaluate.splits=[test]")
        execute(cfg)
        run = Run.of(cfg)
        records = read_lines(run.records)
        spent[name] = json.loads((run.folder / "training.json").read_text())["training_tokens"]
        if name == "crisp":
            assert {record["trained_for"] for record in records} == {3}
            assert {record["specialist"] for record in records} == {"first", "halves", "uneven"}  # no generic text
    one, before = 8192, 1024  # 8 steps of 1,024 tokens, of which CRISP's parent had one
    assert spent["generic"] == spent["domain_experts"] == one
    assert spent["crisp"] == before + 3 * (one - before)
