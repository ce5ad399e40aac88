"""The layout of a folder: its specialists, folders with few documents, and what is said where there is too little."""

from pathlib import Path

import pandas as pd
import pytest
from own_texts import config, prose, small, write

from soe_bench.config import make
from soe_bench.data.builder import open_corpus, read
from soe_bench.data.sizing import sized
from soe_bench.data.sources.document import Document
from soe_bench.data.sources.local import Local
from soe_bench.data.splits import GENERIC, claim, passages
from soe_bench.errors import UserError


def splits(folder: Path) -> dict[str, set[str]]:
    """split -> the paths of its generic documents."""
    data = config(folder)
    table = passages(claim(list(Local(str(folder)).documents(folder)), {}), data)
    return table[table.specialist == GENERIC].groupby("split").path.agg(set).to_dict()


def test_many_small_sources_are_held_out_together(tmp_path: Path) -> None:
    """A tenth of four documents is none, but a tenth of all 240 is 24."""
    found = splits(write(tmp_path, {f"{s}/{i}.txt": prose(4 * s + i) for s in range(60) for i in range(4)}))
    assert {split: len(paths) for split, paths in found.items()} == {"test": 24, "validation": 24, "train": 192}
    assert not found["test"] & found["validation"]


def test_one_larger_source_is_held_out_of_as_before(tmp_path: Path) -> None:
    files = {f"{s}/{i}.txt": prose(6 * s + i) for s in range(60) for i in range(6 if s == 7 else 4)}
    found = splits(write(tmp_path, files))
    assert [len(found[split]) for split in ("test", "validation")] == [1, 1]
    assert all(path.startswith("7/") for path in found["test"] | found["validation"])


def test_each_of_the_small_sources_has_its_own_limit_for_training() -> None:
    documents = [Document(f"s{s}", f"{i}", [prose(4 * s + i, words=400)]) for s in range(10) for i in range(4)]
    data = config(None, splits={"generic": {"train": {"characters_per_source": 1}}})
    table = passages(claim(documents, {}), data)
    assert table[table.split == "train"].groupby("source").path.nunique().tolist() == [1] * 10


@pytest.mark.parametrize("name", ["law.jsonl", "law.parquet", "law.jsonl.gz"])
def test_a_file_of_rows_in_specialists_is_a_specialist(tmp_path: Path, name: str) -> None:
    folder = small(tmp_path / "texts")
    rows = pd.DataFrame({"text": [prose(800 + i, theme="tax") for i in range(8)]})
    file = folder / "specialists" / name
    rows.to_parquet(file) if name == "law.parquet" else rows.to_json(file, orient="records", lines=True)
    corpus = open_corpus(config(folder), tmp_path / "home", 0)
    assert corpus.specialists == sorted(["law", name, "日本語"])
    assert set(corpus.rows(name, "test").source) == {f"specialists/{name}"}
    assert len(corpus.passages[corpus.passages.specialist == name]) == 8


@pytest.mark.parametrize("name", ["Specialists", "SPECIALIST", "specialist"])
def test_a_folder_whose_name_is_nearly_specialists_is_refused(tmp_path: Path, name: str) -> None:
    folder = write(small(tmp_path / "texts"), {f"{name}/law/a.txt": prose(1)})
    with pytest.raises(UserError, match=f"^is each folder in {name}/ a specialist. Then call it specialists, else"):
        Local(str(folder)).identity()
    (folder / name).rename(folder / "special")
    assert list(Local(str(folder)).specialists()) == ["law", "日本語"]


def test_a_pilot_without_specialists_says_how_to_lay_them_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = {f"{i}.txt": prose(i) for i in range(40)} | {"specialists/law.txt": prose(50)}
    folder = write(tmp_path / "texts", files)
    sized(["+sweep=pilot", f"data.source.folder='{folder}'"])
    said = capsys.readouterr().err
    assert "warning: the folder has no specialists" in said and f"such as {folder}/specialists/contracts" in said
    write(folder, {f"specialists/law/{i}.txt": prose(60 + i, words=400) for i in range(9)})
    sized(["+sweep=pilot", f"data.source.folder='{folder}'"])
    assert "warning: the folder" not in capsys.readouterr().err


def test_more_passes_than_the_text_is_good_for_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    given = ["+sweep=pilot", f"data.source.folder='{small(tmp_path / 'texts')}'"]
    said = []
    for tokens in ("280_000", "320_000"):
        sized([*given, f"train.tokens={tokens}"])
        said.append(capsys.readouterr())
    assert "14.9 passes over it" in said[0].out and "17.1 passes over it" in said[1].out
    says = "warning: in more than 16 passes the models partly memorise this text: add text\n"
    assert [each.err for each in said] == ["", says]


@pytest.mark.parametrize(("fraction", "needed"), [(0.0, 3), (0.25, 4), (0.4, 5), (0.7, 10)])
def test_a_specialist_with_too_few_documents_is_told_how_many_it_needs(
    tmp_path: Path, fraction: float, needed: int
) -> None:
    folder = small(tmp_path / "texts")
    data = config(folder, source={"generic_fraction": fraction})
    for count in range(1, needed + 1):
        write(folder, {f"specialists/few/{count}.txt": prose(700 + count, theme="few")})
        rules = {"few": Local(str(folder), generic_fraction=fraction).specialists()["few"]}
        if count in (1, 2):
            with pytest.raises(UserError, match=f"^few has no text .*: it needs {needed} or more of about"):
                read(make(data.source), rules, data, tmp_path)
    read(make(data.source), rules, data, tmp_path)


def test_a_specialist_that_gives_all_its_text_away_is_told_so(tmp_path: Path) -> None:
    folder = small(tmp_path / "texts")
    with pytest.raises(UserError, match="law has no text for the split test: lower its generic_fraction, which gives"):
        open_corpus(config(folder, source={"generic_fraction": 1.0}), tmp_path / "home", 0)
