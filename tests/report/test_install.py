"""The check of an installation against expected values, on made-up demos with known answers."""

import math
from pathlib import Path

import pandas as pd
import pytest
from made_up_records import record, run, write_records

from soe_bench.report import install

GENERIC, SOUP = (4.99, 5.00, 5.01), (4.89, 4.92, 4.92)  # by seed


def demo(folder: Path, generic: tuple[float, ...], soup: tuple[float, ...], worse: float = 0.3, **changes) -> Path:
    """A demo's results folder: the losses given, on specialists half a nat to either side. With the domain weights of
    another specialist, the soup's loss is `worse` nats higher, and a little more at each seed."""
    rows = []
    sources = {"none": [("generic", 0, generic)], "estimate": [("soup", 16, soup)]}
    sources["shuffled"] = [("soup", 16, [loss + worse + seed / 100 for seed, loss in enumerate(soup)])]
    for source, kinds in sources.items():
        for method, n, losses in kinds:
            for seed, loss in enumerate(losses):
                rows += run(method, n, seed, {"a": loss - 0.5, "b": loss + 0.5}, source, scale="demo", **changes)
    return write_records(folder, rows)


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(install, "EXPECTED", tmp_path / "expected.csv")
    assert install.main([str(demo(tmp_path / "several", GENERIC, SOUP)), "--write"]) == 0
    return tmp_path / "expected.csv"


def test_expected_values_are_the_means_of_each_seed(expected: Path) -> None:
    table = pd.read_csv(expected)
    assert table.method.tolist() == ["generic"] * 3 + ["soup n=16"] * 3
    assert table.loss.tolist() == pytest.approx([*GENERIC, *SOUP])
    shuffled = [loss + 0.3 + seed / 100 for seed, loss in enumerate(SOUP)]
    assert table.loss_shuffled.tolist() == pytest.approx([*[math.nan] * 3, *shuffled], nan_ok=True)


def test_prediction_interval_by_hand() -> None:
    low, high = install.prediction_interval(pd.Series(GENERIC))
    half = 9.924843 * 0.01 * (4 / 3) ** 0.5  # Student's t with 2 degrees of freedom, 99.5 %
    assert (low, high) == pytest.approx((5 - half, 5 + half))


@pytest.mark.parametrize(
    ("generic", "soup", "code", "failing"),
    [
        (5.00, 4.91, 0, []),
        (5.11, 5.02, 0, []),  # a half width is 0.1146 for generic
        (5.12, 5.03, 1, ["generic"]),
        (5.00, 5.12, 1, ["soup n=16", "soup n=16 minus generic"]),  # the soup's experts do nothing
        (700.0, 700.0, 1, ["generic", "soup n=16"]),
    ],
)
def test_verdict(expected, tmp_path, capsys, generic, soup, code, failing) -> None:
    assert install.main([str(demo(tmp_path / "demo", (generic,), (soup,)))]) == code
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines if line.endswith("FAIL")] == failing
    assert last.startswith("FAIL" if code else "PASS")


def test_a_soup_that_ignores_its_domain_weights_fails(expected, tmp_path, capsys) -> None:
    assert install.main([str(demo(tmp_path / "demo", (5.00,), (4.91,), worse=0.0))]) == 1
    *lines, _ = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines if line.endswith("FAIL")] == ["soup n=16, another's h"]


def test_one_method_by_itself(expected, tmp_path, capsys) -> None:
    folder = demo(tmp_path / "demo", (), (4.91,))
    assert install.main([str(folder), "soup n=16"]) == 0
    *lines, _ = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["soup n=16", "soup n=16, another's h"]
    assert install.main([str(folder), "x"]) == 2
    assert "no expected values for 'x'" in capsys.readouterr().err


def test_a_further_seed_of_one_method_is_judged_by_its_loss_alone(expected, tmp_path, capsys) -> None:
    assert install.main([str(demo(tmp_path / "demo", (5.00,), (4.91, 4.92)))]) == 0
    *lines, _ = capsys.readouterr().out.splitlines()
    second = [line.split("  ")[0].strip() for line in lines if " seed 1 " in line]
    assert second == ["soup n=16", "soup n=16, another's h"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no records"),
        ([record(scale="demo", data_fingerprint="another")], "not the one of the expected values"),
        ([record(scale="demo")], "lacks 'soup n=16'"),
        ([record(method="soup", n_experts=16, h_source="estimate")], "lacks 'generic'"),
        ([record(), record(run_id="generic-1", scale="demo")], "does not hold the records of one demo"),
    ],
)
def test_what_cannot_be_compared_is_one_line(expected, tmp_path, capsys, rows, message) -> None:
    assert install.main([str(write_records(tmp_path / "demo", rows))]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_two_seeds_are_no_expected_values(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(install, "EXPECTED", tmp_path / "expected.csv")
    assert install.main([str(demo(tmp_path / "demo", GENERIC[:2], SOUP[:2])), "--write"]) == 2
    assert "3 or more are needed" in capsys.readouterr().err and not install.EXPECTED.exists()
