"""The command line: which jobs it makes, what it refuses, relaunching, the table of all jobs, collecting."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import own_texts
import pandas as pd
import pytest
import torch
from arguments import in_this_process
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from baselines.dense_on_pi import DenseOnPi
from baselines.generic import Generic
from soe_bench import __main__ as cli
from soe_bench import checkpoint
from soe_bench.config import CONF, job_configs, make, quoted
from soe_bench.data.builder import open_corpus
from soe_bench.data.corpus import Corpus
from soe_bench.errors import UserError
from soe_bench.method import Dense
from soe_bench.records import KEY, read_lines, read_records, write_records
from soe_bench.report.tables.claims import CLAIMS, load_claims
from soe_bench.runs import collect as collecting
from soe_bench.runs import evaluation, sweep
from soe_bench.runs import execute as executing
from soe_bench.runs.build import build_method
from soe_bench.runs.collect import _upsert as upsert
from soe_bench.runs.collect import check_results, collect, collect_distances
from soe_bench.runs.execute import execute
from soe_bench.runs.resources import state_bytes
from soe_bench.runs.run import AS_PARENT, Run
from soe_bench.soup import SoupOfExperts
from soe_bench.system import stop
from soe_bench.system.laps import Laps
from soe_bench.system.stop import STOP, Interrupted

SERIAL = ["launcher=single", "hydra/launcher=basic"]


@pytest.fixture
def command_and_report(arguments, monkeypatch, capsys, no_images):
    """command("+sweep=...") -> (exit status, standard output, error line): the command line in this process."""

    def call(*extra):
        status = in_this_process(monkeypatch, [*arguments, *extra])
        out, err = capsys.readouterr()
        return status, out, err.strip().splitlines()[-1] if err.strip() else ""

    call.arguments = arguments
    return call


@pytest.fixture
def command(command_and_report, monkeypatch):
    """The same without the tables and figures at the end, which take as long as a small run."""
    monkeypatch.setattr("soe_bench.report.write.rewrite", lambda folder: [])
    return command_and_report


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in ("baselines", "merging") else [])
        for path in sorted((CONF / "sweep").glob("*.yaml"))
    ],
)
def test_every_sweep_expands_to_distinct_runs(path, arguments, tmp_path):
    own = [a for a in arguments if not a.startswith("scale=")]
    # One seed says enough, in a third of the time, but where all else is one run.
    own.append("seed=0,1" if path.stem == "compute" else "seed=0")
    if path.stem == "pilot":  # which needs a folder of text
        (tmp_path / "a.txt").write_text("Some text.")
        own.append(f"data.source.folder='{tmp_path}'")
    plan = sweep.Plan.of(*job_configs([*own, f"+sweep={path.stem}"]))
    assert len({run.hash for run in plan.runs}) == len({run.name for run in plan.runs}) == len(plan.runs) > 1
    assert plan.runs[0].cfg.sweep_name == path.stem
    assert f"python -m soe_bench +sweep={path.stem}" in path.read_text()


@pytest.mark.parametrize("path", sorted((CONF / "method").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_method_is_named_as_its_file(path, compose):
    assert make(compose(f"method={path.stem}").method).label == path.stem


@pytest.mark.parametrize("path", sorted((CONF / "scale").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_scale_is_planned_without_allocating_it(path, arguments):
    (cfg,), _ = job_configs([*arguments, f"scale={path.stem}"])
    assert state_bytes(Run.of(cfg)) > 0


def test_references_are_jobs_of_their_own_after_the_others_and_each_once(arguments):
    """All else equal: the references have the narrower h too, and nothing of the soup's own settings."""
    extra = ["method.router.hidden=8", "pi.max_support=2", "seed=0,1"]
    cfgs, _ = job_configs([*arguments, "+sweep=experts", "method.n_experts=4,2", *extra])
    names = [Run.of(cfg).name.rsplit("-", 1)[0] for cfg in cfgs]
    assert names == [
        f"{method}-test-s{seed}" for method in ("soup-n4", "soup-n2", "generic", "dense_on_pi") for seed in (0, 1)
    ]
    assert "router" not in cfgs[-1].method and cfgs[-1].method.pi.max_support == 2


