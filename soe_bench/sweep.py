"""What happens around the jobs of one command line: the plan before them, the table and the results after them."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from soe_bench import distributed
from soe_bench.collect import check_domains, check_results, collect, collect_trials
from soe_bench.config import CONF, make, with_method
from soe_bench.data.build import open_corpus
from soe_bench.errors import UserError
from soe_bench.evaluate import check_vocabulary
from soe_bench.launchers import Launcher
from soe_bench.records import read_records
from soe_bench.report import build as report
from soe_bench.runs import Run, build, execute, prepare_process
from soe_bench.stop import Interrupted, stop_requested
from soe_bench.tracking import mirror_figures
from soe_bench.train import send, total_steps

log = logging.getLogger("soe_bench")
TIMED_STEPS = 2
PATH_KEYS = ("home", "results_dir", "data.source.folder", "data.embedding.folder")
NO_SETTING = "there is no setting {}: python -m soe_bench --cfg job lists what there is"
ONE_METHOD = " (if one method of several has it, run that one alone: method=NAME)"  # Hydra looks before it sweeps


def quoted(argument: str) -> str:
    """The argument with the value of a path key in quotes: Hydra's grammar refuses `results_dir=my files (1)` bare."""
    key, _, value = argument.partition("=")
    if key not in PATH_KEYS or value[:1] in ("'", '"'):
        return argument
    escaped = re.sub(r"(\\*)('|$)", lambda run: run[1] * 2 + run[2].replace("'", "\\'"), value)
    return f"{key}='{escaped}'"


def job_configs(arguments: list[str]) -> tuple[list[DictConfig], Launcher]:
    """The resolved configuration of every job that Hydra will launch for these arguments, and what launches them.

    Raises UserError for two sweep files at once (Hydra would drop both files' parameters without a word), a list of
    values without a sweep, an unknown setting (also as `+key=value`, which would be ignored), and whatever Hydra itself
    refuses.
    """
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    sweeps = [override for override in overrides if override.startswith("+sweep=")]
    if len(sweeps) > 1 or "," in "".join(sweeps):
        raise UserError("one sweep at a time: run the sweeps one after the other (finished runs are not repeated)")
    if added := [o for o in overrides if o.startswith("+") and o not in sweeps]:
        raise UserError(NO_SETTING.format(added[0].lstrip("+").partition("=")[0]))
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        plain = [o.input_line for o in parsed if not o.is_sweep_override()]
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="soe_bench"):
            base = compose("config", plain, return_hydra_config=True)
            multirun = base.hydra.mode == RunMode.MULTIRUN or len(overrides) < len(arguments)
            if not multirun:
                if len(plain) < len(overrides):
                    raise UserError("a list of values needs -m or a sweep file: add -m")
                jobs = [plain]
            else:
                axes = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
                jobs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(axes + overrides), None)[0]
            return [compose("config", job) for job in jobs], Launcher.of(base.hydra.launcher)
    except (HydraException, OmegaConfBaseException) as error:
        if missing := re.search("Could not find 'hydra/launcher/(.+?)'", str(error)):
            raise UserError(f"the launcher {missing[1]} is not installed: conf/launcher says how") from error
        unknown = re.match(r"Could not override '(.+?)'", str(error))
        raise UserError(NO_SETTING.format(unknown[1]) + ONE_METHOD * unknown[1].startswith("method.")
                        if unknown else " ".join(str(error).split())) from error


def with_references(cfgs: list[DictConfig]) -> list[DictConfig]:
    """Each job's configuration followed by those of its `references`: other methods, all else equal."""
    return [each for cfg in cfgs for each in (cfg, *(with_method(cfg, name) for name in cfg.references))]


def run_job(cfg: DictConfig) -> None:
    """One job and its references."""
    run_all(with_references([cfg]))


def run_all(cfgs: list[DictConfig]) -> None:
    """Runs one after the other. A failure is kept in the run's folder and does not stop the others.

    Under torchrun, a failure that the other processes cannot know of does: raises it, which ends them all.
    """
    for cfg in cfgs:
        if stop_requested():
            return
        try:
            execute(cfg)
        except distributed.Lost:
            raise
        except (UserError, Interrupted) as error:
            log.warning("%s", error)
        except Exception:
            if distributed.size() > 1:
                raise
            log.exception("this job failed; the others go on")


