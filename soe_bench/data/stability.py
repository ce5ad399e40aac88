"""How far the domains depend on the k-means seed and on the embedder: adjusted Rand indices between clusterings."""

from collections.abc import Sequence
from itertools import combinations

import pandas as pd
from sklearn.metrics import adjusted_rand_score

from soe_bench.data.corpus import Corpus
from soe_bench.data.domains import cluster, nearest
from soe_bench.data.splits import GENERIC, spread
from soe_bench.errors import UserError

COLUMNS = ["first", "second", "passages", "domains", "adjusted_rand_index"]


def between_seeds(corpus: Corpus, seeds: Sequence[int], passages: int) -> pd.DataFrame:
    """One row per pair of k-means seeds: the same sample of generic training passages is clustered with each seed, into
    as many domains as the corpus has. An index of 1 means the same domains, 0 as much agreement as by chance.

    Raises UserError if there are fewer passages than domains.
    """
    rows = corpus.rows(GENERIC, "train")
    rows = rows.iloc[spread(range(len(rows)), passages)]
    if len(rows) < corpus.k:
        raise UserError(f"{len(rows)} passages cannot form {corpus.k} domains: raise --passages")
    vectors, tokens = corpus.embedder.embed(corpus.texts(rows)), rows.tokens.to_numpy()
    labels = {seed: nearest(vectors, cluster(vectors, tokens, corpus.k, 0, seed))[0] for seed in seeds}
    found = [
        (f"seed {a}", f"seed {b}", len(rows), f"{corpus.k}, {corpus.k}", adjusted_rand_score(labels[a], labels[b]))
        for a, b in combinations(seeds, 2)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def between_corpora(corpora: Sequence[Corpus]) -> pd.DataFrame:
    """One row per pair of corpora, such as the same text under two embedders. It compares the stored domains of the
    generic training passages that both hold. Raises UserError if two corpora share none.
    """
    labels = []
    for corpus in corpora:
        rows = corpus.rows(GENERIC, "train")
        labels.append(pd.Series(rows.domain.to_numpy(), index=corpus.texts(rows)))
    found = []
    for (one, first), (other, second) in combinations(zip(labels, corpora, strict=True), 2):
        a, b = first.path.name, second.path.name
        both = pd.concat([one, other], axis=1, join="inner")
        if both.empty:
            raise UserError(f"{a} and {b} share no generic training text: give corpora of the same data")
        value = adjusted_rand_score(both[0], both[1])
        found.append((a, b, len(both), f"{first.k}, {second.k}", value))
    return pd.DataFrame(found, columns=COLUMNS)
