"""The claims of conf/claims.yaml against the records: effect, interval over seeds and over specialists, verdict."""

import inspect
import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pandas as pd
from omegaconf import OmegaConf
from yaml import YAMLError

from soe_bench.errors import UserError
from soe_bench.records import MOST_EPOCHS
from soe_bench.report.effects import EFFECTS, NotRun, Soups
from soe_bench.report.format import Table, fixed, in_words
from soe_bench.report.stats import CHANCE, Difference, Interval, side, summarize
from soe_bench.report.tables.pieces import INTERVALS, commits, effect_cells, view_table, within_note
from soe_bench.report.view import GENERIC_TEXT, View
from soe_bench.system.files import CONF

CLAIMS = CONF / "claims.yaml"
VERDICTS = ("contradicted", "not run", "not separated", "replicated")  # a claim has the first that a deciding test has
SPECIALISTS = ("within", "outside", "all")  # of the corpus


@dataclass(frozen=True)
class Claim:
    """A claim of claims.yaml."""

    name: str
    statement: str
    measure: str
    rule: str
    tests: list["Criterion"]


@dataclass(frozen=True)
class Criterion:
    """A test of a claim: the effect (nats/token) must lie below, or above, a threshold, and so must its intervals."""

    row: str
    effect: str
    arguments: dict[str, object]
    experts: object = None
    below: float | None = None
    above: float | None = None
    intervals: tuple[str, ...] = CHANCE
    specialists: str = "within"
    decides: bool = True

    def choices(self, counts: list[int]) -> list:
        """What stands for `experts`, a row each: of the numbers of experts with a record, or as it is."""
        if self.experts == "largest":
            return counts[:1] or [None]
        return counts[1:] if self.experts == "smaller" else [self.experts]

    def verdict(self, intervals: dict[str, Interval]) -> tuple[str, str]:
        """A verdict and, where an interval is missing, why: replicated or contradicted only if every interval asked for
        lies wholly on that side of the threshold."""
        if lacking := [unit for unit in self.intervals if intervals[unit].n < 2]:
            return "not separated", f"n = 1 {lacking[0].removesuffix('s')}"
        wanted, threshold = ("below", self.below) if self.below is not None else ("above", self.above)
        found = side([intervals[unit] for unit in self.intervals], threshold)
        return "not separated" if found == "neither" else "replicated" if found == wanted else "contradicted", ""


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """Every claim in the order of the file. Raises UserError that names the claim for what is malformed."""
    return [*_claims(path, path.read_text(encoding="utf-8"))]


@lru_cache(maxsize=1)
def _claims(path: Path, text: str) -> tuple[Claim, ...]:
    """Those of the text of a file: each results folder of a report asks for them."""
    try:
        nodes = OmegaConf.to_container(OmegaConf.create(text))
    except YAMLError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    return tuple(_claim(name, node, f"{path}: {name}") for name, node in nodes.items())


def _claim(name: str, node: dict, where: str) -> Claim:
    if odd := {"statement", "measure", "rule", "tests"} ^ set(node):
        raise UserError(f"{where}: needs statement, measure, rule, tests; look at {min(odd)!r}")
    tests = [_criterion(dict(test), f"{where}: {test.get('row')}") for test in node["tests"]]
    if any(test.decides and test.specialists != "within" for test in tests):
        raise UserError(f"{where}: a test on specialists outside the corpus cannot decide: set decides: false")
    if not any(test.decides and test.experts != "smaller" for test in tests):
        raise UserError(f"{where}: needs a deciding test, not `experts: smaller`, which may have no row")
    return Claim(name, **{**node, "tests": tests})


