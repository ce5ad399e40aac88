"""A view: the records that may be compared with each other (one scale, model and data), labelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import pandas as pd

from soe_bench.errors import UserError
from soe_bench.records import outside
from soe_bench.report.format import slug
from soe_bench.report.load import Results
from soe_bench.report.stats import Difference, mean, paired_difference

SETTING = ["scale", "model", "data", "data_fingerprint"]
GENERIC_TEXT = "generic"  # the specialist that is the generic held-out text
MISSING = "missing"
CENTROIDS = "nearest_centroid"  # the estimator of Algorithm 3
# What tells two runs of one method apart, where it differs within a view.
VARIANTS = {
    "training_tokens": lambda value: f"{value / 1e6:.3g}M tokens",
    "pi": lambda value: f"pi={value}",
    "draws_per_step": lambda value: f"draws={value}",
    "recipe": lambda value: f"recipe {value[:6]}",
}


@dataclass(frozen=True, eq=False)  # equal to itself alone, so that `_cells` can be cached
class View:
    """The records of one setting, with `label` and `seed`. `drawn`: those with h from randomly drawn documents. `all`:
    all others, except those of other estimators of h. `records`: those of `all` on test text without fine-tuning.

    `suffix` goes on the names of its files. `corpus`: the rows of specialists.csv on this data."""

    suffix: str
    setting: dict[str, str]
    records: pd.DataFrame
    all: pd.DataFrame
    drawn: pd.DataFrame
    labels: dict[str, str]  # run id -> label
    corpus: pd.DataFrame

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The first record of each run."""
        return self.records.drop_duplicates("run_id")

    @cached_property
    def methods(self) -> pd.DataFrame:
        """The first record of each label, which indexes them."""
        return self.records.drop_duplicates("label").set_index("label")

    @property
    def title(self) -> str:
        """One line: scale, model, corpus."""
        return f"scale {self.setting['scale']}, model {self.setting['model']}, {self.text}"

    @property
    def text(self) -> str:
        """What the losses are on, in words: the corpus."""
        return f"corpus {self.setting['data']} {self.setting['data_fingerprint'][:12]}"

    def same_text(self, other: "View") -> bool:
        """Whether the losses of both are on the same text: that of one corpus. Model and scale may differ."""
        return all(self.setting[key] == other.setting[key] for key in ("data", "data_fingerprint"))

    @cached_property
    def order(self) -> list[str]:
        """Labels in the order of every table and legend: references, other methods, then by number of experts, the
        soups last."""
        rank = {"generic": 0, "dense_on_pi": 1, "soup": 4}
        keys = {
            row.Index: (rank.get(row.method, 2 if row.n_experts == 0 else 3), row.method, row.n_experts, row.Index)
            for row in self.methods.itertuples()
        }
        return sorted(keys, key=keys.__getitem__)

    @cached_property
    def shown(self) -> list[str]:
        """The labels that figures of methods choose from: without the runs with another pi than most of their
        method, which have a figure of their own (`support`). All, where no pi is that of most."""
        others = _unusual(self.runs, "pi")
        hidden = set(self.runs.label[others & ~others.groupby(self.runs.method).transform("all")])
        return [label for label in self.order if label not in hidden]

    @cached_property
    def specialists(self) -> list[str]:
        """Specialists with a record, sorted, without the generic text."""
        return sorted(set(self.records.specialist) - {GENERIC_TEXT})

    @cached_property
    def outside(self) -> list[str]:
        """The specialists that are flagged as outside the corpus, sorted."""
        return outside(self.corpus, self.setting["data_fingerprint"])

    @cached_property
    def within(self) -> list[str]:
        """The specialists with a record that are not."""
        return [name for name in self.specialists if name not in self.outside]

    @cached_property
    def averaged(self) -> list[str]:
        """The specialists that means are over: those within the corpus, or all where none is."""
        return self.within or self.specialists

    def cells(self, h_source: str | None = None, split: str = "test", budget: int = 0) -> pd.DataFrame:
        """One row per (label, specialist, seed), fine-tuned on `budget` tokens of the specialist's text. Default: each
        method at what it knows of h without looking at the test text: h_source estimate (none for methods that take no
        h) for specialists, h_0 for generic text."""
        return _cells(self, h_source, split, budget)

    def draws(self) -> pd.DataFrame:
        """One row per (label, specialist, seed, estimator, n_documents, document_draw): h estimated from that many
        drawn documents of the specialist; test text, budget 0."""
        rows = self.drawn[(self.drawn.split == "test") & (self.drawn.budget_tokens == 0) & self.drawn.label.notna()]
        rows = rows[(rows.h_source == "estimate") & rows.estimator.notna() & (rows.specialist != GENERIC_TEXT)]
        return _one_each(rows, ["label", "specialist", "seed", "estimator", "n_documents", "document_draw"])

    def losses(
        self,
        label: str,
        h_source: str | None = None,
        split: str = "test",
        budget: int = 0,
        specialists: Sequence[str] | None = None,
    ) -> pd.Series:
        """Losses (nats/token) of one label, indexed (specialist, seed), on the named specialists, of which GENERIC_TEXT
        may be one (None: all, without it)."""
        losses = _losses(self, label, h_source, split, budget)
        names = losses.index.get_level_values("specialist")
        return losses[names != GENERIC_TEXT if specialists is None else names.isin(specialists)]

    def seed_means(self, losses: pd.Series, specialists: Sequence[str] | None = None) -> pd.Series:
        """Mean over the specialists (None: `averaged`) for each seed; empty if a (specialist, seed) has no record, or
        there is no specialist."""
        table = losses.unstack("seed").reindex(self.averaged if specialists is None else specialists)
        return pd.Series(dtype=float) if table.empty or table.isna().any(axis=None) else table.apply(mean, axis=0)

    def by_seed(self, label: str, specialists: Sequence[str] | None = None) -> dict[str, pd.Series]:
        """Of a label by seed: its mean loss over the `specialists` (None: `averaged`), its loss on `generic` text, and
        the `difference` of that mean to the generic run's. Empty if it lacks a specialist."""
        means, generic = self.seed_means(self.losses(label), specialists), self.generic_for(label)
        if means.empty:
            return {}
        found = {"specialists": means, "generic": self.losses(label, specialists=[GENERIC_TEXT]).droplevel(0)}
        if generic not in (None, label):
            found["difference"] = (means - self.seed_means(self.losses(generic), specialists)).dropna()
        return found

    def generic_for(self, label: str) -> str | None:
        """The generic run to compare with: the one with as many training tokens, among several with as many draws per
        step too; None if there is none, or no single one."""
        rows = self.methods
        generics = rows[(rows.method == "generic") & (rows.training_tokens == rows.training_tokens[label])]
        if len(generics) > 1:
            generics = generics[generics.draws_per_step == rows.draws_per_step[label]]
        return generics.index[0] if len(generics) == 1 else None

    def to_generic(self, label: str) -> Difference | None:
        """Paired difference to the generic run of `generic_for` on all specialists; None if there is none, or for that
        run itself."""
        generic = self.generic_for(label)
        return None if generic in (None, label) else paired_difference(self.losses(label), self.losses(generic))


