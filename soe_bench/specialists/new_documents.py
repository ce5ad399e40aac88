"""New documents, read and cut as a soup's corpus was, and split into the part that h is estimated from and the part
that the specialist is judged on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from soe_bench.data.passages import cut, duplicates
from soe_bench.data.sources.local import Local
from soe_bench.data.sources.textfiles import KINDS, Notes, kind, texts
from soe_bench.data.splits import spread
from soe_bench.data.tokenizer import encode
from soe_bench.data.verbatim import line_hashes, run_hashes
from soe_bench.errors import UserError
from soe_bench.specialists.trained import TrainedSoup

CHARACTERS = 10_000_000  # at most read
PER_FILE = 2_000_000
FEW = {False: 4, True: 8}  # below so many documents (with a part for choices) their passages are split, not they
HELD_OUT_TOKENS = 50_000  # of a held-out part, at most
PASSAGES = 12  # of a document in a held-out part, at most
SETTINGS = {"data.source.text_field": "text_field", " (data.source.encoding)": ""}  # and what is said here
SEEN = 0.2  # a fraction from the corpus's own text that is worth saying


@dataclass(frozen=True)
class Documents:
    """`passages`: one row each, with path (of the document), number, text, ids (uint16 tokens), tokens (with the one
    before the text) and bytes. `notes`: what was left out, cut or guessed, and how often. `seen`: the fraction of the
    long lines that are lines of the corpus's test text. `trained`: the fraction of the runs of tokens that are in the
    text that the soup was trained on."""

    passages: pd.DataFrame
    notes: list[str]
    seen: float
    line_break: int
    trained: float = 0.0
    estimate_documents: ClassVar[int | None] = 256  # that h rests on, at most: their passages are embedded

    @property
    def count(self) -> int:
        return self.passages.path.nunique()

    def by_passage(self, choices: bool) -> bool:
        """Whether the documents are so few that their passages are split."""
        return self.count < FEW[choices]

    def parts(self, choices: bool) -> dict[str, pd.DataFrame]:
        """The passages of the parts estimate, gate and, with `choices`, validation: half of the text, and the other
        half or a quarter each. No document is in two parts, in an order that its name decides. Of few documents each is
        cut into consecutive parts instead. Column `unit`: the document, or then the passage."""
        rows = self.passages
        if self.by_passage(choices):
            groups = rows.groupby("path").path
            quarter = 4 * groups.cumcount() // groups.transform("size")
            part, unit = quarter.map(["estimate", "estimate", "validation", "gate"].__getitem__), rows.index
        else:
            names = sorted(rows.path.unique(), key=_order)
            place = rows.path.map({name: i % 4 for i, name in enumerate(names)})
            part, unit = place.map(["estimate", "gate", "estimate", "validation"].__getitem__), rows.path
        if not choices:
            part = part.replace("validation", "gate")
        return dict(list(rows.assign(unit=unit).groupby(part)))

    def held_out(self, rows: pd.DataFrame) -> tuple[list[np.ndarray], np.ndarray]:
        """Tokens and bytes (D,) of each unit in a part: HELD_OUT_TOKENS in all, of rather more units than more passages
        of each."""
        found, sizes, left = [], [], HELD_OUT_TOKENS
        each = min(PASSAGES, max(1, int(HELD_OUT_TOKENS / rows.tokens.mean() / rows.unit.nunique())))
        units = [unit for _, unit in rows.groupby("unit", sort=False)]
        enough = max(2, int(HELD_OUT_TOKENS / rows.tokens.mean()))  # even of one passage each
        for unit in spread(units, enough):  # evenly, as the rows of a file may be sorted by subject
            if left <= 0:
                break
            chosen = unit.iloc[spread(range(len(unit)), each)]
            found.append(self.joined(chosen)[:left])
            sizes.append(int(chosen.bytes.sum() * len(found[-1]) / chosen.tokens.sum()))
            left -= len(found[-1])
        return found, np.array(sizes)

    def joined(self, rows: pd.DataFrame) -> np.ndarray:
        """The tokens of passages in their order: end of text (id 0) stands before a passage that does not go on with
        the one before it, a line break before one that does, as in the corpus."""
        follows = (rows.path == rows.path.shift()) & (rows.number == rows.number.shift() + 1)
        before = np.where(follows, self.line_break, 0).astype(np.uint16)
        return np.concatenate([piece for first, ids in zip(before, rows.ids, strict=True) for piece in ([first], ids)])


def read(given: str | Path | Sequence[str | Path], soup: TrainedSoup, text_field: str | None = None) -> Documents:
    """Documents from a file or folder of the kinds that data=local reads, or from a list of texts, files and folders.
    At most CHARACTERS characters are read, the files in the order of a hash of their names, so that it is a sample.
    `text_field`: of .jsonl and .parquet, by default as in the soup's corpus, which also gives the encoding.

    Raises UserError if no usable text is left: it says what was left out. And for a string that is not in a list and
    leads nowhere: it is more likely a mistyped path than a text.
    """
    if isinstance(given, str) and _place(given) is None:
        raise UserError(
            f"documents: there is no file or folder {given[:80]!r}: correct the path, or give a list of texts"
        )
    notes, data = Notes(strict=False), soup.cfg.data
    rows = []
    places = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if odd := [type(each).__name__ for each in places if not isinstance(each, str | Path)]:
        raise UserError(
            f"documents: {odd[0]} is neither a text nor a path: give a file, a folder, or a list of texts and paths"
        )
    for name, text in _documents(places, text_field or data.text_field, data.encoding, notes):
        pieces = [
            piece for piece in cut(text.splitlines(), data.passage_characters) if len(piece) >= data.minimum_characters
        ]
        if not pieces:
            notes.add(f"document below {data.minimum_characters} characters, left out", name, refuse=False)
        rows += [(name, number, piece) for number, piece in enumerate(pieces)]
    repeated = duplicates([text for *_, text in rows], data.duplicate_jaccard)
    for row, original in zip(rows, repeated, strict=True):
        if original >= 0:
            notes.add("passage that repeats another one, left out", row[0], refuse=False)
    said = [f"{count} x {_here(kind)}; the first: {notes.first[kind]}" for kind, count in notes.counts.items()]
    kept = [row for row, original in zip(rows, repeated, strict=True) if original < 0]
    if not kept:
        raise UserError(f"there is no usable text in the documents ({'; '.join(said) or 'none given'}): add {KINDS}")
    table = pd.DataFrame(kept, columns=["path", "number", "text"])
    table["ids"] = encode(soup.tokenizer, table.text.tolist())
    table["tokens"] = table.ids.map(len) + 1
    table["bytes"] = table.text.map(lambda text: len(text.encode()))
    seen = fraction_in(line_hashes("\n".join(table.text)), soup.test_lines)
    return Documents(table, said, seen, soup.tokenizer.encode("\n").ids[0], trained_on(table, soup))


def trained_on(passages: pd.DataFrame, soup: TrainedSoup) -> float:
    """The fraction of the runs of tokens of these passages that stand in the text that the soup was trained on."""
    runs = [np.zeros(0, np.uint32), *(run_hashes(ids) for ids in passages.ids)]
    return fraction_in(np.concatenate(runs), soup.training_runs)


def fraction_in(hashes: np.ndarray, known: np.ndarray) -> float:
    """The fraction of the hashes that are known; 0 of none."""
    return float(np.isin(hashes, known).mean()) if len(hashes) else 0.0


def _place(given: str | Path) -> Path | None:
    """The file or folder that it names; None if it is a text itself. Raises UserError for a path that leads nowhere."""
    if isinstance(given, Path):
        return given
    if len(given) >= 1024 or "\n" in given or "\0" in given:
        return None
    place = os.path.expanduser(given)
    if os.path.exists(place):
        return Path(place)
    looks = given[:1] in ("/", "~", ".") or "/" in given or os.sep in given or kind(given) is not None
    if looks and " " not in given and len(given) < 256:  # longer, it may be text of a script without spaces
        raise UserError(f"documents: there is no file or folder {given}: correct the path")
    return None


def _here(note: str) -> str:
    """A note on what was read, without the settings that only a corpus has."""
    for setting, own in SETTINGS.items():
        note = note.replace(setting, own)
    return note


def _documents(
    given: Sequence[str | Path], field: str, encoding: str | None, notes: Notes
) -> Iterator[tuple[str, str]]:
    files: dict[str, Path] = {}
    places = [_place(each) for each in given]
    for place in filter(None, places):
        prefix = f"{place}: " if len(given) > 1 else ""
        files |= {prefix + name: path for name, path in _files(place, notes).items()}
    left = CHARACTERS
    for number, text in enumerate(str(each) for each, place in zip(given, places, strict=True) if place is None):
        yield f"text {number}", text.encode(errors="replace").decode()
    for name in sorted(files, key=_order):
        if left <= 0:
            notes.add(f"file beyond {CHARACTERS:,} characters in all, not read", name, refuse=False)
            continue
        most, limit = min((PER_FILE, f"{PER_FILE:,} characters"), (left, f"{CHARACTERS:,} characters in all"))
        for path, text in texts(files[name], name, field, most, limit, notes, encoding):
            left -= len(text)
            yield path, text


def _files(place: Path, notes: Notes) -> dict[str, Path]:
    """name -> file, of a file or folder. Raises UserError if there is none of a kind that is read."""
    if not place.exists():
        raise UserError(f"documents: there is no file or folder {place}: correct the path")
    if place.is_dir():
        return Local(str(place.absolute())).files(notes)
    if not kind(place.name):
        raise UserError(f"documents: {place} is not one of {KINDS}: convert it, or give another file")
    return {place.name: place}


def _order(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
