"""Documents from data sets on the Hugging Face hub, or from files of the same formats, streamed by `datasets`."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from glob import glob
from itertools import chain, islice
from pathlib import Path
from typing import Any

from soe_bench.data.sources.document import Document
from soe_bench.data.sources.textfiles import sha256
from soe_bench.errors import UserError

log = logging.getLogger("soe_bench")
REMOTE = "://"
RETRIES = {
    "STREAMING_OPEN_MAX_RETRIES": 2,
    "STREAMING_READ_MAX_RETRIES": 5,
}  # of `datasets`; its 20 take minutes
SAID_EVERY = 50_000  # rows
SET_KEYS = {
    "format",
    "files",
    "text_field",
    "source_field",
    "sources",
    "rows",
    "documents_per_source",
    "characters_per_source",
}


class HuggingFace:
    """`sets`: name -> {format: json or parquet; files: hf://datasets/OWNER/NAME@REVISION/PATH or local paths, with *;
    text_field; source_field: a field such as meta.pile_set_name that names the source, or null; sources: those to keep,
    or null; and at most `rows` rows read, `documents_per_source` and `characters_per_source` kept}.
    """

    def __init__(self, sets: Mapping[str, Mapping[str, Any]]) -> None:
        self.sets = {name: dict(given) for name, given in sets.items()}
        for name, given in self.sets.items():
            if set(given) != SET_KEYS:
                raise UserError(
                    f"data.source.sets.{name} needs exactly the keys {', '.join(sorted(SET_KEYS))}: add or remove "
                    f"{', '.join(sorted(set(given) ^ SET_KEYS))}"
                )
            given["sources"] = given["sources"] and list(given["sources"])

    def identity(self) -> str:
        """sha256 over all settings. A remote file counts by its address, which names a revision; a local file counts by
        its name and content."""
        said = {name: given | {"files": self._identities(name)} for name, given in self.sets.items()}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def documents(self, home: Path) -> Iterator[Document]:
        """Yields set by set, in the order of the files; `source` is `<set>/<value of source_field>`, or the set's name.

        Raises UserError if a set cannot be opened, before any is read in full.
        """
        streams = {name: self._open(name) for name in self.sets}
        for name, given in self.sets.items():
            yield from self._documents(name, given, streams[name])

    def _documents(self, name: str, given: dict, rows: Iterator[dict]) -> Iterator[Document]:
        documents, characters, full = Counter(), Counter(), set()
        wanted = set(given["sources"] or ())
        number = 0
        for number, row in enumerate(islice(rows, given["rows"]), 1):
            if number % SAID_EVERY == 0:
                log.info("%s: %d rows read, %d documents kept", name, number, documents.total())
            value, text = _field(row, given["source_field"], name), _field(row, given["text_field"], name)
            if value in full or (wanted and value not in wanted) or not isinstance(text, str) or not text.strip():
                continue
            documents[value] += 1
            characters[value] += len(text)
            if documents[value] >= given["documents_per_source"] or characters[value] >= given["characters_per_source"]:
                full.add(value)
            yield Document(f"{name}/{value}" if value else name, f"{number:09d}", text.splitlines())
            if full == (wanted or {None}):
                break
        log.info("%s: %d rows read, %d documents kept", name, number, documents.total())
        if absent := sorted(wanted - set(documents)):
            raise UserError(
                f"{name}: no document of {', '.join(absent)} in {number} rows: raise data.source.sets."
                f"{name}.rows, add files, or leave these out of sources and data.specialists"
            )

    def _open(self, name: str) -> Iterator[dict]:
        """The rows of a set. The first row is read at once, so that a set that cannot be reached is reported early."""
        import datasets

        for key, value in RETRIES.items():
            setattr(datasets.config, key, value)
        datasets.disable_progress_bars()
        given = self.sets[name]
        files = [file for pattern in given["files"] for file in _expand(pattern)]
        try:
            rows = iter(datasets.load_dataset(given["format"], data_files=files, split="train", streaming=True))
            first = list(islice(rows, 1))
        except Exception as error:  # whatever the network, the hub, its client or the file format raise
            raise _failed(name, error) from error
        return chain(first, _rows(name, rows))

    def _identities(self, name: str) -> list:
        return [
            [Path(file).name, sha256(Path(file))] if REMOTE not in file else file
            for pattern in self.sets[name]["files"]
            for file in _expand(pattern)
        ]


def _rows(name: str, rows: Iterator[dict]) -> Iterator[dict]:
    try:
        yield from rows
    except Exception as error:
        raise _failed(name, error) from error


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


def _field(row: dict, key: str | None, name: str) -> Any:
    """The value under a dotted key; None without a key. Raises UserError if the row has no such field."""
    value: Any = row
    for part in key.split(".") if key else ():
        if not isinstance(value, dict) or part not in value:
            raise UserError(f"{name}: a row has no field {key}, only {', '.join(row)}: correct data.source.sets.{name}")
        value = value[part]
    return value if key else None
