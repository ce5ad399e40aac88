"""Files are written under a temporary name, then renamed: a reader never sees half a file."""

from __future__ import annotations

import os
from pathlib import Path

from soe_bench.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically. Raises UserError where the disk refuses; the old file stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}; free some disk space and run the same command again") \
            from error
