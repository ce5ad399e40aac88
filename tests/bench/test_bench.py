"""The benchmark: figures against hand values, its file, its tables. Nothing here asserts a time."""

import json
import time
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from soe_bench.bench import __main__ as bench
from soe_bench.bench import bases, instantiate, measure, steps
from soe_bench.bench.growth import fitted_exponent
from soe_bench.bench.measure import BenchSettings, Figure
from soe_bench.errors import UserError
from soe_bench.report.load import read_bench
from soe_bench.report.tables.bench import bench_table, list_table
from soe_bench.soup import combine
from soe_bench.system.machine import Rates

QUICK = BenchSettings("cpu", quick=True)


@pytest.fixture
def rates(monkeypatch):
    for module in (bench, bases, steps, instantiate):
        monkeypatch.setattr(module, "rates", lambda *_: Rates(bandwidth=1e9, matmul=1e10))


def test_a_figure_knows_whether_its_goal_is_met():
    assert Figure("a", "", 1.0, goal=1.0).met and not Figure("a", "", 1.1, goal=1.0).met
    assert Figure("a", "", 1.0, goal=1.0, bound="least").met and not Figure("a", "", 0.9, goal=1.0, bound="least").met
    assert Figure("a", "", None, goal=1.0).met is None and Figure("a", "", 1.0).met is None


def test_limits_by_hand():
    assert Rates(bandwidth=10, matmul=100).seconds(50, 100) == 5
    assert Rates(bandwidth=10, matmul=100).seconds(50, 600) == 6


def test_fitted_exponent_by_hand():
    assert fitted_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert fitted_exponent([1, 2], [1, 0]) is None


def test_rounds_are_interleaved_and_the_first_is_warm_up():
    calls = []
    times = measure.interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, QUICK)
    assert calls == list("ab" * 3) and times["a"].shape == times["b"].shape == (2,)


def test_ratios_are_of_the_rounds(monkeypatch, rates):
    times = {"dense": np.array([1.0, 2.0, 4.0]), "soup": np.array([1.5, 2.0, 8.0])}
    monkeypatch.setattr(steps, "interleaved", lambda calls, settings: times)
    figure = steps.soup_step_ratio(QUICK, 4, 1.15)
    assert (figure.value, figure.low, figure.high, figure.met) == (1.5, 1.25, 1.75, False)
    size = steps.Steps(QUICK.compose()).method.flat.size
    assert figure.limit == pytest.approx(1 + max(8 * 4 * size * 4 / 1e9, 6 * 8 * 4 * size / 1e10) / 2)


def test_steps_are_those_of_the_training_loop():
    """Same data for two methods at the same step, another at the next; the plain version sees what the soup sees."""
    cfg = QUICK.compose("method.n_experts=2")
    soup, plain = steps.Steps(cfg), steps.plain_steps(cfg)
    (a, w, _), (b, v, _) = soup.data(), plain.data()
    assert torch.equal(a, b) and np.array_equal(w, v) and a.shape == (8, 2, 65)
    assert not torch.equal(soup.data()[0], a)
    before = [x.clone() for x in plain.updated.experts.values()]
    plain()
    assert any(not torch.equal(x, y) for x, y in zip(before, plain.updated.experts.values(), strict=True))


def test_a_soup_on_disk_is_combined_without_its_bank_in_memory(tmp_path):
    generator = torch.Generator().manual_seed(0)
    shared, experts = torch.randn(1, 2**20, generator=generator), torch.randn(16, 2**20, generator=generator)
    alpha = torch.randn(1, 16, generator=generator)
    save_file({"shared.value": shared, "experts.value": experts}, tmp_path / "soup")
    expected = combine(shared, experts, alpha)
    del experts
    with instantiate.PeakAnonymous() as peak:
        theta = instantiate.combine_file(tmp_path / "soup", alpha)
    torch.testing.assert_close(theta, expected, rtol=0, atol=0)
    assert peak.bytes < 3 * 2**22  # a model has 4 MB, the bank 64
    with instantiate.PeakAnonymous() as peak, mmap(-1, 2**26, MAP_PRIVATE | MAP_ANONYMOUS) as anonymous:
        anonymous[:: 2**12] = bytes(2**14)  # a byte of every page
        time.sleep(0.1)
    assert peak.bytes > 2**25


def test_peers_that_are_not_installed_are_missing_not_guessed(monkeypatch):
    for module in (steps, instantiate):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    for figure in (steps.trainer_speedup(QUICK, compiled=True), instantiate.mergekit_speedup(QUICK)):
        assert figure.value is None and figure.met is None and "is not installed" in figure.note


def test_the_command_updates_only_what_is_named(tmp_path, rates, monkeypatch):
    values = iter((2.0, 3.0, 4.0))
    for name in ("data_share", "soup_step_ratio_n16"):
        monkeypatch.setitem(bench.FIGURES, name, lambda _, name=name: Figure(name, "x", next(values), goal=2.5))
    out = ["--quick", "--out", str(tmp_path / "bench.json")]
    assert bench.main(["data_share", "soup_step_ratio_n16", *out]) == bench.main(["data_share", *out]) == 0
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [(f["name"], f["value"], f["met"]) for f in written["figures"]] == [
        ("soup_step_ratio_n16", 3.0, False),
        ("data_share", 4.0, False),
    ]
    assert written["versions"]["torch"] == torch.__version__ and written["threads"] == 1 and written["growth"] == []
    table = bench_table(read_bench(tmp_path / "bench.json"))
    assert list(table.frame.met) == ["no", "no"] and list(table.frame.goal) == ["at most 2.5"] * 2
    assert "1.0 GB/s" in table.markdown()


