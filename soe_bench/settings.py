"""Every setting with its type and range: one schema, which the configuration of every job must keep before anything is
planned. `check` is its only entry.

A group of conf/ is a class here, and its settings are the fields. What a `_target_` names has settings of its own, in
the tables METHODS, LAWS, BASES and SOURCES: a class that is not in these (a method of yours) may have any settings,
which its constructor judges. Importing this module imports nothing heavy, so that bad settings are answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from soe_bench.errors import UserError

CUDA = r"cuda(:\d{1,3})?"
NAME = r"[\p{L}\p{N}][\p{L}\p{N}_.+-]{0,99}"  # names of runs and corpora become parts of folder names


def must_be(words: str) -> WrapValidator:
    """The rule of a type in words, which stands in the message instead of pydantic's own."""

    def checked(value: Any, inner: Any) -> Any:
        try:
            return inner(value)
        except ValidationError:
            raise PydanticCustomError("rule", "it must be {words}", {"words": words}) from None

    return WrapValidator(checked)


def one_of(*names: Any) -> Any:
    """A type that has these values only. The message begins its list with the nearest one."""

    def checked(value: Any, inner: Any) -> Any:
        if not any(value == name and type(value) is type(name) for name in names):
            words = ", ".join(nearest(value, map(str, names)))
            raise PydanticCustomError("rule", "it must be one of {words}", {"words": words})
        return value

    return Annotated[Any, WrapValidator(checked)]


def whole(least: int, most: int = 10**15) -> Any:
    """A whole number in a range; `true` and 2.0 are none."""
    words = f"a whole number from {least}" + (f" to {most}" if most != 10**15 else "")
    return Annotated[int, Field(ge=least, le=most), must_be(words)]


def number(words: str, **limits: float) -> Any:
    """A finite number within pydantic's `limits` (ge, gt, le, lt)."""
    return Annotated[float, Field(allow_inf_nan=False, **limits), must_be(words)]


def list_of(kind: Any, words: str, least: int = 0) -> Any:
    """A list of at least that many values, none of them twice."""

    def checked(value: Any, inner: Any) -> Any:
        if not isinstance(value, list) or len(value) < least or any(value.count(each) > 1 for each in value):
            raise PydanticCustomError("rule", "it must be {words}", {"words": f"a list [A,B] of {words}"})
        return inner(value)

    return Annotated[list[kind], WrapValidator(checked)]


Count = whole(1)
Size = whole(1, 2**31 - 1)  # of something that a machine holds side by side
Seed = whole(0, 2**32 - 1)  # the range that numpy, torch and scikit-learn all take
Experts = Annotated[
    int, Field(ge=1, le=2**31 - 1), must_be("a whole number from 1 (without experts: method=dense_on_pi)")
]
Fraction = number("a number from 0 to 1", ge=0, le=1)
Part = number("a number above 0, at most 1", gt=0, le=1)
Positive = number("a finite number above 0", gt=0)
NotNegative = number("a finite number from 0", ge=0)
BelowOne = number("a number from 0, below 1", ge=0, lt=1)
Text = Annotated[str, Field(min_length=1), must_be("text that is not empty")]
Name = Annotated[
    str,
    Field(pattern=f"^{NAME}$"),
    must_be(
        "letters, digits and _ . + - (100 at most, a letter or digit first), because it is part of a folder's name"
    ),
]
Device = Annotated[str, Field(pattern=f"^(cpu|{CUDA})$"), must_be("cpu or cuda (or cuda:1 for the second GPU)")]
Precision = one_of("float32", "bfloat16")
Yes = Annotated[Literal[True], must_be("true or null")]
# The most threads that a setting may ask for. More than the machine has cores is allowed, because a job may run on
# another machine, but none that this project meets has more than this.
Threads = Annotated[int, Field(ge=1, le=1024), must_be("a whole number from 1 to 1024, or null for all cores")]

Split = Literal["validation", "test"]
Control = Literal["uniform", "shuffled", "h_0", "tuned", "zero"]
Estimator = Literal["nearest_centroid", "smoothed", "soft", "tuned_coefficients"]


