"""From new documents to a specialist that was compared with the generic models: Algorithm 3, and the gate."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from soe_bench.data.corpus import estimate_rows
from soe_bench.data.domains import effective_number, weights
from soe_bench.data.splits import spread
from soe_bench.errors import UserError
from soe_bench.estimate import tuned_coefficients
from soe_bench.evaluate import document_losses, mean_loss
from soe_bench.finetune import fine_tune
from soe_bench.records import MOST_BEYOND_Q99
from soe_bench.specialists import gate, new_documents
from soe_bench.specialists.gate import Verdict
from soe_bench.specialists.new_documents import Documents
from soe_bench.specialists.own import OwnDocuments
from soe_bench.specialists.trained import TrainedSoup
from soe_bench.system.laps import Laps
from soe_bench.system.places import DTYPES
from soe_bench.system.words import counted

log = logging.getLogger("soe_bench")
RESAMPLES = 200
AT_ONCE = 2**28  # numbers of the specialists that one reading of the bank makes
SPECIALIST, TUNED = "specialist", "tuned specialist"
AT_H_0, GENERIC_RUN = "soup at h_0", "generic run"
FINE_TUNED = "fine-tuned "  # before one of these names
BRANCHED = "branched model"
GATES = ("strict", "warn", "off")
NO_GATE = "No comparison was made: nothing shows that this specialist is better than a generic model."


@dataclass(frozen=True)
class Options:
    """What the command may be told: see its help."""

    gate: str = "strict"
    generic: str | Path | None = None
    tune: bool = False
    finetune: int = 0
    text_field: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, given, known in (("gate", self.gate, GATES), ("dtype", self.dtype, DTYPES)):
            if given not in known:
                raise UserError(f"{name} is {given!r}: it must be one of {', '.join(known)}")
        if isinstance(self.finetune, bool) or not isinstance(self.finetune, int) or self.finetune < 0:
            raise UserError(f"finetune is {self.finetune!r}: it must be a whole number of tokens, or 0 for none")
        if not isinstance(self.tune, bool):
            raise UserError(f"tune is {self.tune!r}: it must be True or False")

    @property
    def choices(self) -> bool:
        """Whether something is chosen on held-out text before the gate."""
        return self.tune or self.finetune > 0


@dataclass(frozen=True)
class Estimate:
    """Algorithm 3's h (k,), the share of each domain among the tokens of `passages` passages. `interval` (2, k): 95 %
    over documents drawn again. `moved`: how much of h moves to other domains then, on average. `effective`: exp of its
    entropy. `far`: the fraction of passages beyond the 99 % quantile of the corpus's own distances."""

    h: np.ndarray
    interval: np.ndarray
    moved: float
    effective: float
    far: float
    passages: int


@dataclass
class Specialist:
    """A model for some documents. `kind` says which of the compared models it is. `alpha` (n,): its coefficients; None
    for a generic run. `verdict`: None without a gate. `refused`: the strict gate replaced it by a generic model.
    `origin`: the name of the generic run that it was compared with, if any."""

    name: str
    soup: TrainedSoup
    documents: Documents
    estimate: Estimate
    model: nn.Module
    kind: str
    alpha: Tensor | None
    verdict: Verdict | None = None
    refused: bool = False
    origin: str = ""
    outside: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def dense(self) -> float:
        """The fraction of the passages that take more tokens per byte than 99 % of the corpus's own."""
        own = self.documents.passages
        return float((own.tokens / own.bytes > self.soup.facts["tokens_per_byte"]).mean())


class Soup(TrainedSoup):
    """A trained soup. `Soup.load(place).specialist(documents)` is an ordinary model for these documents."""

    def specialist(self, documents: str | Path | Sequence[str | Path], **options: Any) -> nn.Module:
        """The specialist of these documents: a file or folder, or a list of texts and paths.

        `options` are those of the command (gate, generic, tune, finetune, text_field, dtype). The gate is `warn` here:
        that the specialist is worse than a generic model is logged. With gate="strict" the generic model is returned
        then, as the command writes it. With dtype="bfloat16" the model has the numbers that would be written, as
        float32. Raises UserError for documents without usable text.
        """
        return self.specialize({"": documents}, **{"gate": "warn", **options})[""].model

    def specialize(self, documents: Mapping[str, Any], **options: Any) -> dict[str, Specialist]:
        """name -> `Specialist` (its model, h, alpha, gate and warnings) for each named list of documents."""
        return {each.name: each for each in specialists(self, documents, Options(**options))}


