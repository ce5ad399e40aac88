"""Documents from .txt, .md, .jsonl and .parquet files, read as streams: encodings, what is skipped, and why."""

import json
import logging
from collections.abc import Iterator
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import IO

import pyarrow.parquet as parquet
from pyarrow import ArrowException

from soe_bench.errors import UserError

log = logging.getLogger("soe_bench")
SUFFIXES = (".txt", ".md", ".jsonl", ".parquet")
MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
FALLBACK = "cp1252"  # Windows' latin-1, which adds quotation marks
BLOCK = 1 << 16
ROWS = 256


class Notes:
    """Counts what was skipped, cut or guessed, by kind, with the first place of each; `strict` makes it an error."""

    def __init__(self, strict: bool) -> None:
        self.strict, self.counts, self.first = strict, {}, {}

    def add(self, kind: str, place: str, refuse: bool = True) -> None:
        """Counts one more of a kind. With `strict` raises UserError, unless it is no fault of the file (`refuse`
        false)."""
        if self.strict and refuse:
            raise UserError(f"{place}: {kind}; correct or remove it, or set data.source.strict=false to go on without")
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.first.setdefault(kind, place)

    def say(self) -> None:
        """Logs one warning per kind."""
        for kind, count in self.counts.items():
            log.warning("%d x %s; the first: %s", count, kind, self.first[kind])


def sha256(file: Path) -> str:
    """sha256 (hex) of a file's content, at about a second per GB. A process reads a file again only if its size or time
    changed."""
    state = file.stat()
    return _sha256(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _sha256(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def texts(file: Path, name: str, field: str, characters: int, notes: Notes) -> Iterator[tuple[str, str]]:
    """(name, text) of each document in a file. A text file is one document; so is each row of .jsonl or .parquet.

    Reads at most about `characters` characters and never holds more. Raises UserError if a .parquet file has no column
    `field`.
    """
    kind = file.suffix.lower()
    if kind == ".parquet":
        rows = _parquet_rows(file, name, field, notes)
    elif (encoding := _encoding(file)) is None:
        notes.add("binary content, skipped", name)
        return
    elif kind == ".jsonl":
        rows = _json_rows(file, name, field, characters, encoding, notes)
    else:
        yield name, _text(file, name, characters, encoding, notes)
        return
    for number, text in rows:
        if characters <= 0:
            notes.add("file longer than data.source.characters_per_file, cut", name, refuse=False)
            return
        yield f"{name}:{number:06d}", text[:characters]
        characters -= len(text)


def _encoding(file: Path) -> str | None:
    """The encoding by the byte-order mark, else utf-8. None for binary content: a zero byte, or over 5 % control
    characters."""
    with file.open("rb") as stream:
        head = stream.read(BLOCK)
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    control = sum(head.count(bytes([code])) for code in range(32) if code not in b"\t\n\f\r\x1b")
    return None if 0 in head or control > 0.05 * len(head) else "utf-8"


def _text(file: Path, name: str, characters: int, encoding: str, notes: Notes) -> str:
    try:
        text, more = _read(file, characters, encoding, "strict")
    except UnicodeDecodeError:
        notes.add(f"not valid {encoding}, read as {FALLBACK} (latin-1)", name)
        text, more = _read(file, characters, FALLBACK if encoding == "utf-8" else encoding, "replace")
    if more:
        notes.add("file longer than data.source.characters_per_file, cut", name, refuse=False)
    return text


def _read(file: Path, characters: int, encoding: str, errors: str) -> tuple[str, bool]:
    """At most `characters` characters, and whether there are more."""
    parts, left = [], characters
    with file.open(encoding=encoding, errors=errors) as stream:
        while left > 0 and (part := stream.read(min(left, BLOCK))):
            parts.append(part)
            left -= len(part)
        return "".join(parts), left <= 0 and bool(stream.read(1))


def _json_rows(
    file: Path, name: str, field: str, characters: int, encoding: str, notes: Notes
) -> Iterator[tuple[int, str]]:
    """(line number from 1, text); a line that is no JSON object with a string `field` is counted and skipped."""
    with file.open(encoding=encoding, errors="surrogateescape" if encoding == "utf-8" else "replace") as stream:
        for number, line in enumerate(_lines(stream, 2 * characters + 1000), 1):
            if line is not None and not line.strip():
                continue
            try:
                text = json.loads(line.encode(errors="surrogateescape").decode())[field] if line else None
            except (ValueError, KeyError, TypeError):
                text = None
            if isinstance(text, str):
                yield number, text.encode(errors="replace").decode()  # half of a surrogate pair is not text
            else:
                notes.add(f"line that is no JSON object with a text field {field!r}, skipped", f"{name}, line {number}")


def _lines(stream: IO[str], limit: int) -> Iterator[str | None]:
    """The lines of a text stream; None for a line of more than `limit` characters, which is skipped and never held."""
    while line := stream.readline(limit):
        whole = line.endswith("\n") or len(line) < limit
        rest = line
        while rest and not rest.endswith("\n") and not whole:
            rest = stream.readline(limit)
        yield line if whole else None


def _parquet_rows(file: Path, name: str, field: str, notes: Notes) -> Iterator[tuple[int, str]]:
    """(row number from 0, text). Rows without text are counted and skipped; so is the rest of a damaged file."""
    try:
        table = parquet.ParquetFile(file, memory_map=True)
        if field not in table.schema_arrow.names:
            raise UserError(
                f"{name} has no column {field!r}, only {', '.join(table.schema_arrow.names)}: set "
                "data.source.text_field to the one that holds the text"
            )
        for i, batch in enumerate(table.iter_batches(ROWS, columns=[field])):
            for j, text in enumerate(batch.column(0).to_pylist()):
                if isinstance(text, str):
                    yield i * ROWS + j, text
                else:
                    notes.add(f"row without text in column {field!r}, skipped", f"{name}, row {i * ROWS + j}")
    except (ArrowException, OSError) as error:
        notes.add("damaged parquet file, skipped", f"{name} ({str(error).splitlines()[0]})")
