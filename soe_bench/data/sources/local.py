"""Documents from the user's own folder: each sub-folder is a source, all in specialists/ a specialist each."""

import hashlib
import json
import logging
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from glob import escape
from pathlib import Path

from soe_bench.data.sources.document import Document
from soe_bench.data.sources.textfiles import KINDS, ROWS, Notes, kind, part, sha256, texts
from soe_bench.data.splits import GENERIC
from soe_bench.errors import UserError
from soe_bench.system.files import text_folder
from soe_bench.system.words import counted

log = logging.getLogger("soe_bench")
SPECIALISTS = "specialists"
NEARLY = (SPECIALISTS, "specialist")  # in any case
PLAIN = (".txt", ".md", ".jsonl")
UNPACKED = 8  # text is seldom packed to less than an eighth of its size
ENDINGS = 5  # of files that are not read, at most, that a message names
OWN = "."  # the source of the text files that lie directly in the folder


class Local:
    """`folder`: text files, which are not copied. `text_field`: the field of .jsonl and column of .parquet that holds
    the text. At most `characters_per_file` of a document, `characters_per_source` of a source and in all `characters`
    characters are read, so that a folder of any size fits into memory. Documents below `minimum_characters` are left
    out. `strict`: refuse what would be skipped or guessed. `generic_fraction`: the part of each specialist's text that
    goes to the generic text. `encoding`: of the text files and .jsonl; null for UTF-8, or else cp1252. A byte-order
    mark goes before it."""

    def __init__(
        self,
        folder: str | None,
        text_field: str = "text",
        characters_per_file: int = 5_000_000,
        characters_per_source: int = 50_000_000,
        characters: int = 200_000_000,
        minimum_characters: int = 80,
        generic_fraction: float = 0.0,
        strict: bool = False,
        encoding: str | None = None,
    ) -> None:
        self.folder, self.text_field, self.strict, self.encoding = folder, text_field, strict, encoding
        self.per_file, self.per_source, self.characters = characters_per_file, characters_per_source, characters
        self.minimum, self.generic_fraction = minimum_characters, generic_fraction
        self.notes: dict[str, int] = {}

    def identity(self) -> str:
        """sha256 over relative path, size and sha256 of each file. The folder's own path is left out, so that a moved
        folder gives the same corpus. Every byte is read, because a corrected file may keep its size and time; that
        takes about a second per GB in each process. Raises UserError for a folder without text.
        """
        self.specialists()  # reports an empty specialist before any work
        notes, listed = Notes(self.strict), []
        for name, file in self.files(notes).items():
            try:
                listed.append((name, file.stat().st_size, sha256(file)))
            except OSError as error:
                notes.unreadable(name, error)
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def specialists(self) -> dict[str, dict]:
        """name -> rule, one for each folder or file of rows in specialists/. Raises UserError for one without text
        files, or with the name of the generic text, and for a folder whose name is nearly specialists."""
        notes = Notes(strict=False)
        sources = {_source(name) for name in self.files(notes)}
        top = text_folder(self.folder)
        for entry in _entries(top, notes):
            if entry.name.lower() in NEARLY and entry.name != SPECIALISTS and os.path.isdir(entry):
                raise UserError(
                    f"is each folder in {_readable(entry.name)}/ a specialist? Then call it {SPECIALISTS}, "
                    "else give it another name"
                )
        found = _entries(top / SPECIALISTS, notes) if (top / SPECIALISTS).is_dir() else []
        names = [
            _readable(entry.name)
            for entry in found
            if entry.name[0] != "." and (os.path.isdir(entry) or kind(entry.name) in ROWS and os.path.isfile(entry))
        ]
        for name in names:
            if name == GENERIC:
                raise UserError(f"the folder {SPECIALISTS}/{name} needs another name: {name} is a reserved name")
            if f"{SPECIALISTS}/{name}" not in sources:
                raise UserError(f"{SPECIALISTS}/{name} has no text that can be read: add {KINDS}, or remove the folder")
        return {
            name: {"source": escape(f"{SPECIALISTS}/{name}"), "match": ["*"], "generic_fraction": self.generic_fraction}
            for name in names
        }

    def size(self) -> int:
        """Bytes of the files that are read, as they lie there."""
        return sum(file.stat().st_size for file in self.files(Notes(strict=False)).values())

    def documents(self, home: Path) -> Iterator[Document]:
        """Files are read in the order of a hash of their names, so that a cap does not favour the first in the
        alphabet. What was skipped, cut or guessed is counted, logged, and kept in `notes`. Raises UserError if a file
        changed meanwhile, because the fingerprint would not tell what was read.
        """
        before, notes, seen = self.identity(), Notes(self.strict), 0
        files = self.files(notes)
        shares, sizes = self._shares(files), Counter[str]()
        for name, file in files.items():
            sizes[_source(name)] += file.stat().st_size
        limits = {s: "data.source.characters" + "_per_source" * (self.per_source <= shares[s]) for s in shares}
        left = dict(shares)
        for name in sorted(files, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
            source = _source(name)
            limit = limits[source]
            if left[source] <= 0:
                notes.add(f"file beyond {limit}, not read", name, refuse=False)
                continue
            most = left[source]
            if kind(name) not in ROWS:
                most, limit = min((self.per_file, "data.source.characters_per_file"), (most, limit))
            for path, text in texts(
                files[name], name, self.text_field, most, limit, notes, self.encoding, self.per_file
            ):
                left[source] -= len(text)
                if len(text.strip()) < self.minimum:
                    notes.add(f"document below {self.minimum} characters, left out", path, refuse=False)
                    continue
                seen += 1
                yield Document(source, path, text.splitlines())
        for source in [source for source, room in left.items() if room <= 0]:
            what = f"source read in part: raise {limits[source]} to read more"
            notes.add(what, f"{source}, {part(shares[source], sizes[source])}", refuse=False)
        notes.say()
        self.notes = notes.counts
        log.info("read %s: %s of %s", self.folder, counted(seen, "document"), counted(len(left), "source"))
        if not seen:
            raise UserError(
                f"no usable document in {self.folder}: see the warnings above, or lower data.minimum_characters"
            )
        if self.identity() != before:
            raise UserError(f"files in {self.folder} changed while they were read: run again when they are complete")

    def _shares(self, files: dict[str, Path]) -> dict[str, int]:
        """source -> the most characters that are read of it. What a small source leaves of its share of `characters`
        goes to the larger ones."""
        sizes: Counter[str] = Counter()
        for name, file in files.items():
            sizes[_source(name)] += file.stat().st_size * (1 if name.lower().endswith(PLAIN) else UNPACKED)
        shares, left = {}, self.characters
        for number, (source, size) in enumerate(sorted(sizes.items(), key=lambda item: (item[1], item[0]))):
            shares[source] = min(self.per_source, left // (len(sizes) - number))
            left -= min(size, shares[source])
        return shares

    def files(self, notes: Notes) -> dict[str, Path]:
        """Relative path (with / and readable, see `_readable`) -> file, sorted. Links are followed. Everything that is
        left out is counted in `notes`. Raises UserError if no file of text is left."""
        root, files, others = text_folder(self.folder), {}, []
        pending = [(root, "", frozenset({_place(os.stat(root))}))]
        while pending:
            folder, prefix, around = pending.pop()
            for entry in _entries(folder, notes):
                name = prefix + _readable(entry.name)
                try:
                    state = os.stat(entry)
                except OSError as error:
                    if entry.is_symlink():
                        notes.add("broken link, skipped", name)
                    else:
                        notes.unreadable(name, error)
                    continue
                if entry.name[0] == ".":
                    notes.add("hidden file or folder, left out", name, refuse=False)
                elif stat.S_ISDIR(state.st_mode) and _place(state) not in around:
                    pending.append((Path(entry), f"{name}/", around | {_place(state)}))
                elif stat.S_ISREG(state.st_mode) and not kind(name):
                    others.append(name)
                elif reason := _unfit(name, state) or (name in files and "file whose name reads like another one's"):
                    notes.add(f"{reason}, left out", name)
                else:
                    files[name] = Path(entry)
        left_out = f"file of a kind that is not read ({_endings(others)}; read are {KINDS}), left out"
        for name in others:
            notes.add(left_out, name)
        if not files:
            notes.say()
            raise UserError(f"there is no text in {root}: add {KINDS}")
        return dict(sorted(files.items()))


def _unfit(name: str, state: os.stat_result) -> str | None:
    """Why something in the folder, other than a folder to read, is no file of text; None if it is one."""
    if stat.S_ISDIR(state.st_mode):
        return "link to a folder that it lies in"
    if not stat.S_ISREG(state.st_mode):
        return "neither a file nor a folder"
    if _source(name) == SPECIALISTS:
        return f"text file directly in {SPECIALISTS}/, where each specialist has a folder"
    return None


def _endings(names: list[str]) -> str:
    """The endings of files' names with their counts, the most frequent first: `2 .rst, 1 .tar.gz`."""
    found = (re.search(r"\.\w{1,8}(\.gz|\.zst)?$", name.lower()) for name in names)
    counts = Counter(match[0] if match else "without an ending" for match in found).most_common()
    shown, rest = counts[:ENDINGS], sum(count for _, count in counts[ENDINGS:])
    return ", ".join([f"{count} {ending}" for ending, count in shown] + [f"{rest} more"] * bool(rest))


def _entries(folder: Path, notes: Notes) -> list[os.DirEntry]:
    """What lies in a folder, sorted by name; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        notes.unreadable(_readable(str(folder)), error)
        return []


def _place(state: os.stat_result) -> tuple[int, int]:
    """What tells a file or folder from every other one, whatever links lead to it."""
    return state.st_dev, state.st_ino


def _source(name: str) -> str:
    """The source of a file by its relative path: its first folder, or its first two under specialists/. Directly in
    the user's folder and in specialists/ a file of rows is a source of its own; in the first, all files of text
    together are one."""
    folders = name.split("/")[:-1]
    if folders in ([], [SPECIALISTS]) and kind(name) in ROWS:
        return name
    if not folders:
        return OWN
    return "/".join(folders[: 2 if folders[0] == SPECIALISTS else 1])


def _readable(name: str) -> str:
    """A name of the file system as text, in Unicode form NFC: file systems store accents differently, but the
    fingerprint must be the same. A byte that is not UTF-8 and a control character become \\xNN."""
    escaped = re.sub("[\x00-\x1f\x7f\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) & 255:02x}", name)
    return unicodedata.normalize("NFC", escaped)
