"""The ledger of deviations names settings that exist, and says what the configuration says."""

import csv

import pytest
from omegaconf import OmegaConf

from soe_bench.config import CONF, job_configs

ROOT = CONF.parent
with (ROOT / "results" / "deviations.csv").open(encoding="utf-8") as file:
    LEDGER = {row["setting"]: row for row in csv.DictReader(file)}
VALUES = {  # rows whose own value is one setting, or is made from some
    "generic corpus": lambda cfg: (
        f"text of {len(cfg.data.source.wheels)} pinned Python wheels (about 38M training tokens)"
    ),
    "specialists": lambda cfg: f"{len(cfg.data.specialists)} sets of documents held out of the same wheels",
    "specialists' documents in the corpus": lambda cfg: "{:g} to {:g} % of those of {} of the {} sets".format(
        *(100 * end(fraction for fraction in fractions(cfg) if fraction) for end in (min, max)),
        sum(fraction > 0 for fraction in fractions(cfg)),
        len(fractions(cfg)),
    ),
    "embedder": lambda cfg: f"TF-IDF and truncated SVD ({cfg.data.embedding.dimensions} dimensions)",
    "fine-tuning": lambda cfg: (
        "rates {:g}, {:g} and {:g}, at most {:g} epochs, the best epoch on validation text".format(
            *cfg.evaluate.fine_tuning.lrs, cfg.evaluate.fine_tuning.epochs
        )
    ),
    "number of experts": lambda cfg: f"{min(experts_of_the_sweep())} to {max(experts_of_the_sweep())}",
    "domains k": lambda cfg: f"{cfg.data.k}",
    "tokenizer": lambda cfg: f"byte-level BPE with {cfg.data.vocab_size} entries",
    "initial experts": lambda cfg: f"{cfg.method.expert_init:g}",
    "expert learning rate": lambda cfg: f"{cfg.method.expert_lr_ratio:g} times the shared rate",
    "draws of h per step": lambda cfg: f"{cfg.train.draws_per_step} (one per sequence)",
    "batch": lambda cfg: f"{cfg.train.batch_size} sequences of {cfg.train.seq_len} tokens",
    "training tokens": lambda cfg: f"{cfg.train.tokens / 1e6:g}M per run",
    "law of pi": lambda cfg: (
        "support of 1 to {max_support} domains drawn by {domains}, Dirichlet({concentration:g}) weights, "
        "{0:g} % of the draws at h_0"
    ).format(100 * cfg.pi.generic_fraction, **cfg.pi),
    "optimizer": lambda cfg: (
        "AdamW: betas {beta1:g} and {beta2:g}, weight decay {weight_decay:g}, clip {max_grad_norm:g}, "
        "warm-up {0:g} %, cosine to {1:g} %"
    ).format(100 * cfg.train.optimizer.warmup_ratio, 100 * cfg.train.optimizer.min_lr_ratio, **cfg.train.optimizer),
    "router": lambda cfg: (
        f"one hidden layer of {cfg.method.router.hidden} units, ReLU, {cfg.method.router.activation} output, first "
        f"layer N(0, {cfg.method.router.init_std:g})"
    ),
    "start of S": lambda cfg: (
        f"the generic run on {cfg.method.parent.fraction:.0%} of the training tokens, which count"
    ),
}


def fractions(cfg) -> list[float]:
    return [rule.get("generic_fraction", 0) for rule in cfg.data.specialists.values()]


def experts_of_the_sweep() -> set[int]:
    return {cfg.method.n_experts for cfg in job_configs(["+sweep=experts", "seed=0"])[0] if "n_experts" in cfg.method}


@pytest.fixture(scope="module")
def default():
    return job_configs(["wandb.mode=disabled"])[0][0]


@pytest.mark.parametrize("setting", LEDGER)
def test_every_row_names_a_setting_or_a_file(setting, default):
    where = LEDGER[setting]["where"]
    methods = [OmegaConf.load(path) for path in (CONF / "method").glob("*.yaml")]
    known = [OmegaConf.select(default, where)] + [
        OmegaConf.select(method, where.removeprefix("method."), throw_on_missing=False)
        for method in methods
        if where.startswith("method.") and where != "method.pi"
    ]
    assert any(value is not None for value in known) or (ROOT / where).exists() or (CONF / where).exists(), where


@pytest.mark.parametrize("setting", VALUES)
def test_what_is_ours_is_what_the_configuration_has(setting, default):
    assert LEDGER[setting]["ours"] == VALUES[setting](default)
