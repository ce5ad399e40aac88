"""python -m soe_bench.closeness method=NAME [pairs=N] [key=value ...]: how close trained models are (claim C3).

The models are the domain experts of a run (from a common parent, from separate initialisations, or these as
merge_aligned permutes them) or the specialists of a soup. They are compared two at a time: by the distance and the
cosines of their parameter vectors, and for at most `pairs` pairs per run (24 by default) by the loss along the straight
line between them, on held-out text of both. The results go to results_dir/distances.csv.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.domain_experts import DomainExperts, SeparateExperts, group_mixtures
from baselines.merge_aligned import MergeAligned
from soe_bench.config import job_configs, make, quoted
from soe_bench.data.corpus import Corpus
from soe_bench.data.splits import GENERIC, spread
from soe_bench.errors import UserError
from soe_bench.estimate import own_weights
from soe_bench.evaluate import mean_loss
from soe_bench.method import Method, with_parameters
from soe_bench.runs.build import build_method, corpus_of, load_parameters
from soe_bench.runs.collect import check_results, collect_distances
from soe_bench.runs.run import Run
from soe_bench.system.arguments import command, count, read, wants_help
from soe_bench.system.machine import prepare_process

PAIRS = 24  # pairs with losses: every model with its nearest, and some others
POINTS = 11  # on the line between two models, the ends included
PASSAGES = 8  # passages of each model's own text: about 4,000 tokens


@dataclass(frozen=True)
class Models:
    """The m models of a run that are compared: their parameters `theta` (m, P); the parameters `origin` (P,) that all
    of them started from, or None; `texts`, held-out passages (token ids) of each model's own domains; and `places`
    (m, d), the mean centroid of each model's domains."""

    family: str
    names: list[str]
    theta: Tensor
    origin: Tensor | None
    texts: list[list[np.ndarray]]
    places: np.ndarray


def check_kind(method: Method) -> None:
    """Raises UserError for a method of one model."""
    if not (isinstance(method, (DomainExperts, MergeAligned)) or method.n_experts):
        raise UserError(
            f"{method.label} is one model: give domain_experts, separate_experts, merge_aligned or a soup with experts"
        )


def models_of(method: Method, corpus: Corpus) -> Models:
    """The models of a trained method that `check_kind` accepts. Raises UserError if it aligns experts that have a
    common parent.

    The own text of a domain expert is the generic validation text of its domains, which may be empty. The own text of a
    soup's specialist is its validation split; the origin of a soup's specialists is the shared parameters.
    """
    if isinstance(method, DomainExperts):
        separate = isinstance(method, SeparateExperts)
        family, origin = ("separate", None) if separate else ("common_parent", method.common[0])
        return _experts(family, method.models.value, origin, method.own, corpus)
    if isinstance(method, MergeAligned):
        if not isinstance(method.experts, SeparateExperts):
            raise UserError(
                f"{method.label} is for experts from separate initialisations, and these have a common parent: set "
                "method.parent.method=separate_experts"
            )
        return _experts("aligned", method.models, None, group_mixtures(method.context, method.count), corpus)
    h = np.stack([own_weights(corpus, name) for name in corpus.specialists])
    texts = [_passages(corpus, corpus.rows(name, "validation")) for name in corpus.specialists]
    with torch.no_grad():
        theta = method.instantiate(method.coefficients(h))
    return Models("soup", corpus.specialists, theta, method.parameters_at(None)[0], texts, h @ corpus.centroids)


def _experts(family: str, theta: Tensor, origin: Tensor | None, mixtures: np.ndarray, corpus: Corpus) -> Models:
    """Experts theta (m, P) of groups of domains, given as mixtures (m, k)."""
    rows = corpus.rows(GENERIC, "validation")
    texts = [_passages(corpus, rows[rows.domain.isin(np.flatnonzero(own))]) for own in mixtures]
    names = [f"group{group:02d}" for group in range(len(mixtures))]
    return Models(family, names, theta, origin, texts, mixtures @ corpus.centroids)


def _passages(corpus: Corpus, rows: pd.DataFrame) -> list[np.ndarray]:
    return spread(corpus.tokens(rows), PASSAGES)


def geometry(one: Tensor, other: Tensor, origin: Tensor | None) -> dict[str, float | None]:
    """Measures of two parameter vectors (P,): `distance`, the norm of their difference over the mean of their norms;
    `cosine`; and `cosine_of_updates`, the cosine of their differences from `origin` (None without one)."""
    one, other = one.double(), other.double()
    moved = None
    if origin is not None:
        moved = F.cosine_similarity(one - origin, other - origin, dim=0).item()
    return {
        "distance": ((one - other).norm() / ((one.norm() + other.norm()) / 2)).item(),
        "cosine": F.cosine_similarity(one, other, dim=0).item(),
        "cosine_of_updates": moved,
    }


