"""A folder of the user's own text: sources, specialists, encodings, and every kind of bad input."""

import gzip
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import zstandard
from own_texts import config, prose, read, small, write

from soe_bench.config import job_configs, quoted
from soe_bench.data.builder import open_corpus
from soe_bench.data.corpus import fingerprint
from soe_bench.data.sources.local import Local
from soe_bench.data.sources.textfiles import KINDS, OTHER, POINTER
from soe_bench.data.summaries import read_summary
from soe_bench.errors import UserError

NAME = "my texts (1) 日本語"
DAMAGED = "damaged or not readable, skipped from there on"


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
    assert source.notes == {
        "row without text in 'body' (data.source.text_field), skipped": 1,
        "hidden file or folder, left out": 1,
        f"file of a kind that is not read (1 .png; read are {KINDS}), left out": 1,
    }
    assert "file without a column 'text' (data.source.text_field), skipped" in read(folder)[1].notes
    with pytest.raises(UserError, match="b/picture.png: file of a kind that is not read .*strict=false"):
        read(folder, text_field="body", strict=True)


def test_malformed_lines_are_counted_and_said_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [json.dumps({"text": prose(1)}), '{"text": ', "[1]", '{"other": "x"}', "", json.dumps({"text": prose(2)})]
    lines += ["null", '{"text": null}', '{"text": 0}', "[" * 100_000, '{"a":' * 100_000, '"text"']
    folder = write(tmp_path, {"rows.jsonl": "\n".join(lines).encode() + b'\n{"text": "\xff\xfe"}'})
    with caplog.at_level(logging.WARNING, "soe_bench"):
        documents, source = read(folder)
    assert [d.path for d in documents] == ["rows.jsonl:000001", "rows.jsonl:000006"]
    assert caplog.messages == [
        "6 x row that is no JSON object with fields, skipped; the first: rows.jsonl, line 2",
        "3 x row without text in 'text' (data.source.text_field), skipped; "
        "the first: rows.jsonl, line 4, which has other",
        f"1 x {OTHER}; the first: rows.jsonl, line 13",
        "1 x document below 80 characters, left out; the first: rows.jsonl:000013",
    ]
    assert list(source.notes.values()) == [6, 3, 1, 1]
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
    assert sorted(d.path for d in documents) == ["cut.jsonl:000001", "half.jsonl:000001", "latin.jsonl:000001"]
    assert all(d.pieces[0].encode() for d in documents)
    assert source.notes == {"row that is no JSON object with fields, skipped": 1, OTHER: 1}


NAMES = [
    "NA",
    "null",
    "007",
    "1e5",
    "cost$_5^$",
    "${oc.env:HOME}",
    "x" * 240,
    "🎉",
    "日本",
    "[a]*?",
    "a, b",
    "back\\slash",
]


def test_names_are_data(tmp_path: Path) -> None:
    folder = small(tmp_path / "f")
    for number, name in enumerate([os.fsencode(name) for name in NAMES] + [b"caf\xe9", b"two\nlines"]):
        for place in (b"specialists", b"."):
            there = os.path.join(os.fsencode(folder), place, name)
            os.makedirs(there)
            for i in range(5):
                with open(
                    os.path.join(there, name + b".txt" if i == 0 and len(name) < 200 else b"%d.md" % i), "wb"
                ) as file:
                    file.write(
                        prose(1000 * number + i + 50 * len(place), theme=f"w{'abcdefghijklmn'[number]}").encode()
                    )
    names = [*NAMES, "caf\\xe9", "two\\x0alines"]
    corpus = open_corpus(config(folder, embedding={"maximum_fraction": 1.0}), tmp_path / "home", 0)
    assert corpus.specialists == sorted([*names, "law", "日本語"])
    assert set(names) <= set(corpus.rows("generic", "train").source)
    for name in names:
        assert set(corpus.rows(name, "test").source) == {f"specialists/{name}"} and corpus.histogram(name).sum() > 0
    table = read_summary(corpus.path, "specialists")
    assert set(table.specialist) == {*names, "law", "日本語", "generic"} and table.tokens.sum() > 0
    assert set(corpus.passages.path[corpus.passages.source == "caf\\xe9"]) >= {"caf\\xe9/caf\\xe9.txt"}


