"""One run: its identity and its folder.

A run folder lies under <home>/runs, outside the checkout. It holds config.json, metrics.jsonl, and checkpoints while it
trains; then model.safetensors, alpha.csv, files.json (hashes) and, written last, training.json; and
records-<digest>.jsonl for each way in which it was evaluated (.partial until it is complete).

The same configuration has the same folder. So a trained run is never trained again, however it is evaluated, and an
interrupted run goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf, open_dict

from soe_bench.config import CONF, conf_file, identity, make, with_method
from soe_bench.data.corpus import fingerprint

AS_PARENT = "running as a parent"  # status of a run that another one waits for: it is trained, not evaluated
IDENTITY = ("method", "model", "train", "seeds")  # what identifies a run; evaluation, paths, logger, threads do not
# How often a run is saved and looked at is no part of it either. Its hash has these values, whatever they are, so that
# runs keep the names that they had when they were.
WATCHED = {"checkpoint_every": 500, "validations": 10, "curve_tokens": 2048}


@dataclass(frozen=True)
class Run:
    """A configuration with its identity. `hash` covers the IDENTITY groups (without the nulls of `train` and what is
    WATCHED), the data fingerprint, and the method's `version`; `recipe` covers the same without the seeds. `parent` is
    the run that this one starts from."""

    cfg: DictConfig
    fingerprint: str
    hash: str
    recipe: str
    name: str
    parent: Run | None

    @classmethod
    def of(cls, cfg: DictConfig, data: str | None = None) -> Run:
        """The run of a configuration that keeps the rules of settings/. `data`: the corpus's fingerprint, if it is
        known, so that the text need not be there. Raises UserError for a method that refuses its settings or its
        parent."""
        data = data or fingerprint(cfg.data, cfg.seeds.kmeans)
        groups = {group: identity(OmegaConf.to_container(cfg[group], resolve=True)) for group in IDENTITY}
        groups["train"] = {key: value for key, value in groups["train"].items() if value is not None} | WATCHED
        groups["data"] = data
        start = parent_of(cfg)
        parent = None if start is None else cls.of(start, data)
        if parent is not None:
            groups["parent"] = parent.hash
        method = make(cfg.method)
        if method.version > 1:  # the first version left no mark in the names of its runs
            groups["version"] = method.version
        digest = _digest(groups)
        if parent is not None:
            method.start_from(make(parent.cfg.method))
        experts = f"-n{method.n_experts}" if method.n_experts else ""
        recipe = _digest(
            {group: value for group, value in groups.items() if group != "seeds"}
            | ({"parent": parent.recipe} if parent else {})
        )
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
        """A tuning trial: it never opens the test splits."""
        return "test" not in self.cfg.evaluate.splits

    def status(self) -> str:
        """done, `failed: why`, `stopped at step ...`, running, killed, or not run."""
        if self.done:
            return "done"
        status = self._written_status
        if not re.fullmatch(rf"not run|running|{AS_PARENT}|(failed|stopped): \S.*", status):
            return f"unknown, as {self.folder / 'status'} is damaged; the same command goes on"
        if status in ("running", AS_PARENT) and not self.in_hand:
            return "killed; the same command goes on"
        return status.replace("stopped: stopped", "stopped", 1)  # what a stop says begins so itself

    @property
    def in_hand_as_parent(self) -> bool:
        """Whether the process that works on it only trains it, for a run that starts from it."""
        return self._written_status in ("not run", AS_PARENT)  # not run: it has not begun, or has just ended

    @property
    def _written_status(self) -> str:
        try:
            return (self.folder / "status").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "not run"

    @property
    def in_hand(self) -> bool:
        """Whether a process, of this command or another, is working on it."""
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return False
        except Timeout:
            return True


def parent_of(cfg: DictConfig) -> DictConfig | None:
    """The configuration of the run that a method starts from: method.parent.method on method.parent.fraction of the
    tokens, with method.parent.lr and method.parent.n_experts (null: its own). None if it starts from scratch.

    A parent on all tokens is the run that has its own record, so it has what conf/tuned says. A shorter one has not,
    because what is there was tuned on all tokens."""
    parent = cfg.method.get("parent")
    if not parent:
        return None
    other = with_method(cfg, parent.method, tuned=parent.fraction == 1)
    with open_dict(other):
        other.method.update({key: parent[key] for key in ("lr", "n_experts") if parent.get(key)})
    other.train.tokens = round(parent.fraction * cfg.train.tokens)
    return other


def model_name(cfg: DictConfig) -> str:
    """The name of the base model, and in brackets what is not as its file in conf/model says, and a length of the
    context that is not the scale's: losses of such models are never put into one table with those of the others."""
    base, odd = cfg.model.base, []
    if own := conf_file("model", cfg.model.name):
        usual = [OmegaConf.select(OmegaConf.load(path), "base") for path in (CONF / "model" / "_base.yaml", own)]
        expected = OmegaConf.merge(
            cfg, {"model": {"base": None}}, {"model": {"base": OmegaConf.merge(*usual)}}
        ).model.base
        odd = [f"{key}={base.get(key)}" for key in sorted({*base, *expected}) if base.get(key) != expected.get(key)]
    lengths = [CONF / "config.yaml", conf_file("scale", cfg.scale_name)]
    length = [OmegaConf.select(OmegaConf.load(path), "train.seq_len") for path in lengths if path]
    if cfg.train.seq_len != [each for each in length if each][-1]:
        odd.append(f"seq_len={cfg.train.seq_len}")
    return cfg.model.name + (f" ({', '.join(odd)})" if odd else "")


def _digest(groups: Any) -> str:
    return hashlib.sha256(json.dumps(groups, sort_keys=True).encode()).hexdigest()
