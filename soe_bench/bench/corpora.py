"""Time and memory of building corpora, stage by stage, and how far a tokenizer depends on the sample of its text."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import psutil
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from soe_bench.bench.measure import BenchSettings, Figure, environment
from soe_bench.config import job_configs, make
from soe_bench.data.builder import read, specialist_rules, training_sample
from soe_bench.data.splits import generic_training
from soe_bench.data.tokenizer import byte_level_words, fit_tokenizer
from soe_bench.errors import UserError
from soe_bench.system.files import home

BUILD = "import sys; from soe_bench.data.__main__ import configured; configured(sys.argv[1:])"
SAMPLED_EVERY = 0.2  # seconds, of the memory of the processes that build
LARGE = 10 * 10**9  # bytes of a folder that does not fit into memory
DOCUMENT = 200_000  # bytes, about, of each
SOURCES = 8
OWN, PIECE = 200_000, 4000  # characters of text of each specialist, and of each of its documents


def corpora(settings: BenchSettings) -> list[dict]:
    """A row for each corpus and stage of its building: `corpus`, `stage`, `seconds`. The last stage, `in all`, has the
    seconds of the whole command and `peak_bytes`, the memory of all its processes together.

    Packages of a corpus that are not in the usual home are downloaded into it, as a part of the first stage."""
    (home() / "wheels").mkdir(parents=True, exist_ok=True)
    names = ["synthetic"] if settings.quick else ["wheels_demo", "wheels"]
    with tempfile.TemporaryDirectory() as folder:
        place, texts = Path(folder, "home"), Path(folder, "texts")
        place.mkdir()
        (place / "wheels").symlink_to(home() / "wheels")
        rows = [row for name in names for row in stages(name, [f"data={name}"], place)]
        size = write_texts(texts, 10 * DOCUMENT if settings.quick else LARGE)
        own = ["data=local", f"data.source.folder={texts}"]
        return rows + stages(f"data=local, {size / 1e9:.3g} GB of text", own, place)


def stages(words: str, settings: list[str], place: Path) -> list[dict]:
    """Builds the corpus of these settings in a home, and returns its rows. Raises UserError, with what the process
    said last, if it fails."""
    start, peak = time.perf_counter(), 0
    command = [sys.executable, "-c", BUILD, *settings, f"home={place}"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:  # a pipe would be full at some point
        with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=said) as build:
            while build.poll() is None:
                peak = max(peak, resident(build.pid))
                time.sleep(SAMPLED_EVERY)
        said.seek(0)
        last = (said.read().strip() or "it said nothing").splitlines()[-1]
    if build.returncode:
        raise UserError(f"the corpus {words} was not built: {last}")
    seconds = time.perf_counter() - start
    audit = max(place.glob("data/*/audit.json"), key=lambda path: path.stat().st_mtime)
    parts = json.loads(audit.read_bytes())["seconds"] | {"in all": seconds}
    return [
        {"corpus": words, "stage": stage, "seconds": value, "peak_bytes": peak if stage == "in all" else None}
        for stage, value in parts.items()
    ]


def resident(pid: int) -> int:
    """Bytes of memory that a process and its children hold. Linux divides what several share among these; elsewhere it
    is left out."""
    total = 0
    with suppress(psutil.Error):
        for each in [(process := psutil.Process(pid)), *process.children(recursive=True)]:
            with suppress(psutil.Error):
                held = each.memory_full_info()
                total += getattr(held, "pss", held.uss)
    return total


def modules(package: str) -> Iterator[str]:
    """The text of each module of a package that is installed here, in the order of their paths."""
    for path in sorted(Path(sysconfig.get_paths()["purelib"], package).rglob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")


def documents(texts: list[str]) -> Iterator[str]:
    """Documents of several of the texts each, in another random order over and over. From the second time on the
    number of the time stands at the end of every line, so that no copy counts as a duplicate."""
    for time_over in count():
        ending = f" {time_over}\n" if time_over else "\n"
        document = ""
        for text in random.Random(time_over).sample(texts, len(texts)):
            document += text.replace("\n", ending)
            if len(document) >= DOCUMENT:
                yield document
                document = ""


def write_texts(folder: Path, size: int) -> int:
    """Writes `size` bytes of text or a little more in SOURCES sources, half of them as text files and half as rows, and
    three specialists; returns the bytes. The text is that of packages which are installed here."""
    for package in ("networkx", "sympy", "jinja2"):  # torch needs them, so they are here
        own = folder / "specialists" / package
        own.mkdir(parents=True)
        text = "".join(modules(package))
        for start in range(0, OWN, PIECE):
            (own / f"{start}.txt").write_text(text[start : start + PIECE], encoding="utf-8")
    written = 0
    for number, document in enumerate(documents(list(modules("torch")))):
        place = folder / str(number % SOURCES)
        if number % 2:
            place.mkdir(exist_ok=True)
            (place / f"{number}.txt").write_text(document, encoding="utf-8")
        else:
            with open(place.with_suffix(".jsonl"), "a", encoding="utf-8") as file:
                file.write(json.dumps({"text": document}) + "\n")
        if (written := written + len(document)) >= size:
            break
    return written


def tokenizer_agreement(settings: BenchSettings) -> Figure:
    """The part of the tokens of the generic training text that a tokenizer fitted to a sample makes by the same merges
    as one fitted to all of that text. The note has the smaller part of those in words that both cut in the same way:
    one other merge changes all tokens of a word."""
    name = "synthetic" if settings.quick else "wheels"
    data = job_configs([f"data={name}"])[0][0].data
    source = make(data.source)
    table, _ = read(source, specialist_rules(source, data), data, home())
    texts = table.text[generic_training(table)].tolist()
    sample = training_sample(table, data.tokenizer_sample_characters)
    one, other = (fit_tokenizer(each, data.vocab_size) for each in (sample, texts))
    counts = Counter(chain.from_iterable(map(byte_level_words, texts)))
    words = list(counts)
    shared = merged_alike(one, other)
    same = alike = total = 0
    for word, mine, theirs in zip(words, one.encode_batch(words), other.encode_batch(words), strict=True):
        total += counts[word] * len(mine.ids)
        same += counts[word] * sum(token in shared for token in mine.tokens)
        alike += counts[word] * len(mine.ids) * (mine.tokens == theirs.tokens)
    parts = {
        "sample_characters": float(sum(map(len, sample))),
        "characters": float(sum(map(len, texts))),
        "tokens": float(total),
        "tokens_of_words_cut_alike": float(alike),
    }
    return Figure(
        "tokenizer_sample_agreement",
        "of the tokens, by the same merges",
        same / total,
        goal=0.95,
        bound="least",
        parts=parts,
        note=f"{alike / total:.3f} are in words that both cut alike",
    )


def merged_alike(one: Tokenizer, other: Tokenizer) -> set[str]:
    """The tokens that both make by the same merges of bytes, from the first merge on."""
    mine, theirs = ([tuple(pair) for pair in json.loads(each.to_str())["model"]["merges"]] for each in (one, other))
    known, shared = set(theirs), set(ByteLevel.alphabet())
    for left, right in mine:
        if (left, right) in known and left in shared and right in shared:
            shared.add(left + right)
    return shared
