"""Effects, intervals and verdicts of the claims against values worked out by hand from made-up records."""

import csv
import io
import itertools
import json
from dataclasses import replace

import pandas as pd
import pytest
from made_up_claims import SPREAD, claims, generic, overall, report, soup
from made_up_records import run, write_realistic, write_records

from soe_bench.errors import UserError
from soe_bench.report.effects import NotRun, Soups, break_even
from soe_bench.report.load import load_results
from soe_bench.report.tables.claims import claims_table, load_claims
from soe_bench.report.view import make_views


def test_a_replicated_claim_by_hand(tmp_path):
    rows = [row for seed in range(3) for row in generic(seed) + soup(4, seed, SPREAD[seed])]
    tests = claims(tmp_path, rows)["C1"]
    # by seed -0.2, -0.22, -0.18: half width 0.04968; by specialist -0.19, -0.21: the bootstrap of two ends at them;
    # both: sqrt(0.0004 / 3 + 0.0002 / 2) = 0.015275, times 3.26 at 2.88 degrees of freedom
    assert tests.pop("soup n=4 minus generic on as many FLOPs")["effect"] == "-0.2000"  # here tokens cost the same
    for tokens in ("a quarter of the tokens", "four times the tokens"):
        assert tests.pop(f"soup n=4 minus generic, both on {tokens}")["note"].startswith(
            "missing: no record of a soup on "
        )
    assert tests == {
        "soup n=4 minus generic": {
            "claim": "C1",
            "claim's verdict": "replicated",
            "decides": "yes",
            "rule": "< 0",
            "statement": load_claims()[0].statement,
            "in words": "0.20 lower",
            "effect": "-0.2000",
            "seeds low": "-0.2497",
            "seeds high": "-0.1503",
            "specialists low": "-0.2100",
            "specialists high": "-0.1900",
            "both low": "-0.2498",
            "both high": "-0.1502",
            "seeds": "3",
            "specialists": "2 of 2",
            "median": "-0.2000",
            "below 0": "2",
            "verdict": "replicated",
            "note": "",
            "commit": "0123456789ab",
        }
    }
    [first, *_] = json.loads((report(tmp_path, rows) / "tables" / "claims.json").read_text())
    assert first == {
        "id": "C1.1",
        "test": "soup n=4 minus generic",
        "decides": True,
        "effect": -0.2,
        "low": -0.2498,
        "high": -0.1502,
        "n": 3,
        "specialists": "2 of 2",
        "median": -0.2,
        "below_0": 2,
        "verdict": "replicated",
    }


@pytest.mark.parametrize(
    ("gains", "effect", "verdict", "note"),
    [
        ((-0.1, -0.11, -0.09), "0.2000", "contradicted", ""),
        ((0.1, -0.05, 0.1), "-0.1000", "not separated", ""),  # by seed -0.2, 0.1, -0.2
        ((0.1,), "-0.2000", "not separated", "n = 1 seed"),
    ],
)
def test_the_other_verdicts(tmp_path, gains, effect, verdict, note):
    rows = [row for seed, gain in enumerate(gains) for row in generic(seed) + soup(4, seed, gain)]
    row = claims(tmp_path, rows)["C1"]["soup n=4 minus generic"]
    assert (row["effect"], row["verdict"], row["note"]) == (effect, verdict, note)


def test_the_interval_over_specialists_can_withhold_a_verdict(tmp_path):
    rows = []
    for seed, gain in enumerate(SPREAD):
        rows += generic(seed) + run("soup", 4, seed, {"a": 3.0 + 0.01, "b": 4.0 - 3 * gain}, "estimate")
    row = claims(tmp_path, rows)["C1"]["soup n=4 minus generic"]
    assert float(row["seeds high"]) < 0 < float(row["specialists high"])
    assert row["verdict"] == "not separated"


def test_the_largest_number_of_experts_decides_and_the_others_are_shown(tmp_path):
    rows = []
    for seed, gain in enumerate(SPREAD):
        rows += generic(seed) + soup(4, seed, gain) + soup(16, seed, -gain)
    tests = claims(tmp_path, rows + soup(64, 0, 0.1))["C1"]  # one seed of 64 experts beside three of 16 decides nothing
    tests = {name: row for name, row in tests.items() if row["effect"] and "FLOPs" not in name}
    assert {name: (row["decides"], row["verdict"]) for name, row in tests.items()} == {
        "soup n=16 minus generic": ("yes", "contradicted"),
        "soup n=4 minus generic": ("", "replicated"),
        "soup n=64 minus generic": ("", "not separated"),
    }
    assert overall(tests) == "contradicted"


