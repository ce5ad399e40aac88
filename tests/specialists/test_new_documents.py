"""New documents: what is read and left out, and how the parts are kept apart."""

import json

import numpy as np
import pytest
from made_up_soups import write_documents

from soe_bench.data.verbatim import run_hashes
from soe_bench.errors import UserError
from soe_bench.records import read_config
from soe_bench.specialists import new_documents, trained
from soe_bench.specialists.specialist import Soup


def words(number, count=60):
    return " ".join(f"w{number}x{i}" for i in range(count))


def test_texts_and_paths_are_read_alike(soup, tmp_path):
    texts = [words(i) for i in range(3)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text)
    read = [new_documents.read(given, soup).passages.text for given in (texts, tmp_path, str(tmp_path))]
    assert all(sorted(each) == sorted(texts) for each in read)
    both = new_documents.read([tmp_path / "0.txt", texts[1]], soup)
    assert sorted(both.passages.text) == sorted(texts[:2])


@pytest.mark.parametrize("path", ["/no/such/file", "~/nothing", "~nobody/x", "./x", "texts/y", "x.txt", "y.jsonl.gz"])
def test_a_path_that_leads_nowhere_is_no_text(soup, path):
    for given in (path, [words(0), path]):
        with pytest.raises(UserError, match=f"there is no file or folder {path}: correct the path"):
            new_documents.read(given, soup)


