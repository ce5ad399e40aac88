"""The files of a run folder that a results folder is made from, read and checked.

Every function raises UserError, which names the file and says what to do, if a file is missing or damaged, or if
another version wrote it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from soe_bench.data.corpus import file_hash
from soe_bench.data.splits import GENERIC
from soe_bench.errors import UserError
from soe_bench.records import EVALUATE_AGAIN, TRAIN_AGAIN, csv_rows, json_lines, read_lines, read_training
from soe_bench.system.files import write_text
from soe_bench.train import VALIDATED

SEALED = ("metrics.jsonl", "alpha.csv")  # no other file has their numbers, so that only a hash tells of a change
HASHES = "files.json"
CURVE = ("step", "tokens", "train_loss", *VALIDATED, "lr", "tokens_per_second")
ALPHA = ["specialist", "expert", "alpha"]


def seal(folder: Path) -> None:
    """Writes the hash of each of SEALED into HASHES, in one line."""
    write_text(folder / HASHES, json.dumps({name: file_hash(folder / name) for name in SEALED}) + "\n")


def _check_hash(path: Path) -> None:
    sealed = path.with_name(HASHES)
    if sealed.exists():  # runs of earlier versions have none
        _, known = next(json_lines(sealed, TRAIN_AGAIN), (0, {}))
        if known.get(path.name) != file_hash(path):
            raise UserError(f"{path}: it is not as the training wrote it: {TRAIN_AGAIN}")


def read_records(path: Path) -> list[dict]:
    """The records of one evaluation, which say the same of their training as training.json."""
    records, run = read_lines(path), read_training(path.parent)
    for number, record in enumerate(records, start=1):
        if wrong := [name for name, value in run.items() if record.get(name) != value]:
            raise UserError(f"{path}:{number}: field {wrong[0]!r} is not as in training.json: {EVALUATE_AGAIN}")
    return records


def read_curve(folder: Path) -> pd.DataFrame:
    """The learning curve, metrics.jsonl: a row per reporting interval, null where a loss was not measured."""
    path = folder / "metrics.jsonl"
    rows: list[dict] = []
    for line, row in json_lines(path, TRAIN_AGAIN):
        for name in CURVE:
            value = row.get(name, None if name == "copying_gain" else "missing")  # runs of earlier versions have none
            if not (value is None and name in VALIDATED) and not is_finite(value):
                raise UserError(f"{path}:{line}: field {name!r} is {value!r:.100}, not a finite number: {TRAIN_AGAIN}")
        if rows and row["step"] <= rows[-1]["step"]:
            raise UserError(f"{path}:{line}: its step is not after the one before: {TRAIN_AGAIN}")
        rows.append(row)
    training = read_training(folder)
    if training["parent"] is None and (rows[-1]["tokens"] if rows else 0) != training["training_tokens"]:
        raise UserError(f"{path}: it does not end with the training: {TRAIN_AGAIN}")
    _check_hash(path)
    return pd.DataFrame(rows, columns=CURVE)


def read_alpha(folder: Path) -> pd.DataFrame:
    """The coefficients, alpha.csv, as text: every expert of every specialist, and of generic text at the end. No row
    for a method without coefficients."""
    path = folder / "alpha.csv"
    header, rows = csv_rows(path, TRAIN_AGAIN)
    if header != ALPHA:
        raise UserError(f"{path}:1: the columns are not {', '.join(ALPHA)}: {TRAIN_AGAIN}")
    n = max(1, read_training(folder)["n_experts"])
    for place, (line, (specialist, expert, alpha)) in enumerate(rows):
        if expert != str(place % n) or specialist != rows[place - place % n][1][0] or not is_finite(alpha):
            raise UserError(f"{path}:{line}: not a coefficient of expert {place % n}: {TRAIN_AGAIN}")
    if rows and (len(rows) % n or rows[-1][1][0] != GENERIC):
        raise UserError(f"{path}: the last rows are missing: {TRAIN_AGAIN}")
    _check_hash(path)
    return pd.DataFrame([row for _, row in rows], columns=ALPHA)


def is_finite(value: object) -> bool:
    """Whether a value of a JSON or CSV file is a number, and a finite one."""
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
