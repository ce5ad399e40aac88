"""Weight matching: which permutations leave a Llama's function as it is, and that they are found again."""

import dataclasses
from itertools import permutations

import numpy as np
import pytest
import torch
from tiny_soup import tiny_context

from baselines.domain_experts import SeparateExperts
from baselines.merge_aligned import MergeAligned, axes, match, permuted, unit_counts
from soe_bench.errors import UserError
from soe_bench.method import with_parameters
from soe_bench.model import Llama
from soe_bench.ops.flat import Flat

PARENT = {"method": "separate_experts", "fraction": 1.0}
VOCAB = 17


def llama(seed: int, tied: bool = True) -> Llama:
    """Two layers of four heads, in float64, with norm weights that differ from unit to unit."""
    torch.manual_seed(seed)
    model = Llama(VOCAB, 16, 2, 4, 12, max_position_embeddings=9, tie_word_embeddings=tied).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) if parameter.dim() > 1 else 0.5 + torch.rand(16))
    return model


def shuffled(model: Llama, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The parameters (P,) of the model with every group of units in a random order, and these orders."""
    generator = torch.Generator().manual_seed(seed)
    orders = {group: torch.randperm(count, generator=generator) for group, count in unit_counts(model).items()}
    named = dict(model.named_parameters())
    return torch.cat([permuted(name, p.detach(), orders).flatten() for name, p in named.items()]), orders


def merge(base: Llama, models: list[torch.Tensor]) -> MergeAligned:
    method = MergeAligned("merge_aligned", PARENT)
    method.start_from(SeparateExperts("separate_experts", 0.0, len(models), 1.0))
    count = len(models)
    method.build(
        dataclasses.replace(
            tiny_context(),
            base=base,
            h_0=np.full(count, 1 / count),
            centroids=np.eye(count),
            parent={"models.value": torch.stack(models), "common.value": models[0][None]},
        )
    )
    return method


@pytest.mark.parametrize("tied", [True, False])
def test_a_permuted_copy_has_the_same_logits_and_is_matched_back_exactly(tied):
    model = llama(0, tied)
    flat, tokens = Flat(model), torch.randint(VOCAB, (2, 9))
    own = flat.flatten(model)
    copy, orders = shuffled(model, 1)
    assert not torch.allclose(copy, own)
    torch.testing.assert_close(with_parameters(model, flat, copy)(tokens), model(tokens))
    found = match(flat.unflatten(own), flat.unflatten(copy), unit_counts(model))
    assert {group: order[found[group]].tolist() for group, order in orders.items()} == {
        group: list(range(count)) for group, count in unit_counts(model).items()
    }
    method = merge(model, [own, copy, shuffled(model, 2)[0]])
    assert torch.equal(method.models, own.expand(3, -1))
    torch.testing.assert_close(method.specialist(np.array([0.2, 0.5, 0.3]))(tokens), model(tokens))


def test_other_models_keep_their_functions_and_come_nearer_to_the_first():
    first, other = llama(0), llama(1)
    flat, tokens = Flat(first), torch.randint(VOCAB, (2, 9))
    models = [flat.flatten(first), flat.flatten(other)]
    method = merge(first, models)
    assert torch.equal(method.models[0], models[0])
    torch.testing.assert_close(with_parameters(first, flat, method.models[1])(tokens), other(tokens))
    assert models[0] @ method.models[1] > models[0] @ models[1]


def test_a_match_is_the_best_assignment_of_each_group_where_one_is_alone():
    """One hidden layer's units, all else equal to the reference: every order is tried."""
    torch.manual_seed(0)
    model = Llama(VOCAB, 8, 1, 2, 4, max_position_embeddings=9).double()
    flat = Flat(model)
    reference = flat.unflatten(flat.flatten(model))
    other = {n: 1e-3 * torch.randn_like(p) if "mlp" in n else p for n, p in reference.items()}  # so the rest stays put
    counts = unit_counts(model)

    def likeness(order: torch.Tensor) -> float:
        orders = {group: torch.arange(count) for group, count in counts.items()} | {"mlp.0": order}
        return sum((reference[n] * permuted(n, p, orders)).sum().item() for n, p in other.items() if "mlp" in n)

    found = match(reference, other, counts)
    assert all(torch.equal(found[group], torch.arange(counts[group])) for group in ("residual", "self_attn.0"))
    best = max(likeness(torch.tensor(order)) for order in permutations(range(4)))
    assert likeness(found["mlp.0"]) == pytest.approx(best)


def test_every_axis_of_every_parameter_is_a_group_of_units_or_the_vocabulary():
    model = llama(0, tied=False)
    counts = unit_counts(model)
    for name, parameter in model.named_parameters():
        assert len(axes(name)) == parameter.dim()
        for group, size in zip(axes(name), parameter.shape, strict=True):
            assert size == VOCAB if group is None else size % counts[group] == 0


def test_another_model_is_refused():
    method = MergeAligned("merge_aligned", PARENT)
    method.start_from(SeparateExperts("separate_experts", 0.0, 2, 1.0))
    with pytest.raises(UserError, match=r"soe_bench\.model\.Llama only"):
        method.build(dataclasses.replace(tiny_context(), base=torch.nn.Linear(2, 2)))
