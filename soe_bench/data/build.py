"""Build the frozen artefact: documents -> passages -> duplicates -> tokenizer -> embedding -> domains -> files, `done`
last.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from soe_bench.config import make
from soe_bench.data import domains
from soe_bench.data.corpus import BUILDER_VERSION, document_histogram, fingerprint
from soe_bench.data.embed import Embedder
from soe_bench.data.parts import GENERIC, PRIORITY, claim, passages, trim
from soe_bench.data.passages import duplicates
from soe_bench.errors import UserError

log = logging.getLogger("soe_bench")
EOS = "<|endoftext|>"
COLUMNS = ["source", "path", "specialist", "part", "domain", "distance", "start", "tokens", "bytes"]


def build(data: DictConfig, home: Path, kmeans_seed: int, path: Path) -> None:
    """Write the artefact to `path`: under a temporary name first, so that a killed build leaves nothing that looks
    finished.
    """
    temporary = path.with_name(path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _write(data, home, kmeans_seed, temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"the disk under {home} is full while the corpus is built: free some space and run again; nothing "
            "half-written is left"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Log the stage when it ends and keep its seconds."""
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 1)
    log.info("corpus: %s (%.1f s)", name, seconds[name])


def _write(data: DictConfig, home: Path, kmeans_seed: int, out: Path) -> None:
    workers, seconds = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, {}
    with stage("documents and passages", seconds):
        documents = list(make(data.source).documents(home))
        table = passages(claim(documents, data.specialists), data)
        table = table[table.text.str.len() >= data.minimum_characters].reset_index(drop=True)
        _check(table, data)
    with stage("duplicates", seconds):
        original = duplicates(table.text.tolist(), data.duplicate_jaccard, workers)
        removed = _removed(table, original)
        table = table[original < 0].reset_index(drop=True)
        _check(table, data)
    with stage("tokenizer", seconds):
        tokenizer = fit_tokenizer(_training_sample(table, data.tokenizer_sample_characters), data.vocab_size)
        tokenizer.save(str(out / "tokenizer.json"))
        table["ids"] = encode(tokenizer, table.text.tolist())
        table["tokens"] = table.ids.map(len)
        table["bytes"] = table.text.map(lambda text: len(text.encode()))
        table = trim(table, data.parts)
    with stage("embedding", seconds):
        sample = _training_sample(table, data.embedding.sample_characters)
        settings = data.embedding
        embedder = Embedder.fit(
            sample, settings.dimensions, settings.maximum_terms, settings.maximum_share, settings.seed
        )
        embedder.save(out)
        vectors = Embedder.load(out).embed(table.text.tolist(), workers)
    with stage("domains", seconds):
        train = generic_training(table)
        centroids = domains.cluster(
            vectors[train], table.tokens[train].to_numpy(), data.k, data.minimum_domain_tokens, kmeans_seed
        )
        np.save(out / "centroids.npy", centroids)
        table["domain"], table["distance"] = domains.nearest(vectors, centroids)
    with stage("files", seconds):
        table = _in_file_order(table)
        np.save(out / "tokens.npy", np.concatenate(table.ids.tolist()))
        table[COLUMNS].to_parquet(out / "passages.parquet", index=False)
        audit = _summaries(table, embedder, len(centroids), out)
    audit |= {
        "name": data.name,
        "fingerprint": fingerprint(data, kmeans_seed),
        "builder_version": BUILDER_VERSION,
        "vocab_size": tokenizer.get_vocab_size(),
        "seed_kmeans": kmeans_seed,
        "seed_embedding": data.embedding.seed,
        "k_requested": data.k,
        "documents_read": len(documents),
        "duplicates_removed": removed,
        "embedder_sha256": _sha256(out / "embedder.safetensors"),
        "tokens_sha256": _sha256(out / "tokens.npy"),
        "seconds": seconds,
    }
    (out / "audit.json").write_text(json.dumps(audit, indent=1))
    (out / "config.yaml").write_text(OmegaConf.to_yaml(data, resolve=True))
    done = {
        "builder_version": BUILDER_VERSION,
        "files": {file.name: file.stat().st_size for file in sorted(out.iterdir())},
    }
    (out / "done").write_text(json.dumps(done))
    log.info(
        "corpus %s: %d passages, %.1f M tokens, k = %d (%.0f s)",
        data.name,
        len(table),
        table.tokens.sum() / 1e6,
        len(centroids),
        sum(seconds.values()),
    )


def generic_training(table: pd.DataFrame) -> np.ndarray:
    """(N,) bool: the rows of generic training text, the only text that anything is fitted on."""
    return ((table.specialist == GENERIC) & (table.part == "train")).to_numpy()