def test_specialists_outside_the_corpus_never_decide(tmp_path):
    records = [row for seed, gain in enumerate(SPREAD) for row in generic(seed) + soup(4, seed, gain)]
    views = make_views(load_results(write_records(tmp_path, records)))
    corpus = pd.DataFrame({"specialist": ["a", "b", "elsewhere"], "fraction_beyond_q99": [0.01, 0.06, 0.06]})
    corpus = corpus.assign(split="estimate", data_fingerprint=views[0].setting["data_fingerprint"])
    table = claims_table([replace(view, corpus=corpus) for view in views])
    assert (
        "- `Within the corpus` leaves out these specialists, whose text lies outside it: b, elsewhere."
        in table.markdown()
    )
    frame = table.frame.set_index("test")
    row = frame.loc["soup n=4 minus generic"]  # -0.19, -0.209, -0.171 on a; b is flagged
    assert (row.effect, row["seeds low"], row["seeds high"]) == ("-0.1900", "-0.2372", "-0.1428")
    assert (row.specialists, row.decides) == ("1 of 2", "yes")
    others = {"outside the corpus": "-0.2100", "all specialists": "-0.2000"}
    for name, effect in others.items():
        row = frame.loc[f"soup n=4 minus generic, {name}"]
        assert (row.effect, row.decides) == (effect, "")
    nothing = claims_table(views).frame.test  # none is flagged
    assert not any(name in test for test in nothing for name in others)
    corpus = corpus.assign(fraction_beyond_q99=0.06)
    frame = claims_table([replace(view, corpus=corpus) for view in views]).frame.set_index("test")
    why = "missing: no specialist with a record of each side lies within the corpus (soup n=4 and generic)"
    assert frame.loc["soup n=4 minus generic"].note == why


def test_without_what_it_needs_a_claim_is_not_run(tmp_path):
    tests = claims(tmp_path / "generic", generic(0))
    assert tests["C1"]["soup n=largest minus generic"]["note"] == "missing: no record of a soup"
    assert {overall(rows) for rows in tests.values()} == {"not run"}
    tests = claims(tmp_path / "soup", soup(4, 0, 0.1))
    assert overall(tests["C1"]) == overall(tests["C10"]) == "not run"
    tests = claims(tmp_path / "tokens", soup(4, 0, 0.1) + generic(0, training_tokens=8_000_000))
    assert tests["C1"]["soup n=4 minus generic"]["note"].endswith("one generic run with as many training tokens")
    other_seed = claims(tmp_path / "seed", soup(4, 0, 0.1) + generic(1))["C1"]["soup n=4 minus generic"]
    assert (other_seed["verdict"], other_seed["effect"]) == ("not run", "")


def test_more_experts_by_hand(tmp_path):
    rows = [
        row
        for seed, gain in enumerate(SPREAD)
        for n, share in ((4, 1), (16, 2.5), (64, 3))
        for row in soup(n, seed, share * gain)
    ]
    tests = claims(tmp_path, rows)["C4"]
    # 64 minus 4: -3.8 gain on a, -4.2 gain on b
    expected = {
        "soup n=64 minus n=4": ("-0.4000", "-0.4994", "-0.3006", "-0.4200", "-0.3800"),
        "soup n=16 minus n=4": ("-0.3000", "-0.3745", "-0.2255", "-0.3150", "-0.2850"),
        "soup n=64 minus n=16": ("-0.1000", "-0.1248", "-0.0752", "-0.1050", "-0.0950"),
    }
    # the made-up runs all take as many FLOPs
    expected |= {f"{name} on as many FLOPs": expected[name] for name in ("soup n=64 minus n=4", "soup n=64 minus n=16")}
    columns = ("effect", "seeds low", "seeds high", "specialists low", "specialists high")
    assert {name: tuple(row[column] for column in columns) for name, row in tests.items()} == expected
    assert overall(tests) == "replicated"


@pytest.mark.parametrize(
    ("differences", "verdict", "high"),
    [
        ((0.010, 0.011, 0.009), "replicated", "0.0125"),  # half width 4.302653 * 0.001 / sqrt(3) = 0.00248
        ((0.017, 0.018, 0.016), "replicated", "0.0195"),  # worse than generic, but within the margin
        ((0.018, 0.019, 0.017), "not separated", "0.0205"),
        ((0.022, 0.023, 0.021), "not separated", "0.0245"),
        ((0.023, 0.024, 0.022), "contradicted", "0.0255"),
        ((0.010,), "not separated", ""),
    ],
)
def test_no_worse_on_generic_text_within_a_margin(tmp_path, differences, verdict, high):
    rows = [row for seed, text in enumerate(differences) for row in generic(seed) + soup(4, seed, 0.1, text)]
    row = claims(tmp_path, rows)["C10"]["generic text: soup n=4 minus generic"]
    assert (row["verdict"], row["seeds high"], row["rule"]) == (verdict, high, "< 0.02")
    assert (row["specialists"], row["specialists low"]) == ("generic text", "")
    assert row["note"] == ("n = 1 seed" if len(differences) == 1 else "")


