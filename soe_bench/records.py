"""Records: every field that they have, with its type, unit and meaning, and how they are stored, read and checked.

A results folder holds runs.csv, a row per run, and evaluations.csv, a row per evaluation. In a CSV, text stands as it
is, an empty cell is null, and anything else is written as in JSON, so that numbers are read back to the last bit. In
the code a record is a dict with the fields of both: an evaluation and its run.
"""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from soe_bench.errors import UserError
from soe_bench.system.files import write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 4  # 2: FLOPs include attention; 3: runs.csv and evaluations.csv; 4: what a parent took, rate of fine-tuning
# What the evaluations of a run may be of: the settings in `evaluate` have these names too.
SPLITS = ("validation", "test")
CONTROLS = ("uniform", "shuffled", "h_0", "tuned", "zero")
ESTIMATORS = ("nearest_centroid", "smoothed", "soft", "tuned_coefficients")
H_SOURCES = ("estimate", *CONTROLS, "none")
CONFIG = {"method": "_target_", "model": "base", "train": "seq_len", "data": "name", "evaluate": "fine_tuning"}
LARGEST = 2**63  # of whole numbers
MOST_BEYOND_Q99 = 0.05  # of the estimate passages, five times as many as of generic text: more is outside the corpus
MOST_EPOCHS = 16  # up to 15 or 20 passes over scarce text were found to do no harm (see results/LOG.md)
REPAIR = "restore the file, or remove the line"
TRAIN_AGAIN = "delete training.json there, so that the same command trains the run again"
EVALUATE_AGAIN = "delete the file, so that the same command evaluates the run again"
# Type -> what a value must be, in words and as a test.
KINDS: dict[type, tuple[str, Callable[[object], bool]]] = {
    str: ("text", lambda value: isinstance(value, str) and value != ""),
    int: ("a whole number >= 0", lambda value: type(value) is int and 0 <= value < LARGEST),
    float: ("a finite number", lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max),
    bool: ("true or false", lambda value: type(value) is bool),
}


