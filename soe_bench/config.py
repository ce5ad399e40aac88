"""Configurations of jobs, and objects from configuration nodes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from soe_bench.errors import UserError

CONF = Path(__file__).parents[1] / "conf"


def make(node: DictConfig) -> Any:
    """The object that a node with a `_target_` describes. Raises UserError if it refuses a setting."""
    try:
        return instantiate(node)
    except InstantiationException as error:
        cause = error.__cause__
        raise cause if isinstance(cause, UserError) else UserError(" ".join(str(error).split())) from error


def identity(node: Any) -> Any:
    """A plain configuration with class names in place of class paths, so that its hash stays the same if a module
    moves."""
    if isinstance(node, dict):
        named = {"class": node["_target_"].rpartition(".")[2]} if "_target_" in node else {}
        return named | {key: identity(value) for key, value in node.items() if key != "_target_"}
    return [identity(value) for value in node] if isinstance(node, list) else node


def method_node(name: str) -> DictConfig:
    """conf/method/<name>.yaml. Raises UserError if there is none."""
    path = CONF / "method" / f"{name}.yaml"
    if not path.exists():
        raise UserError(f"there is no method {name!r}: choose a file of conf/method, without .yaml")
    return OmegaConf.load(path)


def with_method(cfg: DictConfig, name: str) -> DictConfig:
    """A copy of a run's configuration with another method, as conf/method has it, all else equal."""
    other = cfg.copy()
    with open_dict(other):
        other.method = method_node(name)
    return other


PATH_KEYS = ("home", "results_dir", "data.source.folder", "data.embedding.folder")


NO_SETTING = "there is no setting {}: python -m soe_bench --cfg job lists what there is"


ONE_METHOD = " (if one method of several has it, run that one alone: method=NAME)"  # Hydra looks first


def quoted(argument: str) -> str:
    """The argument with the value of a path key in quotes: Hydra's grammar refuses `results_dir=my files (1)` bare."""
    key, _, value = argument.partition("=")
    if key not in PATH_KEYS or value[:1] in ("'", '"'):
        return argument
    escaped = re.sub(r"(\\*)('|$)", lambda run: run[1] * 2 + run[2].replace("'", "\\'"), value)
    return f"{key}='{escaped}'"


def job_configs(arguments: list[str]) -> tuple[list[DictConfig], DictConfig]:
    """The resolved configuration of every job that Hydra will launch for these arguments, and that of the launcher.

    Raises UserError for two sweep files at once (Hydra would drop both files' parameters without a word), a list of
    values without a sweep, an unknown setting (also as `+key=value`, which would be ignored), and whatever Hydra itself
    refuses.
    """
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    sweeps = [override for override in overrides if override.startswith("+sweep=")]
    if len(sweeps) > 1 or "," in "".join(sweeps):
        raise UserError("one sweep at a time: run one sweep after the other (finished runs are not repeated)")
    if added := [o for o in overrides if o.startswith("+") and o not in sweeps]:
        raise UserError(NO_SETTING.format(added[0].lstrip("+").partition("=")[0]))
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        plain = [o.input_line for o in parsed if not o.is_sweep_override()]
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="soe_bench"):
            base = compose("config", plain, return_hydra_config=True)
            multirun = base.hydra.mode == RunMode.MULTIRUN or len(overrides) < len(arguments)
            if not multirun:
                if len(plain) < len(overrides):
                    raise UserError("a list of values needs -m or a sweep file: add -m")
                jobs = [plain]
            else:
                axes = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
                parser = OverridesParser.create(
                    GlobalHydra.instance().config_loader()
                )  # which knows what glob(*) finds
                jobs = BasicSweeper.split_arguments(parser.parse_overrides(axes + overrides), None)[0]
            return [compose("config", job) for job in jobs], base.hydra.launcher
    except (HydraException, OmegaConfBaseException) as error:
        if missing := re.search("Could not find 'hydra/launcher/(.+?)'", str(error)):
            raise UserError(f"the launcher {missing[1]} is not installed: conf/launcher says how to do it") from error
        unknown = re.match(r"Could not override '(.+?)'", str(error))
        raise UserError(
            NO_SETTING.format(unknown[1]) + ONE_METHOD * unknown[1].startswith("method.")
            if unknown
            else " ".join(str(error).split())
        ) from error