@dataclass
class Plan:
    """The jobs of one command: their runs, the runs that these start from (trained, not evaluated), what launches them,
    how many run at once, and which of them all were done before."""

    runs: list[Run]
    parents: list[Run]
    launcher: Launcher
    parallel: int
    before: set[str]

    @classmethod
    def of(cls, arguments: list[str]) -> Plan:
        """Checks everything that can be checked before any long work. Raises UserError."""
        cfgs, launcher = job_configs(arguments)
        runs = {run.name: run for run in map(Run.of, with_references(cfgs))}
        for run in runs.values():
            check_results(Path(run.cfg.results_dir), run.cfg.data.name, run.fingerprint)
            check_device(run.cfg.device, launcher)
            check_parallel(run)
        before = {run.name for run in runs.values() if run.skippable}
        parents: dict[str, Run] = {}
        for run in [run for run in runs.values() if run.name not in before]:
            while (run := run.parent) is not None:
                parents[run.name] = run
        own = [run for run in parents.values() if run.name not in runs]
        before |= {run.name for run in own if run.trained}
        return cls(list(runs.values()), own, launcher, min(launcher.at_once, len(cfgs)), before)

    def prepare(self) -> bool:
        """Says how many jobs there are and the memory and time they need, then builds the missing corpora.

        The time is measured on a few steps of each kind of job, unless the jobs run on other machines. False if there
        is nothing to run. Raises UserError if the memory cannot suffice.
        """
        jobs = [*self.parents, *self.runs]
        waiting = [run for run in jobs if run.name not in self.before]
        parallel = 1 if distributed.size() > 1 else max(1, min(self.parallel, len(waiting)))
        log.info("%d jobs: %d done before, %d to run, %d at once", len(jobs), len(self.before), len(waiting), parallel)
        if not waiting:
            return False
        distributed.on_first(check_memory, waiting, parallel, self.launcher)
        costs: dict[str, float] = {}
        total = 0.0
        for run in waiting:
            if run.trained:
                log.info("  %-40s trained before, to be evaluated", run.name)
                continue
            kind = f"{run.cfg.method}{run.cfg.model}{run.cfg.train}"
            steps = total_steps(run.cfg, build(run, None, device="meta"))
            if self.launcher.elsewhere:
                log.info("  %-40s %d steps", run.name, steps)
                continue
            if kind not in costs:
                costs[kind] = step_seconds(run) if steps else 0.0
            log.info("  %-40s %d steps of %.2f s", run.name, steps, costs[kind])
            total += costs[kind] * steps
        if self.launcher.elsewhere:
            log.info("no estimate of the time: the jobs run on other machines")
        else:
            log.info("about %s of training, not counting what a run had already done before it was stopped",
                     timedelta(seconds=round(total / parallel)))
        torch.cuda.empty_cache()  # the jobs may run in other processes on the same device
        for cfg in {run.fingerprint: run.cfg for run in waiting}.values():
            distributed.on_first(self._open, cfg)
        return True

    def _open(self, cfg: DictConfig) -> None:
        """Builds a corpus if it is missing; refuses a results folder that rests on other domains."""
        corpus = open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans)
        for folder in {run.cfg.results_dir for run in self.runs}:
            check_domains(Path(folder), corpus)

    def finish(self) -> bool:
        """Prints the table of all jobs, brings records, tables and figures up to date; True if every job is done."""
        width = max(len(run.name) for run in [*self.parents, *self.runs])
        for run in self.parents:
            print(f"{run.name:<{width}}  {'':<10}  {'trained' if run.trained else run.status()}")
        for run in self.runs:
            status = "done before" if run.name in self.before else run.status()
            print(f"{run.name:<{width}}  {mean_loss(run):<10}  {status}")
        done = [run for run in self.runs if run.done]
        for folder in {run.cfg.results_dir for run in done}:
            trials = [run for run in done if run.cfg.results_dir == folder and run.is_trial]
            if trials:
                print(f"{collect_trials([run.records for run in trials], Path(folder))} trials in {folder}/tuning.csv")
            own = [run for run in done if run.cfg.results_dir == folder and not run.is_trial]
            if not own:
                continue
            data = {run.fingerprint: run.cfg for run in own}.values()
            opened = [open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans) for cfg in data]
            print(f"{collect([run.records for run in own], opened, Path(folder))} records in {folder}")
            report.rewrite(Path(folder))
            if any(run.name not in self.before for run in own):
                mirror_figures(own[0].cfg, Path(folder))
        return all(run.skippable for run in self.runs)


