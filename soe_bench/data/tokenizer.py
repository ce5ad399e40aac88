"""The tokenizer, and the tokens of passages. The worker processes import this module, so it imports little."""

from __future__ import annotations

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
CHUNK = 5000  # texts, about


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
    """The token ids of each text, uint16, as `tokenizer` encodes it. Byte-level BPE never joins two words, so that each
    distinct word is encoded once.
    """
    rounds = max(1, round(len(texts) / (workers * CHUNK)))
    size = max(1, -(-len(texts) // (workers * rounds)))  # as much for each worker
    chunks = [texts[i : i + size] for i in range(0, len(texts), size)]
    parts = Parallel(n_jobs=workers)(delayed(_encode)(tokenizer, chunk) for chunk in chunks)
    return [ids for part in parts for ids in part]


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    words = [BYTE_LEVEL_WORD.findall(text) for text in texts]
    distinct = list(dict.fromkeys(chain.from_iterable(words)))
    encoded = tokenizer.encode_batch_fast(distinct)
    ids = {word: np.array(item.ids, np.uint16).tobytes() for word, item in zip(distinct, encoded, strict=True)}
    return [np.frombuffer(b"".join([ids[word] for word in text]), np.uint16) for text in words]


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
