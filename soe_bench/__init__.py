"""Soup-of-Experts (ICML 2025, arXiv 2502.01804): reference implementation and benchmark suite."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`Soup` is loaded when it is asked for, with torch: importing the package stays quick."""
    if name == "Soup":
        from soe_bench.specialists.specialist import Soup

        return Soup
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
