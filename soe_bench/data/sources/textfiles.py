"""Documents from .txt, .md, .jsonl and .parquet files, read as streams: encodings, what is skipped, and why."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import IO

import pyarrow.parquet as parquet
from pyarrow import ArrowException, CompressedInputStream

from soe_bench.errors import UserError

log = logging.getLogger("soe_bench")
TEXT, ROWS = (".txt", ".md"), (".jsonl", ".parquet")  # one document per file, and one per row
PACKED = {".gz": "gzip", ".zst": "zstd"}  # .parquet packs itself
KINDS = ".txt, .md, .jsonl (also .gz or .zst of these) or .parquet files"
POINTER = b"version https://git-lfs.github.com/spec/"
MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
FALLBACK = "cp1252"  # latin-1 with quotation marks
OTHER = f"not valid utf-8, read as {FALLBACK}, Windows' latin-1 (data.source.encoding)"
BLOCK = 1 << 16
BATCH = 256  # rows


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

    def unreadable(self, place: str, error: Exception) -> None:
        """Counts a file or folder that the system or its format's reader refuses."""
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        self.add("damaged or not readable, skipped from there on", f"{place} ({reason or type(error).__name__})")

    def say(self) -> None:
        """Logs one warning per kind."""
        for kind, count in self.counts.items():
            log.warning("%d x %s; the first: %s", count, kind, self.first[kind])


def kind(name: str) -> str | None:
    """.txt, .md, .jsonl or .parquet by the end of a file's name, which .gz or .zst may follow; None for any other."""
    path = Path(name.lower())
    found = Path(path.stem).suffix if path.suffix in PACKED else path.suffix
    return found if found in TEXT + ROWS and (path.suffix not in PACKED or found != ".parquet") else None