def specialists(
    soup: TrainedSoup,
    given: Mapping[str, Any],
    options: Options,
    laps: Laps | None = None,
    left_out: dict[str, str] | None = None,
    branched: Mapping[str, nn.Module] | None = None,
) -> Iterator[Specialist]:
    """A specialist for each named list of documents (texts, or paths, or `Documents` that are read already). The parts
    of the work are ended in `laps`.

    One reading of the bank serves as many as fit into memory. Raises UserError before anything is computed if some
    documents hold too little text; with `left_out` they are left out instead, and it gets the reason under their name.
    `branched`: a model for each name that goes on from the generic run. The better of it and the soup's on validation
    text is the specialist.
    """
    laps = laps or Laps()
    generic = soup.generic(options.generic) if options.gate != "off" else None
    read, parts = {}, {}
    for name, each in given.items():
        try:
            text = each if isinstance(each, Documents) else new_documents.read(each, soup, options.text_field)
            parts[name] = _parts(name, text, options)
        except UserError as error:
            if left_out is None:
                raise UserError(f"{name}: {error}" if name else str(error)) from error
            left_out[name] = str(error)
        else:
            read[name] = text
    laps.end("reading documents")
    if not read:
        return
    estimates = {name: estimate(soup, rows["estimate"], read[name].estimate_documents) for name, rows in parts.items()}
    alpha = soup.coefficients(np.stack([each.h for each in estimates.values()]))
    laps.end("domain weights")
    names, size = list(read), max(1, AT_ONCE // soup.method.flat.size)
    for start in range(0, len(names), size):
        group = slice(start, start + size)
        thetas = soup.parameters(alpha[group])
        laps.end("combining experts")
        for name, row, theta in zip(names[group], alpha[group], thetas, strict=True):
            made = Specialist(name, soup, read[name], estimates[name], soup.model(theta), SPECIALIST, row)
            own = (branched or {}).get(name) if "validation" in parts[name] else None
            _verify(made, parts[name], options, generic, own)
            laps.end("gate")
            yield made


def _parts(name: str, text: Documents, options: Options) -> dict[str, pd.DataFrame]:
    """The parts of the documents; without gate and choices all of them are for the estimate."""
    parts = text.parts(options.choices)
    if options.gate == "off" and not options.choices:
        return {"estimate": pd.concat(parts.values()).sort_index()}
    units = {name: rows.unit.nunique() for name, rows in parts.items()}
    wanted = {"estimate": 1} | ({"gate": gate.LEAST} if options.gate != "off" else {})
    wanted |= {"validation": 1} if options.choices else {}
    if any(units.get(name, 0) < least for name, least in wanted.items()):
        aim = "to tune on" if options.choices else "to compare the specialist with a generic model"
        message = (
            f"too little text {aim} ({counted(text.count, 'document')}, {counted(len(text.passages), 'passage')}, "
            f"{text.passages.tokens.sum()} tokens): give at least {FEWEST[options.choices]}"
        )
        if options.choices:
            raise UserError(f"{message}, or leave out tune and finetune")
        if options.gate == "strict":
            raise UserError(f"{message}, or go on without a comparison: gate=off")
        log.warning("%s%s", f"{name}: " if name else "", message)
        return {"estimate": pd.concat(parts.values()).sort_index()}
    if options.gate == "off" and "gate" in parts:  # nothing is compared: the estimate may have that text too
        parts["estimate"] = pd.concat([parts["estimate"], parts.pop("gate")]).sort_index()
    return parts


FEWEST = {False: "four documents, or one of about 8,000 characters", True: "eight, or one of about 16,000 characters"}


def estimate(soup: TrainedSoup, rows: pd.DataFrame, most: int | None = None) -> Estimate:
    """Algorithm 3 on passages `rows` (unit, text, tokens): at most 8 passages of a document, of at most `most`
    documents, evenly spaced, as the rows of a file may be sorted by subject."""
    units = list(rows.unit.unique())
    kept = rows[rows.unit.isin(spread(units, len(units) if most is None else most))]
    chosen = estimate_rows(kept.assign(source="", path=kept.unit))
    domain, distance = soup.assign(chosen.text.tolist())
    k, tokens = len(soup.h_0), chosen.tokens.to_numpy()
    h = weights(domain, tokens, k)
    units, unit = np.unique(chosen.unit.astype(str), return_inverse=True)
    counts = np.zeros((len(units), k))
    np.add.at(counts, (unit, domain), tokens)
    drawn = np.random.default_rng(0).multinomial(len(units), np.full(len(units), 1 / len(units)), RESAMPLES) @ counts
    drawn /= drawn.sum(1, keepdims=True)
    return Estimate(
        h,
        np.quantile(drawn, [0.025, 0.975], axis=0),
        float(np.abs(drawn - h).sum(1).mean() / 2),
        effective_number(h),
        float((distance > soup.facts["distance_quantiles"]["q99"]).mean()),
        len(chosen),
    )


def _verify(
    made: Specialist,
    parts: dict[str, pd.DataFrame],
    options: Options,
    generic: nn.Module | None,
    branched: nn.Module | None,
) -> None:
    """Takes the branched model if it is better, and tunes and fine-tunes the specialist as asked. Compares it with the
    generic models, also with these fine-tuned alike, and replaces it as the gate says."""
    soup, text = made.soup, made.documents
    compared = {SPECIALIST: made.model}
    references = {AT_H_0: soup.at_h_0}
    if generic is not None:
        references[GENERIC_RUN], made.origin = generic, soup.generic_name(options.generic)
    if options.choices or branched is not None:
        validation, _ = text.held_out(parts["validation"])
        if branched is not None:
            compared |= _branch(made, branched, validation)
        if options.tune:
            compared |= _tune(made, parts["estimate"], validation)
        if options.finetune:
            rivals = references if options.gate != "off" else {}
            tuned = _fine_tune(made, rivals, parts["estimate"], validation, options.finetune)
            made.kind = FINE_TUNED + SPECIALIST
            made.model = compared[made.kind] = tuned.pop(made.kind)
            references |= tuned
    models = compared | references
    if options.dtype != "float32":  # what is judged has the numbers that are written
        flat, dtype = soup.method.flat, getattr(torch, options.dtype)
        models = {name: soup.model(flat.flatten(model).to(dtype)) for name, model in models.items()}
    made.model = models[made.kind]
    if "gate" in parts:
        held_out, sizes = text.held_out(parts["gate"])
        losses = {name: document_losses(model, held_out, soup.seq_len) for name, model in models.items()}
        tokens = losses[AT_H_0][1]
        nats = {name: nats for name, (nats, _) in losses.items()}
        vocabulary, documents = soup.cfg.model.base.vocab_size, parts["gate"].path.nunique()
        made.verdict = verdict = gate.judge(
            made.kind, list(references), nats, tokens, int(sizes.sum()), vocabulary, documents
        )
        if not verdict.ship and options.gate == "strict":
            made.refused, made.kind, made.model = True, verdict.reference, models[verdict.reference]
            made.alpha = soup.coefficients(soup.h_0[None])[0] if made.kind.endswith(AT_H_0) else None
    made.outside = _outside(made)
    made.warnings = _warnings(made, options)
    for warning in made.warnings:
        log.warning("%s%s", f"{made.name}: " if made.name else "", warning)


def _branch(made: Specialist, model: nn.Module, validation: Sequence[np.ndarray]) -> dict[str, nn.Module]:
    """The branched model. It becomes the specialist if its loss on the validation part is lower."""
    soup, own = (mean_loss(each, validation, made.soup.seq_len) for each in (made.model, model))
    better = own < soup
    made.said.append(
        "The branched model goes on from the generic run: it was trained on the corpus's domains as h weighs them. On "
        f"validation text its loss is {own:.3f}, and that of the soup's specialist {soup:.3f}: "
        f"{'it is taken' if better else 'the latter is taken'}."
    )
    if better:
        made.model, made.alpha, made.kind = model, None, BRANCHED
    return {BRANCHED: model}


def _tune(made: Specialist, rows: pd.DataFrame, validation: Sequence[np.ndarray]) -> dict[str, nn.Module]:
    """The model at coefficients tuned by gradient on the estimate part. It becomes the specialist if its loss on the
    validation part is lower."""
    soup = made.soup
    own = [made.documents.joined(unit) for _, unit in rows.groupby("unit", sort=False)]
    alpha = tuned_coefficients(soup.method, made.estimate.h[None], [own])[0]
    tuned = soup.model(soup.parameters(alpha[None])[0])
    before, after = (mean_loss(model, validation, soup.seq_len) for model in (made.model, tuned))
    better = after < before
    made.said.append(
        f"Coefficients tuned by gradient change the loss on validation text from {before:.3f} to {after:.3f}: "
        f"{'they are taken' if better else 'the router keeps its own'}."
    )
    if better:
        made.model, made.alpha, made.kind = tuned, alpha, TUNED
    return {TUNED: tuned}


def _fine_tune(
    made: Specialist, rivals: dict[str, nn.Module], rows: pd.DataFrame, validation: list[np.ndarray], budget: int
) -> dict[str, nn.Module]:
    """The specialist and its rivals, each fine-tuned by the benchmark's own code on the same tokens of the estimate
    part, at most `budget`, with its rate chosen on the same validation text."""
    soup, tokens = made.soup, made.documents.joined(rows)[:budget]
    found = {
        name: fine_tune(model, tokens, np.concatenate(validation), soup.cfg, soup.cfg.seeds.mix)
        for name, model in {SPECIALIST: made.model, **rivals}.items()
    }
    short = f", all that the documents for it hold (of {budget:,} asked for)" if len(tokens) < budget else ""
    rates = [
        f"the {name} at {f'{each.rate:g}' if each.rate else 'none (it is as it was)'}" for name, each in found.items()
    ]
    made.said.append(
        f"Fine-tuned on {len(tokens):,} tokens{short}, each at the rate with the lowest loss on validation text: "
        f"{', '.join(rates)}."
    )
    return {FINE_TUNED + name: each.model for name, each in found.items()}


def _outside(made: Specialist) -> list[str]:
    """Each sign that the text is unlike the corpus, as a sentence."""
    soup, found = made.soup, []
    if made.estimate.far > MOST_BEYOND_Q99:
        found.append(
            f"{made.estimate.far:.0%} of its passages are farther from their domain than 99 % of the corpus's passages."
        )
    if made.dense > MOST_BEYOND_Q99:
        found.append(
            f"{made.dense:.0%} of its passages take more tokens per byte than 99 % of the corpus's passages: the "
            "tokenizer did not learn such text."
        )
    if made.verdict is not None:
        bits = made.verdict.row(AT_H_0).bits_per_byte
        if not bits <= soup.bits_per_byte:
            found.append(
                f"The soup at h_0 needs {bits:.2f} bits per byte for it, and at most {soup.bits_per_byte:.2f} for 99 % "
                "of the corpus's held-out passages."
            )
    return found


def _warnings(made: Specialist, options: Options) -> list[str]:
    place = "unusual for" if isinstance(made.documents, OwnDocuments) else "outside"  # that corpus holds text like it
    signs = " ".join(made.outside)
    found = [f"The text is {place} the corpus that the soup was trained on. {signs}"] if signs else []
    if made.documents.trained > new_documents.SEEN:
        text = "held-out text" if isinstance(made.documents, OwnDocuments) else "text"
        found.append(
            f"The soup was trained on {made.documents.trained:.0%} of the {text}, which stands there word for word: "
            "losses on it say little about new text of your own."
        )
    if made.documents.seen > new_documents.SEEN:
        found.append(
            f"{made.documents.seen:.0%} of the text's long lines are in the test text of the soup's own corpus: losses "
            "on it say nothing about new text of your own."
        )
    verdict = made.verdict
    if verdict is None:
        return [*found, NO_GATE]
    if made.refused:
        found.append(
            f"On held-out text the {verdict.specialist} is not better than the {made.kind}, which is written instead."
        )
    elif not verdict.ship:
        found.append(
            f"On held-out text the {made.kind} is worse than the {verdict.reference}. It is written nevertheless, as "
            f"gate={options.gate} asks."
        )
    elif not verdict.sure:
        found.append(
            f"The {made.kind} has a lower loss than the {verdict.reference} on held-out text, but the interval of the "
            "difference covers 0."
        )
    if not verdict.row(made.kind).loss < verdict.row(gate.GUESSING).loss:
        found.append("The model is no better than guessing among all tokens alike: it is of no use for this text.")
    return found
