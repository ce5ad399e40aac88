"""Builds the method of a run, with its parameters, and the source of its batches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from soe_bench import checkpoint
from soe_bench.config import make
from soe_bench.data.builder import open_corpus, specialist_rules
from soe_bench.data.corpus import Corpus
from soe_bench.errors import UserError
from soe_bench.estimate import own_weights
from soe_bench.method import Method, MethodContext
from soe_bench.mixture import Mixture
from soe_bench.ops.adamw import Optimizer
from soe_bench.ops.flat import forward
from soe_bench.ops.traced import compiled_backward, recorded_backward
from soe_bench.runs.run import Run
from soe_bench.train import total_steps

SPECIALISTS = 16  # the number that a plan assumes if neither the configuration nor the folder names them


def corpus_of(run: Run) -> Corpus:
    """The corpus of a run, built if it is not there yet: of the text as it was when the run got its name. Raises
    UserError if that is not there and the text is no longer the same."""
    return open_corpus(run.cfg.data, Path(run.cfg.home), run.cfg.seeds.kmeans, run.fingerprint)


def build_method(run: Run, corpus: Corpus | None, device: str | None = None) -> Method:
    """The method with its parameters at their initialisation, on `device` (default: the run's).

    Without a corpus, for planning, it has uniform domain weights and none of the parent's tensors. Raises UserError for
    settings that the method refuses.
    """
    cfg = run.cfg
    initial = partial(initial_base, cfg, device=device or cfg.device)
    parent = None
    if corpus is None:
        uniform = np.full(cfg.data.k, 1 / cfg.data.k)
        names = list(specialist_rules(make(cfg.data.source), cfg.data)) or range(SPECIALISTS)
        facts: dict[str, Any] = {
            "h_0": uniform,
            "centroids": np.random.default_rng(0).normal(size=(cfg.data.k, 8)),
            "specialists": {str(name): uniform for name in names},
        }
    else:
        weights = {name: own_weights(corpus, name) for name in corpus.specialists}
        facts = {
            "h_0": corpus.h_0,
            "centroids": corpus.centroids,
            "domain_tokens": corpus.domain_tokens,
            "specialists": weights,
        }
        if run.parent:
            parent = {
                name: tensor.to(device or cfg.device)
                for name, tensor in checkpoint.load(run.parent.folder / "model.safetensors")[0].items()
            }
    base = initial(cfg.seeds.init)
    check_base(base)
    method = make(cfg.method)
    if run.parent:
        method.start_from(make(run.parent.cfg.method))
    facts |= {
        "backward": compiled_backward() if cfg.train.compile and corpus is not None else recorded_backward(),
        "moments": getattr(torch, cfg.train.moments) if cfg.train.moments else None,
        "parent": parent,
    }
    method.build(context_of(cfg, base, initial=initial, **facts))
    method.steps = total_steps(cfg, method)
    return method


def context_of(cfg: DictConfig, base: torch.nn.Module, **facts: Any) -> MethodContext:
    """What a method is built from: the settings of its run, and these facts."""
    return MethodContext(
        base,
        seq_len=cfg.train.seq_len,
        sequences=cfg.train.batch_size,
        draws_per_step=cfg.train.draws_per_step,
        optimizer=Optimizer(**cfg.train.optimizer),
        precision=cfg.train.precision,
        seed=cfg.seeds.init,
        **facts,
    )


def initial_base(cfg: DictConfig, seed: int, device: str = "cpu") -> torch.nn.Module:
    """The base model at the initialisation of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.device("meta" if device == "meta" else "cpu"):  # the same numbers on every device
            return make(cfg.model.base).to(device=device).eval()


def check_base(base: torch.nn.Module) -> None:
    """Raises UserError for a base model with batch normalisation, which takes its statistics from the batches of
    training: in evaluation mode they would stay as they were at the start. Also for one that torch.vmap cannot run at
    the parameters of two draws in one pass, as training does, or that is random, which vmap refuses."""
    for part in base.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"model.base has a {type(part).__name__}, whose statistics are not learned here: use a norm without "
                "any, such as LayerNorm or RMSNorm"
            )
    two = {name: value.detach().expand(2, *value.shape) for name, value in base.named_parameters()}
    device = next(iter(two.values())).device
    if device.type == "meta":  # where not every module can run
        return
    try:
        forward(base, two, torch.zeros(2, 1, 2, dtype=torch.long, device=device))
    except RuntimeError as error:
        why = str(error).partition(". ")[0].splitlines()[0]
        raise UserError(
            f"model.base cannot run at the parameters of two draws in one pass ({why}): it must be made of operations "
            "that torch.vmap can batch, none of them random"
        ) from error


def sampler(run: Run, corpus: Corpus, method: Method) -> Mixture:
    """The source of the run's batches: a method with a parent goes on where the parent's stopped."""
    streams = [corpus.domain_tokens(i) for i in range(corpus.k)]
    mixture = Mixture(streams, run.cfg.train.seq_len, run.cfg.seeds.data, method.n_models)
    if run.parent:
        taken = checkpoint.load(run.parent.folder / "model.safetensors")[1]["taken"]
        mixture.taken[:] = np.max(taken, axis=0)  # if the parent is several models, start after the farthest
    return mixture


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
