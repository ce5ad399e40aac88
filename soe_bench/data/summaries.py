"""The summaries of a built corpus: domains.csv, specialists.csv and the numbers of audit.json."""

from pathlib import Path

import numpy as np
import pandas as pd

from soe_bench.data import domains
from soe_bench.data.corpus import document_histogram
from soe_bench.data.embed import Embedder
from soe_bench.data.splits import GENERIC, generic_training


def summaries(table: pd.DataFrame, embedder: Embedder, k: int, out: Path) -> dict:
    """Writes domains.csv and specialists.csv; returns the numbers for audit.json."""
    train = table[generic_training(table)]
    h_0 = domains.weights(train.domain.to_numpy(), train.tokens.to_numpy(), k)
    domains.summary(train, train.text.tolist(), embedder, k).to_csv(out / "domains.csv", index=False)
    quantiles = {f"q{q}": float(np.quantile(train.distance, q / 100)) for q in (50, 95, 99)}
    rows = [
        _part_row(*name, rows, h_0, quantiles)
        for name, rows in table.groupby(["specialist", "split"])
        if name != (GENERIC, "train")
    ]
    pd.DataFrame(rows).to_csv(out / "specialists.csv", index=False)
    sizes = table.groupby("source").agg(passages=("tokens", "size"), tokens=("tokens", "sum"), bytes=("bytes", "sum"))
    generic = train.groupby("source").tokens.sum()
    return {
        "k": k,
        "h_0": h_0.tolist(),
        "distance_quantiles": quantiles,
        "documents": int(table.groupby(["source", "path"]).ngroups),
        "passages": len(table),
        "tokens": int(table.tokens.sum()),
        "sources": sizes.to_dict("index"),
        "generic_training_tokens": {name: int(count) for name, count in generic.items()},
    }


def read_summary(folder: Path, name: str) -> pd.DataFrame:
    """domains.csv or specialists.csv of a corpus. Names are text as they stand: "NA" is not missing, 007 no number."""
    names = ("specialist", "split", "nearest_domains", "top_sources", "top_terms")
    return pd.read_csv(folder / f"{name}.csv", dtype=dict.fromkeys(names, str), keep_default_na=False)


def _part_row(specialist: str, split: str, rows: pd.DataFrame, h_0: np.ndarray, quantiles: dict[str, float]) -> dict:
    h = document_histogram(rows, len(h_0))
    positive = h[h > 0]
    return {
        "specialist": specialist,
        "split": split,
        "documents": rows.groupby(["source", "path"]).ngroups,
        "passages": len(rows),
        "tokens": rows.tokens.sum(),
        "bytes": rows.bytes.sum(),
        "nearest_domains": "; ".join(f"{i}:{h[i]:.2f}" for i in h.argsort()[::-1][:4] if h[i] > 0),
        "effective_domains": domains.effective_number(h),
        "kl_from_h_0": float((positive * np.log(positive / h_0[h > 0])).sum()),
        "fraction_beyond_q95": float((rows.distance > quantiles["q95"]).mean()),
        "fraction_beyond_q99": float((rows.distance > quantiles["q99"]).mean()),
    }
