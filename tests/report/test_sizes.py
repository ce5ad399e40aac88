"""The numbers in the figures `sizes`, `support` and `granularity` against values worked out by hand."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from made_up_claims import claims, generic, soup
from made_up_records import run, write_records
from made_up_sweeps import PI

from soe_bench.report.__main__ import main
from soe_bench.report.figures.granularity import granularity_chart
from soe_bench.report.figures.sizes import sizes_chart
from soe_bench.report.figures.style import style
from soe_bench.report.figures.support import support_chart
from soe_bench.report.load import load_results
from soe_bench.report.view import make_views


def views(folder, rows: list[dict]):
    return make_views(load_results(write_records(folder, rows)))


def size(model: str, parameters: int, tokens: int, gain: float, seeds: int = 2) -> list[dict]:
    """Generic and a soup of 16 experts, 2 * `gain` better on the mean of a (3 nats) and b (4 nats)."""
    facts = dict(model=model, parameters=parameters, training_tokens=tokens)
    rows = [row for seed in range(seeds) for row in generic(seed, **facts) + soup(16, seed, gain, **facts)]
    return [row | {"run_id": f"{row['run_id']}-{model}-{tokens}"} for row in rows]


def points(frame) -> dict:
    """(equal, line, model) -> tokens, losses, differences."""
    lines = frame.assign(line=frame.line.str.split(",").str[0])
    return {
        key: (
            set(rows.training_tokens),
            *(rows.value[rows.panel == panel].tolist() for panel in ("loss", "difference")),
        )
        for key, rows in lines.groupby(["equal", "line", "model"])
    }


def test_sizes_by_hand(tmp_path):
    """d64 has 400 tokens for 4 parameters: d32 (1 parameter) counts with 100 and 400, d128 (16) with 1600 alone. Each
    size has all of its seeds."""
    rows = size("d64", 4, 400, 0.2) + generic(2, model="d64", parameters=4, training_tokens=400)
    rows += size("d32", 1, 100, 0.3, 3) + size("d32", 1, 400, 0.25) + size("d32", 1, 9000, 0.9)
    rows += size("d128", 16, 1600, 0.1)
    rows = [row | {"scale": "medium"} if row["model"] == "d64" else row for row in rows]  # as +sweep=sizes has it
    rows = [row | {"data": "other"} for row in size("d256", 64, 6400, 0.1, 1)] + rows
    found = [view for view in views(tmp_path, rows) if view.setting["model"] == "d64"]
    chart = sizes_chart(found + [view for view in views(tmp_path, rows) if view.setting["model"] != "d64"])
    per_parameter, tokens = "tokens per parameter", "tokens"
    expected = {
        (per_parameter, "d32"): (100, -0.6),
        (per_parameter, "d64"): (400, -0.4),
        (per_parameter, "d128"): (1600, -0.2),
        (tokens, "d32"): (400, -0.5),
        (tokens, "d64"): (400, -0.4),
    }
    found = points(chart.frame)
    assert set(found) == {(equal, line, model) for equal, model in expected for line in ("generic", "soup n=16")}
    for (equal, model), (budget, difference) in expected.items():
        seeds = 3 if budget == 100 else 2
        assert found[equal, "soup n=16", model] == (
            {budget},
            pytest.approx([3.5 + difference] * seeds),
            pytest.approx([difference] * seeds),
        )
        assert found[equal, "generic", model] == ({budget}, [3.5] * seeds, [])  # d64 has a third, which its soup lacks
    with style():
        left, right = chart.draw().axes
        assert "0.60 lower for 1 parameters; 0.40 lower for 4 parameters; 0.20 lower for 16" in chart.finding
    assert [line.get_linestyle() for line in right.lines if len(line.get_xdata()) > 2] == ["-"]
    assert left.get_xscale() == right.get_xscale() == "log"


def test_a_specialist_outside_the_corpus_is_in_no_panel(tmp_path):
    """Gains of 0.57 and 0.38 on a; b, on which they are larger, lies outside."""
    found = views(tmp_path, size("d32", 1, 100, 0.3) + size("d64", 4, 400, 0.2))
    facts = dict(split="estimate", data_fingerprint=found[0].setting["data_fingerprint"])
    corpus = pd.DataFrame([facts | dict(specialist=x, fraction_beyond_q99=far) for x, far in (("a", 0.01), ("b", 0.9))])
    chart = sizes_chart([replace(view, corpus=corpus) for view in found])
    assert points(chart.frame)["tokens per parameter", "soup n=16", "d32"][1:] == (
        pytest.approx([2.43] * 2),
        pytest.approx([-0.57] * 2),
    )


def test_sizes_that_lie_in_several_results_folders_are_compared_above_them(tmp_path, no_images, capsys):
    """As results/ has them: a folder per scale. The claims about sizes, and the figure, stand beside the folders."""
    scales = {
        "small": size("d32", 1, 100, 0.3, 3) + generic(3, model="d32", parameters=1),
        "medium": size("d64", 4, 400, 0.2, 3),
    }
    for scale, rows in scales.items():
        write_records(tmp_path / scale, [row | {"scale": scale} for row in rows])
    assert main([str(tmp_path)]) == 0
    found = {row["test"].split(":")[0]: row for row in json.loads((tmp_path / "tables" / "claims.json").read_text())}
    assert {row["id"].split(".")[0] for row in found.values()} == {"C5"}
    assert [found[model]["effect"] for model in ("d32", "d64", "d128")] == [-0.6, -0.4, None]
    title = (tmp_path / "tables" / "claims.md").read_text().splitlines()[0]
    assert "models d32, d64, corpus" in title and "scale" not in title
    assert (
        "0.60 lower for 1 parameters; 0.40 lower for 4 parameters" in (tmp_path / "figures" / "README.md").read_text()
    )
    assert main([str(tmp_path), "--check"]) == 0


def test_a_claim_about_a_size_names_the_commits_of_its_own_records(tmp_path):
    sizes = (("d64", 4, 400, 5, "a"), ("d32", 1, 100, 2, "b"), ("d128", 16, 1600, 2, "c"), ("d128", 16, 400, 2, "d"))
    rows = [
        row | {"commit": 12 * letter}
        for model, parameters, tokens, seeds, letter in sizes
        for row in size(model, parameters, tokens, 0.2, seeds)
    ]
    found = {name.split(":")[0]: row["commit"].replace(", ", " ") for name, row in claims(tmp_path, rows)["C5"].items()}
    a, b, c = (12 * letter for letter in "abc")
    assert found == {
        "d32": b,
        "d64": a,
        "d128": c,
        "slope on log2 of the parameters, n=16": f"{a} {b} {c}",
        "the same slope from d32 to d64 alone, n=16": f"{a} {b}",
        "d16": "",
        "the same slope over d16, d32 and d64, n=16": "",
    }


def test_no_sizes_without_a_second_model_or_with_a_hole(tmp_path):
    one = size("d64", 4, 400, 0.2)
    assert sizes_chart(views(tmp_path / "one", one)) is None
    other = [row for row in size("d32", 1, 100, 0.3, 1) if not (row["specialist"] == "b" and row["n_experts"])]
    other += run("dense_on_pi", 0, 0, {"b": 1.0}, "none", model="d32", parameters=1, run_id="b")
    assert sizes_chart(views(tmp_path / "hole", one + other)) is None


def law(largest: int, domains: str, loss: float, n: int = 16, **changes) -> list[dict]:
    """A soup under a law of pi: `loss` on a, 1 more on b, 2 more on generic text."""
    facts = dict(pi=PI.format(largest, domains), run_id=f"{largest}-{domains}-{n}", recipe=f"{largest}{domains}{n}")
    facts |= changes
    rows = run("soup", n, 0, {"a": loss, "b": loss + 1}, "estimate", **facts)
    return rows + run("soup", n, 0, {"generic": loss + 2}, "h_0", **facts)


@pytest.fixture
def laws() -> list[dict]:
    """The main soups (n = 4 and 16) and n = 16 under two other laws; one with other draws a step, which is left out."""
    rows = generic(0) + law(4, "h_0", 2.8) + law(4, "h_0", 2.9, n=4) + law(16, "h_0", 2.6) + law(4, "uniform", 3.1)
    return rows + law(2, "h_0", 1.0, draws_per_step=1)


def test_support_by_hand(laws, tmp_path):
    chart = support_chart(views(tmp_path, laws + law(1, "h_0", 9.0))[0])
    draws = "with up to 16 domains in a draw"
    best = f"{draws}, the loss on the specialists is lowest; {draws}, that on generic text is lowest"
    assert chart.finding == f"With one seed: {best}"
    frame = support_chart(views(tmp_path / "two", laws)[0]).frame
    table = {(row.panel, row.line, row.x if row.n_experts else ""): row.value for row in frame.itertuples()}
    by_h_0, uniform = (f"n=16, by {domains}, Dirichlet(1), 15% h_0" for domains in ("h_0", "uniform"))
    assert table == pytest.approx(
        {
            ("specialists", "generic", ""): 3.5,
            ("generic", "generic", ""): 3.5,
            ("specialists", by_h_0, 4): 3.3,
            ("generic", by_h_0, 4): 4.8,
            ("specialists", by_h_0, 16): 3.1,
            ("generic", by_h_0, 16): 4.6,
            ("specialists", uniform, 4): 3.6,
            ("generic", uniform, 4): 5.1,
        }
    )


def test_support_is_compared_on_the_seeds_that_all_laws_have(laws, tmp_path):
    second = dict(seed_data=1, seed_init=1, seed_mix=1, run_id="second", loss=9.0)
    chart = support_chart(views(tmp_path, laws + [row | second for row in law(4, "h_0", 2.8)])[0])
    assert chart.frame.equals(support_chart(views(tmp_path / "without", laws)[0]).frame)


def test_a_law_that_is_not_one_of_support_is_left_out_and_said(laws, tmp_path):
    other = law(1, "x", 1.0, pi="one domain")
    chart = support_chart(views(tmp_path, laws + other)[0])
    assert "one domain" not in " ".join(chart.frame.line)
    assert "Not shown, several recipes or no support: n=16, one domain." in chart.caption


def test_no_support_with_one_law(tmp_path):
    assert support_chart(views(tmp_path, generic(0) + law(4, "h_0", 2.8))[0]) is None
    assert support_chart(views(tmp_path / "none", generic(0))[0]) is None


def divisions(folder, gains: dict[int, float], bytes_of_a: dict[int, int] | None = None):
    """Views and domains of one corpus divided into so many domains: generic, and a soup better by 1.9 times so much on
    a, 2.1 times on b, which lies outside where there are 4 domains; a second seed with 2 domains alone."""
    rows = []
    for k, gain in gains.items():
        facts = dict(data=f"wheels_k{k}", data_fingerprint=f"{k}" * 8)
        own = generic(0, **facts) + soup(16, 0, gain, text=0.1 * k, **facts)
        own += (generic(1, **facts) + soup(16, 1, 9.0, **facts)) * (k == 2)
        rows += [row | {"run_id": f"{row['run_id']}-{k}"} for row in own]
    text = dict(split="test", fraction_beyond_q99=0.0)
    corpora = {
        f"{k}" * 8: pd.DataFrame(
            [
                text | dict(data_fingerprint=f"{k}" * 8, specialist="a", bytes=(bytes_of_a or {}).get(k, 5)),
                text | dict(data_fingerprint=f"{k}" * 8, specialist="b", bytes=6),
                dict(data_fingerprint=f"{k}" * 8, specialist="b", split="estimate", fraction_beyond_q99=0.9 * (k == 4)),
            ]
        )
        for k in gains
    }
    found = [replace(view, corpus=corpora[view.setting["data_fingerprint"]]) for view in views(folder, rows)]
    return found, pd.DataFrame({"data_fingerprint": [f"{k}" * 8 for k in gains for _ in range(k)]})


def test_granularity_by_hand(tmp_path):
    """b counts nowhere, because it lies outside with 4 domains; seed 1 neither, because it has 2 domains alone."""
    chart = granularity_chart(*divisions(tmp_path, {2: 0.1, 4: 0.3}))
    found = {(row.panel, row.line, row.x, row.seed): row.value for row in chart.frame.itertuples()}
    assert found == pytest.approx(
        {("specialists", "generic", k, "0"): 3.0 for k in (2, 4)}
        | {("specialists", "soup n=16", 2, "0"): 2.81, ("specialists", "soup n=16", 4, "0"): 2.43}
        | {("difference", "soup n=16", 2, "0"): -0.19, ("difference", "soup n=16", 4, "0"): -0.57}
        | {("generic", "generic", k, "0"): 3.5 for k in (2, 4)}
        | {("generic", "soup n=16", 2, "0"): 3.7, ("generic", "soup n=16", 4, "0"): 3.9}
    )
    assert "2.81 with 2, 2.43 with 4" in chart.finding
    assert "every number of domains: 1 of 2." in chart.caption and "wheels_k2, wheels_k4" in chart.caption
    with style():
        assert chart.draw().axes[0].get_xscale() == "log"


def test_no_granularity_with_one_division_or_of_other_texts(tmp_path):
    assert granularity_chart(*divisions(tmp_path / "one", {2: 0.1})) is None
    assert granularity_chart(*divisions(tmp_path / "other", {2: 0.1, 4: 0.3}, {4: 7})) is None
    assert granularity_chart([], pd.DataFrame({"data_fingerprint": []})) is None
