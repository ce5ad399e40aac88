"""A built corpus, a folder that every run reads and none changes: token streams by domain, the generic domain weights
h_0, specialists and their splits, tokenizer, embedder, centroids.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import xxhash
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer

from soe_bench.config import identity, make
from soe_bench.data import domains, embed
from soe_bench.data.splits import GENERIC, spread
from soe_bench.errors import UserError

BUILDER_VERSION = 4  # raise it whenever the same configuration would give another corpus
ESTIMATE_PASSAGES = 8  # a document gives at most this many passages to a histogram
# Keys of data.source and data.embedding that say where text or weights lie. The content itself enters the fingerprint
# through Source.identity and embedding.sha256.
WHERE_NOT_WHAT = {"manifest", "folder", "path", "sets"}


class Corpus:
    """An opened corpus. Opening is cheap: tables are read on first use and tokens.npy is memory-mapped.

    h_0: (k,) float64, token-weighted shares of the domains in the generic training text. centroids: (k, d) float64.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        audit = json.loads((path / "audit.json").read_text(encoding="utf-8"))
        self.name: str = audit["name"]
        self.fingerprint: str = audit["fingerprint"]
        self.k: int = audit["k"]
        self.vocab_size: int = audit["vocab_size"]
        self.h_0 = np.array(audit["h_0"])
        self.centroids: np.ndarray = np.load(path / "centroids.npy")
        self._tokens: np.ndarray = np.load(path / "tokens.npy", mmap_mode="r")
        self._withheld: str | None = None

    @cached_property
    def passages(self) -> pd.DataFrame:
        """One row per passage in the order of tokens.npy: source, path, number (in its document), specialist, split,
        domain, distance, start, tokens and bytes.

        The first of its tokens stands before its text: EOS (id 0) where a text begins, and a line break where the
        passage goes on with the one before it in the same document. `tokens` counts it, and `bytes` a line break."""
        return pd.read_parquet(self.path / "passages.parquet")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Byte-level BPE, lossless. <|endoftext|> is id 0; text that spells it out is encoded as ordinary text."""
        tokenizer = Tokenizer.from_file(str(self.path / "tokenizer.json"))
        tokenizer.encode_special_tokens = True
        return tokenizer

    @cached_property
    def embedder(self) -> embed.Embedder:
        """The embedder whose vectors were clustered into the domains."""
        return embed.load(self.path)

    @cached_property
    def specialists(self) -> list[str]:
        """Sorted names, without "generic"."""
        return sorted(set(self.passages.specialist) - {GENERIC})

    @cached_property
    def _domain_bounds(self) -> np.ndarray:
        rows = self.passages[(self.passages.specialist == GENERIC) & (self.passages.split == "train")]
        return np.concatenate(
            [[0], np.bincount(rows.domain, weights=rows.tokens, minlength=self.k).astype(np.int64).cumsum()]
        )

    def domain_tokens(self, i: int) -> np.ndarray:
        """The uint16 token stream of generic training domain i (memory-mapped).

        The documents are shuffled: they are in the order of a hash of their names. Of each it holds the passages in
        domain i, in their order, and EOS (id 0) stands wherever the passage before is in another domain or was left
        out."""
        return self._tokens[self._domain_bounds[i] : self._domain_bounds[i + 1]]

    @contextmanager
    def withheld(self, split: str) -> Iterator[None]:
        """Context in which nothing may read this split: choices made inside cannot be made on it."""
        self._withheld, before = split, self._withheld
        try:
            yield
        finally:
            self._withheld = before

    def rows(self, specialist: str, split: str) -> pd.DataFrame:
        """The passages of one split. Raises UserError for a specialist or split that the corpus does not have, and
        RuntimeError for a split that is withheld."""
        if split == self._withheld:
            raise RuntimeError(f"the {split} text of {specialist} was read while something was being chosen")
        found = self.passages[(self.passages.specialist == specialist) & (self.passages.split == split)]
        if found.empty:
            raise UserError(
                f"corpus {self.name} has no text for specialist {specialist!r}, split {split!r}: choose a specialist "
                f"of {', '.join([*self.specialists, GENERIC])}"
            )
        return found

    def documents(self, specialist: str, split: str) -> list[tuple[str, np.ndarray, int]]:
        """(path, uint16 tokens, UTF-8 bytes of the text) for each document of a held-out split.

        The tokens begin with EOS. EOS also stands where passages were left out, as in the training text, and it is a
        target of the evaluation like any other token: one at most in every passage, the same for all methods."""
        grouped = self.rows(specialist, split).groupby(["source", "path"], sort=False)
        spans = grouped.agg(start=("start", "first"), tokens=("tokens", "sum"), bytes=("bytes", "sum"))
        return [
            (row.Index[1], self._tokens[row.start : row.start + row.tokens], int(row.bytes))
            for row in spans.itertuples()
        ]

    def tokens(self, rows: pd.DataFrame) -> list[np.ndarray]:
        """The uint16 tokens of each of these rows of `passages`, with the EOS or line break before its text
        (memory-mapped)."""
        return [self._tokens[row.start : row.start + row.tokens] for row in rows.itertuples()]

    def texts(self, rows: pd.DataFrame) -> list[str]:
        """The text of each of these rows of `passages`, decoded from the stored tokens."""
        spans = list(zip(rows.start.tolist(), rows.tokens.tolist(), strict=True))
        ids = [self._tokens[start + 1 : start + count].tolist() for start, count in spans]
        return self.tokenizer.decode_batch(ids, skip_special_tokens=False)

    def training_tokens(self, specialist: str, budget: int) -> np.ndarray | None:
        """`budget` tokens of the specialist's own training text, uint16; None if it has fewer.

        They are of passages in a fixed random order, so that a few long documents are not all of them; a smaller budget
        is a part of a larger one."""
        rows = self.passages[(self.passages.specialist == specialist) & (self.passages.split == "train")]
        if specialist == GENERIC or rows.tokens.sum() < budget:
            return None
        return np.concatenate(self.tokens(rows.sample(frac=1, random_state=0)))[:budget]

    def estimate_rows(self, specialist: str, n_documents: int | None = None, seed: int = 0) -> pd.DataFrame:
        """The passages that domain weights are estimated from: at most 8 per document of the estimate split.

        n_documents: a random subset of that many of the documents, drawn from `seed`.
        """
        return estimate_rows(self.rows(specialist, "estimate"), n_documents, seed)

    def estimate_documents(self, specialist: str, n_documents: int, seed: int) -> list[np.ndarray]:
        """The uint16 tokens of those passages, joined by document."""
        groups = self.estimate_rows(specialist, n_documents, seed).groupby(["source", "path"], sort=False)
        return [np.concatenate(self.tokens(rows)) for _, rows in groups]

    def histogram(self, specialist: str, n_documents: int | None = None, seed: int = 0) -> np.ndarray:
        """(k,) float64 domain weights h: each domain's fraction of the tokens of `estimate_rows` (Algorithm 3)."""
        return document_histogram(self.rows(specialist, "estimate"), self.k, n_documents, seed)


