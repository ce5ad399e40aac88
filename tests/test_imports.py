"""Imports run one way: from a command down to the system, never back."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # a room imports itself and those in earlier lines
    ("errors", "hydra_plugins"),
    ("system",),
    ("records",),  # the report reads them where nothing but its own few packages is installed
    ("settings",),
    ("config", "tracking"),
    ("mixture", "model", "ops"),
    ("checkpoint", "data", "evaluate"),
    ("method",),
    ("estimate",),
    ("soup",),
    ("baselines",),
    ("finetune", "train"),
    ("runs",),
    ("conformance",),
    ("report",),
    ("bench",),
    ("specialists",),
    ("export",),
    ("specialize",),
    ("pilot",),
    ("check", "closeness", "command", "cost", "gpu", "plan"),
    ("__init__", "__main__"),
]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
PACKAGES = ("soe_bench", "baselines", "hydra_plugins")
SOURCES = [path for package in PACKAGES for path in ROOT.glob(f"{package}/**/*.py")]


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "soe_bench" else package


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
    return {room(module) for module in modules if module.split(".")[0] in PACKAGES} - {""}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path):
    own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    others = imported(path) & RANK.keys() - {own}
    assert not (wrong := {other for other in others if RANK[other] >= RANK[own]}), f"{own} imports {wrong}"
    if own == "baselines":
        assert not others & {"config", "runs"}
    if own == "report":
        assert others <= {"errors", "records", "system"}


def test_every_room_has_a_place():
    assert {room(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in SOURCES} - {"__init__"} <= set(
        RANK
    )
