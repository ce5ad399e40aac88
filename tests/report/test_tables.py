"""Every cell of the tables against values worked out by hand from made-up records."""

import csv
from dataclasses import replace

import pandas as pd
import pytest
from made_up_claims import report, table
from made_up_records import record, run, write_records

from soe_bench.report.__main__ import main
from soe_bench.report.figures.experts import experts_chart
from soe_bench.report.figures.specialists import specialists_chart
from soe_bench.report.load import load_results
from soe_bench.report.tables.budgets import budgets_table
from soe_bench.report.tables.costs import costs_table
from soe_bench.report.tables.main import ALL, controls_table, difference_table, main_table
from soe_bench.report.view import make_views


@pytest.fixture
def records() -> list[dict]:
    """generic and a soup, specialists a and b, three seeds; the soup is better by 0.1 on a, 0.3 on b (on average)."""
    rows = []
    for seed, (shift, gain) in enumerate([(0.0, 0.1), (0.03, 0.11), (-0.03, 0.09)]):
        rows += run("generic", 0, seed, {"a": 3.0 + shift, "b": 4.0 + shift, "generic": 3.5}, "none")
        rows += run("soup", 4, seed, {"a": 3.0 + shift - gain, "b": 4.0 + shift - 3 * gain}, "estimate")
        rows += run("soup", 4, seed, {"generic": 3.6}, "h_0")
        rows += run("soup", 4, seed, {"a": 4.0, "b": 5.0}, "uniform")
    return rows


def test_main_table(records, tmp_path):
    main_table = table(report(tmp_path, records), "main")
    assert list(main_table) == ["generic", "soup n=4"]
    # by seed 3.5, 3.53, 3.47: sd 0.03, half width 4.302653 * 0.03 / sqrt(3) = 0.07452
    assert main_table["generic"] == {
        "method": "generic",
        "seeds": "3",
        "training tokens": "16M",
        "mean": "3.5000",
        "mean low": "3.4255",
        "mean high": "3.5745",
        "a": "3.0000",
        "b": "4.0000",
        "generic text": "3.5000",
        "flag": "",
    }
    soup = main_table["soup n=4"]
    assert (soup["a"], soup["b"], soup["mean"], soup["generic text"]) == ("2.9000", "3.7000", "3.3000", "3.6000")


def test_the_mean_within_the_corpus_leaves_out_what_is_flagged(records, tmp_path):
    (view,) = make_views(load_results(write_records(tmp_path, records)))
    corpus = pd.DataFrame({"specialist": ["a", "b"], "fraction_beyond_q99": [0.01, 0.06]})
    corpus = corpus.assign(split="estimate", data_fingerprint=view.setting["data_fingerprint"])
    table = main_table(replace(view, corpus=corpus))
    assert table.frame["mean"].tolist() == ["3.0000", "2.9000"]  # the means on a
    assert table.frame[ALL].tolist() == ["3.5000", "3.3000"]
    assert "- `Within the corpus` leaves out these specialists, whose text lies outside it: b." in table.markdown()
    for each in (view, replace(view, corpus=corpus.assign(fraction_beyond_q99=0.06))):  # none is outside; all are
        frame = main_table(each).frame
        assert frame["mean"].tolist() == ["3.5000", "3.3000"] and ALL not in frame


