"""From run folders to a results folder: records and small CSVs, upserted by key, under a lock."""

from __future__ import annotations

import io
import logging
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from omegaconf import OmegaConf

from soe_bench.data.corpus import Corpus, named
from soe_bench.data.splits import GENERIC
from soe_bench.data.summaries import read_summary
from soe_bench.errors import UserError
from soe_bench.records import KEY, REPAIR, csv_rows, outside, read_records, write_evaluations, write_records
from soe_bench.runs import folder as run_folder
from soe_bench.runs.run import Run
from soe_bench.system.files import write_text

TRAINING = ("commit", "seconds")  # what tells two trainings of one run apart, on other machines, say
NUMBERS = ("step", "expert", "domain", "training_tokens", "validation_within")  # columns that rows are sorted by
FRACTIONS = ("fraction", "effective_domains", "kl_from_h_0", "fraction_beyond_q95", "fraction_beyond_q99")
log = logging.getLogger("soe_bench")


def check_results(results_dir: Path, runs: list[Run]) -> None:
    """Raises UserError if the results folder is malformed or of another schema, or if with the records of these runs it
    would hold two builds of the same corpus, or scales that no single command compares."""
    builds: dict[str, str] = {}
    for run in runs:
        if builds.setdefault(run.cfg.data.name, run.fingerprint) != run.fingerprint:
            raise UserError(
                f"these runs are on two builds of the corpus {run.cfg.data.name}, which cannot share {results_dir}: "
                "launch them one after the other, each with a results_dir of its own"
            )
    records = _records(results_dir)
    there, new = {record["scale"] for record in records}, {run.cfg.scale_name for run in runs}
    if not (there <= new or new <= there):  # one of them has the other where a sweep is over scales, as +sweep=sizes is
        raise UserError(
            f"{results_dir} holds records of scale={','.join(sorted(there))}, and these runs have "
            f"scale={','.join(sorted(new))}: choose another results_dir"
        )
    for record in records:
        fingerprint = builds.get(record["data"], record["data_fingerprint"])
        if record["data_fingerprint"] != fingerprint:
            raise UserError(
                f"{results_dir} holds records of another build of the corpus {record['data']} "
                f"({record['data_fingerprint'][:12]}, this configuration gives {fingerprint[:12]}): "
                "the text or a setting of it has changed since those records were made, so add "
                f"{shlex.quote(f'results_dir={results_dir}-2')}, or undo the change"
            )


def check_trained(run: Run) -> None:
    """Raises UserError if what a trained run left is damaged, or if another version wrote it."""
    run_folder.read_training(run.folder)
    run_folder.read_curve(run.folder)
    run_folder.read_alpha(run.folder)
    if run.records.exists():
        run_folder.read_records(run.records)


def check_domains(results_dir: Path, corpus: Corpus) -> None:
    """Raises UserError if the results folder rests on other domains under the corpus's fingerprint: k-means amplifies
    rounding, so another processor or library may give other clusters of the same text."""
    path = results_dir / "domains.csv"
    if not path.exists():
        return
    known = _read_csv(path, "data_fingerprint", "domain", "tokens")
    known = known[known.data_fingerprint == corpus.fingerprint].set_index("domain").tokens.sort_index()
    own = _corpus_table(corpus, "domains", "domain", "tokens").set_index("domain").tokens.sort_index()
    if len(known) and not known.equals(own):
        raise UserError(
            f"{results_dir} rests on other domains of the corpus {corpus.name} than {corpus.path} has: "
            "their losses must not be compared; choose another results_dir"
        )


def collect(evaluations: list[Path], corpora: list[Corpus], results_dir: Path) -> int:
    """Upserts the records, curves and coefficients of finished runs (their records' paths), and the audits of their
    corpora. A run that was trained anew loses the records of its earlier training.

    Returns the number of records written. Raises UserError as check_domains does.
    """
    for corpus in corpora:
        check_domains(results_dir, corpus)
    results_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(results_dir / ".lock"):
        records = {_key(record): record for record in _records(results_dir)}
        curves, alphas, count = [], [], 0
        for evaluation in evaluations:
            folder, own = evaluation.parent, run_folder.read_records(evaluation)
            curve, alpha = run_folder.read_curve(folder), run_folder.read_alpha(folder)  # before anything is written
            facts = {field: own[0][field] for field in ("run_id", "method", "n_experts")}
            facts["seed"] = own[0]["seed_data"]
            kept = {key: record for key, record in records.items() if not _is_other_training(record, own[0])}
            if dropped := len(records) - len(kept):
                log.warning(
                    "%s was trained anew: its %d records of another training are dropped, as losses of two "
                    "trainings are not to be compared",
                    folder.name,
                    dropped,
                )
                write_evaluations(results_dir, kept.values())  # no old loss may stand beside the new training
            records = kept | {_key(record): record for record in own}
            count += len(own)
            curves.append(_labelled(curve, facts))
            alphas.append(_labelled(alpha, facts))
        write_records(results_dir, records.values())
        _upsert(results_dir / "curves.csv", curves, "run_id", ["run_id", "step"])
        _upsert(results_dir / "alpha.csv", alphas, "run_id", ["run_id", "specialist", "expert"])
        for name, order in (("domains", ["domain"]), ("specialists", ["specialist", "split"])):
            tables = [
                _labelled(
                    _rounded(_corpus_table(corpus, name, *order)),
                    {"data_fingerprint": corpus.fingerprint, "data": corpus.name},
                )
                for corpus in corpora
            ]
            _upsert(results_dir / f"{name}.csv", tables, "data_fingerprint", ["data", *order])
    return count


