"""The cost table against values worked out by hand, and its break-even against counting up."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_records import CRISP, run, write_records

from soe_bench.report.load import load_results
from soe_bench.report.spending import break_even
from soe_bench.report.tables.costs import costs_table
from soe_bench.report.view import make_views

SOUP = dict(
    flops=50.0,
    training_tokens=1000,
    stored_parameters=50,
    deployed_parameters=10,
    specialist_flops=2.0,
    specialist_seconds=0.25,
    peak_memory_bytes=3 * 10**9,
)
GENERIC = dict(flops=20.0, training_tokens=1000, stored_parameters=10, deployed_parameters=10)


def rows_of(folder, rows: list[dict]) -> dict[str, dict[str, str]]:
    """The cost table: method -> row."""
    text = costs_table(make_views(load_results(write_records(folder, rows)))[0]).csv()
    return {row["method"]: row for row in csv.DictReader(text.splitlines())}


@pytest.fixture
def records() -> list[dict]:
    """Generic, a soup and CRISP, two seeds and two specialists; generic fine-tuned on 100k tokens, on one specialist of
    seed 0 at half the cost."""
    rows = []
    for seed in range(2):
        rows += run("soup", 4, seed, {"a": 3.0, "b": 4.0}, "estimate", **SOUP)
        rows += run("soup", 4, seed, {"a": 3.5, "b": 4.5}, "uniform", **{**SOUP, "specialist_flops": 99.0})
        rows += run("soup", 2, seed, {"a": 3.2, "b": 4.4}, "estimate", **SOUP)
        rows += run("generic", 0, seed, {"a": 3.1, "b": 4.3, "generic": 3.0}, "none", **GENERIC)
        rows += run("crisp", 0, seed, {"a": 2.9, "b": 3.9}, "estimate", **CRISP)
        for name, loss in (("a", 2.9), ("b", 3.7)):
            share = 1 if (seed, name) == (0, "a") else 2
            tuning = dict(specialist_tokens=200 * share, specialist_flops=4.0 * share, specialist_seconds=1500.0)
            rows += run("generic", 0, seed, {name: loss}, "none", budget_tokens=100_000, **GENERIC, **tuning)
    return rows


def test_cost_table_by_hand(records, tmp_path):
    table = rows_of(tmp_path, records)
    assert list(table) == ["generic", "crisp", "soup n=2", "soup n=4", "generic, fine-tuned on 100k"]
    assert table["soup n=4"] == {
        "method": "soup n=4",
        "stored parameters": "50",
        "deployed parameters": "10",
        "tokens once": "1000",
        "FLOPs once": "50",
        "tokens each": "0",
        "FLOPs each": "2",
        "seconds each": "0.25",
        "peak memory GB": "3.00",
        "break-even specialists": "",
        "loss minus the soup's": "",
        "seeds": "",
        "specialists": "",
    }
    # once 20; each (4 + 8) / 2 = 6 in seed 0, 8 in seed 1: 7; 50 + 2 N < 20 + 7 N from N = 7, for at 6 they are equal
    assert table["generic, fine-tuned on 100k"] == {
        "method": "generic, fine-tuned on 100k",
        "stored parameters": "10",
        "deployed parameters": "10",
        "tokens once": "1000",
        "FLOPs once": "20",
        "tokens each": "350",
        "FLOPs each": "7",
        "seconds each": "1500",
        "peak memory GB": "1.00",
        "break-even specialists": "7",
        "loss minus the soup's": "-0.2000",
        "seeds": "2",
        "specialists": "2 of 2",
    }
    generic = table["generic"]
    assert (generic["FLOPs each"], generic["break-even specialists"]) == ("0", "never")
    assert generic["loss minus the soup's"] == "0.2000"
    # a run of 80 FLOPs, 4000 tokens and 40 s makes two models: 40, 2000 and 20 for each, and its own 1, 7 and 0.5
    crisp = table["crisp"]
    assert [crisp[name] for name in ("tokens once", "FLOPs once", "tokens each", "FLOPs each", "seconds each")] == [
        "0",
        "0",
        "2007",
        "41",
        "20.5",
    ]
    assert (crisp["break-even specialists"], crisp["loss minus the soup's"]) == ("2", "-0.1000")  # 54 < 82, 52 > 41


def test_the_parent_of_a_model_per_specialist_is_paid_once(records, tmp_path):
    """Of the 80 FLOPs, 4000 tokens and 40 s that make two models the parent took 60, 3000 and 24."""
    for row in records:
        if row["method"] == "crisp":
            row |= dict(parent="p", parent_flops=60.0, parent_tokens=3000, parent_seconds=24.0)
    crisp = rows_of(tmp_path, records)["crisp"]
    assert [crisp[name] for name in ("tokens once", "FLOPs once", "tokens each", "FLOPs each", "seconds each")] == [
        "3000",
        "60",
        "507",
        "11",
        "8.5",
    ]


def test_a_fine_tuned_row_counts_the_specialists_that_have_the_budget(records, tmp_path):
    rows = [row for row in records if not (row["budget_tokens"] and row["specialist"] == "a")]
    row = rows_of(tmp_path, rows)["generic, fine-tuned on 100k"]
    assert (row["FLOPs each"], row["loss minus the soup's"], row["specialists"]) == ("8", "-0.3000", "1 of 2")


def test_without_a_soup_there_is_no_break_even_and_without_an_estimate_no_spending(records, tmp_path):
    rows = [row for row in records if row["method"] != "soup"]
    row = rows_of(tmp_path / "none", rows)["crisp"]
    assert (row["break-even specialists"], row["loss minus the soup's"], row["FLOPs each"]) == ("", "", "41")
    rows = [row for row in records if not (row["n_experts"] == 2 and row["h_source"] == "estimate")]
    rows += run("soup", 2, 0, {"a": 3.5}, "uniform", **SOUP)
    row = rows_of(tmp_path / "uniform", rows)["soup n=2"]
    assert (row["FLOPs once"], row["FLOPs each"], row["break-even specialists"]) == ("missing",) * 3
    assert row["loss minus the soup's"] == ""


COST = st.integers(0, 12)


@given(COST, COST, COST, COST)
def test_break_even_is_what_counting_up_finds(once, each, other_once, other_each):
    most = 20  # the lines cross before that
    cheaper = [n for n in range(1, most + 1) if once + n * each < other_once + n * other_each]
    expected = "never"
    if cheaper:
        expected = str(cheaper[0]) if cheaper[-1] == most else f"up to {cheaper[-1]}"
    assert break_even(once, each, other_once, other_each) == expected


def test_what_was_not_measured_is_missing_and_not_nothing(tmp_path):
    rows = run("generic", 0, 0, {"a": 3.0}, "none")
    rows += run("soup", 4, 0, {"a": 2.9}, "estimate", specialist_flops=None, specialist_tokens=None)
    costs = rows_of(tmp_path, rows)
    assert costs["soup n=4"]["FLOPs each"] == "missing" != costs["generic"]["FLOPs each"]
