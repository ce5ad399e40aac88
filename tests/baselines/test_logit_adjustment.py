"""Generic pretraining with logits adjusted for h: the frequencies by hand, and what it reduces to."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_soup import META, RATE, ROUTER, VOCAB, K, soup, tiny_context

from baselines.generic import Generic
from baselines.logit_adjustment import PRIOR_TOKENS, LogitAdjustment
from soe_bench.errors import UserError
from soe_bench.soup import SoupOfExperts

PARENT = {"method": "generic", "fraction": 1.0}


def counts() -> np.ndarray:
    """Domain 0 has tokens 0 and 1 alone, three to one; the others have every token once."""
    table = np.ones((K, VOCAB), dtype=np.int64)
    table[0] = 0
    table[0, :2] = 3 * VOCAB, VOCAB
    return table


def text(domain: int) -> np.ndarray:
    """Text with those counts: each token as often, one after the other."""
    return np.repeat(np.arange(VOCAB, dtype=np.uint16), counts()[domain])


def adjusted(strength: float = 1.0, order: int = 1) -> LogitAdjustment:
    method = LogitAdjustment("logit_adjustment", strength, PARENT, order)
    method.start_from(Generic("generic", 0.1))
    method.build(replace(tiny_context(), domain_tokens=text))
    return method


def log_frequencies(domain: int) -> np.ndarray:
    generic = counts().sum(0) + 1
    own = counts()[domain] + VOCAB * generic / generic.sum()
    return np.log(own / own.sum())


def test_the_shift_is_the_logarithm_of_the_ratio_of_frequencies():
    """At the weights (1/2, 1/2, 0, ...), worked out with numpy; a token that domain 0 has less often gets less."""
    method, h = adjusted(0.5), np.array([0.5, 0.5, 0, 0, 0])
    own = 0.5 * np.exp(log_frequencies(0)) + 0.5 * np.exp(log_frequencies(1))
    generic = np.mean([np.exp(log_frequencies(i)) for i in range(K)], axis=0)
    shift = method.shift(torch.tensor(h)[None])[0, 0].numpy()
    assert shift == pytest.approx(0.5 * np.log(own / generic))
    assert shift[0] > 0 > shift[2]


def test_of_order_2_it_is_the_ratio_of_the_frequencies_after_the_token_before():
    """Worked out with numpy, pair by pair: c_i(v, w) of each text, and PRIOR_TOKENS tokens of its own frequencies."""
    method, h = adjusted(0.5, order=2), np.array([0.5, 0.5, 0, 0, 0])

    def frequencies(weights: np.ndarray) -> np.ndarray:
        total = np.zeros((VOCAB, VOCAB))
        for i, weight in enumerate(weights):
            pairs = np.zeros((VOCAB, VOCAB))
            for one, other in itertools.pairwise(text(i).tolist()):
                pairs[one, other] += 1
            size = counts()[i].sum() + VOCAB
            total += weight / size * (pairs + PRIOR_TOKENS * np.exp(log_frequencies(i)))
        return total / total.sum(1, keepdims=True)

    expected = 0.5 * np.log(frequencies(h) / frequencies(np.full(K, 1 / K)))
    assert method.shift(torch.tensor(h)[None])[0].numpy() == pytest.approx(expected)
    assert expected[0, 0] > 0 > expected[0, 2]


@pytest.mark.parametrize("order", [1, 2])
def test_a_specialist_is_the_generic_model_with_that_shift(order):
    method, tokens, h = adjusted(order=order), torch.arange(8)[None] % VOCAB, np.eye(K)[0]
    generic = Generic("generic", 0.1)
    generic.build(tiny_context())
    table = method.shift(torch.tensor(h)[None])[0]
    expected = generic.specialist(None)(tokens) + (table[tokens] if order == 2 else table[0])
    torch.testing.assert_close(method.specialist(h)(tokens), expected)
    torch.testing.assert_close(method.logits(torch.tensor(h)[None], tokens[None])[0], expected)


@pytest.mark.parametrize(
    "method, h",
    [
        *((adjusted(0.0), np.eye(K)[0]), (adjusted(), None), (adjusted(), np.full(K, 1 / K))),
        (adjusted(order=2), np.full(K, 1 / K)),
    ],
)
def test_without_strength_or_at_h_0_it_is_the_generic_model(method, h):
    tokens = torch.arange(8)[None] % VOCAB
    torch.testing.assert_close(method.specialist(h)(tokens), method.specialist(None)(tokens))


def test_it_starts_from_one_whole_generic_run():
    adjusted().start_from(Generic("generic", 0.1))
    for parent in (PARENT | {"fraction": 0.5}, None):
        with pytest.raises(UserError, match="with fraction 1"):
            LogitAdjustment("logit_adjustment", 1.0, parent).start_from(Generic("generic", 0.1))
    with pytest.raises(UserError, match="one dense model"):
        adjusted().start_from(adjusted())


def test_of_a_soup_it_is_the_soups_specialist_with_the_same_shift():
    """Its parameters are those of the parent run, and the table is that of the generic model at the same h."""
    tokens, h = torch.arange(8)[None] % VOCAB, np.array([0.5, 0.5, 0, 0, 0])
    trained = soup(4, expert_init=0.5)
    values = {name: tensor for name, tensor in trained.tensors().items() if name.endswith(".value")}
    method = LogitAdjustment("logit_adjustment", 1.0, PARENT | {"method": "soup"}, order=2)
    method.start_from(SoupOfExperts("soup", RATE, 4, 0.3, 0.0, ROUTER, META))
    method.build(replace(tiny_context(), domain_tokens=text, parent=values))
    shift = adjusted(order=2).shift(torch.tensor(h)[None])[0]
    torch.testing.assert_close(method.specialist(h)(tokens), trained.specialist(h)(tokens) + shift[tokens])
    assert method.label == "logit_adjustment_of_soup" and method.cost()["stored_parameters"] > sum(
        tensor.numel() for tensor in values.values()
    )


@pytest.mark.parametrize(("order", "deployable"), [(1, True), (2, False)])
def test_the_table_counts_as_parameters(order, deployable):
    """A specialist has a number per token, or per pair of tokens. Stored are each domain's frequencies, and pairs."""
    method, plain = adjusted(order=order), Generic("generic", 0.0)
    plain.build(tiny_context())
    pairs = sum(len(set(itertools.pairwise(text(i)))) for i in range(K)) if order == 2 else 0
    cost, base = method.cost(), plain.cost()
    assert cost["deployed_parameters"] - base["deployed_parameters"] == VOCAB**order
    assert cost["stored_parameters"] - base["stored_parameters"] == K * VOCAB + pairs
    assert method.deployable is deployable
