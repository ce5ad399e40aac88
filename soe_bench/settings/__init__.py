"""Every setting with its type and range: one schema, which the configuration of every job must keep before anything is
planned. `check` is its only entry.

A group of conf/ is a class in job.py, and its settings are the fields. What a `_target_` names has settings of its own,
in the tables METHODS, LAWS, BASES and SOURCES of classes.py: a class that is not in these (a method of yours) may have
any settings, which its constructor judges. Importing this package imports nothing heavy, so that bad settings are
answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from soe_bench.errors import UserError
from soe_bench.settings.classes import BASES, CLASSES
from soe_bench.settings.job import Settings
from soe_bench.settings.kinds import nearest


def check(cfg: DictConfig) -> None:
    """Raises UserError for the first setting of a job that breaks its rule: the setting, its value, the rule, and the
    nearest setting or name where one was misspelt."""
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(" ".join(str(error).split())) from error
    _validate(Settings, values, "")
    for group, (known, other) in CLASSES.items():
        part = values
        for key in group.split("."):
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict):
            target = part.get("_target_")
            _validate(known.get(target, other) if isinstance(target, str) else other, part, group)
    _check_together(values)


def _validate(kind: type[BaseModel], values: Mapping, group: str) -> None:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        raise UserError(_line(error.errors()[0], values, group)) from None


def _line(error: Mapping, values: Mapping, group: str) -> str:
    """One line for pydantic's error."""
    *before, last = error["loc"]
    key = ".".join(map(str, ([group] if group else []) + before + [last]))
    if error["type"] == "missing":
        return f"{key} is missing: it must be set"
    if error["type"] == "extra_forbidden":
        for name in before:
            values = values[name]
        # What was required but is missing is not among `values`, and what is there is mostly right.
        near = nearest(last, [name for name in values if name != last])
        return f"there is no setting {key}" + (f": did you mean {near[0]}?" if near else "")
    rule = "it must be a group of settings" if error["type"].endswith(("model_type", "dict_type")) else error["msg"]
    return f"{key} is {error['input']!r}: {rule}"


def _check_together(values: Mapping) -> None:
    """Raises UserError for settings that are right alone and wrong together."""
    train, base, data = values["train"], values["model"]["base"], values["data"]
    step = train["batch_size"] * train["seq_len"]
    if train["batch_size"] % train["draws_per_step"]:
        raise UserError(
            f"train.batch_size ({train['batch_size']}) must be a multiple of train.draws_per_step "
            f"({train['draws_per_step']})"
        )
    if train["tokens"] < step:
        raise UserError(
            f"train.tokens is {train['tokens']}: it must be at least the {step} tokens of one step "
            "(train.batch_size times train.seq_len)"
        )
    if base["_target_"] not in BASES:
        return
    heads = base["num_attention_heads"]
    if base["hidden_size"] % (2 * heads):
        raise UserError(
            f"model.base.hidden_size is {base['hidden_size']}: it must be model.base.num_attention_heads ({heads}) "
            "times an even number"
        )
    if base["max_position_embeddings"] < train["seq_len"]:
        raise UserError(
            f"model.base.max_position_embeddings is {base['max_position_embeddings']}: it must be at least "
            f"train.seq_len ({train['seq_len']})"
        )
    if base["vocab_size"] != data["vocab_size"]:
        raise UserError(
            f"model.base.vocab_size is {base['vocab_size']}: it must be data.vocab_size ({data['vocab_size']})"
        )
