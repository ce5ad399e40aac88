"""Several results folders below one: each has its tables and figures, and what fails in one stops no other."""

from dataclasses import replace

import pytest
from made_up_claims import generic, soup
from made_up_records import write_csv, write_records

from soe_bench.report import compare, write
from soe_bench.report.__main__ import main

pytestmark = pytest.mark.usefixtures("no_images")
DEVIATION = dict(setting="router width", ours="128", paper="64", status="paper", where="method.router", note="")


def several(folder):
    """Two results folders, one of them deeper, beside a ledger; the folder itself has no records."""
    small = [row for seed in range(3) for row in generic(seed) + soup(4, seed, 0.1)]
    large = [row for seed in range(2) for row in generic(seed, scale="gpu") + soup(8, seed, 0.3, scale="gpu")]
    write_records(folder / "cpu", small)
    write_records(folder / "gpu" / "wheels", large)
    write_csv(folder / "deviations.csv", [DEVIATION])
    return folder


def test_every_folder_below_is_written_and_checked(tmp_path, capsys):
    folder = several(tmp_path / "results")
    assert main([str(folder)]) == 0
    capsys.readouterr()
    assert sorted(path.name for path in (folder / "tables").iterdir()) == ["deviations.csv", "deviations.md"]
    panels = (folder / "figures" / "experts.csv").read_text()  # one figure beside those of the folders: every scale
    assert "scale small, model d64" in panels and "scale gpu, model d64" in panels
    text = (folder / "cpu" / "tables" / "difference.csv").read_text()
    assert "soup n=4,16M,3.3000,-0.2000" in text  # generic has 3 and 4; 0.1 on a, 0.3 on b
    text = (folder / "gpu" / "wheels" / "tables" / "difference.csv").read_text()
    assert "soup n=8,16M,2.9000,-0.6000" in text
    assert main([str(folder), "--check"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [
        f"{folder}{name}: tables and figures are up to date" for name in ("", "/cpu", "/gpu/wheels")
    ]
    (folder / "gpu" / "wheels" / "tables" / "main.csv").unlink()
    assert main([str(folder), "--check"]) == 1
    assert "missing: " in capsys.readouterr().out


def test_a_figure_of_all_folders_has_a_setting_from_the_folder_with_most_of_it(tmp_path):
    """The folder `few` has one seed of another number of experts at the scale of the first."""
    folder = several(tmp_path / "results")
    write_records(folder / "few", [*generic(0), *soup(64, 0, 0.5)])
    views = write._views_below(folder)
    assert [(view.setting["scale"], view.order) for view in views] == [
        ("small", ["generic", "soup n=4"]),
        ("gpu", ["generic", "soup n=8"]),
    ]


def test_one_folder_of_them_alone(tmp_path):
    folder = several(tmp_path / "results")
    assert main([str(folder / "cpu")]) == 0
    assert (folder / "cpu" / "tables").exists() and not (folder / "gpu" / "wheels" / "tables").exists()


def test_a_bad_line_in_one_of_them_is_named(tmp_path, capsys):
    folder = several(tmp_path / "results")
    path = folder / "gpu" / "wheels" / "evaluations.csv"
    path.write_text(path.read_text() + "x\n")
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}:14: 1 fields, not 21") and error.count("\n") == 1


def test_methods_are_compared_in_the_folder_that_has_both(tmp_path, capsys):
    folder = several(tmp_path / "results")
    assert compare.main(["soup n=8", "generic", f"results={folder}"]) == 0
    assert "a  -0.5700" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["collected", "drawn"])
def test_a_figure_that_fails_is_one_warning_and_stops_nothing_else(tmp_path, monkeypatch, capsys, where):
    folder = several(tmp_path / "results")
    original = write.experts_chart

    def broken(views):
        if where == "collected":
            raise ZeroDivisionError("no luck")
        chart = original(views)
        return replace(chart, draw=lambda: 1 / 0)

    monkeypatch.setattr(write, "experts_chart", broken)
    assert main([str(folder / "cpu")]) == 0
    *_, warning, last = capsys.readouterr().out.splitlines()
    assert warning.startswith("warning: figure experts failed, the others go on: ZeroDivisionError: ")
    assert last.endswith("wrote 4 tables and 1 figures; a browser shows them in report.html")
    assert not (folder / "cpu" / "figures" / "experts.png").exists()
    assert (folder / "cpu" / "figures" / "specialists.png").exists()
    assert main([str(folder / "cpu"), "--check"]) == 1
