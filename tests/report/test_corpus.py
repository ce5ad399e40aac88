"""The table of specialists: which of them lie outside the corpus."""

import pandas as pd
import pytest

from soe_bench.records import outside
from soe_bench.report.tables.corpus import specialists_table


def split(name: str, beyond_q99: float) -> dict:
    """The row of specialists.csv for one split of the specialist a."""
    return dict(
        data="wheels",
        data_fingerprint="3fa94c1b77d2",
        specialist="a",
        split=name,
        documents=40.0,
        tokens=1e6,
        nearest_domains="3:0.9",
        effective_domains=1.4,
        kl_from_h_0=0.5,
        fraction_beyond_q95=0.2,
        fraction_beyond_q99=beyond_q99,
    )


@pytest.mark.parametrize(
    ("beyond_q99", "cell", "flag"),
    [(0.0501, "5.0", "outside"), (0.05, "5.0", ""), (0.01, "1.0", ""), (float("nan"), "", "missing")],
)
def test_a_specialist_is_outside_if_more_than_5_percent_of_its_estimate_part_lie_beyond_q99(beyond_q99, cell, flag):
    table = specialists_table(pd.DataFrame([split("estimate", beyond_q99), split("test", 0.5 if not flag else 0.0)]))
    [row] = table.frame.to_dict("records")
    assert (row["beyond q99 %"], row["flag"]) == (cell, flag)
    assert "outside means that more than 5 % of its passages lie beyond q99" in table.markdown()


def test_other_tables_name_what_lies_outside():
    splits = [
        split("estimate", 0.06),
        split("test", 0.0),
        split("estimate", 0.05) | {"specialist": "b"},
        split("estimate", 0.9) | {"specialist": "c", "data_fingerprint": "other"},
    ]
    assert outside(pd.DataFrame(splits), "3fa94c1b77d2") == ["a"]
