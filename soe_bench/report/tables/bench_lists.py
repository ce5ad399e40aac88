"""The tables of the benchmark's lists of points, from bench.json: a row per point, as `LISTS` says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from soe_bench.report.format import Table
from soe_bench.report.tables.bench import provenance, three_digits

LINEAR = 1.1  # an exponent up to this, as measured, is no faster than linear
Column = str | tuple[str, str] | Callable[[dict, list[dict]], float | str | None]


@dataclass(frozen=True)
class List:
    """How a list becomes a table: its title, what each column is (a field of a point, the ratio of two of its fields,
    or a function of it and of all points), and what to say of them."""

    title: str
    columns: dict[str, Column]
    notes: Sequence[str]


def _same(fields: str) -> dict[str, Column]:
    """Columns with the names of their fields."""
    return {name: name for name in fields.split()}


def _linear(point: dict, _: list[dict]) -> str:
    found = [point[f"{name}_exponent"] for name in ("seconds", "peak_bytes")]
    return "yes" if all(exponent is None or exponent <= LINEAR for exponent in found) else "no"


def _against_one_process(point: dict, points: list[dict]) -> float:
    (alone,) = (each for each in points if each["n"] == point["n"] and each["processes"] == 1)
    return alone["step_seconds"] / point["step_seconds"]


LISTS = {
    "growth": List(
        "Time and memory of a step against n, P, R and k",
        {
            **_same("axis n P R k"),
            "step (s)": "step_seconds",
            "exponent of step": "step_seconds_exponent",
            "soup's part (s)": "soup_seconds",
            "exponent of soup's part": "soup_seconds_exponent",
            "peak memory (bytes)": "peak_bytes",
            "exponent of peak memory": "peak_bytes_exponent",
        },
        [
            "The rows of an axis vary that number and keep the other three. n: experts; P: parameters of the base "
            "model; R: draws of h per step; k: domains. An exponent is b in a x^b, fitted by least squares on "
            "logarithms over the rows of its axis.",
            "`step` is the median time of a training step. `soup's part` is its time beyond forward and backward at "
            "Theta: the combination, dL/dA, the update of the bank, and the router. `peak memory` is above that of "
            "the process after import and data.",
        ],
    ),
    "bases": List(
        "A training step on two base models, beside its limit",
        {
            **_same("base n P tokens precision"),
            "step (s)": lambda p, _: p["step_seconds"] or "out of memory",
            "least (s)": "least_seconds",
            "fraction": ("least_seconds", "step_seconds"),
            "tokens per second": ("tokens", "step_seconds"),
            "peak memory (bytes)": "peak_bytes",
        },
        [
            "`step` is the median time of a training step with 8 draws of h. `least` is the longer of two times: its "
            "counted FLOPs at the matmul rate in that precision, or its parameters and moments at the copy bandwidth. "
            "`fraction` is least/step. n: experts; P: parameters of the base model.",
            "`peak memory` is above that of the process after import.",
        ],
    ),
    "processes": List(
        "A training step in several processes",
        {
            **_same("n processes"),
            "sent for parameters (bytes)": "parameters_sent",
            "of 2 R P words": lambda p, _: p["parameters_sent"] / (2 * 4 * p["R"] * p["P"]),
            "sent for sums (bytes)": "sums_sent",
            "step (s)": "step_seconds",
            "against one process": _against_one_process,
        },
        [
            "The bytes sent are those that one process gives in a training step with R = 8 draws of h: for parameters "
            "to the all-to-all (Theta and its gradients, however many experts), for sums to the all-reduce (R n "
            "numbers for the router, R^2 and a loss).",
            "`step` is the median time of a training step, each process with one thread of a CPU or one GPU.",
        ],
    ),
    "end_to_end": List(
        "Where the time of whole commands goes",
        {**_same("command"), "part": "stage", "time (s)": "seconds"},
        [
            "The parts are those that the commands themselves print. `start` is the imports, `plan` measures a few "
            "steps, `records` collects what was measured, and the jobs of a sweep may run side by side: what follows "
            "`of all jobs` is added up over them, and lies within `jobs`.",
            "`training` includes the checkpoints: the figure `checkpoint_share` says how much they are.",
        ],
    ),
    "many": List(
        "Many specialists at once",
        {
            "soup": "source",
            "specialists": "count",
            **_same("n P"),
            "time (s)": "seconds",
            "reading the bank (s)": "reading_seconds",
            "against one reading": ("seconds", "reading_seconds"),
            "least (s)": "least_seconds",
            "fraction": ("least_seconds", "seconds"),
            "peak memory (bytes)": "peak_bytes",
            "of the specialists": lambda p, _: p["peak_bytes"] and p["peak_bytes"] / (4 * p["count"] * p["P"]),
        },
        [
            "`least` is the longer of two times: moving the bank and the specialists at the copy bandwidth, or the "
            "operations at the matmul rate. `fraction` is least/time. n: experts; P: parameters of a specialist.",
            "`peak memory` is that of this process beyond the soup, without what is mapped from files; `of the "
            "specialists` is its ratio to their own bytes.",
        ],
    ),
    "precision": List(
        "A training step in bfloat16 and in float32",
        {
            **_same("base precision P"),
            "step (s)": "step_seconds",
            "least (s)": "least_seconds",
            "fraction": ("least_seconds", "step_seconds"),
            "steps": "steps",
            "loss after them": lambda p, _: f"{p['loss']:.3f}",
        },
        [
            "A soup with 16 experts. `step` is the median time of a training step, both precisions in turns. `least` "
            "is the longer of two times: its counted FLOPs at the matmul rate in that precision, or its parameters and "
            "moments at the copy bandwidth. `fraction` is least/step.",
            "`loss after them` (nats per token) is on the validation text of made-up data, in runs of their own.",
        ],
    ),
    "shape": List(
        "How the parts of the pipeline grow up to k = 4096 domains and n = 128 experts",
        {
            "axis": "axis",
            "part": "stage",
            **_same("k n P"),
            "time (s)": "seconds",
            "exponent of time": "seconds_exponent",
            "peak memory (bytes)": "peak_bytes",
            "exponent of memory": "peak_bytes_exponent",
            "at most linear": _linear,
        },
        [
            "The rows of an axis vary that number and keep the other at its most. The base model (P parameters) is the "
            "largest that fits into memory with all experts. An exponent is b in a x^b, fitted by least squares on "
            f"logarithms over the rows of its part. Up to {LINEAR} counts as linear.",
            "`draws of h`, `batch` and `router`: for 512 draws of one sequence. `clusters`: k-means of 8192 passages, "
            "with none dissolved for its size. `h of documents`: from 64 passages. `step`: a training step with 8 "
            "draws of one sequence; its memory is above that of the process before the soup was built, that of the "
            "others above what there was before.",
        ],
    ),
    "arrangements": List(
        "What to do with two cores",
        {**_same("base arrangement"), "tokens per second": "tokens_per_second"},
        [
            "Tokens per second are those of all jobs together, as the median over rounds in which the arrangements "
            "take turns. A job trains a soup with 16 experts and R = 8 draws of h.",
        ],
    ),
}


def list_table(name: str, bench: dict) -> Table:
    """A row per point of the list `name`."""
    found, points = LISTS[name], bench[name]
    rows = [{title: _cell(each, point, points) for title, each in found.columns.items()} for point in points]
    return Table(name, found.title, pd.DataFrame(rows), [*found.notes, *provenance(bench, name)])


def _cell(column: Column, point: dict, points: list[dict]) -> str:
    if isinstance(column, tuple):
        top, bottom = (point[name] for name in column)
        value = None if None in (top, bottom) else top / bottom
    else:
        value = point[column] if isinstance(column, str) else column(point, points)
    return three_digits(value) if isinstance(value, float) or value is None else str(value)
