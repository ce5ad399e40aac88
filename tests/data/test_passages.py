"""Passages, duplicates, splits and specialists on hand-made documents."""

from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from soe_bench.data import domains, passages, splits
from soe_bench.data.corpus import document_histogram
from soe_bench.data.passages import cut, duplicates, jaccard
from soe_bench.data.sources.document import Document
from soe_bench.data.tfidf import TfIdf
from soe_bench.errors import UserError


def words(seed: int, count: int = 100) -> list[str]:
    return [f"w{n}" for n in np.random.default_rng(seed).integers(0, 10_000, count)]


def test_cut_keeps_every_piece_whole_and_in_order() -> None:
    pieces = [f"line {i} " + "x" * 30 for i in range(100)]
    passages = cut(pieces, 200)
    assert "\n".join(passages) == "\n".join(pieces)
    assert max(map(len, passages)) <= 250  # a short last passage joins the one before it


def test_cut_splits_long_prose_at_sentence_ends() -> None:
    assert (
        cut(["First sentence is here. Second one. " * 3], 60)[0]
        == "First sentence is here. Second one. First sentence is here."
    )
    assert "".join(cut(["x" * 130], 50)).replace("\n", "") == "x" * 130
    assert cut([], 50) == cut(["", " "], 50) == []


def test_near_and_exact_duplicates_of_an_earlier_text_are_found() -> None:
    base = words(0, 300)
    near = [*base[:-4], "other", "words", "stand", "here"]  # 292 of 300 shingles shared
    half = base[:150] + words(1, 150)
    texts = [" ".join(base), " ".join(near), " ".join(half), "  ".join(base), " ".join(words(2))]
    assert duplicates(texts, 0.8).tolist() == [-1, 0, -1, 0, -1]
    assert duplicates([], 0.8).tolist() == []


@pytest.mark.parametrize("places", [[100], [30, 70, 110, 150]])
def test_near_duplicates_are_found_beyond_the_chances_of_banding_and_minima(places: list[int]) -> None:
    """With one changed word 191 of 201 shingles are shared. With four it is 176 of 216, a similarity of 0.815, and a
    third of the pairs share fewer than 0.8 of their minima."""
    originals = [words(100 + i, 200) for i in range(200)]
    changed = [list(text) for text in originals]
    for text in changed:
        for place in places:
            text[place] = f"new{place}"
    found = duplicates([" ".join(text) for text in originals + changed], 0.8)
    assert (found[:200] == -1).all() and (found[200:] == np.arange(200)).all()


def test_many_texts_of_one_template_take_linear_time_and_their_duplicates_are_found(monkeypatch) -> None:
    """Texts that share 240 of 285 words, which is less than the threshold, are candidates of each other: 0.7."""
    template = words(0, 240)
    texts = [[*template[:120], *words(1 + i, 45), *template[120:]] for i in range(300)]
    copies = [[*text[:-1], "changed"] for text in texts[::3]]
    compared = []
    monkeypatch.setattr(passages, "MOST", 10)
    monkeypatch.setattr(passages, "jaccard", lambda *pair: compared.append(1) or jaccard(*pair))
    found = duplicates([" ".join(text) for text in texts + copies], 0.8)
    assert (found[:300] == -1).all() and (found[300:] == np.arange(0, 300, 3)).all()
    assert 5 * len(texts) < len(compared) <= 10 * (len(texts) + len(copies))


def config(**changes: object) -> DictConfig:
    data = OmegaConf.load(Path(__file__).parents[2] / "conf" / "data" / "synthetic.yaml")
    return OmegaConf.merge(data, changes)


def documents(count: int, folder: str = "a", lines: int = 12) -> list[Document]:
    return [
        Document("here", f"{folder}/{i}", [" ".join(words(i * 1000 + j, 20)) for j in range(lines)])
        for i in range(count)
    ]


def test_specialist_and_generic_text_are_disjoint_by_document() -> None:
    rules = OmegaConf.create(
        {
            "first": {"source": "here", "match": ["a/*"], "exclude": ["a/0"], "generic_fraction": 0.5},
            "second": {"source": "*", "match": ["*"], "generic_fraction": 0.0},
        }
    )
    groups = splits.claim(documents(100) + documents(10, "b"), rules)
    names = {name: {d.path for d in group} for name, group in groups.items()}
    assert names["second"] == {"a/0", *(f"b/{i}" for i in range(10))}  # the first matching rule takes a document
    assert 45 <= len(names["generic"]) <= 50 and len(names["first"]) + len(names["generic"]) == 99
    assert not names["first"] & names["generic"]


