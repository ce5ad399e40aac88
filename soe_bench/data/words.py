"""Words of texts, and how often each occurs."""

import re
from collections.abc import Sequence
from unicodedata import normalize

import icu4py
import regex
from icu4py.breakers import WordBreaker
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from soe_bench.errors import UserError

ASCII = re.compile("[a-z]{2,}")
LETTERS = regex.compile(r"\p{L}[\p{L}\p{M}\u200c\u200d]*")  # marks and joiners belong to the letter before them
DEFINITION = {"ascii": ASCII.pattern, "letters": LETTERS.pattern, "breaker": f"ICU {icu4py.icu_version}"}


def words(text: str) -> list[str]:
    """The words of a text in lower case, ASCII words first: its runs of letters, so that digits, signs and
    underscores part words.

    ICU cuts a run at the word boundaries of Unicode (UAX 29). For Chinese, Japanese, Thai, Lao, Khmer and Burmese,
    which write no spaces, it finds them by dictionary. A single letter is a word only in a script without capitals.
    Text in ASCII has no such boundary within a run, and is read by a faster pattern that gives the same words.
    """
    text = text.lower()
    if text.isascii():
        return ASCII.findall(text)
    runs = LETTERS.findall(normalize("NFC", text))
    others = WordBreaker(" ".join(run for run in runs if not run.isascii()), "root")
    return [run for run in runs if run.isascii() and len(run) > 1] + [
        word for word in others if word != " " and (len(word) > 1 or not word.islower())
    ]


def count(terms: list[str], texts: Sequence[str]) -> csr_matrix:
    """(N, V) number of times each of `terms` occurs in each text."""
    return CountVectorizer(analyzer=words, vocabulary=terms).transform(texts)


def count_words(texts: Sequence[str], maximum_terms: int, maximum_fraction: float) -> tuple[list[str], csr_matrix]:
    """The V most common words among those in at most `maximum_fraction` of the texts, and how often each text holds
    each of them (N, V). Raises UserError if fewer than two texts or words are left.
    """
    least = 2 if len(texts) > 100 else 1
    terms, present = _fit(texts, max_features=maximum_terms, max_df=float(maximum_fraction), min_df=least)
    if min(present.shape) < 2:
        helps = min(_fit(texts, min_df=least)[1].shape) >= 2
        raise UserError(
            f"the generic training text ({len(texts)} passages) has too few different words to tell domains apart: "
            + (
                f"raise data.embedding.maximum_fraction = {maximum_fraction}, which leaves out the words that more of "
                f"the passages hold, or data.embedding.maximum_terms = {maximum_terms}"
                if helps
                else "add text made of words, because numbers and signs do not count"
            )
        )
    return terms, present


def _fit(texts: Sequence[str], **limits: float) -> tuple[list[str], csr_matrix]:
    counter = CountVectorizer(analyzer=words, **limits)
    try:
        present = counter.fit_transform(texts)
    except ValueError:  # no word is left
        return [], csr_matrix((len(texts), 0))
    return list(counter.get_feature_names_out()), present