def chosen_pairs(places: np.ndarray, count: int) -> list[tuple[int, int]]:
    """At most `count` pairs i < j: each model with the one whose domains are nearest, then others in a random order
    that depends only on the number of models."""
    squared = np.square(places[:, None] - places[None]).sum(-1)
    np.fill_diagonal(squared, np.inf)
    nearest = dict.fromkeys(tuple(sorted((i, int(j)))) for i, j in enumerate(squared.argmin(1)))
    every = list(combinations(range(len(places)), 2))
    others = [every[i] for i in np.random.default_rng(0).permutation(len(every)) if every[i] not in nearest]
    return [*nearest, *others][:count]


def barrier(losses: np.ndarray) -> float:
    """The highest excess of losses (N,) at equally spaced points over the straight line between the ends."""
    return float((losses - np.linspace(losses[0], losses[-1], len(losses))).max())


def line_losses(method: Method, models: Models, i: int, j: int) -> np.ndarray:
    """(POINTS, 2) losses in nats/token on the line from model i to model j, on the own text of i and of j."""
    line = [torch.lerp(models.theta[i], models.theta[j], t) for t in np.linspace(0, 1, POINTS)]
    return np.array([[loss(method, theta, models.texts[k]) for k in (i, j)] for theta in line])


def merging(losses: np.ndarray) -> dict[str, float]:
    """`barrier` of the mean of both texts' losses (POINTS, 2) along a line, and `merge_gap`: mean loss of its midpoint
    minus the mean of the two models' losses, each on its own text."""
    own = (losses[0, 0] + losses[-1, 1]) / 2
    return {"barrier": barrier(losses.mean(1)), "merge_gap": float(losses[len(losses) // 2].mean() - own)}


def loss(method: Method, theta: Tensor, text: list[np.ndarray]) -> float:
    """Nats/token of the base model with parameters theta (P,)."""
    return mean_loss(with_parameters(method.context.base, method.flat, theta), text, method.context.seq_len)


def closeness(method: Method, models: Models, count: int) -> pd.DataFrame:
    """One row per pair of models. `barrier` and `merge_gap` are measured for at most `count` pairs, and missing for the
    others and for models without own text. Prints first how much there is to do."""
    with_losses = [pair for pair in chosen_pairs(models.places, count) if all(models.texts[k] for k in pair)]
    evaluations = 2 * POINTS * len(with_losses)
    if evaluations:
        start = time.perf_counter()
        loss(method, models.theta[0], models.texts[with_losses[0][0]])
        seconds = evaluations * (time.perf_counter() - start)
        print(f"  {evaluations} evaluations for {len(with_losses)} pairs, about {seconds:.0f} s", flush=True)
    rows = []
    for i, j in combinations(range(len(models.names)), 2):
        losses = merging(line_losses(method, models, i, j)) if (i, j) in with_losses else {}
        rows.append(
            {
                "family": models.family,
                "one": models.names[i],
                "other": models.names[j],
                **geometry(models.theta[i], models.theta[j], models.origin),
                "barrier": losses.get("barrier"),
                "merge_gap": losses.get("merge_gap"),
            }
        )
    return pd.DataFrame(rows)


def measure(run: Run, count: int) -> pd.DataFrame:
    """The rows of distances.csv for a trained run."""
    prepare_process(run.cfg.threads)
    corpus = corpus_of(run)
    method = build_method(run, corpus)
    load_parameters(method, run.folder)
    models = models_of(method, corpus)
    print(f"{run.name}: {len(models.names)} models ({models.family})")
    table = closeness(method, models, count)
    for name, value in (("seed", run.cfg.seeds.data), ("method", method.label), ("run_id", run.hash[:16])):
        table.insert(0, name, value)
    return table


@command
def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    if wants_help(given):
        print(__doc__)
        return 0
    own = [argument for argument in given if argument.startswith("pairs=")]
    pairs = read(own, {"pairs": count}).get("pairs", PAIRS)
    rest = [argument for argument in given if argument not in own]
    runs = [Run.of(cfg) for cfg in job_configs([quoted(argument) for argument in rest])[0]]
    for run in runs:
        check_results(Path(run.cfg.results_dir), [run])
        check_kind(make(run.cfg.method))
        if not run.trained:
            raise UserError(f"{run.name} is not trained: run python -m soe_bench {shlex.join(rest)}")
    tables = [measure(run, pairs) for run in runs]
    collect_distances(tables, Path(runs[0].cfg.results_dir))
    print(f"{sum(map(len, tables))} pairs in {runs[0].cfg.results_dir}/distances.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
