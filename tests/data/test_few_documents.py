"""Folders with few documents: what is held out of them, and what is said where that is too little."""

from pathlib import Path

from own_texts import config, prose, write

from soe_bench.data.sources.document import Document
from soe_bench.data.sources.local import Local
from soe_bench.data.splits import GENERIC, claim, passages


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
