"""The text of a specialist of a soup's own corpus, in the parts that the corpus divided it into."""

from __future__ import annotations

import numpy as np
import pandas as pd

from soe_bench.specialists import gate
from soe_bench.specialists.new_documents import Documents, trained_on
from soe_bench.specialists.trained import TrainedSoup

PARTS = {"estimate": "estimate", "validation": "validation", "test": "gate"}


class OwnDocuments(Documents):
    """h rests on the split estimate, as in the benchmark, and the gate on all of the split test, so that the losses
    are those of the records. `passages` has the column `split` too; the split train is in no part. `trained` is that
    of the split test."""

    estimate_documents = None  # all of the split

    @property
    def units(self) -> int:
        """Documents of the gate's part, or its passages if they are too few."""
        return self.parts(choices=False)["gate"].unit.nunique()

    def by_passage(self, choices: bool) -> bool:
        """Whether too few documents are held out, so that their passages are the units."""
        rows = self.passages
        return rows.path[rows.split == "test"].nunique() < gate.LEAST

    def parts(self, choices: bool) -> dict[str, pd.DataFrame]:
        rows = self.passages
        unit = rows.index if self.by_passage(choices) else rows.path
        return dict(list(rows.assign(unit=unit).groupby(rows.split.map(PARTS))))

    def held_out(self, rows: pd.DataFrame) -> tuple[list[np.ndarray], np.ndarray]:
        units = [unit for _, unit in rows.groupby("unit", sort=False)]
        return [self.joined(unit) for unit in units], np.array([unit.bytes.sum() for unit in units])


def own_documents(soup: TrainedSoup, name: str) -> OwnDocuments:
    """The documents of a specialist of the corpus that the soup was trained on. The corpus must be there, as it is
    beside a run."""
    corpus = soup.corpus
    assert corpus is not None
    rows = corpus.passages[corpus.passages.specialist == name]
    table = rows.assign(text=corpus.texts(rows), ids=[tokens[1:] for tokens in corpus.tokens(rows)])
    trained = trained_on(table[table.split == "test"], soup)
    return OwnDocuments(table, [], 0.0, soup.tokenizer.encode("\n").ids[0], trained)
