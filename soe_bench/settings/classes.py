"""The settings of the classes that a `_target_` names: methods, distributions of h, base models and sources of text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from soe_bench.settings.kinds import (
    BelowOne,
    Count,
    Encoding,
    Experts,
    Fraction,
    Group,
    KnownClass,
    Name,
    NotNegative,
    Part,
    Positive,
    Seed,
    Size,
    Target,
    Text,
    must_be,
    one_of,
    whole,
)


class ParentSettings(Group):
    method: Name
    fraction: Part
    lr: Positive | None = None
    n_experts: Size | None = None


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


ACTIVATIONS = ("softmax", "linear")


class RouterSettings(Group):
    hidden: whole(1, 2**20)
    activation: one_of(*ACTIVATIONS)
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


class LogitAdjustmentSettings(PostHocSettings):
    strength: NotNegative
    order: one_of(1, 2) = 1


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
    "baselines.logit_adjustment.LogitAdjustment": LogitAdjustmentSettings,
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
    encoding: Encoding | None = None  # earlier runs have none
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
