"""A folder of the user's own text: sources, specialists, encodings, and every kind of bad input."""

import json
import logging
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from soe_bench.config import job_configs, quoted
from soe_bench.data.build import open_corpus
from soe_bench.data.corpus import fingerprint
from soe_bench.data.sources.local import Local
from soe_bench.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "data"
NAME = "my texts (1) 日本語"


def prose(seed: int, words: int = 120, theme: str = "w") -> str:
    """Words of one theme, different for each seed."""
    letters = "abcdefghijklmnopqrst"
    numbers = np.random.default_rng(seed).integers(0, 300, words)
    return " ".join(f"{theme}{letters[n // 20]}{letters[n % 20]}" for n in numbers)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def small(folder: Path) -> Path:
    """Sixty generic documents in three sources, two specialists of eight and nine documents."""
    rows = "".join(json.dumps({"text": prose(100 + i, theme="forum")}) + "\n" for i in range(20))
    files: dict[str, str | bytes] = {f"news/{i}.txt": prose(i, theme="news") for i in range(20)}
    files |= {f"{i}.md": prose(200 + i, theme="note") for i in range(20)} | {"forum/a.jsonl": rows}
    files |= {f"specialists/law/{i}.txt": prose(300 + i, theme="news") for i in range(8)}
    files |= {f"specialists/日本語/{i}.md": prose(400 + i, theme="文") for i in range(9)}
    return write(folder, files)


def config(folder: Path | None, **changes: object) -> DictConfig:
    data = OmegaConf.load(CONF / "local.yaml")
    sizes = {"k": 4, "vocab_size": 400, "minimum_domain_tokens": 100, "source": {"folder": folder and str(folder)}}
    return OmegaConf.merge(data, sizes, changes)


def read(folder: Path, **settings: object) -> tuple[list, Local]:
    source = Local(str(folder), **settings)
    return list(source.documents(folder)), source


def test_a_folder_becomes_a_corpus(tmp_path: Path) -> None:
    corpus = open_corpus(config(small(tmp_path / NAME)), tmp_path / "home", 0)
    assert corpus.specialists == ["law", "日本語"]
    for name in corpus.specialists:
        h = corpus.histogram(name)
        assert h.sum() == pytest.approx(1) and len(corpus.documents(name, "test")) >= 1
        assert corpus.rows(name, "validation").source.unique().tolist() == [f"specialists/{name}"]
    assert set(corpus.rows("generic", "train").source) == {"news", "forum", "."}
    assert corpus.passages.groupby(["source", "path"]).split.nunique().max() == 1
    path, tokens, size = corpus.documents("law", "test")[0]
    text = corpus.tokenizer.decode([t for t in tokens.tolist() if t])
    assert text == (tmp_path / NAME / path).read_text() and size == len(text.encode())


def test_the_path_goes_through_hydra(tmp_path: Path) -> None:
    folder = small(tmp_path / NAME)
    rule = 'data.specialists={forum: {source: forum, match: ["*"]}}'
    cfg = job_configs(["data=local", quoted(f"data.source.folder={folder}"), rule])[0][0]
    assert cfg.data.source.folder == str(folder) and cfg.data.specialists.forum.match == ["*"]
    assert fingerprint(cfg.data, 0)


def test_the_fingerprint_is_the_content_and_not_the_place(tmp_path: Path) -> None:
    first, second = small(tmp_path / "one"), small(tmp_path / NAME)
    known = fingerprint(config(first), 0)
    assert known == fingerprint(config(second), 0)
    file = second / "news" / "3.txt"
    before = file.stat()
    file.write_text(file.read_text().replace("news", "neus", 1))  # same size, and then the same time
    changed = fingerprint(config(second), 0)
    assert changed != known
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert fingerprint(config(second), 0) == changed
    file.rename(file.with_name("other.txt"))
    assert fingerprint(config(second), 0) not in (known, changed)
    assert known != fingerprint(config(first, source={"strict": True}), 0)