def check_device(device: str, launcher: Launcher) -> None:
    """Raises UserError unless `device` is cpu or cuda, and torch sees one for each process of torchrun; where the jobs
    run on other machines, it is they that must have it."""
    kind = str(device).partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device is {device}: it must be cpu or cuda")
    count, wanted = torch.cuda.device_count(), distributed.on_this_machine()
    if kind == "cuda" and count < wanted and not launcher.elsewhere:
        raise UserError(f"device is {device}, and torch sees {count} CUDA devices, not {wanted}: set device=cpu"
                        + (", or start fewer processes" if count else ""))


def check_parallel(run: Run | None) -> None:
    """Raises UserError if torchrun started several processes, among which a run or its parent cannot be divided."""
    processes = distributed.size()
    while run is not None and processes > 1:
        if not make(run.cfg.method).parallel:
            raise UserError(f"torchrun works for the soup and dense models: run {run.cfg.method.name} in one process "
                            "(python -m soe_bench ...)")
        if run.cfg.train.draws % processes:
            raise UserError(f"train.draws ({run.cfg.train.draws}) must be a multiple of the {processes} processes of "
                            "torchrun")
        run = run.parent


def check_memory(runs: list[Run], parallel: int, launcher: Launcher) -> None:
    """Raises UserError unless the largest `parallel` runs fit into the memory side by side (under torchrun on CPU, the
    parts of one run in all processes of this machine); on other machines, unless the largest fits into what a job asks
    for."""
    needs = sorted((state_bytes(run) for run in runs), reverse=True)[: 1 if launcher.elsewhere else parallel]
    need, free = sum(needs) / 1e9, launcher.gigabytes
    if not launcher.elsewhere and runs[0].cfg.device == "cpu":
        need, free = need * distributed.on_this_machine(), psutil.virtual_memory().available / 1e9
    elif not launcher.elsewhere:
        free = torch.cuda.mem_get_info()[0] / 1e9
    log.info("memory for parameters and moments: %.2f GB at most%s", need,
             " for each job" if launcher.elsewhere else f", {free:.1f} GB free")
    if need > free:
        raise UserError(f"{len(needs)} jobs at once need {need:.1f} GB, {free:.1f} GB are free: "
                        "lower method.n_experts, take a smaller model, or run fewer at once (launcher=single)"
                        if not launcher.elsewhere else
                        f"a job needs {need:.1f} GB and asks for {free:.1f}: raise hydra.launcher.mem_gb")


def state_bytes(run: Run) -> int:
    """Bytes of parameters, moments and gradients in training in one process, computed without allocating them."""
    return build(run, None, device="meta").cost()["state_bytes"]


def step_seconds(run: Run) -> float:
    """Seconds of one training step, measured on random tokens after one step of warm-up. Raises UserError if the
    method's specialists predict over another vocabulary than the corpus's."""
    cfg = run.cfg
    prepare_process(cfg)
    method = build(run, None)
    shape = (cfg.train.draws, cfg.train.batch_size // cfg.train.draws, cfg.train.length + 1)
    rng = np.random.default_rng(0)
    batch = rng.integers(cfg.data.vocab_size, size=shape)
    h = np.full(cfg.data.k, 1 / cfg.data.k) if method.takes_h else None
    check_vocabulary(method.specialist(h, [batch[0, 0]]), cfg.data.vocab_size)
    tokens, weights = send(batch, method.domain_weights(rng, 1), cfg.device)
    for step in range(1 + TIMED_STEPS):
        if step == 1:
            start = time.perf_counter()
        method.update(tokens, weights, step + 1, 0.0)
    return (time.perf_counter() - start) / TIMED_STEPS


def mean_loss(run: Run) -> str:
    """Mean test loss (a trial: validation loss) over the specialists at the estimated h, in words; empty for a run
    without records."""
    if not run.done:
        return ""
    part = "validation" if run.is_trial else "test"
    losses = [record["loss"] for record in read_records(run.records) if record["part"] == part
              and record["specialist"] != "generic" and record["h_source"] in ("estimate", "none")]
    return f"{np.mean(losses):.3f} nats"
