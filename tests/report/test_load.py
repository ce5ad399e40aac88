"""Malformed files: one line that names file and line, exit code 2."""

import json

import pytest
from made_up_records import record, run, write_csv, write_records

from soe_bench.errors import UserError
from soe_bench.records import read_records
from soe_bench.report.__main__ import main
from soe_bench.report.load import load_results, record_table


def test_no_file_and_no_records(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "records.jsonl: no such file" in capsys.readouterr().err
    (tmp_path / "records.jsonl").write_text("")
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "no records" in error and error.count("\n") == 1


@pytest.mark.parametrize("line", ["{", "[1]", '{"schema": 1, "loss": NaN', "", '{"schema": 1}'])
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record()) + "\n" + line + "\n" + json.dumps(record(specialist="b")) + "\n")
    with pytest.raises(UserError, match=r"records\.jsonl:2: "):
        read_records(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(schema=2), "unknown schema 2"),
        (dict(loss=float("nan")), "'loss' is nan"),
        (dict(loss="3.1"), "'loss' is '3.1'"),
        (dict(loss=True), "'loss' is True"),
        (dict(n_experts=-1), "'n_experts' is -1"),
        (dict(specialist_tokens=[1]), r"'specialist_tokens' is \[1\]"),
        (dict(trained_for=[16]), r"'trained_for' is \[16\]"),
        (dict(h_source="guess"), "unknown h_source 'guess'"),
        (dict(specialist=""), "'specialist' is ''"),
        (dict(n_documents=[1]), r"'n_documents' is \[1\]"),
    ],
)
def test_a_bad_field_is_named(tmp_path, changes, message):
    write_records(
        tmp_path, [record(), record(specialist="b", **changes) if "specialist" not in changes else record(**changes)]
    )
    with pytest.raises(UserError, match=r"records\.jsonl:2: .*" + message):
        read_records(tmp_path / "records.jsonl")


def test_a_line_cut_off_by_a_full_disk_is_named(tmp_path):
    path = write_records(tmp_path, [record(), record(specialist="b")]) / "records.jsonl"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(UserError, match=r"records\.jsonl:2: not a JSON object"):
        read_records(path)


def test_a_duplicate_key_names_both_lines(tmp_path):
    write_records(tmp_path, [record(), record(specialist="b"), record(loss=2.0)])
    with pytest.raises(UserError, match=r"records\.jsonl:3: same key as line 1 \(run_id=generic-0, specialist=a"):
        read_records(tmp_path / "records.jsonl")


def test_every_field_is_kept_and_the_order_does_not_matter(tmp_path):
    rows = [record(specialist="b", extra=5), record(), record(n_documents=32, estimator="x")]
    write_records(tmp_path / "one", rows)
    write_records(tmp_path / "two", rows[::-1])
    assert read_records(tmp_path / "one" / "records.jsonl") == rows
    one, two = (record_table(tmp_path / name / "records.jsonl").drop(columns="line") for name in ("one", "two"))
    assert one.equals(two)


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
    path.write_text(path.read_text() + "r,generic\n")
    with pytest.raises(UserError, match=r"curves\.csv:3: 2 fields, not 7"):
        load_results(tmp_path)


def test_two_runs_of_one_recipe_and_seed_are_refused(tmp_path, capsys):
    rows = run("soup", 4, 0, {"a": 3.0}, "estimate") + run("soup", 4, 0, {"a": 2.9}, "estimate", run_id="other")
    assert main([str(write_records(tmp_path, rows))]) == 2
    assert "records.jsonl:1 and :2: two values for 'soup n=4', a, seed 0" in capsys.readouterr().err
