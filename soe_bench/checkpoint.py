"""Checkpoints: each is one safetensors file, written whole or not at all, and checked when read."""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from soe_bench.errors import UserError
from soe_bench.ops.sharding import Sliced
from soe_bench.system import distributed
from soe_bench.system.files import replacing

log = logging.getLogger("soe_bench")
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16"}  # their names in safetensors
KEPT = 2  # checkpoints kept: the last, and one to fall back to


def _checksum(tensors: dict[str, Tensor], state: str) -> int:
    """Of everything that `load` returns: the state and each tensor's name, type, shape and numbers."""
    value = _checksum_of_names(tensors, state)
    for name in sorted(tensors):
        value = zlib.crc32(_bytes(tensors[name]), value)
    return value


def _checksum_of_names(tensors: Mapping[str, Tensor | Sliced], state: str) -> int:
    kinds = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in sorted(tensors.items())]
    return zlib.crc32(json.dumps([state, kinds]).encode())


def _bytes(tensor: Tensor) -> np.ndarray:
    return tensor.reshape(-1).view(torch.uint8).numpy()


def save(path: Path, tensors: Mapping[str, Tensor | Sliced], state: dict) -> None:
    """Writes tensors and a JSON-able `state` to `path` atomically. Raises UserError if the disk refuses.

    Under torchrun every process calls this and rank 0 writes. The file is the same for any number of processes.
    """
    if any(isinstance(tensor, Sliced) for tensor in tensors.values()):
        _save_slices(path, tensors, state)
    else:
        distributed.on_first(_save, path, tensors, state)


def _save(path: Path, tensors: Mapping[str, Tensor], state: dict) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state)
    metadata = {"state": text, "checksum": str(_checksum(tensors, text))}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # how safetensors reports that the disk refuses
            raise OSError(str(error)) from error


def _save_slices(path: Path, tensors: Mapping[str, Tensor | Sliced], state: dict) -> None:
    """`save`, one row at a time, so that rank 0 never holds more than one whole row of a sliced tensor."""
    rows = (row for name in sorted(tensors) for row in _rows(tensors[name]))
    refused = None
    if distributed.rank() == 0:
        try:
            _write_rows(path, tensors, rows, state)
        except UserError as error:
            refused = error
    for _ in rows:  # the other ranks send their slices here, and rank 0 takes those left if the disk refused
        pass

    def conclude() -> None:
        if refused:
            raise refused

    distributed.on_first(conclude)


def _rows(tensor: Tensor | Sliced) -> Iterable[Tensor | None]:
    return tensor.rows() if isinstance(tensor, Sliced) else tensor.cpu()


def _write_rows(path: Path, tensors: Mapping[str, Tensor | Sliced], rows: Iterable[Tensor], state: dict) -> None:
    """Writes a safetensors file: the length of the header, the header, then the numbers in the order of the names."""
    end, entries, text = 0, {}, json.dumps(state)
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": tensor.shape, "data_offsets": [start, end]}

    def header(checksum: int) -> bytes:  # its length is the same for every checksum
        metadata = {"state": text, "checksum": f"{checksum:010d}"}
        content = json.dumps({"__metadata__": metadata, **entries}).encode()
        content += b" " * (-len(content) % 8)  # the numbers begin at a multiple of their size
        return len(content).to_bytes(8, "little") + content

    checksum = _checksum_of_names(tensors, text)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(header(0))
        for row in rows:
            numbers = _bytes(row)
            checksum = zlib.crc32(numbers, checksum)
            file.write(numbers)
        file.seek(0)
        file.write(header(checksum))


def load(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Reads what `save` wrote. Raises UserError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if _checksum(tensors, metadata["state"]) != int(metadata["checksum"]):
            raise ValueError("the checksum differs")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path} is damaged, or another version wrote it ({why}): delete it and run the same command again"
        ) from error
    return tensors, json.loads(metadata["state"])


def save_step(folder: Path, step: int, tensors: Mapping[str, Tensor | Sliced], state: dict) -> None:
    """Writes the checkpoint of a step and deletes all but the last two."""
    save(folder / f"checkpoint-{step:09d}.safetensors", tensors, state)
    for old in sorted(folder.glob("checkpoint-*.safetensors"))[:-KEPT]:
        old.unlink(missing_ok=True)  # another process may have been faster


def drop(folder: Path) -> None:
    """Deletes the checkpoints of a trained run, and what a killed save left behind."""
    for path in (*folder.glob("checkpoint-*.safetensors"), *folder.glob(".checkpoint-*.tmp")):
        path.unlink()


def load_last(folder: Path) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors and state of the last undamaged checkpoint of a run; None if it has none yet. Logs and deletes each
    damaged one after it, because a damaged one among the KEPT would take the place of a good one.

    Raises UserError if there are checkpoints and every one is damaged.
    """
    paths = sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)
    for number, path in enumerate(paths):
        try:
            found = load(path)
        except UserError as error:
            log.warning("%s", error)
            continue
        for damaged in paths[:number]:
            damaged.unlink(missing_ok=True)  # another process may have been faster
        return found
    if paths:
        raise UserError(f"every checkpoint in {folder} is damaged: delete them to train this run from the start")
    return None
