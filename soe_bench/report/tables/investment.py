"""The table of an investment: what N specialists cost by each way, how good they are, and from where the soup costs
less."""

import pandas as pd

from soe_bench.report.format import Table, fixed, short
from soe_bench.report.tables.pieces import provenance, within_note
from soe_bench.report.view import MISSING
from soe_bench.report.ways import Investment, Way


def investment_table(
    found: Investment, specialists: int, gpu_hour: float | None, flops_per_second: float | None
) -> Table:
    """A row per way. `gpu_hour` is the price of an hour; `flops_per_second` replaces the measured time in it."""
    rows = [_row(found, way, specialists, gpu_hour, flops_per_second) for way in found.ways]
    title = f"What {specialists} specialists cost, {found.view.title}"
    notes = [*_assumptions(found, gpu_hour, flops_per_second), *within_note(found.view)]
    if found.missing:
        notes.append(f"Left out, as these records lack it: {'; '.join(found.missing)}.")
    cells = found.view.cells()
    labels = {way.label for way in found.ways}
    return Table("cost", title, pd.DataFrame(rows), [*notes, *provenance(cells[cells.label.isin(labels)])])


def _row(
    found: Investment, way: Way, specialists: int, gpu_hour: float | None, flops_per_second: float | None
) -> dict[str, str]:
    flops, hours = way.total("flops", specialists), way.total("seconds", specialists) / 3600
    cells = {
        "way": way.name,
        "tokens": f"{way.total('tokens', specialists):.3g}",
        "FLOPs": f"{flops:.3g}",
        "hours measured": short(hours),
    }
    if flops_per_second:
        hours = flops / flops_per_second / 3600
        cells["hours at that rate"] = short(hours)
    if gpu_hour:
        cells["money"] = short(gpu_hour * hours)
    difference, loss = found.to_generic(way), found.loss(way)
    better = f"{(difference.by_specialist < 0).sum()} of {len(difference.by_specialist)}" if difference else ""
    cells |= {
        "loss": fixed(loss, missing=MISSING),
        "minus generic": fixed(difference.mean) if difference else "",
        "better than generic": better,
    }
    for unit, name in (("flops", "FLOPs"), ("seconds", "hours measured")):
        cells[f"break-even, {name}"] = "" if way is found.soup else way.dearer_from(found.soup, unit)
    return cells


def _assumptions(found: Investment, gpu_hour: float | None, flops_per_second: float | None) -> list[str]:
    """What the numbers rest on, a sentence each."""
    runs = found.view.records[found.view.records.label.isin([way.label for way in found.ways])]
    machines = sorted({f"{run.device} with {run.threads} threads" for run in runs.itertuples()})
    notes = [
        f"A way costs what it pays once plus N times what it pays for each specialist. The latter is a mean over the "
        f"{len(found.view.specialists)} specialists of the records, and is assumed to be the same for any other.",
        "Paid once is the training that serves all specialists, with that of the models that it starts from. A way "
        "that trains a model for each specialist pays its share of that training, parents included, for each.",
        "Fine-tuning is paid for each, with the trials of its learning rate.",
        "Not counted: the corpus, the search for the settings of the training, measuring the losses, and keeping and "
        "serving the models.",
        f"Hours measured are those of the records ({'; '.join(machines)}), the specialists one after the other."
        + (" They come from several machines, so compare the FLOPs." if len(machines) > 1 else ""),
    ]
    if flops_per_second:
        notes.append(f"Hours at that rate are the FLOPs at {flops_per_second:g} FLOPs per second.")
    if gpu_hour:
        which = "at that rate" if flops_per_second else "measured"
        notes.append(f"Money is {gpu_hour:g} for each of the hours {which}, in the currency of that price.")
    notes += [
        "The loss is on test text (nats/token), a mean over the seeds and the "
        f"{len(found.view.within)} specialists within the corpus. {MISSING}: one of them has no record. It is for the "
        "specialists of the records, whatever N.",
        "Minus generic is the difference to generic pretraining without fine-tuning on as many tokens as the soup, "
        "paired by specialist and seed. Below 0 is better. Better than generic counts the specialists that have both.",
        f"Break-even is the smallest number of specialists from which {found.soup.name} costs less than the "
        "row's method. never: there is none; up to N: it costs less for the first N only.",
    ]
    merged = [way.name for way in found.ways if way.label.startswith("merge_")]
    if merged and found.merge_chosen:
        notes.append(f"Merging is {merged[0]}, {found.merge_chosen}.")
    return notes
