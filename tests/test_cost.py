"""What N specialists cost by each method, against values worked out by hand, and the command around it."""

import csv
import subprocess
import sys

import pytest
from made_up_records import CRISP, FINGERPRINT, TEXT, run, write_csv, write_records

from soe_bench import cost

SOUP = dict(flops=50.0, training_tokens=1000, specialist_flops=2.0, specialist_seconds=0.25)
GENERIC = dict(flops=20.0, training_tokens=1000)
TUNED = dict(budget_tokens=100_000, specialist_tokens=400, specialist_flops=8.0, specialist_seconds=1500.0)
MERGE = dict(flops=30.0, training_tokens=1000, specialist_flops=4.0, specialist_seconds=10.0)


def losses(a: float, b: float, far: float = 9.0) -> dict[str, float]:
    return {"a": a, "b": b, "far": far}


@pytest.fixture
def folder(tmp_path):
    """Five methods in `results/all`, generic pretraining fine-tuned too. A soup and generic alone, of more records, in
    `results/few`."""
    rows, few = [], []
    for seed in range(2):
        soup = run("soup", 4, seed, losses(3.0, 4.0, 8.0), "estimate", **SOUP)
        rows += soup + run("generic", 0, seed, losses(3.1, 3.9), "none", **GENERIC)
        rows += run("generic", 0, seed, {"a": 2.9}, "none", **GENERIC, **TUNED)
        rows += run("crisp", 0, seed, losses(2.8, 3.8), "estimate", **CRISP)
        for name, validation, test in (("merge_linear", 3.5, 3.6), ("merge_ties", 3.4, 3.7)):
            rows += run(name, 0, seed, losses(validation, validation), "estimate", split="validation", **MERGE)
            rows += run(name, 0, seed, losses(test, test), "estimate", **MERGE)
        few += soup + run("generic", 0, seed, {f"s{i}": 3.0 for i in range(30)}, "none", **GENERIC)
    write_records(tmp_path / "results" / "all", rows)
    write_records(tmp_path / "results" / "few", few)
    place = dict(data_fingerprint=FINGERPRINT, data="wheels", passages=1, tokens=1) | TEXT
    place |= dict(nearest_domains="0:1.00", effective_domains=1, kl_from_h_0=1, fraction_beyond_q95=0)
    places = [place | dict(split=split) for split in ("estimate", "validation", "test")]
    beyond = [{"specialist": name, "fraction_beyond_q99": share} for name, share in (("a", 0), ("b", 0), ("far", 0.5))]
    write_csv(tmp_path / "results" / "all" / "specialists.csv", [place | each for each in beyond for place in places])
    return tmp_path / "results"


