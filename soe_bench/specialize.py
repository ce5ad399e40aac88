"""The domain weights each specialist is evaluated at: Algorithm 3's estimate, and the controls that show h matters."""

from __future__ import annotations

import numpy as np

from soe_bench.data.corpus import Corpus

CONTROLS = ("uniform", "shuffled", "h_0", "zero")


def domain_weights(corpus: Corpus, specialist: str, h_source: str) -> np.ndarray | None:
    """(k,) weights for a specialist, by source; None stands for no domain information.

    `estimate`: normalised counts of the nearest centroids of its estimate documents (Algorithm 3; generic text: h_0).
    `uniform`: 1/k. `shuffled`: the estimate of the next specialist in the alphabet. `h_0`: the generic weights.
    `zero` (alpha = 0, the shared parameters alone) and `none` (the method takes no h): None.
    """
    if h_source in ("zero", "none"):
        return None
    if h_source == "uniform":
        return np.full(corpus.k, 1 / corpus.k)
    if h_source == "h_0" or specialist == "generic":
        return corpus.h_0
    if h_source == "shuffled":
        names = corpus.specialists
        specialist = names[(names.index(specialist) + 1) % len(names)]
    return corpus.histogram(specialist)
