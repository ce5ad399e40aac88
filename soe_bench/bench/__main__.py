"""python -m soe_bench.bench [NAME ...]: measures all quantities, or those named, and updates results/bench.json.

Each quantity is measured by itself and written at once, so the command can be split by names and stopped at any time.
The two sides of a ratio are measured in one run, in turns. `make plots` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from soe_bench.bench.arrangements import arrangements
from soe_bench.bench.bases import bases
from soe_bench.bench.corpora import corpora, tokenizer_agreement
from soe_bench.bench.end_to_end import end_to_end, evaluation_share
from soe_bench.bench.growth import growth
from soe_bench.bench.instantiate import bandwidth_share, instantiate_disk_models, mergekit_speedup
from soe_bench.bench.many import many
from soe_bench.bench.measure import BenchSettings, Figure, known_device, rates
from soe_bench.bench.memory import loss_memory_ratio, plain_memory_ratio
from soe_bench.bench.moments import moments_loss_change
from soe_bench.bench.precision import precision
from soe_bench.bench.processes import processes
from soe_bench.bench.shape import sampling_share, shape
from soe_bench.bench.steps import (
    checkpoint_share,
    compiled_speedup,
    data_share,
    plain_speedup,
    soup_step_ratio,
    trainer_speedup,
)
from soe_bench.errors import UserError
from soe_bench.system.arguments import command
from soe_bench.system.files import write_text
from soe_bench.system.machine import device_name, git_state

FIGURES: dict[str, Callable[[BenchSettings], Figure]] = {
    "soup_step_ratio_n16": partial(soup_step_ratio, n=16, goal=1.15),
    "soup_step_ratio_n64": partial(soup_step_ratio, n=64, goal=1.5),
    "plain_speedup_n64": plain_speedup,
    "plain_memory_ratio_n64": plain_memory_ratio,
    "trainer_speedup": partial(trainer_speedup, compiled=False),
    "trainer_speedup_compiled": partial(trainer_speedup, compiled=True),
    "compiled_speedup": compiled_speedup,
    "data_share": data_share,
    "sampling_share_k4096": sampling_share,
    "checkpoint_share": checkpoint_share,
    "instantiate_bandwidth_share": partial(bandwidth_share, draws=1, goal=0.8),
    "instantiate_bandwidth_share_r8": partial(bandwidth_share, draws=8, goal=0.5),
    "instantiate_disk_models": instantiate_disk_models,
    "mergekit_speedup": mergekit_speedup,
    "loss_memory_ratio": loss_memory_ratio,
    "moments_bfloat16_loss_change": moments_loss_change,
    "evaluation_share_n4": partial(evaluation_share, n=4),
    "evaluation_share_n64": partial(evaluation_share, n=64),
    "tokenizer_sample_agreement": tokenizer_agreement,
}
LISTS: dict[str, Callable[[BenchSettings], list[dict]]] = {  # each gives the rows of a table
    each.__name__: each
    for each in (growth, shape, bases, precision, processes, arrangements, many, corpora, end_to_end)
}
PACKAGES = ("torch", "numpy", "transformers", "accelerate", "mergekit")
log = logging.getLogger("soe_bench")


@command
def main(arguments: list[str] | None = None) -> int:
    """0: measured and written, whether or not the goals are met; 2: bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m soe_bench.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"any of {', '.join([*FIGURES, *LISTS])}")
    parser.add_argument("--out", type=Path, default=Path("results/bench.json"), help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="toy sizes and two rounds, to see that all runs")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    names = options.names or [*FIGURES, *LISTS]
    if unknown := [name for name in names if name not in (*FIGURES, *LISTS)]:
        raise UserError(f"there is no quantity {unknown[0]!r}: choose from {', '.join([*FIGURES, *LISTS])}")
    settings = BenchSettings(known_device(options.device), options.quick)
    bench = opened(options.out, settings)
    for number, name in enumerate(names, start=1):
        log.info("%d of %d: %s", number, len(names), name)
        measure(name, settings, bench)
        write_text(options.out, json.dumps(bench, indent=1) + "\n")
    return 0


def opened(path: Path, settings: BenchSettings) -> dict:
    """The file's content, or the start of a new one. Raises UserError if it was measured on another machine or in
    another way."""
    here = {
        "device": device_name(settings.device),
        "threads": torch.get_num_threads(),
        "quick": settings.quick,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }
    if not path.exists():
        return here | {"figures": []} | {name: [] for name in LISTS}
    try:
        bench = json.loads(path.read_text(encoding="utf-8"))
        there = {key: bench[key] for key in here}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a file of this command ({error!r}): give another --out") from error
    if differ := [key for key in here if here[key] != there[key]]:
        raise UserError(f"{path} was measured with other {', '.join(differ)}: remove it or give another --out")
    return bench


def measure(name: str, settings: BenchSettings, bench: dict) -> None:
    """Measures one figure, or one list of points, into `bench`, and says what came out."""
    start, state = time.perf_counter(), git_state()
    if name in LISTS:
        bench[name] = LISTS[name](settings)
        bench[f"{name}_state"] = state
        log.info("  %d points in %.0f s", len(bench[name]), time.perf_counter() - start)
    else:
        figure = FIGURES[name](settings)
        took = time.perf_counter() - start
        row = asdict(figure) | {"met": figure.met, "took_seconds": round(took, 1)} | state
        others = {each["name"]: each for each in bench["figures"]} | {name: row}
        bench["figures"] = [others[each] for each in FIGURES if each in others]
        goal = "" if figure.goal is None else f", goal at {figure.bound} {figure.goal:g}: {_verdict(figure.met)}"
        value = "no value" if figure.value is None else f"{figure.value:.4g} {figure.unit}"
        limit = f" (limit {figure.limit:.4g})" if figure.limit else ""
        note = f" ({figure.note})" if figure.note else ""
        log.info("  %s%s%s%s; %.0f s", value, limit, goal, note, took)
    bench |= state | {"rates": asdict(rates(settings))}


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "missed", None: "missing"}[met]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
