"""The gate's verdicts on made-up losses: each way that it can end, and its interval by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from soe_bench.specialists.gate import difference, judge

TOKENS = np.full(10, 100)


def verdict(by_text, tokens=TOKENS, documents=10):
    """Of a specialist whose loss differs by `by_text` (D,) nats per token from that of the better generic model."""
    generic = 5.0 * tokens
    nats = {"specialist": generic + np.asarray(by_text) * tokens, "soup at h_0": 1.1 * generic, "generic run": generic}
    return judge("specialist", ["soup at h_0", "generic run"], nats, tokens, 4 * int(tokens.sum()), 2048, documents)


def test_a_specialist_that_is_surely_better_ships():
    found = verdict(np.linspace(-0.6, -0.4, 10))
    assert found.ship and found.sure and found.reference == "generic run"
    row = found.row("specialist")
    assert row.difference.mean == pytest.approx(-0.5) and row.difference.low < -0.5 < row.difference.high < 0
    assert row.loss == pytest.approx(4.5) and row.bits_per_byte == pytest.approx(4.5 / math.log(2) / 4)
    assert "On 10 held-out documents the loss" in found.words and (found.units, found.tokens) == (10, 1000)
    assert "0.500 nats per token lower than that of the generic run" in found.words


def test_passages_of_few_documents_are_no_documents():
    words = verdict(np.linspace(-0.6, -0.4, 10), documents=1).words
    assert "On 10 held-out passages of 1 document the loss" in words and "other documents may differ by more" in words


def test_a_specialist_that_is_perhaps_better_ships_with_a_doubt():
    found = verdict([-1, 0.9] * 5)
    assert found.ship and not found.sure and "The interval covers 0" in found.words


def test_a_specialist_that_is_worse_does_not_ship():
    assert not verdict(np.linspace(0.4, 0.6, 10)).ship
    assert not verdict([1, -0.9] * 5).ship  # also where this is unsure


def test_equal_losses_ship():
    """With an interval of no width at 0, which is on neither side of it."""
    assert verdict(np.zeros(10)).ship and not verdict(np.zeros(10)).sure


def test_a_generic_model_whose_loss_is_no_number_is_not_the_reference():
    nats = {"specialist": 4.9 * TOKENS, "soup at h_0": math.nan * TOKENS, "generic run": 5.0 * TOKENS}
    found = judge("specialist", ["soup at h_0", "generic run"], nats, TOKENS, 4000, 2048, 10)
    assert found.reference == "generic run" and found.ship


def test_the_better_generic_model_is_the_reference():
    tokens = TOKENS
    nats = {"specialist": 4.9 * tokens, "soup at h_0": 4.8 * tokens, "generic run": 5.0 * tokens}
    found = judge("specialist", ["soup at h_0", "generic run"], nats, tokens, 4000, 2048, 10)
    assert found.reference == "soup at h_0" and not found.ship
    assert found.rows[-1].name == "uniform guessing" and found.rows[-1].loss == pytest.approx(math.log(2048))
    assert found.rows[-1].difference.mean == pytest.approx(math.log(2048) - 4.8)


def test_a_loss_that_is_no_number_does_not_ship():
    found = verdict([math.nan] + [-1] * 9)
    assert not found.ship and not found.sure and "not a number" in found.words


def test_the_interval_is_that_of_the_mean_where_all_texts_are_of_one_length():
    by_text = np.array([0.1, -0.2, 0.3, 0.05, -0.4])
    found = difference(100 * by_text, np.full(5, 100))
    expected = stats.t.interval(0.95, 4, by_text.mean(), stats.sem(by_text))
    assert (found.mean, found.low, found.high) == pytest.approx((by_text.mean(), *expected))


def test_long_texts_count_for_more():
    assert difference(np.array([100.0, 0.0]), np.array([100, 300])).mean == pytest.approx(0.25)
