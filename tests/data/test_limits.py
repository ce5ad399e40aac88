"""How much is read of a large file, of a large source and in all, and what the warnings say of it."""

import json
import logging
import tracemalloc
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from own_texts import config, prose, read, write


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
    limit = "characters_per_source" if name == "long.jsonl" else "characters_per_file"
    documents, source = read(tmp_path, **{limit: 200_000})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(d.characters for d in documents if d.path.startswith(name))
    source.notes.pop("source read in part: raise data.source.characters_per_source to read more", None)
    assert peak < 8_000_000 and len(source.notes) == 1
    assert size == 0 if name == "line.jsonl" else 150_000 < size < 201_000


def test_a_source_is_capped(tmp_path: Path) -> None:
    folder = write(tmp_path, {f"a/{i}.txt": "x" * 100 for i in range(9)} | {"b/0.txt": "y" * 100})
    documents, source = read(folder, characters_per_source=250)
    assert [d.source for d in documents].count("a") == 2 and len(documents) == 3
    assert source.notes["file beyond data.source.characters_per_source, not read"] == 6
    assert source.notes["file beyond data.source.characters_per_source, cut"] == 1  # and not by characters_per_file


def test_all_sources_together_are_capped_and_a_small_one_is_read_whole(tmp_path: Path) -> None:
    """900 characters for three sources: b has 100 of its share of 300, so 400 are left for a and for c."""
    files = {f"{source}/{i}.txt": source * 100 for source in "ac" for i in range(9)} | {"b/0.txt": "b" * 100}
    documents, source = read(write(tmp_path, files), characters=900)
    assert Counter(d.source for d in documents) == {"a": 4, "b": 1, "c": 4}
    in_part = "source read in part: raise data.source.characters to read more"
    assert source.notes == {"file beyond data.source.characters, not read": 10, in_part: 2}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_file_of_rows_has_no_limit_of_its_own(tmp_path: Path, name: str) -> None:
    """As a folder of as many files has none. The longest row is cut, as a text file is."""
    texts = [prose(i) for i in range(20)] + ["x" * 2000]
    rows = [json.dumps({"text": text}) for text in texts]
    write(tmp_path, {"rows.jsonl": "\n".join(rows)})
    if name == "rows.parquet":
        (tmp_path / "rows.jsonl").unlink()
        pd.DataFrame({"text": texts}).to_parquet(tmp_path / name)
    documents, source = read(tmp_path, characters_per_file=1000)
    assert [d.pieces[0] for d in documents] == [*texts[:-1], "x" * 1000]
    assert source.notes == {"row of over 1,000 characters, cut": 1}


def test_the_warnings_say_what_is_left_out_and_which_setting_changes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "\n".join(json.dumps({"text": prose(i)}) for i in range(9_000))
    write(tmp_path, {"rows.jsonl": rows, "long.txt": "some words " * 20_000})
    with caplog.at_level(logging.WARNING, "soe_bench"):
        documents, _ = read(tmp_path, characters_per_file=100_000, characters_per_source=500_000)
    assert sum(len(d.pieces[0]) for d in documents if d.source == "rows.jsonl") == 500_000
    assert sorted(caplog.messages) == [
        "1 x file beyond data.source.characters_per_file, cut; the first: long.txt, 100,000 characters of 0.2 MB",
        "1 x file beyond data.source.characters_per_source, cut; the first: rows.jsonl, 500,000 characters of 4.4 MB",
        "1 x source read in part: raise data.source.characters_per_source to read more; "
        "the first: rows.jsonl, 500,000 characters of 4.4 MB",
    ]


def test_what_is_read_of_a_source_is_not_cut_again_for_training() -> None:
    data = config(None, source={"characters_per_source": 123})
    assert data.splits.generic.train.characters_per_source == 123
