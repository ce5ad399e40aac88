"""One run: its identity, its folder, and the way from a configuration to records.

A run folder lies under <home>/runs, outside the checkout: config.json, metrics.jsonl, checkpoints while it trains, then
model.safetensors, alpha.csv and training.json, written last; and records-<digest>.jsonl for each way it was evaluated
(.partial until it is whole).
Same configuration, same folder: what is trained is never trained again, however it is evaluated, and what was
interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from soe_bench import cells, checkpoint, distributed
from soe_bench.config import make, with_method
from soe_bench.data.build import open_corpus
from soe_bench.data.corpus import Corpus, fingerprint
from soe_bench.errors import UserError
from soe_bench.files import write_text
from soe_bench.flat import Flat
from soe_bench.gradient import compiled_backward, recorded_backward
from soe_bench.method import Method, Setup
from soe_bench.mixture import Mixture
from soe_bench.optim import Optimizer
from soe_bench.provenance import device_name, git_state, peak_memory, reset_peak_memory
from soe_bench.records import SCHEMA, read_records
from soe_bench.specialize import domain_weights
from soe_bench.stop import STOP, Interrupted, stop_requests
from soe_bench.tracking import Tracker
from soe_bench.train import Progress, tokens_per_step, total_steps, train

log = logging.getLogger("soe_bench")
IDENTITY = ("method", "model", "train", "seeds")  # what makes a run; evaluation, paths, logger, threads do not
PRECISIONS = ("float32", "bfloat16")
COUNTS = ("length", "batch_size", "draws", "tokens", "checkpoint_every")  # of `train`
SPECIALISTS = 16  # assumed in the plan where the configuration does not name them
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
RESULTS = Path(__file__).parents[1] / "results"  # the committed results


@dataclass(frozen=True)
class Run:
    """A configuration with its identity: `hash` covers the IDENTITY groups (a null of `train` is as if the setting were
    not there) and the data fingerprint, `recipe` all of it but the seeds. `parent` is the run that it starts from."""

    cfg: DictConfig
    fingerprint: str
    hash: str
    recipe: str
    name: str
    parent: Run | None

    @classmethod
    def of(cls, cfg: DictConfig) -> Run:
        """The run of a configuration. Raises UserError for settings that no run can have."""
        check(cfg)
        cells.check(cfg)
        data = fingerprint(cfg.data, cfg.seeds.kmeans)
        groups = {group: OmegaConf.to_container(cfg[group], resolve=True) for group in IDENTITY}
        groups["train"] = {key: value for key, value in groups["train"].items() if value is not None}
        groups["data"] = data
        parent = parent_of(cfg)
        if parent is not None:
            parent = cls.of(parent)
            groups["parent"] = parent.hash
        digest = _digest(groups)
        method = make(cfg.method)
        if parent is not None:
            method.check_parent(make(parent.cfg.method))
        experts = f"-n{method.n_experts}" if method.n_experts else ""
        recipe = _digest({group: value for group, value in groups.items() if group != "seeds"}
                         | ({"parent": parent.recipe} if parent else {}))
        name = f"{method.label}{experts}-{cfg.scale_name}-s{cfg.seed}-{digest[:8]}"
        return cls(cfg, data, digest, recipe, name, parent)

    @property
    def folder(self) -> Path:
        return Path(self.cfg.home) / "runs" / self.name

    @property
    def trained(self) -> bool:
        return all((self.folder / name).exists() for name in ("training.json", "model.safetensors"))

    @property
    def records(self) -> Path:
        """Where the records of this evaluation lie once it is done."""
        evaluate = OmegaConf.to_container(self.cfg.evaluate, resolve=True)
        return self.folder / f"records-{_digest(evaluate)[:8]}.jsonl"

    @property
    def done(self) -> bool:
        return self.trained and self.records.exists()

    @property
    def is_trial(self) -> bool:
        """A tuning trial: it never opens the test parts."""
        return "test" not in self.cfg.evaluate.parts

    @property
    def skippable(self) -> bool:
        """Done here, or, with skip_published, among the committed results."""
        published = RESULTS / "records.jsonl"
        if self.done or not (self.cfg.skip_published and published.exists()):
            return self.done
        own = [record for record in read_records(published) if record["config_hash"] == self.hash]
        e = self.cfg.evaluate
        asked = [("part", e.parts), ("budget_tokens", e.budgets)]
        if e.documents and make(self.cfg.method).takes_h:
            asked += [("n_documents", e.documents), ("estimator", e.estimators)]
        return bool(own) and all(set(values) <= {record[field] for record in own} for field, values in asked)

    def status(self) -> str:
        """done, `failed: why`, `stopped: where`, running, killed, or not run."""
        if self.done:
            return "done"
        path = self.folder / "status"
        status = path.read_text() if path.exists() else "not run"
        return "killed; the same command goes on" if status == "running" and not self.in_hand else status

    @property
    def in_hand(self) -> bool:
        """Whether a process, of this command or another, is at it."""
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return False
        except Timeout:
            return True


def check(cfg: DictConfig) -> None:
    """Raises UserError for settings of `train`, seeds or threads that no run can have."""
    counts = {f"train.{name}": cfg.train[name] for name in COUNTS} | ({"threads": cfg.threads} if cfg.threads else {})
    if wrong := [name for name, value in counts.items() if not isinstance(value, int | float) or value < 1]:
        raise UserError(f"{wrong[0]} is {counts[wrong[0]]}: it must be a number from 1")
    if wrong := [name for name, value in cfg.seeds.items() if not isinstance(value, int) or value < 0]:
        raise UserError(f"seeds.{wrong[0]} is {cfg.seeds[wrong[0]]}: it must be a whole number from 0")
    if wrong := [name for name, value in cfg.train.optimizer.items() if not isinstance(value, int | float)]:
        raise UserError(f"train.optimizer.{wrong[0]} is {cfg.train.optimizer[wrong[0]]}: it must be a number")
    if cfg.train.precision not in PRECISIONS:
        raise UserError(f"train.precision is {cfg.train.precision!r}: it must be one of {', '.join(PRECISIONS)}")
    if cfg.train.moments not in (None, *PRECISIONS):
        raise UserError(f"train.moments is {cfg.train.moments!r}: it must be null or one of {', '.join(PRECISIONS)}")
    if cfg.train.compile not in (None, True):
        raise UserError(f"train.compile is {cfg.train.compile!r}: it must be null or true")


def parent_of(cfg: DictConfig) -> DictConfig | None:
    """The configuration of the run that a method starts from: method.parent.method on its share of the tokens."""
    parent = cfg.method.get("parent")
    if not parent:
        return None
    if not 0 < parent.share <= 1:
        raise UserError(f"method.parent.share is {parent.share}: it must be in (0, 1]")
    other = with_method(cfg, parent.method)
    if parent.get("learning_rate"):
        other.method.learning_rate = parent.learning_rate
    other.train.tokens = round(parent.share * cfg.train.tokens)
    return other


def _digest(groups: dict) -> str:
    return hashlib.sha256(json.dumps(groups, sort_keys=True).encode()).hexdigest()


def build(run: Run, corpus: Corpus | None, device: str | None = None) -> Method:
    """The method with its parameters at their initialisation, on the run's device unless told.

    Without a corpus, for planning: uniform weights, and no parent's tensors.
    """
    cfg = run.cfg

    def initial(seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with torch.device("meta" if device == "meta" else "cpu"):  # the same numbers on every device
                return make(cfg.model.base).to(device=device or cfg.device)

    parent = None
    if corpus is None:
        uniform = np.full(cfg.data.k, 1 / cfg.data.k)
        names = cfg.data.get("specialists") or range(SPECIALISTS)
        facts = {"h_0": uniform, "centroids": np.random.default_rng(0).normal(size=(cfg.data.k, 8)),
                 "specialists": {str(name): uniform for name in names}}
    else:
        weights = {name: domain_weights(corpus, name, "estimate") for name in corpus.specialists}
        facts = {"h_0": corpus.h_0, "centroids": corpus.centroids, "specialists": weights}
        if run.parent:
            parent = {name: tensor.to(device or cfg.device)
                      for name, tensor in checkpoint.load(run.parent.folder / "model.safetensors")[0].items()}
    method = make(cfg.method)
    method.build(Setup(
        initial(cfg.seeds.init), length=cfg.train.length, sequences=cfg.train.batch_size, draws=cfg.train.draws,
        optimizer=Optimizer(**cfg.train.optimizer), precision=cfg.train.precision, seed=cfg.seeds.init,
        backward=compiled_backward() if cfg.train.compile and corpus is not None else recorded_backward(),
        moments=getattr(torch, cfg.train.moments) if cfg.train.moments else None, initial=initial, parent=parent,
        **facts,
    ))
    total_steps(cfg, method)
    return method


def sampler(run: Run, corpus: Corpus, method: Method) -> Mixture:
    """The source of the run's batches: a method with a parent goes on where the parent's stopped."""
    streams = [corpus.domain_tokens(i) for i in range(corpus.k)]
    mixture = Mixture(streams, run.cfg.train.length, run.cfg.seeds.data, method.streams)
    if run.parent:
        taken = checkpoint.load(run.parent.folder / "model.safetensors")[1]["taken"]
        mixture.taken[:] = np.max(taken, axis=0)  # of a parent that is several models, the farthest
    return mixture


def prepare_process(cfg: DictConfig) -> None:
    """Sets the number of threads, and has glibc keep freed memory: it would hand each step's large buffers back to the
    system and fault them in anew (a step is 1.4 times as fast without; another C library has no such setting)."""
    torch.set_num_threads(cfg.threads or torch.get_num_threads())
    torch.backends.cuda.enable_cudnn_sdp(False)  # torch 2.11 compiles a call of it under vmap that fails when it runs
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**30) or libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # an older one's largest
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def execute(cfg: DictConfig) -> None:
    """Trains and evaluates one run, unless it is done. Raises UserError on bad input, Interrupted on a stop request.

    Under torchrun every process calls this; the first one decides what is to be done and writes what comes out.
    """
    run = Run.of(cfg)
    if not distributed.on_first(lambda: run.skippable):
        with stop_requests(at_once=True):  # training alone, inside, must not be cut
            _execute(run)


def _execute(run: Run, as_parent: bool = False) -> None:
    """Of a parent the training alone is needed, and another process that has it in hand is waited for."""
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
    """Takes the lock of a run; False if there is nothing left to do, or another process is at it."""
    while not lock.is_locked:
        try:
            lock.acquire(timeout=1 if as_parent else 0)
        except Timeout:
            if not as_parent:
                log.info("%s is being run by another process", run.name)
                return False
            if STOP.is_set():
                raise Interrupted(f"stopped while waiting for {run.name}; the same command goes on") from None
    if run.trained:
        checkpoint.drop(run.folder)  # a kill may have come between
    if run.trained if as_parent else run.done:  # before, or by another process
        return False
    write_text(run.folder / "status", "running")
    return True


def _train_and_evaluate(run: Run, evaluate: bool) -> None:
    cfg, folder = run.cfg, run.folder
    prepare_process(cfg)
    corpus = open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans)
    reset_peak_memory()
    method = build(run, corpus)
    _write(folder / "config.json", json.dumps(OmegaConf.to_container(cfg, resolve=True), indent=1))
    with Tracker(cfg, run.name, folder) as tracker:
        if run.trained:
            load_parameters(method, folder)
        else:
            _train(run, method, corpus, tracker)
        if not evaluate:
            return
        log.info("%s  evaluating on %d specialists", run.name, len(corpus.specialists))
        facts = json.loads((folder / "training.json").read_text()) | {"sweep": cfg.sweep_name}
        facts["trained_for"] = method.trained_for
        tracker.table("records", cells.evaluate_all(cfg, method, corpus, facts, run.records))


def _train(run: Run, method: Method, corpus: Corpus, tracker: Tracker) -> None:
    cfg, folder = run.cfg, run.folder
    distributed.on_first(_forget, folder)
    mixture = sampler(run, corpus, method)
    progress = train(cfg, run.name, method, mixture, folder, tracker,
                     lambda: cells.validation_loss(cfg, method, corpus))
    state = {"run": run.name, "config_hash": run.hash, "taken": mixture.taken.tolist()}
    save_parameters(method, folder, state)
    _write(folder / "alpha.csv", cells.alpha_table(method, corpus).to_csv(index=False, float_format="%.6g"))
    _write(folder / "training.json", json.dumps(shared_fields(run, method, mixture, progress), indent=1))
    distributed.on_first(checkpoint.drop, folder)


def _forget(folder: Path) -> None:
    """What is left of an earlier training, so that a kill in this one cannot pass for its end."""
    for path in (folder / "training.json", *folder.glob("records-*.jsonl"), *folder.glob("*.partial")):
        path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Written by the first process; when this returns, all can read it."""
    distributed.on_first(write_text, path, text)


