"""With many methods a figure shows a handful of them, chosen on validation text, each with a colour of its own."""

import pytest
from made_up_records import run, write_csv, write_records

from soe_bench.errors import UserError
from soe_bench.report.figures.alpha import alpha_charts
from soe_bench.report.figures.budgets import budgets_chart
from soe_bench.report.figures.curves import curves_chart
from soe_bench.report.figures.experts import experts_chart
from soe_bench.report.figures.pieces import trained_on
from soe_bench.report.figures.selection import MOST, handful, left_out
from soe_bench.report.figures.specialists import specialists_chart
from soe_bench.report.figures.style import colours
from soe_bench.report.load import load_results
from soe_bench.report.tables.main import difference_table
from soe_bench.report.view import View, make_views

OTHERS = ["dense_conditioned", "low_rank_soup", "hypernetwork", "crisp", "ensemble", "a_stranger"]  # the best first


def both(method: str, n: int, validation: float, test: float, **changes) -> list[dict]:
    """A run with its loss on both splits."""
    return run(method, n, 0, {"a": validation}, "estimate", split="validation", **changes) + run(
        method, n, 0, {"a": test}, "estimate", **changes
    )


@pytest.fixture
def records() -> list[dict]:
    """Twelve merges, of which merge_5 is best on validation and merge_0 on test text; two experts; soups, one of them
    with another pi; and the methods that have no family."""
    rows = [row for i in range(12) for row in both(f"merge_{i}", 16, 2.0 + abs(i - 5), 1.0 + i)]
    rows += both("best_expert", 0, 3.0, 3.0) + both("nearest_expert", 0, 2.9, 3.1)
    rows += [row for i, name in enumerate(OTHERS) for row in both(name, 0, 3.0 + i, 3.0 - i / 10)]
    rows += [row for n in (4, 16, 64) for row in both("soup", n, 3.0, 3.0)] + both("dense_on_pi", 0, 3.0, 3.0)
    rows += both("soup", 8, 1.0, 1.0, pi="uniform")
    return rows + both("generic", 0, 3.0, 3.0) + both("generic", 0, 3.0, 3.0, run_id="long", training_tokens=32_000_000)


def view_of(folder, rows: list[dict]) -> View:
    return make_views(load_results(write_records(folder, rows)))[0]


CHOSEN = {
    "generic",
    "dense_on_pi",
    "soup n=4",
    "soup n=16",
    "soup n=64",
    "merge_5 n=16",
    "nearest_expert",
    *OTHERS[:3],
}


def test_the_best_of_each_family_is_chosen_on_validation(records, tmp_path):
    view = view_of(tmp_path, records)
    assert set(handful(view, view.shown)) == CHOSEN
    assert "Here are 10 of the 26 methods" in left_out(view.shown, handful(view, view.shown))[0]


def test_what_had_more_training_tokens_is_not_chosen(records, tmp_path):
    more = both("merge_5", 16, 0.5, 0.5, run_id="more", training_tokens=32_000_000)
    view = view_of(tmp_path, records + more)
    assert "merge_5 n=16, 32M tokens" in view.shown and set(handful(view, view.shown)) == CHOSEN
    assert trained_on(view, ["merge_5 n=16, 32M tokens", "crisp"]) == ", trained on 16M tokens"


def test_recipes_of_a_soup_that_the_claims_cannot_choose_between_are_not_shown(records, tmp_path):
    """Twelve further soups with 64 experts: the figure would have more methods than it can show."""
    more = [both("soup", 64, 3.0, 3.0, run_id=f"again-{i}", recipe=f"{i}-again") for i in range(12)]
    view = view_of(tmp_path, records + [row for rows in more for row in rows])
    shown = handful(view, view.shown)
    assert len(shown) <= MOST and not any("n=64" in label for label in shown)


def test_soups_without_a_generic_run_to_compare_with_leave_the_generic_runs_in(records, tmp_path):
    rows = [row | {"training_tokens": 8_000_000} if row["method"] == "generic" else row for row in records]
    view = view_of(tmp_path, [row for row in rows if row["run_id"] != "long"])
    assert view.generic_for("soup n=16") is None and "generic" in {
        view.methods.method[n] for n in handful(view, view.shown)
    }


def test_few_methods_are_all_shown(records, tmp_path):
    few = [row for row in records if row["method"] in {f"merge_{i}" for i in range(MOST)}]
    view = view_of(tmp_path, few)
    assert len(handful(view, view.shown)) == MOST and left_out(view.shown, handful(view, view.shown)) == []


def test_the_handful_has_a_colour_for_each(records, tmp_path):
    view = view_of(tmp_path, [row for row in records if row["run_id"] != "long"])
    palette = colours(view)
    chosen = {label: str(palette[label]) for label in handful(view, view.shown)}
    assert len(set(chosen.values())) == len(chosen)
    assert palette["merge_0 n=16"] == palette["merge_5 n=16"]


def test_one_number_of_experts_without_a_method_to_compare_with_is_no_figure(records, tmp_path):
    soups = [row for row in records if row["method"] == "soup" and row["n_experts"] == 16]
    assert experts_chart([view_of(tmp_path / "alone", soups)]) is None
    beside = [row for row in records if row["run_id"] != "long" and row["method"] == "generic"]
    assert experts_chart([view_of(tmp_path / "beside", soups + beside)]) is not None


