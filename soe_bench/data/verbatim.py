"""Hashes by which text that also stands elsewhere, word for word, is noticed."""

from collections.abc import Iterable

import numpy as np
import xxhash

LINE = 40  # characters of a line that tells one text from another
RUN, EVERY = 32, 64  # tokens of a run that tells one text from another, and of how many runs one is kept
FACTOR = np.uint32(0x9E3779B1)  # odd, and its bits are mixed: products of it make a hash


def all_run_hashes(texts: Iterable[np.ndarray]) -> np.ndarray:
    """The sorted `run_hashes` of several texts together."""
    return np.unique(np.concatenate([np.zeros(0, np.uint32), *map(run_hashes, texts)]))


def run_hashes(tokens: np.ndarray) -> np.ndarray:
    """uint32 hashes of runs of RUN of the tokens (uint16): of those whose first four tokens draw them, about one in
    EVERY, so that the same runs of another text are kept wherever they stand. Of 60M tokens it takes a second."""
    found = [np.zeros(0, np.uint32)]
    for start in range(0, len(tokens) - RUN + 1, 2**20):  # at once, to bound the memory
        part = tokens[start : start + 2**20 + RUN - 1].astype(np.uint32)
        drawn = np.zeros(len(part) - RUN + 1, np.uint32)
        for i in range(4):
            drawn = (drawn + part[i : i + len(drawn)]) * FACTOR
        places = np.flatnonzero((drawn >> np.uint32(16)) % EVERY == 0)
        hashes = np.zeros(len(places), np.uint32)
        for i in range(RUN):
            hashes = (hashes + part[places + i]) * FACTOR
            hashes ^= hashes >> np.uint32(15)
        found.append(hashes)
    return np.unique(np.concatenate(found))


def line_hashes(text: str) -> np.ndarray:
    """uint64 hashes of the lines of at least LINE characters, white space aside."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return np.array([xxhash.xxh3_64_intdigest(line.encode()) for line in lines if len(line) >= LINE], np.uint64)
