"""Estimates of h by hand, and what tuning by gradient must do."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from arguments import base_arguments
from tiny_soup import VOCAB, soup

from soe_bench.config import job_configs
from soe_bench.data.builder import open_corpus
from soe_bench.estimate import (
    PRIOR_TOKENS,
    TUNING_WINDOWS,
    _batches,
    domain_weights,
    estimate,
    own_weights,
    tuned_at_once,
    tuned_coefficients,
    tuned_weights,
)
from soe_bench.evaluate import IGNORED, document_losses, windows
from soe_bench.method import with_parameters
from soe_bench.ops.gradient import SMALL, TOKENS_AT_ONCE
from soe_bench.records import read_lines
from soe_bench.runs import evaluation
from soe_bench.runs.build import build_method, load_parameters
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run

SOUP = ["method=soup", "method.n_experts=4", "method.parent=null", "train.tokens=122880", "pi.domains=uniform"]


@pytest.fixture
def corpus(compose):
    cfg = compose()
    return open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans)


def test_the_smoothed_estimate_adds_tokens_of_h_0(corpus):
    rows = corpus.estimate_rows("uneven", 3, 1)
    h = estimate(corpus, "uneven", "nearest_centroid", 3, 1)
    n = rows.tokens.sum()
    assert n == sum(map(len, corpus.estimate_documents("uneven", 3, 1)))
    expected = (n * h + PRIOR_TOKENS * corpus.h_0) / (n + PRIOR_TOKENS)
    assert estimate(corpus, "uneven", "smoothed", 3, 1) == pytest.approx(expected)
    assert len(rows.groupby("path")) == 3


def test_the_soft_estimate_is_the_gaussian_posterior_of_each_passage(corpus):
    rows = corpus.estimate_rows("halves", 2, 0)
    vectors = corpus.embedder.embed(corpus.texts(rows)).astype(np.float64)
    generic = corpus.rows("generic", "train").distance.to_numpy(np.float64)
    variance = (generic**2).mean() / vectors.shape[1]
    density = np.exp(-((vectors[:, None] - corpus.centroids) ** 2).sum(-1) / (2 * variance))
    shares = density / density.sum(1, keepdims=True)
    expected = (rows.tokens.to_numpy()[:, None] * shares).sum(0) / rows.tokens.sum()
    soft = estimate(corpus, "halves", "soft", 2, 0)
    assert soft == pytest.approx(expected, abs=1e-4) and soft.sum() == pytest.approx(1)


def test_each_source_of_domain_weights(monkeypatch):
    own = dict(zip("abc", np.eye(4), strict=False))
    corpus = SimpleNamespace(k=4, h_0=np.array([0.4, 0.3, 0.2, 0.1]), specialists=["a", "b", "c"])
    monkeypatch.setattr("soe_bench.estimate.estimate", lambda corpus, specialist: own[specialist])
    expected = {"estimate": "abc", "shuffled": "bca"}
    for source, names in expected.items():
        assert [domain_weights(corpus, name, source).tolist() for name in "abc"] == [
            own[name].tolist() for name in names
        ]
        assert domain_weights(corpus, "generic", source) is corpus.h_0
    for name in ("a", "generic"):
        assert domain_weights(corpus, name, "h_0") is corpus.h_0
        assert domain_weights(corpus, name, "uniform").tolist() == [0.25] * 4
        assert domain_weights(corpus, name, "zero") is None and domain_weights(corpus, name, "none") is None
    assert own_weights(corpus, "b").tolist() == [0, 1, 0, 0] and own_weights(corpus, "generic") is corpus.h_0


TEXT = [
    [np.arange(n) * 7 % VOCAB for n in lengths] for lengths in ([25, 40], [9, 60, 31])
]  # two specialists' documents


def test_batches_are_one_random_order_of_all_windows_after_another():
    inputs, targets = _batches(TEXT[0], 9, 5)
    assert inputs.shape == targets.shape == (5, TUNING_WINDOWS, 9)
    known = [tuple(row) for row in windows(TEXT[0], 9)[0]]
    drawn = [tuple(row) for row in inputs.reshape(20, 9)]
    assert len(known) == 8 and sorted(drawn[:8]) == sorted(drawn[8:16]) == sorted(known) != drawn[:8] != drawn[8:16]
    whole = targets != IGNORED
    assert (targets[whole] == (inputs[whole] + 7) % VOCAB).all() and whole.any((1, 2)).all()
    assert all(np.array_equal(*pair) for pair in zip((inputs, targets), _batches(TEXT[0], 9, 5), strict=True))


def plainly_tuned(method, start, theta, rate, steps):
    """One row after the other, by torch's Adam on the module itself."""
    rows = []
    for own, documents in zip(start, TEXT, strict=True):
        own = own.detach().clone().requires_grad_()
        adam = torch.optim.Adam([own], lr=rate)
        for inputs, targets in zip(*map(torch.from_numpy, _batches(documents, 9, steps)), strict=True):
            adam.zero_grad()
            parameters = method.flat.unflatten(theta(own[None])[0])
            logits = torch.func.functional_call(method.context.base, parameters, (inputs,))
            F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
            adam.step()
        rows.append(own.detach())
    return torch.stack(rows)


