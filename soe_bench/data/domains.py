"""Domains: k-means clusters of the generic training text, small ones merged, and their readable summaries."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from soe_bench.data.embed import Embedder
from soe_bench.data.words import count

log = logging.getLogger("soe_bench")
BLOCK = 2**23  # distances that are held at once: 64 MB


def squared_distances(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(N, k) squared Euclidean distances of vectors (N, d) to centroids (k, d); rounding may give less than 0."""
    with threadpool_limits(1):
        return (vectors**2).sum(1)[:, None] - 2 * vectors @ centroids.T + (centroids**2).sum(1)


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of and Euclidean distance to the nearest centroid, (N,) int64 and (N,) float32, for vectors (N, d) and
    centroids (k, d).
    """
    domains, squares = np.empty(len(vectors), np.int64), np.empty(len(vectors))
    rows = max(BLOCK // len(centroids), 1)
    for start in range(0, len(vectors), rows):
        block = slice(start, start + rows)
        squared = squared_distances(vectors[block], centroids)
        domains[block], squares[block] = squared.argmin(1), squared.min(1)
    return domains, np.sqrt(np.maximum(squares, 0)).astype(np.float32)


def cluster(vectors: np.ndarray, tokens: np.ndarray, k: int, minimum_tokens: int, seed: int) -> np.ndarray:
    """(k', d) centroids, k' <= k: the smallest cluster is dissolved into its neighbours until every one holds
    `minimum_tokens` tokens.

    vectors (N, d), tokens (N,): one row per passage of generic training text. k-means runs in float64: in float32 the
    rounding of another processor can change the initial centroids, and with them the domains.
    """
    with threadpool_limits(1):  # with several threads the order of summation would change from run to run
        fitted = KMeans(k, n_init=2, max_iter=100, random_state=seed).fit(vectors.astype(float), sample_weight=tokens)
    centroids, kept = fitted.cluster_centers_, np.arange(k)
    own = nearest(vectors, centroids)[0]
    while len(kept) > 1:
        sizes = np.bincount(own, weights=tokens, minlength=k)[kept]
        if sizes.min() >= max(1, minimum_tokens):  # of like vectors fewer clusters may be made than asked for
            break
        smallest = kept[sizes.argmin()]
        kept = kept[kept != smallest]
        if (lost := own == smallest).any():  # the others stay where they are, as no centroid moves
            own[lost] = kept[nearest(vectors[lost], centroids[kept])[0]]
    centroids = centroids[kept]
    if len(centroids) < k:
        log.info(
            "%d of %d clusters were below %d tokens and were merged: k = %d",
            k - len(centroids),
            k,
            minimum_tokens,
            len(centroids),
        )
    return centroids


def weights(domains: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
    """(k,) float64 token-weighted share of each domain, sums to 1: a histogram h, or h_0 for the whole generic text."""
    counts = np.bincount(domains, weights=tokens, minlength=k)
    return counts / counts.sum()


def effective_number(h: np.ndarray) -> float:
    """exp of the entropy of the domain weights h (k,): how many domains share them equally."""
    positive = h[h > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def summary(table: pd.DataFrame, texts: Sequence[str], embedder: Embedder, k: int) -> pd.DataFrame:
    """One row per domain: domain, tokens, passages, fraction (its h_0), top_sources (by tokens), and top_terms (the
    most over-represented words of a sample).

    table: the generic training passages (source, domain, tokens) in the order of `texts`.
    """
    positions = table.groupby("domain").indices
    sample = [positions[i][:: max(1, len(positions[i]) // 100)][:100] for i in range(k)]
    found = np.stack(
        [np.asarray((count(embedder.terms, [texts[j] for j in rows]) > 0).sum(0)).ravel() for rows in sample]
    )
    frequency = found / np.array([len(rows) for rows in sample])[:, None]
    score = frequency * np.log((frequency + 0.01) / (frequency.mean(0) + 0.01))
    rows = []
    for i in range(k):
        rows_i = table.iloc[positions[i]]
        sources = rows_i.groupby("source").tokens.sum().sort_values(ascending=False) / rows_i.tokens.sum()
        rows.append(
            {
                "domain": i,
                "tokens": rows_i.tokens.sum(),
                "passages": len(rows_i),
                "fraction": rows_i.tokens.sum() / table.tokens.sum(),
                "top_sources": "; ".join(f"{name} {share:.0%}" for name, share in sources.head(3).items()),
                "top_terms": " ".join(embedder.terms[j] for j in score[i].argsort()[::-1][:10]),
            }
        )
    return pd.DataFrame(rows)
