"""The artefact on synthetic text: true domains and mixtures recovered, leakage, determinism, and what damages it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from full_disk import full
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from sklearn.metrics import adjusted_rand_score

from soe_bench.config import job_configs
from soe_bench.data import builder, tokenizer
from soe_bench.data import corpus as corpora
from soe_bench.data.__main__ import main
from soe_bench.data.builder import open_corpus
from soe_bench.data.corpus import Corpus, fingerprint, load
from soe_bench.data.domains import nearest
from soe_bench.data.passages import _sketch as sketch
from soe_bench.data.passages import jaccard
from soe_bench.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "data"
FILES = [
    "audit.json",
    "centroids.npy",
    "config.yaml",
    "domains.csv",
    "embedder.json",
    "embedder.safetensors",
    "passages.parquet",
    "specialists.csv",
    "tokenizer.json",
    "tokens.npy",
]


def config(**changes: object) -> DictConfig:
    return OmegaConf.merge(OmegaConf.load(CONF / "synthetic.yaml"), changes)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(config(), tmp_path_factory.mktemp("home"), 0)


def true_domains(corpus: Corpus) -> np.ndarray:
    """cluster -> true domain, from the paths of the generic training documents."""
    rows = corpus.rows("generic", "train")
    truth = rows.path.str.split("/").str[1].astype(int)
    assert adjusted_rand_score(truth, rows.domain) == 1.0
    return truth.groupby(rows.domain).first().to_numpy()


def test_k_means_recovers_the_true_domains_and_mixtures(corpus: Corpus) -> None:
    order = true_domains(corpus)
    mixtures = instantiate(config().source).mixtures
    for name in corpus.specialists:
        h = np.zeros(corpus.k)
        h[order] = corpus.histogram(name)
        assert h == pytest.approx(np.array(mixtures[name]), abs=0.02)  # tokens a word differ a little between domains
    assert corpus.h_0.sum() == pytest.approx(1) and corpus.h_0 == pytest.approx(np.full(4, 0.25), abs=0.02)


def test_the_law_of_a_domain_is_known() -> None:
    source = instantiate(config().source)
    law, p = source.law(2)
    assert p.sum() == pytest.approx(1) and len(set(law)) == 24
    assert set(law) & set(source.law(0)[0]) == set(law[-4:])  # only the common words are shared


def test_streams_hold_documents_after_an_end_of_text(corpus: Corpus) -> None:
    source = instantiate(config().source)
    texts = {d.path: "\n".join(d.pieces) for d in source.documents(Path())}
    order = {d.path: d.order for d in source.documents(Path())}
    rows = corpus.rows("generic", "train")
    for i in range(corpus.k):
        stream, mine = corpus.domain_tokens(i), rows[rows.domain == i]
        assert stream.dtype == np.uint16 and len(stream) == mine.tokens.sum() and stream[0] == 0
        documents = [part.tolist() for part in np.split(stream, np.flatnonzero(stream == 0))[1:]]
        found = [corpus.tokenizer.decode(part[1:]) for part in documents]
        # Each synthetic document is of one domain, so it is whole and no token but the first is an end of text.
        assert found == [texts[path] for path in sorted(mine.path.unique(), key=order.get)]


def test_documents_decode_to_their_text(corpus: Corpus) -> None:
    source = instantiate(config().source)
    texts = {d.path: "\n".join(d.pieces) for d in source.documents(Path())}
    for name in ("first", "generic"):
        for path, tokens, n_bytes in corpus.documents(name, "test"):
            text = corpus.tokenizer.decode(tokens[1:].tolist(), skip_special_tokens=False)
            assert tokens[0] == 0 and text == texts[path] and n_bytes == len(text.encode())


def test_an_end_of_text_stands_where_passages_are_left_out(tmp_path: Path) -> None:
    """The held-out documents keep two of their four passages: the first and the third."""
    two = {split: {"passages_per_document": 2} for split in ("test", "validation", "estimate")}
    built = open_corpus(config(splits=two), tmp_path, 0)
    for _, tokens, n_bytes in built.documents("first", "test"):
        texts = built.tokenizer.decode(tokens.tolist(), skip_special_tokens=False).split("<|endoftext|>")
        assert (tokens == 0).sum() == 2 and n_bytes == len("".join(texts))
    assert set(built.rows("first", "test").number) == {0, 2}


def test_the_tokenizer_is_lossless(corpus: Corpus) -> None:
    for text in ("Grüße, мир 日本 <|endoftext|> \t\n  x", "\x00"):
        ids = corpus.tokenizer.encode(text).ids
        assert 0 not in ids and corpus.tokenizer.decode(ids) == text
    assert corpus.tokenizer.get_vocab_size() == corpus.vocab_size == 320


def test_no_text_of_a_part_leaks_into_another(corpus: Corpus) -> None:
    assert corpus.passages.groupby(["source", "path"])[["specialist", "split"]].nunique().to_numpy().max() == 1


def test_the_test_copy_of_a_duplicate_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = instantiate(config().source)
    original = list(source.documents(tmp_path))
    copies = [
        type(d)(d.source, f"{name}/copy-{d.path}", [p + " end" if name == "uneven" else p for p in d.pieces])
        for d in original
        if d.path.startswith("first/")
        for name in ("generic/0", "uneven")
    ]
    monkeypatch.setattr(type(source), "documents", lambda self, home: iter(original + copies))
    built = open_corpus(config(), tmp_path, 0)
    table = built.passages
    test = table[(table.specialist == "first") & (table.split == "test")]
    removed = json.loads((built.path / "audit.json").read_text())["duplicates_removed"]
    assert len(test) == 24 and removed["exact across"] > 50 and removed["near across"] > 50
    text = [
        built.tokenizer.decode(built._tokens[r.start + 1 : r.start + r.tokens].tolist()) for r in table.itertuples()
    ]
    sketches = sketch(text)
    held = [i for i, split in enumerate(table.split) if split != "train"]
    leaks = sum(jaccard(sketches[i][1], sketches[j][1]) >= 0.8 for i in held[:60] for j in range(len(text)) if i != j)
    assert leaks == 0


def test_the_same_configuration_gives_the_same_artefact(corpus: Corpus, tmp_path: Path) -> None:
    again = open_corpus(config(), tmp_path, 0)
    for name in (
        "tokens.npy",
        "centroids.npy",
        "embedder.safetensors",
        "tokenizer.json",
        "domains.csv",
        "specialists.csv",
    ):
        assert (again.path / name).read_bytes() == (corpus.path / name).read_bytes(), name
    assert again.passages.equals(corpus.passages) and again.fingerprint == corpus.fingerprint


def test_the_number_of_cores_does_not_change_the_artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in ("TASK", 500), ("CHUNK", 100), ("MOST_WORDS", 10), ("BATCH", 7):
        monkeypatch.setattr(tokenizer, name, size)
    files = []
    for cores in (1, 2):
        monkeypatch.setattr(builder, "cpu_count", lambda cores=cores: cores)
        path = open_corpus(config(source={"documents": 100}), tmp_path / str(cores), 0).path
        files.append({name: (path / name).read_bytes() for name in FILES if name != "audit.json"})  # it has the seconds
    assert files[0] == files[1]


@given(st.lists(st.text() | st.text("as'1_ \t\n\r\x0b\x1c\x1f\x7f") | st.text("'sS7é\x85 \n"), max_size=3))
@settings(deadline=None)
def test_texts_are_encoded_as_the_tokenizer_does(corpus: Corpus, texts: list[str]) -> None:
    found = tokenizer.encode(corpus.tokenizer, texts)
    assert [ids.tolist() for ids in found] == [corpus.tokenizer.encode(text).ids for text in texts]
    assert all(ids.dtype == np.uint16 for ids in found)
    words = tokenizer.byte_level_words
    assert all(words(text) == tokenizer.BYTE_LEVEL_WORD.findall(text) for text in texts)  # in ASCII too


def test_new_texts_are_assigned_as_the_corpus_was(corpus: Corpus) -> None:
    rows = corpus.rows("generic", "train").iloc[::40]
    texts = [
        corpus.tokenizer.decode(corpus._tokens[r.start + 1 : r.start + r.tokens].tolist()) for r in rows.itertuples()
    ]
    assigned, distances = nearest(corpus.embedder.embed(texts), corpus.centroids)
    assert (assigned == rows.domain).all() and distances == pytest.approx(rows.distance.to_numpy(), abs=1e-4)


def test_the_fingerprint_knows_content_and_no_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(config(), 0)
    assert first != fingerprint(config(), 1) and first != fingerprint(config(k=5), 0)
    assert first != fingerprint(config(source={"seed": 1}), 0)
    monkeypatch.setattr(corpora, "BUILDER_VERSION", 99)
    assert first != fingerprint(config(), 0)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("wheels", "c0256b457a75715deade7e044a825988fcd025f4ee605146fd2cc086aa5dcd8e"),
        ("prose", "f90df256fa8dc9404cd08f168c98caaf27f37894e403dcd64e9124b09d1b0289"),
        ("wheels_demo", "957d08a3baa3ce622e337ec7ac4169d00fec75a21fc43f0c80dfe1fa2a396997"),
        ("synthetic", "d21ef02c1afcb140d865aa33f7d75f35ac9469a36c143511f0e06cdc576140da"),
    ],
)
def test_published_fingerprints_stay(name: str, known: str) -> None:
    """Committed results name them: a change of the data is a new BUILDER_VERSION, and new results."""
    assert fingerprint(job_configs([f"data={name}"])[0][0].data, 0) == known


def test_a_finished_corpus_is_not_built_again(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "build_corpus", None)
    assert open_corpus(config(), corpus.path.parents[1], 0).path == corpus.path


def test_an_unfinished_build_is_started_anew(tmp_path: Path) -> None:
    path = corpora.folder(config(), tmp_path, 0)
    for left in (path, path.with_name(path.name + ".tmp")):
        left.mkdir(parents=True)
        (left / "tokens.npy").write_text("half")
    assert open_corpus(config(), tmp_path, 0).k == 4
    assert not path.with_name(path.name + ".tmp").exists()
    with pytest.raises(UserError, match="no finished corpus"):
        load(tmp_path)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """It fills up in the middle of each file in turn."""
    sizes = {file.stat().st_size for file in open_corpus(config(), tmp_path / "whole", 0).path.iterdir()}
    for size in sorted(sizes):
        with full(size // 2), pytest.raises(UserError, match="^cannot write .*; free some disk space and run the same"):
            open_corpus(config(), tmp_path, 0)
        assert [p.name for p in (tmp_path / "data").iterdir() if p.is_dir()] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 5000}, "data.k = 5000 is larger than the number of generic training passages"),
        ({"specialists": {"lost": {"source": "synthetic", "match": ["nowhere/*"]}}}, "lost has no usable document"),
    ],
)
def test_bad_configurations_are_refused_before_long_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, message: str
) -> None:
    monkeypatch.setattr(builder, "duplicates", None)  # the first long stage
    with pytest.raises(UserError, match=message):
        open_corpus(config(**changes), tmp_path, 0)


@pytest.fixture
def copy(corpus: Corpus, tmp_path: Path) -> Path:
    return shutil.copytree(corpus.path, tmp_path / "copy")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_or_a_missing_file_is_refused(copy: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    assert sorted(json.loads((copy / "done").read_text())["files"]) == FILES
    load(copy)  # one check of the whole corpus must not hide what happens to it afterwards
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"damaged \({name} has changed\): delete that folder"):
        load(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=rf"damaged \({name}: No such file"):
        load(copy)
    assert main(["audit", str(copy)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_damaged_done_is_refused(copy: Path) -> None:
    done = json.loads((copy / "done").read_text())
    (copy / "done").write_text(json.dumps(done | {"builder_version": 0}))
    with pytest.raises(UserError, match="builder version 0"):
        load(copy)
    for text in (b"{", b"[]", b"\xff", json.dumps(done | {"files": 3}).encode()):
        (copy / "done").write_bytes(text)
        with pytest.raises(UserError, match=r"damaged \(done\)"):
            load(copy)


def test_a_file_is_read_once_in_a_process(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(copy)
    monkeypatch.setattr(corpora, "file_hash", None)
    assert load(copy).k == 4


def test_an_unknown_specialist_is_named(corpus: Corpus) -> None:
    with pytest.raises(UserError, match="'nobody'.*choose a specialist of first, halves, uneven, generic"):
        corpus.histogram("nobody")
