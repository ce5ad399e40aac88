"""A trained run, opened again."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from soe_bench.data import corpus as corpora
from soe_bench.data.corpus import Corpus
from soe_bench.errors import UserError
from soe_bench.method import Method
from soe_bench.records import read_config, read_training
from soe_bench.runs.build import build_method, load_parameters
from soe_bench.runs.run import Run
from soe_bench.system.places import find_run


def load_run(place: str | Path) -> tuple[Method, Corpus]:
    """The method of a trained run, with its parameters, on the CPU, and its corpus. `place`: the run's name or folder.

    `method.specialist(h)` is then the model for domain weights h (k,); for a method that takes no h, or a model for
    each specialist, see `Method.specialist`. Raises UserError if there is no such run, it is damaged, or its
    configuration is no longer what it was.
    """
    folder = find_run(place)
    cfg, training = read_config(folder), read_training(folder)
    cfg["home"] = str(folder.resolve().parents[1])
    corpus = corpora.load(corpus_folder(folder, training))
    run = Run.of(OmegaConf.create(cfg), training["data_fingerprint"])
    if run.hash[:16] != training["run_id"]:
        raise UserError(f"{folder} was trained with other settings than its config.json has: train it again")
    method = build_method(run, corpus, device="cpu")
    load_parameters(method, folder)
    return method, corpus


def corpus_folder(run: Path, training: dict) -> Path:
    """The corpus of a run: beside its runs folder."""
    return corpora.named(training["data"], run.resolve().parents[1], training["data_fingerprint"])