def test_tuning_equals_a_plain_loop():
    """In float64, of h and of the coefficients, for two specialists side by side with texts of different lengths."""
    method = soup(3)
    h_0, h = method.context.h_0, np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0.2, 0, 0.8]])
    start = torch.from_numpy(0.9 * h + 0.1 * h_0).log()
    plain = plainly_tuned(method, start, lambda scores: method.parameters_at(scores.softmax(1)), 0.4, 6)
    assert tuned_weights(method, h, TEXT, 6) == pytest.approx(plain.softmax(1).numpy(), abs=1e-10)
    plain = plainly_tuned(method, method.coefficients(h), method.instantiate, 0.02, 6)
    torch.testing.assert_close(tuned_coefficients(method, h, TEXT, 6), plain, rtol=0, atol=1e-10)


def test_many_specialists_are_tuned_at_once_unless_the_model_is_large(monkeypatch):
    method, size = soup(3), soup(3).flat.size
    monkeypatch.setitem(TOKENS_AT_ONCE, "cpu", 9 * TUNING_WINDOWS * 5)
    for small, expected in ((size + 1, 5), (size, 1)):
        monkeypatch.setitem(SMALL, "cpu", small)
        assert tuned_at_once(method) == expected
    monkeypatch.setitem(SMALL, "cpu", size + 1)
    monkeypatch.setitem(TOKENS_AT_ONCE, "cpu", 1)
    assert tuned_at_once(method) == 1


def test_draws_differ_and_repeat(corpus):
    one, again, other = (corpus.estimate_rows("uneven", 4, draw).index.tolist() for draw in (0, 0, 1))
    assert one == again != other


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shared_home):
    cfg = job_configs([*base_arguments(tmp_path_factory.mktemp("trained"), shared_home), *SOUP])[0][0]
    run = Run.of(cfg)
    execute(cfg)
    method = build_method(run, open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans))
    load_parameters(method, run.folder)
    return cfg, run, method


def test_tuning_lowers_the_loss_on_the_text_it_is_given(trained, corpus):
    cfg, _, method = trained
    documents = [tokens for _, tokens, _ in corpus.documents("uneven", "validation")]

    def loss(model):
        nats, tokens = document_losses(model, documents, cfg.train.seq_len)
        return nats.sum() / tokens.sum()

    start = domain_weights(corpus, "first", "estimate")  # another specialist's
    h = tuned_weights(method, start[None], [documents])[0]
    assert h.sum() == pytest.approx(1) and h.min() >= 0
    assert loss(method.specialist(h)) < loss(method.specialist(start)) - 0.01
    alpha = tuned_coefficients(method, start[None], [documents])[0]
    theta = method.instantiate(alpha[None])[0]
    tuned = with_parameters(method.context.base, method.flat, theta)
    assert loss(tuned) < loss(method.specialist(start)) - 0.01
    assert not torch.equal(alpha, method.coefficients(start[None])[0])


def test_specialists_tuned_side_by_side_are_as_if_tuned_alone(trained, corpus):
    method = trained[2]
    names = corpus.specialists
    documents = [[tokens for _, tokens, _ in corpus.documents(name, "validation")] for name in names]
    h = np.stack([domain_weights(corpus, name, "estimate") for name in names])
    for tune in (tuned_weights, tuned_coefficients):
        together = np.asarray(tune(method, h, documents))
        alone = [np.asarray(tune(method, h[i : i + 1], documents[i : i + 1])[0]) for i in range(len(names))]
        assert together == pytest.approx(np.stack(alone), abs=1e-4)
        assert not np.allclose(together[0], together[1], atol=0.01)


