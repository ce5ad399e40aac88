"""The table of the benchmark's figures beside their goals and limits, from bench.json."""

import pandas as pd

from soe_bench.report.format import Table, short


def bench_table(bench: dict) -> Table:
    """A row per figure."""
    rows = [
        {
            "figure": figure["name"],
            "value": three_digits(figure["value"]) or "missing",
            "low": three_digits(figure["low"]),
            "high": three_digits(figure["high"]),
            "unit": figure["unit"],
            "limit": three_digits(figure["limit"]),
            "goal": "" if figure["goal"] is None else f"at {figure['bound']} {figure['goal']:g}",
            "met": {True: "yes", False: "no", None: ""}[figure["met"]],
            "note": figure["note"],
            "commit": _commit(figure),
        }
        for figure in bench["figures"]
    ]
    rates = bench["rates"]
    notes = [
        "`value` is the median over interleaved rounds, `low` and `high` are its quartiles (empty where it was "
        "measured once). Both sides of a ratio were measured in one run.",
        "`limit` is the value that there would be if all bytes moved at the copy bandwidth and all operations ran at "
        f"the matmul rate: {rates['bandwidth'] / 1e9:.1f} GB/s (read plus written) and {rates['matmul'] / 1e9:.0f} "
        "GFLOP/s in float32, measured in the last run.",
        *provenance(bench),
    ]
    return Table("bench", "Time and memory beside their limits", pd.DataFrame(rows), notes)


def provenance(bench: dict, measured: str | None = None) -> list[str]:
    """Notes: the commit at which a list was measured, if named; device and versions."""
    commit = [f"Commit: {_commit(bench[f'{measured}_state'])}."] if measured else []
    versions = ", ".join(f"{name} {value}" for name, value in bench["versions"].items() if value)
    return [*commit, f"Device: {bench['device']}, {bench['threads']} threads; {versions}."]


def _commit(state: dict) -> str:
    return (state["commit"] or "unknown")[:12] + ("+dirty" if state["dirty"] else "")


def three_digits(value: float | None) -> str:
    """Three significant digits; empty for None."""
    return "" if value is None else short(value)
