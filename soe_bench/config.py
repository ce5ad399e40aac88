"""Configurations of jobs, and objects from configuration nodes."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hydra_plugins.soe_bench_conf import FOLDER
from hydra_plugins.soe_bench_sweeper import jobs
from soe_bench import settings
from soe_bench.errors import UserError, place
from soe_bench.system.files import CONF, check_writable, text_folder, user_path

PACKAGES = ("soe_bench", "baselines")  # whose classes a `_target_` may name


def make(node: DictConfig | dict) -> Any:
    """The object that a node with a `_target_` describes, the only place where one is made.

    A node may come from a file that somebody else wrote (a run folder, a corpus), so a `_target_` may only name a class
    that is defined in this project, in `soe_bench` or `baselines`. Packages of yours are allowed by the environment
    variable SOE_BENCH_PACKAGES (their names, with commas), which no file can set. Raises UserError for any other
    `_target_`, for one that cannot be imported (with the exception that its file raises), and for settings that its
    constructor refuses.
    """
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    _check_targets(plain)
    try:
        return instantiate(plain)
    except InstantiationException as error:
        cause = error.__cause__
        raise cause if isinstance(cause, UserError) else UserError(_said(cause or error)) from error


def _check_targets(node: Any) -> None:
    """Raises UserError if a `_target_`, at any depth, is not allowed, or if another of Hydra's own keys is there."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "_target_":
                _check_target(value)
            elif str(key).startswith("_"):
                raise UserError(f"{key} is not allowed beside _target_: give the constructor's arguments by name")
            _check_targets(value)
    elif isinstance(node, list):
        for value in node:
            _check_targets(value)


def _packages() -> tuple[str, ...]:
    return (*PACKAGES, *filter(None, os.environ.get("SOE_BENCH_PACKAGES", "").split(",")))


def _check_target(target: Any) -> None:
    module, _, name = str(target).rpartition(".")
    own = _packages()
    refused = f"_target_ {target} is refused: it must be a class of {' or '.join(own)}"
    if module.split(".")[0] not in own:
        raise UserError(f"{refused} (SOE_BENCH_PACKAGES=NAME allows a package of yours)")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the module of a stranger's method raises
        raise UserError(f"_target_ {target} cannot be imported: {_said(error)}") from error
    # A module of ours also holds what it imports: only classes that are written in an allowed package are meant.
    if not isinstance(found, type) or found.__module__.split(".")[0] not in own:
        raise UserError(refused)


def _said(error: BaseException) -> str:
    """An exception in one line, with the place in the packages whose classes are allowed."""
    where = place(error, _packages())
    return " ".join(f"{type(error).__name__}: {error}{where and f' ({where})'}".split())


def identity(node: Any) -> Any:
    """A plain configuration with class names in place of the paths of this project's classes, so that its hash stays
    the same if a module moves here. Those of other packages keep their paths: a changed copy has the name of ours."""
    if isinstance(node, dict):
        path = node.get("_target_", "")
        named = {"class": path.rpartition(".")[2] if path.split(".")[0] in PACKAGES else path} if path else {}
        return named | {key: identity(value) for key, value in node.items() if key != "_target_"}
    return [identity(value) for value in node] if isinstance(node, list) else node


def conf_folders() -> list[Path]:
    """Where settings lie: conf, and the folder that the environment variable SOE_BENCH_CONF names. Raises UserError if
    that is no folder."""
    own = os.environ.get(FOLDER)
    if own and not Path(own).is_dir():
        raise UserError(f"{FOLDER} is {own}, which is no folder: it must hold method/NAME.yaml and the like")
    return [CONF, Path(own)] if own else [CONF]


def conf_file(group: str, name: str) -> Path | None:
    """<group>/<name>.yaml in the first of the `conf_folders` that has it, as Hydra finds it; None if none has."""
    paths = (folder / group / f"{name}.yaml" for folder in conf_folders())
    return next((path for path in paths if path.exists()), None)


def method_file(name: str) -> Path:
    """The file of a method. Raises UserError if there is none."""
    found = conf_file("method", name)
    if found is None:
        raise UserError(no_option("method", name))
    return found