def _check(table: pd.DataFrame, data: DictConfig) -> None:
    count = int(generic_training(table).sum())
    if data.k > count:
        raise UserError(
            f"data.k = {data.k} is larger than the number of generic training passages ({count}): lower data.k "
            "or add text"
        )
    if not 257 <= data.vocab_size <= 65536:
        raise UserError(
            f"data.vocab_size = {data.vocab_size} is outside 257..65536 (256 bytes and {EOS}; ids are stored "
            "in 16 bits)"
        )


def _removed(table: pd.DataFrame, original: np.ndarray) -> dict[str, int]:
    """How many duplicates go: exact or near, of a text in the same part of the same specialist or across."""
    names = table.specialist + "/" + table.part
    counts = dict.fromkeys(["exact within", "exact across", "near within", "near across"], 0)
    for i in np.flatnonzero(original >= 0):
        kind = "exact" if table.text[i].split() == table.text[original[i]].split() else "near"
        counts[f"{kind} {'within' if names[i] == names[original[i]] else 'across'}"] += 1
    return counts


def _training_sample(table: pd.DataFrame, characters: int) -> list[str]:
    """Generic training passages worth about `characters`, evenly taken (rows are in hash order within each source)."""
    texts = table.text[generic_training(table)]
    every = max(1, round(texts.str.len().sum() / characters))
    return texts.iloc[::every].tolist()


def fit_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE: every byte is a token, so that any text is encoded without loss."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.encode_special_tokens = True  # a literal <|endoftext|> in a text is text
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    """EOS (0) and the ids of each text, uint16."""
    encoded = (item for i in range(0, len(texts), 5000) for item in tokenizer.encode_batch_fast(texts[i : i + 5000]))
    return [np.array([0, *item.ids], dtype=np.uint16) for item in encoded]


def _in_file_order(table: pd.DataFrame) -> pd.DataFrame:
    """Generic training text first, by domain; then each specialist's parts, document by document."""
    first = generic_training(table)
    generic = table[first].sort_values("domain", kind="stable")
    others = table[~first]
    order = (
        others.assign(part=others.part.map(PRIORITY.index), row=range(len(others)))
        .sort_values(["specialist", "part", "row"])
        .index
    )
    table = pd.concat([generic, others.loc[order]], ignore_index=True)
    table["start"] = table.tokens.cumsum() - table.tokens
    return table


def _summaries(table: pd.DataFrame, embedder: Embedder, k: int, out: Path) -> dict:
    """Write domains.csv and specialists.csv; return the audit's figures."""
    train = table[generic_training(table)]
    domains.summary(train, train.text.tolist(), embedder, k).to_csv(out / "domains.csv", index=False)
    quantiles = {f"q{q}": float(np.quantile(train.distance, q / 100)) for q in (50, 95, 99)}
    rows = [
        _part_row(*name, rows, k, quantiles)
        for name, rows in table.groupby(["specialist", "part"])
        if name != (GENERIC, "train")
    ]
    pd.DataFrame(rows).to_csv(out / "specialists.csv", index=False)
    sizes = table.groupby("source").agg(passages=("tokens", "size"), tokens=("tokens", "sum"), bytes=("bytes", "sum"))
    generic = train.groupby("source").tokens.sum()
    return {
        "k": k,
        "h_0": domains.weights(train.domain.to_numpy(), train.tokens.to_numpy(), k).tolist(),
        "distance_quantiles": quantiles,
        "documents": int(table.groupby(["source", "path"]).ngroups),
        "passages": len(table),
        "tokens": int(table.tokens.sum()),
        "sources": sizes.to_dict("index"),
        "generic_training_tokens": {name: int(count) for name, count in generic.items()},
    }


def _part_row(specialist: str, part: str, rows: pd.DataFrame, k: int, quantiles: dict[str, float]) -> dict:
    h = document_histogram(rows, k)
    positive = h[h > 0]
    return {
        "specialist": specialist,
        "part": part,
        "documents": rows.groupby(["source", "path"]).ngroups,
        "passages": len(rows),
        "tokens": rows.tokens.sum(),
        "bytes": rows.bytes.sum(),
        "nearest_domains": "; ".join(f"{i}:{h[i]:.2f}" for i in h.argsort()[::-1][:4] if h[i] > 0),
        "effective_domains": float(np.exp(-(positive * np.log(positive)).sum())),
        "share_beyond_q95": float((rows.distance > quantiles["q95"]).mean()),
        "share_beyond_q99": float((rows.distance > quantiles["q99"]).mean()),
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
