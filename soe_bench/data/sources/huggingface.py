"""Documents from data sets on the Hugging Face hub, or from files of the same formats, streamed by `datasets`."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from glob import escape, glob
from itertools import chain, islice
from pathlib import Path
from typing import Any

from soe_bench.data.sources.document import Document
from soe_bench.data.sources.textfiles import Notes, encodable, record, sha256
from soe_bench.errors import UserError

log = logging.getLogger("soe_bench")
REMOTE = "://"
RETRIES = {"STREAMING_OPEN_MAX_RETRIES": 2, "STREAMING_READ_MAX_RETRIES": 5}  # of `datasets`; its 20 take minutes
LINES = {"encoding": "utf-8-sig", "encoding_errors": "backslashreplace"}  # \\xNN is not JSON, so its line is skipped
SAID_EVERY = 50_000  # rows
ENOUGH = 1000  # rows in which a field must turn up


class HuggingFace:
    """`sets`: name -> {format: json (one object per line) or parquet; files: local paths, with *, or
    hf://datasets/OWNER/NAME@REVISION/PATH; text_field; source_field: a field such as meta.pile_set_name that names the
    source, or null; sources: those to keep, or null; and at most `rows` rows read, `documents_per_source` and
    `characters_per_source` kept}.
    """

    def __init__(self, sets: Mapping[str, Mapping[str, Any]]) -> None:
        self.sets = {name: dict(given) for name, given in sets.items()}
        for given in self.sets.values():
            given["sources"] = given["sources"] and list(given["sources"])
        self.notes: dict[str, int] = {}

    def identity(self) -> str:
        """sha256 over all settings. A remote file counts by its address, which names a revision; a local file counts by
        its name and content."""
        said = {name: given | {"files": self._identities(name)} for name, given in self.sets.items()}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def documents(self, home: Path) -> Iterator[Document]:
        """Yields set by set, in the order of the files; `source` is `<set>/<value of source_field>`, or the set's name.

        Rows without text or without a source, and local files that are damaged, are counted, logged, and kept in
        `notes`. Raises UserError if a set cannot be opened, before any is read in full, or has no usable row.
        """
        notes = Notes(strict=False)
        try:
            streams = {name: self._open(name, notes) for name in self.sets}
            for name in self.sets:
                yield from self._documents(name, streams[name], notes)
        finally:
            notes.say()
            self.notes = notes.counts

    def _documents(self, name: str, rows: Iterator[dict], notes: Notes) -> Iterator[Document]:
        given, documents, characters, full = self.sets[name], Counter(), Counter(), set()
        wanted = {_label(value) for value in given["sources"] or ()}
        number = 0
        for number, text, value in self._usable(name, rows, notes):
            if number % SAID_EVERY == 0:
                log.info("%s: %d rows read, %d documents kept", name, number, documents.total())
            if value in full or (wanted and value not in wanted):
                continue
            documents[value] += 1
            characters[value] += len(text)
            if documents[value] >= given["documents_per_source"] or characters[value] >= given["characters_per_source"]:
                full.add(value)
            yield Document(name if value is None else f"{name}/{value}", f"{number:09d}", text.splitlines())
            if full == (wanted or {None}):
                break
        log.info("%s: %d rows read, %d documents kept", name, number, documents.total())
        if absent := sorted(wanted - set(documents)):
            raise UserError(
                f"{name}: no document of {', '.join(absent)} in {number} rows: raise data.source.sets."
                f"{name}.rows, add files, or leave these out of sources and data.specialists"
            )

    def _usable(self, name: str, rows: Iterator[dict], notes: Notes) -> Iterator[tuple[int, str, str | None]]:
        """(number from 1, text, source or None) of each row that has what is needed. Raises UserError if there is no
        such row at all, or among the first ENOUGH."""
        given, row, number, usable = self.sets[name], {}, 0, 0
        for number, row in enumerate(islice(rows, given["rows"]), 1):
            text, value = _field(row, given["text_field"]), _label(_field(row, given["source_field"]))
            if not isinstance(text, str) or not text.strip():
                notes.add(f"row without text in data.source.sets.{name}.text_field, skipped", f"row {number}")
            elif given["source_field"] and value is None:
                notes.add(f"row without a name in data.source.sets.{name}.source_field, skipped", f"row {number}")
            else:
                usable += 1
                yield number, encodable(text), value
            if number == ENOUGH and not usable:
                break
        if not usable:
            fields = " and ".join(filter(None, (given["text_field"], given["source_field"])))
            raise UserError(
                f"{name}: none of {number} rows has {fields} (the last one has {', '.join(row) or 'no field'}): "
                f"correct text_field, source_field or files of data.source.sets.{name}"
            )

    def _open(self, name: str, notes: Notes) -> Iterator[dict]:
        """The rows of a set. The first row is read at once, so that a set that cannot be reached is reported early."""
        rows = self._rows(name, notes)
        return chain(list(islice(rows, 1)), rows)

    def _rows(self, name: str, notes: Notes) -> Iterator[dict]:
        """File by file. The lines of a json file are parsed here: `datasets` would end at the first malformed one."""
        import datasets

        for key, value in RETRIES.items():
            setattr(datasets.config, key, value)
        datasets.disable_progress_bars()
        lines = self.sets[name]["format"] == "json"
        builder, options = ("text", LINES) if lines else (self.sets[name]["format"], {})
        for file in [file for pattern in self.sets[name]["files"] for file in _expand(pattern)]:
            try:
                for row in datasets.load_dataset(
                    builder, data_files=_plain(file), split="train", streaming=True, **options
                ):
                    if not lines or row["text"].strip():
                        yield record(row["text"]) if lines else row
            except Exception as error:  # whatever the network, the hub, its client or the file format raise
                if REMOTE in file:
                    raise _failed(name, error) from error
                notes.unreadable(f"{name}: {file}", error)

    def _identities(self, name: str) -> list:
        return [
            [Path(file).name, _sha256(file)] if REMOTE not in file else file
            for pattern in self.sets[name]["files"]
            for file in _expand(pattern)
        ]


def _failed(name: str, error: Exception) -> UserError:
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(
        f"{name} cannot be read ({what}): check the network and that the hub can be reached, or set "
        f"data.source.sets.{name}.files to copies of the files, or take data=wheels or data=local"
    )


def _expand(pattern: str) -> list[str]:
    """The local files that match `pattern`, sorted; an address is kept as it is. Raises UserError if none matches."""
    if REMOTE in pattern:
        return [pattern]
    found = [pattern] if Path(pattern).is_file() else sorted(glob(pattern))
    if not found:
        raise UserError(f"data.source.sets: there is no file {pattern}: correct the path")
    return found


def _plain(file: str) -> str:
    """A local path as a pattern that matches it alone, because `datasets` takes every path for a pattern."""
    return file if REMOTE in file else escape(file)


def _sha256(file: str) -> str:
    try:
        return sha256(Path(file))
    except OSError as error:
        raise UserError(f"data.source.sets: {file} cannot be read ({error.strerror}): correct it or the path") from None


def _field(row: dict, key: str | None) -> Any:
    """The value under a dotted key; None without a key, or if the row has no such field."""
    value: Any = row if key else None
    for part in key.split(".") if key else ():
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _label(value: Any) -> str | None:
    """The name of a source by its value: text as it is, 0 as "0", false as "false"; None for what names nothing."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return encodable(value) if isinstance(value, str) else None