def with_method(cfg: DictConfig, name: str, tuned: bool = False) -> DictConfig:
    """A copy of a run's configuration with another method, as conf/method has it, all else equal. With `tuned`, the
    method also has what conf/tuned says of it at the run's scale. Raises UserError for settings of that method that
    break their rules."""
    other = cfg.copy()
    at_scale = conf_file("tuned", f"{name}_{cfg.scale_name}") if tuned else None
    with open_dict(other):
        other.method = OmegaConf.load(method_file(name))
        if at_scale:
            other.method = OmegaConf.merge(other.method, OmegaConf.load(at_scale))
    settings.check(other)
    return other


MULTIRUN = ("-m", "--multirun")  # Hydra's flags
PATH_KEYS = ("home", "results_dir", "data.source.folder", "data.embedding.folder")


def no_option(group: str, name: str) -> str:
    """Says that a group has no such option, and lists those it has, the nearest first."""
    files = [path for folder in conf_folders() for path in sorted((folder / group).glob("*.yaml"))]
    options = [path.stem for path in files if path.stem[0] != "_"]
    return f"there is no {group} {name!r}: choose one of {', '.join(settings.nearest(name, options))}"


def no_setting(key: str, plain: list[str]) -> str:
    """Says that there is no such setting, and which other group has one of that name, or else what its own group has,
    or which setting is nearest, of those that the groups in `plain` have."""
    if key.startswith("hydra.launcher."):
        return (
            f"the launcher has no setting {key.split('.')[-1]}: choose one that has, launcher=NAME (see conf/launcher)"
        )
    groups = [a for a in plain if any((folder / a.partition("=")[0]).is_dir() for folder in conf_folders())]
    try:
        known = _keys(OmegaConf.to_container(compose("config", groups)))
    except (HydraException, OmegaConfBaseException):
        known = []
    group, _, last = key.rpartition(".")
    own = settings.nearest(last, [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == group])
    elsewhere = sorted((name for name in known if name.rpartition(".")[2] == last), key=len)
    nearest = [name for name in [*elsewhere, *settings.nearest(key, known)] if name != key]
    near = f"did you mean {nearest[0]}? " if nearest and key not in known else ""
    several = " (if a method of a list has it, run that method alone: method=NAME)" * key.startswith("method.")
    return (
        f"there is no setting {key}: "
        + (f"{group} has {', '.join(own)}; " if group and own and not elsewhere else near)
        + f"python -m soe_bench --cfg job lists what there is{several}"
    )


def _keys(node: dict) -> list[str]:
    """The dotted names of all settings."""
    return [
        key + rest
        for key, value in node.items()
        for rest in ["", *(f".{inner}" for inner in (_keys(value) if isinstance(value, dict) else ()))]
    ]


def quoted(argument: str) -> str:
    """The argument with the value of a path key in quotes, and `~` in it expanded: Hydra's grammar refuses
    `results_dir=my files (1)` bare. Raises UserError for a path that is there and holds `${`, which would be read as a
    reference to a setting."""
    key, _, value = argument.partition("=")
    if key not in PATH_KEYS or value[:1] in ("'", '"'):
        return argument
    if value[:1] == "~":
        value = str(user_path(value))
    if "${" in value and os.path.exists(value):
        raise UserError(f"{key}: ${{ in {value} would be read as a setting: rename it, or give a link to it")
    escaped = re.sub(r"(\\*)('|$)", lambda run: run[1] * 2 + run[2].replace("'", "\\'"), value)
    return f"{key}='{escaped}'"


def check_text(cfg: DictConfig, written: tuple[str, ...] = ("home",)) -> None:
    """Raises UserError if the corpus is a folder of the user's own text that is not there, or in which a `written`
    folder lies: results would become text. Of hidden folders, as ~/.cache is one, no text is read."""
    if cfg.data.source._target_ != "soe_bench.data.sources.local.Local":
        return
    folder = os.path.realpath(text_folder(cfg.data.source.folder))
    for setting in written:
        place = Path(os.path.realpath(cfg[setting]))
        if place.is_relative_to(folder) and not any(part[0] == "." for part in place.relative_to(folder).parts):
            raise UserError(
                f"{setting} is {place}, which lies in data.source.folder, so that what is written there would become "
                f"text of the corpus: choose a folder outside of {folder}"
            )


def check_folders(cfg: DictConfig) -> None:
    """Raises UserError if a folder that a run needs is not there, cannot be written, or lies in the user's own text."""
    check_text(cfg, written := ("home", "results_dir"))
    for setting in written:
        check_writable(setting, Path(cfg[setting]))


