"""The tokenizer, and the tokens of passages. The worker processes import this module, so it imports little."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import regex
from joblib import Parallel, delayed
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from pandas import DataFrame

EOS = "<|endoftext|>"
# The words of pre_tokenizers.ByteLevel, which are those of GPT-2.
BYTE_LEVEL_WORD = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
# The same for text in ASCII, in less than half the time. `\s` is spelt out, as it means more characters in `re`.
BLANK = r" \t\n\r\f\v"
ASCII_WORD = re.compile(
    rf"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^{BLANK}A-Za-z0-9]+|[{BLANK}]+(?![^{BLANK}])|[{BLANK}]+"
)
CHUNK = 500  # texts whose words are held at once
TASK = 10_000  # texts, about, that a worker takes at a time
MOST_WORDS = 300_000  # distinct words, about, that a worker remembers: 60 MB
BATCH = 5000  # words that are encoded at once, because the encoding of one takes a kilobyte


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
    tokenizer.encode_special_tokens = True  # a literal <|endoftext|> in a text is ordinary text
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str], workers: int = 1) -> list[np.ndarray]:
    """The token ids of each text, uint16, as `tokenizer` encodes it. Byte-level BPE never joins two words, so that a
    word is encoded once, however often it occurs.
    """
    rounds = max(1, round(len(texts) / (workers * TASK)))
    size = max(1, -(-len(texts) // (workers * rounds)))  # as much for each worker
    tasks = [texts[i : i + size] for i in range(0, len(texts), size)]
    parts = Parallel(n_jobs=workers)(delayed(_encode)(tokenizer, task) for task in tasks)
    return [ids for part in parts for ids in part]


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    known: dict[str, bytes] = {}
    ids = []
    for start in range(0, len(texts), CHUNK):
        if len(known) > MOST_WORDS:
            known.clear()
        words = [byte_level_words(text) for text in texts[start : start + CHUNK]]
        new = [word for word in dict.fromkeys(chain.from_iterable(words)) if word not in known]
        for first in range(0, len(new), BATCH):
            encoded = tokenizer.encode_batch_fast(batch := new[first : first + BATCH])
            known |= {word: np.array(item.ids, np.uint16).tobytes() for word, item in zip(batch, encoded, strict=True)}
        ids += [np.frombuffer(b"".join([known[word] for word in text]), np.uint16) for text in words]
    return ids


def byte_level_words(text: str) -> list[str]:
    """The words of a text, within which tokens lie; joined they are the text."""
    return (ASCII_WORD if text.isascii() else BYTE_LEVEL_WORD).findall(text)


def token_file(table: DataFrame, line_break: int) -> np.ndarray:
    """The uint16 tokens of all passages. EOS stands before a passage that begins a text. A line break, as between two
    lines of a document, stands before one that goes on with it.
    """
    tokens = np.zeros(table.tokens.sum(), dtype=np.uint16)
    in_text = np.ones(len(tokens), dtype=bool)
    in_text[table.start] = False
    tokens[in_text] = np.concatenate(table.ids.tolist())
    tokens[table.start[~table.begins]] = line_break
    return tokens
