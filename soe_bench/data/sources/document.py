"""A corpus source yields documents. Every source (wheels, synthetic, a folder, a hub) implements `Source`."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Document:
    """One source unit (a service, an API, a component in one language, a file).

    `source` and `path` together name it; `pieces` are its strings in order (lines of a file, or separate prose
    strings): a passage never cuts a piece that fits into it.
    """

    source: str
    path: str
    pieces: list[str]

    @property
    def characters(self) -> int:
        """Characters of all pieces, each counted with the line break after it."""
        return sum(map(len, self.pieces)) + len(self.pieces)

    @property
    def order(self) -> str:
        """A hash of the name: sorting by it is a random order that never changes and needs no seed."""
        return hashlib.sha256(f"{self.source}:{self.path}".encode()).hexdigest()


class Source(Protocol):
    """Anything that `data.source._target_` names."""

    def identity(self) -> str:
        """A string that changes whenever the documents change."""

    def documents(self, home: Path) -> Iterator[Document]:
        """Yield every document, always in the same order; downloads are kept under `home`."""
