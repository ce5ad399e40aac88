"""Command lines of `key=value`, read before anything heavy is imported, and what all commands do with an error."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from soe_bench.errors import UserError
from soe_bench.system.files import reason, show_every_character, user_path

STOPPED = 130  # exit status after Ctrl-C
Kind = Callable[[str], Any]  # reads a value, or raises ValueError that says what it must be


def command(main: Callable[..., int]) -> Callable[..., int]:
    """The main function of a command, in which a UserError or an OSError becomes one line on standard error and the
    exit status 2, and Ctrl-C, also during imports, one line and STOPPED."""

    @wraps(main)
    def guarded(*given: Any, **named: Any) -> int:
        show_every_character()
        try:
            return main(*given, **named)
        except (UserError, OSError) as error:
            print(f"error: {reason(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            print(str(stop) or "stopped", file=sys.stderr)
            return STOPPED

    return guarded


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for the help of its command."""
    return bool({"-h", "--help"} & set(arguments))


def read(arguments: Sequence[str], keys: Mapping[str, Kind], several: Sequence[str] = ()) -> dict[str, Any]:
    """The value of each given key; a list for the keys in `several`, which may be given more than once.

    The first `=` parts key and value, so that a value may hold any character. Raises UserError for an argument of
    another form, an unknown key, one that is given twice, and a value that its kind refuses.
    """
    found: dict[str, Any] = {}
    for argument in arguments:
        key, sign, text = argument.partition("=")
        if not sign or not text:
            raise UserError(f"{argument!r} is not of the form key=value: the keys are {', '.join(keys)}")
        if key not in keys:
            close = difflib.get_close_matches(key, keys, 1)
            helps = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(keys)}"
            raise UserError(f"there is no key {key!r}: {helps}")
        if key in found and key not in several:
            raise UserError(f"{key} is given twice: give it once")
        try:
            value = keys[key](text)
        except ValueError as error:
            raise UserError(f"{key} is {text!r}: it must be {error}") from None
        found[key] = [*found.get(key, []), value] if key in several else value
    return found


def flag(text: str) -> bool:
    """true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def path(text: str) -> Path:
    """A path, in which `~` at the start stands for the home folder. Raises UserError as `user_path` does."""
    return user_path(text) or Path()


def count(text: str) -> int:
    """A whole number from 1; underscores may part its digits."""
    try:
        value = int(text) if text.isascii() and text.replace("_", "").isdigit() else 0
    except ValueError:  # a misplaced underscore, or thousands of digits
        value = 0
    if value < 1:
        raise ValueError("a whole number from 1")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError("a number above 0")
    return value


def choice(*values: str) -> Kind:
    """One of `values`."""

    def chosen(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text

    return chosen
