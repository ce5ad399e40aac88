"""Closeness (C3): hand-computed distances, barriers and gaps, which pairs are evaluated, and the file it writes."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soe_bench import closeness
from soe_bench.checkpoint import load
from soe_bench.data.builder import open_corpus
from soe_bench.data.splits import GENERIC
from soe_bench.evaluate import document_losses
from soe_bench.method import with_parameters
from soe_bench.runs.build import build_method, load_parameters
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run

TINY = ["train.tokens=8192", "evaluate.splits=[validation]"]
FAMILIES = {
    "domain_experts": "common_parent",
    "separate_experts": "separate",
    "merge_aligned": "aligned",
    "soup": "soup",
}


def test_geometry_is_hand_computed():
    one, other, origin = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 5.0]), torch.tensor([0.0, 4.0])
    found = closeness.geometry(one, other, origin)
    assert found["distance"] == pytest.approx(10**0.5 / 5)  # |(3, -1)| over the mean of 5 and 5
    assert found["cosine"] == pytest.approx(20 / 25)
    assert found["cosine_of_updates"] == pytest.approx(0)  # (3, 0) and (0, 1)
    assert closeness.geometry(one, 3 * one, None) == {
        "distance": pytest.approx(1),
        "cosine": pytest.approx(1),
        "cosine_of_updates": None,
    }


def test_barrier_and_merge_gap_are_hand_computed():
    assert closeness.barrier(np.array([1.0, 4.0, 3.0])) == 2  # over 1, 2, 3
    assert closeness.barrier(np.array([1.0, 0.0, 3.0])) == 0
    losses = np.array([[1.0, 5.0], [4.0, 6.0], [3.0, 2.0]])  # on the text of the one, of the other
    # mean of both: 3, 5, 2.5 over 3, 2.75, 2.5; midpoint 5 against 1 and 2, each on its own text
    assert closeness.merging(losses) == {"barrier": pytest.approx(2.25), "merge_gap": pytest.approx(3.5)}


@given(st.lists(st.floats(0, 20), min_size=2, max_size=12))
def test_a_barrier_is_never_negative_and_none_stands_on_a_straight_line(values):
    losses = np.array(values)
    assert closeness.barrier(losses) >= 0
    assert closeness.barrier(np.linspace(losses[0], losses[-1], 11)) == pytest.approx(0, abs=1e-12)


@given(seed=st.integers(0, 99), m=st.integers(2, 9), count=st.integers(0, 40))
def test_each_model_is_paired_with_its_nearest_first_then_others_once(seed, m, count):
    places = np.random.default_rng(seed).normal(size=(m, 3))
    pairs = closeness.chosen_pairs(places, count)
    assert len(pairs) == len(set(pairs)) == min(count, m * (m - 1) // 2)
    assert set(pairs) <= set(combinations(range(m), 2))
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(m)
    nearest = {tuple(sorted((i, int(distances[i].argmin())))) for i in range(m)}
    assert set(pairs[: len(nearest)]) <= nearest


@pytest.fixture(scope="module")
def written(tmp_path_factory, shared_home):
    """The command on a run of each family: its arguments, what the home holds, distances.csv."""
    from arguments import base_arguments

    from soe_bench.config import job_configs

    folder = tmp_path_factory.mktemp("closeness")
    common, configs = [*base_arguments(folder, shared_home), *TINY], {}
    for method in FAMILIES:
        configs[method] = job_configs([*common, f"method={method}"])[0][0]
        execute(configs[method])
    assert closeness.main([*common, "method=" + ",".join(FAMILIES), "-m", "pairs=4"]) == 0
    return common, configs, folder / "results" / "distances.csv"


def test_a_row_for_every_pair_and_losses_for_the_same_pairs_of_both_kinds_of_groups(written):
    table = pd.read_csv(written[2])
    assert list(table) == [
        "run_id",
        "method",
        "seed",
        "family",
        "one",
        "other",
        "distance",
        "cosine",
        "cosine_of_updates",
        "barrier",
        "merge_gap",
    ]
    assert table.groupby("method").family.first().to_dict() == FAMILIES
    assert table.groupby("method").size().to_dict() == dict.fromkeys(FAMILIES, 6) | {"soup": 3}
    evaluated = {
        method: set(map(tuple, rows[["one", "other"]].to_numpy()))
        for method, rows in table.dropna(subset="barrier").groupby("method")
    }
    assert evaluated["domain_experts"] == evaluated["separate_experts"] == evaluated["merge_aligned"]
    assert 0 < len(evaluated["domain_experts"]) <= 4 and len(evaluated["soup"]) == 3
    assert table.cosine_of_updates.isna().equals(table.family.isin(["separate", "aligned"]))
    assert (table.barrier.isna() == table.merge_gap.isna()).all() and (table.barrier.dropna() >= 0).all()
    means = table.groupby("family").distance.mean()
    assert means.common_parent < means.aligned < means.separate


def test_values_against_the_saved_parameters(written):
    _, configs, path = written
    cfg = configs["domain_experts"]
    run, table = Run.of(cfg), pd.read_csv(path).dropna(subset="barrier")
    corpus = open_corpus(cfg.data, Path(cfg.home), 0)
    method, values = build_method(run, corpus), load(run.folder / "model.safetensors")[0]
    models, parent = values["models.value"].double(), values["common.value"][0].double()
    assert torch.equal(values["common.value"], load(run.parent.folder / "model.safetensors")[0]["models.value"])
    row = next(row for row in table.itertuples() if row.method == "domain_experts")
    i, j = (int(name.removeprefix("group")) for name in (row.one, row.other))
    a, b = models[i], models[j]
    assert row.distance == pytest.approx(((a - b).norm() / (a.norm() + b.norm()) * 2).item(), rel=1e-4)
    assert row.cosine == pytest.approx((a @ b / a.norm() / b.norm()).item(), rel=1e-4)
    u, v = a - parent, b - parent
    assert row.cosine_of_updates == pytest.approx((u @ v / u.norm() / v.norm()).item(), rel=1e-4)

    def mean_loss(t, group):
        rows = corpus.rows(GENERIC, "validation")
        rows = rows[rows.domain.isin(np.flatnonzero(method.weights[group]))]
        rows = rows.iloc[[n * len(rows) // 8 for n in range(8)]] if len(rows) > 8 else rows
        model = with_parameters(method.context.base, method.flat, ((1 - t) * a + t * b).float())
        nats, tokens = document_losses(model, corpus.tokens(rows), cfg.train.seq_len)
        return nats.sum() / tokens.sum()

    gap = (mean_loss(0.5, i) + mean_loss(0.5, j)) / 2 - (mean_loss(0, i) + mean_loss(1, j)) / 2
    assert row.merge_gap == pytest.approx(gap, rel=1e-3, abs=1e-5)


def test_no_barrier_between_a_model_and_itself_and_none_known_without_text(written):
    cfg = written[1]["separate_experts"]
    run = Run.of(cfg)
    corpus = open_corpus(cfg.data, Path(cfg.home), 0)
    method = build_method(run, corpus)
    load_parameters(method, run.folder)
    models = closeness.models_of(method, corpus)
    text = next(text for text in models.texts if text)
    same = closeness.Models(
        "separate", ["a", "b", "c"], models.theta[[0, 0, 1]], None, [text, text, []], models.places[:3]
    )
    table = closeness.closeness(method, same, count=3).set_index(["one", "other"])
    assert table.distance["a", "b"] == table.barrier["a", "b"] == table.merge_gap["a", "b"] == 0
    assert table.barrier.notna().sum() == 1 and table.distance["a", "c"] == table.distance["b", "c"] > 0


def test_again_gives_the_same_file_and_keeps_the_rows_of_other_runs(written):
    common, _, path = written
    before = path.read_bytes()
    assert closeness.main([*common, "method=soup"]) == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["method=domain_experts", "method.groups=3"], "is not trained: run python -m soe_bench "),
        (["method=generic"], "generic is one model"),
        (["method=merge_aligned", "method.parent.method=domain_experts"], "is not trained"),
        (["method=nope"], "there is no method 'nope'"),
        (["--home=x"], "--home"),
    ],
)
def test_bad_input_is_one_line(arguments, capsys, extra, says):
    assert closeness.main([*arguments, *extra]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and says in line