def make_views(results: Results) -> list[View]:
    """The views of a results folder, most records first; the first has no suffix on its file names."""
    if results.records is None:
        return []
    rows = results.records.copy()
    data, init, mix = (rows[f"seed_{part}"].astype(str) for part in ("data", "init", "mix"))
    rows["seed"] = data.where((data == init) & (data == mix), data + "/" + init + "/" + mix)  # equal is the rule
    drawn = rows.document_draw.notna()
    # From all documents by another estimator: of no use but beside drawn ones, of which the differences are taken.
    other = (rows.h_source == "estimate") & rows.estimator.notna() & (rows.estimator != CENTROIDS)
    rows["main"] = (rows.split == "test") & (rows.budget_tokens == 0) & ~drawn & ~other
    groups = [(setting, group) for setting, group in rows.groupby(SETTING) if group.main.any()]
    views = []
    for number, (setting, group) in enumerate(sorted(groups, key=lambda group: (-group[1].main.sum(), group[0]))):
        scale, model, data, fingerprint = setting
        suffix = f"_{slug(f'{scale}-{model}-{data}-{fingerprint[:8]}')}" if number else ""
        labels = _labels(group[group.main])
        group = group.assign(label=group.run_id.map(labels))
        splits = (group[mask.loc[group.index]] for mask in (rows.main, ~drawn & ~other, drawn))
        corpus = results.specialists[results.specialists.data_fingerprint == fingerprint]
        views.append(View(suffix, dict(zip(SETTING, setting, strict=True)), *splits, labels, corpus))
    return views


