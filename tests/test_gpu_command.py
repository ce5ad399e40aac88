"""The GPU's part of the evidence, at toy size on CPU: what it writes, and what a time limit leaves out."""

import pandas as pd
import pytest

from soe_bench import gpu


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """One seed, no compiler, and a home of the test's own."""
    monkeypatch.setenv("SOE_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(gpu, "SEEDS", (0,))
    monkeypatch.setattr(gpu, "compiles", lambda cfg: False)
    return tmp_path / "out"


@pytest.mark.slow
def test_trials_choose_the_rates_of_the_runs(tiny):
    assert gpu.main([str(tiny), "train", "--quick"]) == 0
    trials, runs = pd.read_csv(tiny / "tuning.csv"), pd.read_csv(tiny / "runs.csv")
    assert trials.groupby("method").size().to_dict() == dict.fromkeys(gpu.METHODS, 2)
    assert sorted(runs.method) == sorted(gpu.METHODS)
    curves = pd.read_csv(tiny / "curves.csv").merge(runs[["run_id", "method"]].rename(columns={"method": "name"}))
    best = trials.sort_values("validation_within").groupby("method").lr.first()
    for method, rows in curves.groupby("name"):
        assert rows.lr.max() == pytest.approx(best[method], rel=0.2)  # of a short run the peak may not be reported


def test_a_misspelt_piece_is_refused_before_anything_is_written(tiny, capsys):
    assert gpu.main([str(tiny), "tests", "trian"]) == 2 and not tiny.exists()
    assert capsys.readouterr().err == "error: there is no piece 'trian': choose from tests, train, steps\n"


def test_no_piece_begins_that_the_time_does_not_allow(tiny, caplog):
    session = gpu.Session(tiny, seconds=0.0, quick=True)
    session.took["piece"] = 1.0
    with caplog.at_level("INFO", "soe_bench"):
        session.within_time("piece", lambda: pytest.fail("begun"))
    assert "left out" in caplog.text


def test_a_piece_that_fails_does_not_end_the_others(tiny, caplog):
    session = gpu.Session(tiny, seconds=60.0, quick=True)
    session.within_time("first", lambda: 1 / 0)
    done = []
    session.within_time("second", lambda: done.append(1))
    assert done and "first failed" in caplog.text


def test_a_packed_corpus_is_unpacked_where_runs_look_for_it(tiny, monkeypatch, tmp_path):
    cfg = gpu.Session(tiny, 0.0, quick=True).config("generic")
    gpu.pack(tmp_path / "corpus.tar.xz", cfg)
    cfg.home = str(tmp_path / "elsewhere")
    gpu.unpack(tmp_path / "corpus.tar.xz", cfg)
    assert (gpu.corpora.folder(cfg.data, tmp_path / "elsewhere", 0) / "done").is_file()
    cfg.data.k = 3
    with pytest.raises(gpu.UserError, match="pack it again"):
        gpu.unpack(tmp_path / "corpus.tar.xz", cfg)
