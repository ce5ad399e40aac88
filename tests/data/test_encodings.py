"""Encodings of text files and rows: which one a file is read in, what is replaced, and what the warnings say."""

import json
import logging
from pathlib import Path

import pytest
from own_texts import prose, read, write

from soe_bench.config import job_configs
from soe_bench.errors import UserError

OTHER = "not valid utf-8, read as cp1252, Windows' latin-1 (data.source.encoding)"
DAMAGED = "damaged utf-8, its bad bytes replaced by a mark (U+FFFD)"
GERMAN = "Die Grüße der schönen Müllerin hören nicht auf. " * 20
ENGLISH = "It said “so” once. " + "And then nothing but plain words came for a long time. " * 50
JAPANESE = "契約の裁判を見る。" * 40


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [
        ("Grüße " * 20, "Grüße " * 20, None),
        (("\ufeff" + "Grüße " * 20).encode("utf-8"), "Grüße " * 20, None),
        (("Grüße 日本 " * 20).encode("utf-16"), "Grüße 日本 " * 20, None),
        (("Grüße “so” " * 20).encode("cp1252"), "Grüße “so” " * 20, OTHER),
        (("Grüße " * 20).encode("utf-16")[:-1], None, DAMAGED.replace("utf-8", "utf-16")),
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


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [
        (GERMAN.encode() + b"\xfc", GERMAN + "\ufffd", DAMAGED),
        (ENGLISH.encode() + b"\xfc", ENGLISH + "\ufffd", DAMAGED),
        (JAPANESE.encode()[:-1], JAPANESE[:-1] + "\ufffd", DAMAGED),
        (GERMAN.encode("cp1252"), GERMAN, OTHER),
        (ENGLISH.encode("cp1252"), ENGLISH, OTHER),
        (("É” " + GERMAN).encode("cp1252"), "É” " + GERMAN, OTHER),  # É” in cp1252 is valid UTF-8 by chance
    ],
)
def test_one_bad_byte_does_not_make_another_encoding(tmp_path: Path, content: bytes, text: str, note: str) -> None:
    documents, source = read(write(tmp_path, {"a.txt": content}))
    assert documents[0].pieces == [text] and source.notes == {note: 1}
    with pytest.raises(UserError, match="^a.txt: .*strict=false"):
        read(tmp_path, strict=True)


def test_an_encoding_that_is_given_is_for_every_file_without_a_mark(tmp_path: Path) -> None:
    plain = {"a.txt": JAPANESE.encode("shift_jis"), "b.md": JAPANESE.encode("utf-16")}
    documents, source = read(write(tmp_path / "shift_jis", plain), encoding="shift_jis")
    assert [d.pieces for d in documents] == [[JAPANESE]] * 2 and source.notes == {}
    wide = {"a.txt": prose(0).encode("utf-16-le"), "b.txt": b"\x01\x00\x02\x00" * 50, "c.txt": b"PK\x03\x04" * 50}
    documents, source = read(write(tmp_path / "utf-16-le", wide), encoding="utf-16-le")
    assert [d.path for d in documents] == ["a.txt", "c.txt"] and source.notes == {"binary content, skipped": 1}
    documents, source = read(write(tmp_path / "bad", {"a.txt": plain["a.txt"] + b"\x81"}), encoding="shift_jis")
    assert source.notes == {DAMAGED.replace("utf-8", "shift_jis"): 1} and documents[0].pieces[0].startswith(JAPANESE)


@pytest.mark.parametrize("name", ["nosuch", "zip", "7", "''"])
def test_an_encoding_that_python_has_not_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match="^data.source.encoding is .*: it must be null, or an encoding that Python"):
        job_configs(["data=local", f"data.source.encoding={name}"])


def test_an_encoding_is_a_setting() -> None:
    assert job_configs(["data=local", "data.source.encoding=gb18030"])[0][0].data.source.encoding == "gb18030"
    assert job_configs(["data=local"])[0][0].data.source.encoding is None


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [(GERMAN.encode("cp1252"), GERMAN, OTHER), (GERMAN.encode() + b"\xfc", GERMAN + "\ufffd", DAMAGED)],
)
def test_rows_are_read_as_text_files_are(tmp_path: Path, content: bytes, text: str, note: str) -> None:
    good = json.dumps({"text": JAPANESE}, ensure_ascii=False).encode()
    documents, source = read(write(tmp_path, {"a.jsonl": good + b'\n{"text": "' + content + b'"}'}))
    assert [d.pieces for d in documents] == [[JAPANESE], [text]] and source.notes == {note: 1}
    with pytest.raises(UserError, match="^a.jsonl, line 2: .*strict=false"):
        read(tmp_path, strict=True)


def test_rows_in_an_encoding_that_is_given(tmp_path: Path) -> None:
    row = json.dumps({"text": JAPANESE}, ensure_ascii=False).encode("shift_jis")
    documents, source = read(
        write(tmp_path, {"a.jsonl": row + b"\n" + row.replace(b'"}', b'\x81"}')}), encoding="cp932"
    )
    assert documents[0].pieces == [JAPANESE] and documents[1].pieces[0].startswith(JAPANESE)
    assert source.notes == {DAMAGED.replace("utf-8", "cp932"): 1}


def test_each_reason_for_a_row_without_text_is_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [json.dumps({"body": "a", "title\n": "b"}), '{"text": ', json.dumps({"text": JAPANESE})]
    with caplog.at_level(logging.WARNING, "soe_bench"):
        documents, _ = read(write(tmp_path, {"a.jsonl": "\n".join(rows)}))
    assert len(documents) == 1 and caplog.messages == [
        "1 x row without text in 'text' (data.source.text_field), skipped; "
        "the first: a.jsonl, line 1, which has body, title",
        "1 x row that is no JSON object with fields, skipped; the first: a.jsonl, line 2",
    ]