def test_the_field_of_the_text_is_the_soups_own_unless_told(soup_runs, soup, tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": words(0), "body": words(1)}) + "\n")
    assert list(new_documents.read(tmp_path, soup).passages.text) == [words(0)]
    assert list(new_documents.read(tmp_path, soup, "body").passages.text) == [words(1)]
    cfg = read_config(soup_runs["soup"])
    cfg["data"]["source"]["text_field"] = "body"
    monkeypatch.setattr(trained, "read_config", lambda folder: cfg)
    assert list(new_documents.read(tmp_path, Soup.load(soup_runs["soup"])).passages.text) == [words(1)]
    with pytest.raises(UserError, match="row without text in 'no' .text_field., skipped"):
        new_documents.read(tmp_path, soup, "no")


def test_text_is_read_in_the_encoding_of_the_soups_corpus(soup_runs, soup, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("日本語の文書。" * 40, encoding="shift_jis")
    assert new_documents.read(tmp_path, soup).notes == [
        "1 x not valid utf-8, read as cp1252, Windows' latin-1; the first: a.txt"
    ]
    cfg = read_config(soup_runs["soup"])
    cfg["data"]["source"]["encoding"] = "shift_jis"
    monkeypatch.setattr(trained, "read_config", lambda folder: cfg)
    text = new_documents.read(tmp_path, Soup.load(soup_runs["soup"]))
    assert text.passages.text[0].startswith("日本語の文書。") and not text.notes


def test_the_users_folder_is_expanded(soup, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text(words(0))
    assert list(new_documents.read("~/a.txt", soup).passages.text) == [words(0)]
    for text in (f"/ and {words(1)} or ~/a.txt", "料理/法律、" * 50):
        assert list(new_documents.read([text], soup).passages.text) == [text]


def test_a_string_alone_is_a_path(soup):
    for given in ("my contracts", words(0) + "\n", ""):
        with pytest.raises(UserError, match="there is no file or folder .*: correct the path, or give a list of texts"):
            new_documents.read(given, soup)


@pytest.mark.parametrize("choices, count", [(False, 12), (True, 12), (False, 1), (True, 1)])
def test_no_text_is_in_two_parts(soup, choices, count):
    text = "\n".join(words(i, 100) for i in range(16 // count + 8))
    read = new_documents.read([f"{text}\n{words(100 + i)}" if count == 1 else words(i) for i in range(count)], soup)
    parts = read.parts(choices)
    assert set(parts) == {"estimate", "gate"} | ({"validation"} if choices else set())
    rows = [set(rows.index) for rows in parts.values()]
    assert sum(map(len, rows)) == len(set.union(*rows)) == len(read.passages)
    owners = [set(rows.unit) for rows in parts.values()]
    assert sum(map(len, owners)) == len(set.union(*owners))
    assert len(parts["estimate"]) >= len(read.passages) // 2
    assert read.by_passage(choices) == (count == 1)


def test_tokens_are_joined_as_in_the_corpus(soup):
    """A document of the corpus that is read anew has the tokens of the corpus."""
    corpus = soup.corpus
    rows = corpus.rows("first", "train")
    rows = rows[rows.path == rows.path.iloc[0]]
    read = new_documents.read(["\n".join(corpus.texts(rows))], soup)
    assert np.array_equal(read.joined(read.passages), np.concatenate(corpus.tokens(rows)))
    first_and_third = read.joined(read.passages.iloc[[0, 2]])
    assert (first_and_third == 0).sum() == 2  # end of text also stands where a passage is missing


def test_what_is_left_out_is_counted(soup, tmp_path):
    for name, content in {
        "a.txt": words(0).encode(),
        "again.txt": words(0).encode(),
        "short.md": b"Too short.",
        "binary.txt": bytes(range(256)) * 20,
        "picture.png": b"\x89PNG",
    }.items():
        (tmp_path / name).write_bytes(content)
    read = new_documents.read(tmp_path, soup)
    assert list(read.passages.text) == [words(0)]
    said = "\n".join(read.notes)
    assert "1 x document below 80 characters, left out; the first: short.md" in said
    assert "binary content" in said and "picture.png" in said and "repeats another one" in said


def test_more_text_than_is_read_is_sampled_and_said(soup, tmp_path, monkeypatch):
    monkeypatch.setattr(new_documents, "CHARACTERS", 3 * len(words(10)))
    for i in range(10, 30):
        (tmp_path / f"{i}.txt").write_text(words(i))
    read = new_documents.read(tmp_path, soup)
    assert read.count == 3
    assert any(note.startswith("17 x file beyond") for note in read.notes)
    monkeypatch.setattr(new_documents, "PER_FILE", 1000)
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / "1.txt").write_text("\n".join(words(i) for i in range(10)))
    long = new_documents.read(tmp_path / "long", soup)
    assert 900 < long.passages.text.str.len().sum() <= 1000 and "file beyond 1,000 characters, cut" in long.notes[0]
    assert {path for path in read.passages.path} != {"10.txt", "11.txt", "12.txt"}  # not the first by name


def test_held_out_text_is_bounded_and_prefers_many_documents(soup, monkeypatch):
    texts = ["\n".join(words(10 * i + j, 60) for j in range(10)) for i in range(20)]
    read = new_documents.read(texts, soup)
    monkeypatch.setattr(new_documents, "HELD_OUT_TOKENS", read.passages.tokens.sum() // 8)
    found, sizes = read.held_out(read.passages.assign(unit=read.passages.path))
    assert sum(map(len, found)) <= new_documents.HELD_OUT_TOKENS
    assert len(found) >= 18 and (sizes > 0).all()


@pytest.mark.parametrize("gate", ["warn", "off"])
def test_rows_that_are_sorted_by_subject_count_alike(soup, tmp_path, monkeypatch, gate):
    """Twelve documents of one kind, then twelve of another: both are in h, though it rests on six documents."""
    folders = [write_documents(tmp_path / name, soup.corpus, name, 12) for name in ("first", "uneven")]
    texts = [path.read_text() for folder in folders for path in folder.iterdir()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    monkeypatch.setattr(new_documents.Documents, "estimate_documents", 6)
    places = (*folders, tmp_path / "rows.jsonl")
    first, second, both = (soup.specialize({"": [place]}, gate=gate)[""].estimate.h[0] for place in places)
    assert first == 1 and second < 0.3 and 0.5 < both < 0.9


def test_the_soups_own_test_text_is_recognised(soup, tmp_path):
    tested = write_documents(tmp_path / "tested", soup.corpus, "first", 4, "test")
    trained = write_documents(tmp_path / "trained", soup.corpus, "first", 4, "train")
    assert new_documents.read(tested, soup).seen == 1
    assert new_documents.read(trained, soup).seen == 0


def test_the_part_that_the_soup_was_trained_on_is_recognised(soup, tmp_path):
    trained = write_documents(tmp_path / "trained", soup.corpus, "generic", 4)
    held_out = write_documents(tmp_path / "tested", soup.corpus, "generic", 4, "test")
    assert new_documents.read(trained, soup).trained > 0.95
    assert new_documents.read(held_out, soup).trained == 0
    texts = [path.read_text() for folder in (trained, held_out) for path in sorted(folder.iterdir())]
    assert 0.2 < new_documents.read(texts, soup).trained < 0.8
    moved = [text[len(text) // 3 :] for text in texts[:4]]  # other passages, and other first tokens
    assert new_documents.read(moved, soup).trained > 0.9


@pytest.mark.parametrize("length", [0, 31, 32, 33, 2**20 + 40])
def test_the_same_run_has_the_same_hash_wherever_it_stands(length):
    tokens = np.random.default_rng(0).integers(0, 2048, length).astype(np.uint16)
    whole = run_hashes(tokens)
    before = np.concatenate([np.arange(1000, dtype=np.uint16), tokens])
    assert np.isin(whole, run_hashes(before)).all()
    assert len(whole) == pytest.approx(max(0, length - 31) / 64, abs=1 + 0.02 * length / 64)


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "there is no text in"),
        ({"a.png": b"\x89PNG"}, "there is no text in"),
        ({"a.txt": bytes(range(256)) * 20}, "no usable text in the documents .1 x binary content"),
        ({"a.txt": b"a"}, "no usable text in the documents .1 x document below 80 characters"),
        ({"a.jsonl": b'{"content": "x"}\n'}, "row without text in 'text'"),
    ],
)
def test_documents_without_text_are_refused(soup, tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        new_documents.read(tmp_path, soup)
