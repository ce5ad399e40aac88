"""Checkpoints: one safetensors file each, written whole or not at all, checked when read."""

from __future__ import annotations

import json
import logging
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from soe_bench.errors import UserError
from soe_bench.files import replacing

log = logging.getLogger("soe_bench")
KEPT = 2  # checkpoints kept: the last, and one to fall back to


def _checksum(tensors: dict[str, Tensor]) -> int:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].contiguous().view(torch.uint8).numpy(), value)
    return value


def save(path: Path, tensors: dict[str, Tensor], state: dict) -> None:
    """Writes tensors and a JSON-able `state` to `path` atomically. Raises UserError where the disk refuses."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": json.dumps(state), "crc32": str(_checksum(tensors))}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # what it makes of the disk's refusal
            raise OSError(str(error)) from error


def load(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Reads what `save` wrote. Raises UserError if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        state, checksum = json.loads(metadata["state"]), int(metadata["crc32"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run the same command again") from error
    if _checksum(tensors) != checksum:
        raise UserError(f"{path} is damaged (checksum differs): delete it and run the same command again")
    return tensors, state


def save_step(folder: Path, step: int, tensors: dict[str, Tensor], state: dict) -> None:
    """Writes the checkpoint of a step and drops all but the last two."""
    save(folder / f"checkpoint-{step:09d}.safetensors", tensors, state)
    for old in sorted(folder.glob("checkpoint-*.safetensors"))[:-KEPT]:
        old.unlink()


def drop(folder: Path) -> None:
    """Removes the checkpoints of a run that is trained, and what a killed save left."""
    for path in (*folder.glob("checkpoint-*.safetensors"), *folder.glob(".checkpoint-*.tmp")):
        path.unlink()


def load_last(folder: Path) -> tuple[dict[str, Tensor], dict] | None:
    """The last sound checkpoint of a run, None if it has none yet. Falls back past a damaged one with a warning.

    Raises UserError if there are checkpoints and every one is damaged.
    """
    paths = sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)
    for path in paths:
        try:
            return load(path)
        except UserError as error:
            log.warning("%s", error)
    if paths:
        raise UserError(f"every checkpoint in {folder} is damaged: delete them to train this run from the start")
    return None
