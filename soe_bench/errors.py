"""The one exception for bad input, and where any other exception arose."""

from __future__ import annotations

import traceback
from collections.abc import Collection
from pathlib import Path


class UserError(Exception):
    """Bad input: one line that says what is wrong and what to do. Commands print it and exit with 2."""


def place(error: BaseException, packages: Collection[str]) -> str:
    """The `file:line` of an exception's last frame in these packages, below the function that caught it. It is empty
    without such a frame."""
    caught = error.__traceback__
    lines = [
        f"{Path(frame.f_code.co_filename).name}:{line}"
        for frame, line in traceback.walk_tb(caught and caught.tb_next)
        if frame.f_globals.get("__name__", "").partition(".")[0] in packages
    ]
    return lines[-1] if lines else ""