def _field(meaning: str, unit: str = "", **options: object) -> object:
    return field(metadata={"meaning": meaning, "unit": unit}, **options)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run: what is the same for all its evaluations. All of it is of one training."""

    schema: int = _field(f"version of this format: {SCHEMA}", default=SCHEMA)
    run_id: str = _field(
        "identity of the training run: a hash of its resolved configuration and of the data fingerprint"
    )
    method: str = _field(
        "`generic` (the base model trained at h_0), `dense_on_pi` (the base model trained on the soup's batches), "
        "`soup`, and other baselines by their name"
    )
    n_experts: int = _field("n; 0 for a method without experts")
    recipe: str = _field("a hash of the configuration without its seeds")
    scale: str = _field("name of the scale")
    model: str = _field(
        "name of the base model; in brackets what is not as its file in `conf/model` says, or a length of the context "
        "that is not the scale's"
    )
    parameters: int = _field(
        "P, parameters of the base model (and of what a method adds to it: `dense_conditioned` has one vector more)"
    )
    pi: str | None = _field("the distribution that h is drawn from in training; `h_0` also for methods that draw none")
    draws_per_step: int | None = _field("R, draws of h per training step")
    parent: str | None = _field("run id of the run that it started from")
    seed_data: int = _field("seed of the token order")
    seed_init: int = _field("seed of the initialisation")
    seed_mix: int = _field("seed of the draws of h and domains")
    seed_kmeans: int = _field("seed of the clustering")
    data: str = _field("name of the corpus")
    data_fingerprint: str = _field("sha256 of the corpus's manifest, configuration, k-means seed and builder version")
    training_tokens: int = _field("what the training read, a parent's included", "tokens")
    flops: float = _field("what the training computed, a parent's included", "FLOPs")
    seconds: float = _field("how long the training took, a parent's included", "seconds")
    parent_tokens: int | None = _field("the parent's part of `training_tokens`; null: no parent, or not kept", "tokens")
    parent_flops: float | None = _field("the parent's part of `flops`; null as there", "FLOPs")
    parent_seconds: float | None = _field("the parent's part of `seconds`; null as there", "seconds")
    peak_memory_bytes: int = _field("peak memory of the training process, or of the device", "bytes")
    stored_parameters: int = _field("parameters kept for all specialists")
    deployed_parameters: int = _field("parameters of one specialist as it is used")
    trained_for: int | None = _field(
        "number of specialists that the training made a model for, one each (CRISP): each is charged that part of what "
        "the training took without its parent, which serves all; null: all of the training serves all"
    )
    threads: int = _field("threads that it was computed with")
    precision: str = _field("number format that it was computed in")
    device: str = _field("what it was computed on")
    max_epochs: float = _field(
        f"most passes over any one domain during training; rows above {MOST_EPOCHS} are flagged in the tables", "passes"
    )
    commit: str | None = _field("the code's commit at the time of the training")
    dirty: bool | None = _field("whether there were uncommitted changes")


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated of a run: with the run's id the key of a record, of which there is at most one."""

    specialist: str = _field("the specialist evaluated on; `generic` is generic held-out text")
    split: str = _field("`validation` (choices are made on it) or `test` (opened only to write records)")
    h_source: str = _field(
        "where the domain weights h come from: `estimate` (the specialist's estimate split), `tuned` (by gradient on "
        "validation), `uniform`, `shuffled` (that of the next specialist in the alphabet), `h_0` (the generic "
        "weights), `zero` (alpha = 0: the shared parameters alone), `none` (the method takes no h)"
    )
    estimator: str | None = _field("how h was estimated; null if it was not", default=None)
    n_documents: int | None = _field("number of documents that h was estimated from; null if it was not", default=None)
    document_draw: int | None = _field(
        "which random draw of `n_documents` documents; null: all documents of the split. Rows with a "
        "number here are used by the table and the figure `documents` alone",
        default=None,
    )
    budget_tokens: int = _field(
        "how much of the specialist's own train split the model was fine-tuned on; 0: none", "tokens", default=0
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(Evaluation):
    """An evaluation of a run: what it is of, what delivering the model took, and the loss."""

    run_id: str = _field("the run, which has its row in runs.csv")
    sweep: str = _field("the sweep that it was made for")
    specialist_tokens: int | None = _field(
        "tokens of fine-tuning, trials of the rate included; 0 without fine-tuning. This field and the next two say "
        "what this one specialist took beside the training; null: not measured",
        "tokens",
    )
    specialist_flops: float | None = _field("FLOPs of the matrix products, evaluations included", "FLOPs")
    specialist_seconds: float | None = _field("time", "seconds")
    fine_tuning_rate: float | None = _field(
        "the learning rate of fine-tuning that validation text chose; 0: none gave a lower loss there, and the model "
        "is as it was; null: not fine-tuned"
    )
    loss_seconds: float | None = _field("how long the loss below took to compute; null: not measured", "seconds")
    loss: float = _field("mean cross-entropy: `nats_sum / tokens`", "nats/token")
    nats_sum: float = _field("summed loss", "nats")
    tokens: int = _field("predicted tokens", "tokens")
    bytes: int = _field("UTF-8 bytes of the text", "bytes")
    documents: int = _field("documents of the text")
    loss_se_documents: float | None = _field(
        "standard error of `loss` over documents; null for one document", "nats/token"
    )
    bits_per_byte: float = _field("`nats_sum / (ln 2 * bytes)`", "bits/byte")


@dataclass(frozen=True)
class Column:
    """A field of a record as it is stored."""

    name: str
    kind: type
    nullable: bool
    unit: str
    meaning: str

    def read(self, text: str) -> object:
        """The value of a CSV cell; text that is no value of this kind stays text, for `check` to refuse."""
        if self.kind is str:
            return text or (None if self.nullable else "")
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text

    def write(self, value: object) -> str:
        """A value as a CSV cell."""
        return "" if value is None else value if self.kind is str else json.dumps(value)

    def fault(self, value: object) -> str | None:
        """What is wrong with a value that a record cannot have here; None for any other."""
        words, good = KINDS[self.kind]
        if value is None and self.nullable or good(value):
            return None
        return f"field {self.name!r} is {value!r:.100}, not {words}" + " or null" * self.nullable


def _columns(record: type) -> list[Column]:
    kinds = [(each, get_args(each.type)) for each in fields(record)]
    return [Column(each.name, kind[0] if kind else each.type, bool(kind), **each.metadata) for each, kind in kinds]


RUN = _columns(RunRecord)
EVALUATION = sorted(_columns(EvaluationRecord), key=lambda column: column.name != "run_id")  # run_id first
KEY = ("run_id", *(each.name for each in fields(Evaluation)))


def sort_key(record: dict) -> list[tuple]:
    """By the record's key: null first, then numbers by size, text by letter."""
    return [() if record[name] is None else (record[name],) for name in KEY]


def outside(specialists: "pd.DataFrame", fingerprint: str) -> list[str]:
    """The specialists of a corpus that the rows of its specialists.csv show to lie outside it, sorted."""
    rows = specialists[(specialists.data_fingerprint == fingerprint) & (specialists.split == "estimate")]
    return sorted(rows.specialist[rows.fraction_beyond_q99 > MOST_BEYOND_Q99])


def read_records(folder: Path) -> list[dict]:
    """Every record of a results folder, as `numbered_records` checks them."""
    return [record for _, record in numbered_records(folder)]


def numbered_records(folder: Path) -> list[tuple[int, dict]]:
    """Every record of a results folder, each with its line in evaluations.csv, in the order of the file.

    Raises UserError that names file and line: a column or field that is missing, unknown or of another type, losses
    that contradict each other, a key that an earlier line has, an evaluation without its run; and for no such file.
    """
    evaluations = _read_table(folder / "evaluations.csv", EVALUATION, KEY)  # before the runs, which are written first
    runs = {run["run_id"]: run for _, run in _read_table(folder / "runs.csv", RUN, ("run_id",))}
    records = []
    for line, evaluation in evaluations:
        where = f"{folder / 'evaluations.csv'}:{line}"
        if evaluation["run_id"] not in runs:
            raise UserError(f"{where}: run {evaluation['run_id']!r} has no row in runs.csv: {REPAIR}")
        records.append((line, runs[evaluation["run_id"]] | evaluation))
    return records


def write_records(folder: Path, records: Iterable[dict]) -> None:
    """Writes the records, sorted by key, as runs.csv and evaluations.csv. Where it is killed in between, some runs have
    no evaluation yet."""
    ordered = sorted(records, key=sort_key)
    runs = {record["run_id"]: record for record in ordered}
    write_text(folder / "runs.csv", table_text(RUN, runs.values()))
    write_evaluations(folder, ordered)


def write_evaluations(folder: Path, records: Iterable[dict]) -> None:
    """Writes evaluations.csv alone, in the order of the records."""
    write_text(folder / "evaluations.csv", table_text(EVALUATION, records))


def read_lines(path: Path) -> list[dict]:
    """The records in a run folder, a JSON object per line, checked as `read_records` does."""
    records: list[dict] = []
    for number, record in json_lines(path, EVALUATE_AGAIN):
        for fault in _faults(record, [*RUN, *EVALUATION]):
            raise UserError(f"{path}:{number}: {fault}: {EVALUATE_AGAIN}")
        records.append(record)
    if not records:
        raise UserError(f"{path}: it has no records: {EVALUATE_AGAIN}")
    return records


def read_training(folder: Path) -> dict:
    """The fields of a trained run, from training.json in its folder. Raises UserError as `read_lines` does."""
    path = folder / "training.json"
    run = _json_object(read_utf8(path, TRAIN_AGAIN), str(path), TRAIN_AGAIN)
    for fault in _faults(run, RUN):
        raise UserError(f"{path}: {fault}: {TRAIN_AGAIN}")
    return run


def read_config(folder: Path) -> dict:
    """The configuration of a trained run, from config.json in its folder. Raises UserError where it is damaged."""
    path = folder / "config.json"
    cfg = _json_object(read_utf8(path, TRAIN_AGAIN), str(path), TRAIN_AGAIN)
    for group, key in CONFIG.items():
        if not isinstance(cfg.get(group), dict) or key not in cfg[group]:
            raise UserError(f"{path}: {group}.{key} is missing: {TRAIN_AGAIN}")
    return cfg


def json_lines(path: Path, repair: str) -> Iterator[tuple[int, dict]]:
    """The JSON object in each line of a file, with the line's number. Raises UserError, which says to `repair`, for any
    other line, and for a last one without its end."""
    for number, line in enumerate(io.StringIO(read_utf8(path, repair), newline="\n"), start=1):
        where = f"{path}:{number}"
        if not line.endswith("\n"):
            raise UserError(f"{where}: the line is cut off: {repair}")
        yield number, _json_object(line, where, repair)


def csv_rows(path: Path, repair: str = REPAIR) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV and its rows, each with the line that it begins on. Raises UserError, which says to `repair`,
    for rows of another length than the header, a last one without its end, and what is no CSV in UTF-8."""
    text = read_utf8(path, repair)
    rows = list(_numbered_rows(path, text, repair))
    if rows and not text.endswith("\n"):
        raise UserError(f"{path}:{rows[-1][0]}: the line is cut off: {repair}")
    _, header = rows.pop(0) if rows else (1, [])
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(f"{path}:{line}: {len(row)} fields, not {len(header)}: {repair}")
    return header, rows


def read_utf8(path: Path, repair: str = "restore the committed file") -> str:
    """The text of a file, with its line ends as they are. Raises UserError if it is not UTF-8 or cannot be read."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}): {repair}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): {repair}") from None


