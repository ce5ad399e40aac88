"""Documents from k known domains: each domain is a unigram distribution, so the best model and every mixture are known
exactly.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from soe_bench.data.sources.document import Document


class Synthetic:
    """`domains` domains, each a distribution over `words` words of its own and `shared` words that all have in common.
    `mixtures`: specialist -> weights over the domains.

    Every document has `passages` passages of `passage_words` words, each drawn from one domain. A generic document
    keeps to one domain. A specialist's document holds its domains in the exact proportions of its mixture (weights must
    be multiples of 1 / passages).
    """

    def __init__(
        self,
        domains: int,
        words: int,
        shared: int,
        documents: int,
        passages: int,
        passage_words: int,
        mixtures: Mapping[str, Sequence[float]],
        seed: int,
    ) -> None:
        self.domains, self.words, self.shared = domains, words, shared
        self.documents_each, self.passages, self.passage_words = documents, passages, passage_words
        self.mixtures = {name: [float(w) for w in weights] for name, weights in mixtures.items()}
        self.seed = seed

    def identity(self) -> str:
        """All settings: nothing else decides the text."""
        return json.dumps(vars(self), sort_keys=True)

    def law(self, domain: int) -> tuple[list[str], np.ndarray]:
        """The words of a domain and their probabilities, (words + shared,) each; the shared words carry a tenth of the
        mass.
        """
        own = [_word(domain * self.words + i, 4) for i in range(self.words)]
        common = [_word(i, 2) for i in range(self.shared)]
        rank = 1.0 / np.arange(1, self.words + 1)
        tail = np.full(self.shared, 0.1 / max(self.shared, 1))
        return own + common, np.concatenate([rank / rank.sum() * (1 - tail.sum()), tail])

    def documents(self, home: Path) -> Iterator[Document]:
        """Paths are generic/<domain>/<number> and <specialist>/<number>. Each piece is one passage, without any mark of
        its domain.
        """
        rng = np.random.default_rng(self.seed)
        for domain in range(self.domains):
            for i in range(self.documents_each):
                yield Document(
                    "synthetic", f"generic/{domain}/{i:04d}", [self._passage(rng, domain) for _ in range(self.passages)]
                )
        for name, weights in self.mixtures.items():
            counts = np.rint(np.array(weights) * self.passages).astype(int)
            order = np.repeat(np.arange(self.domains), counts)
            for i in range(self.documents_each):
                yield Document("synthetic", f"{name}/{i:04d}", [self._passage(rng, domain) for domain in order])

    def _passage(self, rng: np.random.Generator, domain: int) -> str:
        words, p = self.law(domain)
        return " ".join(words[i] for i in rng.choice(len(words), self.passage_words, p=p))


def _word(number: int, syllables: int) -> str:
    """The number in base 60, written as consonant-vowel syllables: distinct numbers give distinct words of one
    length."""
    letters = [c + v for c in "bdfgklmnprst" for v in "aeiou"]
    return "".join(letters[number // 60**i % 60] for i in range(syllables))