def test_a_mean_leaves_out_what_lies_outside_the_corpus_unless_all_does(tmp_path):
    """a gains 0.2 and b loses 1; b lies outside."""
    rows = run("generic", 0, 0, dict(a=3.0, b=3.0), "none") + run("soup", 4, 0, dict(a=2.8, b=4.0), "estimate")
    rows += run("soup", 4, 0, dict(a=3.1, b=3.0), "uniform")
    rows += run("generic", 0, 0, dict(a=2.5, b=2.0), "none", budget_tokens=10_000)
    rows += run("soup", 4, 0, dict(a=2.4, b=3.0), "estimate", budget_tokens=10_000)
    (view,) = make_views(load_results(write_records(tmp_path, rows)))
    corpus = pd.DataFrame({"specialist": ["a", "b"], "fraction_beyond_q99": [0.01, 0.06]})
    corpus = corpus.assign(split="estimate", data_fingerprint=view.setting["data_fingerprint"])
    within = replace(view, corpus=corpus)
    for each, expected in (
        (within, ["-0.2000", "1 of 1", "0.3000", "-0.1000", "0.2000"]),
        (view, ["0.4000", "2 of 2", "-0.3500", "0.4500", "-0.4000"]),
        (
            replace(view, corpus=corpus.assign(fraction_beyond_q99=0.06)),
            ["0.4000", "2 of 2", "-0.3500", "0.4500", "-0.4000"],
        ),
    ):
        difference = difference_table(each).frame.iloc[0]
        uniform = controls_table(each).frame.set_index("h").difference["uniform"]
        fine_tuned = budgets_table(each).frame.set_index(["budget", "method"]).difference["10k", "soup n=4"]
        cost = costs_table(each).frame.set_index("method")["loss minus the soup's"]["generic"]
        assert [difference.difference, difference.specialists, uniform, fine_tuned, cost] == expected


def test_what_has_more_training_tokens_than_the_one_generic_run_is_not_compared(records, tmp_path):
    rows = records + run("crisp", 0, 0, {"a": 2.0, "b": 2.0}, "none", training_tokens=32_000_000)
    text = (report(tmp_path, rows) / "tables" / "difference.md").read_text()
    assert "| soup n=4 |" in text and "| crisp |" not in text
    assert "no generic run on as many training tokens: crisp" in text


def test_each_method_has_its_own_seeds_in_the_figures_of_experts_and_specialists(records, tmp_path):
    """A soup and a method of seed 0 alone take no seed from the others."""
    rows = records + run("soup", 16, 0, {"a": 2.5, "b": 3.5}, "estimate")
    rows += run("other", 0, 0, {"a": 2.0, "b": 3.0}, "none")
    rows += run("generic", 0, 7, {"a": 9.0, "b": 9.0}, "none")  # a seed that no soup has
    (view,) = make_views(load_results(write_records(tmp_path, rows)))
    experts, specialists = experts_chart([view]), specialists_chart(view)
    panels = dict(tuple(experts.frame.groupby(experts.frame.panel.str.endswith(": loss"))))
    seeds = {"generic": set("0127"), "soup n=4": set("012"), "soup n=16": {"0"}}
    assert panels[True].groupby("label").seed.agg(set).to_dict() == seeds
    by_seed = panels[False].set_index(["label", "seed"]).value.to_dict()
    # generic has 3.5, 3.53 and 3.47; the soup with 4 experts gains 0.1, 0.11, 0.09 on a and thrice that on b
    paired = {("soup n=4", "0"): -0.2, ("soup n=4", "1"): -0.22, ("soup n=4", "2"): -0.18, ("soup n=16", "0"): -0.5}
    assert by_seed == pytest.approx(paired)
    assert "with 16 experts is 0.50 lower" in experts.finding
    seeds = specialists.frame.groupby("label").seeds.agg(set).to_dict()
    assert seeds == {"soup n=4": {3}, "soup n=16": {1}, "other": {1}}
    found = specialists.frame.set_index(["label", "specialist"]).difference
    assert found.to_dict() == pytest.approx(
        {
            ("soup n=4", "a"): -0.1,
            ("soup n=4", "b"): -0.3,
            ("soup n=16", "a"): -0.5,
            ("soup n=16", "b"): -0.5,
            ("other", "a"): -1.0,
            ("other", "b"): -1.0,
        }
    )


