"""Sweeps on other engines: what the plan knows of each launcher, and two jobs on each."""

import importlib.util
import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from soe_bench.config import job_configs
from soe_bench.errors import UserError
from soe_bench.records import read_records
from soe_bench.runs import sweep
from soe_bench.runs.launchers import Launcher
from soe_bench.runs.resources import check_memory
from soe_bench.runs.run import Run
from soe_bench.system.laps import Laps

ROOT = Path(__file__).parents[2]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
ALL = sys.maxsize
EXTRAS = {"slurm": "submitit", "slurm_local": "submitit", "ray": "ray"}  # launcher: what it needs installed


def needs(launcher):
    name = f"hydra_{EXTRAS.get(launcher)}_launcher"
    missing = launcher in EXTRAS and importlib.util.find_spec(f"hydra_plugins.{name}") is None
    return pytest.param(launcher, marks=pytest.mark.skipif(missing, reason=f"{name} is not installed"))


@pytest.mark.parametrize(
    "target, settings, expected",
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", {}, (1, False)),
        ("joblib_launcher.JoblibLauncher", {"n_jobs": 3}, (3, False)),
        ("joblib_launcher.JoblibLauncher", {"n_jobs": -1}, (CORES, False)),
        (
            "ray_launcher.RayLauncher",
            {"ray": {"init": {"num_cpus": 9}, "remote": {"num_cpus": 2}}},
            (4, False, inf, False),
        ),
        ("ray_launcher.RayLauncher", {"ray": {"init": {"address": None}, "remote": {}}}, (CORES, False, inf, False)),
        ("ray_launcher.RayLauncher", {"ray": {"init": {"address": "auto"}, "remote": {}}}, (ALL, True, inf, False)),
        ("submitit_launcher.LocalLauncher", {}, (ALL, False)),
        ("submitit_launcher.SlurmLauncher", {"array_parallelism": 64, "mem_gb": 4}, (64, True, 4, False)),
        ("submitit_launcher.SlurmLauncher", {"array_parallelism": 8, "mem_gb": None}, (8, True, inf, False)),
    ],
)
def test_what_the_plan_knows_of_a_launcher(target, settings, expected):
    assert Launcher.of(OmegaConf.create({"_target_": target} | settings)) == Launcher(*expected)


@pytest.mark.parametrize("launcher", [needs(path.stem) for path in sorted((ROOT / "conf" / "launcher").glob("*.yaml"))])
def test_every_launcher_is_planned(launcher, arguments, caplog):
    caplog.set_level("INFO", "soe_bench")
    three = ["-m", f"launcher={launcher}", "method=generic", "seed=0,1,2", "train.tokens=1024"]
    plan = sweep.Plan.of(*job_configs([*arguments, *three]))
    expected = {"single": 1, "cores": min(CORES, 3), "ray": min(CORES, 3)}.get(launcher, 3)
    assert plan.parallel == expected and plan.prepare(Laps())
    assert f"3 runs, with those that they start from: 0 done before, 3 to run, {expected} at once" in caplog.text
    assert ("on other machines" in caplog.text) == plan.launcher.elsewhere == (launcher == "slurm")


def test_a_job_that_needs_more_memory_than_it_asks_for_is_refused(compose):
    run = Run.of(compose("method.n_experts=512", "method.parent=null"))
    check_memory([run] * 1000, 1000, Launcher(1000, elsewhere=True, gigabytes=1))
    with pytest.raises(UserError, match=r"a job needs 0.[1-9] GB and asks for 0.0: raise hydra.launcher.mem_gb"):
        check_memory([run], 1, Launcher(1, elsewhere=True, gigabytes=0.01))


def test_a_launcher_that_is_not_installed_is_named(arguments):
    with pytest.raises(UserError, match="the launcher carrier_pigeon is not installed: conf/launcher says how"):
        job_configs([*arguments, "hydra/launcher=carrier_pigeon"])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [needs("slurm_local"), needs("ray")])  # joblib's is in test_readme.py
def test_two_jobs_on_each_launcher(launcher, arguments, tmp_path):
    two = ["-m", f"launcher={launcher}", "method=generic", "seed=0,1", "train.tokens=4096"]
    command = [sys.executable, "-m", "soe_bench", *two, *arguments]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("  done\n") == 2
        and "2 runs, with those that they start from: 0 done before, 2 to run, 2 at once" in done.stderr
    )
    assert len({record["run_id"] for record in read_records(tmp_path / "results")}) == 2
