"""A small trained soup and its generic run on synthetic text, and documents in that text's manner."""

from pathlib import Path

from arguments import base_arguments

from soe_bench.config import job_configs
from soe_bench.data.corpus import Corpus
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run

SHORT = ["train.tokens=20480", "train.validations=1", "evaluate.controls=[]", "evaluate.splits=[test]"]
SOUP = ["method=soup", "method.parent=null", "method.n_experts=4", *SHORT]


def train(folder: Path, shared_home: Path, *settings: str) -> Path:
    """The folder of the finished run of these settings."""
    cfg = job_configs([*base_arguments(folder, shared_home), *settings])[0][0]
    execute(cfg)
    return Run.of(cfg).folder


def write_documents(folder: Path, corpus: Corpus, specialist: str, count: int, split: str = "train") -> Path:
    """Text files with the text of a specialist of the corpus, one for each of `count` documents."""
    folder.mkdir(parents=True)
    documents = list(corpus.rows(specialist, split).groupby(["source", "path"], sort=False))[:count]
    assert len(documents) == count
    for number, (_, rows) in enumerate(documents):
        (folder / f"{number}.txt").write_text("\n".join(corpus.texts(rows)), encoding="utf-8")
    return folder
