"""What the claims measure: functions of the records that conf/claims.yaml names.

Each takes the soups of a view and its arguments in claims.yaml, and gives one value per (specialist, seed), in
nats/token, with the labels of the runs it rests on. It raises NotRun where the records lack something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from typing import Literal

import pandas as pd
from omegaconf import OmegaConf

from soe_bench.report.spending import EQUAL, spending, total_flops
from soe_bench.report.stats import mean
from soe_bench.report.view import CENTROIDS, GENERIC_TEXT, View
from soe_bench.system.files import CONF

FAMILY = ["training_tokens", "pi", "draws_per_step"]
BUDGETS = (10_000, 100_000, 1_000_000)  # tokens: those of C6
ENOUGH = 3  # seeds: a single run with more experts than all others does not decide the claims
Effect = tuple[pd.Series, list[str]]


class NotRun(Exception):
    """What the records lack."""


class Soups:
    """The soups of a view that are compared: one training budget, one pi, one number of draws per step. Where a view
    has several such families it is the one with most runs, and of several with as many the one on the scale's own
    budget. `dense_on_pi` is the soup with n = 0. `views` are all that there are, for effects across models, `distances`
    those between models.
    With `training_tokens`, only the runs of that budget (to 5 %). `method`: another one with experts in the soup's
    place."""

    def __init__(
        self,
        view: View,
        views: Sequence[View] = (),
        distances: pd.DataFrame | None = None,
        training_tokens: float | None = None,
        method: str = "soup",
    ) -> None:
        self.view, self.views, self.distances, self.method = view, views, distances, method
        soups = view.runs[view.runs.method.isin([method, "dense_on_pi"])]
        if training_tokens:
            soups = soups[(soups.training_tokens / training_tokens - 1).abs() < 0.05]
        families = soups.groupby(FAMILY, dropna=False).ngroup()
        most = families[soups.n_experts > 0].mode()
        if len(most) > 1:  # as after the sweep `portfolio` alone
            own = (soups.training_tokens / _scale_tokens(view.setting["scale"])).between(0.98, 1)
            most = sorted(most, key=lambda family: family not in set(families[own]))
        self.runs = soups[families == most[0]] if len(most) else soups[:0]

    @property
    def counts(self) -> list[int]:
        """The numbers of experts that have a record, without 0, largest first; after them those with fewer seeds than
        ENOUGH, or than all others have."""
        seeds = self.runs[self.runs.n_experts > 0].groupby("n_experts").seed.nunique()
        return sorted(seeds.index, key=lambda n: (seeds[n] < min(ENOUGH, seeds.max()), -n))

    @property
    def family(self) -> str:
        """What the soups have in common, in words."""
        if not len(self.runs):
            return "none"
        first = self.runs.iloc[0]
        tokens = f"{first.training_tokens / 1e6:.3g}M training tokens"
        return f"{tokens}, pi: {first.pi}, {first.draws_per_step} draws per step"

    def called(self, n: int | None) -> str:
        """A soup with n experts, in words."""
        return ("a soup" if self.method == "soup" else self.method) + (f" with n = {n}" if n else "")

    def label(self, n: int | None) -> str:
        """The soup with n experts; among several recipes the one with most seeds. None: there is no soup at all."""
        most = most_seeds(self.runs[self.runs.n_experts == n])
        if not most:
            raise NotRun(f"no record of {'dense_on_pi' if n == 0 else self.called(n)}")
        if len(most) > 1:
            raise NotRun(f"records of several recipes with n = {n}, none with most seeds: {'; '.join(most)}")
        return most[0]

    @property
    def labels(self) -> dict[int, str]:
        """Number of experts (0: dense_on_pi) -> the label that `label` gives, of each that has a single one."""
        found = {}
        for n in (0, *self.counts):
            with suppress(NotRun):
                found[n] = self.label(n)
        return found

    def generic(self, label: str) -> str:
        """The label of the generic run with as many training tokens."""
        generic = self.view.generic_for(label)
        if generic is None:
            raise NotRun("no record of one generic run with as many training tokens")
        return generic

    def at(self, model: str, equal: str = "tokens per parameter") -> Soups:
        """The soups of another base model on the same corpus, at whatever scale, trained on as many `tokens per
        parameter`, or `tokens`."""
        same = [view for view in self.views if view.same_text(self.view) and view.setting["model"] == model]
        found = [soups for soups in (Soups(view, method=self.method) for view in same) if len(soups.runs)]
        if not found or not len(self.runs):
            raise NotRun(f"no record of {self.called(None)} on the base model {model}")
        first, other = self.runs.iloc[0], found[0].runs.iloc[0]
        growth = other.parameters / first.parameters if equal == "tokens per parameter" else 1
        tokens = growth * first.training_tokens
        each = [Soups(soups.view, self.views, training_tokens=tokens, method=self.method) for soups in found]
        return next((soups for soups in each if len(soups.runs)), each[0])

    def labels_of(self, methods: str, training_tokens: int | None = None) -> list[str]:
        """The labels of the methods that match a pattern (`merge_*`), with as many training tokens if told."""
        runs = self.view.runs[[fnmatch(method, methods) for method in self.view.runs.method]]
        if training_tokens is not None:
            runs = runs[runs.training_tokens == training_tokens]
        if not len(runs):
            raise NotRun(f"no record of {methods}" + (" at equal training tokens" if training_tokens else ""))
        return sorted(set(runs.label))

    def crisp(self, label: str) -> str:
        """The label of the CRISP runs that had as many training tokens for each specialist (to 5 %) as a label."""
        runs = self.view.runs
        runs = runs[(runs.method == "crisp") & runs.trained_for.notna()]
        each = runs.training_tokens / runs.trained_for.astype(float) / self.view.methods.training_tokens[label]
        labels = sorted(set(runs.label[(each - 1).abs() < 0.05]))
        if len(labels) != 1:
            found = f"several records of crisp: {'; '.join(labels)}" if labels else "no record of crisp"
            raise NotRun(f"{found} on as many training tokens for each specialist")
        return labels[0]


def _scale_tokens(scale: str) -> float:
    """The training tokens in the file of a scale, NaN if there is none. A run has whole steps of them."""
    path = CONF / "scale" / f"{scale}.yaml"
    return OmegaConf.load(path).train.tokens if path.exists() else math.nan


def most_seeds(runs: pd.DataFrame) -> list[str]:
    """The labels that most of these runs have, sorted: more than one only if they are equal in that."""
    seeds = runs.label.value_counts()
    return sorted(seeds[seeds == seeds.max()].index)


def against_generic(soups: Soups, experts: int, text: Literal["specialists", "generic"]) -> Effect:
    """Soup minus the generic run with as many training tokens, on the text of the `specialists` (h: estimate) or the
    `generic` one (h: h_0)."""
    view, label = soups.view, soups.label(experts)
    generic = soups.generic(label)
    on = {"specialists": None, "generic": [GENERIC_TEXT]}[text]
    return view.losses(label, specialists=on) - view.losses(generic, specialists=on), [label, generic]


def against_generic_after(soups: Soups, experts: int, times: float) -> Effect:
    """Soup minus generic on the specialists, both on `times` the training tokens of the soups that are compared."""
    tokens = times * soups.view.methods.training_tokens[soups.label(experts)]
    others = Soups(soups.view, training_tokens=tokens, method=soups.method)
    if not len(others.runs):
        raise NotRun(f"no record of {soups.called(None)} on {tokens / 1e6:.3g}M training tokens")
    return against_generic(others, experts, "specialists")


def between_experts(soups: Soups, experts: int, reference: int) -> Effect:
    """Soup with `experts` experts minus soup with `reference` experts (0: dense_on_pi), on the specialists."""
    label, other = soups.label(experts), soups.label(reference)
    return soups.view.losses(label) - soups.view.losses(other), [label, other]


def control(soups: Soups, experts: int, h: str) -> Effect:
    """The soup under a control minus the same soup at the estimated h, on the specialists."""
    label = soups.label(experts)
    return soups.view.losses(label, h) - soups.view.losses(label, "estimate"), [label]


def against_best(soups: Soups, experts: int, methods: str) -> Effect:
    """Soup minus the method that is best on the validation text of that specialist and seed, among those that match
    `methods`, have as many training tokens, and were run with most seeds; both on the test text."""
    view, label = soups.view, soups.label(experts)
    labels = soups.labels_of(methods, view.methods.training_tokens[label])
    # A method with one seed leaves the others theirs.
    labels = most_seeds(view.runs[view.runs.label.isin(labels)])
    validation = pd.DataFrame({each: view.losses(each, split="validation") for each in labels}).dropna()
    if validation.empty:
        raise NotRun(f"no specialist and seed with a validation record of each of {', '.join(labels)}")
    test = pd.DataFrame({each: view.losses(each) for each in labels}).reindex(validation.index)
    chosen = validation.idxmin(axis=1)
    best = pd.Series([test.loc[cell, name] for cell, name in chosen.items()], index=chosen.index, dtype=float)
    return view.losses(label) - best, [label, *labels]


def against_generic_at(soups: Soups, experts: int, model: str) -> Effect:
    """Soup minus generic on the specialists for another base model, at as many training tokens per parameter."""
    return against_generic(soups.at(model), experts, "specialists")


def slope_by_size(soups: Soups, experts: int, models: Sequence[str]) -> Effect:
    """Least-squares slope of soup minus generic on log2 of the base model's parameters: nats/token per doubling."""
    effects = [against_generic_at(soups, experts, model) for model in models]
    sizes = [soups.at(model).runs.parameters.iloc[0] for model in models]
    labels = sorted({label for _, labels in effects for label in labels})
    log = pd.Series(sizes, dtype=float).map(math.log2)
    log -= mean(log)
    return sum(w * values for w, (values, _) in zip(log / (log**2).sum(), effects, strict=True)), labels


