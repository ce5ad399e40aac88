"""The code of a method: hashes of the files that it is written in, by which a run tells that they have changed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from functools import cache
from pathlib import Path

from soe_bench.method import Method
from soe_bench.records import TRAIN_AGAIN, json_lines

CODE = "code.json"  # in a run folder


@cache  # a sweep asks for each of its runs
def code_of(kind: type[Method]) -> dict[str, str]:
    """The modules that a class and what it inherits are written in, each with a hash of its code, in which comments and
    docstrings do not count. soe_bench/method.py is left out: all methods share it."""
    modules = {base.__module__ for base in kind.__mro__} - {"builtins", "abc", Method.__module__}
    return {name: _digest(inspect.getsource(sys.modules[name])) for name in sorted(modules)}


def changed(folder: Path, kind: type[Method]) -> list[str]:
    """The modules whose code is not as it was when the run in a folder began. Empty for a run of an earlier version,
    which did not note it. Raises UserError for a damaged file."""
    if not (folder / CODE).exists():
        return []
    (_, then), now = next(json_lines(folder / CODE, TRAIN_AGAIN), (0, {})), code_of(kind)
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def _digest(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