def test_markdown_has_the_rows_of_the_csv_and_names_the_source(records, tmp_path):
    text = (report(tmp_path, records) / "tables" / "main.md").read_text()
    # by seed 3.3, 3.31, 3.29: half width 4.302653 * 0.01 / sqrt(3) = 0.0248
    assert "| soup n=4 | 3 | 16M | 3.3000 | 3.2752 | 3.3248 | 2.9000 | 3.7000 | 3.6000 |  |" in text
    assert "3fa94c1b77d2;" in text and "0123456789ab;" in text and "device: cpu." in text and "deviations.csv" in text


def test_difference_table(records, tmp_path):
    rows = table(report(tmp_path, records), "difference")
    assert list(rows) == ["soup n=4"]
    # by seed -0.2, -0.22, -0.18: half width 4.302653 * 0.02 / sqrt(3) = 0.04968; two specialists: -0.3 to -0.1; both:
    # sqrt(0.0004 / 3 + 0.02 / 2) = 0.10066, times 11.95 at 1.027 degrees of freedom
    assert rows["soup n=4"] == {
        "method": "soup n=4",
        "training tokens": "16M",
        "loss": "3.3000",
        "difference": "-0.2000",
        "seeds low": "-0.2497",
        "seeds high": "-0.1503",
        "specialists low": "-0.3000",
        "specialists high": "-0.1000",
        "both low": "-1.4029",
        "both high": "1.0029",
        "seeds": "3",
        "specialists": "2 of 2",
        "specialists better": "2",
        "verdict": "not separated",
    }


def test_controls_table(records, tmp_path):
    rows = table(report(tmp_path, records), "controls", key="h")
    assert list(rows) == ["estimate", "uniform", "shuffled", "h_0", "zero"]
    assert (rows["estimate"]["loss"], rows["estimate"]["difference"]) == ("3.3000", "")
    assert (rows["uniform"]["loss"], rows["uniform"]["difference"]) == ("4.5000", "1.2000")
    assert rows["uniform"]["verdict"] == "not separated"
    assert (rows["zero"]["loss"], rows["zero"]["difference"], rows["zero"]["verdict"]) == ("missing", "", "")


def test_a_missing_cell_stays_missing_and_so_does_its_mean(records, tmp_path):
    rows = [row for row in records if not (row["specialist"] == "b" and row["n_experts"])]
    soup = table(report(tmp_path, rows), "main")["soup n=4"]
    assert (soup["a"], soup["b"], soup["mean"], soup["mean low"]) == ("2.9000", "missing", "missing", "")
    assert table(tmp_path, "difference")["soup n=4"]["specialists"] == "1 of 2"
    assert table(tmp_path, "controls", key="h")["uniform"]["loss"] == "missing"


def test_a_hole_in_one_seed_shows_in_the_seeds_and_takes_the_mean_away(records, tmp_path):
    rows = [row for row in records if not (row["specialist"] == "b" and row["n_experts"] and row["seed_data"] == 2)]
    soup = table(report(tmp_path, rows), "main")["soup n=4"]
    assert (soup["seeds"], soup["mean"], soup["b"]) == ("2-3", "missing", "3.7000")  # b: (3.7 + 3.7) / 2


def test_one_seed_has_no_interval_and_no_verdict(records, tmp_path):
    folder = report(tmp_path, [row for row in records if row["seed_data"] == 0])
    assert table(folder, "main")["soup n=4"]["mean low"] == ""
    row = table(folder, "difference")["soup n=4"]
    assert (row["seeds low"], row["seeds"], row["verdict"]) == ("", "1", "not separated (n = 1 seed)")


def test_only_test_records_without_fine_tuning_and_with_all_documents_count(records, tmp_path):
    kept = report(tmp_path / "kept", records) / "tables" / "main.csv"
    soup = dict(method="soup", n_experts=4, run_id="soup-4-0", h_source="estimate", specialist="a", loss=9.0)
    others = [
        record(**soup, split="validation"),
        record(**soup, budget_tokens=10000),
        record(**soup, n_documents=4, document_draw=3),
    ]
    assert (report(tmp_path / "more", records + others) / "tables" / "main.csv").read_bytes() == kept.read_bytes()


