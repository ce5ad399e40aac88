"""The settings that every job has: a class for each group of conf/config.yaml, with the settings as its fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from soe_bench.records import CONTROLS, ESTIMATORS, SPLITS
from soe_bench.settings.kinds import (
    BelowOne,
    Count,
    Device,
    Fraction,
    Group,
    Name,
    NotNegative,
    Part,
    Positive,
    Precision,
    Seed,
    Size,
    Text,
    Threads,
    Yes,
    list_of,
    must_be,
    number,
    one_of,
    whole,
)


class Seeds(Group):
    data: Seed
    init: Seed
    mix: Seed
    kmeans: Seed


class OptimizerSettings(Group):
    beta1: BelowOne
    beta2: BelowOne
    eps: number("a number from 1e-30 to 1", ge=1e-30, le=1)  # a smaller one is 0 in float32
    weight_decay: NotNegative
    warmup_ratio: Fraction
    min_lr_ratio: Fraction
    max_grad_norm: Positive


class Train(Group):
    seq_len: whole(1, 2**20)
    batch_size: whole(1, 2**20)
    draws_per_step: whole(1, 2**20)
    tokens: Count
    precision: Precision
    moments: Precision | None
    compile: Yes | None
    validations: Size
    curve_tokens: whole(2)  # the first token is not predicted
    checkpoint_every: Count
    optimizer: OptimizerSettings


class FineTuning(Group):
    lrs: list_of(Positive, "different rates, one at least", least=1)
    batch_size: whole(1, 2**20)
    epochs: Count
    max_tokens: Count


class Evaluate(Group):
    splits: list_of(one_of(*SPLITS), "one or more of validation, test", least=1)
    budgets: list_of(Count, "different numbers of tokens")
    documents: list_of(Count, "different numbers of documents")
    draws: Count
    controls: list_of(one_of(*CONTROLS), f"some of {', '.join(CONTROLS)}, each once")
    estimators: list_of(one_of(*ESTIMATORS), f"some of {', '.join(ESTIMATORS)}, each once")
    fine_tuning: FineTuning


class Wandb(Group):
    mode: one_of("online", "offline", "disabled")
    project: Annotated[
        str, Field(pattern=r"^[^/\\#?%:]{1,128}$"), must_be("1 to 128 characters, without / \\ # ? % and :")
    ]


class ModelSettings(Group):
    name: Name
    base: dict[str, Any]  # BASES


class Embedding(Group):
    dimensions: Size
    maximum_terms: Size
    maximum_fraction: Part
    sample_characters: Count
    seed: Seed
    model: Text | None = None  # of embedder=minilm, as the next two
    sha256: Text | None = None
    folder: Text | None = None


class Held(Group):
    """A split of a specialist: caps, and the fraction of the documents."""

    characters: Count
    tokens: Count
    fraction: Fraction
    passages_per_document: Count


class EstimateSplit(Group):
    documents: Count
    fraction: Fraction
    passages_per_document: Count


class GenericHeld(Group):
    characters_per_source: Count
    fraction: Fraction
    passages_per_document: Count


class GenericTrain(Group):
    characters_per_source: Count


class GenericSplits(Group):
    test: GenericHeld
    validation: GenericHeld
    train: GenericTrain


class Splits(Group):
    largest_fraction: Part
    test: Held
    validation: Held
    estimate: EstimateSplit
    generic: GenericSplits


class Rule(Group):
    """Which documents a specialist has."""

    source: Text
    match: list[Text]
    exclude: list[Text] = []
    generic_fraction: Fraction = 0.0


class Data(Group):
    name: Name
    source: dict[str, Any]  # SOURCES
    vocab_size: whole(257, 65536)  # 256 bytes and the end of a text are the least; ids are stored in 16 bits
    passage_characters: Size
    minimum_characters: whole(0)
    duplicate_jaccard: Part
    tokenizer_sample_characters: Count
    k: whole(1, 10**6)
    minimum_domain_tokens: whole(0)
    embedding: Embedding
    splits: Splits
    specialists: dict[str | int | float | bool, Rule] | None


class Settings(Group):
    """All settings of a job."""

    seed: Seed
    seeds: Seeds
    train: Train
    evaluate: Evaluate
    references: list_of(Name, "methods, each once")
    sweep_name: Name
    scale_name: Name
    home: Text
    results_dir: Text
    device: Device
    threads: Threads | None
    wandb: Wandb
    model: ModelSettings
    data: Data
    method: dict[str, Any]  # METHODS
    pi: dict[str, Any]  # LAWS
