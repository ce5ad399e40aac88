"""What is said of a specialist, on the screen and in its model card: words and one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from soe_bench.specialists.specialist import AT_H_0, BRANCHED, GENERIC_RUN, Specialist
from soe_bench.specialists.trained import TrainedSoup
from soe_bench.system.machine import git_state
from soe_bench.system.places import TAG
from soe_bench.system.words import counted

NEAREST = 5  # domains that are named
LICENCE = """## Licence

The code that made this model has the MIT licence. Whether the weights may be passed on depends on the licences of the
text that the model was trained on, and of the documents if it was fine-tuned on them. Decide that before you do.
"""
SHARED = "Before you share this folder, look for what nobody else should see: {what} of the text that it was made of."
LOAD = """## How to load it

    pip install torch "transformers>=4.45,<6"    # tried with 4.45.2, 4.57.6 and 5.23.0

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder")
model = AutoModelForCausalLM.from_pretrained("this folder")
made = model.generate(**tokenizer("The first words", return_tensors="pt"), do_sample=True, max_new_tokens=40)
print(tokenizer.decode(made[0], skip_special_tokens=True))
```

Every text begins with the end-of-text token, which the tokenizer puts there. The model was trained on {length} tokens
of context: give it no more. lm-eval-harness puts the token there itself in tasks of perplexity: add
`add_bos_token=False` to its `model_args` for these.
"""
SOUP = """---
tags: [{tag}]
---

# {name}: a soup of experts

{experts} experts and what they share. It is no model for transformers: `soe_bench` makes models of it, each for some
documents of yours.

## How to load it

    python -m soe_bench.specialize soup="this folder" documents="new texts" out=my-specialist

```python
from soe_bench import Soup

