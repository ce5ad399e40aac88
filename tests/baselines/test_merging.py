"""The post-hoc methods: hand values of every merge, gradients in h, choices on validation text, runs without a step."""

import logging
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from baselines.best_expert import BestExpert
from baselines.domain_experts import DomainExperts, SeparateExperts, group_mixtures
from baselines.ensemble import Ensemble
from baselines.merge_base import SCALES, trim
from baselines.merge_dare_ties import MergeDareTies
from baselines.merge_gradient import MergeGradient
from baselines.merge_linear import MergeLinear
from baselines.merge_slerp import MergeSlerp, slerp
from baselines.merge_task_arithmetic import MergeTaskArithmetic
from baselines.merge_ties import MergeTies
from soe_bench.config import job_configs
from soe_bench.errors import UserError
from soe_bench.estimate import tuned_weights
from soe_bench.evaluate import document_losses
from soe_bench.method import MethodContext
from soe_bench.ops.adamw import Optimizer
from soe_bench.records import read_records
from soe_bench.runs import evaluation, sweep
from soe_bench.runs import execute as executing
from soe_bench.runs.build import build_method
from soe_bench.runs.collect import _upsert
from soe_bench.runs.run import Run
from soe_bench.system.laps import Laps

PARENT = {"method": "domain_experts", "fraction": 1.0}
COMMON = [1.0, 0.0, 0.0, 0.0]
TASK_VECTORS = [[4.0, 1.0, -2.0, 0.0], [2.0, -3.0, -1.0, 1.0]]
MERGES = [MergeLinear, MergeSlerp, MergeTaskArithmetic, MergeTies, MergeDareTies, MergeGradient]