def estimate_rows(rows: pd.DataFrame, n_documents: int | None = None, seed: int = 0) -> pd.DataFrame:
    """At most 8 of the passages `rows` (source, path, ...) per document.

    n_documents: that many documents, drawn from `seed`, instead of all.
    """
    indices = [
        spread(list(index), ESTIMATE_PASSAGES)
        for index in rows.groupby(["source", "path"], sort=False).indices.values()
    ]
    if n_documents is not None:
        drawn = np.random.default_rng(seed).choice(len(indices), n_documents, replace=False)
        indices = [indices[i] for i in drawn]
    return rows.iloc[sorted(i for index in indices for i in index)]


def document_histogram(rows: pd.DataFrame, k: int, n_documents: int | None = None, seed: int = 0) -> np.ndarray:
    """(k,) token-weighted domain weights of the `estimate_rows` of passages `rows` (source, path, domain, tokens)."""
    chosen = estimate_rows(rows, n_documents, seed)
    return domains.weights(chosen.domain.to_numpy(), chosen.tokens.to_numpy(), k)


def fingerprint(data_cfg: DictConfig, kmeans_seed: int) -> str:
    """sha256 (hex) of all that decides the corpus: source content, configuration without paths, k-means seed, and
    builder version.
    """
    resolved = identity(OmegaConf.to_container(data_cfg, resolve=True))
    for group in ("source", "embedding"):
        resolved[group] = {key: value for key, value in resolved[group].items() if key not in WHERE_NOT_WHAT}
    content = [resolved, make(data_cfg.source).identity(), kmeans_seed, BUILDER_VERSION]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def folder(data_cfg: DictConfig, home: Path, kmeans_seed: int) -> Path:
    """The folder of this configuration's corpus under `home`, whether it is built or not."""
    return named(data_cfg.name, home, fingerprint(data_cfg, kmeans_seed))


def named(name: str, home: Path, known: str) -> Path:
    """The folder of the corpus with this name and fingerprint."""
    return home / "data" / f"{name}-{known[:12]}"


def seal(path: Path) -> None:
    """Writes `done`: the builder version and the hash of every file. It makes the folder a finished corpus."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != "done"]
    hashes = {file.relative_to(path).as_posix(): file_hash(file) for file in files}
    (path / "done").write_text(json.dumps({"builder_version": BUILDER_VERSION, "files": hashes}), encoding="utf-8")


def load(path: Path) -> Corpus:
    """Opens a finished corpus. Raises UserError if it is unfinished, of another builder version, or if any of its files
    is not as it was written. Every file is read for that once in a process: 0.01 s for the 120 MB of `wheels`.
    """
    if not (path / "done").is_file():
        raise UserError(f"there is no finished corpus in {path}: run a training once to build it")
    try:
        done = json.loads((path / "done").read_bytes())
        version, hashes = done["builder_version"], dict(done["files"])
    except (ValueError, KeyError, TypeError):
        raise _damaged(path, "done") from None
    if version != BUILDER_VERSION:
        raise UserError(
            f"the corpus in {path} has builder version {version}, this code has {BUILDER_VERSION}: delete that "
            "folder and run the same command again, which builds it anew"
        )
    for name, expected in hashes.items():
        try:
            found = _hash(path / name)
        except OSError as error:
            raise _damaged(path, f"{name}: {error.strerror}") from None
        if found != expected:
            raise _damaged(path, f"{name} has changed")
    return Corpus(path)


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"the corpus in {path} is damaged ({what}): delete that folder and run the same command again, which builds it "
        "anew"
    )


def _hash(file: Path) -> str:
    """The hash of a file's content, computed once in a process unless the file is written again."""
    status = file.stat()
    return _hash_once(file, status.st_size, status.st_mtime_ns)


@cache
def _hash_once(file: Path, size: int, changed: int) -> str:
    return file_hash(file)


def file_hash(file: Path) -> str:
    """xxh3 of 128 bits: 9 GB/s on one core, where sha256 reaches 1.4 GB/s."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()
