"""Clocks, the machine's rates, and what a figure is."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from soe_bench.config import job_configs
from soe_bench.errors import UserError
from soe_bench.system.machine import Rates, interleaved_seconds, machine_rates

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["soe_bench.bench.steps"])  # it imports nearly all: once, for all processes


@dataclass(frozen=True)
class Figure:
    """One measured number. `limit`: what it would be if our side moved its bytes at the machine's copy bandwidth and
    did its operations at the machine's matmul rate, whichever takes longer; None if there is no limit. The value should
    be at most or at least the `goal`, as `bound` says. `low` and `high`: quartiles over the rounds. `parts`: the
    numbers it was computed from, in SI units. If `value` is None, `note` says why."""

    name: str
    unit: str
    value: float | None
    limit: float | None = None
    goal: float | None = None
    bound: str = "most"
    low: float | None = None
    high: float | None = None
    parts: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal or a value."""
        if self.value is None or self.goal is None:
            return None
        return self.value <= self.goal if self.bound == "most" else self.value >= self.goal


@dataclass(frozen=True)
class BenchSettings:
    """How to measure: on which device, and on toy sizes (`quick`, for tests) or on those of the figures."""

    device: str
    quick: bool = False

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 25

    def compose(self, *overrides: str) -> DictConfig:
        """The configuration of scale=medium (quick: scale=test) with R = 8 draws, and the settings given."""
        base = [
            f"scale={'test' if self.quick else 'medium'}",
            "train.draws_per_step=8",
            "wandb.mode=disabled",
            f"device={self.device}",
        ]
        return job_configs([*base, *overrides])[0][0]


def interleaved(
    calls: dict[str, Callable[[], object]], settings: BenchSettings, rounds: int | None = None
) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, as the machine's clock gives them. `rounds`: fewer than those of a figure,
    for points whose trend matters."""
    return interleaved_seconds(calls, settings.device, min(settings.rounds, rounds or settings.rounds))


def quartiles(values: np.ndarray) -> dict[str, float]:
    """value (the median), low and high of a Figure."""
    low, value, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"value": float(value), "low": float(low), "high": float(high)}


def rates(settings: BenchSettings, precision: str = "float32") -> Rates:
    """The machine's rates for these settings."""
    return machine_rates(settings.device, precision, settings.quick)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments) in a process of its own, which has imported torch and this package and nothing else."""
    with ProcessPoolExecutor(1, mp_context=FORKSERVER) as pool:
        return pool.submit(function, *arguments).result()


def environment(**further: str) -> dict[str, str]:
    """The environment of a command that is measured as its users run it: without the folder of mergekit, which `make
    bench` puts before all others. An older pydantic lies in it, which takes a second and 0.3 GB more to import."""
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    left = [folder for folder in folders if not Path(folder, "mergekit").is_dir()]
    return os.environ | {"PYTHONPATH": os.pathsep.join(left)} | further


def known_device(name: str) -> str:
    """`name`, checked. Raises UserError if there is no such device."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} cannot be used ({str(error).splitlines()[0]}): give cpu or cuda") from error
    return name
