"""Records come back as they were; malformed files are one line that names file and line, exit code 2."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_records import record, run, sums, write_csv, write_records

from soe_bench.errors import UserError
from soe_bench.records import EVALUATION, KEY, RUN, read_lines, read_records, table_text
from soe_bench.records import write_records as write
from soe_bench.report.__main__ import main
from soe_bench.report.load import load_results, record_table

README = Path(__file__).parents[2] / "results" / "README.md"


def test_no_file_and_no_records(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no runs.csv in it or below" in capsys.readouterr().err
    write_records(tmp_path, [])
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "no records" in error and error.count("\n") == 1


def lines(folder: Path, records: list[dict]) -> Path:
    """The records as a run folder has them."""
    path = folder / "records-1.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in records))
    return path


@pytest.mark.parametrize("line", ["{", "[1]", '{"schema": 1, "loss": NaN', "", '{"schema": 1}'])
def test_a_bad_line_of_a_run_folder_is_named(tmp_path, line):
    path = tmp_path / "records-1.jsonl"
    path.write_text(json.dumps(record()) + "\n" + line + "\n" + json.dumps(record(specialist="b")) + "\n")
    with pytest.raises(UserError, match=r"records-1\.jsonl:2: "):
        read_lines(path)


BAD_FIELDS = [
    (dict(schema=2), "unknown schema 2"),
    (dict(loss=float("nan")), "'loss' is nan"),
    (dict(loss="3.1x"), "'loss' is '3.1x'"),
    (dict(loss=True), "'loss' is True"),
    (dict(n_experts=-1), "'n_experts' is -1"),
    (dict(n_experts=4.0), "'n_experts' is 4.0"),
    (dict(specialist_tokens=[1]), r"'specialist_tokens' is \[1\]"),
    (dict(trained_for=[16]), r"'trained_for' is \[16\]"),
    (dict(h_source="guess"), "unknown h_source 'guess'"),
    (dict(split="tesu"), "unknown split 'tesu': one of validation, test"),
    (dict(estimator="oearest_centroid"), "unknown estimator 'oearest_centroid'"),
    (dict(specialist=""), "'specialist' is ''"),
    (dict(n_documents=[1]), r"'n_documents' is \[1\]"),
    (dict(dirty="maybe"), "'dirty' is 'maybe', not true or false or null"),
    (dict(seconds=None), "'seconds' is None"),
    # 3e6 nats over 1e6 tokens, 3e6 / ln 2 / 2,885,390 = 1.5
    (dict(loss=3.0001), "'loss' is 3.0001, which contradicts nats_sum / tokens"),
    (dict(tokens=1_000_001), "'loss' is 3.0, which contradicts nats_sum / tokens"),
    (dict(fine_tuning_rate=1e-3), "'fine_tuning_rate' is 0.001, which contradicts the budget"),
    (dict(budget_tokens=9, fine_tuning_rate=None), "'fine_tuning_rate' is None, which contradicts the budget"),
    (dict(bits_per_byte=1.51), "'bits_per_byte' is 1.51, which contradicts"),
    (dict(loss_se_documents=None), "'loss_se_documents' is None, which contradicts the number of documents"),
    (dict(loss_se_documents=-0.1), "'loss_se_documents' is -0.1, which contradicts"),
    (dict(documents=1), "'loss_se_documents' is 0.01, which contradicts"),
    (dict(documents=0), "'documents' is 0, but there is a loss"),
    (dict(bytes=0), "'bytes' is 0, but there is a loss"),
    (dict(tokens=2**63), "'tokens' is 9223372036854775808, not a whole number"),
    (dict(flops=10**400), "'flops' is 1000*, not a finite number"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS)
def test_a_bad_field_of_a_run_folder_is_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=r"records-1\.jsonl:2: .*" + message):
        read_lines(lines(tmp_path, [record(), record(**{"specialist": "b", **changes})]))


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS)
def test_a_bad_field_of_a_results_folder_is_named(tmp_path, changes, message):
    good, bad = record(run_id="a", specialist="z"), record(**{"run_id": "b", "specialist": "b", **changes})
    for name, columns in (("runs.csv", RUN), ("evaluations.csv", EVALUATION)):
        (tmp_path / name).write_text(table_text(columns, [good, bad]))
    name = "runs" if set(changes) & {column.name for column in RUN} else "evaluations"
    with pytest.raises(UserError, match=rf"{name}\.csv:3: .*" + message):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("evaluations", lambda text: text[:-40], r":3: "),
        ("evaluations", lambda text: text[:-1], r":3: the line is cut off"),
        ("evaluations", lambda text: text + "\n", r":4: 0 fields, not 21"),
        (
            "evaluations",
            lambda text: text.replace("generic-0,b", "soup-0,b"),
            r":3: run 'soup-0' has no row in runs.csv",
        ),
        ("evaluations", lambda text: text.replace("specialist,", ""), r":2: 21 fields, not 20"),
        ("evaluations", lambda text: text.replace("specialist,", "expert,", 1), r":1: column 'specialist' is missing"),
        ("evaluations", lambda text: text.replace("generic-0,a", '"generic-0,a', 1), r":2: not CSV"),
        ("evaluations", lambda text: "", r":1: column 'run_id' is missing"),
        ("runs", lambda text: text + text.splitlines()[1] + "\n", r":3: same key as line 2 \(run_id=generic-0\)"),
        ("runs", lambda text: text.replace("\n", ",more\n"), r":1: column 'more' is unknown"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, name, change, message):
    path = write_records(tmp_path, [record(), record(specialist="b")]) / f"{name}.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=rf"{name}\.csv{message}"):
        read_records(tmp_path)


def test_a_duplicate_key_names_both_lines(tmp_path):
    write_records(tmp_path, [record(), record(specialist="b"), record(loss=2.0)])
    with pytest.raises(UserError, match=r"evaluations\.csv:4: same key as line 2 \(run_id=generic-0, specialist=a"):
        read_records(tmp_path)


NAMES = ["NA", "null", "007", "1e5", "nan", "true", " a ", 'two\nlines, "quoted"', "a\rb", "\u2028", "日本語", "-0"]


def test_names_are_data_and_come_back_as_they_were(tmp_path):
    rows = [record(specialist=name, sweep=name) for name in NAMES]
    rows += [record(run_id=name, method=name, device=name, commit=name, parent=name) for name in NAMES]
    write_records(tmp_path, rows)
    assert read_records(tmp_path) == rows
    assert read_lines(lines(tmp_path, rows)) == rows
    assert sorted(record_table(tmp_path).specialist) == sorted([*NAMES, *["a"] * len(NAMES)])


@given(
    nats=st.floats(1e-9, 1e8),
    seconds=st.floats(allow_nan=False, allow_infinity=False),
    flops=st.one_of(st.integers(0, 10**30), st.floats(0, 1e300)),
)
def test_numbers_come_back_to_the_last_bit(tmp_path_factory, nats, seconds, flops):
    row = record(loss=nats / 1e6, nats_sum=nats, seconds=seconds, flops=flops, specialist_flops=flops)
    row |= {name: value for name, value in sums(row).items() if name != "nats_sum"}
    folder = tmp_path_factory.mktemp("numbers")
    write(folder, [row])
    (back,) = read_records(folder)
    assert back == row and {name: type(value) for name, value in back.items()} == {
        name: type(value) for name, value in row.items()
    }
    assert back["dirty"] is False and back["trained_for"] is None


def test_the_fields_as_they_are_stored(tmp_path):
    write(tmp_path, [record(loss=0.1 + 0.2, flops=10**16, commit=None, specialist_flops=None) | {"n_documents": 7}])
    run, evaluation = (
        dict(zip(*(line.split(",") for line in (tmp_path / f"{name}.csv").read_text().splitlines()), strict=True))
        for name in ("runs", "evaluations")
    )
    assert (run["flops"], run["commit"], run["dirty"], run["method"]) == ("10000000000000000", "", "false", "generic")
    assert (evaluation["loss"], evaluation["n_documents"]) == ("0.30000000000000004", "7")
    assert (evaluation["specialist_flops"], evaluation["document_draw"]) == ("", "")
    assert not run.keys() & evaluation.keys() - {"run_id"}


def test_the_order_does_not_matter(tmp_path):
    rows = [record(specialist="b"), record(), record(n_documents=32, estimator="soft")]
    write_records(tmp_path / "one", rows)
    write_records(tmp_path / "two", rows[::-1])
    assert read_records(tmp_path / "one") == rows
    one, two = (record_table(tmp_path / name).drop(columns="line") for name in ("one", "two"))
    assert one.equals(two)
    write(tmp_path, rows[::-1])
    assert read_records(tmp_path) == [rows[1], rows[2], rows[0]]  # by key: null before a number


def markdown(columns):
    """The fields as a Markdown table."""
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    lines = ["| field | type, unit | meaning |", "|---|---|---|"]
    for each in columns:
        kind = words[each.kind] + " or null" * each.nullable + f", {each.unit}" * bool(each.unit)
        lines.append(f"| `{each.name}` | {kind} | {each.meaning} |")
    return "\n".join(lines) + "\n"


def test_the_readme_lists_every_field():
    text = README.read_text()
    for name, columns in (("runs.csv", RUN), ("evaluations.csv", EVALUATION)):
        section = re.search(rf"^### {name}\n(.*?)^##", text, re.MULTILINE | re.DOTALL)[1]
        assert "\n".join(line for line in section.splitlines() if line.startswith("|")) + "\n" == markdown(columns)


def test_the_table_of_fields():
    assert markdown(RUN).splitlines()[:3] == [
        "| field | type, unit | meaning |",
        "|---|---|---|",
        "| `schema` | whole number | version of this format: 4 |",
    ]
    assert "| `loss_se_documents` | number or null, nats/token | standard error of `loss`" in markdown(EVALUATION)
    assert all(column.meaning for column in (*RUN, *EVALUATION))
    assert KEY == (
        "run_id",
        "specialist",
        "split",
        "h_source",
        "estimator",
        "n_documents",
        "document_draw",
        "budget_tokens",
    )


CURVE = dict(run_id="r", method="generic", n_experts=0, seed=0, tokens=10, train_loss=3.0, validation_loss="")


def test_csv_errors_name_file_and_line(tmp_path):
    write_records(tmp_path, [record()])
    path = tmp_path / "curves.csv"
    write_csv(path, [CURVE, {**CURVE, "tokens": "many"}])
    with pytest.raises(UserError, match=r"curves\.csv:3: column 'tokens' is 'many'"):
        load_results(tmp_path)
    write_csv(path, [{**CURVE, "tokens": ""}])
    with pytest.raises(UserError, match=r"curves\.csv:2: column 'tokens' is ''"):
        load_results(tmp_path)
    path.write_text("run_id,method\n")
    with pytest.raises(UserError, match=r"curves\.csv:1: column 'n_experts' is missing"):
        load_results(tmp_path)
    write_csv(path, [CURVE])
    assert load_results(tmp_path).curves.copying_gain.isna().all()  # a column that earlier versions did not write
    write_csv(path, [{**CURVE, "copying_gain": "0.5x"}])
    with pytest.raises(UserError, match=r"curves\.csv:2: column 'copying_gain' is '0\.5x'"):
        load_results(tmp_path)
    write_csv(path, [CURVE])
    path.write_text(path.read_text() + "r,generic\n")
    with pytest.raises(UserError, match=r"curves\.csv:3: 2 fields, not 7"):
        load_results(tmp_path)


def test_two_runs_of_one_recipe_and_seed_are_refused(tmp_path, capsys):
    rows = run("soup", 4, 0, {"a": 3.0}, "estimate") + run("soup", 4, 0, {"a": 2.9}, "estimate", run_id="other")
    assert main([str(write_records(tmp_path, rows))]) == 2
    assert "evaluations.csv:2 and :3: two values for 'soup n=4', a, seed 0" in capsys.readouterr().err