def fine_tuned(soups: Soups, experts: int, budget: int) -> Effect:
    """Soup minus generic, both fine-tuned on `budget` tokens of the specialist's own text, on the specialists and seeds
    that have every one of BUDGETS."""
    return _fine_tuned(soups.view, [label := soups.label(experts), soups.generic(label)], budget)


def fine_tuned_at_equal_flops(soups: Soups, experts: int, budget: int) -> Effect:
    """The same against a generic run that took as many FLOPs as the soup before both were fine-tuned."""
    label = soups.label(experts)
    generic = _equal_in_flops(soups.view, label, "generic", soups.labels_of("generic"))
    return _fine_tuned(soups.view, [label, generic], budget)


def _fine_tuned(view: View, labels: list[str], budget: int) -> Effect:
    soup, generic = (pd.DataFrame({b: view.losses(each, budget=b) for b in BUDGETS}) for each in labels)
    both = (soup - generic).dropna()
    if both.empty:
        raise NotRun(f"no specialist and seed has all of {', '.join(f'{b:,}' for b in BUDGETS)} tokens of fine-tuning")
    return both[budget], labels


def documents(soups: Soups, experts: int, few: int, many: int | None, draws: int) -> Effect:
    """The soup at h from `few` documents minus at h from `many` (None: all), on the specialists that have both."""
    label = soups.label(experts)
    losses = soups.view.losses(label) if many is None else _drawn(soups.view, label, many, draws)
    return (_drawn(soups.view, label, few, draws) - losses).dropna(), [label]


