"""A copy of a run on Weights & Biases. Nothing is read back from it: only the run folder counts."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from soe_bench.system import distributed


class Tracker:
    """Context of one run on W&B. With wandb.mode = disabled, and on all but the first process of torchrun, its methods
    do nothing.

    The run is finished inside the job, because otherwise the next job of a multirun would continue it.
    """

    def __init__(self, cfg: DictConfig, name: str, folder: Path) -> None:
        self.run = None
        if cfg.wandb.mode == "disabled" or distributed.rank() > 0:
            return
        os.environ.setdefault("WANDB_SILENT", "true")
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

    def log(self, metrics: dict, step: int) -> None:
        """Logs one point of the curves, at a training step."""
        if self.run:
            self.run.log(metrics, step=step)

    def table(self, name: str, rows: list[dict]) -> None:
        """Logs the final records as one table."""
        if self.run and rows:
            import wandb

            columns = list(rows[0])
            self.run.log({name: wandb.Table(columns=columns, data=[[row[c] for c in columns] for row in rows])})

    def images(self, paths: list[Path]) -> None:
        """Logs pictures, each under its file's name."""
        if self.run:
            import wandb

            self.run.log({path.stem: wandb.Image(str(path)) for path in paths})

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.run:
            self.run.finish(exit_code=int(kind is not None))


def mirror_figures(cfg: DictConfig, results_dir: Path) -> None:
    """Logs the figures of a results folder as one more run of the sweep's group."""
    with Tracker(cfg, "figures", Path(cfg.home) / "wandb") as tracker:
        tracker.images(sorted((results_dir / "figures").glob("*.png")))