def test_runs_that_differ_in_their_hash_alone_are_told_apart_by_their_settings(arguments):
    extra = ["-m", "method=soup,generic", "method.lr=0.1,0.2", "train.tokens=4096,8192"]
    runs = [Run.of(cfg) for cfg in job_configs([*arguments, *extra])[0]]
    told = sweep.told_apart([*runs, Run.of(job_configs([*arguments, "method=soup", "seed=1"])[0][0])])
    assert list(told.values())[:3] == [
        "  method.lr=0.1  train.tokens=4096",
        "  method.lr=0.1  train.tokens=8192",
        "  method.lr=0.2  train.tokens=4096",
    ]
    assert list(told.values())[-1] == ""  # the only one with that seed


def test_a_sweep_file_that_would_change_its_references_is_refused(arguments, monkeypatch, tmp_path):
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr("soe_bench.config.CONF", tmp_path / "conf")
    text = "# @package _global_\nreferences: [generic]\nmethod: {lr: 0.1}\nhydra: {mode: MULTIRUN}\n"
    (tmp_path / "conf" / "sweep" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match="would change its references: put them into its hydra.sweeper.params"):
        job_configs([*arguments, "+sweep=mine"])
    assert len(job_configs([*arguments, "+sweep=mine", "references=[]"])[0]) == 1


def test_hydra_launches_the_jobs_that_were_planned(command, monkeypatch):
    ran = []
    monkeypatch.setattr(sweep, "execute", lambda cfg: ran.append(Run.of(cfg).name))
    given = ["-m", "method.n_experts=2,1", "references=[generic]", "seed=0,1", *SERIAL]
    command(*given)
    assert ran == [Run.of(cfg).name for cfg in job_configs([*command.arguments, *given])[0]]
    assert len(ran) == 6


def test_identity_covers_what_matters_and_nothing_else(compose, tmp_path):
    base = Run.of(compose())
    watched = ("train.checkpoint_every=7", "train.validations=3", "train.curve_tokens=99")
    for same in ("threads=2", "wandb.mode=offline", f"results_dir={tmp_path / 'other'}", "sweep_name=x", *watched):
        assert Run.of(compose(same)).hash == base.hash
    for other in ("seed=1", "method.n_experts=4", "train.tokens=8192", "model=d64", "data.k=3", "seeds.kmeans=1"):
        assert Run.of(compose(other)).hash != base.hash
    assert Run.of(compose("seed=1")).recipe == base.recipe != Run.of(compose("train.tokens=8192")).recipe


def test_a_new_version_of_a_method_is_another_run_and_so_is_what_starts_from_it(compose, monkeypatch):
    before = [Run.of(compose(f"method={name}")) for name in ("generic", "soup", "domain_experts")]
    monkeypatch.setattr(SoupOfExperts, "version", 2)
    after = [Run.of(compose(f"method={name}")) for name in ("generic", "soup", "domain_experts")]
    assert [a.hash == b.hash for a, b in zip(after, before, strict=True)] == [True, False, True]
    assert after[1].recipe != before[1].recipe and after[1].parent.hash == before[1].parent.hash
    monkeypatch.setattr(Generic, "version", 2)
    assert Run.of(compose("method=soup")).hash not in (after[1].hash, before[1].hash)


def test_methods_that_start_as_the_soup_say_the_same():
    files = [OmegaConf.load(path) for path in (CONF / "method").glob("*.yaml")]
    parents = {each.name: each.parent for each in files if each.get("parent") and each.parent.method == "generic"}
    other = {name: each.fraction for name, each in parents.items() if each.fraction != parents["soup"].fraction}
    halves = dict.fromkeys(
        ("domain_experts", "domain_experts_64", "domain_experts_half_generic"), 0.5
    )  # whose parent is half of the work
    assert len(parents) > 6 and other == halves | {
        "crisp_branched": 0.9,
        "logit_adjustment": 1.0,
        "bigram_adjustment": 1.0,
    }


