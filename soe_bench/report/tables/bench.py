"""The tables of the benchmark, from bench.json: its figures beside their goals and limits, and a row per point of each
of its lists, as `LISTS` says."""

from collections.abc import Callable

import pandas as pd

from soe_bench.report.format import Table, short
from soe_bench.report.tables.pieces import commits

LINEAR = 1.1  # an exponent up to this, as measured, is no faster than linear
Cell = float | str | None


def bench_table(bench: dict) -> Table:
    """A row per figure."""
    rows = [
        {
            "figure": figure["name"],
            "value": short(figure["value"]) or "missing",
            "low": short(figure["low"]),
            "high": short(figure["high"]),
            "unit": figure["unit"],
            "limit": short(figure["limit"]),
            "goal": "" if figure["goal"] is None else f"at {figure['bound']} {figure['goal']:g}",
            "met": {True: "yes", False: "no", None: ""}[figure["met"]],
            "note": figure["note"],
            "commit": commits(pd.DataFrame([figure])),
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
        "A dense step is one of generic pretraining, and `plain` the soup as an ordinary module, whose experts are "
        "parameters that automatic differentiation sees. Trainer is that of transformers. `instantiate` makes one "
        "specialist, or eight at once (r8), from the experts in memory; mergekit makes the same model from files.",
        _machine(bench),
    ]
    return Table("bench", "Time and memory beside their limits", pd.DataFrame(rows), notes)


def _machine(bench: dict) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in bench["versions"].items() if value)
    return f"Device: {bench['device']}, {bench['threads']} threads; {versions}."


def _ratio(top: float | None, bottom: float | None) -> float | None:
    return None if None in (top, bottom) else top / bottom


def _linear(point: dict, _: list[dict]) -> str:
    found = [point[f"{name}_exponent"] for name in ("seconds", "peak_bytes")]
    return "yes" if all(exponent is None or exponent <= LINEAR for exponent in found) else "no"


def _against_one_process(point: dict, points: list[dict]) -> float:
    (alone,) = (each for each in points if each["n"] == point["n"] and each["processes"] == 1)
    return alone["step_seconds"] / point["step_seconds"]


# What a column is, where that is not the field of a point with its name: another field, or a function of the point and
# of all points.
COLUMNS: dict[str, str | Callable[[dict, list[dict]], Cell]] = {
    "step (s)": lambda p, _: p["step_seconds"] or "out of memory",
    "exponent of step": "step_seconds_exponent",
    "soup's part (s)": "soup_seconds",
    "exponent of soup's part": "soup_seconds_exponent",
    "peak memory (bytes)": "peak_bytes",
    "exponent of peak memory": "peak_bytes_exponent",
    "exponent of memory": "peak_bytes_exponent",
    "least (s)": "least_seconds",
    "fraction": lambda p, _: _ratio(p["least_seconds"], p["step_seconds"] if "step_seconds" in p else p["seconds"]),
    "tokens per second": lambda p, _: p.get("tokens_per_second") or _ratio(p["tokens"], p["step_seconds"]),
    "sent for parameters (bytes)": "parameters_sent",
    "of 2 R P words": lambda p, _: p["parameters_sent"] / (2 * 4 * p["R"] * p["P"]),
    "sent for sums (bytes)": "sums_sent",
    "against one process": _against_one_process,
    "part": "stage",
    "time (s)": "seconds",
    "exponent of time": "seconds_exponent",
    "at most linear": _linear,
    "soup": "source",
    "specialists": "count",
    "reading the bank (s)": "reading_seconds",
    "against one reading": lambda p, _: _ratio(p["seconds"], p["reading_seconds"]),
    "of the specialists": lambda p, _: p["peak_bytes"] and p["peak_bytes"] / (4 * p["count"] * p["P"]),
    "loss after them": lambda p, _: f"{p['loss']:.3f}",
}