def test_a_rule_that_matches_nothing_is_refused() -> None:
    rules = OmegaConf.create({"lost": {"source": "here", "match": ["nowhere/*"]}})
    with pytest.raises(UserError, match="the specialist lost has no usable document"):
        splits.claim(documents(3), rules)


def test_parts_are_disjoint_and_capped() -> None:
    rules = OmegaConf.create({"mine": {"source": "here", "match": ["a/*"]}})
    everything = [*documents(100), *documents(100, "b"), Document("here", "a/huge", [" ".join(words(9, 50_000))])]
    table = splits.passages(splits.claim(everything, rules), config(specialists=rules))
    assert table.groupby("path").split.nunique().max() == 1
    mine = table[table.specialist == "mine"]
    per_document = mine[mine.split != "train"].groupby(["split", "path"]).size()
    assert per_document["estimate"].max() <= 8 and per_document["test"].max() <= 12
    assert mine[mine.path == "a/huge"].split.unique().tolist() == ["train"]
    assert set(mine.split) == {"test", "validation", "estimate", "train"} and len(per_document["estimate"]) <= 20 * 3
    order = list(dict.fromkeys(table.split))
    assert order == splits.PRIORITY and table.specialist.iloc[-1] == "generic"  # generic training text comes last


def test_trim_drops_the_surplus() -> None:
    table = pd.DataFrame({"specialist": "mine", "split": ["test"] * 3 + ["train"] * 2, "tokens": [10, 10, 10, 99, 99]})
    kept = splits.trim(table, OmegaConf.create({"test": {"tokens": 25}, "validation": {"tokens": 5}}))
    assert kept.tokens.tolist() == [10, 10, 99, 99]
    kept = splits.trim(table, OmegaConf.create({"test": {"tokens": 5}, "validation": {"tokens": 5}}))
    assert kept.tokens.tolist() == [10, 99, 99]  # no split is left empty


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_a_text_begins_wherever_the_passage_before_is_elsewhere(passages: list[tuple], random: Random) -> None:
    """Documents 0 to 4 are generic training text, 5 and 6 are test text; some of their passages were removed."""
    passages = list({(path, number): (path, number, domain) for path, number, domain in passages}.values())
    random.shuffle(passages)
    table = pd.DataFrame(passages, columns=["path", "number", "domain"])
    table = table.assign(source="here", order=(table.path * 37 % 7).map(str), specialist="generic")
    table = table.assign(split=np.where(table.path < 5, "train", "test"), tokens=table.number + 3)
    filed = splits.in_file_order(table)
    assert filed.start.tolist() == [0, *filed.tokens.cumsum()[:-1]] and len(filed) == len(table)
    train = filed.split == "train"
    assert train.tolist() == sorted(train, reverse=True)
    stream = filed.domain.where(train, -1)
    for _, rows in filed.groupby([stream, filed.split]):
        assert rows.index.tolist() == list(range(rows.index[0], rows.index[-1] + 1))  # together in the file
        assert rows.order.tolist() == sorted(rows.order) and rows.begins.iloc[0]
        for _, document in rows.groupby("path"):
            numbers = document.number.tolist()
            gaps = [True, *(b != a + 1 for a, b in pairwise(numbers))]
            assert numbers == sorted(numbers) and document.begins.tolist() == gaps


def table_of(documents: dict[str, list[tuple[int, int]]]) -> pd.DataFrame:
    rows = [("s", path, domain, tokens) for path, passages in documents.items() for domain, tokens in passages]
    return pd.DataFrame(rows, columns=["source", "path", "domain", "tokens"])


def test_histogram_is_token_weighted() -> None:
    rows = table_of({"one": [(0, 100), (2, 300)], "two": [(0, 100), (3, 500)]})
    assert document_histogram(rows, 4).tolist() == [0.2, 0.0, 0.3, 0.5]


