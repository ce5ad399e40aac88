"""Hub data sets through `datasets`, on small local files of the same formats."""

import csv
import gzip
import json
import socket
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zstandard
from omegaconf import DictConfig

from soe_bench.config import job_configs, make
from soe_bench.data.builder import open_corpus
from soe_bench.data.corpus import fingerprint
from soe_bench.data.sources.huggingface import HuggingFace
from soe_bench.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "data"


def prose(seed: int, theme: str) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(f"{theme.lower()[:3]}{'abcdefghij'[a]}{'klmnopqrst'[b]}" for a, b in rng.integers(0, 10, (150, 2)))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The Pile's jsonl.zst with forty documents of each set, RedPajama's json.gz with sixty, and a parquet file."""
    folder = tmp_path / "copies (1) 日本"
    folder.mkdir()
    names = job_configs(["data=redpajama_v2"])[0][0].data.source.sets.pile.sources
    pile = [
        {"text": prose(100 * i + j, name), "meta": {"pile_set_name": name}}
        for j in range(40)
        for i, name in enumerate([*names, "Books3"])
    ]
    lines = "".join(json.dumps(row) + "\n" for row in pile)
    (folder / "val.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))
    web = [{"url": "u", "raw_content": prose(9000 + i, "wxyz"[i % 4]), "nlines": 1} for i in range(60)]
    with gzip.open(folder / "en_head.json.gz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in web)
    pd.DataFrame({"body": [row["raw_content"] for row in web]}).to_parquet(folder / "web.parquet")
    return {
        "pile": str(folder / "val.jsonl.zst"),
        "redpajama_v2": str(folder / "en_*.json.gz"),
        "parquet": str(folder / "web.parquet"),
    }


def config(files: dict[str, str], *overrides: str, name: str = "redpajama_v2") -> DictConfig:
    sets = [f"data.source.sets.{key}.files=['{files[key]}']" for key in (["pile", name] if name != "pile" else [name])]
    small = ["data.k=4", "data.vocab_size=400", "data.minimum_domain_tokens=100", "data.embedding.maximum_fraction=0.5"]
    return job_configs([f"data={name}", *sets, *small, *overrides])[0][0].data


def test_the_paper_s_corpora_end_in_the_same_artefact(files: dict[str, str], tmp_path: Path) -> None:
    corpus = open_corpus(config(files), tmp_path, 0)
    assert len(corpus.specialists) == 16 and "arxiv" in corpus.specialists
    assert corpus.passages[corpus.passages.specialist == "ubuntu"].source.unique().tolist() == ["pile/Ubuntu IRC"]
    assert corpus.rows("generic", "train").source.unique().tolist() == ["redpajama_v2"]
    assert corpus.histogram("wikipedia").sum() == pytest.approx(1)


def test_the_pile_alone_gives_generic_text_too(files: dict[str, str], tmp_path: Path) -> None:
    data = config(files, "data.source.sets.pile.sources=[ArXiv,Pile-CC]", name="pile")
    data.specialists = {"arxiv": data.specialists.arxiv}
    data.splits.generic.test.fraction = data.splits.generic.validation.fraction = 0.2
    corpus = open_corpus(data, tmp_path, 0)
    assert set(corpus.rows("generic", "train").source) == {"pile/ArXiv", "pile/Pile-CC"}
    assert corpus.specialists == ["arxiv"]


def test_parquet_and_caps(files: dict[str, str], tmp_path: Path) -> None:
    whole = {
        "format": "parquet",
        "files": [files["parquet"]],
        "text_field": "body",
        "source_field": None,
        "sources": None,
        "rows": 1000,
        "documents_per_source": 1000,
        "characters_per_source": 10**9,
    }
    target = {"_target_": "soe_bench.data.sources.huggingface.HuggingFace"}
    for changes, count in (
        ({}, 60),
        ({"documents_per_source": 7}, 7),
        ({"rows": 9}, 9),
        ({"characters_per_source": 2000}, 4),
    ):
        source = make({**target, "sets": {"web": whole | changes}})
        documents = list(source.documents(tmp_path))
        assert len(documents) == count and documents[0].source == "web" and documents[0].path == "000000001"
    with pytest.raises(UserError, match="web: none of 60 rows has text .the last one has body.: correct text_field"):
        list(make({**target, "sets": {"web": whole | {"text_field": "text"}}}).documents(tmp_path))


def test_the_fingerprint_is_content_or_address(files: dict[str, str]) -> None:
    known = fingerprint(config(files), 0)
    moved = Path(files["pile"]).parent.with_name("elsewhere")
    Path(files["pile"]).parent.rename(moved)
    there = {key: str(moved / Path(file).name) for key, file in files.items()}
    assert fingerprint(config(there), 0) == known
    Path(there["pile"]).write_bytes(b"other")
    assert fingerprint(config(there), 0) != known
    hub = job_configs(["data=redpajama_v2"])[0][0].data
    assert fingerprint(hub, 0) == fingerprint(hub, 0) != known
    hub.source.sets.pile.rows = 5
    assert fingerprint(hub, 0) != fingerprint(job_configs(["data=redpajama_v2"])[0][0].data, 0)


def test_bad_files_are_one_line(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pile: no document of Books4 in .*raise data.source.sets.pile.rows"):
        open_corpus(config(files, "data.source.sets.pile.sources=[ArXiv,Books4]"), tmp_path, 0)
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"te\n')
    for path, message in (
        (tmp_path / "bad.jsonl", "pile: none of 2 rows has text and meta.pile_set_name .*: correct text_field"),
        (tmp_path / "absent.jsonl", "there is no file"),
    ):
        with pytest.raises(UserError, match=message) as error:
            open_corpus(config(files | {"pile": str(path)}), tmp_path, 0)
        assert "\n" not in str(error.value)


def test_malformed_rows_and_files_are_counted(tmp_path: Path) -> None:
    names: list[object] = ["a", 0, False, 1.5, "", "\ud800"]
    rows = [json.dumps({"text": f"row {i}", "meta": {"of": name}}) for i, name in enumerate(names)]
    rows += [
        '{"te',
        "null",
        "[1]",
        "[" * 100_000,
        "",
        '{"text": 7, "meta": {"of": "a"}}',
        '{"text": " \\n", "meta": {"of": "a"}}',
        '{"text": "b", "meta": null}',
    ]
    rows += ['{"text": "c", "meta": {"of": null}}', '{"text": "last", "meta": {"of": "a"}, "more": {"x": 1}}']
    (tmp_path / "[1] a.jsonl").write_bytes("\n".join(rows).encode() + b'\n{"text": "\xff", "meta": {"of": "a"}}')
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"cut short" * 100)[:-9])
    (tmp_path / "c.jsonl").write_text('{"text": "whole", "meta": {"of": "z"}}', encoding="utf-8")
    one = {"format": "json", "files": [str(tmp_path / "[[]1] a.jsonl"), str(tmp_path / "[bc].jsonl*")]}
    one |= {"text_field": "text", "source_field": "meta.of", "sources": None}
    one |= {"rows": 1000, "documents_per_source": 1000, "characters_per_source": 10**9}
    source = HuggingFace({"web": one})
    found = [(d.source, d.pieces[0]) for d in source.documents(tmp_path)]
    sources = ["web/a", "web/0", "web/false", "web/1.5", "web/", "web/?"]
    assert found == [(name, f"row {i}") for i, name in enumerate(sources)] + [("web/a", "last"), ("web/z", "whole")]
    assert source.notes == {
        "row without text in data.source.sets.web.text_field, skipped": 7,
        "row without a name in data.source.sets.web.source_field, skipped": 2,
        "damaged or not readable, skipped from there on": 1,
    }
    source = HuggingFace({"web": one | {"sources": [0, False]}})
    assert [d.source for d in source.documents(tmp_path)] == ["web/0", "web/false"]


def test_a_wrong_field_is_found_within_the_first_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' * 5000, encoding="utf-8")
    one = {"format": "json", "files": [str(tmp_path / "a.jsonl")], "text_field": "body", "source_field": None}
    one |= {"sources": None, "rows": 5000, "documents_per_source": 9, "characters_per_source": 9}
    with pytest.raises(UserError, match="web: none of 1000 rows has body .the last one has text.: correct text_field"):
        list(HuggingFace({"web": one}).documents(tmp_path))


@pytest.mark.parametrize("data", ["redpajama_v2", "pile"])
def test_a_hub_out_of_reach_is_one_line_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    start = time.perf_counter()
    with pytest.raises(UserError, match=f"^{data} cannot be read .*: check the network .*data=wheels") as error:
        open_corpus(job_configs([f"data={data}"])[0][0].data, tmp_path, 0)
    assert "\n" not in str(error.value) and time.perf_counter() - start < 30


def test_every_specialist_stands_in_the_availability_sheet() -> None:
    with (CONF / "availability.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert all(all(row.values()) for row in rows)
    for name in job_configs(["data=redpajama_v2"])[0][0].data.specialists:
        assert any(row["used_for"] == f"specialist {name}" for row in rows), name
