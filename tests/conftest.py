"""Shared fixtures: configurations composed in this process, on the synthetic corpus, in a home of the test session."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from arguments import base_arguments
from made_up_soups import SHORT, SOUP, train
from omegaconf import DictConfig

from soe_bench.config import job_configs
from soe_bench.system import stop

os.environ["SOE_BENCH_PACKAGES"] = "made_up_methods,made_up_bases"  # whose classes a `_target_` may name


@pytest.fixture(autouse=True)
def _fresh_process_state() -> None:
    torch.set_num_threads(1)
    stop.STOP.clear()


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for the session, so that the synthetic corpus is built once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def compose(tmp_path: Path, shared_home: Path) -> Callable[..., DictConfig]:
    """compose("method=generic", ...) -> the configuration of one run: test scale, own run and results folders."""

    def composed(*overrides: str) -> DictConfig:
        return job_configs(base_arguments(tmp_path, shared_home) + list(overrides))[0][0]

    return composed


@pytest.fixture
def arguments(tmp_path: Path, shared_home: Path) -> list[str]:
    """The same as command-line arguments."""
    return base_arguments(tmp_path, shared_home)


@pytest.fixture
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but no image of them: images take most of the time of a report, and tests/report has them."""
    monkeypatch.setattr("soe_bench.report.figures.style._saved", lambda figure, kind, **_: b"<svg></svg>")


@pytest.fixture(scope="session")
def soup_runs(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> dict[str, Path]:
    """The folders of a small trained soup and of the generic run beside it."""
    folder = tmp_path_factory.mktemp("soup")
    return {
        "soup": train(folder, shared_home, *SOUP),
        "generic": train(folder, shared_home, "method=generic", *SHORT),
    }
