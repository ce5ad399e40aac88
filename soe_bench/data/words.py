"""Words of texts, and how often each occurs."""

from collections.abc import Sequence

from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from soe_bench.errors import UserError

# Words of two letters or more; each Japanese, Chinese or Korean character is a word of its own, because those scripts
# write no spaces.
WORD = r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]|[^\W\d_\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]{2,}"


def count(terms: list[str], texts: Sequence[str]) -> csr_matrix:
    """(N, V) number of times each of `terms` occurs in each text."""
    return CountVectorizer(token_pattern=WORD, vocabulary=terms).transform(texts)


def count_words(texts: Sequence[str], maximum_terms: int, maximum_fraction: float) -> tuple[list[str], csr_matrix]:
    """The V most common words among those in at most `maximum_fraction` of the texts, and how often each text holds
    each of them (N, V). Raises UserError if fewer than two texts or words are left.
    """
    counter = CountVectorizer(
        token_pattern=WORD, max_features=maximum_terms, max_df=maximum_fraction, min_df=2 if len(texts) > 100 else 1
    )
    try:
        present = counter.fit_transform(texts)
    except ValueError:  # no word is left
        present = csr_matrix((len(texts), 0))
    if min(present.shape) < 2:
        raise UserError(
            f"the generic training text ({len(texts)} passages) has too few different words to tell domains apart: "
            "add text, or raise data.embedding.maximum_fraction"
        )
    return list(counter.get_feature_names_out()), present