def _drawn(view: View, label: str, count: int, draws: int) -> pd.Series:
    """Losses of a label at h from `count` documents (nearest_centroid), each a mean over draws of them; raises NotRun
    if a specialist and seed has fewer than `draws`."""
    rows = view.draws()
    rows = rows[(rows.label == label) & (rows.estimator == CENTROIDS) & (rows.n_documents == count)]
    losses = rows.groupby(["specialist", "seed"]).loss
    if not len(rows):
        raise NotRun(f"no record of {count} drawn documents")
    if losses.size().min() < draws:
        specialist, seed = losses.size().idxmin()
        raise NotRun(f"fewer than {draws} draws of {count} documents of {specialist}, seed {seed}")
    return losses.agg(mean)


def gap_to_crisp(soups: Soups, experts: int) -> Effect:
    """The generic run with as many training tokens as the soup minus CRISP, on the specialists."""
    label = soups.label(experts)
    generic, crisp = soups.generic(label), soups.crisp(label)
    return soups.view.losses(generic) - soups.view.losses(crisp), [generic, crisp]


def share_of_the_way(soups: Soups, experts: int, share: float) -> Effect:
    """Generic minus soup, less `share` times generic minus CRISP: above 0 where the soup closes more than that share of
    the gap, as a ratio of sums."""
    loss, labels = against_generic(soups, experts, "specialists")
    gap, others = gap_to_crisp(soups, experts)
    return -loss - share * gap, sorted({*labels, *others})