def test_the_figures_show_the_handful_alone(records, tmp_path):
    view = view_of(tmp_path, records)
    assert set(specialists_chart(view).frame.label) == CHOSEN - {"generic"}
    assert set(experts_chart([view]).frame.label) >= {"soup n=64", "merge_5 n=16"}
    assert "merge_0 n=16" not in set(experts_chart([view]).frame.label)
    row = dict(n_experts=16, seed=0, tokens=10, train_loss=3.0, validation_loss=3.0)
    names = [f"merge_{i}" for i in range(12)]
    write_csv(tmp_path / "curves.csv", [{"run_id": f"{name}-16-0", "method": name, **row} for name in names])
    frame = curves_chart(view, load_results(tmp_path).curves).frame
    assert set(frame.label) == {"merge_5 n=16"}
    assert set(frame.tokens) == set(view.records.training_tokens[view.records.label == "merge_5 n=16"])  # at the end


def test_of_a_few_fine_tuned_methods_all_are_shown(records, tmp_path):
    fine = [
        row
        for name, n in (("merge_0", 16), ("generic", 0))
        for row in run(name, n, 0, {"a": 2.0}, "estimate", budget_tokens=10_000)
    ]
    view = view_of(tmp_path, records + fine)
    assert "merge_0 n=16" not in handful(view, view.shown)
    assert set(budgets_chart(view).frame.label) == {"generic", "merge_0 n=16"}


def test_the_title_of_fine_tuning_is_about_a_method_that_has_the_largest_budget(tmp_path):
    short = dict(training_tokens=4_000_000, run_id="short", recipe="short")
    rows = []
    for budget, gain in ((0, 0.5), (10_000, 0.4), (100_000, 0.3)):
        rows += run("generic", 0, 0, {"a": 3.0}, "none", budget_tokens=budget)
        rows += run("soup", 4, 0, {"a": 3.0 - gain}, "estimate", budget_tokens=budget)
    for budget in (0, 10_000):
        other = short | dict(run_id="g", recipe="g", budget_tokens=budget)
        rows += run("generic", 0, 0, {"a": 3.5}, "none", **other)
        rows += run("soup", 4, 0, {"a": 3.4}, "estimate", **short, budget_tokens=budget)
    chart = budgets_chart(view_of(tmp_path, rows))
    assert chart.frame.label.iloc[-1] == "soup n=4, 4M tokens"
    assert chart.finding.startswith(
        "The loss of soup n=4, 16M tokens, compared with generic pretraining, is 0.50 lower with one seed before "
        "fine-tuning, and 0.30 lower"
    )


def test_the_title_of_one_fine_tuned_method_says_what_it_gains(tmp_path):
    rows = [run("generic", 0, 0, {"a": loss}, "none", budget_tokens=n) for n, loss in ((0, 4.0), (100_000, 3.2))]
    chart = budgets_chart(view_of(tmp_path, sum(rows, [])))
    assert chart.finding == "Fine-tuning on 100k tokens lowers the loss from 4.00 to 3.20 (generic; nats/token)"
    assert "seed" not in chart.caption and "Below 0" not in chart.caption


def test_a_method_without_a_generic_run_on_as_many_tokens_is_named(records, tmp_path):
    rows = [row | {"training_tokens": 99_000_000} if row["method"] == "crisp" else row for row in records]
    view = view_of(tmp_path, rows)
    assert "crisp" in view.shown and "crisp" not in set(specialists_chart(view).frame.label)
    assert "no generic run on as many training tokens: crisp" in difference_table(view).notes[4]


@pytest.mark.parametrize("experts", [[0], [0, 1, 1]])
def test_missing_and_double_coefficients_are_refused(experts, tmp_path):
    rows = [row for name in ("a", "b") for row in run("soup", 2, 0, {name: 3.0}, "estimate")]
    view, facts = view_of(tmp_path, rows), dict(run_id="soup-2-0", method="soup", n_experts=2, seed=0, alpha=0.5)
    table = [facts | dict(specialist="a", expert=expert) for expert in experts]
    table += [facts | dict(specialist="b", expert=expert) for expert in (0, 1)]
    write_csv(tmp_path / "alpha.csv", table)
    with pytest.raises(UserError, match="missing or double coefficients: restore the file"):
        alpha_charts(view, load_results(tmp_path).alpha)


def test_coefficients_are_those_of_the_soup(tmp_path):
    rows = [row for name in ("soup", "low_rank") for row in run(name, 16, 0, {"a": 3.0}, "estimate")]
    view = view_of(tmp_path, rows)
    row = dict(n_experts=16, seed=0, specialist="a")
    write_csv(
        tmp_path / "alpha.csv",
        [
            {"run_id": f"{method}-16-0", "method": method, **row, "expert": i, "alpha": alpha}
            for method, alpha in (("low_rank", 0.9), ("soup", 0.1))
            for i in range(16)
        ],
    )
    [chart] = alpha_charts(view, load_results(tmp_path).alpha)
    assert set(chart.frame.alpha) == {0.1}
