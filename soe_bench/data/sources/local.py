"""Documents from the user's own folder: each sub-folder is a source, each folder under specialists/ a specialist."""

import hashlib
import json
import logging
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from soe_bench.data.sources.document import Document
from soe_bench.data.sources.textfiles import SUFFIXES, Notes, sha256, texts
from soe_bench.errors import UserError

log = logging.getLogger("soe_bench")
SPECIALISTS = "specialists"
OWN = "."  # the source of files that lie directly in the folder


class Local:
    """`folder`: text files, which are not copied. `text_field`: the field of .jsonl and column of .parquet that holds
    the text. At most `characters_per_file` and `characters_per_source` characters are read; documents below
    `minimum_characters` are left out. `strict`: refuse what would be skipped or guessed. `generic_fraction`: the part
    of each specialist's text that goes to the generic text."""

    def __init__(
        self,
        folder: str | None,
        text_field: str = "text",
        characters_per_file: int = 5_000_000,
        characters_per_source: int = 50_000_000,
        minimum_characters: int = 80,
        generic_fraction: float = 0.0,
        strict: bool = False,
    ) -> None:
        self.folder, self.text_field, self.strict = folder and Path(folder).expanduser(), text_field, strict
        self.per_file, self.per_source = characters_per_file, characters_per_source
        self.minimum, self.generic_fraction = minimum_characters, generic_fraction
        self.notes: dict[str, int] = {}

    def identity(self) -> str:
        """sha256 over relative path, size and sha256 of each file. The folder's own path is left out, so that a moved
        folder gives the same corpus. Every byte is read, because a corrected file may keep its size and time; that
        takes about a second per GB in each process. Raises UserError for a folder without text.
        """
        self.specialists()  # reports an empty specialist before any work
        files = [(name, file.stat().st_size, sha256(file)) for name, file in self._files()]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    def specialists(self) -> dict[str, dict]:
        """name -> rule, one for each folder under specialists/. Raises UserError for one without text files."""
        folder = self._folder() / SPECIALISTS
        names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".") if folder.is_dir() else []
        sources = {_source(name) for name, _ in self._files()}
        for name in map(_normal, names):
            if f"{SPECIALISTS}/{name}" not in sources:
                raise UserError(f"the specialist folder {SPECIALISTS}/{name} has no text: add {_kinds()}, or remove it")
        return {
            name: {
                "source": _literal(f"{SPECIALISTS}/{name}"),
                "match": ["*"],
                "generic_fraction": self.generic_fraction,
            }
            for name in map(_normal, names)
        }

    def documents(self, home: Path) -> Iterator[Document]:
        """Files are read in the order of a hash of their names, so that a cap does not favour the first in the
        alphabet. What was skipped, cut or guessed is counted, logged, and kept in `notes`.
        """
        notes, left, seen = Notes(self.strict), defaultdict(lambda: self.per_source), 0
        for name, file in sorted(self._files(), key=lambda item: hashlib.sha256(item[0].encode()).hexdigest()):
            source = _source(name)
            if left[source] <= 0:
                notes.add("file beyond data.source.characters_per_source, not read", name, refuse=False)
                continue
            for path, text in texts(file, name, self.text_field, min(self.per_file, left[source]), notes):
                left[source] -= len(text)
                if len(text.strip()) < self.minimum:
                    notes.add(f"document below {self.minimum} characters, left out", path, refuse=False)
                    continue
                seen += 1
                yield Document(source, path, text.splitlines())
        notes.say()
        self.notes = notes.counts
        log.info("read %s: %d documents of %d sources", self.folder, seen, len(left))
        if not seen:
            raise UserError(
                f"no usable document in {self.folder}: see the warnings above, or lower data.minimum_characters"
            )

    def _folder(self) -> Path:
        if not self.folder:
            raise UserError("data=local needs a folder: add data.source.folder=FOLDER")
        if not self.folder.is_dir():
            raise UserError(f"data.source.folder: there is no folder {self.folder}: correct the path")
        return self.folder

    def _files(self) -> list[tuple[str, Path]]:
        """(relative path with / and composed characters, file), sorted; hidden files and folders are left out."""
        root, found = self._folder(), []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name[0] != "."]
            files = [Path(folder, name) for name in names if name[0] != "." and name.lower().endswith(SUFFIXES)]
            found += [(_normal(file.relative_to(root).as_posix()), file) for file in files if file.is_file()]
        if not found:
            raise UserError(f"there is no text in {root}: add {_kinds()}, one sub-folder per source")
        return sorted(found)


def _source(name: str) -> str:
    """The source of a file by its relative path: its first folder, or its first two under specialists/."""
    folders = name.split("/")[:-1]
    return "/".join(folders[: 2 if folders[:1] == [SPECIALISTS] else 1]) or OWN


def _normal(name: str) -> str:
    """`name` in Unicode form NFC: file systems store accents differently, but the fingerprint must be the same."""
    return unicodedata.normalize("NFC", name)


def _literal(name: str) -> str:
    """A pattern that matches this name only."""
    return "".join(f"[{c}]" if c in "[*?" else c for c in name)


def _kinds() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} files"