def test_h_matters_if_the_controls_are_worse(tmp_path):
    rows = []
    for seed, gain in enumerate(SPREAD):
        rows += soup(4, seed, gain) + run("dense_on_pi", 0, seed, {"a": 3.0, "b": 4.0}, "none")
        rows += run("soup", 4, seed, {"a": 3.14 - 1.9 * gain, "b": 4.16 - 2.1 * gain}, "uniform")
        rows += run("soup", 4, seed, {"a": 2.86 - 1.9 * gain, "b": 3.84 - 2.1 * gain}, "shuffled")
        rows += run("soup", 4, seed, {"a": 3.0, "b": 4.0}, "h_0")
        rows += run("soup", 4, seed, {"a": 0.9, "b": 1.9}, "zero")  # does not decide
    tests = claims(tmp_path, rows)["controls"]
    assert {name: (row["effect"], row["verdict"]) for name, row in tests.items()} == {
        "h uniform minus estimate, n=4": ("0.1500", "replicated"),
        "h shuffled minus estimate, n=4": ("-0.1500", "contradicted"),
        "h_0 minus estimate, n=4": ("0.2000", "replicated"),
        "S alone minus estimate, n=4": ("-1.9000", "contradicted"),
        "soup n=4 minus dense_on_pi": ("-0.2000", "replicated"),
        "soup n=4 minus dense_on_pi on as many FLOPs": ("-0.2000", "replicated"),  # made-up runs take as many
        "soup n=4 minus dense_conditioned": ("", "not run"),
        "soup n=4 minus dense_conditioned on as many FLOPs": ("", "not run"),
        "soup n=4 minus bigram_adjustment": ("", "not run"),
        "soup n=4 minus bigram_adjustment on as many FLOPs": ("", "not run"),
        "soup minus generic on as many FLOPs, both with the pairs of tokens": ("", "not run"),
        "soup n=4 minus logit_adjustment": ("", "not run"),
    }
    assert overall(tests) == "contradicted"
    assert [name for name, row in tests.items() if not row["decides"]] == [
        "S alone minus estimate, n=4",
        "soup minus generic on as many FLOPs, both with the pairs of tokens",
        "soup n=4 minus logit_adjustment",
    ]


def test_an_ablation_does_not_take_the_place_of_the_main_soups(tmp_path):
    rows = [row for seed, gain in enumerate(SPREAD) for n in (4, 16) for row in soup(n, seed, n * gain)]
    rows += [row for seed in range(3) for row in generic(seed)]
    main_soups = claims(tmp_path / "main", rows)
    other_pi = soup(64, 0, -1.0, run_id="other-pi", pi="uniform") + generic(0, run_id="one-draw", draws_per_step=1)
    other_recipe = soup(4, 0, -1.0, run_id="other-recipe", recipe="r2")
    tests = claims(tmp_path / "more", rows + other_pi + other_recipe)
    equal_flops = "soup n=16 minus generic on as many FLOPs"  # two generic runs: it says that it cannot choose
    assert main_soups["C1"].pop(equal_flops)["effect"] == "-3.2000"
    assert tests["C1"].pop(equal_flops)["note"].startswith("missing: no validation record of generic")
    effects = [[row["effect"] for row in table["C1"].values() if row["effect"]] for table in (main_soups, tests)]
    assert effects[0] == effects[1] == ["-3.2000", "-0.8000"]


def test_two_recipes_with_as_many_seeds_are_not_chosen_between(tmp_path):
    rows = soup(4, 0, 0.1) + soup(4, 0, 0.2, run_id="other-recipe", recipe="r2") + generic(0)
    tests = claims(tmp_path, rows)["C1"]
    assert "several recipes with n = 4" in tests["soup n=4 minus generic"]["note"] and overall(tests) == "not run"