def break_even(soups: Soups, experts: int, rival: Literal["crisp", "generic"], budget: int) -> Effect:
    """Number of specialists from which one soup costs fewer FLOPs than the rival: a run of CRISP for each, or generic
    pretraining and fine-tuning on `budget` tokens for each (the trials of the rate included). Of means over the
    specialists, so that it is the same for all of a seed."""
    view, label = soups.view, soups.label(experts)
    other = {"crisp": soups.crisp, "generic": soups.generic}[rival](label)
    losses = view.losses(other, budget=budget)
    if not len(losses):
        raise NotRun(f"no record of {other}" + (f" fine-tuned on {budget} tokens" if budget else ""))
    own, others = spending(view, label), spending(view, other, budget)
    saved = others.flops_each - own.flops_each
    if (saved <= 0).any():
        raise NotRun(f"no break-even: a specialist of {other} costs no more FLOPs than one of {label}")
    numbers = (own.flops_once - others.flops_once) / saved
    return pd.Series(losses.index.get_level_values("seed").map(numbers), index=losses.index), [label, other]


def portfolio(soups: Soups, experts: int, rival: str, specialists_served: int, budget: int) -> Effect:
    """Soup minus the `rival` fine-tuned on `budget` tokens (0: as trained) where that many specialists together cost as
    many FLOPs by both, training included: of the rival's runs that take 95 to 105 % of the soup's FLOPs, the one with
    the lowest mean on the specialists' validation text (of a fine-tuned rival, as it is before that)."""
    return _at_equal_flops(soups, experts, rival, soups.labels_of(rival), specialists_served, budget)


def generic_text_at_equal_flops(soups: Soups, experts: int) -> Effect:
    """Soup at h_0 minus the generic run that takes 95 to 105 % of its FLOPs, on the generic text."""
    label = soups.label(experts)
    best = _equal_in_flops(soups.view, label, "generic", soups.labels_of("generic"))
    on = [GENERIC_TEXT]
    return soups.view.losses(label, specialists=on) - soups.view.losses(best, specialists=on), [label, best]


def between_experts_at_equal_flops(soups: Soups, experts: int, reference: int) -> Effect:
    """Soup with `experts` experts minus a soup with `reference` experts, and the same pi, that takes 95 to 105 % of its
    FLOPs."""
    runs = soups.view.runs
    same = runs[runs.label == soups.label(experts)].iloc[0]
    alike = (runs.method == soups.method) & (runs.pi == same.pi) & (runs.draws_per_step == same.draws_per_step)
    labels = sorted(set(runs.label[alike & (runs.n_experts == reference)]))
    return _at_equal_flops(soups, experts, soups.called(reference), labels, specialists_served=1)