def test_rows_and_files_are_documents(tmp_path: Path) -> None:
    rows = [{"body": prose(i), "text": 1} for i in range(3)]
    folder = write(
        tmp_path,
        {
            "a/one.JSONL": "\n".join(map(json.dumps, rows)),
            "b/c/two.txt": "x" * 90 + "\nline two",
            "b/.hidden/three.txt": prose(9),
            "b/picture.png": b"\x89",
        },
    )
    pd.DataFrame({"body": [prose(5), prose(6), None]}).to_parquet(folder / "a" / "rows.parquet")
    documents, source = read(folder, text_field="body")
    names = {f"{d.source}|{d.path}": d.pieces for d in documents}
    assert sorted(names) == [
        "a|a/one.JSONL:000001",
        "a|a/one.JSONL:000002",
        "a|a/one.JSONL:000003",
        "a|a/rows.parquet:000000",
        "a|a/rows.parquet:000001",
        "b|b/c/two.txt",
    ]
    assert names["b|b/c/two.txt"] == ["x" * 90, "line two"]
    assert source.notes == {"row without text in column 'body', skipped": 1}
    with pytest.raises(UserError, match="has no column 'text', only body: set data.source.text_field"):
        read(folder)


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [
        ("Grüße " * 20, "Grüße " * 20, None),
        (("\ufeff" + "Grüße " * 20).encode("utf-8"), "Grüße " * 20, None),
        (("Grüße 日本 " * 20).encode("utf-16"), "Grüße 日本 " * 20, None),
        (("Grüße “so” " * 20).encode("cp1252"), "Grüße “so” " * 20, "not valid utf-8, read as cp1252 (latin-1)"),
        (("Grüße " * 20).encode("utf-16")[:-1], None, "not valid utf-16, read as cp1252 (latin-1)"),
        (b"PK\x03\x04\x00\x00" * 50, None, "binary content, skipped"),
        (bytes(range(1, 9)) * 50, None, "binary content, skipped"),
    ],
)
def test_encodings(tmp_path: Path, content: str | bytes, text: str | None, note: str | None) -> None:
    folder = write(tmp_path, {"good.txt": prose(0), "odd.txt": content})
    documents, source = read(folder)
    found = {d.path: "\n".join(d.pieces) for d in documents}
    assert list(source.notes) == ([note] if note else [])
    if text:
        assert found["odd.txt"] == text
    if note:
        with pytest.raises(UserError, match="^odd.txt: .*strict=false"):
            read(folder, strict=True)


def test_malformed_lines_are_counted_and_said_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [json.dumps({"text": prose(1)}), '{"text": ', "[1]", '{"other": "x"}', "", json.dumps({"text": prose(2)})]
    folder = write(tmp_path, {"rows.jsonl": "\n".join(lines).encode() + b'\n{"text": "\xff\xfe"}'})
    with caplog.at_level(logging.WARNING, "soe_bench"):
        documents, source = read(folder)
    assert [d.path for d in documents] == ["rows.jsonl:000001", "rows.jsonl:000006"]
    assert list(source.notes.values()) == [4]
    assert caplog.messages == [
        "4 x line that is no JSON object with a text field 'text', skipped; the first: rows.jsonl, line 2"
    ]
    with pytest.raises(UserError, match="rows.jsonl, line 2"):
        read(folder, strict=True)


def test_odd_characters_in_rows(tmp_path: Path) -> None:
    row = json.dumps({"text": "Grüße 日本 " * 20}, ensure_ascii=False)
    files = {
        "cut.jsonl": (row + "\n" + row).encode("utf-16")[:-3],
        "half.jsonl": '{"text": "' + "\\ud800 ab" * 20 + '"}',
        "latin.jsonl": row.replace("日本", "").encode("latin-1"),
    }
    documents, source = read(write(tmp_path, files))
    assert sorted(d.path for d in documents) == ["cut.jsonl:000001", "half.jsonl:000001"]
    assert documents[0].pieces[0].encode() and documents[1].pieces[0].encode() and list(source.notes.values()) == [2]


