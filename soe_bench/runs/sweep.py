"""What happens around the jobs of one command line: the plan before them, the table and the results after them."""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from soe_bench.config import make
from soe_bench.errors import UserError
from soe_bench.records import read_lines, read_training
from soe_bench.runs.build import build_method, corpus_of
from soe_bench.runs.code import changed
from soe_bench.runs.collect import check_domains, check_results, check_trained, collect, collect_trials
from soe_bench.runs.execute import execute
from soe_bench.runs.forecast import built_corpus, corpus_time, evaluation_tokens
from soe_bench.runs.launchers import Launcher
from soe_bench.runs.resources import check_device, check_memory, check_parallel, speeds
from soe_bench.runs.run import Run
from soe_bench.system import distributed
from soe_bench.system.files import reason
from soe_bench.system.laps import Laps
from soe_bench.system.stop import Interrupted, stop_requested
from soe_bench.system.words import counted
from soe_bench.tracking import check_mirror

log = logging.getLogger("soe_bench")


def run_all(cfgs: list[DictConfig]) -> None:
    """Runs one job after the other. A failure is noted in the run's folder and does not stop the other jobs.

    Under torchrun, a failure that the other processes cannot know of is raised instead, which ends all processes.
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
        except (Exception, SystemExit) as error:  # a method may end the process
            if distributed.size() > 1:
                raise
            if isinstance(error, OSError):
                log.warning("%s", reason(error))
                continue
            log.exception("this run failed; the others go on")


@dataclass
class Plan:
    """The jobs of one command: their `runs`, the `parents` that these start from (trained, not evaluated), what
    launches them, how many run at once (`parallel`), and the names of those that were done `before`."""

    runs: list[Run]
    parents: list[Run]
    launcher: Launcher
    parallel: int
    before: set[str]

    @classmethod
    def of(cls, cfgs: list[DictConfig], node: DictConfig) -> Plan:
        """The plan of the jobs and the launcher that `config.job_configs` gives. Checks everything that can be checked
        before any long work. Raises UserError."""
        launcher = Launcher.of(node)
        for cfg in cfgs:
            check_mirror(cfg)
        runs: dict[str, Run] = {}
        for run in map(Run.of, cfgs):
            other = runs.setdefault(run.name, run)
            if other.records != run.records:
                raise UserError(
                    f"two jobs are the same run, {run.name}, and differ in `evaluate` alone: give one of them, and the "
                    "other in a command of its own when that has ended"
                )
        for folder in {run.cfg.results_dir for run in runs.values()}:
            check_results(Path(folder), [run for run in runs.values() if run.cfg.results_dir == folder])
        for run in runs.values():
            check_device(run.cfg.device, launcher)
            check_parallel(run)
        before = {run.name for run in runs.values() if run.done}
        parents: dict[str, Run] = {}
        for run in [run for run in runs.values() if run.name not in before]:
            while run.parent is not None:
                run = run.parent
                parents[run.name] = run
        for run in (runs | parents).values():
            if run.trained:
                check_trained(run)
            if others := changed(run.folder, type(make(run.cfg.method))):
                log.warning(
                    "warning: %s began with other code of %s, and is used as it is: to train it anew, raise `version` "
                    "in the class of the method",
                    run.name,
                    " and ".join(others),
                )
        own = [run for run in parents.values() if run.name not in runs]
        before |= {run.name for run in own if run.trained}
        return cls(list(runs.values()), own, launcher, min(launcher.at_once, len(runs)), before)

    def prepare(self, laps: Laps) -> bool:
        """Logs the estimate, then builds the missing corpora. Ends the `laps` of both.

        Returns False if there is nothing to run. Raises UserError if there is too little memory.
        """
        waiting = self.estimate()
        laps.end("plan")
        for run in {run.fingerprint: run for run in waiting}.values():
            distributed.on_first(self._open, run)
        laps.end("corpus")
        return bool(waiting)

    def estimate(self) -> list[Run]:
        """Logs how many jobs there are and the memory and time they need, and returns those that are not done.

        The time is measured on a few steps of each kind of job, unless the jobs run on other machines. A job that fails
        there is left to fail in its turn, if others do not. Raises UserError if there is too little memory.
        """
        jobs = [*self.parents, *self.runs]
        waiting = [run for run in jobs if run.name not in self.before]
        parallel = 1 if distributed.size() > 1 else max(1, min(self.parallel, len(waiting)))
        log.info(
            "%s, with those that they start from: %d done before, %d to run, %d at once",
            counted(len(jobs), "run"),
            len(self.before),
            len(waiting),
            parallel,
        )
        if not waiting:
            return []
        distributed.on_first(check_memory, waiting, parallel, self.launcher)
        costs: dict[str, tuple[float, float]] = {}
        training, evaluating, failed = 0.0, 0.0, set()
        for run in waiting:
            try:
                what, *seconds = self._measured(run, costs)
                training, evaluating = training + seconds[0], evaluating + seconds[1]
            except UserError:
                raise
            except (Exception, SystemExit) as error:
                # It will fail in its turn too, after which the others go on (see run_all).
                failed.add(run.name)
                if distributed.size() > 1 or all(each.name in failed for each in waiting if each in self.runs):
                    raise
                what = f"left out, because it fails: {' '.join(f'{type(error).__name__}: {error}'.split())}"
            log.info("  %-40s %s", run.name, what)
        if self.launcher.elsewhere:
            log.info("the time is not estimated, because the runs are on other machines")
        else:
            data = {run.fingerprint: run.cfg for run in waiting}.values()
            log.info(
                "time: corpus %s, training %s, evaluation %s",
                " and ".join(dict.fromkeys(corpus_time(cfg) for cfg in data)),
                f"about {timedelta(seconds=round(training / parallel))} (less if runs go on from checkpoints)",
                f"about {timedelta(seconds=round(evaluating / parallel))}"
                if math.isfinite(evaluating)
                else "not known before the corpus is built",
            )
        torch.cuda.empty_cache()  # the jobs may run in other processes on the same device
        return waiting

    def _measured(self, run: Run, costs: dict[str, tuple[float, float]]) -> tuple[str, float, float]:
        """What is left of a run, in words, and the seconds of its training and evaluation; 0 where the jobs run on
        other machines. `costs` are the speeds that are known, by recipe, to which those of this one are added."""
        method = build_method(run, None, device="meta")
        steps = 0 if run.trained else method.steps
        known = "trained before" if run.trained else "nothing to train"
        what = f"{steps} steps" if steps else f"{known}, to be evaluated"
        if self.launcher.elsewhere:
            return what, 0.0, 0.0
        if run.recipe not in costs:
            costs[run.recipe] = speeds(run)
        step, token = costs[run.recipe]
        what += f" of {step:.2f} s" if steps else ""
        tokens = evaluation_tokens(run.cfg, method, built_corpus(run.cfg)) if run in self.runs else 0
        return what, steps * step, tokens * token

    def _open(self, run: Run) -> None:
        """Builds a corpus if it is missing. Raises UserError if a results folder has records of other domains."""
        corpus = corpus_of(run)
        for folder in {run.cfg.results_dir for run in self.runs}:
            check_domains(Path(folder), corpus)

    def spent(self) -> dict[str, float]:
        """Where the time of the jobs went that are trained now and were not done before, in seconds; empty without such
        a job."""
        new = [run for run in [*self.parents, *self.runs] if run.name not in self.before and run.trained]
        parts: Counter[str] = Counter()
        for run in new:
            before = read_training(run.parent.folder)["seconds"] if run.parent else 0.0
            parts["training"] += read_training(run.folder)["seconds"] - before
            for record in read_lines(run.records) if run in self.runs and run.done else ():
                parts[f"evaluation at h {record['h_source']}"] += record["specialist_seconds"] + record["loss_seconds"]
        return dict(parts)

    @property
    def done(self) -> bool:
        """Whether every job is done."""
        return all(run.done for run in self.runs)

    def finish(self) -> dict[Path, DictConfig | None]:
        """Prints the table of all jobs and collects the records of those that are done. Returns the results folders
        that hold these records, each with the configuration of a run that is new there, or None without a new one."""
        width = max(len(run.name) for run in [*self.parents, *self.runs])
        for run in self.parents:
            print(f"{run.name:<{width}}  {'':<10}  {'trained' if run.trained else run.status()}")
        settings = told_apart(self.runs)
        for run in self.runs:
            status = "done before" if run.name in self.before else run.status()
            print(f"{run.name:<{width}}  {shown_loss(run):<10}  {status}{settings[run.name]}")
        done, results = [run for run in self.runs if run.done], {}
        for folder in {run.cfg.results_dir for run in done}:
            trials = [run for run in done if run.cfg.results_dir == folder and run.is_trial]
            if trials:
                print(f"{counted(collect_trials(trials, Path(folder)), 'trial')} in {folder}/tuning.csv")
            own = [run for run in done if run.cfg.results_dir == folder and not run.is_trial]
            if not own:
                continue
            opened = [corpus_of(run) for run in {run.fingerprint: run for run in own}.values()]
            print(f"{collect([run.records for run in own], opened, Path(folder))} records in {folder}")
            results[Path(folder)] = own[0].cfg if any(run.name not in self.before for run in own) else None
        return results


def told_apart(runs: list[Run]) -> dict[str, str]:
    """For each run the corpus and the settings of its method and training in which it differs from those whose names
    differ from its own in the hash alone; empty where there are none."""
    alike: dict[str, list[tuple[str, dict]]] = {}
    for run in runs:
        own = {group: OmegaConf.to_container(run.cfg[group], resolve=True) for group in ("method", "train")}
        flat = {"data": run.cfg.data.name} | pd.json_normalize(own).iloc[0].to_dict()
        alike.setdefault(run.name.rpartition("-")[0], []).append((run.name, flat))
    words: dict[str, str] = {}
    for group in alike.values():
        keys = dict.fromkeys(key for _, settings in group for key in settings)
        odd = [key for key in keys if len({repr(settings.get(key)) for _, settings in group}) > 1]
        words |= {name: "".join(f"  {key}={settings.get(key)}" for key in odd) for name, settings in group}
    return words


def shown_loss(run: Run) -> str:
    """Mean test loss over the specialists at h from all their estimate documents, without fine-tuning, in words
    (validation loss for a tuning trial). Empty for a run without records, or without specialists."""
    if not run.done:
        return ""
    split = "validation" if run.is_trial else "test"
    losses = [
        record["loss"]
        for record in read_lines(run.records)
        if record["split"] == split
        and record["specialist"] != "generic"
        and record["h_source"] in ("estimate", "none")
        and record["document_draw"] is None
        and record["budget_tokens"] == 0
    ]
    return f"{np.mean(losses):.3f} nats" if losses else ""
