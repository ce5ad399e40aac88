"""The benchmark's lists of points and the figures beside them: against hand values, at toy size, and as tables. Nothing
here asserts a time."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from itertools import islice

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import ByteLevel

from soe_bench.bench import arrangements, corpora, end_to_end, instantiate, many, measure, precision, shape, steps
from soe_bench.bench.measure import BenchSettings
from soe_bench.data.tokenizer import fit_tokenizer
from soe_bench.errors import UserError
from soe_bench.report.tables.bench import LISTS, list_table
from soe_bench.system.laps import FILE
from soe_bench.system.machine import Rates

QUICK = BenchSettings("cpu", quick=True)
PROVENANCE = {"device": "d", "threads": 1, "versions": {}}


def table(name, rows):
    return list_table(name, {name: rows, f"{name}_state": {"commit": None, "dirty": None}} | PROVENANCE).frame


def test_the_goal_of_several_draws_is_no_higher_than_the_machine_allows(monkeypatch):
    """8 specialists of 4 experts: 13 P words of 4 bytes moved, 64 P operations."""
    for matmul, limit, goal in ((1e9, 52 / 64, 0.5), (5e8, 26 / 64, 26 / 64), (1e10, 1, 0.5)):
        monkeypatch.setattr(instantiate, "rates", lambda _, matmul=matmul: Rates(1e9, matmul))
        figure = instantiate.bandwidth_share(QUICK, draws=8, goal=0.5)
        assert figure.limit == pytest.approx(limit) and figure.goal == pytest.approx(goal)


def test_the_goal_beside_mergekit_is_a_share_of_the_limit(monkeypatch):
    parts = {"mergekit_seconds": 6.0, "ours_seconds": 0.6, "writing_seconds": 0.1, "bytes": 4e8}
    monkeypatch.setattr(instantiate, "find_spec", lambda _: True)
    monkeypatch.setattr(instantiate, "in_fresh_process", lambda *_: dict(parts))
    monkeypatch.setattr(instantiate, "rates", lambda _: Rates(1e9, 1e9))
    figure = instantiate.mergekit_speedup(QUICK)
    assert (figure.value, figure.limit, figure.met) == (10, pytest.approx(12), True) and figure.goal == pytest.approx(
        7.2
    )


def test_shares_of_a_step_by_hand(monkeypatch):
    times = {"data": [1.0, 2.0], "write": [30.0, 60.0], "step": [50.0, 100.0]}
    monkeypatch.setattr(shape, "interleaved", lambda *_: {name: np.array(each) for name, each in times.items()})
    monkeypatch.setattr(steps, "interleaved", shape.interleaved)
    assert (figure := shape.sampling_share(QUICK)).value == pytest.approx(0.02) and figure.met
    every = QUICK.compose().train.checkpoint_every
    assert steps.checkpoint_share(QUICK).value == pytest.approx(0.6 / every)


@pytest.mark.peer
@pytest.mark.parametrize("compiled", [False, True])
def test_the_trainer_and_ours_take_turns(compiled):
    pytest.importorskip("accelerate", reason="make test-peer installs it")
    pytest.importorskip("transformers", reason="make test-peer installs it")
    figure = steps.trainer_speedup(QUICK, compiled)
    assert figure.low <= figure.value <= figure.high and figure.limit > figure.value and figure.goal == 1.2
    assert figure.name == ("trainer_speedup_compiled" if compiled else "trainer_speedup")


def test_many_specialists_beside_their_limit(tmp_path, monkeypatch):
    instantiate.write_soup(QUICK, ("method.n_experts=4",), tmp_path / "soup")
    monkeypatch.setattr(many, "rates", lambda _: Rates(bandwidth=1e9, matmul=1e9))
    rows = [row for source in ("memory", "disk") for row in many.points(QUICK, source, tmp_path / "soup")]
    assert [(row["source"], row["count"]) for row in rows] == [("memory", 1), ("memory", 8), ("disk", 1), ("disk", 8)]
    size = rows[0]["P"]
    assert [row["least_seconds"] * 1e9 / size for row in rows] == pytest.approx([24, 64] * 2)  # bytes, then operations
    assert all(row["seconds"] > 0 and row["reading_seconds"] > 0 for row in rows)
    row = rows[1] | {"seconds": 0.5, "reading_seconds": 0.25, "least_seconds": 0.1, "peak_bytes": 16 * 4 * size}
    frame = table("many", [row, row | {"peak_bytes": None}])
    assert frame.iloc[0][["against one reading", "fraction", "of the specialists"]].tolist() == ["2", "0.2", "2"]
    assert frame["of the specialists"][1] == ""


@pytest.mark.slow
def test_precisions_differ_in_what_they_compute(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: True)  # emulated elsewhere
    float32, bfloat16 = precision.precision(QUICK)
    assert (float32["precision"], bfloat16["precision"]) == precision.PRECISIONS
    assert float32["loss"] != bfloat16["loss"] and float32["loss"] == pytest.approx(bfloat16["loss"], abs=0.1)
    assert float32["step_seconds"] > 0 and float32["least_seconds"] > 0 and float32["steps"] == 5
    assert table("precision", [float32])["loss after them"][0] == f"{float32['loss']:.3f}"


def test_a_processor_without_bfloat16_has_no_precisions(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert precision.precision(QUICK) == [] and precision.has_bfloat16("cuda")


def test_every_part_of_the_pipeline_is_measured():
    # In this process the peak of an earlier test may be higher than all that is measured here.
    rows = measure.in_fresh_process(shape.point, QUICK, "d32", 8, 2, shape.STAGES["k"])
    assert tuple(row["stage"] for row in rows) == shape.STAGES["k"]
    assert all(row["seconds"] > 0 and (row["k"], row["n"]) == (8, 2) for row in rows) and rows[-1]["peak_bytes"] > 0


def test_the_exponents_of_each_part_are_along_its_axis(monkeypatch):
    """Of made-up times: in k quadratic for clusters and linear for the rest, in n constant."""

    def point(_, settings, model, k, n, stages):
        seconds = {stage: float(k**2 if stage == "clusters" else k) for stage in stages}
        return [
            {"stage": stage, "k": k, "n": n, "P": 5, "seconds": value, "peak_bytes": 0}
            for stage, value in seconds.items()
        ]

    monkeypatch.setattr(shape, "in_fresh_process", point)
    rows = shape.shape(QUICK)
    found = {(row["axis"], row["stage"]): row["seconds_exponent"] for row in rows}
    assert found == {
        **{("k", stage): pytest.approx(2 if stage == "clusters" else 1) for stage in shape.STAGES["k"]},
        **{("n", stage): pytest.approx(0, abs=1e-9) for stage in shape.STAGES["n"]},
    }
    frame = table("shape", rows)
    assert dict(zip(frame["part"], frame["at most linear"], strict=True))["clusters"] == "no"
    assert set(frame["at most linear"][frame["part"] != "clusters"]) == {"yes"}


def test_the_largest_base_that_fits(monkeypatch):
    sizes = {"d256": 80, "d128": 60, "d64": 10, "d32": 1}
    monkeypatch.setattr(shape, "state_bytes", lambda run: sizes[run.cfg.model.name])
    for free, expected in ((100, "d128"), (0, "d32")):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: type("Memory", (), {"available": free}))
        assert shape.largest(QUICK) == expected


def test_tokens_per_second_are_those_of_all_jobs(monkeypatch):
    """A round of one step of 1024 tokens takes every arrangement 2 seconds."""
    monkeypatch.setattr(arrangements, "worker", lambda *_: nullcontext())
    monkeypatch.setattr(arrangements, "together", lambda *_: 2.0)
    rows = arrangements.arrangements(QUICK)
    assert [row["tokens_per_second"] for row in rows] == [1024, 512, 512]
    assert list(table("arrangements", rows)["tokens per second"]) == ["1020", "512", "512"]


@pytest.mark.slow
def test_arrangements_run():
    rows = arrangements.arrangements(QUICK)
    assert [row["arrangement"] for row in rows] == list(arrangements.ARRANGEMENTS)
    assert all(row["tokens_per_second"] > 0 for row in rows)


def test_the_parts_of_a_command_are_those_that_it_says(tmp_path, monkeypatch):
    def run(command, env, **_):
        with open(env[FILE], "w", encoding="utf-8") as file:
            json.dump({"command": {"start": 2.0, "jobs": 3.0}, "jobs": {"training": 5.0}}, file)
        return subprocess.CompletedProcess(command, status, "", "reading\nerror: no network\n")

    monkeypatch.setattr(subprocess, "run", run)
    status = 3
    rows = end_to_end.parts("demo", ["soe_bench"], tmp_path, tmp_path)
    assert [(row["stage"], row["seconds"]) for row in rows] == [
        ("start", 2),
        ("jobs", 3),
        ("of all jobs: training", 5),
    ]
    assert list(table("end_to_end", rows)["time (s)"]) == ["2", "3", "5"]
    status = 1
    with pytest.raises(UserError, match="exit status 1: error: no network"):
        end_to_end.parts("demo", ["soe_bench"], tmp_path, tmp_path)


@pytest.mark.slow
def test_whole_commands_say_where_their_time_went():
    rows = end_to_end.end_to_end(QUICK)
    commands = dict.fromkeys(row["command"] for row in rows)
    nothing, built, one, ten, pilot, experts, *answers = (
        [row["stage"] for row in rows if row["command"] == each] for each in commands
    )
    assert answers == [["in all"]] * 5
    own = ["start", "plan", "corpus", "jobs", "records", "tables and figures"]
    assert nothing[:6] == built[:6] == own and "of all jobs: training" in built
    assert "of all jobs: evaluation at h estimate" in built
    parts = ["reading documents", "domain weights", "combining experts", "gate", "writing"]
    assert one == ten == ["start", "soup", *parts]
    assert pilot[:6] == experts[:6] == own and "of all jobs: evaluation at h tuned" in experts
    assert all(row["seconds"] >= 0 for row in rows)


@pytest.mark.slow
def test_a_corpus_is_built_with_the_time_of_its_stages_and_its_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("SOE_BENCH_HOME", str(tmp_path))
    rows = corpora.corpora(QUICK)
    names = list(dict.fromkeys(row["corpus"] for row in rows))
    assert names[0] == "synthetic" and names[1].startswith("data=local, 0.00") and len(names) == 2
    for name in names:
        *stages, whole = [row for row in rows if row["corpus"] == name]
        assert [row["stage"] for row in stages][:2] == ["documents and passages", "duplicates"]
        assert whole["stage"] == "in all" and whole["seconds"] > sum(row["seconds"] for row in stages)
        assert 2**26 < whole["peak_bytes"] < 2**33
    assert list(tmp_path.iterdir()) == [tmp_path / "wheels"]  # the corpora themselves are in a home that is removed
    assert list(table("corpora", rows)["part"]) == [row["stage"] for row in rows]
    with pytest.raises(UserError, match="the corpus none was not built: .*there is no data 'none'"):
        corpora.stages("none", ["data=none"], tmp_path)


def test_text_to_build_from_is_of_the_size_and_holds_no_copies(tmp_path):
    written = corpora.write_texts(tmp_path, 3 * corpora.DOCUMENT)
    assert 3 * corpora.DOCUMENT <= written < 9 * corpora.DOCUMENT
    rows = [json.loads(line)["text"] for path in tmp_path.glob("*.jsonl") for line in path.open(encoding="utf-8")]
    files = [path.read_text(encoding="utf-8") for path in tmp_path.glob("[0-9]*/*.txt")]
    assert rows and files and sum(map(len, rows + files)) == written
    assert len(list(tmp_path.glob("specialists/*/*.txt"))) == 150
    small = list(islice(corpora.documents(["a b\n" * 60_000, "c\n" * 100_000]), 4))
    assert sorted(small[:2]) == ["a b\n" * 60_000, "c\n" * 100_000]
    assert sorted(small[2:]) == ["a b 1\n" * 60_000, "c 1\n" * 100_000]


@pytest.mark.parametrize(
    ("sample", "tokens", "same", "alike"), [("ab", 13, 13, 13), ("qq", 23, 23, 3), ("xy", 22, 21, 0)]
)
def test_the_agreement_of_tokenizers_by_hand(sample, tokens, same, alike, monkeypatch):
    """Each tokenizer joins one pair. That of all text, `ab` ten times and `xyz` once, joins `ab`. One that has read
    `qq` alone makes 20 tokens of the former, in words that are not cut alike, and 3 of the latter. All are bytes, which
    need no merge. One that has read `xy` makes a token that the other does not have, and no word that is cut alike."""
    monkeypatch.setattr(corpora, "read", lambda *_: (pd.DataFrame({"text": ["ab"] * 10 + ["xyz"]}), 11))
    monkeypatch.setattr(corpora, "generic_training", lambda rows: rows.text.notna())
    monkeypatch.setattr(corpora, "training_sample", lambda *_: [sample])
    monkeypatch.setattr(corpora, "fit_tokenizer", lambda texts, _: fit_tokenizer(texts, 258))
    figure = corpora.tokenizer_agreement(QUICK)
    assert figure.value == same / tokens and figure.met
    assert figure.note == f"{alike / tokens:.3f} are in words that both cut alike"
    assert (figure.parts["tokens"], figure.parts["tokens_of_words_cut_alike"]) == (tokens, alike)


def test_tokens_of_the_same_merges_by_hand():
    """`abc` is made of `ab` in one, of `bc` in the other; `abcd` needs it; `xy` is made in the same way by both."""
    one, other = (
        Tokenizer(models.BPE({token: i for i, token in enumerate([*"abcdxy", *map("".join, merges)])}, merges))
        for merges in (
            [("a", "b"), ("x", "y"), ("ab", "c"), ("abc", "d")],
            [("b", "c"), ("a", "bc"), ("abc", "d"), ("x", "y"), ("a", "b")],
        )
    )
    assert corpora.merged_alike(one, other) - set(ByteLevel.alphabet()) == {"ab", "xy"}


def test_the_share_of_an_evaluation_by_hand(tmp_path, monkeypatch):
    def parts(words, command, folder, place):
        assert command[:2] == ["soe_bench", "method.n_experts=4"] and (place / "data").resolve() == tmp_path / "data"
        jobs = {"training": 90.0, "evaluation at h estimate": 6.0, "evaluation at h tuned": 4.0}
        stages = {"start": 9.0} | {f"of all jobs: {part}": seconds for part, seconds in jobs.items()}
        return [{"command": words, "stage": stage, "seconds": seconds} for stage, seconds in stages.items()]

    monkeypatch.setattr(end_to_end, "parts", parts)
    monkeypatch.setenv("SOE_BENCH_HOME", str(tmp_path))
    figure = end_to_end.evaluation_share(QUICK, 4)
    assert (figure.value, figure.met) == (0.1, True)
    assert figure.parts == {"training_seconds": 90.0, "evaluation_seconds": 10.0}


def test_commands_that_are_timed_are_refused_for_the_right_reason(tmp_path):
    """Each with the words that say why: the time of a command that failed otherwise would say nothing."""
    for arguments, words in (("a misspelt setting", "there is no setting train.token"), ("the plan of", "huge")):
        (command,) = [each for name, each in end_to_end.ANSWERS.items() if name.startswith(arguments)]
        done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and words in done.stderr


def test_the_command_without_network_goes_on_with_the_usual_corpora(tmp_path, monkeypatch):
    places = []

    def parts(words, command, folder, place):
        places.append(place)
        if len(places) == 1:
            raise UserError("no network")
        (place / "runs" / "soup-n16").mkdir(parents=True, exist_ok=True)
        assert (place / "data").resolve() == tmp_path / "data"
        return [{"command": words}]

    monkeypatch.setattr(end_to_end, "parts", parts)
    monkeypatch.setenv("SOE_BENCH_HOME", str(tmp_path))
    monkeypatch.setattr(end_to_end, "write_texts", lambda *_: 1)
    monkeypatch.setattr(end_to_end, "answers", lambda *_: [])
    assert len(end_to_end.end_to_end(QUICK)) == 5
    assert places[1] == places[2] == places[3] == places[4] != places[0] and places[5] not in places[:5]


def test_every_list_has_a_table():
    from soe_bench.bench import __main__ as bench

    assert set(LISTS) == set(bench.LISTS)


def test_commands_are_measured_without_the_packages_of_the_benchmark(tmp_path, monkeypatch):
    (tmp_path / "peer" / "mergekit").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/peer{os.pathsep}{tmp_path}/own")
    assert measure.environment(X="1").items() >= {"PYTHONPATH": f"{tmp_path}/own", "X": "1"}.items()
    monkeypatch.delenv("PYTHONPATH")
    assert measure.environment()["PYTHONPATH"] == ""
