"""The merges against mergekit (LGPL-3.0, https://github.com/arcee-ai/mergekit), tensor by tensor: make test-peer."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.domain_experts import DomainExperts
from baselines.merge_dare_ties import MergeDareTies
from baselines.merge_linear import MergeLinear
from baselines.merge_slerp import MergeSlerp
from baselines.merge_task_arithmetic import MergeTaskArithmetic
from baselines.merge_ties import MergeTies
from soe_bench.method import MethodContext
from soe_bench.model import Llama
from soe_bench.ops.adamw import Optimizer

pytest.importorskip("mergekit", reason="mergekit is not installed: make test-peer installs it and runs these tests")
pytestmark = pytest.mark.peer
PARENT = {"method": "domain_experts", "fraction": 1.0}
COUNT = 3


def models(count: int) -> list[Llama]:
    """The common parent and `count` experts near it, float32."""
    torch.manual_seed(0)
    made = [
        Llama(
            19,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=12,
            max_position_embeddings=8,
        )
        for _ in range(count + 1)
    ]
    with torch.no_grad():
        for expert in made[1:]:
            for own, parent in zip(expert.parameters(), made[0].parameters(), strict=True):
                own.copy_(parent + 0.3 * torch.randn_like(parent))
    return made


def ours(method, made: list[nn.Module], weights: list[float]) -> dict[str, Tensor]:
    k = len(made) - 1
    flat = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in made]
    method.start_from(DomainExperts("domain_experts", 0.0, k))
    method.build(
        MethodContext(
            made[0],
            np.full(k, 1 / k),
            seq_len=8,
            sequences=1,
            draws_per_step=1,
            optimizer=Optimizer(0.9, 0.95, 1e-8, 0, 0, 0, 1),
            centroids=np.arange(k)[:, None],
            parent={"models.value": torch.stack(flat[1:]), "common.value": flat[0][None]},
        )
    )
    return method.flat.unflatten(method.merged(torch.tensor(weights)))


def theirs(name: str, made: list[nn.Module], each: list[dict], base: int | None, **settings) -> dict[str, Tensor]:
    """mergekit's own tasks, executed on each tensor of `made`. `each`: the parameters of the models but the base."""
    from mergekit.architecture import WeightInfo
    from mergekit.common import ImmutableMap, ModelReference
    from mergekit.merge_methods.base import TensorDictWrapper
    from mergekit.merge_methods.registry import REGISTERED_MERGE_METHODS

    references = [ModelReference.model_validate(f"model/{i}") for i in range(len(made))]
    method = REGISTERED_MERGE_METHODS[name]
    settings = {p.name: p.default_value for p in method.parameters()} | settings
    own = {reference: ImmutableMap(values) for reference, values in zip(references[-len(each) :], each, strict=True)}
    merged = {}
    for key, _ in made[0].named_parameters():
        task = method.make_task(
            output_weight=WeightInfo(name=key),
            tensors=TensorDictWrapper(tensors=ImmutableMap({})),
            base_model=None if base is None else references[base],
            parameters=ImmutableMap(settings),
            tensor_parameters=ImmutableMap(own),
        )
        tensors = {
            reference: model.get_parameter(key).detach().clone()
            for reference, model in zip(references, made, strict=True)
        }
        merged[key] = task.execute(tensors=tensors)
    return merged


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


WEIGHTS = [[0.2, 0.5, 0.3], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.9, 0.1]]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_linear(weights):
    made = models(COUNT)
    assert_equal(
        ours(MergeLinear("m", PARENT), made, weights),
        theirs("linear", made[1:], [{"weight": w} for w in weights], None),
    )


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5])
def test_slerp_of_two(t):
    made = models(2)
    assert_equal(ours(MergeSlerp("m", PARENT), made, [1 - t, t]), theirs("slerp", made[1:], [{}, {}], 0, t=t))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_task_arithmetic(weights):
    made = models(COUNT)
    relative = [{"weight": w / max(weights)} for w in weights]
    assert_equal(
        ours(MergeTaskArithmetic("m", PARENT), made, weights),
        theirs("task_arithmetic", made, relative, 0, **{"lambda": 0.4}),
    )


@pytest.mark.parametrize("density", [0.2, 0.7])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_ties(weights, density):
    made = models(COUNT)
    each = [{"weight": w, "density": density} for w in weights]
    method = MergeTies("m", PARENT, density=density, trim="tensor")
    assert_equal(ours(method, made, weights), theirs("ties", made, each, 0))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_dare_ties_with_the_same_mask(weights, normalize, monkeypatch):
    """mergekit asks for a mask tensor by tensor and model by model: it is handed our own."""
    made, density = models(COUNT), 0.6
    method = MergeDareTies("m", PARENT, density=density, normalize=normalize)
    expected = ours(method, made, weights)
    parts = [(vectors != 0).float() for vectors in method.flat.unflatten(method.task_vectors).values()]
    masks = iter([mask for part in parts for mask in part])
    monkeypatch.setattr(torch, "bernoulli", lambda probabilities: next(masks))
    each = [{"weight": w, "density": density} for w in weights]
    settings = {"rescale": False, "normalize": normalize, "lambda": 1 / density}
    assert_equal(expected, theirs("dare_ties", made, each, 0, **settings))
    assert next(masks, None) is None
