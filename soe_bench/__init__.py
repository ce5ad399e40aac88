"""Soup-of-Experts (ICML 2025, arXiv 2502.01804): reference implementation and benchmark suite."""

__version__ = "0.1.0"
