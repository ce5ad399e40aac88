"""Documents cut into passages of about 2,000 characters, and exact and near duplicates among them removed."""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from joblib import Parallel, delayed

# MinHash with 64 minima: a pair at Jaccard 0.8 shares a band with probability 0.9998. A pair at 0.4 does so with 0.34,
# and the exact comparison then rejects it.
BANDS, ROWS = 16, 4
MOST = 128  # candidates per text that are compared exactly, so that many texts of one template take linear time


def cut(pieces: Sequence[str], size: int) -> list[str]:
    """Passages of at most about `size` characters, cut between pieces (lines); a longer piece is cut at sentence ends,
    else at `size`.

    A last passage below a quarter of `size` joins the one before it.
    """
    passages: list[list[str]] = []
    length = size
    for unit in (part for piece in pieces for part in (split_long(piece, size) if len(piece) > size else (piece,))):
        if length + len(unit) + 1 > size:
            passages.append([])
            length = 0
        passages[-1].append(unit)
        length += len(unit) + 1
    if len(passages) > 1 and length < size // 4:
        last = passages.pop()
        passages[-1] += last
    texts = ("\n".join(units).strip("\n") for units in passages)
    return [text for text in texts if text.strip()]


def split_long(piece: str, size: int) -> list[str]:
    """`piece` in parts of at most `size` characters. Each part ends at the last sentence end of its second half, else
    at the last space there, else at `size`.
    """
    parts = []
    while len(piece) > size:
        ends = [piece.rfind(mark, size // 2, size) for mark in (". ", "\u3002", " ")]
        end = next((end + 1 for end in ends if end >= 0), size)
        parts.append(piece[:end])
        piece = piece[end:].lstrip(" ")
    return [*parts, piece]


def duplicates(texts: Sequence[str], threshold: float, workers: int = 1) -> np.ndarray:
    """For each text the index of the earlier kept text it repeats, or -1: (N,) int64. Earlier texts are kept, so put
    the test split first.

    Exact: equal up to white space. Near: Jaccard similarity of the sets of 5-word shingles >= threshold; candidates by
    MinHash and banding (Broder 1997), of which the MOST most similar by MinHash are compared.
    """
    original = np.full(len(texts), -1, dtype=np.int64)
    chunks = [texts[i : i + 2000] for i in range(0, len(texts), 2000)]
    made = Parallel(n_jobs=workers)(delayed(_sketch)(chunk) for chunk in chunks)
    sketches = [sketch for chunk in made for sketch in chunk]
    signatures = np.array([signature for _, _, signature in sketches], np.uint32).reshape(-1, BANDS * ROWS)
    shared = _shared(signatures)
    exact: dict[bytes, int] = {}
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i, (digest, _, signature) in enumerate(sketches):
        original[i] = exact.get(digest, -1)
        if original[i] < 0:
            rows = signature.reshape(BANDS, ROWS)
            bands = [(band, rows[band].tobytes()) for band in np.flatnonzero(shared[i]).tolist()]
            original[i] = _nearest(i, {c for band in bands for c in buckets[band]}, sketches, signatures, threshold)
        if original[i] < 0:
            exact[digest] = i
            for band in bands:
                buckets[band].append(i)
    return original


def _shared(signatures: np.ndarray) -> np.ndarray:
    """(N, BANDS) bool: whether another text has the same band of its signature. A few say so by chance: bands are
    compared by a 64-bit hash. Most texts share none, so that they need not be looked for.

    signatures: (N, BANDS * ROWS) uint32.
    """
    bands = signatures.reshape(len(signatures), BANDS, ROWS).astype(np.uint64)
    hashes = np.zeros(bands.shape[:2], np.uint64)
    for row in range(ROWS):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + bands[:, :, row]
    shared = np.zeros(hashes.shape, bool)
    for band in range(BANDS):
        _, places, counts = np.unique(hashes[:, band], return_inverse=True, return_counts=True)
        shared[:, band] = counts[places] > 1
    return shared


def _nearest(i: int, candidates: set[int], sketches: list, signatures: np.ndarray, threshold: float) -> int:
    """The first of the `candidates` (kept texts that share a band with text i) that reaches the threshold, or -1."""
    if not candidates:
        return -1
    ordered = np.array(sorted(candidates))
    agree = (signatures[ordered] == signatures[i]).mean(1)
    likely = np.sort(np.argsort(-agree, kind="stable")[:MOST])
    for c in ordered[likely[agree[likely] >= threshold - 0.2]]:  # 0.2 is four standard errors of 64 minima at 0.8
        if jaccard(sketches[i][1], sketches[c][1]) >= threshold:
            return int(c)
    return -1


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Jaccard similarity of two sorted arrays of distinct numbers."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def _sketch(texts: Sequence[str]) -> list[tuple[bytes, np.ndarray, np.ndarray]]:
    """For each text: digest of its words, its distinct shingle hashes (sorted uint32), its MinHash signature (64,)
    uint32.
    """
    rng = np.random.default_rng(0)
    # The products must overflow: small factors would keep the order of the hashes, and all minima would fall on one
    # shingle.
    a, b = (rng.integers(0, 1 << 64, BANDS * ROWS, dtype=np.uint64)[:, None] | np.uint64(1) for _ in range(2))
    sketches = []
    for text in texts:
        words = text.split()
        digest = hashlib.sha256(" ".join(words).encode()).digest()
        hashes = shingles(words).astype(np.uint64)
        products = a * hashes[None, :]
        products += b
        signature = products.min(1) >> np.uint64(32)
        sketches.append((digest, hashes.astype(np.uint32), signature.astype(np.uint32)))
    return sketches


def shingles(words: list[str], width: int = 5) -> np.ndarray:
    """Distinct 32-bit hashes of the runs of `width` words (of the whole text where it is shorter), sorted."""
    hashes = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)
    width = min(width, len(hashes))
    mixed = np.zeros(len(hashes) - width + 1, dtype=np.uint64)
    for j in range(width):
        mixed = mixed * np.uint64(1_000_003) + hashes[j : len(hashes) - width + 1 + j]
    return np.unique((mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32))