def test_of_budgets_with_as_many_runs_the_one_of_the_scale_is_compared(tmp_path):
    """As after the sweep `portfolio` alone: 2.6M, 10.5M (that of `small`, in whole steps) and 42M tokens."""
    rows = []
    for tokens, gain in ((2_621_440, 9.0), (10_498_048, 0.1), (41_996_288, 8.0)):
        for seed in range(3):
            same = dict(scale="small", training_tokens=tokens)
            rows += generic(seed, run_id=f"generic-{tokens}-{seed}", recipe=f"g{tokens}", **same)
            rows += soup(4, seed, gain, run_id=f"soup-{tokens}-{seed}", recipe=f"s{tokens}", **same)
    assert claims(tmp_path, rows)["C1"]["soup n=4 minus generic"]["effect"] == "-0.2000"


def test_fields_that_may_be_null(tmp_path):
    null = dict(pi=None, draws_per_step=None, commit=None, dirty=None)
    row = claims(tmp_path, generic(0, **null) + soup(4, 0, 0.1, **null))["C1"]["soup n=4 minus generic"]
    assert (row["effect"], row["commit"]) == ("-0.2000", "unknown")


def test_missing_specialists_epochs_and_uncommitted_code_are_said(tmp_path):
    rows = generic(0) + soup(4, 0, 0.1, max_epochs=16.5, dirty=True)
    rows = [row for row in rows if not (row["specialist"] == "b" and row["method"] == "soup")]
    row = claims(tmp_path, rows)["C1"]["soup n=4 minus generic"]
    assert (row["specialists"], row["note"]) == ("1 of 2", "n = 1 seed; over 16 epochs")
    assert row["commit"] == "0123456789ab, 0123456789ab+dirty"


def merge(method: str, seed: int, validation: dict[str, float], test: dict[str, float]) -> list[dict]:
    """A merge with its losses on both splits."""
    return run(method, 0, seed, validation, "estimate", split="validation") + run(method, 0, seed, test, "estimate")


def test_the_best_merge_is_chosen_on_validation(tmp_path):
    """On a: slerp by validation (3.2), though linear is better on test. On b: linear (4.15). The soup: 2.81, 3.79."""
    rows = []
    for seed, spread in enumerate(SPREAD):
        rows += generic(seed) + soup(4, seed, spread)
        rows += merge("merge_linear", seed, {"a": 3.0, "b": 3.0}, {"a": 2.0, "b": 4.15})
        rows += merge("merge_slerp", seed, {"a": 2.9, "b": 3.1}, {"a": 3.2, "b": 1.0})
    found = claims(tmp_path, rows)["C2"]
    row = found["soup n=4 minus the best merge"]
    assert float(row["effect"]) == pytest.approx((2.81 - 3.2 + 3.79 - 4.15) / 2) and row["verdict"] == "replicated"
    assert found["soup n=4 minus the best single expert"]["note"].startswith("missing: no record of best_expert*")


def test_one_seed_of_a_further_merge_leaves_the_others_their_seeds(tmp_path):
    """merge_ties, far better, was run with seed 0 alone."""
    rows = [row for seed, spread in enumerate(SPREAD) for row in generic(seed) + soup(4, seed, spread)]
    rows += [
        row for seed in range(3) for row in merge("merge_linear", seed, {"a": 3.0, "b": 3.0}, {"a": 3.0, "b": 4.0})
    ]
    rows += merge("merge_ties", 0, {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0})
    row = claims(tmp_path, rows)["C2"]["soup n=4 minus the best merge"]
    assert (float(row["effect"]), row["seeds"]) == (pytest.approx(-0.2), "3")


def test_merges_of_another_budget_are_not_compared(tmp_path):
    rows = generic(0) + soup(4, 0, 0.1)
    rows += [row | {"training_tokens": 17} for row in merge("merge_linear", 0, {"a": 3.0}, {"a": 2.0})]
    note = claims(tmp_path, rows)["C2"]["soup n=4 minus the best merge"]["note"]
    assert note == "missing: no record of merge_* at equal training tokens"


def test_merges_without_validation_records_cannot_be_chosen(tmp_path):
    rows = generic(0) + soup(4, 0, 0.1) + run("merge_linear", 0, 0, {"a": 2.0}, "estimate")
    note = claims(tmp_path, rows)["C2"]["soup n=4 minus the best merge"]["note"]
    assert note == "missing: no specialist and seed with a validation record of each of merge_linear"


def crisp(seed: int, gain: float) -> list[dict]:
    """CRISP: better than generic by `gain` on a and on b, for ten times the FLOPs of the other runs in all."""
    return run(
        "crisp",
        0,
        seed,
        {"a": 3.0 - gain, "b": 4.0 - gain},
        "estimate",
        training_tokens=32_000_000,
        flops=1e14,
        trained_for=2,
    )


