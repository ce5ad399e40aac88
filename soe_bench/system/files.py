"""Files are written under a temporary name, then renamed: no reader sees half a file, and no power cut leaves one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from soe_bench.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically, and makes its folder if need be. Raises UserError if the disk refuses;
    an old file then stays as it was."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write under; at the end that file becomes `path`.

    Raises UserError if the disk refuses; an old file then stays as it was. The name is always the same, so that the
    next write replaces what a killed one left. Two processes must not write the same path at once: callers hold a lock.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Renames a file or folder once all its content is on the disk. Otherwise the name may reach the disk first, and a
    power cut would leave it without content. Raises UserError if the disk refuses."""
    with refusals(target):
        for path in (*source.rglob("*"), source):
            sync(path)
        os.replace(source, target)
        sync(target.parent)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Context in which a refusal of the disk becomes a UserError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        what = f"cannot write {path}: {error.strerror or error}"
        raise UserError(f"{what}; free some disk space and run the same command again") from error


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
