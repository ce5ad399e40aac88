"""Objects from configuration nodes."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from soe_bench.errors import UserError


def make(node: DictConfig) -> Any:
    """The object that a node with a `_target_` describes. Raises UserError where a setting is refused."""
    try:
        return instantiate(node)
    except InstantiationException as error:
        cause = error.__cause__
        raise cause if isinstance(cause, UserError) else UserError(" ".join(str(error).split())) from error
