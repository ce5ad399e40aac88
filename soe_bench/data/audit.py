"""What a built corpus holds, and whether text of one split also appears in another, recomputed from its tokens."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from scipy.sparse import csr_matrix

from soe_bench.data.corpus import Corpus
from soe_bench.data.passages import jaccard, shingles
from soe_bench.data.splits import GENERIC, generic_training
from soe_bench.data.summaries import read_summary
from soe_bench.data.verbatim import RUN, all_run_hashes

ROWS = 2000  # passages compared with all others at once


def audit(corpus: Corpus) -> bool:
    """Prints sizes, duplicates removed, domains, specialists and leakage; True if no text leaks between splits."""
    table, facts = corpus.passages, json.loads((corpus.path / "audit.json").read_text(encoding="utf-8"))
    threshold = OmegaConf.load(corpus.path / "config.yaml").duplicate_jaccard
    print(
        f"{corpus.name} {corpus.fingerprint[:12]}: {facts['documents']} documents, {len(table)} passages, "
        f"{table.tokens.sum():,} tokens, {table.bytes.sum():,} bytes, k = {corpus.k}\n"
    )
    sizes = table.assign(generic_training=table.tokens * generic_training(table)).groupby("source")
    columns = sizes[["tokens", "bytes", "generic_training"]].sum()
    print(columns.assign(documents=sizes.path.nunique()).sort_values("tokens", ascending=False).to_string(), "\n")
    for name in ("domains", "specialists"):
        print(read_summary(corpus.path, name).to_string(index=False), "\n")
    said = {
        "duplicates removed when it was built (within one split, or across two)": facts["duplicates_removed"],
        "notes": facts.get("notes", {}),
    }
    for title, counts in said.items():
        print(f"{title}: {', '.join(f'{count} x {kind}' for kind, count in counts.items()) or 'none'}")
    groups = (table.specialist + "/" + table.split).to_numpy()
    split = int((table.assign(group=groups).groupby(["source", "path"]).group.nunique() > 1).sum())
    pairs = leaks(corpus.texts(table), groups, threshold)
    exact = int(pairs.exact.sum())
    print(
        f"leakage between splits: {split} documents in two splits, {exact} exact and {len(pairs) - exact} near "
        f"duplicates (Jaccard >= {threshold} over runs of 5 words, every pair compared exactly)"
    )
    for pair in pairs.head(20).itertuples():
        print(f"  {pair.jaccard:.3f}  {_place(table, pair.first)}  {_place(table, pair.second)}")
    print(f"\nruns of {RUN} tokens of each test split that also stand, word for word, in text that is trained on:")
    print(verbatim(corpus).map("{:.1%}".format).to_string(), "\n")
    print("PASS" if split + len(pairs) == 0 else "FAIL")
    return split + len(pairs) == 0


def verbatim(corpus: Corpus) -> pd.DataFrame:
    """For generic text and each specialist the fraction of its test text's runs of tokens (a sample of them) that also
    stand in the generic training text, and in its own train split (none of a split that is not there). Passages that
    are cut in other places are no near duplicates, and share such runs all the same."""

    def runs(name: str, split: str) -> np.ndarray:
        table = corpus.passages
        return all_run_hashes(corpus.tokens(table[(table.specialist == name) & (table.split == split)]))

    generic, rows = all_run_hashes(map(corpus.domain_tokens, range(corpus.k))), {}
    for name in [GENERIC, *corpus.specialists]:
        test, own = runs(name, "test"), generic if name == GENERIC else runs(name, "train")
        shared = {"generic training text": np.isin(test, generic), "its own train split": np.isin(test, own)}
        rows[name] = {text: found.mean() if len(found) else 0.0 for text, found in shared.items()}
    return pd.DataFrame(rows).T


def leaks(passages: Sequence[str], groups: np.ndarray, threshold: float) -> pd.DataFrame:
    """The pairs of passages of different `groups` (N,) whose Jaccard similarity is at least `threshold`.

    One row per pair: first, second (indices), jaccard, exact. The sets compared are those of shingles (runs of 5
    words). No pair is missed by chance, unlike in the MinHash banding that built the corpus: if each set of n shingles
    is put in one common order, rarest first, two sets this similar share one of their first n - ceil(threshold * n) + 1
    (Chaudhuri et al. 2006). The pairs found that way are then compared in full.
    """
    sets = [shingles(text.split()).astype(np.uint32) for text in passages]
    first, second = _candidates(sets, groups, threshold)
    rows = []
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        value = jaccard(sets[i], sets[j])
        if value >= threshold:
            rows.append((i, j, value, passages[i].split() == passages[j].split()))
    return pd.DataFrame(rows, columns=["first", "second", "jaccard", "exact"]).sort_values("jaccard", ascending=False)


def _candidates(sets: list[np.ndarray], groups: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices (P,) and (P,), first < second, of pairs of different groups that share one of their rarest shingles."""
    lengths = np.array([len(s) for s in sets])
    owner = np.repeat(np.arange(len(sets)), lengths)
    _, shingle, count = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    order = np.lexsort((shingle, count[shingle], owner))  # within each passage the rarest first
    place = np.arange(len(order)) - np.repeat(lengths.cumsum() - lengths, lengths)
    kept = order[(place < (lengths - np.ceil(threshold * lengths) + 1)[owner]) & (count[shingle[order]] > 1)]
    prefix = csr_matrix((np.ones(len(kept), np.float32), (owner[kept], shingle[kept])), (len(sets), len(count)))
    labels, other = np.unique(groups, return_inverse=True)[1], prefix.T.tocsr()
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, int), np.zeros(0, int))]
    for start in range(0, len(sets), ROWS):
        shared = (prefix[start : start + ROWS] @ other).tocoo()
        i, j = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        ratio = np.minimum(lengths[i], lengths[j]) >= threshold * np.maximum(lengths[i], lengths[j])
        keep = (i < j) & (labels[i] != labels[j]) & ratio
        found.append((i[keep], j[keep]))
    return np.concatenate([f for f, _ in found]), np.concatenate([s for _, s in found])


def _place(table: pd.DataFrame, i: int) -> str:
    row = table.iloc[i]
    return f"{row.specialist}/{row.split} {row.source}:{row.path}"
