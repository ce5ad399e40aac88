"""Records: the key and the fields of a line of records.jsonl, and reading them with every line checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from soe_bench.errors import UserError

SCHEMA = 2  # 2: FLOPs include attention
# A record's key: no two records of a results folder agree in all of these.
KEY = ("run_id", "specialist", "split", "budget_tokens", "h_source", "estimator", "n_documents", "document_draw")
H_SOURCES = ("estimate", "tuned", "uniform", "shuffled", "h_0", "zero", "none")
# What a reader relies on: fields that are text, whole numbers, finite numbers, and those that may be null.
TEXT = (
    "run_id",
    "specialist",
    "split",
    "h_source",
    "method",
    "scale",
    "model",
    "data",
    "data_fingerprint",
    "recipe",
    "device",
)
WHOLE = (
    "budget_tokens",
    "n_experts",
    "seed_data",
    "seed_init",
    "seed_mix",
    "training_tokens",
    "parameters",
    "stored_parameters",
    "deployed_parameters",
    "peak_memory_bytes",
)
NUMBER = ("loss", "bits_per_byte", "max_epochs", "flops", "seconds")
NULLABLE = (
    "estimator",
    "n_documents",
    "document_draw",
    "pi",
    "draws_per_step",
    "commit",
    "dirty",
    "trained_for",
    "loss_se_documents",
    "specialist_tokens",
    "specialist_flops",
    "specialist_seconds",
)


def read_records(path: Path) -> list[dict]:
    """Every record of a records.jsonl with all its fields, checked, in the order of the file.

    Raises UserError that names file and line: not a JSON object, unknown schema, a field missing or of another type, a
    key that an earlier line has; and for a file that is not there.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file: run a sweep and collect its records first")
    records: list[dict] = []
    seen: dict[tuple, int] = {}
    for number, line in enumerate(text_lines(path), start=1):
        where = f"{path}:{number}"
        record = _parse_record(line, where)
        key = tuple(record[field] for field in KEY)
        if key in seen:
            raise UserError(f"{where}: same key as line {seen[key]} ({_describe(key)}): remove one of the two")
        seen[key] = number
        records.append(record)
    return records


def text_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file without their ends. Raises UserError if it is not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}): restore the committed file") from None
    return text.removesuffix("\n").split("\n") if text else []


def _parse_record(line: str, where: str) -> dict:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not a JSON object ({error}): restore or remove the line") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: not a JSON object: restore or remove the line")
    if record.get("schema") != SCHEMA:
        raise UserError(f"{where}: unknown schema {record.get('schema')!r}: this version reads schema {SCHEMA}")
    _check(record, TEXT, lambda value: isinstance(value, str) and value != "", "text", where)
    _check(record, WHOLE, lambda value: type(value) is int and value >= 0, "a whole number >= 0", where)
    _check(record, NUMBER, lambda value: type(value) in (int, float) and math.isfinite(value), "a finite number", where)
    _check(
        record, NULLABLE, lambda value: value is None or isinstance(value, str | int | float), "a value or null", where
    )
    if record["h_source"] not in H_SOURCES:
        raise UserError(f"{where}: unknown h_source {record['h_source']!r}: one of {', '.join(H_SOURCES)}")
    return record


def _check(record: dict, fields: tuple[str, ...], good: Callable[[object], bool], kind: str, where: str) -> None:
    for field in fields:
        if field not in record:
            raise UserError(f"{where}: field {field!r} is missing: restore or remove the line")
        if not good(record[field]):
            raise UserError(f"{where}: field {field!r} is {record[field]!r}, not {kind}: restore or remove the line")


def _describe(key: tuple) -> str:
    return ", ".join(f"{field}={value}" for field, value in zip(KEY, key, strict=True) if value is not None)
