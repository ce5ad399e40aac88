"""The tables that describe the corpus (domains, specialists) and the ledger of deviations from the paper."""

import math

import pandas as pd

from soe_bench.errors import UserError
from soe_bench.records import MOST_BEYOND_Q99
from soe_bench.report.format import Table, fixed
from soe_bench.report.view import MISSING

SPLITS = ("train", "estimate", "validation", "test")


def domains_table(domains: pd.DataFrame) -> Table:
    """Every cluster of the generic corpus, largest first."""
    rows = domains.sort_values(["data", "data_fingerprint", "fraction", "domain"], ascending=[True, True, False, True])
    frame = pd.DataFrame(
        {
            "data": rows.data + " " + rows.data_fingerprint.str[:12],
            "domain": rows.domain.map("{:.0f}".format),
            "fraction %": (100 * rows.fraction).map("{:.2f}".format),
            "tokens": rows.tokens.map("{:.0f}".format),
            "passages": rows.passages.map("{:.0f}".format),
            "top sources": rows.top_sources,
            "top terms": rows.top_terms,
        }
    )
    note = (
        "`fraction %` is the domain's part of the tokens of the generic training text, its weight in h_0. "
        "`top sources` come with their parts of the domain's tokens."
    )
    return Table("domains", "Domains: the clusters of the generic corpus", frame, [note])


def specialists_table(specialists: pd.DataFrame) -> Table:
    """One row per specialist: its size by split, where its estimate split lies among the domains, how far outside it
    is."""
    rows = []
    for (data, fingerprint, name), group in specialists.groupby(["data", "data_fingerprint", "specialist"]):
        splits = group.set_index("split")
        located = splits.loc["estimate" if "estimate" in splits.index else splits.index[0]]
        sizes = {f"{split} {unit}": splits[unit].get(split) for unit in ("tokens", "documents") for split in SPLITS}
        beyond = located.fraction_beyond_q99
        rows.append(
            {
                "data": f"{data} {fingerprint[:12]}",
                "specialist": name,
                **{name: fixed(size, 0) for name, size in sizes.items()},
                "nearest domains": located.nearest_domains,
                "effective domains": fixed(located.effective_domains, 1),
                "beyond q95 %": fixed(100 * located.fraction_beyond_q95, 1),
                "beyond q99 %": fixed(100 * beyond, 1),
                "flag": MISSING if math.isnan(beyond) else "outside" * bool(beyond > MOST_BEYOND_Q99),
            }
        )
    notes = [
        "The last five columns describe the estimate split. `effective domains` is the exponential of the entropy of "
        "h.",
        "`beyond q95 %` (`beyond q99 %`) is the part of the passages that are farther from the centre of their domain "
        "than 95 % (99 %) of the generic training passages are.",
        f"The flag outside means that more than {100 * MOST_BEYOND_Q99:g} % of its passages lie beyond q99, so that "
        "the text counts as outside the pretraining corpus, even where a part of it is inside; of the generic training "
        f"text it is 1 %, by definition. {MISSING}: the part is not known.",
    ]
    return Table("specialists", "Specialists: size and place among the domains", pd.DataFrame(rows), notes)


def nearest_domains(text: str, specialist: str) -> dict[int, float]:
    """`12:0.61; 3:0.22` -> {12: 0.61, 3: 0.22}: the largest weights of h. Raises UserError for anything else."""
    try:
        pairs = (pair.split(":") for pair in text.split(";") if pair.strip())
        return {int(domain): float(weight) for domain, weight in pairs}
    except ValueError:
        raise UserError(
            f"specialists.csv: nearest_domains of {specialist!r} is {text!r}, not `12:0.61; 3:0.22`: restore the file"
        ) from None


def deviations_table(deviations: pd.DataFrame) -> Table:
    """The ledger, what is ours first."""
    rank = deviations.status.map({"ours": 0, "unconfirmed": 1, "paper": 2}).fillna(3)
    rows = deviations.assign(rank=rank).sort_values(["rank", "setting"], kind="stable", ignore_index=True)
    note = (
        "`status` is that of the paper's value. ours: it is not known, so ours stands alone; unconfirmed: it is from "
        "summaries of the paper; paper: it is confirmed, and ours may differ."
    )
    columns = ["setting", "status", "ours", "paper", "where", "note"]
    return Table("deviations", "Settings against the paper", rows[columns], [note])