def beside_crisp(gain: float) -> list[dict]:
    """Three seeds of generic, soup and CRISP."""
    return [row for seed, own in enumerate(SPREAD) for row in (*generic(seed), *soup(4, seed, own), *crisp(seed, gain))]


def test_share_of_the_way_by_hand(tmp_path):
    """The soup gains 0.2 on the mean of a and b, CRISP 0.3: two thirds of the way."""
    found = claims(tmp_path, beside_crisp(0.3))["C9"]
    assert float(found["generic minus CRISP"]["effect"]) == pytest.approx(0.3)
    assert float(found["share of the way above 0.5, soup n=4"]["effect"]) == pytest.approx(0.2 - 0.5 * 0.3)


def test_a_share_of_no_gap_is_not_replicated(tmp_path):
    assert overall(claims(tmp_path, beside_crisp(0.0))["C9"]) == "not separated"


def soups_of(folder, rows: list[dict]) -> Soups:
    return Soups(make_views(load_results(write_records(folder, rows)))[0])


def test_break_even_with_crisp_by_hand(tmp_path):
    """The soup costs 1e13 FLOPs once and 1e12 a specialist, CRISP 1e14 for two and 4e12 more for each."""
    each = {"soup": 1e12, "crisp": 4e12, "generic": 0.0}
    rows = [row | {"specialist_flops": each[row["method"]]} for row in beside_crisp(0.3)]
    values, _ = break_even(soups_of(tmp_path, rows), 4, "crisp", 0)
    assert len(values) == 6 and values.tolist() == pytest.approx([1e13 / (1e14 / 2 + 4e12 - 1e12)] * 6)


def tuned_generic(seed: int, flops: dict[str, float]) -> list[dict]:
    """Generic pretraining and its fine-tuning on 100k tokens, which takes `flops` by specialist."""
    rows = generic(seed, flops=1e13)
    return rows + [
        row | {"budget_tokens": 100_000, "fine_tuning_rate": 1e-3, "specialist_flops": flops[row["specialist"]]}
        for row in rows
        if row["specialist"] in flops
    ]


def test_break_even_with_fine_tuning_by_hand(tmp_path):
    """(5e13 - 1e13) FLOPs more once; 3e12 and 7e12 a specialist against 1e12: 4e13 / (5e12 - 1e12) = 10."""
    rows = [
        row
        for seed, gain in enumerate(SPREAD)
        for row in (
            *tuned_generic(seed, {"a": 3e12, "b": 7e12}),
            *soup(4, seed, gain, flops=5e13, specialist_flops=1e12),
        )
    ]
    row = claims(tmp_path, rows)["C8"]["break-even with fine-tuning, soup n=4 (specialists)"]
    columns = ("effect", "seeds low", "seeds high", "specialists low", "specialists high", "verdict")
    assert [row[column] for column in columns] == ["10.0000"] * 5 + ["replicated"]


def test_without_fine_tuned_records_or_with_cheaper_ones_there_is_no_break_even(tmp_path):
    rows = generic(0) + soup(4, 0, 0.1, specialist_flops=1e12)
    note = claims(tmp_path / "none", rows)["C8"]["break-even with fine-tuning, soup n=4 (specialists)"]["note"]
    assert note == "missing: no record of generic fine-tuned on 100000 tokens"
    rows = tuned_generic(0, {"a": 1e12, "b": 1e12}) + soup(4, 0, 0.1, flops=5e13, specialist_flops=1e12)
    note = claims(tmp_path / "cheaper", rows)["C8"]["break-even with fine-tuning, soup n=4 (specialists)"]["note"]
    assert note == "missing: no break-even: a specialist of generic costs no more FLOPs than one of soup n=4"


def test_gain_by_size_by_hand(tmp_path):
    """Gains of 0.3, 0.2, 0.1 (a) and three times that (b), for 1, 4, 16 parameters: a slope of +0.1 a doubling on the
    mean. Of d32's two budgets the one with as many tokens a parameter as d64 counts."""
    rows = []
    for seed in range(3):
        for model, size, gain in (("d32", 1, 0.3), ("d64", 4, 0.2), ("d128", 16, 0.1)):
            facts = dict(model=model, parameters=size, training_tokens=1000 * size)
            pair = generic(seed, **facts) + soup(16, seed, gain, **facts)
            rows += [row | {"run_id": row["run_id"] + model} for row in pair]
        other = dict(model="d32", parameters=1, training_tokens=4000)
        pair = generic(seed, **other) + soup(16, seed, 9.0, **other)
        rows += [row | {"run_id": row["run_id"] + "more"} for row in pair]
    rows += generic(3, model="d64", parameters=4, training_tokens=4000)  # most records: the first view
    found = claims(tmp_path, rows)["C5"]
    assert [float(found[f"{model}: soup n=16 minus generic"]["effect"]) for model in ("d32", "d64", "d128")] == (
        pytest.approx([-0.6, -0.4, -0.2])
    )
    slope = found["slope on log2 of the parameters, n=16"]
    assert float(slope["effect"]) == pytest.approx(0.1)


