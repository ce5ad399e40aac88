"""Weights & Biases is a mirror: what it would refuse is refused in the plan, and what it raises stops nothing."""

import sys
from types import SimpleNamespace

import pytest

from soe_bench.config import job_configs
from soe_bench.errors import UserError
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run
from soe_bench.tracking import MODES, Tracker, check_mirror


class Failing:
    """W&B whose calls raise from the named one on."""

    def __init__(self, first):
        self.failing, self.calls = first, []

    def _call(self, name):
        self.calls.append(name)
        if name == self.failing:
            raise OSError(f"{name} of W&B")

    def init(self, **_):
        self._call("init")
        return SimpleNamespace(log=lambda *_, **__: self._call("log"), finish=lambda **_: self._call("finish"))

    def Table(self, **_):  # noqa: N802 (the name in wandb)
        self._call("Table")


@pytest.mark.parametrize("first", ["init", "log", "Table", "finish"])
def test_whatever_it_raises_is_one_warning_and_the_job_is_done(first, compose, monkeypatch, caplog):
    failing = Failing(first)
    monkeypatch.setitem(sys.modules, "wandb", failing)
    cfg = compose("method=generic", "train.tokens=4096", "wandb.mode=offline", "evaluate.splits=[validation]")
    execute(cfg)
    assert Run.of(cfg).status() == "done" and failing.calls.count(first) == 1 and failing.calls[-1] == first
    (warning,) = [record.message for record in caplog.records if "Weights & Biases" in record.message]
    assert f"OSError: {first} of W&B" in warning and "\n" not in warning


def test_its_exceptions_do_not_hide_those_of_the_job(compose, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Failing("finish"))
    cfg = compose("wandb.mode=offline")
    with pytest.raises(KeyError, match="ours"), Tracker(cfg, "x", Run.of(cfg).folder):
        raise KeyError("ours")


@pytest.mark.parametrize("variable, value", [("WANDB_MODE", "nonsense"), ("WANDB_BASE_URL", "wandb.example.org")])
def test_its_variables_are_checked_unless_it_is_off(variable, value, compose, monkeypatch):
    monkeypatch.setenv(variable, value)
    check_mirror(compose("wandb.mode=disabled"))
    with pytest.raises(UserError, match=f"{variable} is '{value}'"):
        check_mirror(compose("wandb.mode=offline"))


def test_its_own_variable_sets_the_mode_unless_the_command_does(compose, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert job_configs([])[0][0].wandb.mode == "disabled"
    assert job_configs(["wandb.mode=offline"])[0][0].wandb.mode == "offline"
    monkeypatch.delenv("WANDB_MODE")
    assert job_configs([])[0][0].wandb.mode == "offline"


def test_the_modes_are_those_of_the_library():
    wandb = pytest.importorskip("wandb")
    assert set(wandb.Settings.model_fields["mode"].annotation.__args__) == set(MODES)
