"""The audit: what it prints, that it finds planted leaks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from soe_bench.data import audit, stability
from soe_bench.data.__main__ import main
from soe_bench.data.builder import open_corpus
from soe_bench.data.corpus import Corpus, seal
from soe_bench.data.passages import jaccard, shingles
from soe_bench.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def corpus(home: Path) -> Corpus:
    return open_corpus(OmegaConf.load(CONF / "synthetic.yaml"), home, 0)


def test_a_clean_corpus_passes(
    corpus: Corpus, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("SOE_BENCH_HOME", str(home))
    assert main(["audit", "synthetic", str(corpus.path)]) == 0
    said = capsys.readouterr().out
    assert said.count("PASS") == 2 and "0 documents in two splits, 0 exact and 0 near" in said and "uneven" in said
    assert main(["audit", "data=synthetic", "home=/dev/null"]) == 2
    assert "Not a directory" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["stability", "synthetic", "--seeds", "-1"])
    assert "take numbers from 0" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["stability", "synthetic", "--seeds", str(2**32)])
    assert "--seeds takes numbers below 4294967296" in capsys.readouterr().err
    assert main(["audit", "nothing"]) == 2
    assert f"a name under {home}/data ({corpus.path.name})" in capsys.readouterr().err


@pytest.mark.parametrize("words", [0, 1])
def test_planted_leaks_fail(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture, words: int) -> None:
    """A test passage's tokens are written over a generic training passage: whole, or but for its first tokens."""
    damaged = tmp_path / "leaky"
    shutil.copytree(corpus.path, damaged)
    rows = corpus.passages
    training = rows[(rows.specialist == "generic") & (rows.split == "train")]
    test = next(r for r in corpus.rows("first", "test").itertuples() if (training.tokens == r.tokens).any())
    target = training[training.tokens == test.tokens].iloc[0]
    stored = np.load(damaged / "tokens.npy")
    cut = 1 + 3 * words
    stored[target.start + cut : target.start + target.tokens] = stored[test.start + cut : test.start + test.tokens]
    np.save(damaged / "tokens.npy", stored)
    seal(damaged)
    assert main(["audit", str(damaged)]) == 1
    said = capsys.readouterr().out
    assert "FAIL" in said and f"{1 - words} exact and {words} near" in said and f"{test.source}:{test.path}" in said


def test_text_that_is_cut_in_other_places_is_found(corpus: Corpus, tmp_path: Path) -> None:
    """The test text of a specialist is written over its training passages from its eighth token on, so that the short
    passages of both end in other places, within a third of the runs."""
    damaged = tmp_path / "shifted"
    shutil.copytree(corpus.path, damaged)
    before = audit.verbatim(corpus)
    assert (before < 0.1).all(axis=None)
    text = np.concatenate(corpus.tokens(corpus.rows("first", "test")))[7:]
    stored, rows = np.load(damaged / "tokens.npy"), corpus.rows("first", "train")
    for row in rows.itertuples():
        part, text = text[: row.tokens], text[row.tokens :]
        stored[row.start : row.start + len(part)] = part
    assert not len(text)
    np.save(damaged / "tokens.npy", stored)
    seal(damaged)
    after = audit.verbatim(Corpus(damaged))
    assert after.loc["first", "its own train split"] > 0.3 and after.drop("first").equals(before.drop("first"))


def test_a_document_in_two_parts_fails(corpus: Corpus, tmp_path: Path) -> None:
    damaged = tmp_path / "split"
    shutil.copytree(corpus.path, damaged)
    table = corpus.passages.copy()
    table.loc[len(table) - 1, "split"] = "test" if table.split.iloc[-1] != "test" else "train"
    table.to_parquet(damaged / "passages.parquet", index=False)
    seal(damaged)
    assert main(["audit", str(damaged)]) == 1


def test_no_pair_is_missed() -> None:
    rng = np.random.default_rng(0)
    base = [[f"w{n}" for n in rng.integers(0, 50, 60)] for _ in range(40)]
    texts = [" ".join(words) for words in base]
    for words in base:  # changed more and more, so that some are above the threshold and some below
        copy = list(words)
        for place in rng.choice(60, rng.integers(0, 6), replace=False):
            copy[place] = "other"
        texts.append(" ".join(copy))
    groups = np.array(["a"] * 20 + ["b"] * 60)
    sets = [shingles(text.split()) for text in texts]
    expected = {
        (i, j)
        for i in range(80)
        for j in range(i + 1, 80)
        if groups[i] != groups[j] and jaccard(sets[i], sets[j]) >= 0.7
    }
    found = audit.leaks(texts, groups, 0.7)
    assert len(expected) > 5 and set(zip(found["first"], found["second"], strict=True)) == expected
    assert audit.leaks(["a b c", "d e f"], np.array(["a", "b"]), 0.8).empty


def test_stability_is_one_on_clear_domains(corpus: Corpus, capsys: pytest.CaptureFixture) -> None:
    seeds = stability.between_seeds(corpus, [0, 1, 2], 200)
    assert len(seeds) == 3 and seeds.adjusted_rand_index.min() > 0.95 and set(seeds.passages) == {200}
    assert main(["stability", str(corpus.path), "--seeds", "0", "1", "--passages", "100"]) == 0
    assert "seed 0" in capsys.readouterr().out
    assert main(["stability", *[str(corpus.path)] * 2, "--seeds", "0", "--passages", "100"]) == 0  # of one, given twice
    assert main(["stability", str(corpus.path), "--passages", "3"]) == 2


def test_stability_between_corpora_is_of_the_text_both_hold(corpus: Corpus, home: Path) -> None:
    base = OmegaConf.load(CONF / "synthetic.yaml")
    coarse = open_corpus(OmegaConf.merge(base, {"k": 2}), home, 0)
    found = stability.between_corpora([corpus, coarse]).iloc[0]
    assert 0.2 < found.adjusted_rand_index < 0.8 and found.passages == len(corpus.rows("generic", "train"))
    assert found.domains == "4, 2" and stability.between_corpora([corpus]).empty
    elsewhere = open_corpus(base, home / "elsewhere", 0)  # a folder of the same name
    assert stability.between_corpora([corpus, elsewhere]).adjusted_rand_index.item() == 1
    other = open_corpus(OmegaConf.merge(base, {"source": {"seed": 1}}), home, 0)
    with pytest.raises(UserError, match="share no generic training text"):
        stability.between_corpora([corpus, other])
