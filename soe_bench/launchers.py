"""What the plan must know of a Hydra launcher: how many jobs it runs at once, and where."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from joblib import effective_n_jobs
from omegaconf import DictConfig


@dataclass(frozen=True)
class Launcher:
    """At most `at_once` jobs run side by side, here or `elsewhere`, where each asks for `gigabytes` (inf: unsaid)."""

    at_once: int
    elsewhere: bool = False
    gigabytes: float = math.inf

    @classmethod
    def of(cls, launcher: DictConfig) -> Launcher:
        """Of Hydra's own configuration of a launcher (conf/launcher has ours)."""
        match launcher._target_.rsplit(".", 1)[-1]:
            case "JoblibLauncher":
                return cls(effective_n_jobs(launcher.n_jobs))
            case "RayLauncher":
                if launcher.ray.init.get("address"):
                    return cls(sys.maxsize, elsewhere=True)
                cores = launcher.ray.init.get("num_cpus") or effective_n_jobs(-1)
                return cls(max(1, cores // launcher.ray.remote.get("num_cpus", 1)))
            case "LocalLauncher":  # submitit without a queue starts every job
                return cls(sys.maxsize)
            case "SlurmLauncher":
                return cls(launcher.array_parallelism, elsewhere=True, gigabytes=launcher.mem_gb or math.inf)
        return cls(1)