def job_configs(arguments: list[str]) -> tuple[list[DictConfig], DictConfig]:
    """The resolved configuration of every job that Hydra will launch for these arguments, and that of the launcher.

    Raises UserError for two sweep files at once (Hydra would drop both files' parameters without a word), a list of
    values without a sweep, an unknown setting (also as `+key=value`), whatever Hydra itself
    refuses, and a setting that breaks its rule (settings/). Nothing heavy is imported for all this.
    """
    overrides = [argument for argument in arguments if argument not in MULTIRUN]
    for override in overrides:
        if override[:1] == "-" or "=" not in override and override[:1] != "~":  # Hydra would show its grammar's errors
            raise UserError(
                f"settings are given as key=value, not as {override!r}: see python -m soe_bench --help; a value with "
                "spaces needs quotes"
            )
    sweeps = [override for override in overrides if override.startswith("+sweep=")]
    conf_folders()  # that they are there: Hydra says nothing of one that is not
    if len(sweeps) > 1 or "," in "".join(sweeps):
        raise UserError("one sweep at a time: run one sweep after the other (finished runs are not repeated)")
    added = [o for o in overrides if o.startswith("+hydra.")]  # of all other groups settings/ knows the keys
    around = GlobalHydra.instance().hydra  # if the caller is a Hydra application of its own
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="soe_bench"):
            return _composed(arguments, overrides, added)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, AttributeError) as error:
        raise UserError(refusal(error)) from error
    finally:
        GlobalHydra.instance().hydra = around


def _composed(arguments: list[str], overrides: list[str], added: list[str]) -> tuple[list[DictConfig], DictConfig]:
    parsed = OverridesParser.create().parse_overrides(overrides)
    plain = [o.input_line for o in parsed if not o.is_sweep_override()]
    if added:
        raise UserError(no_setting(added[0].lstrip("+").partition("=")[0], plain))
    try:
        base = compose("config", plain, return_hydra_config=True)
        multirun = base.hydra.mode == RunMode.MULTIRUN or len(overrides) < len(arguments)
        if not multirun:
            if len(plain) < len(overrides):
                raise UserError("a list of values needs -m or a sweep file: add -m")
            cfg = base.copy()  # composed once: to compose takes a tenth of a second
            with open_dict(cfg):
                del cfg["hydra"]
            _checked(cfg)
            if cfg.references and any(o.key_or_group == "references" for o in parsed):
                raise UserError("references are jobs of a sweep, and this is one run: add -m, or leave references out")
            return [cfg], base.hydra.launcher
        axes = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # which knows what glob(*) finds
        swept = parser.parse_overrides(axes + overrides)
        if any(o.key_or_group == "references" and o.is_sweep_override() for o in swept):
            raise UserError("references takes one list for the whole sweep, such as references=[generic]")
        references = base.references if isinstance(base.references, ListConfig) else []  # all else is refused below
        own, others = ([_checked(compose("config", job)) for job in each] for each in jobs(swept, references))
        if any(cfg.method != with_method(cfg, cfg.method.name, tuned=True).method for cfg in others):
            raise UserError(
                "the sweep file's own settings of the method would change its references: put them into its "
                "hydra.sweeper.params, as method.KEY: VALUE"
            )
        return own + others, base.hydra.launcher
    except HydraException as error:
        unknown = re.search(r"full_key: (\S+)", str(error.__cause__)) or re.search(r"delete.*'(.+?)'", str(error))
        if unknown and re.match("Could not (override|delete)", str(error)):
            raise UserError(no_setting(unknown[1], plain)) from error
        raise


def _checked(cfg: DictConfig) -> DictConfig:
    settings.check(cfg)
    parent = cfg.method.get("parent")
    for name in {*cfg.references, *([parent.method] if parent else [])}:
        method_file(name)  # that it is there: its settings are checked with the run that has them
    return cfg


def refusal(error: Exception) -> str:
    """Hydra's error in one line, with the options if a group has not the one that was asked for."""
    if "${method}_${scale}" in str(error):  # of conf/tuned, after ~method or ~scale
        return "the method is missing, or the scale: a run needs both"
    missing = re.search(r"Could not find '(.+)/(.+?)'", str(error))
    if missing and missing[1] == "hydra/launcher":
        return f"the launcher {missing[2]} is not installed: conf/launcher says how to install it"
    return no_option(missing[1], missing[2]) if missing else " ".join(str(error).split())