def test_everything_left_out_is_counted_with_its_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files: dict[str, str | bytes] = {"a/good.txt": prose(0), "a/b.pdf": "x", "a/c.csv": "x", "a/d.parquet.gz": b"x"}
    files |= {
        "a/.git/x.txt": prose(1),
        ".env": "x",
        "specialists/law.txt": "x",
        "a/e.md": POINTER + b"v1\noid sha256:0",
    }
    files |= {"a/f.txt.gz": gzip.compress(prose(2).encode())[:-9], "a/é.txt": prose(3), "a/e\u0301.txt": prose(4)}
    folder = write(tmp_path, files)
    (folder / "a" / "gone.txt").symlink_to("nowhere")
    (folder / "a" / "itself.txt").symlink_to("itself.txt")
    (folder / "a" / "up").symlink_to("..")
    os.mkfifo(folder / "a" / "pipe.txt")
    with caplog.at_level(logging.WARNING, "soe_bench"):
        documents, source = read(folder)
    assert sorted(d.path for d in documents) == ["a/good.txt", "a/é.txt"]
    expected = {
        f"file of a kind that is not read (1 .pdf, 1 .csv, 1 .parquet.gz; read are {KINDS}), left out": (
            3,
            "a/b.pdf",
        ),
        "hidden file or folder, left out": (2, ".env"),
        "text file directly in specialists/, where each specialist has a folder, left out": (1, "specialists/law.txt"),
        "pointer of Git LFS without the content, skipped: `git lfs pull` fetches it": (1, "a/e.md"),
        DAMAGED: (1, "a/f.txt.gz (Truncated compressed stream)"),
        "file whose name reads like another one's, left out": (1, "a/é.txt"),
        "broken link, skipped": (2, "a/gone.txt"),
        "link to a folder that it lies in, left out": (1, "a/up"),
        "neither a file nor a folder, left out": (1, "a/pipe.txt"),
    }
    assert source.notes == {kind: count for kind, (count, _) in expected.items()}
    assert set(caplog.messages) == {f"{n} x {kind}; the first: {first}" for kind, (n, first) in expected.items()}


@pytest.mark.parametrize("name", ["b.pdf", "b.txt", "b"])
def test_strict_refuses_what_would_be_left_out(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, {"a.txt": prose(0), ".hidden": "x"})
    assert Local(str(folder), strict=True).identity() and len(read(folder, strict=True)[0]) == 1
    (folder / name).symlink_to("nowhere" if name == "b.txt" else "." if name == "b" else "a.txt")
    with pytest.raises(UserError, match=f"^{name}: .*strict=false"):
        Local(str(folder), strict=True).identity()


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    small(tmp_path / "f")
    elsewhere = write(tmp_path / "elsewhere", {f"{i}.txt": prose(700 + i, theme="med") for i in range(9)})
    (tmp_path / "f" / "specialists" / "med").symlink_to(elsewhere)
    (tmp_path / "f" / "more").symlink_to("news")
    (elsewhere / "again").symlink_to(elsewhere)
    source = Local(str(tmp_path / "f"))
    found = [d.source for d in source.documents(tmp_path)]
    assert found.count("specialists/med") == 9 and found.count("more") == found.count("news") == 20
    assert source.notes == {"link to a folder that it lies in, left out": 1} and "med" in source.specialists()