def test_a_domain_seen_too_often_is_flagged(records, tmp_path):
    rows = [{**row, "max_epochs": 16.01 if row["n_experts"] else 16.0} for row in records]
    flags = {name: row["flag"] for name, row in table(report(tmp_path, rows), "main").items()}
    assert flags == {"generic": "", "soup n=4": "over 16 epochs"}


def test_settings_that_cannot_be_compared_get_their_own_tables(records, tmp_path):
    demo = run("generic", 0, 0, {"a": 5.0}, "none", run_id="demo", scale="demo")
    folder = report(tmp_path, records + demo)
    assert table(folder, "main")["generic"]["a"] == "3.0000"
    assert table(folder, "main_demo-d64-wheels-3fa94c1b")["generic"]["a"] == "5.0000"


def test_variants_of_a_method_get_their_own_rows(records, tmp_path):
    """A label names what most runs of the method do not have, or where two values are as common most runs of all; both
    where neither is that of most."""
    other = run("soup", 4, 0, {"a": 2.5, "b": 3.5}, "estimate", run_id="one-draw", draws_per_step=1, recipe="r2")
    rows = table(report(tmp_path / "most", records + other), "main")
    assert rows["soup n=4"]["a"] == "2.9000" and rows["soup n=4, draws=1"]["a"] == "2.5000"
    one_seed = [row for row in records if row["seed_data"] == 0]
    assert set(table(report(tmp_path / "equal", one_seed + other), "main")) == {
        "generic",
        "soup n=4",
        "soup n=4, draws=1",
    }
    soups = [row for row in one_seed if row["method"] == "soup"]
    assert set(table(report(tmp_path / "alone", soups + other), "main")) == {"soup n=4, draws=8", "soup n=4, draws=1"}


def test_two_recipes_alike_in_all_else_are_told_apart_by_the_recipe(records, tmp_path):
    other = run("soup", 4, 0, {"a": 2.5, "b": 3.5}, "estimate", run_id="other", recipe="r2")
    assert set(table(report(tmp_path, records + other), "main")) == {
        "generic",
        "soup n=4, recipe r1",
        "soup n=4, recipe r2",
    }


def test_figures_of_all_methods_leave_other_laws_to_the_figure_support(records, tmp_path):
    other = run("soup", 4, 0, {"a": 2.5, "b": 3.5}, "estimate", run_id="law", pi="uniform")
    folder = report(tmp_path, records + other)
    assert "soup n=4, pi=uniform" in table(folder, "main")
    for name in ("experts", "specialists"):
        with (folder / "figures" / f"{name}.csv").open(encoding="utf-8") as file:
            assert {row["label"] for row in csv.DictReader(file)} - {"generic"} == {"soup n=4"}


PAGE = "; a browser shows them in report.html"


def test_what_has_no_data_is_said_in_one_line(records, tmp_path, capsys):
    assert main([str(write_records(tmp_path, [row for row in records if row["method"] == "generic"]))]) == 0
    line, last = capsys.readouterr().out.splitlines()
    start, names = line.split(": ")
    assert start == "no data yet for" and last == f"{tmp_path}: wrote 3 tables and 0 figures{PAGE}"
    for name in (
        "table difference",
        "table controls",
        "figure experts",
        "figure alpha",
        "figure curves",
        "figure domains",
        "figure sizes",
        "figure support",
        "table closeness",
        "figure closeness",
        "table specialists",
    ):
        assert name in names.split(", ")


def test_records_of_the_validation_part_alone_make_no_tables(tmp_path, capsys):
    assert main([str(write_records(tmp_path, [record(split="validation")]))]) == 0
    line, last = capsys.readouterr().out.splitlines()
    assert "tables and figures of results (no test record)" in line.removeprefix("no data yet for: ").split(", ")
    assert last == f"{tmp_path}: wrote 0 tables and 0 figures{PAGE}"