ONE_FINE_TUNED = "soup n=4 minus a generic model fine-tuned on 10k tokens, on as many FLOPs for one specialist"
UNRUN = (  # which the made-up records lack
    "soup n=64 minus generic on as many FLOPs",
    "soup n=64 minus generic, both on a quarter of the tokens",
    "soup n=64 minus generic, both on four times the tokens",
    "soup n=64 minus the best merge on as many FLOPs",
    "soup n=64 minus the best single expert on as many FLOPs",
    "soup n=64 minus n=4 on as many FLOPs",
    "soup n=64 minus n=16 on as many FLOPs",
    "d16: soup n=16 minus generic",
    "the same slope over d16, d32 and d64, n=16",
    *(f"{tokens} tokens: soup n=64 minus generic on as many FLOPs" for tokens in ("10k", "100k", "1M")),
    "generic text: soup n=64 minus generic on as many FLOPs",
    ONE_FINE_TUNED.replace("n=4", "n=64"),
    "soup n=64 minus dense_on_pi on as many FLOPs",
    "soup n=64 minus dense_conditioned on as many FLOPs",
    "soup n=64 minus bigram_adjustment",
    "soup n=64 minus bigram_adjustment on as many FLOPs",
    "soup minus generic on as many FLOPs, both with the pairs of tokens",
    "soup n=16 minus bigram_adjustment",
    "soup n=4 minus bigram_adjustment",
    "soup n=64 minus logit_adjustment",
)


def test_every_claim_of_the_file_is_in_the_table(tmp_path):
    results = load_results(write_realistic(tmp_path))
    table = claims_table(make_views(results), results.distances)
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert list(dict.fromkeys(row["claim"] for row in rows)) == [*(f"C{i}" for i in range(1, 12)), "controls"]
    lacking = [row["test"] for row in rows if row["verdict"] == "not run"]
    assert lacking == [*UNRUN]
    text = table.markdown()
    assert "C10: loss of the soup at h_0 minus" in text
    assert "soups compared have 16M training tokens, pi: support 1..4 by h_0, Dirichlet(1), 15% h_0, 8 draws" in text


CLAIM = """
C1: {{statement: s, measure: m, rule: r, tests: [{test}]}}
"""


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("{row: x, effect: guess, experts: 4, below: 0}", "C1: x: no effect 'guess'"),
        ("{row: x, effect: between_experts, experts: 4, reference: 16}", "C1: x: needs one threshold"),
        (
            "{row: x, effect: between_experts, experts: 4, reference: 16, below: 0, above: 0}",
            "C1: x: needs one threshold",
        ),
        (
            "{row: x, effect: between_experts, experts: 4, reference: 16, below: 0, intervals: [documents]}",
            "intervals out of seeds",
        ),
        ("{row: x, effect: control, experts: 4, above: 0}", r"control takes \['h'\] beside experts, not \[\]"),
        (
            "{row: x, effect: break_even, rival: soup, budget: 0, below: 1}",
            "x: rival is 'soup', not one of crisp, generic",
        ),
        ("{row: x, effect: between_models, measure: gap, other: aligned, below: 0}", "x: measure is 'gap', not one of"),
        ("{row: x, effect: against_generic, text: own, experts: 4, below: 0}", "x: text is 'own', not one of"),
        ("{row: x, experts: 4, above: 0}", "C1: x: needs row and effect; 'effect' is missing"),
        ("{row: x, effect: control, h: h_0, experts: smaller, above: 0}", "C1: needs a deciding test"),
        ("", "C1: needs a deciding test"),
        ("{", "claims.yaml: while parsing"),
    ],
)
def test_a_malformed_claim_is_named(tmp_path, test, message):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIM.format(test=test))
    with pytest.raises(UserError, match=message):
        load_claims(path)