def adjusted_at_equal_flops(soups: Soups, experts: None, adjustment: str) -> Effect:
    """The soup minus generic pretraining that takes 95 to 105 % of its FLOPs, both with the logits shifted by the
    method `adjustment`, on the specialists."""
    label, *more = soups.labels_of(method := f"{adjustment}_of_{soups.method}")
    if more:
        raise NotRun(f"a choice: records of several settings of {method}: {'; '.join([label, *more])}")
    best = _equal_in_flops(soups.view, label, adjustment, soups.labels_of(adjustment))
    return soups.view.losses(label) - soups.view.losses(best), [label, best]


def _at_equal_flops(
    soups: Soups, experts: int, rival: str, labels: list[str], specialists_served: int, budget: int = 0
) -> Effect:
    """Soup minus the `_equal_in_flops` of those labels."""
    view, label = soups.view, soups.label(experts)
    best = _equal_in_flops(view, label, rival, labels, specialists_served, budget)
    return view.losses(label) - view.losses(best, budget=budget), [label, best]


def _equal_in_flops(
    view: View, label: str, rival: str, labels: list[str], specialists_served: int = 1, budget: int = 0
) -> str:
    """Of those labels that take 95 to 105 % of a label's FLOPs, the best one on validation text."""
    own = total_flops(view, label, specialists_served)
    taken = {each: total_flops(view, each, specialists_served, budget) / own for each in labels}
    equal = [each for each in labels if EQUAL[0] <= taken[each] <= EQUAL[1]]
    if not equal:
        raise NotRun(
            f"no record of {rival}"
            + f" fine-tuned on {budget} tokens" * bool(budget)
            + f" that takes 95 to 105 % of the FLOPs of {label}"
            + f" for {specialists_served} specialists" * (specialists_served > 1)
        )
    return equal[0] if len(equal) == 1 else _best_on_validation(view, equal)


def _best_on_validation(view: View, labels: list[str]) -> str:
    """The label with the lowest mean on the seeds that all have."""
    losses = {each: view.seed_means(view.losses(each, split="validation")) for each in labels}
    choice = " and ".join(labels)
    if lacking := [each for each, means in losses.items() if means.empty]:
        raise NotRun(f"no validation record of {lacking[0]} on each specialist, to choose between {choice}")
    paired = pd.DataFrame(losses).dropna()
    if paired.empty:
        raise NotRun(f"no seed that all have, to choose between {choice}")
    return paired.mean().idxmin()


def between_models(
    soups: Soups, experts: None, measure: Literal["merge_gap", "barrier"], other: Literal["separate", "aligned"]
) -> Effect:
    """A measure of the line between two domain experts, for each (pair of domain groups, seed): for those of one parent
    minus for those of another family. `merge_gap` is the loss of their midpoint minus their mean loss; the family
    `aligned` are those from separate initialisations, permuted to match before they are merged."""
    if soups.distances is None or soups.distances.empty:
        raise NotRun(
            "no distances.csv: run python -m soe_bench.closeness with method=domain_experts, and with separate_experts"
        )
    sides, labels = [], []
    for family in ("common_parent", other):
        rows = soups.distances[soups.distances.family == family]
        pairs = rows.assign(pair=[" and ".join(sorted(names)) for names in zip(rows.one, rows.other, strict=True)])
        values = pairs.set_index(["pair", "seed"])[measure]
        if not len(values):
            raise NotRun(f"no distance of the family {family}")
        if not values.index.is_unique:
            methods = ", ".join(sorted(set(rows.method)))
            raise NotRun(f"a choice: several distances of the family {family} for one pair and seed ({methods})")
        sides.append(values)
        labels += {soups.view.labels.get(run_id, run_id) for run_id in rows.run_id}
    return sides[0] - sides[1], sorted(labels)


EFFECTS: dict[str, Callable[..., Effect]] = {  # every function of this file that claims.yaml may name
    name: each
    for name, each in [*vars().items()]
    if name[0] != "_" and getattr(each, "__annotations__", {}).get("return") == "Effect"
}
