"""Real Japanese text, the translations inside a wheel of the corpora, as a folder of one's own."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from arguments import base_arguments

from soe_bench.config import job_configs
from soe_bench.data.builder import open_corpus
from soe_bench.data.sources.extract import translations
from soe_bench.data.sources.fetch import fetch
from soe_bench.data.summaries import read_summary
from soe_bench.system.files import home

SUBJECTS = {"管理画面": ("admin", "auth"), "地域と言語": ("conf",)}  # the administration's pages; languages and forms
ENTRIES = 20  # translations of a document


@pytest.mark.slow
@pytest.mark.network
def test_two_subjects_have_different_weights_and_readable_domains(tmp_path, shared_home):
    folder = tmp_path / "文書"
    with ZipFile(fetch("wheels.txt", ["django"], home() / "wheels")["django"]) as archive:
        for name, parts in SUBJECTS.items():
            files = [
                f for f in archive.namelist() if f.endswith("/ja/LC_MESSAGES/django.po") and f.split("/")[-5] in parts
            ]
            text = [line for file in files for line in translations(archive.read(file).decode()) if line]
            (folder / "specialists" / name).mkdir(parents=True)
            for start in range(0, len(text), ENTRIES):
                document = folder / "specialists" / name / f"{start}.txt"
                document.write_text("\n".join(text[start : start + ENTRIES]), encoding="utf-8")
    given = [
        "+sweep=pilot",
        "data=local",
        f"data.source.folder='{folder}'",
        "data.k=4",
        "data.vocab_size=600",
        "data.minimum_domain_tokens=200",
    ]
    (cfg, *_), _ = job_configs([*base_arguments(tmp_path, shared_home), *given])
    corpus = open_corpus(cfg.data, Path(cfg.home), 0)
    one, other = (corpus.histogram(name) for name in SUBJECTS)
    assert np.abs(one - other).sum() / 2 > 0.3
    terms = read_summary(corpus.path, "domains").set_index("domain").top_terms
    for h in (one, other):  # of ten terms; which documents are one domain depends on a processor's rounding
        assert sum(len(word) > 1 for word in terms[h.argmax()].split()) > 3
