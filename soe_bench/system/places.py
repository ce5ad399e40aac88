"""Where trained runs and exported folders lie. Imports little, so that a wrong path is answered at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

from soe_bench.errors import UserError
from soe_bench.system.files import home, user_path

EXPORTED = "soup.json"  # the file that makes a folder an exported soup
WEIGHTS = "model.safetensors"
TAG = "soup-of-experts"  # in the head of the README.md of each export
MINILM = "minilm"  # the folder of a sentence embedder's files in an exported soup
DTYPES = ("float32", "bfloat16")  # of the weights that are written for transformers
MOST = 5  # runs that a message names


def find_run(place: str | Path, soup: bool = False) -> Path:
    """The folder of a trained run, given as its folder or its name. Raises UserError, which names the newest runs (with
    `soup` those of a soup), if there is none, or if the run is not finished."""
    folder = user_path(str(place)) or Path()
    if not folder.is_dir() and len(folder.parts) == 1:
        folder = home() / "runs" / folder
    if not folder.is_dir():
        trained = sorted((home() / "runs").glob(f"*/{WEIGHTS}"), key=lambda file: file.stat().st_mtime, reverse=True)
        named = [file.parent.name for file in trained if not soup or _is_soup(file.parent)]
        there = ", ".join(named[:MOST]) or "none"
        raise UserError(
            f"there is no run {str(place)!r}: give the folder of a run, or a name under {home() / 'runs'} (the newest "
            f"there: {there})"
        )
    if not any((folder / name).is_file() for name in ("training.json", "config.json", "status", WEIGHTS)):
        raise UserError(
            f"{folder} is no run, as it has neither config.json nor {WEIGHTS}: give one of {home() / 'runs'}"
        )
    if not all((folder / name).is_file() for name in ("training.json", "config.json", WEIGHTS)):
        raise UserError(f"{folder} is no finished run: give the command that trained it once more, and it goes on")
    return folder


def find_soup(place: str | Path) -> Path:
    """The folder of a trained run or of an exported soup. Raises UserError as `find_run` does."""
    folder = user_path(str(place)) or Path()
    return folder if (folder / EXPORTED).is_file() else find_run(place, soup=True)


def _is_soup(folder: Path) -> bool:
    """Whether a run has the settings of a soup, by its config.json: what its class is would take an import of torch."""
    try:
        return "router" in json.loads((folder / "config.json").read_bytes())["method"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_out(out: Path, overwrite: bool, owned: set[str], many: bool = False) -> None:
    """Raises UserError unless a folder can be written at `out`. What is there stays, but with `overwrite` for an empty
    folder and an earlier export: a folder that holds nothing but files of an export (`owned`), and whose model card has
    TAG. With `many` also for a folder of such folders."""
    if not os.path.lexists(out):
        if not out.parent.is_dir():
            raise UserError(f"out: there is no folder {out.parent} to write {out.name!r} in: make it first")
        return
    if not overwrite:
        raise UserError(f"{out} exists: choose another name for out, or add overwrite=true")
    if out.is_symlink() or not out.is_dir():
        raise UserError(f"{out} is not a folder, and overwrite=true replaces folders only: choose another name for out")
    if not (why := _no_export(out, owned)) or many and not any(_no_export(each, owned) for each in out.iterdir()):
        return
    raise UserError(f"{out} {why}, so that it is no earlier export: choose another name for out")


def _no_export(folder: Path, owned: set[str]) -> str:
    """Why a folder is neither empty nor an export; nothing if it is."""
    if not folder.is_dir():
        return "is a file"
    inside = sorted(folder.iterdir())
    for each in inside:
        if not (each.is_dir() if each.name == MINILM else each.is_file() and each.name in owned):
            return f"holds {each.name!r}, which no export writes there"
    card = folder / "README.md"
    if inside and not (card.is_file() and TAG in card.read_text(encoding="utf-8", errors="replace")):
        return f"has no README.md with the tag {TAG}"
    return ""