class Law(nn.Module):
    """One logit a token, in two parameters: a merge can be seen as a law, and as tensors."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.zeros(size // 2)), nn.Parameter(torch.zeros(size - size // 2))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.cat([self.first, self.second]).expand(*tokens.shape, -1)


def built(method, task_vectors=TASK_VECTORS, common=None, seed=0):
    """The method on experts with these task vectors (m, P), in float64; domain i of m + 1 is in the group of expert i,
    but for the last two, which share a group."""
    vectors = torch.from_numpy(np.array(task_vectors, dtype=np.float64))
    common = torch.as_tensor(COMMON if common is None else common, dtype=torch.float64)
    count, size = vectors.shape
    centroids = np.array([[10.0 * i] for i in range(count)] + [[10.0 * count - 9.9]])
    h_0 = np.full(count + 1, 1 / (count + 1))
    separate = method.parent["method"] == "separate_experts"
    method.start_from(SeparateExperts("s", 0.0, count, 1.0) if separate else DomainExperts("d", 0.0, count))
    method.build(
        MethodContext(
            Law(size).double(),
            h_0,
            seq_len=8,
            sequences=1,
            draws_per_step=1,
            optimizer=Optimizer(0.9, 0.95, 1e-8, 0, 0, 0, 1),
            seed=seed,
            centroids=centroids,
            parent={"models.value": common + vectors, "common.value": common[None]},
        )
    )
    return method


def merged(method, weights):
    return method.merged(torch.tensor(weights, dtype=torch.float64)).tolist()


def random_vectors(count=3, size=20):
    return np.random.default_rng(0).normal(size=(count, size))


def test_linear_hand_values():
    assert merged(built(MergeLinear("m", PARENT)), [0.25, 0.75]) == [3.5, -2.0, -1.25, 0.75]


def test_task_arithmetic_hand_values():
    method = built(MergeTaskArithmetic("m", PARENT))
    assert merged(method, [0.5, 0.5]) == pytest.approx([1 + 0.4 * 6, -0.8, -1.2, 0.4])  # the plain sum
    by_hand = [1 + 0.4 * (4 / 3 + 2), 0.4 * (1 / 3 - 3), 0.4 * (-5 / 3), 0.4]
    assert merged(method, [0.25, 0.75]) == pytest.approx(by_hand)
    assert merged(built(MergeTaskArithmetic("m", PARENT, scale=1)), [0.0, 1.0]) == [3.0, -3.0, -1.0, 1.0]


def test_gradient_merge_adds_task_vectors_at_any_coefficients():
    assert merged(built(MergeGradient("m", PARENT)), [0.5, 1.0]) == [5.0, -2.5, -2.0, 1.0]


def test_ties_hand_values():
    whole = built(MergeTies("m", PARENT, density=1.0))
    assert merged(whole, [0.5, 0.5]) == [4.0, -3.0, -1.5, 1.0]  # one sign conflict, and one zero that does not count
    half = built(MergeTies("m", PARENT, density=0.5, trim="tensor"), [[4.0, 1, -2, 0], [2, -3, -1, 6]])
    assert half.task_vectors.tolist() == [[4, 0, -2, 0], [0, -3, 0, 6]]  # of each of the two tensors
    assert merged(half, [0.25, 0.75]) == [5.0, -3.0, -2.0, 6.0]
    model = built(MergeTies("m", PARENT, density=0.5), [[4.0, 3, -2, 0], [2, -1, -3, 6]])  # of the four numbers
    assert model.task_vectors.tolist() == [[4, 3, 0, 0], [0, 0, -3, 6]]
    assert merged(model, [0.25, 0.75]) == [5.0, 3.0, -3.0, 6.0]


def test_trim_keeps_the_largest_magnitudes_and_at_least_one():
    vectors = torch.tensor([[1.0, -5.0, 3.0, 0.5, -2.0]])
    assert trim(vectors, 0.5).tolist() == [[0, -5, 3, 0, 0]]
    assert trim(vectors, 0.01).tolist() == [[0, -5, 0, 0, 0]]


def test_dare_ties_hand_values():
    whole = built(MergeDareTies("m", PARENT, density=1.0))
    assert merged(whole, [0.5, 0.5]) == [4.0, -3.0, -1.5, 1.0]  # the mean of those that agree
    summed = built(MergeDareTies("m", PARENT, density=1.0, normalize=False))
    assert merged(summed, [0.5, 0.5]) == [4.0, -1.5, -1.5, 0.5]


def test_dare_drops_at_random_and_rescales():
    vectors = random_vectors(2, 4000)
    method = built(MergeDareTies("m", PARENT, density=0.25), vectors, np.zeros(4000))
    kept = method.task_vectors != 0
    assert kept.double().mean(1).tolist() == pytest.approx([0.25, 0.25], abs=0.03)
    torch.testing.assert_close(method.task_vectors[kept], (torch.tensor(vectors) / 0.25)[kept])
    assert not torch.equal(kept[0], kept[1])
    again = built(MergeDareTies("m", PARENT, density=0.25), vectors, np.zeros(4000))
    other = built(MergeDareTies("m", PARENT, density=0.25), vectors, np.zeros(4000), seed=1)
    assert torch.equal(again.task_vectors, method.task_vectors)
    assert not torch.equal(other.task_vectors, method.task_vectors)


def test_slerp_hand_values():
    a, b = slerp(torch.tensor(1 / 3), torch.tensor([0.0, 0.5, 1.0]))  # at right angles, at 60 degrees, on one line
    sine = math.sin(math.pi / 3)
    assert a.tolist() == pytest.approx([math.cos(math.pi / 6), math.sin(2 * math.pi / 9) / sine, 2 / 3])
    assert b.tolist() == pytest.approx([math.cos(math.pi / 3), math.sin(math.pi / 9) / sine, 1 / 3])


def test_slerp_is_folded_tensor_by_tensor_in_the_order_of_the_weights():
    models = torch.tensor(random_vectors(3, 20))
    method = built(MergeSlerp("m", PARENT), models.numpy(), np.zeros(20))

    def between(t, a, b):
        angle = torch.arccos(a @ b / (a.norm() * b.norm()))
        return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)

    expected = []
    for split in (slice(0, 10), slice(10, 20)):
        expected += between(0.2, between(0.3 / 0.8, models[1, split], models[2, split]), models[0, split]).tolist()
    assert merged(method, [0.2, 0.5, 0.3]) == pytest.approx(expected)


@pytest.mark.parametrize("merge", [MergeLinear, MergeSlerp, MergeGradient])
def test_one_hot_weights_give_that_expert(merge):
    vectors = random_vectors()
    method = built(merge("m", PARENT), vectors, np.zeros(20))
    assert merged(method, [0.0, 1.0, 0.0]) == pytest.approx(vectors[1])


@pytest.mark.parametrize("merge", [*MERGES, partial(MergeTies, scale="tuned"), Ensemble, BestExpert])
def test_a_merge_of_one_expert_is_that_expert(merge):
    method = built(merge("m", PARENT), TASK_VECTORS[:1])
    assert not method.takes_h  # so no other h is tried
    model, expert = method.specialist(None, [TEXT]), torch.tensor([5.0, 1, -2, 0], dtype=torch.float64)
    if merge is Ensemble:
        expert = expert.log_softmax(-1)
    assert torch.equal(model(torch.zeros(1, 1, dtype=torch.long))[0, 0], expert)


@pytest.mark.parametrize("merge", MERGES)
def test_theta_is_differentiable_in_h(merge):
    method = built(merge("m", PARENT), random_vectors(), np.zeros(20))
    h = torch.tensor([[0.4, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(method.parameters_at, h)
    (gradient,) = torch.autograd.grad(method.parameters_at(h).sum(), h)
    assert gradient.abs().max() > 1e-3


def test_the_weights_are_the_share_of_h_in_the_groups_that_the_experts_were_trained_on():
    method = built(MergeLinear("m", PARENT))
    trained_on = group_mixtures(method.context, 2) > 0
    h = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    weights = method.expert_weights(h)
    assert weights.tolist() == pytest.approx((trained_on @ h.numpy()).tolist())
    assert sorted(weights.tolist()) == pytest.approx([0.1, 0.9])
    assert method.expert_weights(None).tolist() == [0.5, 0.5]
    assert built(MergeLinear("m", PARENT, "uniform")).expert_weights(h).tolist() == [0.5, 0.5]


def test_labels_and_whether_h_is_taken():
    assert MergeTies("merge_ties", PARENT, "uniform", "tuned").label == "merge_ties_uniform_tuned"
    assert MergeTies("merge_ties", PARENT, "h", 0.5).label == "merge_ties"
    assert MergeTies("merge_ties", PARENT, trim="tensor").label == "merge_ties_by_tensor"
    assert MergeDareTies("merge_dare_ties", PARENT, "uniform", normalize=False).label == "merge_dare_ties_sum_uniform"
    assert MergeTies("m", PARENT).takes_h and not MergeTies("m", PARENT, "uniform").takes_h
    assert not BestExpert("m", PARENT).takes_h


@pytest.mark.parametrize("experts", ["domain_experts", "domain_experts_half_generic", "separate_experts"])
def test_records_tell_the_experts_that_are_merged(compose, experts):
    run = Run.of(compose("method=merge_ties", "method.weights=uniform", f"method.parent.method={experts}"))
    expected = "merge_ties_uniform" + ("" if experts == "domain_experts" else f"_of_{experts}")
    assert run.name.startswith(f"{expected}-test-") and run.parent.name.startswith(f"{experts}-test-")
    assert build_method(run, None, device="meta").label == expected


TEXT = np.repeat([0, 1, 2, 3], [1, 8, 4, 4])  # the first is not predicted
LAW = np.log([1e-9, 0.5, 0.25, 0.25])


def loss(model):
    nats, tokens = document_losses(model, [TEXT], 8)
    return nats.sum() / tokens.sum()


def test_a_tuned_scale_is_the_best_of_the_grid_on_the_documents():
    vectors = [LAW / 0.6, LAW / 0.6]  # at scale 0.6 and a one-hot h, the law of the text
    method = built(MergeTaskArithmetic("m", PARENT, scale="tuned"), vectors, np.zeros(4))
    model = method.specialist(np.array([1.0, 0, 0]), [TEXT])
    assert torch.cat([model.first, model.second]).tolist() == pytest.approx(LAW)
    default = built(MergeTaskArithmetic("m", PARENT), vectors, np.zeros(4)).specialist(np.array([1.0, 0, 0]), [TEXT])
    assert loss(model) < loss(default)
    assert {MergeTaskArithmetic.default_scale, MergeTies.default_scale} < set(SCALES)


def test_gradient_merge_finds_the_coefficients():
    method = built(MergeGradient("m", PARENT, "uniform"), [LAW, [0.0, -3, 3, 0]], np.zeros(4))
    entropy = 1.5 * math.log(2)
    start, tuned = loss(super(MergeGradient, method).specialist(None)), loss(method.specialist(None, [TEXT]))
    assert start > entropy + 0.1 and entropy <= tuned < entropy + 0.02


def test_best_expert_is_chosen_on_the_documents():
    vectors = [[0.0, -3, 2, 2], LAW, [0.0, 0, 0, 0]]
    model = built(BestExpert("m", PARENT), vectors, np.zeros(4)).specialist(None, [TEXT])
    assert torch.cat([model.first, model.second]).tolist() == pytest.approx(LAW)


def test_ensemble_mixes_probabilities():
    method = built(Ensemble("m", PARENT), [LAW, [3.0, 1, -1, 0]], np.zeros(4))
    h = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    tokens = torch.zeros(2, 3, dtype=torch.long)
    hand = method.expert_weights(h) @ method.models.softmax(-1)
    for logits in (method.specialist(h.numpy())(tokens), method.logits(h[None], tokens[None])[0]):
        assert logits.shape == (2, 3, 4)
        torch.testing.assert_close(logits.exp(), hand.expand(2, 3, 4))
        torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, 3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda h: method.logits(h[None], tokens[None]), h.requires_grad_())
    assert not method.deployable and method.cost()["deployed_parameters"] == 2 * (4 + 1)


def test_ensemble_runs_only_experts_with_a_weight():
    method = built(Ensemble("m", PARENT))
    model = method.specialist(np.array([1.0, 0, 0]))
    assert len(model.models) == 1
    expected = method.models[method.labels[0]].log_softmax(-1)
    torch.testing.assert_close(model(torch.zeros(1, 1, dtype=torch.long))[0, 0], expected)


@pytest.mark.parametrize("cls", [MergeLinear, MergeSlerp, Ensemble])
def test_a_tuned_h_is_better_on_its_text(cls):
    method = built(cls("m", PARENT), [LAW, [3.0, 1, -1, 0]], np.zeros(4))
    h = np.array([0.5, 0.25, 0.25])
    tuned = tuned_weights(method, h[None], [[TEXT]])[0]
    assert loss(method.specialist(tuned)) < loss(method.specialist(h)) - 0.01


def test_costs():
    linear, ties = built(MergeLinear("m", PARENT)).cost(), built(MergeTies("m", PARENT)).cost()
    assert linear["stored_parameters"] == 8 and ties["stored_parameters"] == 12
    assert linear["flops_per_step"] == ties["flops_per_step"] == 0
    assert linear["deployed_parameters"] == ties["deployed_parameters"] == 4


@pytest.mark.parametrize(
    "override, message",
    [
        (("method.weights=best",), "method.weights is 'best': it must be one of uniform, h"),
        (("method.scale=large",), "method.scale is 'large': it must be default, tuned or a finite number"),
        (("method.scale=nan",), "method.scale is nan"),
        (("method.density=0",), "method.density is 0: it must be a number above 0, at most 1"),
        (("method.trim=layer",), "method.trim is 'layer': it must be one of tensor, model"),
        (("method.parent.method=generic",), "merge_ties has nothing to merge"),
        (("method.parent.method=crisp",), "must be a set of experts (domain_experts or separate_experts)"),
        (("method.parent=null",), "method.parent is None"),
        (("method.parent.fraction=0.5",), "method.parent.fraction is 0.5"),
        (("method=domain_experts", "method.generic_fraction=1"), "it must be a number from 0, below 1"),
    ],
)
def test_bad_settings_are_refused_before_any_training(arguments, override, message):
    with pytest.raises(UserError) as error:
        sweep.Plan.of(*job_configs([*arguments, "method=merge_ties", *override]))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_experts_of_another_size_are_refused():
    context = built(MergeLinear("m", PARENT)).context
    larger = {"models.value": torch.zeros(2, 6), "common.value": torch.zeros(1, 6)}
    with pytest.raises(UserError, match="the experts of the parent run have 6 parameters, the base model has 4"):
        method = MergeLinear("m", PARENT)
        method.start_from(DomainExperts("d", 0.0, 2))
        method.build(replace(context, parent=larger))


def test_merging_experts_without_a_common_parent_warns_once(caplog):
    with caplog.at_level(logging.WARNING, "soe_bench"):
        built(MergeLinear("merge_linear", PARENT))
        assert not caplog.messages
        built(MergeLinear("merge_linear", PARENT | {"method": "separate_experts"}))
        built(Ensemble("ensemble", PARENT | {"method": "separate_experts"}))  # merges no parameters
    assert len(caplog.messages) == 1 and "barrier" in caplog.messages[0] and "C3" in caplog.messages[0]


def test_a_merge_trains_nothing_and_its_experts_are_trained_once(arguments, tmp_path, monkeypatch, no_images):
    trained = []
    train = executing.train

    def counted(cfg, name, *rest):
        progress = train(cfg, name, *rest)
        trained.append((name.split("-test")[0], progress.step))
        return progress

    def command(*extra):
        plan = sweep.Plan.of(*job_configs([*arguments, "train.tokens=8192", *extra]))
        plan.prepare(Laps())
        for run in plan.runs:
            sweep.run_all([run.cfg])
        plan.finish()
        assert plan.done
        return (tmp_path / "results" / "curves.csv").read_text()

    monkeypatch.setattr(executing, "train", counted)
    monkeypatch.setattr(evaluation, "H_STEPS", 2)
    curves = command("method=generic")
    budget = ["evaluate.budgets=[500]", "evaluate.fine_tuning.lrs=[1e-3]"]
    assert command("method=merge_linear", "method.weights=uniform,h", "-m", *budget) == curves  # a merge has none
    assert command("method=best_expert") == curves
    assert trained == [
        ("generic", 8),
        ("generic", 4),
        ("domain_experts", 4),
        ("merge_linear_uniform", 0),
        ("merge_linear", 0),
        ("best_expert", 0),
    ]
    records = read_records(tmp_path / "results")
    assert {record["training_tokens"] for record in records} == {8192}
    assert {record["parameters"] for record in records} == {37024}
    own = [record for record in records if record["method"] == "merge_linear" and record["split"] == "test"]
    assert {record["h_source"] for record in own} == {"estimate", "uniform", "shuffled", "h_0", "tuned"}
    assert {record["budget_tokens"] for record in own} == {0, 500}
    assert {record["h_source"] for record in records if record["method"] == "best_expert"} == {"none"}

    (experts,) = (tmp_path / "home" / "runs").glob("domain_experts-*")
    (experts / "model.safetensors").unlink()  # damaged, say: trained once more, for the merge that is evaluated anew
    command("method=merge_linear", "evaluate.splits=[validation]")
    assert trained[6:] == [("domain_experts", 4)]


def test_a_run_without_a_curve_leaves_those_of_others_as_they_are(tmp_path):
    """A whole number among floats is written as it was, too."""
    path = tmp_path / "curves.csv"
    rows = pd.DataFrame({"run_id": "a", "step": [1, 2], "tokens_per_second": [54668.0, 0.5]})
    _upsert(path, [rows, rows[:0]], "run_id", ["run_id", "step"])
    assert path.read_text().splitlines()[1:] == ["a,1,54668", "a,2,0.5"]
    _upsert(path, [rows[:0]], "run_id", ["run_id", "step"])
    assert path.read_text().splitlines()[1:] == ["a,1,54668", "a,2,0.5"]
