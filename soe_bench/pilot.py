"""What follows the runs of a pilot: each specialist of the folder is judged, written for transformers and shown.

pilot.json in the results folder holds what its page, pilot.html, shows; `python -m soe_bench.report FOLDER` draws the
page again without models or text.
"""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from soe_bench.data.corpus import Corpus, file_hash
from soe_bench.data.summaries import read_summary
from soe_bench.errors import UserError
from soe_bench.estimate import own_weights
from soe_bench.export import write_model, written
from soe_bench.records import outside, read_training
from soe_bench.report.pilot_page import DATA, write_pilot
from soe_bench.runs.load import load_run
from soe_bench.runs.run import Run
from soe_bench.specialists import card
from soe_bench.specialists.gate import LEAST, Verdict
from soe_bench.specialists.own import own_documents
from soe_bench.specialists.specialist import Options, Soup, Specialist, specialists
from soe_bench.specialists.trained import TrainedSoup
from soe_bench.system.files import home, write_text
from soe_bench.system.machine import prepare_process

MODELS = "models"  # in the results folder: a folder for each specialist
WRITTEN = "pilot_models.json"  # the hash of each file in it, as a pilot wrote it
PARTS = "soup", "generic pretraining", "generic pretraining and the branched models"  # that a run stands for
SAMPLE_TOKENS, TEMPERATURE = 120, 0.8


def check(runs: list[Run]) -> None:
    """Raises UserError if the results folder holds the pilot of other runs, whose page and models `finish` would
    replace."""
    results, names = Path(runs[0].cfg.results_dir), {run.name for run in runs}
    try:
        before = json.loads((results / DATA).read_bytes())
        others = sorted({before["soup"], before["generic"]} - names)
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or none that can be shown
        return
    if others:
        again = shlex.quote(f"results_dir={results}-2")
        raise UserError(f"{results} holds the page and the models of other runs ({', '.join(others)}): add {again}")


def finish(runs: list[Run]) -> None:
    """Writes models/<specialist>, pilot.json and pilot.html into the results folder of a finished pilot, prints each
    verdict, and last the command that makes a further specialist. A model's folder that was changed since stays."""
    soup_run, generic_run, *others = runs
    prepare_process(None)
    results, soup = Path(soup_run.cfg.results_dir), Soup.load(soup_run.folder)
    assert soup.corpus is not None
    place = _projection(soup.centroids)
    shown, start = [], time.perf_counter()
    given = {name: own_documents(soup, name) for name in soup.corpus.specialists}
    for name in [name for name, each in given.items() if each.units < LEAST]:  # duplicates are gone
        print(f"{name}: too little test text is left without duplicates, so it is not judged and not written")
        del given[name]
    before, branched = _written_before(results), {}
    for run in others:
        method, corpus = load_run(run.folder)
        branched = {name: method.specialist(own_weights(corpus, name)) for name in given}
    options = Options(generic=generic_run.folder)
    for made in specialists(soup, given, options, branched=branched) if given else ():
        folder = results / MODELS / _folder_name(made.name)
        name = folder.relative_to(results).as_posix()
        folder.parent.mkdir(parents=True, exist_ok=True)
        about, kept = _described(made, soup, place) | {"folder": name}, ""
        if changed := _changed(folder, before.get(name, {})):
            kept = (
                f"The {made.kind} was not written: {folder} holds {changed}, which is not as a pilot wrote it. Move "
                "that folder elsewhere and run the same command again."
            )
            about["written"] = "nothing"
        else:
            with written(folder, overwrite=True) as temporary:
                write_model(temporary, made.model, soup.files / "tokenizer.json", "float32", card.card(made))
            before[name] = {file.name: file_hash(file) for file in folder.iterdir()}
            write_text(results / WRITTEN, json.dumps(before, indent=1) + "\n")
        print(f"{made.name}: {_verdict(made).words}\n  {kept or f'written: the {made.kind}, in {folder}'}")
        shown.append(about | {"kept": kept})
    seconds = time.perf_counter() - start
    audit = json.loads((soup.corpus.path / "audit.json").read_bytes())
    command = f"python -m soe_bench.specialize soup={_named(soup_run)} documents=FOLDER out=my-specialist"
    content = {
        "soup": soup_run.name,
        "generic": generic_run.name,
        "generic_fraction": soup_run.cfg.data.source.generic_fraction,
        "parameters": soup.training["deployed_parameters"],
        "read": {
            "documents_read": audit["documents_read"],
            "documents": audit["documents"],
            "sources": {name: facts["tokens"] for name, facts in audit["sources"].items()},
            "generic_training_tokens": audit["generic_training_tokens"],
            "duplicates_removed": sum(audit["duplicates_removed"].values()),
            "notes": audit.get("notes", {}),
            "training_tokens": soup.training["training_tokens"],
        },
        "domains": _domains(soup, place),
        "specialists": shown,
        "outside": _outside(soup.corpus),
        "cost": _cost(audit, runs, seconds, len(shown)),
        "command": command,
    }
    write_text(results / DATA, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"page: {write_pilot(results)}")
    print(f"to make a {'further ' * bool(shown)}specialist of documents of yours: {command}")