def test_a_document_gives_at_most_eight_passages_to_a_histogram() -> None:
    rows = table_of({"long": [(0, 10)] * 100, "short": [(1, 80)]})
    assert document_histogram(rows, 2).tolist() == [0.5, 0.5]


def test_histogram_of_a_few_documents_is_drawn_from_the_seed() -> None:
    rows = table_of({str(i): [(i, 10)] for i in range(10)})
    drawn = document_histogram(rows, 10, 3, seed=1)
    assert sorted(drawn)[-3:] == pytest.approx([1 / 3] * 3) and drawn.sum() == pytest.approx(1)
    assert (drawn == document_histogram(rows, 10, 3, seed=1)).all()
    assert any((drawn != document_histogram(rows, 10, 3, seed=s)).any() for s in range(2, 5))


def test_small_clusters_are_dissolved() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(c, 0.01, (n, 2)) for c, n in ((0, 50), (5, 50), (5.5, 3))]).astype(np.float32)
    tokens = np.full(103, 10)
    assert len(domains.cluster(vectors, tokens, 3, 0, seed=0)) == 3
    assert len(domains.cluster(np.zeros((9, 2)), np.full(9, 10), 3, 0, seed=0)) == 1  # no empty cluster of like vectors
    assert domains.cluster(vectors, tokens, 3, 0, seed=0).dtype == np.float64  # that of k-means, whatever the vectors'
    centroids = domains.cluster(vectors, tokens, 3, 100, seed=0)
    assigned, distances = domains.nearest(vectors, centroids)
    assert len(centroids) == 2 and len(set(assigned[50:])) == 1 and assigned[0] != assigned[60]
    assert distances == pytest.approx(np.linalg.norm(vectors - centroids[assigned], axis=1), abs=1e-3)


@pytest.mark.parametrize("block", [1, 12, 35])
def test_the_nearest_centroids_do_not_depend_on_how_many_are_looked_at_at_once(monkeypatch, block):
    rng = np.random.default_rng(0)
    vectors, centroids = rng.normal(size=(20, 3)), rng.normal(size=(7, 3))
    whole = domains.nearest(vectors, centroids)
    monkeypatch.setattr(domains, "BLOCK", block)
    for one, other in zip(whole, domains.nearest(vectors, centroids), strict=True):
        np.testing.assert_array_equal(one, other)
    assert domains.nearest(vectors[:0], centroids)[0].shape == (0,)


@pytest.mark.parametrize("minimum", [400, 10**9])
def test_clusters_are_dissolved_one_after_the_other_from_the_smallest(minimum: int) -> None:
    """Beside the plain way, which assigns every passage again each time."""
    rng = np.random.default_rng(1)
    vectors, tokens = rng.normal(size=(300, 4)), rng.integers(10, 90, 300)
    plain = domains.cluster(vectors, tokens, 40, 0, seed=0)
    sizes = np.bincount(domains.nearest(vectors, plain)[0], weights=tokens, minlength=40)
    while len(plain) > 1 and sizes.min() < minimum:
        plain = np.delete(plain, sizes.argmin(), axis=0)
        sizes = np.bincount(domains.nearest(vectors, plain)[0], weights=tokens, minlength=len(plain))
    found = domains.cluster(vectors, tokens, 40, minimum, seed=0)
    assert np.array_equal(found, plain) and len(found) == (1 if minimum == 10**9 else len(plain)) < 40


def test_a_reloaded_embedder_gives_identical_embeddings(tmp_path: Path) -> None:
    texts = [" ".join("abcdefghijklmnop"[(i * j) % 16] * 3 for j in range(1, 9)) + " 日本語の文" for i in range(50)]
    embedder = TfIdf.fit(texts, 8, 500, 1.0, seed=0)
    embedder.save(tmp_path)
    again = TfIdf.load(tmp_path)
    assert (embedder.embed(texts) == again.embed(texts)).all()
    assert np.linalg.norm(again.embed(texts), axis=1) == pytest.approx(np.ones(50), abs=1e-5)
    assert "日本語" in again.terms and embedder.embed([]).shape == (0, 8)
    assert not again.embed(["?!"]).any()
    assert again.embed(texts).dtype == np.float64  # so that no processor's rounding decides a domain
