"""What counts as a word, in scripts with and without spaces, and advice that can help."""

from pathlib import Path

import pytest

from soe_bench.data.words import count_words, words
from soe_bench.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def HTTPServer(self, x1, snake_case): # don't 0xff", "def httpserver self snake case don xff"),
        ("l'été, naïve_word2 “it’s” É", "word it été naïve"),
        ("cafe\u0301 café", "café café"),
        ("हिन्दी में लिखना", "हिन्दी में लिखना"),
        ("தமிழ் மொழி", "தமிழ் மொழி"),
        ("ދިވެހި ބަސް", "ދިވެހި ބަސް"),
        ("اَلْعَرَبِيَّةُ لغة می‌خواهم", "اَلْعَرَبِيَّةُ لغة می‌خواهم"),
        ("ฉันเรียนภาษาไทย", "ฉัน เรียน ภาษา ไทย"),
        ("東京大学で機械学習を", "東京 大学 で 機械 学習 を"),
        ("我们学习。北京", "我们 学习 北京"),
        ("ຮຽນພາສາລາວ", "ຮຽນ ພາສາ ລາວ"),
        ("한국어를 배웁니다 12 ① 🎉", "한국어를 배웁니다"),
        ("python言語", "python 言語"),
        ("12 _ ' .", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert words(text) == expected.split()


def test_ascii_text_has_the_same_words_beside_other_text() -> None:
    source = Path(__file__).read_text(encoding="utf-8") + "".join(map(chr, range(128)))
    plain = source.encode("ascii", "ignore").decode()
    assert len(words(plain)) > 100 and words(plain + " 東") == [*words(plain), "東"]


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        (["same words here"] * 5, (9, 0.3), "raise data.embedding.maximum_fraction = 0.3, which leaves out"),
        (["same words here"] * 5, (1, 1), "or data.embedding.maximum_terms = 1$"),
        (["12 34", "5 6"], (9, 1.0), "add text made of words, because numbers and signs do not count"),
        (["only one text"], (9, 0.3), "add text made of words"),
    ],
)
def test_the_advice_can_help(texts: list[str], settings: tuple[int, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        count_words(texts, *settings)
    if "raise" in message:
        assert count_words(texts, 9, 1)[1].shape == (5, 3)