def test_a_damaged_parquet_file_is_skipped(tmp_path: Path) -> None:
    folder = write(tmp_path, {"a.txt": prose(0), "b.parquet": b"PAR1 no more"})
    documents, source = read(folder)
    assert len(documents) == 1 and list(source.notes) == ["damaged parquet file, skipped"]


@pytest.mark.parametrize("name", ["long.txt", "long.jsonl", "line.jsonl"])
def test_a_huge_file_is_read_in_a_stream(tmp_path: Path, name: str) -> None:
    line = {
        "long.txt": "a few words and more\n",
        "long.jsonl": json.dumps({"text": prose(0)}) + "\n",
        "line.jsonl": "no line break ",
    }[name]
    with (tmp_path / name).open("w") as stream:
        for _ in range(64):
            stream.write(line * (1_000_000 // len(line)))
    write(tmp_path, {"good.txt": prose(1)})
    tracemalloc.start()
    documents, source = read(tmp_path, characters_per_file=200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(d.characters for d in documents if d.path.startswith(name))
    assert peak < 8_000_000 and len(source.notes) == 1
    assert size == 0 if name == "line.jsonl" else 150_000 < size < 201_000


def test_a_source_is_capped(tmp_path: Path) -> None:
    folder = write(tmp_path, {f"a/{i}.txt": "x" * 100 for i in range(9)} | {"b/0.txt": "y" * 100})
    documents, source = read(folder, characters_per_source=250)
    assert [d.source for d in documents].count("a") == 2 and len(documents) == 3
    assert source.notes["file beyond data.source.characters_per_source, not read"] == 6


def test_a_document_of_one_token_is_left_out(tmp_path: Path) -> None:
    folder = write(small(tmp_path / "f"), {"specialists/law/tiny.txt": "a", "news/empty.txt": ""})
    corpus = open_corpus(config(folder), tmp_path, 0)
    assert not corpus.passages.path.isin(["specialists/law/tiny.txt", "news/empty.txt"]).any()
    notes = json.loads((corpus.path / "audit.json").read_text())["notes"]
    assert notes["document below 80 characters, left out"] == 2


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({}, {}, "there is no text in .*: add .txt, .md, .jsonl or .parquet files"),
        ({"a.txt": "a"}, {}, "no usable document in .*: see the warnings above"),
        ({"a.txt": prose(0)}, {}, "data.k = 4 is larger than the number of generic training passages"),
        ({"specialists/empty/note.pdf": "x"}, {}, "the specialist folder specialists/empty has no text: add .txt"),
        ({"specialists/one/a.txt": prose(1)}, {}, "one has no text for the split test: give it more documents"),
        ({"specialists/tiny/a.txt": "a"}, {}, "data.specialists.tiny matches no document"),
        (
            {},
            {"specialists": {"lost": {"source": "nowhere", "match": ["*"]}}},
            "data.specialists.lost matches no document: .* the sources are ., forum, news",
        ),
    ],
)
def test_bad_folders_are_refused_in_one_line(tmp_path: Path, files: dict, changes: dict, message: str) -> None:
    folder = write(tmp_path / "f", files)
    folder.mkdir(exist_ok=True)
    if message.split()[0] not in ("there", "no", "data.k"):
        small(folder)
    with pytest.raises(UserError, match=message) as error:
        open_corpus(config(folder, **changes), tmp_path, 0)
    assert "\n" not in str(error.value)


def test_text_without_words_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {f"{i}.txt": f"{i} " * 100 for i in range(100, 140)})
    with pytest.raises(UserError, match="too few different words"):
        open_corpus(config(folder), tmp_path, 0)


def test_too_little_text_for_two_domains_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not fill two domains of data.minimum_domain_tokens = 90000: lower it"):
        open_corpus(config(small(tmp_path / "f"), minimum_domain_tokens=90_000), tmp_path, 0)


def test_a_folder_must_be_given_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="add data.source.folder=FOLDER"):
        fingerprint(config(None), 0)
    with pytest.raises(UserError, match="there is no folder .*absent"):
        fingerprint(config(tmp_path / "absent"), 0)
