"""Made-up results folders of realistic size, for the tests of the report; and that the whole report runs on one."""

import subprocess
import sys
from pathlib import Path

import pytest
from made_up_records import FINGERPRINT, write_realistic


def tree(folder: Path) -> dict[str, bytes]:
    """Every written file of the report: relative path -> bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in ("tables", "figures")
        for path in sorted((folder / kind).glob("*"))
    }


REPORT = """
import sys
from soe_bench.report.__main__ import main
code = main(sys.argv[1:])
print("imported:", *({"torch", "hydra", "wandb", "datasets"} & set(sys.modules)))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> tuple[Path, str]:
    """A realistic folder with its report written in a process of its own, and what that printed."""
    folder = write_realistic(tmp_path_factory.mktemp("realistic") / "results")
    command = [sys.executable, "-c", REPORT, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def realistic(said) -> Path:
    """The folder of `said`."""
    return said[0]


@pytest.mark.slow
def test_every_table_and_figure_is_written(realistic):
    tables = {
        "main",
        "controls",
        "difference",
        "budgets",
        "documents",
        "costs",
        "claims",
        "domains",
        "specialists",
        "closeness",
        "deviations",
    }
    figures = {
        "experts",
        "gain",
        "alpha_n16",
        "alpha_n64",
        "curves",
        "domains",
        "specialists",
        "budgets",
        "documents",
        "sizes",
        "support",
        "closeness",
    }
    for size in ("d32", "d128"):
        suffix = f"_small-{size}-wheels-{FINGERPRINT[:8]}"
        tables |= {name + suffix for name in ("main", "difference", "costs")}
        figures |= {name + suffix for name in ("specialists", "gain", "portfolio")}
    expected = {f"tables/{name}.{kind}" for name in tables for kind in ("csv", "md")}
    expected |= {"tables/claims.json", "figures/README.md"}
    expected |= {f"figures/{name}.{kind}" for name in figures for kind in ("csv", "png", "svg")}
    assert set(tree(realistic)) == expected


@pytest.mark.slow
def test_check_sees_a_changed_table_a_missing_image_and_a_stray_file(realistic, capsys):
    from soe_bench.report.__main__ import main

    assert main([str(realistic), "--check"]) == 0
    path, image, stray = (
        realistic / "tables" / "main.csv",
        realistic / "figures" / "curves.png",
        realistic / "tables" / "old.csv",
    )
    kept, kept_image = path.read_bytes(), image.read_bytes()
    path.write_bytes(kept.replace(b"3.", b"2.", 1))
    image.unlink()
    stray.write_text("x\n")
    assert main([str(realistic), "--check"]) == 1
    lines = capsys.readouterr().out
    assert "differs: " in lines and "missing: " in lines and "remove it: " in lines
    assert main([str(realistic)]) == 0 and f"remove it: {stray}" in capsys.readouterr().out
    path.write_bytes(kept)
    image.write_bytes(kept_image)
    stray.unlink()


@pytest.mark.slow
def test_two_runs_give_the_same_bytes_whatever_the_order_of_the_lines(realistic, tmp_path):
    from soe_bench.report.__main__ import main

    other = tmp_path / "results"
    other.mkdir()
    for path in realistic.glob("[!.]*.*"):
        head, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (other / path.name).write_text("".join([head, *reversed(rest)]), encoding="utf-8")
    assert main([str(other)]) == 0
    assert tree(other) == tree(realistic)


@pytest.mark.slow
def test_the_report_imports_no_torch_no_hydra_and_no_wandb(said):
    assert said[1].splitlines() == [
        "no data yet for: figure granularity",
        f"{said[0]}: wrote 17 tables and 18 figures; a browser shows them in report.html",
        "imported:",
    ]
