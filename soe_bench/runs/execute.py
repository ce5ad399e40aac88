"""Trains and evaluates one run: from a configuration to records."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from soe_bench import checkpoint
from soe_bench.data.corpus import Corpus
from soe_bench.errors import UserError
from soe_bench.method import Method
from soe_bench.mixture import Mixture
from soe_bench.ops.flat import Flat
from soe_bench.records import RunRecord, read_training
from soe_bench.runs import evaluation
from soe_bench.runs.build import build_method, corpus_of, load_parameters, sampler, save_parameters
from soe_bench.runs.code import CODE, code_of
from soe_bench.runs.folder import seal
from soe_bench.runs.run import AS_PARENT, Run, model_name
from soe_bench.system import distributed
from soe_bench.system.files import write_text
from soe_bench.system.machine import device_name, git_state, peak_memory, prepare_process, reset_peak_memory
from soe_bench.system.stop import STOP, Interrupted, stop_requests
from soe_bench.system.words import counted
from soe_bench.tracking import Tracker
from soe_bench.train import Progress, tokens_per_step, train

log = logging.getLogger("soe_bench")


def execute(cfg: DictConfig) -> None:
    """Trains and evaluates one run, unless it is done. Raises UserError on bad input, Interrupted on a stop request.

    Under torchrun every process calls this. The first one decides what is left to do and writes the results.
    """
    run = Run.of(cfg)
    if not distributed.on_first(lambda: run.done):
        with stop_requests(at_once=True):  # only the training inside must not be cut
            _execute(run)


def _execute(run: Run, as_parent: bool = False) -> None:
    """A parent is only trained, not evaluated; if another process is training it, this one waits."""
    if run.parent and not distributed.on_first(lambda: run.trained if as_parent else run.done):
        _execute(run.parent, as_parent=True)
    run.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.folder / ".lock")
    first = distributed.rank() == 0
    try:
        if not distributed.on_first(_claim, run, lock, as_parent):
            return
        _train_and_evaluate(run, not as_parent)
        if first:
            (run.folder / "status").unlink()
    except BaseException as error:
        if first and lock.is_locked:
            state = "stopped: " if isinstance(error, KeyboardInterrupt) else "failed: "
            with suppress(UserError):  # the disk may be full
                write_text(run.folder / "status", state + (str(error) or type(error).__name__).splitlines()[0])
        raise
    finally:
        lock.release()


def _claim(run: Run, lock: FileLock, as_parent: bool) -> bool:
    """Takes the lock of a run. False if there is nothing left to do, or if another process is running it."""
    while not lock.is_locked:
        try:
            lock.acquire(timeout=1)
        except Timeout:
            if not as_parent and not run.in_hand_as_parent:
                log.info("%s is being run by another process", run.name)
                return False
            if STOP.is_set():
                raise Interrupted(f"stopped while waiting for {run.name}; the same command goes on") from None
    if run.trained:
        checkpoint.drop(run.folder)  # a kill may have left them
    if run.trained if as_parent else run.done:  # another process may have done it meanwhile
        return False
    write_text(run.folder / "status", AS_PARENT if as_parent else "running")
    return True


def _train_and_evaluate(run: Run, evaluate: bool) -> None:
    cfg, folder = run.cfg, run.folder
    prepare_process(cfg.threads)
    corpus = corpus_of(run)
    reset_peak_memory()
    method = build_method(run, corpus)
    _write(folder / "config.json", json.dumps(OmegaConf.to_container(cfg, resolve=True), indent=1))
    with Tracker(cfg, run.name, folder) as tracker:
        if run.trained:
            load_parameters(method, folder)
        else:
            _train(run, method, corpus, tracker)
        if not evaluate:
            return
        log.info("%s  evaluating on %s", run.name, counted(len(corpus.specialists), "specialist"))
        facts = read_training(folder)
        tracker.table("records", evaluation.evaluate_all(cfg, method, corpus, facts, run.records))


def _train(run: Run, method: Method, corpus: Corpus, tracker: Tracker) -> None:
    cfg, folder = run.cfg, run.folder
    distributed.on_first(_begin, folder, type(method))
    mixture = sampler(run, corpus, method)
    progress = train(cfg, run.name, method, mixture, folder, tracker, lambda: evaluation.validate(cfg, method, corpus))
    state = {"run": run.name, "config_hash": run.hash, "taken": mixture.taken.tolist()}
    save_parameters(method, folder, state)
    _write(folder / "alpha.csv", evaluation.alpha_table(method, corpus).to_csv(index=False, float_format="%.6g"))
    distributed.on_first(seal, folder)
    _write(folder / "training.json", json.dumps(asdict(run_record(run, method, mixture, progress)), indent=1))
    distributed.on_first(checkpoint.drop, folder)


def _begin(folder: Path, kind: type[Method]) -> None:
    """Removes what is left of an earlier training, so that a run killed in this one cannot look finished, and notes the
    method's code unless the training goes on from a checkpoint."""
    for path in (folder / "training.json", *folder.glob("records-*.jsonl"), *folder.glob("*.partial")):
        path.unlink(missing_ok=True)
    if not any(folder.glob("checkpoint-*")):
        write_text(folder / CODE, json.dumps(code_of(kind)) + "\n")


def _write(path: Path, text: str) -> None:
    """Writes the file in the first process. When this returns, every process can read it."""
    distributed.on_first(write_text, path, text)


def run_record(run: Run, method: Method, mixture: Mixture, progress: Progress) -> RunRecord:
    """What all evaluations of a run share."""
    cfg, cost, steps = run.cfg, method.cost(), method.steps
    memory = int(distributed.total(torch.tensor(peak_memory(cfg.device)))[0])  # of all processes
    own = {
        "training_tokens": steps * tokens_per_step(cfg),
        "flops": steps * cost["flops_per_step"],
        "seconds": round(progress.seconds, 2),
    }
    before = read_training(run.parent.folder) if run.parent else {}
    return RunRecord(
        run_id=run.hash[:16],
        method=method.label,
        n_experts=method.n_experts,
        recipe=run.recipe[:16],
        scale=cfg.scale_name,
        model=model_name(cfg),
        parameters=Flat(method.context.base).size,
        pi=str(method.pi),
        draws_per_step=cfg.train.draws_per_step,
        parent=run.parent.hash[:16] if run.parent else None,
        seed_data=cfg.seeds.data,
        seed_init=cfg.seeds.init,
        seed_mix=cfg.seeds.mix,
        seed_kmeans=cfg.seeds.kmeans,
        data=cfg.data.name,
        data_fingerprint=run.fingerprint,
        **{name: value + before.get(name, 0) for name, value in own.items()},
        parent_tokens=before.get("training_tokens"),
        parent_flops=before.get("flops"),
        parent_seconds=before.get("seconds"),
        peak_memory_bytes=memory,
        stored_parameters=cost["stored_parameters"],
        deployed_parameters=cost["deployed_parameters"],
        trained_for=method.n_models if method.per_specialist else None,
        threads=torch.get_num_threads(),
        precision=cfg.train.precision,
        device=f"{distributed.size()} x " * (distributed.size() > 1) + device_name(cfg.device),
        max_epochs=round(float(mixture.epochs.max()), 3),
        **git_state(),
    )
