"""On the synthetic corpus, where every domain is known, the trained soup comes near each specialist's best model."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from soe_bench.data.builder import open_corpus
from soe_bench.estimate import domain_weights
from soe_bench.method import MethodContext
from soe_bench.mixture import MetaDistribution, Mixture
from soe_bench.ops.adamw import Optimizer
from soe_bench.soup import SoupOfExperts

LENGTH, STEPS, RATE = 64, 500, 0.03


class Unigram(nn.Module):
    """One logit a token: the best one for mix(h) is the logarithm of the h-weighted token frequencies."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*tokens.shape, -1)


def test_each_specialist_comes_near_the_best_model_of_its_mixture(compose):
    cfg = compose()
    corpus = open_corpus(cfg.data, Path(cfg.home), 0)
    streams = [corpus.domain_tokens(i) for i in range(corpus.k)]
    laws = np.stack([np.bincount(stream, minlength=corpus.vocab_size) / len(stream) for stream in streams])
    router = {"hidden": 64, "activation": "softmax", "init_std": 1.0}
    method = SoupOfExperts("soup", RATE, 16, 1.0, 0.0, router, MetaDistribution(3, "uniform", 1.0, 0.1))
    optimizer = Optimizer(0.9, 0.95, 1e-8, 0.0, 0.02, 0.01, 10.0)
    method.build(MethodContext(Unigram(corpus.vocab_size), corpus.h_0, LENGTH, 64, 8, optimizer))
    mixture = Mixture(streams, LENGTH, 0)
    for step in range(STEPS):
        rng = np.random.default_rng([0, step])
        weights = method.domain_weights(rng, 1)
        tokens = torch.from_numpy(mixture.batch(rng, weights, 8))
        method.update(tokens, weights, step + 1, RATE * optimizer.schedule(step, STEPS))

    def excess(h: np.ndarray, given: np.ndarray) -> float:
        """Nats/token that the specialist for `given` loses on mix(h) to the best unigram model of mix(h)."""
        best = h @ laws
        seen = best > 0
        model = torch.log_softmax(method.specialist(given).logits, -1).numpy()
        return float((best[seen] * (np.log(best[seen]) - model[seen])).sum())

    for name in corpus.specialists:
        h = domain_weights(corpus, name, "estimate")
        assert excess(h, h) < 0.2  # measured: 0.08, 0.16, 0.07
        assert excess(h, corpus.h_0) > 2 * excess(h, h)
        assert excess(h, domain_weights(corpus, name, "shuffled")) > 0.5
