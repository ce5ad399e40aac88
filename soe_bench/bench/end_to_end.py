"""Where the time of whole commands goes, as the commands themselves say it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from soe_bench.bench.corpora import write_texts
from soe_bench.bench.measure import BenchSettings, Figure, environment
from soe_bench.errors import UserError
from soe_bench.system.files import home
from soe_bench.system.laps import FILE

log = logging.getLogger("soe_bench")
CHARACTERS = 2000  # of each text that a specialist is made for
SPECIALISTS = {1: 100, 10: 10, 100: 10}  # how many specialists are made at once, and the documents of each
PILOT = 20 * 10**6  # bytes of text
TOY = ["scale=test", "wandb.mode=disabled"]
OF_JOBS = "of all jobs: "
ANSWERS = {  # commands that import no torch
    "--help": ["soe_bench", "--help"],
    "a misspelt setting": ["soe_bench", "train.token=1"],
    "the plan of an unknown scale": ["soe_bench.plan", "scale=huge"],
    "the report of no folder": ["soe_bench.report", "nowhere"],
    "the report of a pilot": ["soe_bench.report", "pilot"],
}
REFUSED = 3  # exit status of soe_bench.specialize: it wrote a generic model, which takes the same time


def end_to_end(settings: BenchSettings) -> list[dict]:
    """One row per command and part of it: `command`, `stage`, `seconds`. Those of `of all jobs: ...` are added up over
    jobs that may run side by side, and lie within `jobs`.

    The demo is run twice. The first time it is one run on a tenth of the tokens, and begins without a corpus; if its
    text cannot be downloaded, the second uses the corpora of the usual home. `+sweep=experts` is run on one seed, and
    uses the corpus of the usual home, where it is built before if it is not there."""
    demo = ["soe_bench", "+sweep=demo", f"device={settings.device}"]
    demo += ["scale=test", "method=soup", "evaluate.controls=[]", "wandb.mode=disabled"] if settings.quick else []
    short = ["train.tokens=20_480"] if settings.quick else ["method=soup", "train.tokens=400_000"]
    toy = TOY if settings.quick else []
    experts = ["soe_bench", "+sweep=experts", "seed=0", f"device={settings.device}", *toy]
    pilot = ["soe_bench", "+sweep=pilot", "data=local", "data.source.folder=texts", f"device={settings.device}", *toy]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place, rows = folder / "home", []
        try:
            rows += parts("demo of one short run, from nothing", [*demo, *short], folder, place)
        except UserError as error:
            log.warning("  %s; going on with the corpora of %s", error, home())
            place = with_usual_corpora(folder)
        rows += parts("demo, from a built corpus", demo, folder, place)
        soup = max((place / "runs").glob("soup-*"), key=lambda run: run.stat().st_mtime)
        for count, documents in list(SPECIALISTS.items())[: 2 if settings.quick else None]:
            given, out = folder / f"documents-{count}", folder / f"out-{count}"
            write_documents(given, count, documents)
            command = ["soe_bench.specialize", f"soup={soup}", f"documents={given}", f"out={out}", "many=true"]
            what = f"{count} specialist{'s' * (count > 1)} from {documents} documents each"
            rows += parts(what, command, folder, place)
        size = write_texts(folder / "texts", PILOT // 50 if settings.quick else PILOT)
        rows += parts(f"+sweep=pilot on {size / 1e6:.3g} MB of text", pilot, folder, place)
        (folder / "experts").mkdir()
        usual = with_usual_corpora(folder / "experts")
        rows += parts("+sweep=experts, one seed, from a built corpus", experts, folder, usual)
        return rows + list(answers(folder, place))


def evaluation_share(settings: BenchSettings, n: int) -> Figure:
    """What part of a whole run of a soup with n experts at scale=small, its parent included, is evaluation, on one
    thread as in a sweep. It uses the corpus of the usual home, where it is built before if it is not there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = ["soe_bench", f"method.n_experts={n}", "threads=1", f"device={settings.device}"]
        run += TOY if settings.quick else []
        rows = parts("a run", run, folder, with_usual_corpora(folder))
    jobs = {row["stage"].removeprefix(OF_JOBS): row["seconds"] for row in rows if row["stage"].startswith(OF_JOBS)}
    training = jobs.pop("training")
    share = sum(jobs.values()) / (training + sum(jobs.values()))
    seconds = {"training_seconds": training, "evaluation_seconds": sum(jobs.values())}
    return Figure(f"evaluation_share_n{n}", "of a run at scale=small", share, goal=0.15, parts=seconds)


def with_usual_corpora(folder: Path) -> Path:
    """A home in a folder, with the corpora of the usual home and no runs."""
    place = folder / "usual"
    place.mkdir()
    for each in ("data", "wheels"):
        (home() / each).mkdir(parents=True, exist_ok=True)
        (place / each).symlink_to(home() / each)
    return place


def answers(folder: Path, place: Path) -> Iterator[dict]:
    """A row for each of ANSWERS: the time until the command has ended."""
    given = environment(SOE_BENCH_HOME=str(place))
    for words, arguments in ANSWERS.items():
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=given, capture_output=True)
        yield {"command": words, "stage": "in all", "seconds": time.perf_counter() - start}


def parts(words: str, command: list[str], folder: Path, place: Path) -> list[dict]:
    """Runs `python -m` with the command in a folder, with a home, and returns a row for each part of its time. Raises
    UserError, with the command's last line, if it fails."""
    times = folder / "times.json"
    given = environment(SOE_BENCH_HOME=str(place), **{FILE: str(times)})
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=given, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode not in (0, REFUSED):
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise UserError(f"python -m {command[0]} failed with exit status {done.returncode}: {last}")
    said = json.loads(times.read_bytes())
    stages = said["command"] | {f"{OF_JOBS}{part}": seconds for part, seconds in said["jobs"].items()}
    return [{"command": words, "stage": stage, "seconds": seconds} for stage, seconds in stages.items()]


def write_documents(folder: Path, specialists: int, documents: int) -> None:
    """Writes a folder of so many short texts for each specialist: pieces of the modules of Python's own library."""
    pieces = (
        text[start : start + CHARACTERS]
        for path in sorted(Path(os.__file__).parent.glob("*.py"))
        for text in [path.read_text(encoding="utf-8")]
        for start in range(0, len(text) - CHARACTERS, CHARACTERS)
    )
    for specialist in range(specialists):
        own = folder / str(specialist)
        own.mkdir(parents=True)
        for number, piece in enumerate(islice(pieces, documents)):
            (own / f"{number}.txt").write_text(piece, encoding="utf-8")