def _verdict(made: Specialist) -> Verdict:
    """Its verdict, which every specialist of a pilot has."""
    assert made.verdict is not None
    return made.verdict


def _written_before(results: Path) -> dict[str, dict[str, str]]:
    """folder -> file -> hash of the models that a pilot wrote."""
    try:
        return dict(json.loads((results / WRITTEN).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _changed(folder: Path, before: dict[str, str]) -> str | None:
    """A file in the folder that is not as a pilot wrote it; None if there is none."""
    if folder.is_symlink() or folder.is_file():
        return folder.name
    files = sorted(file for file in folder.rglob("*") if not file.is_dir())
    names = (file.relative_to(folder).as_posix() for file in files if before.get(file.name) != file_hash(file))
    return next(names, None)


def _folder_name(name: str) -> str:
    """A specialist's name as that of one folder: a rule of data.specialists may name it with a slash."""
    return name.replace("/", "%2F") if name.strip(".") else name.replace(".", "%2E")


def _named(run: Run) -> str:
    """The run as `soup=` takes it: by its name if it lies where commands look for it, else by its folder."""
    usual = run.folder.resolve() == (home() / "runs" / run.name).resolve()
    return shlex.quote(run.name if usual else str(run.folder))


def _projection(centroids: np.ndarray) -> np.ndarray:
    """(k, 2) the centroids (k, d) on their first two principal axes."""
    left, values, _ = np.linalg.svd(centroids - centroids.mean(0), full_matrices=False)
    axes = (left * values)[:, :2]
    axes = axes * np.where(np.take_along_axis(axes, abs(axes).argmax(0)[None], 0) < 0, -1, 1)  # signs are arbitrary
    return np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))


def _outside(corpus: Corpus) -> list[str]:
    """The specialists that the report flags as outside the corpus."""
    table = read_summary(corpus.path, "specialists").assign(data_fingerprint=corpus.fingerprint)
    return outside(table, corpus.fingerprint)


def _domains(soup: TrainedSoup, place: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "domain": int(row.domain),
            "x": round(place[row.domain, 0], 5),
            "y": round(place[row.domain, 1], 5),
            "fraction": round(float(soup.h_0[row.domain]), 5),
            "sources": row.top_sources,
            "terms": row.top_terms,
        }
        for row in soup.domains.itertuples()
    ]


def _described(made: Specialist, soup: TrainedSoup, place: np.ndarray) -> dict[str, Any]:
    """What the page shows of a specialist."""
    verdict, h = _verdict(made), made.estimate.h
    rows = []
    for row in verdict.rows:
        found = row.difference
        rows.append(
            {"model": row.name, "loss": row.loss}
            | {"minus": None if found is None else [found.mean, found.low, found.high]}
        )
    x, y = h @ place
    return {
        "name": made.name,
        "documents": made.documents.count,
        "verdict": verdict.words,
        "reference": verdict.reference,
        "written": made.kind,
        "rows": rows,
        "h": [round(float(weight), 5) for weight in h],
        "low": [round(float(weight), 5) for weight in made.estimate.interval[0]],
        "high": [round(float(weight), 5) for weight in made.estimate.interval[1]],
        "x": round(x, 5),
        "y": round(y, 5),
        "warnings": made.warnings,
        "sample": sample(made.model, soup),
    }


@torch.no_grad()
def sample(model: nn.Module, soup: TrainedSoup) -> str:
    """SAMPLE_TOKENS tokens drawn from the model one after the other, at TEMPERATURE. The same model gives the same
    text. End of text is not drawn, so that it is one text."""
    generator, ids = torch.Generator().manual_seed(0), [0]
    for _ in range(SAMPLE_TOKENS):
        logits = model(torch.tensor([ids[-soup.seq_len :]]))[0, -1].float() / TEMPERATURE
        logits[0] = -torch.inf
        ids.append(int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))
    text: str = soup.tokenizer.decode(ids[1:], skip_special_tokens=False)
    return text.rstrip("\N{REPLACEMENT CHARACTER}")  # a character that is cut at the end


def _cost(audit: dict[str, Any], runs: list[Run], seconds: float, count: int) -> list[dict[str, Any]]:
    """What each part took: seconds, training tokens and FLOPs."""
    rows = [{"part": "corpus", "seconds": round(sum(audit["seconds"].values()), 1), "tokens": None, "flops": None}]
    for part, run in zip(PARTS, runs, strict=False):
        facts = read_training(run.folder)
        rows.append(
            {"part": part, "seconds": facts["seconds"], "tokens": facts["training_tokens"], "flops": facts["flops"]}
        )
    if count:
        rows.append({"part": "each specialist", "seconds": round(seconds / count, 1), "tokens": 0, "flops": None})
    return rows
