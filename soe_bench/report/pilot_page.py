"""pilot.html: the page of a pilot, made from pilot.json, which soe_bench/pilot.py writes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from soe_bench.errors import UserError
from soe_bench.records import MOST_BEYOND_Q99
from soe_bench.report.figures.map import map_chart
from soe_bench.report.figures.style import BARE, no_font, render
from soe_bench.report.format import Table, fixed
from soe_bench.report.page import Picture, Section, html
from soe_bench.system.files import write_bytes
from soe_bench.system.words import counted

DATA, PAGE = "pilot.json", "pilot.html"
NEAREST = 5  # domains of a specialist that are named


def write_pilot(folder: Path) -> Path:
    """Writes the page of the pilot in a results folder; returns its path. Raises UserError if pilot.json is damaged."""
    path = folder / DATA
    try:
        pilot = json.loads(path.read_bytes())
        page = html("Pilot", _sections(pilot))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{path} is damaged, or another version wrote it ({error!r})"
        raise UserError(f"{what}: run the pilot's command again") from error
    write_bytes(folder / PAGE, page.encode())
    return folder / PAGE


def _sections(pilot: dict[str, Any]) -> list[Section]:
    domains = pilot["domains"]
    return [
        _overview(pilot),
        _read(pilot["read"]),
        *(_specialist(each, domains) for each in pilot["specialists"]),
        _map(domains, pilot["specialists"]),
        _domains(domains),
        _cost(pilot["cost"]),
        Section("A further specialist", ("It takes seconds, and nothing is trained:",), quote=pilot["command"]),
    ]


def _overview(pilot: dict[str, Any]) -> Section:
    text = (
        "A soup, and one model of the whole corpus (generic pretraining), were trained on the same number of tokens of "
        "the folder. The corpus is divided into domains, which are clusters of similar passages. It holds about "
        f"{pilot['generic_fraction']:.0%} of the text of each specialist, so that its kind of text has a domain. The "
        "soup then gives each specialist a model of its own from its domain weights h, which say which fraction of "
        f"its text belongs to each domain. It has {pilot['parameters']:,} parameters, as many as the generic model. "
        "The gate is a comparison on documents that no training, no estimate and no choice used. It compares the "
        "specialist with the better of two generic models: the generic run, and the soup at h_0, the domain weights "
        "of the whole corpus. Where the specialist is worse, the generic model is written in its place.",
        "A loss is in nats per token: lower is better. An interval holds the true difference in 95 % of such "
        f"comparisons. The runs are {pilot['soup']} and {pilot['generic']}.",
    )
    if not pilot["specialists"]:
        none = "No specialist was made: the folder has no specialists/, or they have too little test text."
        return Section("Result", (*text, none))
    branched = any(row["model"] == "branched model" for each in pilot["specialists"] for row in each["rows"])
    if branched:
        flops = {row["part"]: row["flops"] for row in pilot["cost"]}
        times = flops["generic pretraining and the branched models"] / flops["soup"]
        # It is more than 1 where one step for each of many specialists is more than the rest of the soup's compute.
        took = "as many FLOPs as the soup" if times < 1.1 else f"{times:.1f} times the FLOPs of the soup"
        text += (
            "A branched model goes on from the generic run for each specialist, and was trained on the domains as its "
            f"h weighs them. With the generic run these models took {took} (see Cost). Of a "
            "specialist's two models, the one with the lower loss on validation text goes to the gate. The tables call "
            "the soup's model the specialist.",
        )
    text += (
        f"About {1 - pilot['generic_fraction']:.0%} of each specialist's own text was not trained on, as h and the "
        "comparison rest on it. For texts that are known beforehand, training a model on each (method=crisp), or "
        "fine-tuning one on each, may give better models.",
    )
    if outside := pilot["outside"]:
        counts = "" if len(outside) == len(pilot["specialists"]) else ", so that its means and counts leave them out"
        text += (
            f"The report beside this page, report.html, says of {', '.join(outside)} that the text lies outside the "
            f"corpus{counts}. It means that more than {MOST_BEYOND_Q99:.0%} of the passages are farther from their "
            f"domain than 99 % of the corpus's passages. Of that text about {pilot['generic_fraction']:.0%} is in the "
            "corpus.",
        )
    own = [
        (each, row)
        for each in pilot["specialists"]
        for row in each["rows"]
        if row["model"] in ("specialist", "branched model")
    ]
    better = Counter(row["model"] for _, row in own if row["minus"][0] <= 0)  # whether or not it was written
    total = counted(len(pilot["specialists"]), "specialist")
    answer = f"The soup's model is better than the generic one for {better['specialist']} of {total}"
    answer += f", the branched model for {better['branched model']}." if branched else "."
    rows = [
        {"specialist": each["name"], "model": row["model"], **_losses(row, "minus generic"), "written": each["written"]}
        for each, row in own
    ]
    note = "minus generic: the model's loss minus that of the better generic model; below 0 it is better"
    return _tabular("Result", (answer, *text), "The gate", rows, note)


def _read(read: dict[str, Any]) -> Section:
    """What the corpus holds of the folder."""
    trained = read["generic_training_tokens"]
    total, tokens = sum(trained.values()), read["training_tokens"]
    notes = "; ".join(f"{count} x {kind}" for kind, count in read["notes"].items()) or "nothing"
    text = (
        f"{read['documents_read']:,} documents were read, and {read['documents']:,} of them are in the corpus. "
        f"Left out as repetitions: {counted(read['duplicates_removed'], 'passage')}. "
        f"What else was left out, cut or guessed: {notes}.",
        f"The generic training text has {total:,} tokens. The soup and the generic model read {tokens:,} each, "
        f"{tokens / total:.1f} passes over it.",
    )
    rows = [
        {"source": name, "tokens": f"{count:,}", "of these trained on": f"{trained.get(name, 0):,}"}
        for name, count in read["sources"].items()
    ]
    return _tabular("What was read", text, "Sources of the text", rows)


def _specialist(each: dict[str, Any], domains: list[dict[str, Any]]) -> Section:
    named = {domain["domain"]: domain for domain in domains}
    order = sorted(range(len(each["h"])), key=lambda i: (-each["h"][i], i))[:NEAREST]
    nearest = [
        {"domain": str(i), "weight": f"{each['h'][i]:.2f} ({each['low'][i]:.2f} to {each['high'][i]:.2f})"}
        | {"what it holds": _holds(named[i])}
        for i in order
        if each["h"][i] > 0
    ]
    losses = [{"model": row["model"], **_losses(row, "difference")} for row in each["rows"]]
    note = "weight: in h, the share of the specialist's text (95 % interval, if its documents are drawn again)"
    written = each["kept"] or f"The {each['written']} was written, into the folder {each['folder']} beside this page."
    return Section(
        f"Specialist {each['name']}",
        (each["verdict"], written, *(f"Warning: {warning}" for warning in each["warnings"])),
        sections=(
            _tabular("Gate", (), "Losses on held-out text", losses, f"difference: to the {each['reference']}"),
            _tabular("Domains", (), "Nearest domains", nearest, note),
            Section("Sample", ("Text that the written model made, drawn at temperature 0.8:",), quote=each["sample"]),
        ),
    )


def _map(domains: list[dict[str, Any]], specialists: list[dict[str, Any]]) -> Section:
    chart = map_chart(domains, specialists)
    images, warnings = render(chart)
    for line in no_font(warnings):
        print(line)
    return Section(chart.finding, figure=Picture(images[BARE], chart.caption, shrinks=True))


def _domains(domains: list[dict[str, Any]]) -> Section:
    rows = [
        {"domain": str(each["domain"]), "% of the text": fixed(100 * each["fraction"], 1)}
        | {"what it holds": _holds(each)}
        for each in sorted(domains, key=lambda each: -each["fraction"])
    ]
    return _tabular("All domains", (), "Domains, the largest first", rows)


def _holds(domain: dict[str, Any]) -> str:
    """Its most over-represented words, and the sources of its text."""
    return f"{domain['terms']}\nfrom {domain['sources']}"


def _cost(cost: list[dict[str, Any]]) -> Section:
    rows = [
        {"part": each["part"], "seconds": fixed(each["seconds"], 1)}
        | {"training tokens": "" if each["tokens"] is None else f"{each['tokens']:,}"}
        | {"FLOPs": "" if each["flops"] is None else f"{each['flops']:.2g}"}
        for each in cost
    ]
    note = "each specialist: h, the weighted sum, the gate and the written files"
    return _tabular("Cost", (), "What each part took", rows, note)


def _tabular(heading: str, text: tuple[str, ...], title: str, rows: list[dict[str, str]], note: str = "") -> Section:
    """A section with a table below its text."""
    return Section(heading, text, table=Table(heading, title, pd.DataFrame(rows), [note] if note else []))


def _losses(row: dict[str, Any], name: str) -> dict[str, str]:
    """The cells of a loss and, where there is one, its difference to another, under that name, with its interval."""
    signed = [f"{value + 0.0:+.3f}" for value in row["minus"] or []]
    return {"loss": fixed(row["loss"], 3), name: "".join(signed[:1]), "95 % interval": " to ".join(signed[1:])}
