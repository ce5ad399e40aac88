"""Soup-of-Experts (ICML 2025, arXiv 2502.01804): independent implementation and benchmark suite.

From Python: `Soup.load(place)` is a trained soup, which makes models for documents; `load_run(place)` gives the method
of any trained run, and its corpus. conf/README.md shows how to train and evaluate.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soe_bench.runs.load import load_run
    from soe_bench.specialists.specialist import Soup

__version__ = "0.1.0"
__all__ = ["Soup", "__version__", "load_run"]


def __getattr__(name: str) -> Any:
    """What is loaded when it is asked for, with torch: importing the package stays quick."""
    if name == "Soup":
        from soe_bench.specialists.specialist import Soup

        return Soup
    if name == "load_run":
        from soe_bench.runs.load import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
