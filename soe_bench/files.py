"""Files are written under a temporary name, then renamed: a reader never sees half a file."""

from __future__ import annotations

import os
from pathlib import Path

from soe_bench.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically, with its folder. Raises UserError where the disk refuses; an old file
    stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        what = f"cannot write {path}: {error.strerror or error}"
        raise UserError(f"{what}; free some disk space and run the same command again") from error