def _criterion(test: dict, where: str) -> Criterion:
    if lacking := {"row", "effect"} - set(test):
        raise UserError(f"{where}: needs row and effect; {min(lacking)!r} is missing")
    own = {field: test.pop(field) for field in Criterion.__dataclass_fields__ if field in test}
    criterion = Criterion(**{**own, "arguments": test, "intervals": tuple(own.get("intervals", CHANCE))})
    if criterion.effect not in EFFECTS:
        raise UserError(f"{where}: no effect {criterion.effect!r}: one of {', '.join(EFFECTS)}")
    wanted = set(inspect.signature(EFFECTS[criterion.effect]).parameters) - {"soups", "experts"}
    if wanted != set(test):
        raise UserError(f"{where}: {criterion.effect} takes {sorted(wanted)} beside experts, not {sorted(test)}")
    for name, kind in get_type_hints(EFFECTS[criterion.effect]).items():
        if get_origin(kind) is Literal and test[name] not in get_args(kind):
            raise UserError(f"{where}: {name} is {test[name]!r}, not one of {', '.join(get_args(kind))}")
    if criterion.specialists not in SPECIALISTS:
        raise UserError(f"{where}: specialists is {criterion.specialists!r}, not one of {', '.join(SPECIALISTS)}")
    if (criterion.below is None) == (criterion.above is None) or not set(criterion.intervals) <= set(CHANCE):
        raise UserError(f"{where}: needs one threshold, below or above, and intervals out of {', '.join(CHANCE)}")
    return criterion


def claims_table(views: list[View], distances: pd.DataFrame | None = None, method: str = "soup") -> Table | None:
    """A row for each test of each claim, on the first view (effects across models look at the others, those between
    models at the distances); the first row of a claim has its statement and its verdict. `method`: another one with
    experts, in the place of the soup."""
    return _table(load_claims(), Soups(views[0], views, distances, method=method), views[0].records)


def models_table(views: list[View]) -> Table | None:
    """The same for the claims that compare models of several sizes, whose views lie in several results folders; None
    where no two of them can be compared."""
    about_models = {"model", "models"}  # arguments of a test
    claims = [each for each in load_claims() if any(about_models & test.arguments.keys() for test in each.tests)]
    corpus = [view for view in views if view.same_text(views[0])]
    if len({view.setting["model"] for view in corpus}) < 2:
        return None
    table = _table(claims, Soups(corpus[0], corpus), pd.concat([view.records for view in corpus]))
    models = dict.fromkeys(view.setting["model"] for view in corpus)
    title = f"The claims that compare model sizes (nats/token), models {', '.join(models)}, {corpus[0].text}"
    return table and replace(table, title=title)


def _table(claims: list[Claim], soups: Soups, records: pd.DataFrame) -> Table | None:
    view, rows = soups.view, [row for claim in claims for row in _claim_rows(claim, soups)]
    notes = [
        "`effect` and its intervals are in nats/token where the test names no other unit. `rule` is what they must be "
        "for the claim to hold. `in words` is the effect, where lower means that it is below 0: of two losses that are "
        "compared the first one named is then the lower one.",
        INTERVALS,
        "`median` is that of the specialists' differences, each averaged over seeds. `below 0` counts those below 0.",
        "The verdict of a test is replicated if all its intervals lie wholly on the rule's side of the threshold, "
        "contradicted if all lie wholly on the other side, and not separated otherwise. A single seed has no "
        "interval. On the generic text the interval over seeds alone decides.",
        "A claim has the worst verdict of its deciding tests, in this order: {}.".format(", ".join(VERDICTS)),
        f"The soups compared have {soups.family}. Those of another base model have as many tokens per parameter.",
        *(f"{note} A test leaves these out, unless its name says otherwise." for note in within_note(view)),
        *(f"{claim.name}: {claim.measure}. Rule: {claim.rule}." for claim in claims),
    ]
    title = "The claims and their verdicts (nats/token)"
    return view_table(view, "claims", title, rows, notes, records, json=_json(rows))