def trial_row(run: Run) -> dict[str, Any]:
    """The row of tuning.csv of a finished trial (a run with evaluate.splits=[validation]): its settings and its mean
    validation losses in nats per token, of which `validation_within` is over the specialists within the corpus."""
    records = pd.DataFrame(run_folder.read_records(run.records))
    cfg: Any = OmegaConf.to_container(run.cfg, resolve=True)
    path = named(run.cfg.data.name, Path(run.cfg.home), run.fingerprint)
    far = outside(read_summary(path, "specialists").assign(data_fingerprint=run.fingerprint), run.fingerprint)
    generic = records.specialist == GENERIC  # of no row where a method has no model for generic text (CRISP)
    own = records.loss[~generic]
    facts = ("run_id", "method", "n_experts", "training_tokens", "scale", "data")
    return (
        {field: records[field][0] for field in facts}
        | {
            "seed": cfg["seed"],
            "validation_within": own[~records.specialist.isin(far)].mean(),
            "validation_mean": own.mean(),
            "validation_median": own.median(),
            "validation_generic": records.loss[generic].mean(),
            "commit": records.commit[0],
        }
        | {key: value for key, value in cfg["method"].items() if key not in ("_target_", "name", "n_experts")}
        | {"draws_per_step": cfg["train"]["draws_per_step"], **cfg["train"]["optimizer"]}
    )


def collect_trials(runs: list[Run], results_dir: Path) -> int:
    """Upserts the row of tuning.csv of each finished trial. Returns the number of rows written."""
    rows = [pd.json_normalize(trial_row(run)).drop(columns="pi._target_", errors="ignore") for run in runs]
    results_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(results_dir / ".lock"):
        _upsert(results_dir / "tuning.csv", rows, "run_id", ["method", "training_tokens", "validation_within"])
    return len(rows)


def collect_distances(tables: list[pd.DataFrame], results_dir: Path) -> None:
    """Upserts the rows of distances.csv of the runs in `tables` (closeness.py)."""
    results_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(results_dir / ".lock"):
        _upsert(results_dir / "distances.csv", tables, "run_id", ["run_id", "one", "other"])


def _records(results_dir: Path) -> list[dict]:
    """The records of a results folder; none where nothing was collected yet."""
    return read_records(results_dir) if (results_dir / "evaluations.csv").exists() else []


def _key(record: dict) -> tuple:
    return tuple(record[field] for field in KEY)


def _is_other_training(record: dict, of: dict) -> bool:
    """Whether a record is of the same run as `of`, but of parameters trained at another time."""
    return record["run_id"] == of["run_id"] and any(record[field] != of[field] for field in TRAINING)


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """A corpus's table with its fractions as numbers, which `_upsert` writes with six digits."""
    return table.assign(**{name: pd.to_numeric(table[name]) for name in FRACTIONS if name in table})


def _labelled(table: pd.DataFrame, fields: dict) -> pd.DataFrame:
    for place, (name, value) in enumerate(fields.items()):
        table.insert(place, name, value)
    return table


def _upsert(path: Path, tables: list[pd.DataFrame], owner: str, order: list[str]) -> None:
    """Replaces the rows of the owners (runs, corpora) in `tables`, keeps all others, sorts, writes atomically."""
    new = pd.concat([_as_text(table) for table in tables])
    if path.exists():
        old = _read_csv(path, owner, *order)
        new = pd.concat([old[~old[owner].isin(new[owner])], new])
    new = new.sort_values(order, key=lambda column: pd.to_numeric(column) if column.name in NUMBERS else column)
    write_text(path, new.to_csv(index=False))


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Every value as `to_csv` writes it, numbers with six digits."""
    text = io.StringIO(table.to_csv(index=False, float_format="%.6g"))
    return pd.read_csv(text, dtype=str, keep_default_na=False)


def _corpus_table(corpus: Corpus, name: str, *columns: str) -> pd.DataFrame:
    return _read_csv(
        corpus.path / f"{name}.csv", *columns, repair="delete that folder and run again to rebuild the corpus"
    )


def _read_csv(path: Path, *columns: str, repair: str = REPAIR) -> pd.DataFrame:
    """Every column as text, as it stands: a name may look like a number, or like a word for nothing ("NA"). Raises
    UserError, which says to `repair`, if one of `columns` is missing or has no number where it must."""
    header, rows = csv_rows(path, repair)
    for name in columns:
        if name not in header:
            raise UserError(f"{path}:1: column {name!r} is missing: {repair}")
        for line, row in rows:
            if name in NUMBERS and (text := row[header.index(name)]) and not run_folder.is_finite(text):
                raise UserError(f"{path}:{line}: column {name!r} is {text!r:.100}, not a number: {repair}")
    return pd.DataFrame([row for _, row in rows], columns=header)
