"""Domain weights, pi and the sampler of mix(h)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soe_bench.errors import UserError
from soe_bench.mixture import MetaDistribution, Mixture, check_weights

STREAMS = [np.arange(start, stop, dtype=np.uint16) for start, stop in ((100, 142), (200, 221), (300, 305))]


@settings(max_examples=50, deadline=None)
@given(
    k=st.integers(1, 40),
    support=st.integers(1, 50),
    share=st.floats(0, 1),
    law=st.sampled_from(["uniform", "h_0"]),
    concentration=st.floats(0.05, 20),
    seed=st.integers(0, 2**31),
)
def test_every_draw_is_on_the_simplex_with_a_small_support(k, support, share, law, concentration, seed):
    rng = np.random.default_rng(seed)
    h_0 = rng.dirichlet(np.ones(k))
    for h in MetaDistribution(support, law, concentration, share).sample(rng, 8, h_0):
        check_weights(h, k)
        assert np.array_equal(h, h_0) or (h > 0).sum() <= min(support, k)


def test_share_of_generic_draws_and_of_domains():
    h_0 = np.array([0.7, 0.2, 0.1])
    rng = np.random.default_rng(0)
    draws = MetaDistribution(1, "h_0", 1.0, 0.25).sample(rng, 20_000, h_0)
    generic = (draws == h_0).all(1)
    assert generic.mean() == pytest.approx(0.25, abs=0.01)
    assert draws[~generic].mean(0) == pytest.approx(h_0, abs=0.01)  # one-hot, domains by h_0


def test_uniform_domains_are_drawn_alike_whatever_h_0():
    draws = MetaDistribution(1, "uniform", 1.0, 0.0).sample(np.random.default_rng(0), 20_000, np.array([0.7, 0.2, 0.1]))
    assert draws.mean(0) == pytest.approx(np.full(3, 1 / 3), abs=0.01)


def test_weights_come_back_as_float64():
    assert check_weights(np.array([0.25, 0.75], dtype=np.float32), 2).dtype == np.float64


@pytest.mark.parametrize(
    "h, message",
    [
        ([0.5, 0.6, 0.0], "off the simplex"),
        ([1.5, -0.5, 0.0], "off the simplex"),
        ([np.nan, 0.5, 0.5], "off the simplex"),
        ([0.5, 0.5], "3 domains"),
    ],
)
def test_weights_off_the_simplex_are_refused(h, message):
    with pytest.raises(UserError, match=message):
        check_weights(np.array(h), 3)


def test_sequences_are_windows_of_the_stream_that_overlap_by_one_token():
    mixture = Mixture(STREAMS, 4, seed=0)
    assert mixture.sizes.tolist() == [10, 5, 1]
    batch = mixture.batch(np.random.default_rng(0), np.array([[1.0, 0, 0], [0, 0, 1.0]]), 10)
    assert batch.shape == (2, 10, 5)
    assert sorted(batch[0, :, 0]) == list(range(100, 140, 4))  # one epoch: every window exactly once
    assert (batch[1] == [300, 301, 302, 303, 304]).all()
    assert mixture.epochs.tolist() == [[1.0, 0.0, 10.0]]


def test_the_last_token_of_a_stream_is_a_target_only():
    assert Mixture([np.arange(8), np.arange(9)], 4, seed=0).sizes.tolist() == [1, 2]


def test_tokens_and_counts_are_int64():
    mixture = Mixture(STREAMS, 4, seed=0)
    assert mixture.batch(np.random.default_rng(0), np.array([[1.0, 0, 0]]), 2).dtype == np.int64
    assert mixture.taken.dtype == np.int64


@pytest.mark.parametrize("before", [3, 10, 17, 25])  # epochs of ten sequences
def test_the_counts_are_the_whole_state(before):
    whole, resumed, h = Mixture(STREAMS, 4, 7), Mixture(STREAMS, 4, 7), np.array([[1.0, 0, 0]])
    whole.batch(np.random.default_rng(0), h, before)
    resumed.taken[:] = whole.taken
    rows = [mixture.batch(np.random.default_rng(0), h, 12) for mixture in (whole, resumed)]
    assert np.array_equal(*rows)


def test_the_next_sequence_of_a_domain_depends_on_seed_domain_and_count_only():
    """Whatever the weights of two methods, their t-th sequence from a domain is the same."""
    alone, mixed, other = Mixture(STREAMS, 4, 7), Mixture(STREAMS, 4, 7), Mixture(STREAMS, 4, 8)
    first = alone.batch(np.random.default_rng(0), np.array([[1.0, 0, 0]]), 25)[0]
    rng = np.random.default_rng(1)
    taken = [row for _ in range(100) for row in mixed.batch(rng, np.array([[0.3, 0.4, 0.3]]), 1)[0] if row[0] < 200]
    assert np.array_equal(first, taken[:25])
    assert not np.array_equal(first, other.batch(np.random.default_rng(0), np.array([[1.0, 0, 0]]), 25)[0])


def test_realised_shares_follow_the_weights():
    mixture = Mixture(STREAMS, 4, seed=0)
    h = np.array([0.2, 0.5, 0.3])
    mixture.batch(np.random.default_rng(0), h[None], 20_000)
    assert mixture.taken[0] / 20_000 == pytest.approx(h, abs=0.01)


def test_weights_of_a_softmax_in_float32_are_drawn_from():
    h = np.array([0.3, 0.3, 0.4 + 5e-7])  # as far from 1 as such a sum may be
    with pytest.raises(ValueError, match="do not sum to 1"):
        np.random.default_rng(0).choice(3, p=h)
    near, exact = Mixture(STREAMS, 4, seed=0), Mixture(STREAMS, 4, seed=0)
    batch = near.batch(np.random.default_rng(0), h[None], 100)
    assert np.array_equal(batch, exact.batch(np.random.default_rng(0), h[None] / h.sum(), 100))


def test_no_sequence_is_drawn_with_weights_off_the_simplex():
    with pytest.raises(UserError, match="off the simplex"):
        Mixture(STREAMS, 4, seed=0).batch(np.random.default_rng(0), np.array([[0.3, 0.3, 0.3]]), 1)


def test_a_domain_shorter_than_a_sequence_is_refused():
    with pytest.raises(UserError, match="domain 2 is shorter than one sequence of 8 tokens"):
        Mixture(STREAMS, 8, seed=0)
