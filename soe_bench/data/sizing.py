"""The size of a pilot (`+sweep=pilot`): model, training tokens and number of domains from the text of a folder."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from soe_bench.config import check_folders, check_text, job_configs, make
from soe_bench.errors import UserError
from soe_bench.records import MOST_EPOCHS, read_records
from soe_bench.system.files import CONF
from soe_bench.system.words import counted

PILOT = "+sweep=pilot"
BYTES_PER_TOKEN = 2.5  # of the corpora here, whose tokenizers have 2048 tokens; UTF-8 text
PASSES = 4  # over the training text: up to about so many are nearly as good as new text (arXiv 2305.16264)
LEAST_TOKENS = 2_000_000  # about 20 for each parameter of scale=small: with less it learns little, however few the text
DOMAIN_TOKENS = 40_000  # of a domain on average: about a hundred kB, so that it is a subject and not a document
DOMAINS = 4, 64  # at least and at most, as many as the corpus wheels has
TEST_PASSAGES = 2  # of a specialist, at least: one alone gives the gate no interval


@dataclass(frozen=True)
class Size:
    """A scale of conf/scale, the training tokens, and data.k."""

    scale: str
    tokens: int
    k: int


def size(tokens: int) -> Size:
    """The size for so many tokens of generic training text.

    The training reads it PASSES times. The budget of scale=medium is the least with as many tokens for each of its
    parameters as scale=small has, so a smaller one takes the smaller model, and never more than the scale's own budget:
    a run takes minutes with scale=small, and half an hour or more with scale=medium.
    """
    budgets = {name: OmegaConf.load(CONF / "scale" / f"{name}.yaml").train.tokens for name in ("small", "medium")}
    budget = PASSES * tokens
    scale = "medium" if budget >= budgets["medium"] else "small"
    least, most = DOMAINS
    return Size(scale, min(max(budget, LEAST_TOKENS), budgets[scale]), min(max(tokens // DOMAIN_TOKENS, least), most))


def sized(arguments: list[str], writes: bool = False) -> list[str]:
    """The arguments of a pilot with its size; what they set already stays. Prints what was found and chosen. Other
    arguments are given back as they are.

    It reads the whole folder, so that bad text is refused before anything else is done. Raises UserError for that, for
    arguments that make other runs than one soup and one of generic pretraining, and before, where the command `writes`
    results, for folders that cannot be written or hold the results of other text.
    """
    if PILOT not in arguments:
        return arguments
    if any(argument.startswith("data=") and argument != "data=local" for argument in arguments):
        raise UserError("a pilot is made from a folder of yours: give data=local data.source.folder=FOLDER")
    if own := [argument for argument in arguments if argument.startswith("method.")]:
        job_configs(["method=soup", *own])  # says it if there is no such setting
        raise UserError(
            f"a pilot trains a soup and a generic model as conf/method has them, so it does not take {own[0]}: with "
            f"that setting train the soup alone, by `python -m soe_bench data=local data.source.folder=FOLDER {own[0]}`"
        )
    cfgs = job_configs(arguments)[0]
    if [cfg.method.name for cfg in cfgs] != ["soup", "generic"]:
        raise UserError(
            "a pilot trains one soup and one generic model: give one value of each setting, and no "
            "method, references or hydra.mode"
        )
    data = cfgs[0].data
    if writes:
        check_folders(cfgs[0])
        check_unchanged(cfgs[0])
    else:
        check_text(cfgs[0])
    # Here and not above: what is refused needs no pandas and no torch.
    from soe_bench.data.builder import read, specialist_rules
    from soe_bench.data.splits import generic_training

    source = make(data.source)
    given = {argument.lstrip("+").partition("=")[0] for argument in arguments}
    rules = specialist_rules(source, data)
    if "data.k" not in given:
        data.k = 2  # the fewest domains, so that no more text is asked for than is needed
    table, documents = read(source, rules, data, Path(cfgs[0].home))
    for name in rules:
        if (count := int(((table.specialist == name) & (table.split == "test")).sum())) < TEST_PASSAGES:
            raise UserError(
                f"the specialist {name} has {count} passage of test text, too little to compare models on: give it "
                f"more documents, or longer ones (a passage has {data.passage_characters} characters at most)"
            )
    train = table.text[generic_training(table)]
    tokens = round(sum(len(text.encode()) for text in train) / BYTES_PER_TOKEN)
    found = size(tokens)
    scale = {"scale": found.scale, "train.tokens": found.tokens}
    chosen = {} if given & {"scale", "model", *scale} else scale
    chosen |= {} if "data.k" in given else {"data.k": min(found.k, len(train))}
    own = [f"{key}={value}" for key, value in chosen.items()]
    budget = chosen.get("train.tokens", cfgs[0].train.tokens)
    if os.environ.get("RANK", "0") == "0":
        print(
            f"{counted(documents, 'document')}, {counted(len(rules), 'specialist')}, about {tokens:,} tokens of "
            "generic training text. "
            f"Each model reads {budget:,} tokens, {budget / tokens:.1f} passes over it."
        )
        print(f"chosen for this size: {' '.join(own) or 'nothing'}", flush=True)
        if budget > MOST_EPOCHS * tokens:
            print(
                f"warning: in more than {MOST_EPOCHS} passes the models partly memorise this text: add text",
                file=sys.stderr,
            )
        if not rules:
            print(
                "warning: the folder has no specialists, so that none is made or compared: put the documents of each "
                f"into a folder of its own, such as {data.source.folder}/specialists/contracts",
                file=sys.stderr,
            )
    return [*arguments, *own]


def check_unchanged(cfg: DictConfig) -> None:
    """Raises UserError if the results folder holds records of other text than lies in the folder now. The corpora of
    the records tell, where they are still there; elsewhere the fingerprint does, once the size is known."""
    results, name = Path(cfg.results_dir), cfg.data.name
    if not (results / "evaluations.csv").exists():
        return
    from soe_bench.data.corpus import fingerprint, load, named

    for known in {record["data_fingerprint"] for record in read_records(results) if record["data"] == name}:
        built = named(name, Path(cfg.home), known)
        if not (built / "done").is_file():
            continue
        load(built)  # a damaged one is refused
        data = OmegaConf.load(built / "config.yaml")
        data.source.folder = cfg.data.source.folder
        seed = json.loads((built / "audit.json").read_text(encoding="utf-8"))["seed_kmeans"]
        if fingerprint(data, seed) != known:
            again = shlex.quote(f"results_dir={results}-2")
            raise UserError(f"the text has changed since the records in {results} were made: add {again}")
