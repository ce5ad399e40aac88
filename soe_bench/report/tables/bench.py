"""The tables of the benchmark, from bench.json: figures beside goals and limits, growth, steps of base models and of
several processes."""

from itertools import zip_longest

import pandas as pd

from soe_bench.report.format import Table

MEASURES = {"step_seconds": "step (s)", "soup_seconds": "soup's part (s)", "peak_bytes": "peak memory (bytes)"}


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


def growth_table(bench: dict) -> Table:
    """A row per point; the exponents of its axis stand on the axis's last row."""
    rows = []
    for point, following in zip_longest(bench["growth"], bench["growth"][1:], fillvalue={}):
        last = following.get("axis") != point["axis"]
        row = {name: str(point[name]) for name in ("axis", "n", "P", "R", "k")}
        for measure, title in MEASURES.items():
            row[title] = three_digits(point[measure])
            row[f"exponent of {title.split(' (')[0]}"] = three_digits(point[f"{measure}_exponent"]) if last else ""
        rows.append(row)
    notes = [
        "The rows of an axis vary that number and keep the other three. n: experts; P: parameters of the base model; "
        "R: draws of h per step; k: domains. An exponent is b in a x^b, fitted by least squares on logarithms over "
        "the rows of its axis.",
        "`step` is the median time of a training step. `soup's part` is its time beyond forward and backward at Theta: "
        "the combination, dL/dA, the update of the bank, and the router. `peak memory` is above that of the process "
        "after import and data.",
        *provenance(bench, "growth"),
    ]
    return Table("growth", "Time and memory of a step against n, P, R and k", pd.DataFrame(rows), notes)


def bases_table(bench: dict) -> Table:
    """A row per base model and number of experts."""
    rows = [
        {
            "base": point["base"],
            "n": str(point["n"]),
            "P": str(point["P"]),
            "tokens": str(point["tokens"]),
            "precision": point["precision"],
            "step (s)": three_digits(point["step_seconds"]) or "out of memory",
            "least (s)": three_digits(point["least_seconds"]),
            "fraction": three_digits(point["step_seconds"] and point["least_seconds"] / point["step_seconds"]),
            "tokens per second": three_digits(point["step_seconds"] and point["tokens"] / point["step_seconds"]),
            "peak memory (bytes)": three_digits(point["peak_bytes"]),
        }
        for point in bench["bases"]
    ]
    notes = [
        "`step` is the median time of a training step with 8 draws of h. `least` is the longer of two times: its "
        "counted FLOPs at the matmul rate in that precision, or its parameters and moments at the copy bandwidth. "
        "`fraction` is least/step. n: experts; P: parameters of the base model.",
        "`peak memory` is above that of the process after import.",
        *provenance(bench, "bases"),
    ]
    return Table("bases", "A training step on two base models, beside its limit", pd.DataFrame(rows), notes)


def processes_table(bench: dict) -> Table:
    """A row per number of experts and of processes."""
    alone = {point["n"]: point["step_seconds"] for point in bench["processes"] if point["processes"] == 1}
    rows = [
        {
            "n": str(point["n"]),
            "processes": str(point["processes"]),
            "sent for parameters (bytes)": str(point["parameters_sent"]),
            "of 2 R P words": three_digits(point["parameters_sent"] / (2 * 4 * point["R"] * point["P"])),
            "sent for sums (bytes)": str(point["sums_sent"]),
            "step (s)": three_digits(point["step_seconds"]),
            "against one process": three_digits(alone[point["n"]] / point["step_seconds"]),
        }
        for point in bench["processes"]
    ]
    notes = [
        "The bytes sent are those that one process gives in a training step with R = 8 draws of h: for parameters to "
        "the all-to-all (Theta and its gradients, however many experts), for sums to the all-reduce (R n numbers for "
        "the router, R^2 and a loss).",
        "`step` is the median time of a training step, each process with one thread of a CPU or one GPU.",
        *provenance(bench, "processes"),
    ]
    return Table("processes", "A training step in several processes", pd.DataFrame(rows), notes)


def provenance(bench: dict, measured: str | None = None) -> list[str]:
    """Notes: the commit at which a list was measured, if named; device and versions."""
    commit = [f"Commit: {_commit(bench[f'{measured}_state'])}."] if measured else []
    versions = ", ".join(f"{name} {value}" for name, value in bench["versions"].items() if value)
    return [*commit, f"Device: {bench['device']}, {bench['threads']} threads; {versions}."]


def _commit(state: dict) -> str:
    return (state["commit"] or "unknown")[:12] + ("+dirty" if state["dirty"] else "")


def three_digits(value: float | None) -> str:
    """Three significant digits; empty for None."""
    return "" if value is None else f"{value:.3g}"