# Of each list the title of its table, the columns, and what to say of them.
LISTS: dict[str, tuple[str, ...]] = {
    "growth": (
        "Time and memory of a step against n, P, R and k",
        "axis, n, P, R, k, step (s), exponent of step, soup's part (s), exponent of soup's part, peak memory (bytes), "
        "exponent of peak memory",
        "The rows of an axis vary that number and keep the other three. n: experts; P: parameters of the base "
        "model; R: draws of h per step; k: domains. An exponent is b in a x^b, fitted by least squares on "
        "logarithms over the rows of its axis. One setting stands on several axes: how far its times differ is noise.",
        "`step` is the median time of a training step. `soup's part` is its time beyond forward and backward at "
        "Theta: the combination, dL/dA, the update of the bank, and the router. `peak memory` is above that of "
        "the process after import and data.",
    ),
    "bases": (
        "A training step on two base models, beside its limit",
        "base, n, P, tokens, precision, step (s), least (s), fraction, tokens per second, peak memory (bytes)",
        "`step` is the median time of a training step with 8 draws of h. `least` is the longer of two times: its "
        "counted FLOPs at the matmul rate in that precision, or its parameters and moments at the copy bandwidth. "
        "`fraction` is least/step. n: experts; P: parameters of the base model.",
        "`peak memory` is above that of the process after import. The rates behind `least` are measured anew for each "
        "row, and change with the state of the machine.",
    ),
    "processes": (
        "A training step in several processes",
        "n, processes, sent for parameters (bytes), of 2 R P words, sent for sums (bytes), step (s), "
        "against one process",
        "The bytes sent are those that one process gives in a training step with R = 8 draws of h: for parameters "
        "to the all-to-all (Theta and its gradients, however many experts), for sums to the all-reduce (R n "
        "numbers for the router, R^2 and a loss). `of 2 R P words` is the bytes sent for parameters over those of 2 R "
        "P numbers of 4 bytes. P: parameters of the base model.",
        "`step` is the median time of a training step, each process with one thread of a CPU or one GPU. "
        "`against one process` is the step of one process over this one.",
    ),
    "end_to_end": (
        "Where the time of whole commands goes",
        "command, part, time (s)",
        "The parts are those that the commands themselves print. `start` is the imports, `plan` measures a few "
        "steps, `records` collects what was measured, and the jobs of a sweep may run side by side: what follows "
        "`of all jobs` is added up over them, and lies within `jobs`.",
        "`training` includes the checkpoints: the figure `checkpoint_share` says how much they are.",
    ),
    "corpora": (
        "Building a corpus",
        "corpus, part, time (s), peak memory (bytes)",
        "The parts are those that the command itself logs. `in all` is the whole command, with imports and the "
        "reading of all text for the corpus's fingerprint. `peak memory` is that of all its processes together, and "
        "what they share counts once. Text beyond the limits of `data=local` is not read into the corpus.",
    ),
    "many": (
        "Many specialists at once",
        "soup, specialists, n, P, time (s), reading the bank (s), against one reading, least (s), fraction, "
        "peak memory (bytes), of the specialists",
        "`least` is the longer of two times: moving the bank and the specialists at the copy bandwidth, or the "
        "operations at the matmul rate. `fraction` is least/time. n: experts; P: parameters of a specialist.",
        "`soup`: whether it was loaded into memory before, or is read from its file. `reading the bank` is the time to "
        "read every number of the experts once, and `against one reading` is time/reading the bank.",
        "`peak memory` is that of this process beyond the soup, without what is mapped from files; `of the "
        "specialists` is its ratio to their own bytes. The rates behind `least` are measured anew for each row.",
    ),
    "precision": (
        "A training step in bfloat16 and in float32",
        "base, precision, P, step (s), least (s), fraction, steps, loss after them",
        "A soup with 16 experts. `step` is the median time of a training step, both precisions in turns. `least` "
        "is the longer of two times: its counted FLOPs at the matmul rate in that precision, or its parameters and "
        "moments at the copy bandwidth. `fraction` is least/step.",
        "`loss after them` (nats per token) is on the validation text of made-up data, in runs of their own.",
    ),
    "shape": (
        "How the parts of the pipeline grow up to k = 4096 domains and n = 128 experts",
        "axis, part, k, n, P, time (s), exponent of time, peak memory (bytes), exponent of memory, at most linear",
        "The rows of an axis vary that number and keep the other at its most. The base model (P parameters) is the "
        "largest that fits into memory with all experts. An exponent is b in a x^b, fitted by least squares on "
        f"logarithms over the rows of its part. Up to {LINEAR} counts as linear.",
        "`draws of h`, `batch` and `router`: for 512 draws of one sequence. `clusters`: k-means of 8192 passages, "
        "with none dissolved for its size. `h of documents`: from 64 passages. `step`: a training step with 8 "
        "draws of one sequence; its memory is above that of the process before the soup was built, that of the "
        "others above what there was before.",
    ),
    "arrangements": (
        "What to do with two cores",
        "base, arrangement, tokens per second",
        "Tokens per second are those of all jobs together, as the median over rounds in which the arrangements "
        "take turns. A job trains a soup with 16 experts and R = 8 draws of h.",
    ),
}


def list_table(name: str, bench: dict) -> Table:
    """A row per point of the list `name`."""
    (title, columns, *notes), points = LISTS[name], bench[name]
    rows = [{column: _cell(column, point, points) for column in columns.split(", ")} for point in points]
    commit = f"Commit: {commits(pd.DataFrame([bench[f'{name}_state']]))}."
    return Table(name, title, pd.DataFrame(rows), [*notes, commit, _machine(bench)])


def _cell(column: str, point: dict, points: list[dict]) -> str:
    what = COLUMNS.get(column, column)
    value = point[what] if isinstance(what, str) else what(point, points)
    return short(value) if isinstance(value, float) or value is None else str(value)