def save_parameters(method: Method, folder: Path, state: dict) -> None:
    """Writes the parameters of a trained method: its tensors whose names end in `.value`."""
    values = {name: tensor for name, tensor in method.tensors().items() if name.endswith(".value")}
    checkpoint.save(folder / "model.safetensors", values, state)


def load_parameters(method: Method, folder: Path) -> None:
    """Copies the parameters of a trained run into its method, built anew. Raises UserError if the file is damaged."""
    values, _ = checkpoint.load(folder / "model.safetensors")
    for name, tensor in method.tensors().items():
        if name.endswith(".value"):
            tensor.copy_(values[name])


def shared_fields(run: Run, method: Method, mixture: Mixture, progress: Progress) -> dict:
    """The fields that all records of a run share."""
    cfg, cost, steps = run.cfg, method.cost(), total_steps(run.cfg, method)
    memory = int(distributed.total(torch.tensor(peak_memory(cfg.device)))[0])  # of all processes
    before = {"training_tokens": 0, "flops": 0, "seconds": 0.0}
    if run.parent:
        before = json.loads((run.parent.folder / "training.json").read_text())
    return {
        "schema": SCHEMA, "run_id": run.hash[:16], "method": method.label, "n_experts": method.n_experts,
        "recipe": run.recipe[:16], "sweep": cfg.sweep_name, "scale": cfg.scale_name, "model": cfg.model.name,
        "parameters": Flat(method.setup.base).size, "pi": method.pi, "draws_per_step": cfg.train.draws,
        "parent": run.parent.hash[:16] if run.parent else None,
        "seed_data": cfg.seeds.data, "seed_init": cfg.seeds.init, "seed_mix": cfg.seeds.mix,
        "seed_kmeans": cfg.seeds.kmeans, "data": cfg.data.name, "data_fingerprint": run.fingerprint,
        "training_tokens": before["training_tokens"] + steps * tokens_per_step(cfg),
        "flops": before["flops"] + steps * cost["flops_per_step"],
        "seconds": round(before["seconds"] + progress.seconds, 2), "peak_memory_bytes": memory,
        "stored_parameters": cost["stored_parameters"], "deployed_parameters": cost["deployed_parameters"],
        "threads": torch.get_num_threads(), "precision": cfg.train.precision,
        "device": f"{distributed.size()} x " * (distributed.size() > 1) + device_name(cfg.device),
        "max_epochs": round(float(mixture.epochs.max()), 3), **git_state(), "config_hash": run.hash,
    }
