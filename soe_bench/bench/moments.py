"""What AdamW's moments in bfloat16 do to the loss, measured by short runs on synthetic text."""

from __future__ import annotations

import tempfile

import numpy as np

from soe_bench.bench.measure import BenchSettings, Figure, quartiles
from soe_bench.config import job_configs
from soe_bench.records import read_lines
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run


def moments_loss_change(settings: BenchSettings) -> Figure:
    """Validation loss with moments in bfloat16 minus that in float32: a soup of 16 experts at scale=test, 400 steps,
    mean over the specialists; median and quartiles over three seeds."""
    tokens = 8_192 if settings.quick else 409_600
    with tempfile.TemporaryDirectory() as home:
        losses = np.array(
            [
                [
                    validation_loss(
                        settings, home, f"train.tokens={tokens}", f"seed={seed}", f"train.moments={moments}"
                    )
                    for moments in ("null", "bfloat16")
                ]
                for seed in range(1 if settings.quick else 3)
            ]
        )
    change = losses[:, 1] - losses[:, 0]
    return Figure(
        "moments_bfloat16_loss_change",
        "nats/token",
        **quartiles(change),
        parts={
            "float32_loss": float(losses[:, 0].mean()),
            "bfloat16_loss": float(losses[:, 1].mean()),
            "training_tokens": tokens,
            "seeds": len(losses),
        },
    )


def validation_loss(settings: BenchSettings, home: str, *overrides: str) -> float:
    """Trains a soup of 16 experts at scale=test, with the settings given, in the folder `home`: its loss on validation
    text, mean over the specialists."""
    given = ["scale=test", "method.parent=null", "wandb.mode=disabled", "evaluate.splits=[validation]"]
    run = Run.of(job_configs([*given, f"device={settings.device}", f"home={home}", *overrides])[0][0])
    execute(run.cfg)
    return float(
        np.mean(
            [
                record["loss"]
                for record in read_lines(run.records)
                if record["specialist"] != "generic" and record["h_source"] == "estimate"
            ]
        )
    )
