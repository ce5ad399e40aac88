"""Objects from configuration nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from soe_bench.errors import UserError

CONF = Path(__file__).parents[1] / "conf"


def make(node: DictConfig) -> Any:
    """The object that a node with a `_target_` describes. Raises UserError where a setting is refused."""
    try:
        return instantiate(node)
    except InstantiationException as error:
        cause = error.__cause__
        raise cause if isinstance(cause, UserError) else UserError(" ".join(str(error).split())) from error


def method_node(name: str) -> DictConfig:
    """conf/method/<name>.yaml. Raises UserError if there is none."""
    path = CONF / "method" / f"{name}.yaml"
    if not path.exists():
        raise UserError(f"there is no method {name!r} (no {path.name} in conf/method)")
    return OmegaConf.load(path)


def with_method(cfg: DictConfig, name: str) -> DictConfig:
    """A copy of a run's configuration with another method, as conf/method has it, all else equal."""
    other = cfg.copy()
    with open_dict(other):
        other.method = method_node(name)
    return other