def test_a_quick_measurement_from_end_to_end(tmp_path, capsys):
    assert (
        bench.main(
            [
                "soup_step_ratio_n16",
                "plain_speedup_n64",
                "data_share",
                "instantiate_bandwidth_share",
                "--quick",
                "--out",
                str(tmp_path / "bench.json"),
            ]
        )
        == 0
    )
    for figure in json.loads((tmp_path / "bench.json").read_text())["figures"]:
        assert figure["low"] <= figure["value"] <= figure["high"] and figure["value"] > 0
        assert figure["met"] in (True, False) and set(figure) >= {"name", "unit", "limit", "goal", "commit"}


def test_peak_memory_is_taken_in_a_process_of_its_own():
    peak = measure.in_fresh_process(held, 2**26)
    assert 2**26 <= peak < 2**27


def held(size: int) -> int:
    from soe_bench.bench.memory import resident
    from soe_bench.system.machine import peak_memory

    before = resident("cpu")
    torch.ones(size // 4)
    return peak_memory("cpu") - before


def test_the_table_of_growth_has_the_exponents_of_each_axis():
    point = {"axis": "n", "n": 1, "P": 5, "R": 8, "k": 4, "step_seconds": 0.5, "soup_seconds": 0.25, "peak_bytes": 1e6}
    exponents = {f"{name}_exponent": 1.25 for name in ("step_seconds", "soup_seconds", "peak_bytes")}
    rows = [point | exponents, point | exponents | {"n": 2}, point | exponents | {"axis": "R"}]
    state = {"commit": None, "dirty": None}
    bench = {"growth": rows, "growth_state": state, "device": "d", "threads": 1, "versions": {}}
    frame = list_table("growth", bench).frame
    assert list(frame["exponent of step"]) == ["1.25"] * 3 and list(frame["step (s)"]) == ["0.5"] * 3


@pytest.mark.slow
def test_steps_of_base_models_beside_their_limit(tmp_path):
    """On two tiny sizes; a size that is out of memory is a row that says so."""
    assert bench.main(["bases", "--quick", "--out", str(tmp_path / "bench.json")]) == 0
    written = read_bench(tmp_path / "bench.json")
    assert [(p["base"], p["n"]) for p in written["bases"]] == [("0.28M", 0), ("0.28M", 16)]
    for p in written["bases"]:
        assert p["step_seconds"] > 0 and p["least_seconds"] > 0 and p["peak_bytes"] > 0
    written["bases"][1] |= {"step_seconds": None, "peak_bytes": None}
    frame = list_table("bases", written).frame
    assert frame["step (s)"][1] == "out of memory" and frame["fraction"][1] == "" and float(frame["fraction"][0]) > 0


@pytest.mark.slow
def test_what_processes_send(tmp_path):
    """The whole of Theta and of the gradients once, divided among them, and sums that alone grow with n."""
    assert bench.main(["processes", "--quick", "--out", str(tmp_path / "bench.json")]) == 0
    written = read_bench(tmp_path / "bench.json")
    assert [(p["n"], p["processes"]) for p in written["processes"]] == [(16, 1), (16, 2), (256, 1), (256, 2)]
    for p in written["processes"]:
        alone = p["processes"] == 1
        assert p["parameters_sent"] == (0 if alone else 4 * 2 * 8 * p["P"] / 2) and p["step_seconds"] > 0
        assert p["sums_sent"] == (0 if alone else 4 * (8 * p["n"] + 64 + 1))
    frame = list_table("processes", written).frame
    assert list(frame["of 2 R P words"]) == ["0", "0.5"] * 2 and frame["against one process"][0] == "1"


def test_a_step_out_of_memory_is_told(monkeypatch, rates):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(bases, "interleaved", full)
    row = bases.point(QUICK, (), 4)
    assert row["step_seconds"] is row["peak_bytes"] is None and row["n"] == 4 and row["least_seconds"] > 0


def test_bad_input_is_one_line(tmp_path, capsys):
    path = tmp_path / "bench.json"
    for arguments, words in (
        (["speed"], "there is no quantity 'speed'"),
        (["--device", "nowhere"], "--device nowhere"),
    ):
        assert bench.main([*arguments, "--quick", "--out", str(path)]) == 2
        assert words in capsys.readouterr().err.strip().splitlines()[-1]
    path.write_text("{")
    assert bench.main(["--out", str(path)]) == 2
    with pytest.raises(UserError, match="not a file of soe_bench.bench"):
        read_bench(path)
    path.write_text(json.dumps(bench.opened(tmp_path / "new", QUICK)))
    with pytest.raises(UserError, match="measured with other quick"):
        bench.opened(path, BenchSettings("cpu"))