def _json(rows: list[dict[str, str]]) -> str:
    """The tests as a JSON list: id, test, decides, effect, low and high (the outermost ends of the intervals that there
    are: the verdict asks whether all lie on one side of the threshold), n (seeds), specialists, the median over these,
    how many of them lie below 0, and verdict."""
    table, places = [], Counter()
    for row in rows:
        places[row["claim"]] += 1
        bounds = {end: [row[f"{over} {end}"] for over in CHANCE] for end in ("low", "high")}
        ends = {end: [float(bound) for bound in each if bound] for end, each in bounds.items()}
        table.append(
            {
                "id": f"{row['claim']}.{places[row['claim']]}",
                "test": row["test"],
                "decides": bool(row["decides"]),
                "effect": float(row["effect"]) if row["effect"] else None,
                "low": min(ends["low"], default=None),
                "high": max(ends["high"], default=None),
                "n": int(row["seeds"] or 0),
                "specialists": row["specialists"],
                "median": float(row["median"]) if row["median"] else None,
                "below_0": int(row["below 0"]) if row["below 0"] else None,
                "verdict": row["verdict"],
            }
        )
    return json.dumps(table, indent=1) + "\n"


def _claim_rows(claim: Claim, soups: Soups) -> list[dict[str, str]]:
    tests = [test for test in claim.tests if soups.view.outside or test.specialists == "within"]
    rows = [_row(test, n, soups) for test in tests for n in test.choices(soups.counts)]
    verdicts = {row["verdict"] for row in rows if row["decides"]}
    first = {"statement": claim.statement, "claim's verdict": next(each for each in VERDICTS if each in verdicts)}
    blank = dict.fromkeys(first, "")
    return [{"claim": claim.name, **(blank if i else first), **row} for i, row in enumerate(rows)]


def _row(test: Criterion, n: object, soups: Soups) -> dict[str, str]:
    experts = ", ".join(map(str, n)) if isinstance(n, list) else n or test.experts
    rule = f"< {test.below:g}" if test.below is not None else f"> {test.above:g}"
    name = test.row.format(experts=experts).replace("soup", soups.method)
    head = {"test": name, "decides": "yes" if test.decides else "", "rule": rule}
    try:
        values, labels = EFFECTS[test.effect](soups, experts=n, **test.arguments)
        if "specialist" in values.index.names and test.specialists != "all":
            outside = values.index.get_level_values("specialist").isin(soups.view.outside)
            if len(values) and test.specialists == "within" and outside.all():
                raise NotRun(
                    f"no specialist with a record of each side lies within the corpus ({' and '.join(labels)})"
                )
            values = values[outside == (test.specialists == "outside")]
        difference = summarize(values)
        if difference is None:
            raise NotRun(f"no specialist and seed with a record of each side ({' and '.join(labels)})")
    except NotRun as error:
        blank = {"in words": "", **effect_cells("effect", None, ""), "median": "", "below 0": ""}
        return {**head, **blank, "verdict": "not run", "note": f"missing: {error}", "commit": ""}
    verdict, why = test.verdict(difference.intervals)
    records = pd.concat([view.records[view.records.label.isin(labels)] for view in _views(test, soups)])
    number = test.effect == "break_even"  # of specialists, which is the same for each of them
    words = f"from {difference.mean:.1f} specialists" if number else in_words(difference.mean)
    each = difference.by_specialist
    flag = f"over {MOST_EPOCHS} epochs" if (records.max_epochs > MOST_EPOCHS).any() else ""
    return {
        **head,
        "in words": words,
        **effect_cells("effect", difference, _units(difference, soups.view)),
        "median": "" if number else fixed(each.median()),
        "below 0": "" if number else str((each < 0).sum()),
        "verdict": verdict,
        "note": "; ".join(filter(None, (why, flag))),
        "commit": commits(records),
    }


def _views(test: Criterion, soups: Soups) -> list[View]:
    """Those of the base models that a test is about."""
    one, several = test.arguments.get("model"), test.arguments.get("models", [])
    return [soups.at(model).view for model in ([one] if one else several)] or [soups.view]


def _units(difference: Difference, view: View) -> str:
    """What an effect was measured on."""
    units = difference.by_specialist.index
    if units.name == "pair":
        return f"{len(units)} pairs"
    return "generic text" if list(units) == [GENERIC_TEXT] else f"{len(units)} of {len(view.specialists)}"
