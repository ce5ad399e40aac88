"""The embedder that `data.embedding` names: TF-IDF, or a sentence embedder."""

import json
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from soe_bench.data.minilm import MiniLM, locate
from soe_bench.data.tfidf import TfIdf

Embedder = TfIdf | MiniLM


def check(settings: DictConfig) -> None:
    """Raises UserError if the embedder that `data.embedding` names is not available."""
    if "model" in settings:
        locate(settings)


def fit(settings: DictConfig, texts: Sequence[str]) -> Embedder:
    """The embedder that `data.embedding` names, fitted on `texts`."""
    if "model" in settings:
        return MiniLM.fit(settings, texts)
    return TfIdf.fit(texts, settings.dimensions, settings.maximum_terms, settings.maximum_fraction, settings.seed)


def load(folder: Path) -> Embedder:
    """The embedder that was saved in `folder`, of either kind."""
    said = json.loads((folder / "embedder.json").read_text(encoding="utf-8"))
    if "model" in said:
        return MiniLM.load(folder, said)
    return TfIdf.load(folder)
