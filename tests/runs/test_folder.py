"""Damaged files of a run folder: one line that names the file and what to do, before any work."""

import json
import random
import shutil
from pathlib import Path

import pytest

from soe_bench.config import job_configs
from soe_bench.data.builder import open_corpus
from soe_bench.errors import UserError
from soe_bench.records import SCHEMA
from soe_bench.runs import folder
from soe_bench.runs.collect import check_trained, collect
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run
from soe_bench.runs.sweep import Plan

SETTINGS = ("method.n_experts=2", "method.parent=null", "train.tokens=4096", "evaluate.controls=[]")


@pytest.fixture
def run(compose, shared_home):
    """A run that is done; it is trained once in a session."""
    run, kept = Run.of(compose(*SETTINGS)), shared_home / "damage"
    if not kept.exists():
        execute(run.cfg)
        shutil.copytree(run.folder, kept)
    shutil.copytree(kept, run.folder, dirs_exist_ok=True)
    return run


def refused(run, path):
    """The one line about a damaged file, by whatever reads it."""
    with pytest.raises(UserError) as error:
        check_trained(run)
    line = str(error.value)
    assert str(path) in line and "delete " in line and "\n" not in line, line
    return line


def test_an_undamaged_run_is_collected(run, tmp_path):
    check_trained(run)
    corpus = open_corpus(run.cfg.data, Path(run.cfg.home), 0)
    assert collect([run.records], [corpus], tmp_path / "results") > 0


@pytest.mark.parametrize("name", ["training.json", "metrics.jsonl", "alpha.csv", "records"])
def test_a_truncated_or_scrambled_file_is_named(run, name, tmp_path):
    path = run.records if name == "records" else run.folder / name
    content, rng = path.read_bytes(), random.Random(0)
    places = range(0, len(content) - 1, max(1, len(content) // 40))
    ends = [i + 1 for i, byte in enumerate(content[:-1]) if byte == ord("\n")]
    if name == "records":  # only the configuration tells how many there should be
        ends = []
    damages = [content[:place] for place in (*places, len(content) - 1, *ends)]
    damages += [bytes(byte ^ (1 << rng.randrange(8)) for byte in content), rng.randbytes(len(content))]
    damages += [b"\0" * len(content), b"null\n", b"[1]\n", b"{}\n", b'"\n', b"[" * 100_000, content + b"1\n"]
    for damaged in damages:
        if damaged == b"specialist,expert,alpha\n":  # as it is for a method without coefficients
            continue
        path.write_bytes(damaged)
        refused(run, path)
    path.unlink()
    if name != "records":  # a run without it is evaluated again
        refused(run, path)
    with pytest.raises(UserError, match=str(path)):
        collect([run.records], [], tmp_path / "results")
    assert not (tmp_path / "results" / "evaluations.csv").exists()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("training.json", '"n_experts": 2', '"n_experts": 3'),
        ("training.json", '"seconds": ', '"seconds": 1'),
        ("metrics.jsonl", '"tokens": 2048', '"tokens": NaN'),
        ("metrics.jsonl", '"train_loss": ', '"train_loss": "'),
        ("metrics.jsonl", '"train_loss": ', '"train_loss": 1'),
        ("metrics.jsonl", '"copying_gain": null', '"copying_gain": NaN'),
        ("alpha.csv", ",0,0.", ",0,0.1"),
        ("files.json", '"alpha.csv": "', '"alpha.csv": "0'),
        ("files.json", "{", ""),
        ("alpha.csv", ",1,", ",0,"),
        ("alpha.csv", ",0,", ",0,nan"),
        ("records", '"scale": "test"', '"scale": "tost"'),
        ("records", '"loss": ', '"loss": 1'),
    ],
)
def test_a_changed_value_is_found_where_another_file_or_field_tells(run, name, old, new):
    path = run.records if name == "records" else run.folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match="delete "):
        check_trained(run)


def test_the_curve_has_a_copying_gain_where_it_was_measured(run):
    curve = folder.read_curve(run.folder)
    measured = curve.validation_loss.notna()
    assert 0 < measured.sum() < len(curve) and (curve.copying_gain.notna() == measured).all()
    path = run.folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "copying_gain"}) + "\n" for row in rows))
    folder.seal(run.folder)
    assert folder.read_curve(run.folder).copying_gain.isna().all()  # a run of an earlier version


def test_a_run_of_another_schema_is_refused_before_any_work(run, arguments):
    path = run.folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"schema": SCHEMA - 1}), encoding="utf-8")
    assert f"unknown schema {SCHEMA - 1}" in refused(run, path)
    with pytest.raises(UserError, match="training.json: unknown schema"):
        Plan.of(*job_configs([*arguments, *SETTINGS]))
    with pytest.raises(UserError, match="training.json: unknown schema"):  # as a parent, too
        Plan.of(*job_configs([*arguments, *SETTINGS, "evaluate.splits=[test]"]))
    path.unlink()  # what the line says to do
    execute(run.cfg)
    check_trained(run)


def test_a_damaged_parent_is_refused_before_any_work(compose, arguments):
    settings = ("method.n_experts=2", "train.tokens=4096", "method.parent={method:generic,fraction:0.5}")
    run = Run.of(compose(*settings))
    execute(run.parent.cfg)
    (run.parent.folder / "training.json").write_bytes(b"{")
    with pytest.raises(UserError, match="training.json: not a JSON object"):
        Plan.of(*job_configs([*arguments, *settings]))


@pytest.mark.parametrize("content", [b"", b"fai", b"failed: ", b"\xff\xfe\0", b"runningrunning", b"failed: a\nb"])
def test_a_damaged_status_is_said_to_be(compose, content):
    run = Run.of(compose(*SETTINGS))
    run.folder.mkdir(parents=True)
    (run.folder / "status").write_bytes(content)
    assert run.status() == f"unknown, as {run.folder / 'status'} is damaged; the same command goes on"


def test_two_builds_of_a_corpus_in_one_sweep_are_refused(arguments, tmp_path):
    with pytest.raises(UserError, match="two builds of the corpus synthetic, which cannot share .*results"):
        Plan.of(*job_configs([*arguments, "-m", "method=generic", "data.k=3,4"]))
    own = [f"results_dir={tmp_path}/${{data.k}}"]
    assert len(Plan.of(*job_configs([*arguments, "-m", "method=generic", "data.k=3,4", *own])).runs) == 2
