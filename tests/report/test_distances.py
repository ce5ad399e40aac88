"""The closeness table, its figure and the effects of C3 against values worked out by hand."""

import csv
from types import SimpleNamespace

import pandas as pd
import pytest
from made_up_claims import generic, overall, soup
from made_up_records import write_csv, write_records

from soe_bench.errors import UserError
from soe_bench.report.effects import NotRun, Soups, between_models
from soe_bench.report.figures.distances import closeness_chart
from soe_bench.report.load import load_results
from soe_bench.report.tables.claims import claims_table
from soe_bench.report.tables.distances import closeness_table
from soe_bench.report.view import make_views

PAIRS = {("x", "y"): 0.1, ("x", "z"): 0.3, ("y", "z"): 0.2}


def pair(family: str, one: str, other: str, seed: int, gap: float, **changes) -> dict:
    """A row of distances.csv."""
    return dict(
        run_id=f"{family}-{seed}",
        method=f"experts_{family}",
        seed=seed,
        family=family,
        one=one,
        other=other,
        distance=1.0,
        cosine=0.5,
        cosine_of_updates="",
        barrier=2 * gap,
        merge_gap=gap,
        **changes,
    )


@pytest.fixture
def distances() -> list[dict]:
    """Three pairs, three seeds: of one parent the gap is 0.1 to 0.3, of separate experts 1 more (by seed 1, 1.1, 0.9),
    there with the two names the other way round."""
    rows = []
    for seed, more in enumerate((1.0, 1.1, 0.9)):
        for (one, other), gap in PAIRS.items():
            rows.append(pair("common_parent", one, other, seed, gap))
            rows.append(pair("separate", other, one, seed, gap + more))
    return rows


def results(folder, distances: list[dict]):
    write_records(folder, [row for seed in range(3) for row in generic(seed) + soup(4, seed, 0.1)])
    if distances:
        write_csv(folder / "distances.csv", distances)
    return load_results(folder)


def soups(folder, distances: list[dict]) -> Soups:
    found = results(folder, distances)
    return Soups(make_views(found)[0], distances=found.distances)


def test_claim_by_hand(distances, tmp_path):
    found = results(tmp_path, distances)
    frame = claims_table(make_views(found), found.distances).frame.set_index("claim").loc["C3"]
    tests = frame.set_index("test").to_dict("index")
    # by seed -1, -1.1, -0.9: half width 4.302653 * 0.1 / sqrt(3) = 0.2484; every pair differs by 1
    row = tests["merge gap, common parent minus separate"]
    columns = ("effect", "seeds low", "seeds high", "specialists low", "specialists high", "seeds", "specialists")
    assert [row[column] for column in columns] == [
        "-1.0000",
        "-1.2484",
        "-0.7516",
        "-1.0000",
        "-1.0000",
        "3",
        "3 pairs",
    ]
    assert tests["barrier, common parent minus separate"]["effect"] == "-2.0000"
    assert overall(tests) == "replicated"


def test_effects_are_paired_by_pair_and_seed_whatever_the_order_of_the_names(distances, tmp_path):
    kept = [row for row in distances if not (row["family"] == "separate" and row["one"] == "z" and row["seed"] == 2)]
    values, labels = between_models(soups(tmp_path, kept), None, "merge_gap", "separate")
    assert values.dropna().groupby("seed").size().to_dict() == {"0": 3, "1": 3, "2": 1}
    assert values[("x and y", "1")] == pytest.approx(-1.1)
    assert labels == [f"{family}-{seed}" for family in ("common_parent", "separate") for seed in range(3)]


def test_aligned_experts_stand_in_for_the_separate_ones_in_a_row_of_its_own(distances, tmp_path):
    aligned = [row | {"family": "aligned", "run_id": f"aligned-{row['seed']}"} for row in distances[1::2]]
    for row in aligned:
        row["merge_gap"] -= 0.5
    values, labels = between_models(soups(tmp_path, distances + aligned), None, "merge_gap", "aligned")
    assert values[("x and y", "1")] == pytest.approx(-0.6)
    assert labels == [f"{family}-{seed}" for family in ("aligned", "common_parent") for seed in range(3)]
    values, _ = between_models(soups(tmp_path, distances + aligned), None, "merge_gap", "separate")
    assert values[("x and y", "1")] == pytest.approx(-1.1)


def test_what_is_missing_is_said(distances, tmp_path):
    with pytest.raises(NotRun, match="no distances.csv"):
        between_models(soups(tmp_path / "none", []), None, "merge_gap", "separate")
    parent = [row for row in distances if row["family"] != "separate"]
    with pytest.raises(NotRun, match="no distance of the family separate"):
        between_models(soups(tmp_path / "one", parent), None, "barrier", "separate")
    twice = distances + [{**distances[0], "run_id": "longer", "method": "experts_generous"}]
    with pytest.raises(NotRun, match=r"several .* common_parent .* \(experts_common_parent, experts_generous\)"):
        between_models(soups(tmp_path / "two", twice), None, "merge_gap", "separate")


def test_an_unknown_family_is_named(distances, tmp_path):
    with pytest.raises(UserError, match=r"distances\.csv:2: column 'family' is 'cousins', not one of common_parent"):
        results(tmp_path, [{**distances[0], "family": "cousins"}])


def test_table_by_hand(tmp_path):
    rows = [
        pair("common_parent", "x", "y", 0, 0.1),
        pair("common_parent", "x", "z", 1, 0.3),
        {**pair("soup", "a", "b", 0, -0.1), "cosine_of_updates": 0.25},
        {**pair("soup", "a", "c", 0, 0.0), "barrier": "", "merge_gap": ""},
    ]
    table = list(csv.DictReader(closeness_table(results(tmp_path, rows).distances).csv().splitlines()))
    assert [row["family"] for row in table] == ["common_parent", "soup"]
    # 0.1 and 0.3: mean 0.2, sd sqrt(2 * 0.1^2 / 1) = 0.1414; the barrier is twice that
    assert {**table[0]} == {
        "family": "common_parent",
        "method": "experts_common_parent",
        "seeds": "2",
        "pairs": "2",
        "pairs with losses": "2",
        "distance": "1.0000",
        "distance sd": "0.0000",
        "cosine": "0.5000",
        "cosine sd": "0.0000",
        "cosine of updates": "",
        "cosine of updates sd": "",
        "barrier": "0.4000",
        "barrier sd": "0.2828",
        "merge gap": "0.2000",
        "merge gap sd": "0.1414",
    }
    one = table[1]
    assert (one["pairs"], one["pairs with losses"]) == ("2", "1")
    assert (one["merge gap"], one["merge gap sd"], one["cosine of updates"]) == ("-0.1000", "", "0.2500")


def test_the_figure_has_every_pair(distances, tmp_path):
    read = results(tmp_path, distances).distances
    views = [
        SimpleNamespace(
            title=name,
            labels={f"{name}-0": name},
            methods=pd.DataFrame({"training_tokens": [2e6, 3e6]}, [name, "other"]),
        )
        for name in ("separate", "elsewhere")
    ]
    chart = closeness_chart(read, views)
    frame = chart.frame
    assert chart.caption.splitlines()[1:] == ["separate, trained on 2M tokens"]  # the setting of the runs alone
    assert len(frame) == 18 and set(frame.family) == {"common_parent", "separate"}
    row = frame[(frame.family == "separate") & (frame.one == "z") & (frame.other == "y") & (frame.seed == "1")]
    assert (row.merge_gap.item(), row.barrier.item()) == pytest.approx((1.3, 2.6))
    assert closeness_chart(read[:0], views) is None
