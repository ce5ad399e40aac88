"""Which document goes where: specialists by rule, four splits disjoint by document, and generic held-out text."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from soe_bench.data.passages import cut
from soe_bench.data.sources.document import Document
from soe_bench.errors import UserError

GENERIC = "generic"
PRIORITY = ["test", "validation", "estimate", "train"]  # of two duplicates the one in the earlier split is kept


def claim(documents: Sequence[Document], specialists: Mapping[str, dict]) -> dict[str, list[Document]]:
    """specialist -> its documents (and "generic" -> all others), in hash order.

    A document belongs to the first specialist with a matching rule (`source` glob, any `match` glob on the path, no
    `exclude` glob). Of those, documents worth `generic_fraction` of the characters go to the generic text, so that a
    domain for them exists. Raises UserError if a rule matches nothing.
    """
    groups: dict[str, list[Document]] = defaultdict(list)
    matchers = {name: _matcher(rule) for name, rule in specialists.items()}
    for document in sorted(documents, key=lambda d: d.order):
        groups[next((name for name, matches in matchers.items() if matches(document)), GENERIC)].append(document)
    for name, rule in specialists.items():
        if not groups[name]:
            raise UserError(
                f"the specialist {name} has no usable document in the source {rule['source']}: give it documents of "
                f"data.minimum_characters or more, or correct the source and match patterns of data.specialists; the "
                f"sources are {', '.join(sorted({d.source for d in documents}))}"
            )
        left = rule.get("generic_fraction", 0.0) * sum(d.characters for d in groups[name])
        kept = []
        for document in groups[name]:
            group = groups[GENERIC] if document.characters <= left else kept
            group.append(document)
            left -= document.characters if group is not kept else 0
        groups[name] = kept
    groups[GENERIC].sort(key=lambda d: d.order)
    return dict(groups)


def _matcher(rule: Mapping) -> Callable[[Document], bool]:
    def any_of(patterns: Iterable[str]) -> Callable[[str], re.Match | None]:
        return re.compile("|".join(map(translate, patterns)) or "(?!)").match  # (?!) matches nothing

    source, path, excluded = any_of([rule["source"]]), any_of(rule.get("match", [])), any_of(rule.get("exclude", []))
    return lambda document: bool(source(document.source) and path(document.path) and not excluded(document.path))


def passages(groups: dict[str, list[Document]], data: DictConfig) -> pd.DataFrame:
    """One row per passage: source, path, order (of the document), number (of the passage in its document), specialist,
    split, text. Of two duplicates the earlier row is kept, so test passages come first and generic training text last.
    """
    rows: list[tuple] = []
    for name, documents in groups.items():
        if name == GENERIC:
            for together in _together(documents, data):
                rows += _generic(together, data)
        else:
            rows += _specialist(name, documents, data)
    table = pd.DataFrame(
        [row[:-1] for row in rows], columns=["source", "path", "order", "number", "specialist", "split"]
    )
    table["text"] = pd.Series([row[-1] for row in rows], dtype=object)  # converting it to Arrow takes seconds
    order = table.split.map(PRIORITY.index) + len(PRIORITY) * ((table.specialist == GENERIC) & (table.split == "train"))
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def spread(items: Sequence, limit: int) -> list:
    """At most `limit` items, evenly spaced, the first included."""
    return list(items) if len(items) <= limit else [items[i * len(items) // limit] for i in range(limit)]


def _specialist(name: str, documents: list[Document], data: DictConfig) -> Iterable[tuple]:
    """The rows of one specialist: in hash order, its documents fill test, then validation, estimate and train.

    A held-out document gives some of its passages and the others are dropped.
    """
    splits = data.splits
    left = {
        split: (splits[split].characters, max(1, round(splits[split].fraction * len(documents))))
        for split in ("test", "validation")
    }
    left["estimate"] = (
        float("inf"),
        min(splits.estimate.documents, max(1, round(splits.estimate.fraction * len(documents)))),
    )
    # Holding out a very large document would drop much of the text, so it goes to training.
    large = splits.largest_fraction * sum(d.characters for d in documents)
    for document in documents:
        room = [split for split, (characters, count) in left.items() if characters > 0 and count > 0]
        split = room[0] if room and document.characters <= large else "train"
        texts = list(enumerate(cut(document.pieces, data.passage_characters)))
        if split != "train":
            texts = spread(texts, splits[split].passages_per_document)
            left[split] = (left[split][0] - sum(len(text) for _, text in texts), left[split][1] - 1)
        yield from _rows(document, name, split, texts)


def _together(documents: list[Document], data: DictConfig) -> list[list[Document]]:
    """The generic documents of each source, of which a fraction is held out; all of them in one list where every source
    has so few that none would be held out for one of the splits."""
    sources = [[d for d in documents if d.source == source] for source in sorted({d.source for d in documents})]
    each = [_held_out(own, data).values() for own in sources]
    return sources if all(any(count for _, count in split) for split in zip(*each, strict=True)) else [documents]


def _held_out(documents: list[Document], data: DictConfig) -> dict[str, tuple[int, int]]:
    """How many characters and documents of these are held out for each split."""
    generic = data.splits.generic
    return {
        split: (generic[split].characters_per_source, round(generic[split].fraction * len(documents)))
        for split in ("test", "validation")
    }


def _generic(documents: list[Document], data: DictConfig) -> Iterable[tuple]:
    """The rows of generic documents: in hash order, a fraction of them is held out and the others are training text, of
    each source up to a cap.
    """
    generic = data.splits.generic
    left = _held_out(documents, data)
    room = dict.fromkeys((d.source for d in documents), generic.train.characters_per_source)
    for document in documents:
        split = next((p for p, (characters, count) in left.items() if characters > 0 and count > 0), "train")
        texts = list(enumerate(cut(document.pieces, data.passage_characters)))
        if split != "train":
            texts = spread(texts, generic[split].passages_per_document)
            left[split] = (left[split][0] - sum(len(text) for _, text in texts), left[split][1] - 1)
        elif room[document.source] <= 0:
            continue
        else:
            room[document.source] -= document.characters
        yield from _rows(document, GENERIC, split, texts)


def _rows(document: Document, specialist: str, split: str, texts: Iterable[tuple[int, str]]) -> Iterable[tuple]:
    order = document.order
    return ((document.source, document.path, order, number, specialist, split, text) for number, text in texts)


def trim(table: pd.DataFrame, splits: DictConfig) -> pd.DataFrame:
    """Drop what exceeds `splits.test.tokens` and `splits.validation.tokens` (column `tokens`) for each specialist,
    but never the first passage. Dropped text is not used anywhere else.
    """
    keep = pd.Series(True, index=table.index)
    for split in ("test", "validation"):
        rows = table[(table.split == split) & (table.specialist != GENERIC)]
        groups = rows.groupby("specialist")
        keep[rows.index] = (groups.tokens.cumsum() <= splits[split].tokens) | (groups.cumcount() == 0)
    return table[keep].reset_index(drop=True)


def in_file_order(table: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of the token file: generic training text first, by domain, then each specialist's splits.

    Within a domain or a split, documents are in hash order, and the passages of a document stay together in their
    order. New columns: `begins` says that the text begins here, because the row before is not the passage before it in
    the same document (and in the same domain of the training text); `start` is the position of its first token.
    """
    train = generic_training(table)
    rank = table.split.map(PRIORITY.index)
    table = table.assign(stream=np.where(train, table.domain, table.domain.max() + 1), rank=rank)
    table = table.sort_values(["stream", "specialist", "rank", "order", "number"], ignore_index=True)
    document = table[["stream", "source", "path"]]
    follows = (document == document.shift()).all(axis=1) & (table.number == table.number.shift() + 1)
    return table.drop(columns=["stream", "rank"]).assign(begins=~follows, start=table.tokens.cumsum() - table.tokens)


def generic_training(table: pd.DataFrame) -> np.ndarray:
    """(N,) bool: the rows of generic training text, the only text that anything is fitted on."""
    return ((table.specialist == GENERIC) & (table.split == "train")).to_numpy()