@lru_cache
def _cells(view: View, h_source: str | None, split: str, budget: int) -> pd.DataFrame:
    """What `View.cells` returns: the tables ask for the same cells a thousand times."""
    rows = view.all[(view.all.split == split) & (view.all.budget_tokens == budget)]
    generic = rows.specialist == GENERIC_TEXT
    if h_source is None:
        keep = rows.h_source.isin(["estimate", "none"]) & ~generic | rows.h_source.isin(["h_0", "none"]) & generic
    else:
        keep = (rows.h_source == h_source) & ~generic
    return _one_each(rows[keep], ["label", "specialist", "seed"])


@lru_cache
def _losses(view: View, label: str, h_source: str | None, split: str, budget: int) -> pd.Series:
    """The losses of one label on all specialists and on generic text, which the claims ask for again and again."""
    rows = view.cells(h_source, split, budget)[["label", "specialist", "seed", "loss"]]
    return rows[rows.label == label].set_index(["specialist", "seed"]).loss


def _one_each(rows: pd.DataFrame, cell: list[str]) -> pd.DataFrame:
    """The rows, if no two agree in `cell`. Raises UserError that names the lines of two that do."""
    double = rows[rows.duplicated(cell, keep=False) & rows.label.notna()].sort_values([*cell, "line"])
    if len(double):
        one, two = double.iloc[:2].itertuples()
        raise UserError(
            f"evaluations.csv:{one.line} and :{two.line}: two values for {one.label!r}, {one.specialist}, "
            f"seed {one.seed} that the report cannot tell apart: keep the runs of one recipe in this folder"
        )
    return rows


def _labels(rows: pd.DataFrame) -> dict[str, str]:
    """Run id -> label: method, number of experts, and what else tells it apart from most runs of that method (see
    `_unusual`); the recipe only where nothing else does."""
    runs = rows.drop_duplicates("run_id").set_index("run_id")
    known = [field for field in VARIANTS if field != "recipe"]
    recipes = runs.groupby(["method", "n_experts", *known], dropna=False).recipe.transform("nunique")
    unusual = pd.DataFrame({field: _unusual(runs, field) for field in known} | {"recipe": recipes > 1})
    labels = {}
    for run_id, run in runs.iterrows():
        words = [VARIANTS[field](run[field]) for field in VARIANTS if unusual[field][run_id]]
        labels[run_id] = ", ".join([f"{run.method} n={run.n_experts}" if run.n_experts else run.method, *words])
    return labels


def _unusual(runs: pd.DataFrame, field: str) -> pd.Series:
    """Whether each run has another value of a field than most runs of its method have. Where two are as common, the one
    that is most common among all methods counts as that of most; all runs are unusual where neither is."""
    values = runs[field].map(repr)
    common = values.mode()

    def usual(own: pd.Series) -> str | None:
        most = own.mode()
        most = most if len(most) == 1 else most[most.isin(common)]
        return most.iloc[0] if len(most) == 1 else None

    return values != runs.method.map(values.groupby(runs.method).agg(usual))
