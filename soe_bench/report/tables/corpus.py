"""The tables that describe the corpus (domains, specialists) and the ledger of deviations from the paper."""

import math

import pandas as pd

from soe_bench.errors import UserError
from soe_bench.report.format import Table, fixed
from soe_bench.report.view import MISSING

MOST_BEYOND_Q99 = 0.05  # of the estimate passages, five times as many as of generic text: more is outside the corpus
SPLITS = ("train", "estimate", "validation", "test")


def domains_table(domains: pd.DataFrame) -> Table:
    """Every cluster of the generic corpus, largest first."""
    rows = domains.sort_values(["data", "data_fingerprint", "fraction", "domain"], ascending=[True, True, False, True])
    frame = pd.DataFrame(
        [
            {
                "data": f"{row.data} {row.data_fingerprint[:12]}",
                "domain": str(int(row.domain)),
                "fraction %": fixed(100 * row.fraction, 2),
                "tokens": str(int(row.tokens)),
                "passages": str(int(row.passages)),
                "top sources": row.top_sources,
                "top terms": row.top_terms,
            }
            for row in rows.itertuples()
        ]
    )
    return Table(
        "domains",
        "Domains: the clusters of the generic corpus",
        frame,
        [
            "fraction: h_0, the domain's fraction of the tokens of the generic training text; top sources: their "
            "fractions of the domain's tokens"
        ],
    )


def specialists_table(specialists: pd.DataFrame) -> Table:
    """One row per specialist: its size by split, where its estimate split lies among the domains, how far outside it
    is."""
    rows = []
    for (data, fingerprint, name), group in specialists.groupby(["data", "data_fingerprint", "specialist"]):
        splits = {row.split: row for row in group.itertuples()}
        located = splits.get("estimate", next(iter(splits.values())))
        rows.append(
            {
                "data": f"{data} {fingerprint[:12]}",
                "specialist": name,
                **{f"{split} tokens": str(int(splits[split].tokens)) if split in splits else "" for split in SPLITS},
                **{
                    f"{split} documents": str(int(splits[split].documents)) if split in splits else ""
                    for split in SPLITS
                },
                "nearest domains": located.nearest_domains,
                "effective domains": fixed(located.effective_domains, 1),
                "beyond q95 %": _percent(located.fraction_beyond_q95),
                "beyond q99 %": _percent(located.fraction_beyond_q99),
                "flag": _flag(located.fraction_beyond_q99),
            }
        )
    return Table(
        "specialists",
        "Specialists: size and place among the domains",
        pd.DataFrame(rows),
        [
            "nearest domains, effective domains (exponential of the entropy of h), beyond q95 and q99: estimate split",
            "beyond q95 (q99): fraction of passages farther from their nearest centroid than 95 % (99 %) of the "
            "generic training passages",
            f"flag: outside = more than {100 * MOST_BEYOND_Q99:g} % of its passages lie beyond q99 (of generic text "
            f"1 %): the text lies outside the pretraining corpus; {MISSING}: the fraction is not known",
        ],
    )


def nearest_domains(text: str, specialist: str) -> dict[int, float]:
    """`12:0.61; 3:0.22` -> {12: 0.61, 3: 0.22}: the largest weights of h. Raises UserError for anything else."""
    try:
        pairs = (pair.split(":") for pair in text.split(";") if pair.strip())
        return {int(domain): float(weight) for domain, weight in pairs}
    except ValueError:
        raise UserError(
            f"specialists.csv: nearest_domains of {specialist!r} is {text!r}, not `12:0.61; 3:0.22`: restore the file"
        ) from None


def outside(specialists: pd.DataFrame | None, fingerprint: str) -> list[str]:
    """The specialists of a corpus that are flagged as outside it, sorted."""
    if specialists is None:
        return []
    rows = specialists[(specialists.data_fingerprint == fingerprint) & (specialists.split == "estimate")]
    return sorted(rows.specialist[rows.fraction_beyond_q99 > MOST_BEYOND_Q99])


def deviations_table(deviations: pd.DataFrame) -> Table:
    """The ledger, what is ours first."""
    rank = {"ours": 0, "unconfirmed": 1, "paper": 2}
    keys = sorted(deviations.index, key=lambda i: (rank.get(deviations.status[i], 3), deviations.setting[i], i))
    frame = deviations.loc[keys, ["setting", "status", "ours", "paper", "where", "note"]]
    return Table(
        "deviations",
        "Settings against the paper",
        frame.reset_index(drop=True),
        [
            "status, of the paper's value: ours = not known, so ours stands alone; unconfirmed = from summaries of the "
            "paper; paper = confirmed (ours may differ)"
        ],
    )


def _flag(fraction: float) -> str:
    if math.isnan(fraction):
        return MISSING
    return "outside" if fraction > MOST_BEYOND_Q99 else ""


def _percent(fraction: float) -> str:
    return "" if math.isnan(fraction) else fixed(100 * fraction, 1)