def _json_object(text: str, where: str, repair: str) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not a JSON object ({error}): {repair}") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: not a JSON object: {repair}")
    return value


def _numbered_rows(path: Path, text: str, repair: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: not CSV ({error}): {repair}") from None


def _read_table(path: Path, columns: list[Column], key: tuple[str, ...]) -> list[tuple[int, dict]]:
    """The rows of a CSV with these columns, each with its line; no two agree in `key`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file: run a sweep with this results_dir first")
    header, rows = csv_rows(path)
    known = {column.name: column for column in columns}
    if missing := [name for name in known if name not in header]:
        raise UserError(f"{path}:1: column {missing[0]!r} is missing: restore the line")
    if odd := [name for place, name in enumerate(header) if name not in known or name in header[:place]]:
        raise UserError(f"{path}:1: column {odd[0]!r} is unknown, or there twice: restore the line")
    seen: dict[tuple, int] = {}
    table = []
    for line, cells in rows:
        where = f"{path}:{line}"
        row = {name: known[name].read(cell) for name, cell in zip(header, cells, strict=True)}
        for fault in _faults(row, columns):
            raise UserError(f"{where}: {fault}: {REPAIR}")
        values = tuple(row[name] for name in key)
        if values in seen:
            words = ", ".join(f"{name}={value}" for name, value in zip(key, values, strict=True) if value is not None)
            raise UserError(f"{where}: same key as line {seen[values]} ({words}): remove one of the two")
        seen[values] = line
        table.append((line, row))
    return table


def _faults(row: dict, columns: list[Column]) -> Iterator[str]:
    """What is wrong with the fields of a record: kinds first, so that the rest can rely on them."""
    if columns[0].name == "schema" and row.get("schema") != SCHEMA:
        yield (
            f"unknown schema {row.get('schema')!r:.100}: this version reads schema {SCHEMA}, so remove what another "
            "version wrote and run again"
        )
    for column in columns:
        if column.name not in row:
            yield f"field {column.name!r} is missing"
        elif fault := column.fault(row[column.name]):
            yield fault
    if columns[-1] is EVALUATION[-1]:
        yield from _contradictions(row)


def _contradictions(row: dict) -> Iterator[str]:
    """Unknown names, and fields of an evaluation that contradict each other beyond rounding."""
    for name, known in (("split", SPLITS), ("h_source", H_SOURCES), ("estimator", (*ESTIMATORS, None))):
        if row[name] not in known:
            yield f"unknown {name} {row[name]!r}: one of {', '.join(filter(None, known))}"
    for name in ("tokens", "bytes", "documents"):
        if row[name] == 0:
            yield f"field {name!r} is 0, but there is a loss"
    sums = {"loss": ("nats_sum / tokens", row["tokens"])}
    sums["bits_per_byte"] = ("nats_sum / (ln 2 * bytes)", math.log(2) * row["bytes"])
    wrong = [(name, rule) for name, (rule, size) in sums.items() if not math.isclose(row[name] * size, row["nats_sum"])]
    if (row["fine_tuning_rate"] is None) != (row["budget_tokens"] == 0):
        wrong.append(("fine_tuning_rate", "the budget: a rate with fine-tuning, null without"))
    if (row["loss_se_documents"] is None) != (row["documents"] == 1) or (row["loss_se_documents"] or 0) < 0:
        wrong.append(("loss_se_documents", "the number of documents: a number >= 0 for two or more, null for one"))
    for name, rule in wrong:
        yield f"field {name!r} is {row[name]}, which contradicts {rule}"


def table_text(columns: list[Column], rows: Iterable[dict]) -> str:
    """The rows as CSV text, in their order."""
    lines = [[column.name for column in columns]]
    lines += [[column.write(row[column.name]) for column in columns] for row in rows]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\r\n') else cell
