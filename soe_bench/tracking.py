"""A copy of a run on Weights & Biases. Nothing is read back from it: only the run folder counts.

So nothing that W&B raises stops a job: the first time is one warning, and the mirror of that run ends there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from soe_bench.errors import UserError
from soe_bench.system import distributed

log = logging.getLogger("soe_bench")
MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")  # of wandb's own variable WANDB_MODE


def check_mirror(cfg: DictConfig) -> None:
    """Raises UserError for variables of the environment that W&B would refuse once the first job starts."""
    if cfg.wandb.mode == "disabled":
        return
    mode, address = os.environ.get("WANDB_MODE"), os.environ.get("WANDB_BASE_URL")
    if mode and mode not in MODES:
        raise UserError(f"WANDB_MODE is {mode!r}: it must be one of {', '.join(MODES[:3])}, or unset it")
    if address and not address.startswith(("http://", "https://")):
        raise UserError(f"WANDB_BASE_URL is {address!r}: it must begin with https:// or http://")


class Tracker:
    """Context of one run on W&B. With wandb.mode = disabled, on all but the first process of torchrun, and after W&B
    has failed once, its methods do nothing.

    The run is finished inside the job, because otherwise the next job of a multirun would continue it.
    """

    def __init__(self, cfg: DictConfig, name: str, folder: Path) -> None:
        self.run: Any = None
        if cfg.wandb.mode == "disabled" or distributed.rank() > 0:
            return
        os.environ.setdefault("WANDB_SILENT", "true")
        with self._mirrored():
            import wandb  # takes a second to import: only where it is used

            folder.mkdir(parents=True, exist_ok=True)
            self.run = wandb.init(
                project=cfg.wandb.project,
                group=cfg.sweep_name,
                name=name,
                mode=cfg.wandb.mode,
                dir=folder,
                config=OmegaConf.to_container(cfg, resolve=True),
            )

    @contextmanager
    def _mirrored(self) -> Iterator[None]:
        """Context in which an exception becomes one warning, and ends the mirror."""
        try:
            yield
        except Exception as error:
            self.run = None
            said = " ".join(f"{type(error).__name__}: {error}".split())
            log.warning(
                "Weights & Biases failed, and this run goes on without it (%s). wandb.mode=disabled switches it off",
                said,
            )

    def log(self, metrics: dict, step: int) -> None:
        """Logs one point of the curves, at a training step."""
        if self.run:
            with self._mirrored():
                self.run.log(metrics, step=step)

    def table(self, name: str, rows: list[dict]) -> None:
        """Logs the final records as one table."""
        if self.run and rows:
            with self._mirrored():
                import wandb

                columns = list(rows[0])
                self.run.log({name: wandb.Table(columns=columns, data=[[row[c] for c in columns] for row in rows])})

    def images(self, paths: list[Path]) -> None:
        """Logs pictures, each under its file's name."""
        if self.run:
            with self._mirrored():
                import wandb

                self.run.log({path.stem: wandb.Image(str(path)) for path in paths})

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.run:
            with self._mirrored():
                self.run.finish(exit_code=int(kind is not None))


def mirror_figures(cfg: DictConfig, results_dir: Path) -> None:
    """Logs the figures of a results folder as one more run of the sweep's group."""
    with Tracker(cfg, "figures", Path(cfg.home) / "wandb") as tracker:
        tracker.images(sorted((results_dir / "figures").glob("*.png")))
