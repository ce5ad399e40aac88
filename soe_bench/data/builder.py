"""Builds a corpus: documents -> passages -> duplicates removed -> tokenizer -> embedding -> domains -> files.

The file `done` is written last: a folder without it is no finished corpus.
"""

import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from joblib import cpu_count
from omegaconf import DictConfig, OmegaConf

from soe_bench.config import make
from soe_bench.data import domains, embed
from soe_bench.data.corpus import BUILDER_VERSION, Corpus, fingerprint, folder, load, named, seal
from soe_bench.data.passages import duplicates
from soe_bench.data.sources.document import Source
from soe_bench.data.sources.textfiles import sha256
from soe_bench.data.splits import GENERIC, PRIORITY, claim, generic_training, in_file_order, passages, trim
from soe_bench.data.summaries import summaries
from soe_bench.data.tokenizer import encode, fit_tokenizer, token_file
from soe_bench.errors import UserError
from soe_bench.system.files import refusals, rename

log = logging.getLogger("soe_bench")
COLUMNS = ["source", "path", "number", "specialist", "split", "domain", "distance", "start", "tokens", "bytes"]


def open_corpus(data_cfg: DictConfig, home: Path, kmeans_seed: int, known: str | None = None) -> Corpus:
    """The corpus of this configuration, built under `home` if it is not there yet. `known`: the fingerprint that the
    text had when the command began. Raises UserError if that corpus is not there and the text is no longer the same.

    One process builds while the others wait. An unfinished build is removed and started again.
    """
    path = named(data_cfg.name, Path(home), known) if known else folder(data_cfg, Path(home), kmeans_seed)
    if (path / "done").is_file():
        return load(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not (path / "done").is_file():
            shutil.rmtree(path, ignore_errors=True)
            build_corpus(data_cfg, Path(home), kmeans_seed, path)
    return load(path)


def build_corpus(data: DictConfig, home: Path, kmeans_seed: int, path: Path) -> None:
    """Writes the corpus under a temporary name, then renames it to `path`: a killed build never looks finished.

    Raises UserError if the disk refuses.
    """
    temporary = path.with_name(path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with refusals(path):
            temporary.mkdir(parents=True)
            with warnings.catch_warnings():
                # joblib replaces a worker process whose memory grew: nothing is lost
                warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor")
                _write(data, home, kmeans_seed, temporary)
            if folder(data, home, kmeans_seed) != path:
                raise UserError("the text has changed since the command began: run it again when the text is complete")
            rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Times the stage inside: its seconds are logged and kept when it ends."""
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 1)
    log.info("corpus: %s (%.1f s)", name, seconds[name])


def _write(data: DictConfig, home: Path, kmeans_seed: int, out: Path) -> None:
    workers, seconds = cpu_count(), {}
    embed.check(data.embedding)
    with stage("documents and passages", seconds):
        source = make(data.source)
        rules = specialist_rules(source, data)
        table, documents_read = read(source, rules, data, home)
    with stage("duplicates", seconds):
        original = duplicates(table.text.tolist(), data.duplicate_jaccard, workers)
        removed = _removed(table, original)
        if sum(removed.values()):
            log.info("corpus: %d of %d passages repeat others and are left out", sum(removed.values()), len(table))
        table = table[original < 0].reset_index(drop=True)
        _check(table, rules, data)
    with stage("tokenizer and embedder", seconds), ThreadPoolExecutor(1) as beside:  # either takes one core
        sample = training_sample(table, data.tokenizer_sample_characters)
        fitted = beside.submit(fit_tokenizer, sample, data.vocab_size)
        embedder = embed.fit(data.embedding, training_sample(table, data.embedding.sample_characters))
        embedder.save(out)
        tokenizer = fitted.result()
        (out / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    with stage("tokens", seconds):
        table["ids"] = encode(tokenizer, table.text.tolist(), workers)
        table["tokens"] = table.ids.map(len) + 1  # EOS or a line break stands before each passage
        table["bytes"] = table.text.map(lambda text: len(text.encode()))
        table = trim(table, data.splits)
    with stage("embedding", seconds):
        vectors = embed.load(out).embed(table.text.tolist(), workers)
    with stage("domains", seconds):
        centroids = _cluster(table, vectors, data, kmeans_seed)
        np.save(out / "centroids.npy", centroids)
        table["domain"], table["distance"] = domains.nearest(vectors, centroids)
    with stage("files", seconds):
        table = in_file_order(table)
        table["bytes"] += ~table.begins  # the line break
        np.save(out / "tokens.npy", token_file(table, tokenizer.encode("\n").ids[0]))
        table[COLUMNS].to_parquet(out / "passages.parquet", index=False)
        audit = summaries(table, embedder, len(centroids), out)
    audit |= {
        "name": data.name,
        "fingerprint": fingerprint(data, kmeans_seed),
        "builder_version": BUILDER_VERSION,
        "vocab_size": tokenizer.get_vocab_size(),
        "seed_kmeans": kmeans_seed,
        "seed_embedding": data.embedding.seed,
        "k_requested": data.k,
        "documents_read": documents_read,
        "duplicates_removed": removed,
        "embedder_sha256": sha256(out / embedder.saved),
        "tokens_sha256": sha256(out / "tokens.npy"),
        "seconds": seconds,
    }
    if "model" in data.embedding:
        audit["embedder"] = data.embedding.model
    if notes := getattr(source, "notes", None):
        audit["notes"] = notes
    _finish(audit, data, out)
    log.info(
        "corpus %s: %d passages, %.1f M tokens, k = %d (%.0f s)",
        data.name,
        len(table),
        table.tokens.sum() / 1e6,
        len(centroids),
        sum(seconds.values()),
    )


def read(source: Source, rules: dict[str, dict], data: DictConfig, home: Path) -> tuple[pd.DataFrame, int]:
    """The passages of all documents, as `splits.passages` gives them, and the number of documents. Raises UserError if
    a specialist or the generic text has too little."""
    documents = list(source.documents(home))
    table = passages(claim(documents, rules), data)
    table = table[table.text.str.len() >= data.minimum_characters].reset_index(drop=True)
    _check(table, rules, data)
    return table, len(documents)


def _cluster(table: pd.DataFrame, vectors: np.ndarray, data: DictConfig, kmeans_seed: int) -> np.ndarray:
    """(k', d) centroids of the generic training text. Raises UserError if all of it falls into one domain."""
    train = generic_training(table)
    tokens = table.tokens[train].to_numpy()
    centroids = domains.cluster(vectors[train], tokens, data.k, data.minimum_domain_tokens, kmeans_seed)
    if len(centroids) < min(2, data.k):
        raise UserError(
            f"the generic training text ({tokens.sum()} tokens) does not fill two domains of "
            f"data.minimum_domain_tokens = {data.minimum_domain_tokens}: lower it, or add text"
        )
    return centroids


def _finish(audit: dict, data: DictConfig, out: Path) -> None:
    """Writes audit.json, config.yaml and, last, `done`."""
    (out / "audit.json").write_text(json.dumps(audit, indent=1), encoding="utf-8")
    (out / "config.yaml").write_text(OmegaConf.to_yaml(data, resolve=True), encoding="utf-8")
    seal(out)


def specialist_rules(source: Source, data: DictConfig) -> dict[str, dict]:
    """data.specialists, and those that the source names itself (data=local: each folder under specialists/). They are
    plain data, because a name may hold `${`. Raises UserError for a name that is no text, or that of the generic text.
    """
    named = source.specialists() if hasattr(source, "specialists") else {}
    given = OmegaConf.to_container(data.specialists, resolve=True) if data.specialists else {}
    for name in given:
        if not isinstance(name, str) or name == GENERIC:
            raise UserError(
                f"data.specialists: {name!r} cannot name a specialist: choose a string, but not {GENERIC!r}"
            )
    return {name: named.get(name, {}) | given.get(name, {}) for name in dict.fromkeys([*named, *given])}


def _check(table: pd.DataFrame, specialists: Mapping[str, dict], data: DictConfig) -> None:
    """Raises UserError early for what would otherwise fail after the long stages."""
    count = int(generic_training(table).sum())
    if data.k > count:
        raise UserError(
            f"data.k = {data.k} is larger than the number of generic training passages ({count}): lower data.k "
            "or add text"
        )
    present = set(zip(table.specialist, table.split, strict=True))
    for split in PRIORITY[:2]:
        if (GENERIC, split) not in present:
            raise UserError(
                f"the generic text, which is all text of no specialist, has no document for the split {split}: "
                f"add documents to it, or raise data.splits.generic.{split}.fraction"
            )
    for name, rule in specialists.items():
        for split in PRIORITY[:3]:
            if (name, split) not in present:
                raise UserError(
                    f"{name} has no text for the split {split}: {_remedy(rule, data)}, or raise "
                    f"data.splits.{split}.fraction or data.splits.largest_fraction"
                )


def _remedy(rule: dict, data: DictConfig) -> str:
    """What gives a specialist a document for each split beside what goes to the generic text."""
    shared = rule.get("generic_fraction", 0.0)
    if shared == 1:
        return "lower its generic_fraction, which gives all of its text to the generic text"
    needed = math.ceil(round((len(PRIORITY) - 1) / (1 - shared), 6))
    beside = f", as {shared:g} of its text goes to the generic text" if shared else ""
    return (
        f"give it more documents: it needs {needed} or more of about equal length{beside}, each with "
        f"{data.minimum_characters} characters or more and no two alike (a long file can be cut into several)"
    )


def _removed(table: pd.DataFrame, original: np.ndarray) -> dict[str, int]:
    """Number of duplicates of each kind: exact or near, within the same specialist and split or across them."""
    names = table.specialist + "/" + table.split
    counts = dict.fromkeys(["exact within", "exact across", "near within", "near across"], 0)
    for i in np.flatnonzero(original >= 0):
        kind = "exact" if table.text[i].split() == table.text[original[i]].split() else "near"
        counts[f"{kind} {'within' if names[i] == names[original[i]] else 'across'}"] += 1
    return counts


def training_sample(table: pd.DataFrame, characters: int) -> list[str]:
    """About `characters` characters of generic training passages, evenly spaced (each source is in hash order)."""
    texts = table.text[generic_training(table)]
    every = max(1, round(texts.str.len().sum() / characters))
    return texts.iloc[::every].tolist()
