"""Fine-tuning: it learns the text, never ends worse on validation text, and counts what it takes."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from soe_bench import finetune
from soe_bench.data.builder import open_corpus
from soe_bench.evaluate import document_losses
from soe_bench.finetune import fine_tune
from soe_bench.model import Llama
from soe_bench.ops.flops import FlopCounter, forward_flops

LENGTH = 16
PATTERN = np.tile(np.arange(1, 9), 80)  # what there is to learn: each token follows the one before


@pytest.fixture
def cfg(compose):
    return compose(f"train.seq_len={LENGTH}", "evaluate.fine_tuning.lrs=[1e-3,3e-2]", "evaluate.fine_tuning.epochs=8")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Llama(
        12,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=LENGTH,
    )


def loss(model, tokens):
    nats, count = document_losses(model, [tokens], LENGTH)
    return nats.sum() / count.sum()


def test_it_learns_and_counts_every_rate(cfg, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with FlopCounter() as counter:
        tuned = fine_tune(model, PATTERN[:400], PATTERN[:100], cfg, seed=0)
    assert loss(tuned.model, PATTERN[400:]) < 0.5 < loss(model, PATTERN[400:])
    assert tuned.rate == 3e-2
    steps = 8 * 24 // 8  # eight epochs of 24 windows, 8 per step
    assert tuned.tokens == 2 * steps * 8 * LENGTH
    evaluations = 1 + 2 * 8  # of 7 windows of validation text
    assert tuned.flops == (3 * 2 * steps * 8 + 7 * evaluations) * forward_flops(model, LENGTH)
    assert tuned.flops == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # the given one is kept


def test_it_repeats_from_its_seed(cfg, model):
    text = np.sort(np.random.default_rng(0).integers(1, 9, 200))  # windows that differ
    one, again, other = (fine_tune(model, text, text[:100], cfg, seed).model for seed in (0, 0, 1))
    assert torch.equal(one.model.norm.weight, again.model.norm.weight)
    assert not torch.equal(one.model.norm.weight, other.model.norm.weight)


def test_where_nothing_helps_it_gives_the_model_as_it_was(cfg, model):
    learned = fine_tune(model, PATTERN[:400], PATTERN[:100], cfg, seed=0).model
    noise = np.random.default_rng(0).integers(1, 9, 6400)
    tuned = fine_tune(learned, noise, PATTERN[:100], cfg, seed=0)
    assert tuned.rate == 0 and loss(tuned.model, PATTERN) == loss(learned, PATTERN)


@pytest.mark.parametrize("best", range(1, 17))  # 8 evaluations of the first rate, then 8 of the second
def test_it_keeps_the_parameters_of_the_best_epoch_of_the_best_rate(cfg, model, monkeypatch, best):
    seen = []

    def made_up(tried, *_):
        seen.append(tried.state_dict()["model.norm.weight"].clone())
        return 9.0 - (len(seen) - 1 == best)

    monkeypatch.setattr(finetune, "mean_loss", made_up)
    tuned = fine_tune(model, PATTERN[:400], PATTERN[:100], cfg, seed=0)
    assert torch.equal(tuned.model.state_dict()["model.norm.weight"], seen[best]) and len(seen) == 17
    assert tuned.rate == cfg.evaluate.fine_tuning.lrs[best > 8]
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(seen[:9]))


def test_no_rate_reads_more_than_max_tokens_and_the_end_is_evaluated(cfg, model, monkeypatch):
    cfg.evaluate.fine_tuning.update(lrs=[1e-3], max_tokens=30 * LENGTH)
    calls = []
    monkeypatch.setattr(finetune, "mean_loss", lambda *_: calls.append(1) or 1.0)
    assert fine_tune(model, PATTERN[:400], PATTERN[:100], cfg, seed=0).tokens == 24 * LENGTH  # 3 steps of 8 windows
    assert len(calls) == 2


def test_a_rate_that_diverges_loses_to_the_others(cfg, model):
    cfg.evaluate.fine_tuning.lrs = [1e12, 3e-2]
    tuned = fine_tune(model, PATTERN[:400], PATTERN[:100], cfg, seed=0)
    assert tuned.rate == 3e-2


def test_a_text_shorter_than_a_window_is_enough(cfg, model):
    assert fine_tune(model, PATTERN[:5], PATTERN[:100], cfg, seed=0).tokens > 0


def test_budgets_are_nested_and_a_larger_one_than_the_text_is_missing(compose):
    cfg = compose()
    corpus = open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans)
    small, large = corpus.training_tokens("first", 100), corpus.training_tokens("first", 1000)
    assert len(small) == 100 and (small == large[:100]).all()
    total = corpus.rows("first", "train").tokens.sum()
    assert len(corpus.training_tokens("first", total)) == total
    rows, tokens = corpus.rows("first", "train"), corpus.training_tokens("first", total).tolist()
    passages = [passage.tolist() for passage in corpus.tokens(rows)]
    assert sorted(tokens) == sorted(itertools.chain(*passages)) and tokens != list(itertools.chain(*passages))
    assert corpus.training_tokens("first", total + 1) is None and corpus.training_tokens("generic", 10) is None