class Group(BaseModel):
    """A group of settings: all must be there, and no others."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Target(BaseModel):
    """Settings of a class that this file does not know: any, beside the class itself."""

    model_config = ConfigDict(strict=True, extra="allow")
    target: Text = Field(alias="_target_")


class KnownClass(Target):
    """Settings of a class of this project."""

    model_config = ConfigDict(strict=True, extra="forbid")


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
    passes: Count
    tokens: Count
    evaluations: Count
    patience: Count


class Evaluate(Group):
    splits: list_of(one_of(*get_args(Split)), "one or more of validation, test", least=1)
    budgets: list_of(Count, "different numbers of tokens")
    documents: list_of(Count, "different numbers of documents")
    draws: Count
    controls: list_of(one_of(*get_args(Control)), f"some of {', '.join(get_args(Control))}, each once")
    estimators: list_of(one_of(*get_args(Estimator)), f"some of {', '.join(get_args(Estimator))}, each once")
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


class ParentSettings(Group):
    method: Name
    fraction: Part
    lr: Positive | None = None


class MethodSettings(Target):
    """What every method has. A method that is not in METHODS has whatever else its constructor takes."""

    name: Name
    lr: Positive | None = None
    parent: ParentSettings | None = None
    n_experts: Size | None = None


class KnownMethodSettings(KnownClass):
    name: Name
    lr: Positive
    parent: ParentSettings | None = None


class OnDrawsSettings(KnownMethodSettings):
    pi: dict[str, Any]  # LAWS


class RouterSettings(Group):
    hidden: whole(1, 2**20)
    activation: one_of("softmax", "linear")
    init_std: NotNegative


class SoupSettings(OnDrawsSettings):
    n_experts: Experts
    expert_lr_ratio: NotNegative
    expert_init: NotNegative
    router: RouterSettings


class GeneratedSettings(OnDrawsSettings):
    network_lr_ratio: NotNegative


class LowRankSoupSettings(GeneratedSettings):
    n_experts: Experts
    rank: whole(1, 2**16)
    router: RouterSettings


class HypernetworkSettings(GeneratedSettings):
    rank: whole(1, 2**16)
    as_experts: Size
    init_std: NotNegative


class ProjectedSettings(GeneratedSettings):
    embedding: whole(1, 2**20)
    as_experts: Size


class GroupsSettings(KnownMethodSettings):
    groups: Size


class DomainExpertsSettings(GroupsSettings):
    generic_fraction: BelowOne = 0.0


class SeparateExpertsSettings(GroupsSettings):
    tokens_each: Part


class PostHocSettings(KnownClass):
    name: Name
    parent: ParentSettings


class MergeSettings(PostHocSettings):
    weights: one_of("h", "uniform")


class ScaledMergeSettings(MergeSettings):
    scale: Annotated[
        Annotated[float, Field(allow_inf_nan=False)] | Literal["default", "tuned"],
        must_be("default, tuned or a finite number"),
    ]


class SparseMergeSettings(ScaledMergeSettings):
    density: Part


class TiesSettings(SparseMergeSettings):
    trim: one_of("model", "tensor")


class DareTiesSettings(SparseMergeSettings):
    normalize: Annotated[bool, must_be("true or false")]


METHODS: dict[str, type[Target]] = {
    "soe_bench.soup.SoupOfExperts": SoupSettings,
    "baselines.best_expert.BestExpert": PostHocSettings,
    "baselines.crisp.Crisp": KnownMethodSettings,
    "baselines.dense_conditioned.DenseConditioned": GeneratedSettings,
    "baselines.dense_on_pi.DenseOnPi": OnDrawsSettings,
    "baselines.domain_experts.DomainExperts": DomainExpertsSettings,
    "baselines.domain_experts.SeparateExperts": SeparateExpertsSettings,
    "baselines.ensemble.Ensemble": MergeSettings,
    "baselines.generic.Generic": KnownMethodSettings,
    "baselines.hypernetwork.Hypernetwork": HypernetworkSettings,
    "baselines.low_rank_soup.LowRankSoup": LowRankSoupSettings,
    "baselines.merge_aligned.MergeAligned": MergeSettings,
    "baselines.merge_dare_ties.MergeDareTies": DareTiesSettings,
    "baselines.merge_gradient.MergeGradient": MergeSettings,
    "baselines.merge_linear.MergeLinear": MergeSettings,
    "baselines.merge_slerp.MergeSlerp": MergeSettings,
    "baselines.merge_task_arithmetic.MergeTaskArithmetic": ScaledMergeSettings,
    "baselines.merge_ties.MergeTies": TiesSettings,
    "baselines.projected.Projected": ProjectedSettings,
}


class LawSettings(KnownClass):
    """The distribution of the domain weights in training."""

    max_support: Size
    domains: one_of("h_0", "uniform")
    concentration: Positive
    generic_fraction: Fraction


LAWS: dict[str, type[Target]] = {"soe_bench.mixture.MetaDistribution": LawSettings}


class LlamaSettings(KnownClass):
    vocab_size: whole(1, 2**20)
    hidden_size: whole(1, 2**16)
    num_hidden_layers: whole(1, 2**12)
    num_attention_heads: whole(1, 2**12)
    intermediate_size: whole(1, 2**18)
    max_position_embeddings: whole(1, 2**20)
    tie_word_embeddings: Annotated[bool, must_be("true or false")]


BASES: dict[str, type[Target]] = {"soe_bench.model.Llama": LlamaSettings}


class LocalSettings(KnownClass):
    folder: Text | None
    text_field: Text
    characters_per_file: Count
    characters_per_source: Count
    characters: Count
    minimum_characters: whole(0)
    generic_fraction: Fraction
    strict: Annotated[bool, must_be("true or false")]


class HubSetSettings(Group):
    format: one_of("json", "parquet")
    files: list[Text]
    text_field: Text
    source_field: Text | None
    sources: list[Text] | None
    rows: Count
    documents_per_source: Count
    characters_per_source: Count


class HuggingFaceSettings(KnownClass):
    sets: dict[str, HubSetSettings]


class SyntheticSettings(KnownClass):
    domains: whole(1, 2**10)
    words: whole(1, 2**16)
    shared: whole(0, 2**16)
    documents: whole(1, 2**20)
    passages: whole(1, 2**16)
    passage_words: whole(1, 2**16)
    seed: Seed
    mixtures: dict[str, list[Fraction]]


class WheelsSettings(KnownClass):
    manifest: Text
    wheels: dict[str, list[Text]]


SOURCES: dict[str, type[Target]] = {
    "soe_bench.data.sources.local.Local": LocalSettings,
    "soe_bench.data.sources.huggingface.HuggingFace": HuggingFaceSettings,
    "soe_bench.data.sources.synthetic.Synthetic": SyntheticSettings,
    "soe_bench.data.sources.wheels.Wheels": WheelsSettings,
}
CLASSES: dict[str, tuple[dict[str, type[Target]], type[Target]]] = {  # of a group: the known classes, and any other
    "pi": (LAWS, Target),
    "method": (METHODS, MethodSettings),
    "method.pi": (LAWS, Target),
    "model.base": (BASES, Target),
    "data.source": (SOURCES, Target),
}


def check(cfg: DictConfig) -> None:
    """Raises UserError for the first setting of a job that breaks its rule: the setting, its value, the rule, and the
    nearest setting or name where one was misspelt."""
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(" ".join(str(error).split())) from error
    _validate(Settings, values, "")
    for group, (known, other) in CLASSES.items():
        part = values
        for key in group.split("."):
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict):
            target = part.get("_target_")
            _validate(known.get(target, other) if isinstance(target, str) else other, part, group)
    _check_together(values)


def nearest(name: Any, options: Any) -> list[str]:
    """The options, those most like `name` first."""
    return get_close_matches(str(name), names := list(options), n=len(names) or 1, cutoff=0.0)


def _validate(kind: type[BaseModel], values: Mapping, group: str) -> None:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        raise UserError(_line(error.errors()[0], values, group)) from None


def _line(error: Mapping, values: Mapping, group: str) -> str:
    """One line for pydantic's error."""
    *before, last = error["loc"]
    key = ".".join(map(str, ([group] if group else []) + before + [last]))
    if error["type"] == "missing":
        return f"{key} is missing: it must be set"
    if error["type"] == "extra_forbidden":
        for name in before:
            values = values[name]
        # What was required but is missing is not among `values`, and what is there is mostly right.
        near = nearest(last, [name for name in values if name != last])
        return f"there is no setting {key}" + (f": did you mean {near[0]}?" if near else "")
    rule = "it must be a group of settings" if error["type"].endswith(("model_type", "dict_type")) else error["msg"]
    return f"{key} is {error['input']!r}: {rule}"