model = Soup.load("this folder").specialist("new texts")  # a torch.nn.Module
```

## What it was trained on

{facts}

"""


def plain(text: str) -> str:
    """Text from outside, such as a folder's name, which must not act as Markdown or HTML. Bytes that are not UTF-8
    become escapes."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#~$" else " " if c in "\r\n" else c for c in text)


def words(made: Specialist, escape: Callable[[str], str] = plain) -> list[str]:
    """Paragraphs and lists in Markdown: what was read, the domains, how sure h is, and the comparison. Text from
    outside goes through `escape`."""
    text, found, soup = made.documents, made.estimate, made.soup
    total = counted(text.count, "document")
    total += f", {int(text.passages.tokens.sum()):,} tokens in {counted(len(text.passages), 'passage')}"
    low, high = soup.effective_domains
    lines = [
        f"Read {total}. The domain weights h say which fraction of this text belongs to each domain, a cluster of the "
        f"corpus's passages. They are estimated from {counted(found.passages, 'passage')}."
    ]
    lines += ["Nearest domains, with their weight in h (and its 95 % interval if the documents are drawn again):"]
    lines += ["\n".join(_nearest(made, escape))]
    lines += [
        f"The text is spread over about {found.effective:.1f} domains (exp of the entropy of h). In training, 95 % of "
        f"the draws of h were spread over {low:.1f} to {high:.1f}.",
        f"If other documents of this kind were drawn, about {found.moved:.0%} of the weight in h would move to other "
        "domains (bootstrap over the documents).",
        f"{found.far:.0%} of the passages are farther from their domain than 99 % of the corpus's passages.",
        f"{made.dense:.0%} of the passages take more tokens per byte than 99 % of the corpus's passages.",
        *made.said,
    ]
    if made.verdict is not None:
        needs = made.verdict.row(AT_H_0).bits_per_byte
        lines += [
            f"The soup at h_0, the weights of its whole corpus, needs {needs:.2f} bits per byte for the held-out text. "
            f"For 99 % of its corpus's held-out passages it needs at most {soup.bits_per_byte:.2f}: far more "
            "means that it does not know such text."
        ]
        lines += [f"The generic run in this table is {escape(made.origin)}."] if made.origin else []
        lines += [table(made), made.verdict.words]
    return lines


def _nearest(made: Specialist, escape: Callable[[str], str]) -> list[str]:
    h, (low, high) = made.estimate.h, made.estimate.interval
    rows = made.soup.domains.set_index("domain")
    chosen = [int(i) for i in np.argsort(-h, kind="stable")[:NEAREST] if h[i] > 0]
    return [
        f"- {h[i]:.2f} ({low[i]:.2f} to {high[i]:.2f}) domain {i}: {escape(rows.top_terms[i])} "
        f"(from {escape(rows.top_sources[i])})"
        for i in chosen
    ]


def table(made: Specialist) -> str:
    """The gate's table: every model's loss, and its difference to the best generic model."""
    verdict = made.verdict
    assert verdict is not None
    rows = [["model", "nats per token", "bits per byte", f"minus {verdict.reference}", "95 % interval", ""]]
    for row in verdict.rows:
        found = row.difference
        own = "" if found is None else f"{found.mean:+.3f}"
        interval = "" if found is None else f"{found.low:+.3f} to {found.high:+.3f}"
        shipped = "written" if row.name == made.kind else ""
        rows.append([row.name, f"{row.loss:.3f}", f"{row.bits_per_byte:.3f}", own, interval, shipped])
    unit = "passages" if made.documents.by_passage(choices=False) else "documents"
    text = f"{verdict.tokens:,} tokens of {verdict.units} {unit}"
    head = f"Losses on {text} that neither h nor any choice before the gate rests on:"
    return f"{head}\n\n{markdown(rows)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown with aligned columns; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width for width in widths]
    lines = (
        "| " + " | ".join(x.ljust(n) for x, n in zip(row, widths, strict=True)) + " |"
        for row in (rows[0], rule, *rows[1:])
    )
    return "\n".join(lines)


def card(made: Specialist) -> str:
    """The README.md of a specialist's folder."""
    soup, commit = made.soup, git_state()["commit"]
    what = f"{plain(made.name)}: {made.kind}" if made.name else made.kind
    of_run = made.kind == BRANCHED or made.kind.endswith(GENERIC_RUN)
    facts = [f"generic run: {made.origin}, on as many tokens as the soup"] if of_run else []
    facts += [*_origin(soup), f"made by soe_bench at commit {commit}", f"h: {numbers(made.estimate.h)}"]
    facts += [f"alpha: {numbers(made.alpha.tolist())}"] if made.alpha is not None else []
    warnings = [f"**Warning.** {text}" for text in made.warnings]
    return page(what, [*warnings, *words(made)], facts, made.model, soup.seq_len)


def page(title: str, paragraphs: Sequence[str], facts: Sequence[str], model: nn.Module, length: int) -> str:
    """A model card: paragraphs, the size of the model, the facts that it can be made again from, and how to load it."""
    size = f"model: {sum(value.numel() for value in model.parameters()):,} parameters, {length} tokens of context"
    head = f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [{TAG}]\n---"
    listed = "\n".join(f"- {fact}" for fact in [size, *facts])
    parts = [head, f"# {title}", *paragraphs, "## Where it comes from", listed, LOAD.replace("{length}", str(length))]
    shared = SHARED.format(what="this card has names of folders and frequent words")
    return "\n\n".join(parts) + f"\n{LICENCE}\n{shared}\n"


def soup_card(soup: TrainedSoup) -> str:
    """The README.md of an exported soup."""
    size = sum(value.numel() for value in soup.at_h_0.parameters())
    generic = soup.facts["generic"] or "none, so that its specialists are compared with the soup alone"
    facts = [*_origin(soup), f"its models: {size:,} parameters, {soup.seq_len} tokens of context"]
    facts += [f"generic run of the same budget: {generic}"]
    text = SOUP.format(
        tag=TAG, name=plain(soup.name), experts=soup.method.n_experts, facts="\n".join(f"- {fact}" for fact in facts)
    )
    shared = SHARED.format(what="domains.csv has names of folders and frequent words, tokenizer.json words")
    return f"{text}{LICENCE}\n{shared}\n"


def _origin(soup: TrainedSoup) -> list[str]:
    """Which training made a soup, on what."""
    training = soup.training
    return [
        f"soup: run {soup.name}, trained on {training['training_tokens']:,} tokens at commit {training['commit']}",
        f"corpus: {training['data']}, fingerprint {training['data_fingerprint']}",
    ]


def numbers(values: Sequence[float] | np.ndarray) -> str:
    """The numbers in order, those that are 0 short."""
    return " ".join("0" if value == 0 else f"{value:.4g}" for value in values if not math.isnan(value))