def table(path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def cells(row: dict[str, str]) -> str:
    """The cells of a row but the first, with - for an empty one."""
    return " ".join(cell.replace(" ", "_") or "-" for cell in list(row.values())[1:])


def test_every_method_by_hand(folder, tmp_path, capsys):
    """At N = 10. The soup takes 50 + 2 N FLOPs and 60 s + N / 4 s; fine-tuning 20 + 8 N and 60 + 1500 N; CRISP 41 N and
    20.5 N; a merge 30 + 4 N and 60 + 10 N. `far` lies outside the corpus and is in no mean."""
    out = tmp_path / "out"
    assert cost.main(["specialists=10", "gpu_hour=2", f"results={folder}", f"out={out}"]) == 0
    rows = table(out / "cost.csv")
    assert {name: cells(row) for name, row in rows.items()} == {
        # tokens, FLOPs, hours, money, loss, minus generic, on so many specialists, break-even
        "generic": "1e+03 20 0.0167 0.0333 3.5000 - - never",
        "crisp": "2.01e+04 410 0.0569 0.114 3.3000 -0.2000 2_of_2 2",
        "merge_linear": "1e+03 70 0.0444 0.0889 3.6000 0.1000 2_of_2 11",
        "merge_ties": "1e+03 70 0.0444 0.0889 3.7000 0.2000 2_of_2 11",
        "soup n=4": "1e+03 70 0.0174 0.0347 3.5000 0.0000 2_of_2 -",
        "generic, fine-tuned on 100k": "5e+03 100 4.18 8.37 missing -0.2000 1_of_2 6",
    }
    said = capsys.readouterr().out
    assert f"from the records in {folder / 'all'}, " in said and "Hours are measured (cpu with 1 threads)" in said
    assert "leaves out these specialists, whose text lies outside it: far" in said
    assert (out / "cost.md").read_text(encoding="utf-8") in said
    assert sorted(path.name for path in out.iterdir()) == ["cost.csv", "cost.md"]


def test_hours_and_money_at_a_rate_are_those_of_the_flops(folder, tmp_path, capsys):
    """100 FLOPs at 0.01 a second take 10,000 s; without a price there is no money."""
    words = ["specialists=10", "flops_per_second=0.01", f"results={folder}", f"out={tmp_path / 'out'}"]
    assert cost.main(words) == 0
    row = table(tmp_path / "out" / "cost.csv")["generic, fine-tuned on 100k"]
    assert (row["FLOPs"], row["hours"]) == ("100", "2.78") and "money" not in row
    assert "Hours are the FLOPs at 0.01 FLOPs per second." in capsys.readouterr().out
    assert cost.main([*words, "gpu_hour=2"]) == 0
    assert table(tmp_path / "out" / "cost.csv")["generic, fine-tuned on 100k"]["money"] == "5.56"


def test_what_was_not_measured_has_no_row(tmp_path):
    rows = run("soup", 4, 0, losses(3.0, 4.0), "estimate", **SOUP)
    rows += run("generic", 0, 0, losses(3.1, 3.9), "none", **GENERIC, specialist_flops=None)
    write_records(tmp_path / "one", rows)
    assert cost.main(["specialists=3", f"results={tmp_path / 'one'}", f"out={tmp_path / 'out'}"]) == 0
    assert list(table(tmp_path / "out" / "cost.csv")) == ["soup n=4"]


def test_without_out_nothing_is_written(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert cost.main(["specialists=3", f"results={folder / 'few'}"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "| soup n=4 |" in capsys.readouterr().out


def test_records_without_a_soup_or_its_cost_are_refused(tmp_path, capsys):
    write_records(tmp_path / "results", run("generic", 0, 0, {"a": 3.0}, "none"))
    assert cost.main(["specialists=3", f"results={tmp_path / 'results'}"]) == 2
    assert "no record of a soup" in capsys.readouterr().err
    write_records(tmp_path / "results", run("soup", 4, 0, {"a": 3.0}, "estimate", specialist_flops=None))
    assert cost.main(["specialists=3", f"results={tmp_path / 'results'}"]) == 2
    assert "no record of a soup with its cost" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say how many specialists: python -m soe_bench.cost specialists=50"),
        (["specialists=0"], "specialists is '0': it must be a whole number from 1"),
        (["specialists=2.5"], "it must be a whole number from 1"),
        (["specialists=1e300"], "it must be a whole number from 1"),
        (["specialists=many"], "specialists is 'many': it must be a whole number from 1"),
        (["specialists=5", "specialists=6"], "specialists is given twice: give it once"),
        (["specialists="], "'specialists=' is not of the form key=value"),
        (["specialists=5", "gpu_hours=2"], "there is no key 'gpu_hours': did you mean gpu_hour?"),
        (["specialists=5", "gpu_hour=-1"], "gpu_hour is '-1': it must be a number above 0"),
        (["specialists=5", "flops_per_second=nan"], "flops_per_second is 'nan': it must be a number above 0"),
        (["specialists=5", "results=nowhere"], "nowhere is no folder: give one with records, as results=FOLDER"),
        (["specialists=5", "out=/proc/nowhere"], "out is /proc/nowhere, which cannot be written"),
    ],
)
def test_bad_input_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    assert cost.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1


def test_bad_input_needs_no_heavy_import(tmp_path):
    code = "import sys; from soe_bench.cost import main; main(['specialists=5'])"
    code += "; print({'pandas', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n" and "results is no folder" in done.stderr
