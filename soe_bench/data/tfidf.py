"""The default embedder: TF-IDF over words, reduced by truncated SVD to unit vectors. Fitted on generic training text
only, saved without pickles. Everything is float64: processors round differently, and k-means must not depend on that.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from safetensors.numpy import load_file, save
from scipy.sparse import csr_matrix, vstack
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits

from soe_bench.data.words import DEFINITION, count, count_words


class TfIdf:
    """`terms`: V words; `idf` (V,) and `components` (V, d) float64."""

    saved = "embedder.safetensors"

    def __init__(self, terms: list[str], idf: np.ndarray, components: np.ndarray) -> None:
        self.terms, self.idf, self.components = terms, idf, components

    @classmethod
    def fit(
        cls, texts: Sequence[str], dimensions: int, maximum_terms: int, maximum_fraction: float, seed: int
    ) -> "TfIdf":
        """Fits on `texts`. Words in more than `maximum_fraction` of them are left out, because function words do not
        tell domains apart. Few texts or terms give fewer dimensions. The same texts and seed give the same numbers, on
        another processor to about 1e-12. Raises UserError if fewer than two words are left."""
        terms, present = count_words(texts, maximum_terms, maximum_fraction)
        idf = np.log((1 + len(texts)) / (1 + np.bincount(present.indices, minlength=len(terms)))) + 1
        embedder = cls(terms, idf, np.zeros((len(terms), 0)))
        with threadpool_limits(1):  # the order of summation, hence the result, must not depend on the cores
            svd = TruncatedSVD(min(dimensions, min(present.shape) - 1), random_state=seed).fit(embedder._weigh(present))
        embedder.components = np.ascontiguousarray(svd.components_.T)
        return embedder

    def embed(self, texts: Sequence[str], workers: int = 1) -> np.ndarray:
        """(N, d) float64 vectors of length 1 (zero for a text without known words)."""
        chunks = [texts[i : i + 2000] for i in range(0, len(texts), 2000)]
        if not chunks:
            return np.zeros((0, self.components.shape[1]))
        counts = Parallel(n_jobs=workers)(delayed(count)(self.terms, chunk) for chunk in chunks)
        with threadpool_limits(1):
            vectors = self._weigh(vstack(counts).tocsr()) @ self.components
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def _weigh(self, counts: csr_matrix) -> csr_matrix:
        """(1 + log count) * idf, rows of length 1."""
        weighed = counts.astype(np.float64)
        weighed.data = (1 + np.log(weighed.data)) * self.idf[weighed.indices]
        norms = np.sqrt(np.asarray(weighed.multiply(weighed).sum(1)).ravel())
        weighed.data /= np.repeat(np.maximum(norms, 1e-12), np.diff(weighed.indptr))
        return weighed

    def save(self, folder: Path) -> None:
        """Writes embedder.safetensors and embedder.json to `folder`."""
        (folder / self.saved).write_bytes(save({"idf": self.idf, "components": self.components}))
        said = json.dumps({"words": DEFINITION, "terms": self.terms}, ensure_ascii=False)
        (folder / "embedder.json").write_text(said, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TfIdf":
        """The embedder that `save` wrote: the same numbers, so the same embeddings."""
        tensors = load_file(folder / cls.saved)
        said = json.loads((folder / "embedder.json").read_text(encoding="utf-8"))
        return cls(said["terms"], tensors["idf"], tensors["components"])
