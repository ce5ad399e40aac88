"""Reads and validates the committed files of a results folder: records, the small CSVs and bench.json."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from soe_bench.errors import UserError
from soe_bench.records import EVALUATION, RUN, csv_rows, numbered_records, read_utf8, sort_key

FAMILIES = ("common_parent", "separate", "aligned", "soup")
COLUMNS = {
    "curves": "run_id method n_experts:number seed tokens:number train_loss:number? validation_loss:number? "
    "copying_gain:number??",
    "alpha": "run_id method n_experts:number seed specialist expert:number alpha:number",
    "domains": "data_fingerprint data domain:number tokens:number passages:number fraction:number top_sources "
    "top_terms",
    "specialists": "data_fingerprint data specialist split documents:number passages:number tokens:number bytes:number "
    "nearest_domains effective_domains:number? kl_from_h_0:number? fraction_beyond_q95:number? "
    "fraction_beyond_q99:number?",
    "distances": "run_id method seed family:family one other distance:number cosine:number cosine_of_updates:number? "
    "barrier:number? merge_gap:number?",
    "deviations": "setting ours paper status where note",
}
# The columns of each CSV that the report uses: text as it stands, numbers as float ("number?" may be empty, "number??"
# may be missing too, as in files of earlier versions), or one of FAMILIES.
CSV_COLUMNS: dict[str, dict[str, str]] = {
    name: {column: kind or "text" for column, _, kind in (each.partition(":") for each in columns.split())}
    for name, columns in COLUMNS.items()
}


@dataclass(frozen=True)
class Results:
    """What a results folder holds. Of a file that is not there, records and bench are None, and the others empty."""

    folder: Path
    records: pd.DataFrame | None
    curves: pd.DataFrame
    alpha: pd.DataFrame
    domains: pd.DataFrame
    specialists: pd.DataFrame
    distances: pd.DataFrame
    deviations: pd.DataFrame
    bench: dict | None


def folders_with_runs(folder: Path) -> list[Path]:
    """The folder itself, if it holds results, and those below it, sorted."""
    return sorted(path.parent for path in folder.rglob("runs.csv"))


def results_folders(folder: Path) -> list[Path]:
    """`folders_with_runs`. Raises UserError where there are none."""
    found = folders_with_runs(folder)
    if not found:
        raise UserError(f"{folder}: no runs.csv in it or below: run a sweep with this results_dir first")
    return found


def load_results(folder: Path) -> Results:
    """Read everything; raises UserError that names file and line for what is malformed, and for a runs.csv without any
    evaluation."""
    results = Results(
        folder,
        record_table(folder) if (folder / "runs.csv").exists() else None,
        **{name: read_csv(folder / f"{name}.csv", columns) for name, columns in CSV_COLUMNS.items()},
        bench=read_bench(folder / "bench.json"),
    )
    if results.records is not None and len(results.specialists):
        check_texts(folder, results.records, results.specialists)
    return results


def check_texts(folder: Path, records: pd.DataFrame, specialists: pd.DataFrame) -> None:
    """Raises UserError for a record of a specialist that the corpus lacks, or of another text than its split."""
    key = ["data_fingerprint", "specialist", "split"]
    split = specialists[[*key, "documents", "bytes"]]
    both = records[[*key, "line", "documents", "bytes"]].merge(split, how="left", on=key, suffixes=("", "_of_split"))
    for wrong in both[(both.documents != both.documents_of_split) | (both.bytes != both.bytes_of_split)].itertuples():
        raise UserError(
            f"{folder / 'evaluations.csv'}:{wrong.line}: specialists.csv has no {wrong.split} split of "
            f"{wrong.specialist!r} with {wrong.documents} documents and {wrong.bytes} bytes: restore both files"
        )


def read_bench(path: Path) -> dict | None:
    """What `python -m soe_bench.bench` wrote; None if absent. Raises UserError for anything else."""
    if not path.is_file():
        return None
    try:
        bench = json.loads(read_utf8(path))
        bench["figures"], bench["growth"], bench["rates"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of soe_bench.bench ({error!r}): restore the committed file") from error
    return bench


def record_table(folder: Path) -> pd.DataFrame:
    """Every field of the records, a row per record, sorted by key (the order in the file does not matter); `line` is
    its line in evaluations.csv. Raises UserError as numbered_records does, and for no records at all."""
    rows = sorted(numbered_records(folder), key=lambda row: sort_key(row[1]))
    if not rows:
        raise UserError(f"{folder / 'evaluations.csv'}: no records: run a sweep with this results_dir first")
    types = {int: "int64", float: "float64"}
    frame = {"line": [line for line, _ in rows]}
    for column in (*RUN, *EVALUATION):
        kind = object if column.nullable else types.get(column.kind, object)
        frame[column.name] = pd.Series([record[column.name] for _, record in rows], dtype=kind)
    return pd.DataFrame(frame)


def read_csv(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """The named columns, text or float (NaN where a `number?` is empty), sorted; no rows if there is no such file."""
    header, rows = csv_rows(path) if path.is_file() else (list(columns), [])
    if lacking := [column for column, kind in columns.items() if column not in header and kind != "number??"]:
        raise UserError(f"{path}:1: column {lacking[0]!r} is missing: restore the committed file")
    frame = pd.DataFrame(
        {
            column: pd.Series(
                [_cell(row[header.index(column)], kind, f"{path}:{number}", column) for number, row in rows],
                dtype="float64" if kind.startswith("number") else object,
            )
            for column, kind in columns.items()
            if column in header
        }
    ).reindex(columns=list(columns))
    return frame.sort_values(list(columns), kind="stable", ignore_index=True)


def _cell(text: str, kind: str, where: str, column: str) -> str | float:
    if kind == "family" and text not in FAMILIES:
        raise UserError(f"{where}: column {column!r} is {text!r}, not one of {', '.join(FAMILIES)}: restore the line")
    if kind in ("text", "family"):
        return text
    try:
        value = float(text) if text or kind == "number" else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value) or (text and math.isnan(value)):
        raise UserError(f"{where}: column {column!r} is {text!r}, not a finite number: restore or remove the line")
    return value
