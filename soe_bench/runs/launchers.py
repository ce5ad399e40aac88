"""What the plan must know about a Hydra launcher: how many jobs it runs at once, and where."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from joblib import effective_n_jobs
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from soe_bench.errors import UserError


@dataclass(frozen=True)
class Launcher:
    """At most `at_once` jobs run side by side, on this machine or `elsewhere`, where each asks for `gigabytes` (inf: no
    amount is set). `obeys`: whether a stop request reaches its jobs, so that the command can wait until they stop."""

    at_once: int
    elsewhere: bool = False
    gigabytes: float = math.inf
    obeys: bool = True

    @classmethod
    def of(cls, launcher: DictConfig) -> Launcher:
        """From Hydra's own configuration of a launcher (ours are in conf/launcher). Raises UserError for numbers of
        jobs or cores that no launcher can have."""
        try:
            match launcher._target_.rsplit(".", 1)[-1]:
                case "JoblibLauncher":
                    return cls(effective_n_jobs(launcher.n_jobs))
                case "RayLauncher":
                    if launcher.ray.init.get("address"):
                        return cls(sys.maxsize, elsewhere=True, obeys=False)
                    cores = launcher.ray.init.get("num_cpus") or effective_n_jobs(-1)
                    return cls(max(1, cores // launcher.ray.remote.get("num_cpus", 1)), obeys=False)
                case "LocalLauncher":  # submitit without a queue starts every job
                    return cls(sys.maxsize)
                case "SlurmLauncher":
                    return cls(launcher.array_parallelism, True, launcher.mem_gb or math.inf, obeys=False)
            return cls(1)
        except (ValueError, TypeError, AttributeError, ArithmeticError, OmegaConfBaseException) as error:
            said = " ".join(str(error).split())
            raise UserError(f"hydra.launcher is refused ({said}): correct that setting") from error
