"""Evaluation: hand-computed losses, each token predicted once, ratio standard error."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from soe_bench.errors import UserError
from soe_bench.evaluate import IGNORED, copying_gain, document_losses, summarize, windows


class Constant(nn.Module):
    """Logits that do not depend on the text."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, tokens):
        return self.logits.expand(*tokens.shape, -1)


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=5), length=st.integers(1, 16))
def test_every_token_but_the_first_is_predicted_once_from_the_token_before(lengths, length):
    documents = [np.arange(1000 * i, 1000 * i + n) for i, n in enumerate(lengths)]
    inputs, targets, owners = windows(documents, length)
    kept = targets != IGNORED
    assert sorted(targets[kept]) == sorted(np.concatenate([document[1:] for document in documents]))
    assert (targets[kept] == inputs[kept] + 1).all()
    assert (targets[kept] // 1000 == np.repeat(owners, kept.sum(1))).all()


def test_loss_of_a_constant_model_is_hand_computed():
    law = np.array([0.5, 0.25, 0.125, 0.125])
    documents = [np.array([0, 0, 1, 2]), np.array([0] + [3] * 200)]
    nats, tokens = document_losses(Constant(np.log(law)), documents, length=3)
    assert tokens.tolist() == [3, 200]
    assert nats == pytest.approx([math.log(2) * 6, math.log(2) * 600])


class Summing(nn.Module):
    """Logits that depend on all tokens up to their place, with the shapes of what was read."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(50, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
        self.read = []

    def forward(self, tokens):
        self.read.append(tuple(tokens.shape))
        return self.table[tokens].cumsum(1)


def test_documents_of_any_length_have_the_losses_that_each_has_alone_and_little_padding_is_read():
    rng, model = np.random.default_rng(0), Summing()
    documents = [rng.integers(0, 50, length) for length in [3, 13, 21, 13] * 4]
    nats, tokens = document_losses(model, documents, length=12)
    assert tokens.tolist() == [2, 12, 20, 12] * 4
    # Windows of 12 (three times 4) and of 8 and 2 tokens (4 of each), 8 at a time.
    assert model.read == [(8, 12), (8, 12), (4, 2)]
    for document, found in zip(documents, nats, strict=True):
        pieces = [document[at : at + 13] for at in range(0, len(document) - 1, 12)]
        laws = [torch.log_softmax(model(torch.from_numpy(piece[None, :-1])), 2)[0] for piece in pieces]
        alone = sum(-law[range(len(law)), piece[1:]].sum().item() for law, piece in zip(laws, pieces, strict=True))
        assert found == pytest.approx(alone, rel=1e-12)


class Copier(nn.Module):
    """The token that followed the last one like this has the logit `score`, all others of 100 have 0."""

    def __init__(self, score):
        super().__init__()
        self.score = nn.Parameter(torch.tensor(score))

    def forward(self, tokens):
        logits = torch.zeros(*tokens.shape, 100)
        for row, own in enumerate(tokens.tolist()):
            for at, token in enumerate(own):
                earlier = [place for place in range(at) if own[place] == token]
                if earlier:
                    logits[row, at, own[earlier[-1] + 1]] = self.score.detach()
        return logits


def test_the_copying_gain_is_that_of_the_second_reading():
    passages = np.stack([np.random.default_rng(i).permutation(100)[:6] for i in range(19)])  # no token twice
    # first reading: log 100; second: log(1 + 99 / e^5), of each token but the first
    expected = math.log(100) - math.log(1 + 99 * math.exp(-5))
    assert copying_gain(Copier(5.0), passages) == pytest.approx(expected, rel=1e-5)
    assert copying_gain(Constant(np.zeros(100, np.float32)), passages) == 0


def test_summary_is_hand_computed():
    record = summarize(np.array([3.0, 3.0]), np.array([1, 3]), size=12)
    assert record["loss"] == 1.5 and record["nats_sum"] == 6 and record["tokens"] == 4 and record["documents"] == 2
    assert record["bits_per_byte"] == pytest.approx(6 / math.log(2) / 12)
    # residuals 3 - 1.5 * 1 and 3 - 1.5 * 3 are +-1.5: sqrt(2 / 1 * 4.5) / 4
    assert record["loss_se_documents"] == pytest.approx(0.75)
    assert summarize(np.array([3.0]), np.array([2]), 5)["loss_se_documents"] is None


def test_documents_without_a_token_to_predict_are_refused():
    with pytest.raises(UserError, match="no token to predict"):
        windows([np.array([0])], 4)
