"""The arguments of every test run, and the command line in this process."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from soe_bench import __main__ as cli


def base_arguments(tmp_path: Path, shared_home: Path) -> list[str]:
    """Arguments of every test run. The corpora are shared by a link; runs and results are the test's own."""
    home = tmp_path / "home"
    if not home.exists():
        home.mkdir()
        (shared_home / "data").mkdir(exist_ok=True)
        (home / "data").symlink_to(shared_home / "data")
    return ["scale=test", "wandb.mode=disabled", "threads=1", f"home={home}", f"results_dir={tmp_path / 'results'}"]


def in_this_process(monkeypatch: pytest.MonkeyPatch, given: Sequence[str]) -> int:
    """The exit status of `python -m soe_bench` with these arguments. Logging is afterwards as it was."""
    monkeypatch.setattr(sys, "argv", ["soe_bench", *given])
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        return cli.main()
    finally:
        logging.root.handlers[:], logging.root.level = handlers, level