def test_what_several_cells_share_is_made_once(trained, corpus, monkeypatch):
    cfg, _, method = trained
    tuned, made = [], []
    monkeypatch.setattr(evaluation, "tuned_at_once", lambda method: 2)
    monkeypatch.setattr(evaluation, "tuned_weights", lambda *given: tuned.append(given) or tuned_weights(*given))
    monkeypatch.setattr(
        method, "specialist", lambda *given: made.append(given) or type(method).specialist(method, *given)
    )
    make = evaluation.Maker(cfg, method, corpus)
    cells = [c for c in evaluation.planned(cfg, method, corpus) if c.h_source in ("estimate", "tuned")]
    own = [make.specialist(cell) for cell in cells]
    assert len(tuned) == 4  # three specialists, two at once; one step of each group counts its FLOPs
    assert len(made) == len({(cell.specialist, cell.h_source) for cell in cells}) < len(cells)
    shares = [cost["specialist_flops"] for cell, (_, cost) in zip(cells, own, strict=True) if cell.h_source == "tuned"]
    assert shares[0] == shares[1] and min(shares) > 0.9 * max(shares)
    # A later start, as after an interruption, gives the same numbers.
    last = cells[-1]
    again = evaluation.Maker(cfg, method, corpus).specialist(last)[0]
    assert all(torch.equal(a, b) for a, b in zip(own[-1][0].parameters(), again.parameters(), strict=True))


def test_test_text_cannot_be_read_while_something_is_chosen(trained, corpus, monkeypatch):
    cfg, _, method = trained
    cell = evaluation.Evaluation("first", "test", "tuned")
    maker = evaluation.Maker(cfg, method, corpus)
    monkeypatch.setattr(maker, "_validation", lambda name: [x for _, x, _ in corpus.documents(name, cell.split)])
    with pytest.raises(RuntimeError, match="test text of first was read while something was being chosen"):
        maker.specialist(cell)
    assert corpus.documents("first", "test")  # and can be read afterwards


@pytest.mark.slow
def test_cells_cover_budgets_draws_and_controls_where_there_is_text(compose, trained, corpus):
    _, run, method = trained
    asked = [
        "evaluate.budgets=[500,100_000_000]",
        "evaluate.documents=[2,1000]",
        "evaluate.draws=3",
        "evaluate.estimators=[soft,tuned_coefficients]",
    ]
    cfg = compose(*SOUP, *asked)
    assert Run.of(cfg).hash == run.hash  # evaluation is no split of what was trained
    found = list(evaluation.planned(cfg, method, corpus))
    own = [cell for cell in found if cell.specialist == "first" and cell.split == "test"]
    assert {cell.budget_tokens for cell in own} == {0, 500}
    assert [(c.estimator, c.n_documents, c.document_draw) for c in own if c.document_draw is not None] == [
        (estimator, 2, draw) for estimator in ("soft", "tuned_coefficients") for draw in range(3)
    ]
    assert [c.h_source for c in own if c.estimator is None] == ["uniform", "shuffled", "h_0", "tuned", "zero"]
    execute(cfg)
    records = read_lines(Run.of(cfg).records)
    assert len(records) == len(found)
    tuned = [r for r in records if r["budget_tokens"] == 500]
    assert all(r["specialist_tokens"] > 0 and r["specialist_flops"] > 0 for r in tuned)
    own = [r for r in records if r["h_source"] == "estimate" and r["document_draw"] is None]
    plain = [r for r in own if not r["budget_tokens"]]
    assert {r["specialist_tokens"] for r in plain} == {0}
    combination = 2 * method.n_experts * method.flat.size
    assert all(combination <= r["specialist_flops"] < 1.1 * combination for r in plain)


def test_one_specialist_has_no_other_whose_h_is_a_control(compose, corpus, monkeypatch):
    cfg = compose("method.parent=null")
    method = build_method(Run.of(cfg), corpus)
    every = {"estimate", "h_0", "uniform", "shuffled", "tuned", "zero"}
    assert {each.h_source for each in evaluation.planned(cfg, method, corpus)} == every
    monkeypatch.setattr(corpus, "specialists", ["first"])
    assert {each.h_source for each in evaluation.planned(cfg, method, corpus)} == every - {"shuffled"}