def sha256(file: Path) -> str:
    """sha256 (hex) of a file's content, at about a second per GB. A process reads a file again only if its size or time
    changed."""
    state = file.stat()
    return _sha256(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _sha256(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def texts(
    file: Path,
    name: str,
    field: str,
    characters: int,
    limit: str,
    notes: Notes,
    given: str | None = None,
    longest: int | None = None,
) -> Iterator[tuple[str, str]]:
    """(name, text) of each document in a file. A text file is one document; so is each row of .jsonl or .parquet.

    Reads at most about `characters` characters and never holds more. What cannot be read is counted in `notes`, and so
    is a file that is cut, with the `limit` in words. `given`: the encoding of a file without a byte-order mark; None
    for UTF-8, else cp1252. `longest`: the most characters of a row.
    """
    try:
        yield from _texts(file, name, field, characters, limit, notes, given, longest or characters)
    except (ArrowException, OSError) as error:
        notes.unreadable(name, error)


def _texts(
    file: Path, name: str, field: str, characters: int, limit: str, notes: Notes, given: str | None, longest: int
) -> Iterator[tuple[str, str]]:
    with file.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            notes.add("pointer of Git LFS without the content, skipped: `git lfs pull` fetches it", name)
            return
    if kind(file.name) == ".parquet":
        rows = _parquet_rows(file, name, field, notes)
    elif (encoding := _encoding(file, given)) is None:
        notes.add("binary content, skipped", name)
        return
    elif kind(file.name) == ".jsonl":
        rows = _json_rows(file, name, field, longest, encoding, notes)
    else:
        yield name, _text(file, name, characters, limit, encoding, notes)
        return
    left = characters
    for number, text in rows:
        if left <= 0:
            notes.add(f"file beyond {limit}, cut", f"{name}, {part(characters, file.stat().st_size)}", refuse=False)
            return
        if len(text) > longest:
            notes.add(f"row of over {longest:,} characters, cut", f"{name}:{number:06d}", refuse=False)
        text = text[: min(left, longest)]
        yield f"{name}:{number:06d}", text
        left -= len(text)


def part(characters: int, size: int) -> str:
    """How much was read of so many bytes, in words."""
    return f"{characters:,} characters of {size / 1e6:,.1f} MB"


@contextmanager
def _bytes(file: Path) -> Iterator[IO[bytes]]:
    """The content of a file, unpacked. A packed stream that is cut short or damaged raises OSError."""
    with file.open("rb") as stream:
        packed = PACKED.get(file.suffix.lower())
        yield CompressedInputStream(stream, packed) if packed else stream


@contextmanager
def _characters(file: Path, encoding: str, errors: str) -> Iterator[IO[str]]:
    with _bytes(file) as stream, io.TextIOWrapper(stream, encoding, errors) as text:
        yield text


def _encoding(file: Path, given: str | None) -> str | None:
    """The encoding by the byte-order mark, else the `given` one, else utf-8. None for binary content: a zero character,
    or over 5 % control characters."""
    with _bytes(file) as stream:
        head = stream.read(BLOCK)
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    shown = head.decode(given or "latin-1", "replace")
    control = sum(shown.count(chr(code)) for code in range(32) if code not in b"\t\n\f\r\x1b")
    return None if "\0" in shown or control > 0.05 * len(shown) else given or "utf-8"


def _text(file: Path, name: str, characters: int, limit: str, encoding: str, notes: Notes) -> str:
    try:
        text, more = _read(file, characters, encoding, "strict")
    except UnicodeDecodeError:
        text, more = _read(file, characters, encoding, "replace")
        notes.add(said := _invalid(encoding, text), name)
        if said == OTHER:
            text, more = _read(file, characters, FALLBACK, "replace")
    if more:
        notes.add(f"file beyond {limit}, cut", f"{name}, {part(characters, file.stat().st_size)}", refuse=False)
    return text


def _invalid(encoding: str, text: str) -> str:
    """What is said of a text with replacement characters: some bad bytes in its encoding, or OTHER where it is no
    UTF-8. In other encodings few characters beyond ASCII are valid UTF-8 by chance."""
    beyond, bad = len(text) - len(text.encode("ascii", "ignore")), text.count("\ufffd")
    valid = beyond - bad
    if encoding == "utf-8" and bad > max(valid // 10, min(valid, len(text) // 1000)):
        return OTHER
    return f"damaged {encoding}, its bad bytes replaced by a mark (U+FFFD)"


def _read(file: Path, characters: int, encoding: str, errors: str) -> tuple[str, bool]:
    """At most `characters` characters, and whether there are more."""
    parts, left = [], characters
    with _characters(file, encoding, errors) as stream:
        while left > 0 and (part := stream.read(min(left, BLOCK))):
            parts.append(part)
            left -= len(part)
        return "".join(parts), left <= 0 and bool(stream.read(1))


def _json_rows(
    file: Path, name: str, field: str, characters: int, encoding: str, notes: Notes
) -> Iterator[tuple[int, str]]:
    """(line number from 1, text); a line that is no JSON object with a string `field` is counted and skipped."""
    most = 2 * characters + 1000
    with _characters(file, encoding, "surrogateescape" if encoding == "utf-8" else "replace") as stream:
        for number, line in enumerate(_lines(stream, most), 1):
            if line is not None and not line.strip():
                continue
            place = f"{name}, line {number}"
            if line is None:
                notes.add(f"row of over {most:,} characters, skipped", place)
                continue
            whole, said = _line(line, encoding)
            row = record(whole.encode(errors="replace"))
            if isinstance(text := row.get(field), str):
                if said:
                    notes.add(said, place)
                yield number, encodable(text)
            elif row:
                has = " ".join(", ".join(row).split())[:200]
                notes.add(
                    f"row without text in {field!r} (data.source.text_field), skipped", f"{place}, which has {has}"
                )
            else:
                notes.add("row that is no JSON object with fields, skipped", place)


def _line(line: str, encoding: str) -> tuple[str, str | None]:
    """A line as a file of text would be read, and what is said of it if it is not valid in the encoding. Bad bytes of
    UTF-8 stand in it as `surrogateescape` leaves them."""
    if encoding != "utf-8":
        return line, _invalid(encoding, line) if "\ufffd" in line else None
    raw = line.encode(errors="surrogateescape")
    if (read := raw.decode(errors="replace")) == line:
        return line, None
    said = _invalid(encoding, read)
    return raw.decode(FALLBACK, "replace") if said == OTHER else read, said


def record(line: str | bytes) -> dict:
    """The JSON object of a line; an empty one if the line is anything else, or is nested too deeply."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def encodable(text: str) -> str:
    """`text` with a question mark for half of a surrogate pair, which JSON can hold but UTF-8 cannot."""
    return text.encode(errors="replace").decode()


def _lines(stream: IO[str], limit: int) -> Iterator[str | None]:
    """The lines of a text stream; None for a line of more than `limit` characters, which is skipped and never held."""
    while line := stream.readline(limit):
        whole = line.endswith("\n") or len(line) < limit
        rest = line
        while rest and not rest.endswith("\n") and not whole:
            rest = stream.readline(limit)
        yield line if whole else None


def _parquet_rows(file: Path, name: str, field: str, notes: Notes) -> Iterator[tuple[int, str]]:
    """(row number from 0, text). Rows without text are counted and skipped."""
    with file.open("rb") as stream:  # no memory map: a file that shrinks meanwhile would kill the process
        table = parquet.ParquetFile(stream)
        if field not in (columns := table.schema_arrow.names):
            has = ", ".join(columns)
            notes.add(f"file without a column {field!r} (data.source.text_field), skipped", f"{name}, which has {has}")
            return
        batches = table.iter_batches(BATCH, columns=[field])
        for number, value in enumerate(value for batch in batches for value in batch.column(0)):
            try:
                text = value.as_py()
            except UnicodeDecodeError:
                text = None
            if isinstance(text, str):
                yield number, text
            else:
                notes.add(f"row without text in {field!r} (data.source.text_field), skipped", f"{name}, row {number}")