def test_a_claim_without_its_rule_is_named(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text("C1: {statement: s, measure: m, tests: []}")
    with pytest.raises(UserError, match="C1: needs statement, measure, rule, tests.* 'rule'"):
        load_claims(path)


def test_no_soup_is_said(tmp_path):
    soups = Soups(make_views(load_results(write_records(tmp_path, generic(0))))[0])
    assert (soups.counts, soups.family) == ([], "none")
    with pytest.raises(NotRun, match="^no record of dense_on_pi$"):
        soups.label(0)
    with pytest.raises(NotRun, match="no record of a soup with n = 4"):
        soups.label(4)


def test_a_portfolio_is_compared_at_equal_flops_for_all_specialists_together(tmp_path):
    """The soup takes 1600 FLOPs once. CRISP for 16 specialists takes 2 runs' worth of 98 each: 16 * (196 / 2) = 1568;
    twice as long would take 3136. Generic pretraining takes 480, and 70 per specialist to fine-tune: 1600."""
    cheap = dict(specialist_flops=0.0)
    rows = []
    for seed in range(3):
        rows += run("soup", 4, seed, {"a": 3.0, "b": 4.0}, "estimate", flops=1600.0, **cheap)
        for tokens, flops, loss in ((8, 196.0, 3.2), (16, 392.0, 2.0)):
            facts = dict(training_tokens=tokens, flops=flops, trained_for=2, run_id=f"crisp-{tokens}-{seed}")
            rows += run("crisp", 0, seed, {"a": loss, "b": loss + 1}, "none", **facts, **cheap)
        start = dict(flops=480.0, run_id=f"generic-{seed}")
        rows += run("generic", 0, seed, {"a": 9.0, "b": 9.0}, "none", **start, **cheap)
        tuned = dict(budget_tokens=100_000, specialist_flops=70.0, specialist_tokens=1)
        rows += run("generic", 0, seed, {"a": 2.9, "b": 3.9}, "none", **start, **tuned)
    tests = claims(tmp_path / "equal", rows)["C11"]
    assert {name: row["effect"] for name, row in tests.items()} == {
        "soup n=4 minus 16 runs of CRISP": "-0.2000",
        "soup n=4 minus 16 fine-tuned generic models": "0.1000",
        ONE_FINE_TUNED: "",
    }
    for row in rows:
        row["flops"] *= 2 if row["method"] == "soup" else 1
    tests = claims(tmp_path / "more", rows)["C11"]
    assert tests["soup n=4 minus 16 runs of CRISP"]["effect"] == "1.0000"  # 3136 of 3200 FLOPs
    note = tests["soup n=4 minus 16 fine-tuned generic models"]["note"]
    assert note.startswith("missing: no record of generic fine-tuned on 100000 tokens that takes 95 to 105 %")


def test_the_gain_on_other_numbers_of_training_tokens(tmp_path):
    """The soup with 4 experts leads by 0.1 on 2 tokens, by 0.2 on 8, which most seeds have, and by 0.3 on 32."""
    rows = []
    for tokens, lead, seeds in ((2, 0.1, 3), (8, 0.2, 4), (32, 0.3, 3)):
        for seed in range(seeds):
            for method, n, loss, h in (("generic", 0, 4.0, "none"), ("soup", 4, 4.0 - lead, "estimate")):
                facts = dict(training_tokens=tokens, recipe=f"r{tokens}", run_id=f"{method}-{tokens}-{seed}")
                rows += run(method, n, seed, {"a": loss, "b": loss + 1}, h, **facts)
    tests = claims(tmp_path, rows)["C1"]
    found = {name: test["effect"] for name, test in tests.items() if test["effect"]}
    assert found == {
        "soup n=4 minus generic": "-0.2000",
        "soup n=4 minus generic, both on a quarter of the tokens": "-0.1000",
        "soup n=4 minus generic, both on four times the tokens": "-0.3000",
    }
    assert not any(tests[name]["decides"] for name in list(found)[1:])


def test_soups_with_fewer_experts_are_compared_at_equal_flops(tmp_path):
    """The soup with 64 experts takes 1600 FLOPs. Of those with 4, one takes 1000, one 1560, and one 1600 with another
    pi. Those with 16 take 1000."""
    rows = []
    for seed in range(3):
        for n, tokens, flops, loss in (
            (64, 8, 1600.0, 3.0),
            (4, 8, 1000.0, 3.5),
            (4, 12, 1560.0, 3.2),
            (16, 8, 1000.0, 3.1),
        ):
            facts = dict(training_tokens=tokens, flops=flops, recipe=f"r{tokens}", run_id=f"soup-{n}-{tokens}-{seed}")
            rows += run("soup", n, seed, {"a": loss, "b": loss + 1}, "estimate", specialist_flops=0.0, **facts)
        other = dict(training_tokens=12, flops=1600.0, pi="another", recipe="r3", run_id=f"soup-4-other-{seed}")
        rows += run("soup", 4, seed, {"a": 1.0, "b": 1.0}, "estimate", specialist_flops=0.0, **other)
    tests = claims(tmp_path, rows)["C4"]
    assert tests["soup n=64 minus n=4 on as many FLOPs"]["effect"] == "-0.2000"
    note = tests["soup n=64 minus n=16 on as many FLOPs"]["note"]
    assert note == "missing: no record of a soup with n = 16 that takes 95 to 105 % of the FLOPs of soup n=64"


def test_generic_text_is_compared_at_equal_flops(tmp_path):
    """The soup takes 1600 FLOPs. Of the two runs of generic pretraining one takes 1000, one 1560."""
    rows = []
    for seed in range(3):
        for method, n, tokens, flops, loss in (
            ("soup", 4, 8, 1600.0, 3.0),
            ("generic", 0, 8, 1000.0, 2.8),
            ("generic", 0, 12, 1560.0, 2.9),
        ):
            facts = dict(training_tokens=tokens, flops=flops, recipe=f"r{tokens}", run_id=f"{method}-{tokens}-{seed}")
            own, text = ("estimate", "h_0") if n else ("none", "none")
            rows += run(method, n, seed, {"a": 9.0}, own, specialist_flops=0.0, **facts)
            rows += run(method, n, seed, {"generic": loss}, text, **facts)
    found = claims(tmp_path, rows)["C10"]["generic text: soup n=4 minus generic on as many FLOPs"]
    assert (found["effect"], found["decides"]) == ("0.1000", "")


def test_both_with_the_pairs_are_compared_at_equal_flops(tmp_path):
    """bigram_adjustment of the soup takes 1600 FLOPs. Of the two of generic pretraining one takes 1000, one 1560."""
    rows = []
    for seed in range(3):
        for method, tokens, flops, loss in (
            ("bigram_adjustment_of_soup", 8, 1600.0, 3.0),
            ("bigram_adjustment", 8, 1000.0, 3.5),
            ("bigram_adjustment", 12, 1560.0, 3.2),
        ):
            facts = dict(training_tokens=tokens, flops=flops, recipe=f"r{tokens}", run_id=f"{method}-{tokens}-{seed}")
            rows += run(method, 0, seed, {"a": loss, "b": loss + 1}, "estimate", specialist_flops=0.0, **facts)
    name = "soup minus generic on as many FLOPs, both with the pairs of tokens"
    assert claims(tmp_path, rows)["controls"][name]["effect"] == "-0.2000"
    rows += run("bigram_adjustment_of_soup", 0, 0, {"a": 1.0}, "estimate", run_id="another", training_tokens=99)
    assert "a choice: records of several settings" in claims(tmp_path / "two", rows)["controls"][name]["note"]


def test_the_rival_of_a_portfolio_is_its_best_on_validation_text(tmp_path):
    """Two of CRISP's take 95 to 105 % of the soup's 1600 FLOPs. The better one on validation text has the worse test
    loss; one that is better still takes too few. Without validation records none is chosen."""
    rows = []
    for seed in range(3):
        rows += run("soup", 4, seed, {"a": 3.0, "b": 4.0}, "estimate", flops=1600.0, specialist_flops=0.0)
        for tokens, flops, validation, test in ((1, 200.0, 3.0, 3.5), (2, 196.0, 2.0, 3.7), (3, 100.0, 1.0, 3.6)):
            facts = dict(training_tokens=tokens, flops=flops, trained_for=2, run_id=f"crisp-{tokens}-{seed}")
            for split, loss in (("validation", validation), ("test", test)):
                losses = {"a": loss, "b": loss + 1}
                rows += run("crisp", 0, seed, losses, "none", split=split, specialist_flops=0.0, **facts)
    name = "soup n=4 minus 16 runs of CRISP"
    assert claims(tmp_path / "chosen", rows)["C11"][name]["effect"] == "-0.7000"
    facts = dict(training_tokens=1, flops=200.0, trained_for=2, specialist_flops=0.0)
    lucky = []  # seeds of the worse one alone: with these its mean would be the lower one
    for seed, split in itertools.product((3, 4), ("validation", "test")):
        losses = {"a": 0.1, "b": 0.1}
        lucky += run("crisp", 0, seed, losses, "none", split=split, run_id=f"crisp-1-{seed}", **facts)
    assert claims(tmp_path / "lucky", rows + lucky)["C11"][name]["effect"] == "-0.7000"
    test_alone = [row for row in rows if row["split"] == "test"]
    note = claims(tmp_path / "without", test_alone)["C11"][name]["note"]
    assert note.startswith("missing: no validation record of crisp")