@pytest.fixture
def as_ordinary_user() -> Iterator[Path]:
    """A folder for a user whom permissions bind, which root's do not."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        os.seteuid(user or 65534)
        yield Path(folder)
        os.seteuid(user)


def test_unreadable_files_and_folders_are_counted(as_ordinary_user: Path) -> None:
    folder = write(as_ordinary_user, {"a.txt": prose(0), "b.txt": prose(1), "closed/c.txt": prose(2)})
    (folder / "b.txt").chmod(0)
    (folder / "closed").chmod(0)
    try:
        documents, source = read(folder)
        with pytest.raises(UserError, match="Permission denied.*strict=false"):
            Local(str(folder), strict=True).identity()
    finally:
        (folder / "closed").chmod(0o700)
    assert [d.path for d in documents] == ["a.txt"] and source.notes == {DAMAGED: 2}


def test_packed_text_is_read(tmp_path: Path) -> None:
    row = json.dumps({"text": prose(1)}).encode() + b"\n"
    packed = zstandard.ZstdCompressor().compress(row)
    files: dict[str, str | bytes] = {
        "a/one.TXT.GZ": gzip.compress(prose(0).encode()),
        "a/two.jsonl.zst": packed + packed,
    }
    files |= {"a/three.md.zst": zstandard.ZstdCompressor().compress(("Grüße " * 20).encode("utf-16"))}
    documents, source = read(write(tmp_path, files))
    found = {d.path: d.pieces[0] for d in documents}
    assert not source.notes and found == {
        "a/one.TXT.GZ": prose(0),
        "a/three.md.zst": "Grüße " * 20,
        "a/two.jsonl.zst:000001": prose(1),
        "a/two.jsonl.zst:000002": prose(1),
    }


def test_files_of_rows_at_the_top_are_sources_of_their_own(tmp_path: Path) -> None:
    row = json.dumps({"text": prose(1)})
    documents, _ = read(write(tmp_path, {"a.txt": prose(0), "b.md": prose(2), "c.jsonl": row, "d.jsonl": row}))
    assert sorted(d.source for d in documents) == [".", ".", "c.jsonl", "d.jsonl"]


@pytest.mark.parametrize("change", ["grow", "vanish"])
def test_a_file_that_changes_while_it_is_read_is_one_line(tmp_path: Path, change: str) -> None:
    folder = write(tmp_path, {f"{i}.txt": prose(i) for i in range(9)})
    documents = Local(str(folder)).documents(tmp_path)
    last = folder / max((f"{i}.txt" for i in range(9)), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    next(documents)
    last.write_text("another text " * 20, encoding="utf-8") if change == "grow" else last.unlink()
    with pytest.raises(UserError, match="files in .* changed while they were read: run again"):
        list(documents)


def test_a_damaged_parquet_file_is_skipped(tmp_path: Path) -> None:
    folder = write(tmp_path, {"a.txt": prose(0), "b.parquet": b"PAR1 no more"})
    documents, source = read(folder)
    assert len(documents) == 1 and list(source.notes) == [DAMAGED]


def test_a_document_of_one_token_is_left_out(tmp_path: Path) -> None:
    folder = write(small(tmp_path / "f"), {"specialists/law/tiny.txt": "a", "news/empty.txt": ""})
    corpus = open_corpus(config(folder), tmp_path, 0)
    assert not corpus.passages.path.isin(["specialists/law/tiny.txt", "news/empty.txt"]).any()
    notes = json.loads((corpus.path / "audit.json").read_text())["notes"]
    assert notes["document below 80 characters, left out"] == 2


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({}, {}, "there is no text in .*: add .txt, .md, .jsonl .also .gz or .zst of these. or .parquet"),
        ({"a.txt": "a"}, {}, "no usable document in .*: see the warnings above"),
        ({"a.txt": prose(0)}, {}, "data.k = 4 is larger than the number of generic training passages"),
        ({"specialists/empty/note.pdf": "x"}, {}, "^specialists/empty has no text that can be read: add .txt"),
        ({"specialists/generic/a.txt": prose(1)}, {}, "^the folder specialists/generic needs another name"),
        ({}, {"specialists": {"generic": {"source": "news", "match": ["*"]}}}, "'generic' cannot name a specialist"),
        ({}, {"specialists": {7: {"source": "news", "match": ["*"]}}}, "7 cannot name a specialist: choose a string"),
        ({"specialists/one/a.txt": prose(1)}, {}, "one has no text for the split test: give it more documents"),
        ({"specialists/tiny/a.txt": "a"}, {}, "the specialist tiny has no usable document"),
        (
            {},
            {"specialists": {"lost": {"source": "nowhere", "match": ["*"]}}},
            "the specialist lost has no usable document .* the sources are ., forum, news",
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


def test_the_kinds_of_files_that_are_not_read_are_named_with_their_counts(tmp_path: Path) -> None:
    names = ["a.rst", "b.RST", "c.tar.gz", "LICENSE", "Dr. Who's notes", *(f"x.{end}" for end in ("a", "b", "c"))]
    _, source = read(write(tmp_path, {"a.txt": prose(0), **dict.fromkeys(names, "x")}))
    [(said, count)] = source.notes.items()
    assert count == 8 and "(2 without an ending, 2 .rst, 1 .tar.gz, 1 .a, 1 .b, 1 more; read are .txt, .md" in said