@pytest.mark.parametrize(
    "extra, message",
    [
        (["+sweep=experts,demo", "-m"], "one sweep at a time"),
        (["+sweep=experts", "+sweep=demo"], "one sweep at a time"),
        (["seed=0,1"], "add -m"),
        (["references=[generic]"], "references are jobs of a sweep, and this is one run: add -m"),
        (["-m", "references=[generic],[crisp]"], "references takes one list for the whole sweep"),
        (["-m", "references=null"], "references is None: it must be a list"),
        (["-m", "references=[nope]"], "no method 'nope'"),
        (["nonsense=3"], "there is no setting nonsense"),
        (
            ["+sweep=baselines", "method=merge_linear,soup", "method.weights=uniform"],
            "run that method alone: method=NAME",
        ),
        (["+train.stepz=3"], "there is no setting train.stepz"),
        (["method=nope"], "there is no method 'nope': choose one of"),
        (
            ["method.n_experts=0"],
            "method.n_experts is 0: it must be a whole number from 1 (without experts: method",
        ),
        (["pi.domains=sizes"], "pi.domains is 'sizes': it must be one of"),
        (["train.draws_per_step=3"], "must be a multiple of train.draws_per_step (3)"),
        (["references=[nope]"], "no method 'nope'"),
        *(
            ([f"train.{name}={value}"], f"train.{name} is {value!r}: it must be a whole number from 1")
            for name, value in (
                ("draws_per_step", 0),
                ("seq_len", 0),
                ("batch_size", -1),
                ("tokens", "many"),
                ("checkpoint_every", 0),
            )
        ),
        (["threads=-1"], "threads is -1"),
        (["seed=a"], "seed is 'a': it must be a whole number"),
        (["train.optimizer.warmup_ratio=x"], "train.optimizer.warmup_ratio is 'x'"),
        (["device=gpu"], "device is 'gpu': it must be cpu or cuda"),
        (["method.parent.method=domain_experts"], "soup starts from one dense model, such as generic"),
        (["method=crisp", "method.parent.method=domain_experts"], "crisp starts from one dense model"),
        (["method=domain_experts", "method.parent.fraction=1.0"], "it leaves no token to train on"),
        (["method=domain_experts", "method.groups=0"], "method.groups is 0"),
        (["method=low_rank_soup", "method.n_experts=0"], "method.n_experts is 0"),
        (["method=hypernetwork", "method.rank=0"], "method.rank is 0"),
        (["train.precision=float16"], "train.precision is 'float16': it must be one of"),
        (["+sweep=experts", "method=generic"], "method.n_experts"),
        (["scale=paper", "method.n_experts=128"], "lower method.n_experts"),
        (["method.n_experts=100000000"], "lower method.n_experts"),
        (["data.k=100000"], "k"),
        (["threads=x)"], "threads=x)"),
        (["data=wheels_demo", "data.source.wheels.nltk=[poems]"], "unknown kind poems"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(command, extra, message):
    status, _, line = command(*extra)
    assert status == 2
    assert line.startswith("error: ") and message in line


def test_a_mistake_in_the_claims_is_said_before_work(command, monkeypatch, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.read_text(encoding="utf-8").replace("effect: against_generic", "effect: x", 1), "utf-8")
    monkeypatch.setattr("soe_bench.command.load_claims", partial(load_claims, path))
    monkeypatch.setattr(sweep, "execute", lambda cfg: pytest.fail("a run began"))
    status, _, line = command("method=generic", "train.tokens=2000")
    assert status == 2 and f"{path}: C1: soup n=" in line and "no effect 'x'" in line


@pytest.mark.slow
def test_relaunch_trains_nothing_and_a_deleted_run_only(command, tmp_path, monkeypatch):
    sweep_of_two = [
        "+sweep=experts",
        "seed=0",
        *SERIAL,
        "method.n_experts=4",
        "method.parent=null",
        "train.tokens=4096",
    ]
    trained = []
    train = executing.train
    monkeypatch.setattr(executing, "train", lambda cfg, name, *rest: (trained.append(name), train(cfg, name, *rest))[1])

    status, out, _ = command(*sweep_of_two)
    assert status == 0 and len(trained) == 4 and out.count("  done\n") == 3

    status, out, _ = command(*sweep_of_two)
    assert status == 0 and len(trained) == 4 and out.count("  done before\n") == 3

    status, out, _ = command(*sweep_of_two, "evaluate.splits=[test]")  # evaluated anew, not trained
    assert status == 0 and len(trained) == 4 and out.count("  done\n") == 3

    soup = next((tmp_path / "home" / "runs").glob("soup-n4-*"))
    for name in ("training.json", "model.safetensors"):  # what a user deletes, as damaged files ask for it
        (soup / name).unlink()
        del trained[4:]
        status, out, _ = command(*sweep_of_two)
        assert status == 0 and trained[4:] == [soup.name] and out.count("  done before\n") == 2
        assert len(list(soup.glob("records-*.jsonl"))) == 1  # none of other parameters

    records = read_records(tmp_path / "results")
    assert {record["method"] for record in records} == {"generic", "dense_on_pi", "soup"}
    assert len({record["run_id"] for record in records}) == 3


@pytest.mark.parametrize(
    ("broken", "why"), [("update", "diverged at step 1 of"), ("specialist", "dense_on_pi: the loss on ")]
)
def test_a_run_with_a_loss_that_is_not_finite_fails_and_the_others_are_recorded(
    command, monkeypatch, tmp_path, broken, why
):
    def poisoned(self, *given):
        model = Dense.specialist(self, *given)
        for value in model.parameters():
            value.data.fill_(torch.nan)
        return model

    worse = {"update": lambda self, *given: float("nan"), "specialist": poisoned}
    monkeypatch.setattr(DenseOnPi, broken, worse[broken])
    status, out, _ = command(
        "+sweep=experts", "seed=0", *SERIAL, "method.n_experts=4", "method.parent=null", "train.tokens=4096"
    )
    assert status == 1 and "failed: " in out and why in out
    assert {record["method"] for record in read_records(tmp_path / "results")} == {"generic", "soup"}


def test_a_failing_job_does_not_stop_the_others_and_the_table_says_why(command, monkeypatch):
    validate = evaluation.validation_loss

    def failing(cfg, method, corpus):
        if method.n_experts == 4:
            raise RuntimeError("out of luck")
        return validate(cfg, method, corpus)

    monkeypatch.setattr(evaluation, "validation_loss", failing)
    status, out, _ = command(
        "+sweep=experts", "seed=0", *SERIAL, "method.n_experts=4", "method.parent=null", "train.tokens=4096"
    )
    assert status == 1
    assert "failed: out of luck" in out and out.count("  done\n") == 2


def test_a_method_that_ends_the_process_does_not_stop_the_others(command, monkeypatch):
    monkeypatch.setattr(DenseOnPi, "update", lambda self, *given: exit("enough"))
    status, out, _ = command(
        "+sweep=experts", "seed=0", *SERIAL, "method.n_experts=4", "method.parent=null", "train.tokens=4096"
    )
    assert status == 1 and "failed: enough" in out and out.count("  done\n") == 2


@pytest.mark.parametrize("broken", ["build", "update"])
def test_a_job_that_fails_while_it_is_measured_does_not_stop_the_others(command, monkeypatch, caplog, broken):
    works = getattr(SoupOfExperts, broken)

    def failing(self, *given):
        if self.n_experts == 3:
            raise TypeError("no three\nexperts")
        return works(self, *given)

    monkeypatch.setattr(SoupOfExperts, broken, failing)
    small = ["method.parent=null", "train.tokens=2048", "evaluate.splits=[validation]"]
    status, out, _ = command("-m", "method.n_experts=3,2", *small, *SERIAL)
    assert status == 1 and out.count("failed: no three") == 1 and out.count("  done\n") == 1
    assert "left out, because it fails: TypeError: no three experts" in caplog.text
    with pytest.raises(TypeError, match="no three"):  # if no other is there, before the corpus and the parent are made
        sweep.Plan.of(*job_configs([*command.arguments, "method.n_experts=3"])).prepare(Laps())


@pytest.mark.parametrize("moment", ["soe_bench.runs.sweep.Plan.of", "soe_bench.report.write.rewrite"])
def test_ctrl_c_before_the_first_run_and_after_the_last_is_one_line(command, monkeypatch, moment):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(moment, stopped)
    status, _, err = command("method=generic", "train.tokens=1024")
    assert status == 130 and err == "stopped; the same command goes on"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_before_the_processes_of_the_jobs_are_there_is_not_lost(command, monkeypatch, number):
    monkeypatch.setattr(stop, "WORKERS", ("none is there yet",))
    monkeypatch.setattr(cli, "job", lambda: os.kill(os.getpid(), number) or pytest.fail("the jobs began"))
    status, out, _ = command("method=generic", "-m", "seed=0,1", "train.tokens=1024", "launcher=cores")
    assert status == 130 and out.count("not run") == 2


def test_dash_m_may_stand_anywhere(command, tmp_path):
    status, out, _ = command("method=generic", "-m", "seed=0,1", "train.tokens=1024")
    assert status == 0 and out.count("  done\n") == 2


def test_the_table_has_the_loss_without_fine_tuning(command, tmp_path):
    own = ["evaluate.budgets=[500]", "evaluate.fine_tuning.lrs=[0.02]", "train.tokens=4096"]
    status, out, _ = command("method=generic", *own)
    records = pd.DataFrame(read_records(tmp_path / "results"))
    rows = records[(records.split == "test") & (records.specialist != "generic")]
    plain, every = rows[rows.budget_tokens == 0].loss.mean(), rows.loss.mean()
    assert status == 0 and f"{plain:.3f} nats" in out and f"{plain:.3f}" != f"{every:.3f}"


def test_crisp_without_specialists_is_one_line(command):
    status, _, err = command("method=crisp", "data.specialists=null", "train.tokens=1024", "method.parent=null")
    assert status != 0 and "Traceback" not in err and "this corpus has none: set data.specialists" in err + _


def test_a_stop_request_ends_the_sweep_with_its_table(command, monkeypatch):
    def interrupted(*_):
        STOP.set()
        raise Interrupted("stopped at step 1 of 10")

    monkeypatch.setattr(executing, "train", interrupted)
    status, out, _ = command("+sweep=experts", "seed=0", *SERIAL, "method.n_experts=4", "method.parent=null")
    assert status == 130
    assert f"{'':12}stopped at step 1 of 10\n" in out
    assert out.count("not run") == 3  # two methods, and the parent of one


def test_results_of_another_corpus_are_not_mixed_in(command, tmp_path):
    small = ["method=generic", "train.tokens=4096"]
    assert command(*small)[0] == 0
    before = (tmp_path / "results" / "evaluations.csv").read_text()
    status, _, line = command(*small, "data.source.seed=1")
    assert status == 2 and "another build of the corpus synthetic" in line and "results_dir" in line
    assert (tmp_path / "results" / "evaluations.csv").read_text() == before


def test_a_results_folder_is_of_one_scale_unless_one_command_compares_several(command, compose, tmp_path):
    small = ["method=generic", "train.tokens=4096"]
    assert command(*small)[0] == 0
    before = (tmp_path / "results" / "evaluations.csv").read_text()
    status, _, line = command(*small, "scale_name=other")
    assert status == 2 and "holds records of scale=test" in line and "scale=other" in line and "results_dir" in line
    assert (tmp_path / "results" / "evaluations.csv").read_text() == before
    check_results(tmp_path / "results", [Run.of(compose(f"scale_name={name}")) for name in ("test", "other")])


def test_results_on_other_domains_of_the_same_corpus_are_not_mixed_in(command, tmp_path):
    """As a processor that rounds otherwise would give them: refused before a step is taken, and when nothing is left
    to train."""
    assert command("method=generic", "train.tokens=4096")[0] == 0
    path = tmp_path / "results" / "domains.csv"
    table = pd.read_csv(path)
    table.loc[[0, 1], "tokens"] += [10, -10]
    table.to_csv(path, index=False)
    before = (tmp_path / "results" / "evaluations.csv").read_text()
    for tokens in (8192, 4096):
        status, out, line = command("method=generic", f"train.tokens={tokens}")
        assert status == 2 and "other domains of the corpus synthetic" in line and "results_dir" in line
        assert tokens == 4096 or not out  # no job was begun, so there is no table of jobs
    assert (tmp_path / "results" / "evaluations.csv").read_text() == before


def test_a_damaged_record_line_is_named_and_nothing_is_lost(command, tmp_path):
    small = ["method=generic", "train.tokens=4096"]
    assert command(*small)[0] == 0
    path = tmp_path / "results" / "evaluations.csv"
    path.write_text(path.read_text() + "b045fe1463131ca9,ansible\n")
    before = path.read_text()
    status, _, line = command(*small)
    assert status == 2 and f"evaluations.csv:{before.count(chr(10))}: 2 fields, not 21" in line
    assert path.read_text() == before


TUNED = {"budget_tokens": 7, "fine_tuning_rate": 1e-3}


def test_a_soup_can_start_from_another_dense_model_than_generic(compose):
    run = Run.of(compose("method=soup", "method.parent.method=dense_on_pi"))
    assert [run.parent.cfg.method.name, run.parent.parent.cfg.method.name] == ["dense_on_pi", "generic"]


def test_collect_upserts_by_key(compose, tmp_path):
    cfg = compose("method.n_experts=4", "method.parent=null", "train.tokens=4096")
    execute(cfg)
    run = Run.of(cfg)
    corpus = open_corpus(cfg.data, Path(cfg.home), 0)
    folder = tmp_path / "results"
    count = collect([run.records], [corpus], folder)
    first = {path.name: path.read_bytes() for path in folder.glob("*.*") if path.name != ".lock"}
    assert set(first) == {
        "runs.csv",
        "evaluations.csv",
        "curves.csv",
        "alpha.csv",
        "domains.csv",
        "specialists.csv",
    }
    assert collect([run.records], [corpus], folder) == count == len(read_records(folder))
    assert {path.name: path.read_bytes() for path in folder.glob("*.*") if path.name != ".lock"} == first
    rows = read_records(folder)
    others, budget = (dict(rows[0], **fields) for fields in ({"run_id": "another run"}, TUNED))
    rows[0]["documents"] += 1
    write_records(folder, [*rows, others, budget])
    collect([run.records], [corpus], folder)  # replaces the record of the same key, keeps what others have
    kept = read_records(folder)
    assert len(kept) == count + 2 and others in kept and rows[0] not in kept
    assert budget in kept  # another evaluation of the same training
    write_records(folder, [dict(row, seconds=row["seconds"] + 1) for row in kept])
    collect([run.records], [corpus], folder)  # no evaluation of another training
    kept = read_records(folder)
    assert len(kept) == count + 1 and dict(others, seconds=others["seconds"] + 1) in kept
    others = dict(others, seconds=others["seconds"] + 1)
    alpha = pd.read_csv(folder / "alpha.csv").groupby("specialist").alpha.sum()
    assert alpha.to_numpy() == pytest.approx(1, abs=1e-4)  # softmax router
    records = [record for record in kept if record != others]
    assert len({tuple(record[field] for field in KEY) for record in records}) == count
    sources = {r["h_source"] for r in records if r["split"] == "test"}
    assert sources == {"estimate", "uniform", "shuffled", "h_0", "tuned", "zero"}


def test_a_parent_is_trained_once_and_its_tokens_count(command_and_report, monkeypatch, tmp_path):
    trained = []
    train = executing.train
    monkeypatch.setattr(executing, "train", lambda cfg, name, *rest: (trained.append(name), train(cfg, name, *rest))[1])
    warm = [
        "+sweep=experts",
        *SERIAL,
        "method.n_experts=4",
        "train.tokens=8192",
        "seed=0",
    ]
    status, out, err = command_and_report(*warm)
    assert status == 0 and "  trained\n" in out
    assert sorted(name.split("-test")[0] for name in trained) == ["dense_on_pi", "generic", "generic", "soup-n4"]
    assert (tmp_path / "results" / "tables" / "main.md").is_file()
    records = pd.DataFrame(read_records(tmp_path / "results"))
    assert set(records.training_tokens) == {8192} and records.run_id.nunique() == 3  # the parent has no records
    assert records[records.method != "generic"].parent.nunique() == 1
    assert records[records.method == "generic"].parent.isna().all()
    soup = next((tmp_path / "home" / "runs").glob("soup-n4-*"))
    parent = next(
        path
        for path in (tmp_path / "home" / "runs").glob("generic-*")
        if json.loads((path / "training.json").read_text())["training_tokens"] == 1024
    )
    taken = [np.array(checkpoint.load(folder / "model.safetensors")[1]["taken"]) for folder in (parent, soup)]
    assert (taken[1] >= taken[0]).all() and taken[1].sum() == 8 * taken[0].sum()  # no text twice before its turn
    assert json.loads((soup / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 7


def test_a_warm_start_begins_with_the_parents_parameters(compose):
    cfg = compose("method.n_experts=4", "train.tokens=8192", "method.parent={method:generic,fraction:0.5}")
    execute(cfg)
    run = Run.of(cfg)
    corpus = open_corpus(cfg.data, Path(cfg.home), 0)
    parent = checkpoint.load(run.parent.folder / "model.safetensors")[0]["models.value"]
    assert torch.equal(build_method(run, corpus).shared.value, parent)
    cold = Run.of(compose("method.n_experts=4", "method.parent=null"))
    assert not torch.equal(build_method(cold, corpus).shared.value, parent)


def test_a_bad_share_and_an_unknown_parent_are_refused(command):
    assert "must be a number above 0, at most 1" in command("method.parent={method:generic,fraction:0}")[2]
    assert "no method 'genric'" in command("method.parent={method:genric,fraction:0.5}")[2]


def test_a_trial_never_opens_the_test_parts(command, monkeypatch, tmp_path):
    documents = Corpus.documents
    monkeypatch.setattr(
        Corpus,
        "documents",
        lambda self, name, split: (
            pytest.fail("opened a test split") if split == "test" else documents(self, name, split)
        ),
    )
    monkeypatch.setattr(collecting, "outside", lambda table, fingerprint: ["halves"])
    trial = ["evaluate.splits=[validation]", "train.tokens=4096"]
    assert command(*trial, "method=soup,generic", "method.lr=1e-3,2e-3", "-m")[0] == 0
    status, out, _ = command(*trial, "method=generic", "method.lr=2e-3")
    assert status == 0 and "1 trial " in out
    table = pd.read_csv(tmp_path / "results" / "tuning.csv")
    assert table.groupby("method").lr.apply(sorted).to_dict() == {"generic": [1e-3, 2e-3], "soup": [1e-3, 2e-3]}
    assert table.run_id.is_unique and not (tmp_path / "results" / "runs.csv").exists()
    home = Path(job_configs(command.arguments)[0][0].home)
    for row in table.itertuples():
        (records,) = [
            path for path in map(read_lines, home.glob("runs/*/records-*.jsonl")) if path[0]["run_id"] == row.run_id
        ]
        losses = {record["specialist"]: record["loss"] for record in records}
        assert row.validation_generic == pytest.approx(losses.pop("generic"), rel=1e-5)
        assert row.validation_mean == pytest.approx(sum(losses.values()) / len(losses), rel=1e-5)
        within = [loss for name, loss in losses.items() if name != "halves"]
        assert row.validation_within == pytest.approx(sum(within) / len(within), rel=1e-5)


def test_a_trial_of_a_method_without_a_model_for_generic_text(command, tmp_path):
    status, out, _ = command("method=crisp", "evaluate.splits=[validation]", "train.tokens=2048")
    (trial,) = pd.read_csv(tmp_path / "results" / "tuning.csv").itertuples()
    assert status == 0 and "1 trial " in out and trial.validation_mean > 0 and pd.isna(trial.validation_generic)


@pytest.mark.parametrize("splits", ["[]", "[train]", "[validation,tests]"])
def test_unknown_parts_are_refused_before_training(command, splits):
    status, _, line = command(f"evaluate.splits={splits}")
    assert status == 2 and "evaluate.splits" in line and "validation" in line


def test_memory_that_cannot_suffice_is_refused_before_anything_is_allocated(arguments):
    plan = sweep.Plan.of(*job_configs([*arguments, "method.n_experts=100000000"]))
    with pytest.raises(UserError, match="GB are free: lower method.n_experts"):
        plan.prepare(Laps())


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
def test_any_path_survives_quoting(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if value[0] in "'\"~":
        return  # quoted by the user, or their own folder
    parsed = OverridesParser.create().parse_overrides([quoted(f"results_dir={value}")])[0]
    assert parsed.value() == value


def test_a_home_with_spaces_parentheses_and_japanese(command_and_report, tmp_path, shared_home):
    home = tmp_path / "my files (1) 日本語"
    home.mkdir()
    (home / "data").symlink_to(shared_home / "data")
    given = ["method=generic", "train.tokens=4096", f"home={home}", f"results_dir={home / 'r (2)'}"]
    assert command_and_report(*given)[0] == 0
    assert (home / "r (2)" / "evaluations.csv").exists() and (home / "r (2)" / "report.html").exists()


def test_resolved_configuration_is_kept(compose):
    cfg = compose("method=generic", "train.tokens=4096")
    execute(cfg)
    kept = json.loads((Run.of(cfg).folder / "config.json").read_text())
    assert kept == OmegaConf.to_container(cfg, resolve=True)
    assert Run.of(cfg).done


def test_a_run_that_another_process_finished_meanwhile_is_not_trained_again(compose, monkeypatch):
    cfg = compose("method=generic", "train.tokens=4096")
    run = Run.of(cfg)
    acquire = executing.FileLock.acquire

    def finished_meanwhile(self, *arguments, **options):
        for path in (run.folder / "training.json", run.folder / "model.safetensors", run.records):
            path.touch()
        return acquire(self, *arguments, **options)

    monkeypatch.setattr(executing.FileLock, "acquire", finished_meanwhile)
    monkeypatch.setattr(executing, "_train_and_evaluate", lambda run: pytest.fail("trained again"))
    execute(cfg)


def test_a_run_that_another_process_trains_as_a_parent_is_evaluated_when_that_is_done(compose, monkeypatch):
    cfg = compose("method=generic", "train.tokens=4096")
    run = Run.of(cfg)
    run.folder.mkdir(parents=True)
    (run.folder / "status").write_text(AS_PARENT)
    other, free = executing.FileLock(run.folder / ".lock"), executing.FileLock.acquire
    other.acquire()

    def trained_meanwhile(self, *arguments, **options):
        try:
            return free(self, *arguments, **options | {"timeout": 0})
        except executing.Timeout:
            other.release()
            raise

    monkeypatch.setattr(executing.FileLock, "acquire", trained_meanwhile)
    execute(cfg)
    assert run.done
    assert AS_PARENT == "running as a parent" and not run.in_hand


def test_jobs_that_differ_in_their_evaluation_alone_are_refused(command):
    status, _, line = command("-m", "method=generic", "evaluate.budgets=[],[500]", *SERIAL)
    assert status == 2 and "differ in `evaluate` alone: give one of them" in line


def test_text_that_changes_while_a_parent_is_trained_is_not_read(command, monkeypatch, tmp_path):
    """The soup has the corpus of its parent, and so have the records."""
    texts = own_texts.small(tmp_path / "texts")
    train = executing.train

    def changing(*given):
        (texts / "news" / "late.txt").write_text(own_texts.prose(999))
        return train(*given)

    monkeypatch.setattr(executing, "train", changing)
    sizes = ["data.k=4", "data.vocab_size=400", "data.minimum_domain_tokens=100", "train.tokens=4096"]
    own = ["data=local", f"data.source.folder={texts}", "method=soup", "method.n_experts=2", *sizes]
    status, out, _ = command(*own, f"home={tmp_path / 'own'}", *SERIAL)
    assert status == 0 and out.count("  done\n") == 1
    assert len([path for path in (tmp_path / "own" / "data").iterdir() if path.is_dir()]) == 1
    trained = {json.loads(path.read_text())["data_fingerprint"] for path in tmp_path.glob("own/runs/*/training.json")}
    assert trained == set(pd.read_csv(tmp_path / "results" / "domains.csv").data_fingerprint) and len(trained) == 1


def test_a_run_whose_identity_looks_like_a_number_is_kept_and_replaced_as_text(tmp_path):
    def pair(run_id, distance):
        return pd.DataFrame([dict(run_id=run_id, one="a", other="b", distance=distance)])

    for distance in (1.0, 2.0):
        collect_distances([pair("6001362893621222", distance)], tmp_path)
        collect_distances([pair("0d2858e9ac9aa7af", distance), pair("0012e45678901234", distance)], tmp_path)
    assert (tmp_path / "distances.csv").read_text().splitlines()[1:] == [
        "0012e45678901234,a,b,2",
        "0d2858e9ac9aa7af,a,b,2",
        "6001362893621222,a,b,2",
    ]


def test_names_in_the_small_csvs_are_data(tmp_path):
    """Rows of another owner stay as they are, to the letter; new ones are rounded, and sorted by number."""
    path = tmp_path / "alpha.csv"
    path.write_text("run_id,specialist,expert,alpha\n1e5,NA,10,0.5\n1e5,NA,9,1e-05\n007,null,0,\n")
    new = pd.DataFrame({"run_id": ["123"], "specialist": ["nan"], "expert": [0], "alpha": [1 / 3]})
    upsert(path, [new], "run_id", ["run_id", "specialist", "expert"])
    assert path.read_text() == (
        "run_id,specialist,expert,alpha\n007,null,0,\n123,nan,0,0.333333\n1e5,NA,9,1e-05\n1e5,NA,10,0.5\n"
    )


def test_a_corpus_without_specialists_is_trained_evaluated_and_reported(command_and_report, tmp_path):
    status, out, err = command_and_report("data.specialists=null", "method.n_experts=2", "train.tokens=8192")
    assert status == 0 and "nan" not in out + err and "Traceback" not in err
    records = read_records(tmp_path / "results")
    assert {record["specialist"] for record in records} == {"generic"}
    assert (tmp_path / "results" / "tables" / "main.md").is_file()
