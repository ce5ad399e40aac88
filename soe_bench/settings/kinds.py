"""The kinds of values that settings have: each a type with its range, and the words of its rule in a message."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

CUDA = r"cuda(:\d{1,3})?"
NAME = r"[\p{L}\p{N}][\p{L}\p{N}_.+-]{0,99}"  # names of runs and corpora become parts of folder names


def must_be(words: str, write: Callable[[Any], str] = lambda value: "") -> WrapValidator:
    """The rule of a type in words, which stands in the message instead of pydantic's own; behind it what `write` says
    of the value."""

    def checked(value: Any, inner: Any) -> Any:
        try:
            return inner(value)
        except ValidationError:
            raise PydanticCustomError("rule", "it must be {words}", {"words": words + write(value)}) from None

    return WrapValidator(checked)


def one_of(*names: Any) -> Any:
    """A type that has these values only. The message begins its list with the nearest one."""

    def checked(value: Any, inner: Any) -> Any:
        if not any(value == name and type(value) is type(name) for name in names):
            words = ", ".join(nearest(value, map(str, names)))
            raise PydanticCustomError("rule", "it must be one of {words}", {"words": words})
        return value

    return Annotated[Any, WrapValidator(checked)]


def whole(least: int, most: int = 10**15) -> Any:
    """A whole number in a range; `true` and 2.0 are none."""
    words = f"a whole number from {least}" + (f" to {most}" if most != 10**15 else "")

    def write(value: Any) -> str:  # YAML reads 1e6 as a float
        written = isinstance(value, float) and value.is_integer() and least <= value <= most
        return f": write {value:.0f}" if written else ""

    return Annotated[int, Field(ge=least, le=most), must_be(words, write)]


def number(words: str, **limits: float) -> Any:
    """A finite number within pydantic's `limits` (ge, gt, le, lt)."""
    return Annotated[float, Field(allow_inf_nan=False, **limits), must_be(words)]


def list_of(kind: Any, words: str, least: int = 0) -> Any:
    """A list of at least that many values, none of them twice."""

    def checked(value: Any, inner: Any) -> Any:
        if not isinstance(value, list) or len(value) < least or any(value.count(each) > 1 for each in value):
            raise PydanticCustomError("rule", "it must be {words}", {"words": f"a list [A,B] of {words}"})
        return inner(value)

    return Annotated[list[kind], WrapValidator(checked)]


def _known(value: Any, inner: Any) -> Any:
    """The name of an encoding. Python has codecs that give no text too, such as zip: they are refused."""
    try:
        b"a".decode(inner(value), "replace")
    except (ValidationError, LookupError, ValueError):
        words = "null, or an encoding that Python knows, such as shift_jis or gb18030"
        raise PydanticCustomError("rule", "it must be {words}", {"words": words}) from None
    return value


Count = whole(1)
Size = whole(1, 2**31 - 1)  # of something that a machine holds side by side
Seed = whole(0, 2**32 - 1)  # the range that numpy, torch and scikit-learn all take
Experts = Annotated[
    int, Field(ge=1, le=2**31 - 1), must_be("a whole number from 1 (without experts: method=dense_on_pi)")
]
Fraction = number("a number from 0 to 1", ge=0, le=1)
Part = number("a number above 0, at most 1", gt=0, le=1)
Positive = number("a finite number above 0", gt=0)
NotNegative = number("a finite number from 0", ge=0)
BelowOne = number("a number from 0, below 1", ge=0, lt=1)
Text = Annotated[str, Field(min_length=1), must_be("text that is not empty")]
Encoding = Annotated[str, WrapValidator(_known)]
Name = Annotated[
    str,
    Field(pattern=f"^{NAME}$"),
    must_be(
        "letters, digits and _ . + - (100 at most, a letter or digit first), because it is part of a folder's name"
    ),
]
Device = Annotated[str, Field(pattern=f"^(cpu|{CUDA})$"), must_be("cpu or cuda (or cuda:1 for the second GPU)")]
Precision = one_of("float32", "bfloat16")
Yes = Annotated[Literal[True], must_be("true or null")]
# The most threads that a setting may ask for. More than the machine has cores is allowed, because a job may run on
# another machine, but none that this project meets has more than this.
Threads = Annotated[int, Field(ge=1, le=1024), must_be("a whole number from 1 to 1024, or null for all cores")]


class Group(BaseModel):
    """A group of settings: all must be there, and no others."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Target(BaseModel):
    """Settings of a class that this file does not know: any, beside the class itself."""

    model_config = ConfigDict(strict=True, extra="allow")
    target: Text = Field(alias="_target_")


class KnownClass(Target):
    """Settings of a class of this project."""

    model_config = ConfigDict(strict=True, extra="forbid")


def nearest(name: Any, options: Any) -> list[str]:
    """The options, those most like `name` first."""
    return get_close_matches(str(name), names := list(options), n=len(names) or 1, cutoff=0.0)