def _check_together(values: Mapping) -> None:
    """Raises UserError for settings that are right alone and wrong together."""
    train, base, data = values["train"], values["model"]["base"], values["data"]
    step = train["batch_size"] * train["seq_len"]
    if train["batch_size"] % train["draws_per_step"]:
        raise UserError(
            f"train.batch_size ({train['batch_size']}) must be a multiple of train.draws_per_step "
            f"({train['draws_per_step']})"
        )
    if train["tokens"] < step:
        raise UserError(
            f"train.tokens is {train['tokens']}: it must be at least the {step} tokens of one step "
            "(train.batch_size times train.seq_len)"
        )
    if base["_target_"] not in BASES:
        return
    heads = base["num_attention_heads"]
    if base["hidden_size"] % (2 * heads):
        raise UserError(
            f"model.base.hidden_size is {base['hidden_size']}: it must be model.base.num_attention_heads ({heads}) "
            "times an even number"
        )
    if base["max_position_embeddings"] < train["seq_len"]:
        raise UserError(
            f"model.base.max_position_embeddings is {base['max_position_embeddings']}: it must be at least "
            f"train.seq_len ({train['seq_len']})"
        )
    if base["vocab_size"] != data["vocab_size"]:
        raise UserError(
            f"model.base.vocab_size is {base['vocab_size']}: it must be data.vocab_size ({data['vocab_size']})"
        )
