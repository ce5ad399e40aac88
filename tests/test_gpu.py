"""The soup on CUDA against float64 on CPU: what a step is made of, and a run from end to end."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from soe_bench.ops.adamw import ParameterBank
from soe_bench.ops.gradient import backward, gradient
from soe_bench.ops.traced import recorded_backward
from soe_bench.runs.build import build_method
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run
from soe_bench.soup import combine

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


@pytest.fixture
def pair(compose):
    """A soup of random experts in float64 on CPU and, with the same numbers, in float32 on the GPU."""
    cfg = compose("method.n_experts=4", "method.expert_init=0.02")
    exact = build_method(Run.of(cfg), None)
    exact.context.base.double()
    for bank in (exact.shared, exact.experts, exact.omega):
        bank.value, bank.exp_avg, bank.exp_avg_sq = (x.double() for x in (bank.value, bank.exp_avg, bank.exp_avg_sq))
    exact.router.double()
    tokens = torch.randint(cfg.data.vocab_size, (cfg.train.draws_per_step, 2, cfg.train.seq_len + 1))
    return exact, build_method(Run.of(cfg), None, device=DEVICE), tokens


def assert_near(ours, exact, relative):
    """The largest error, over the largest number of the tensor."""
    assert ours.device.type == DEVICE
    assert (ours.detach().cpu().double() - exact).abs().max() <= relative * exact.abs().max()


@pytest.mark.parametrize("run", [backward, recorded_backward(after=0)], ids=["eager", "recorded"])
@pytest.mark.parametrize(("precision", "relative"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_combination_and_gradient(pair, precision, relative, run):
    exact, ours, tokens = pair
    alpha = torch.softmax(torch.randn(len(tokens), 4, dtype=torch.float64), -1)
    theta = combine(exact.shared.value, exact.experts.value, alpha)
    here = combine(ours.shared.value, ours.experts.value, alpha.float().to(DEVICE))
    assert_near(here, theta, 1e-5)
    loss, grad = gradient(exact.context.base, exact.flat, theta, tokens, "float32")
    here_loss, here_grad = gradient(ours.context.base, ours.flat, here, tokens.to(DEVICE), precision, run=run)
    assert here_loss.item() == pytest.approx(loss.item(), rel=relative)
    assert_near(here_grad, grad, relative)


@pytest.mark.parametrize(("moments", "relative"), [(None, 1e-4), (torch.bfloat16, 0.02)])
def test_bank_update(pair, moments, relative):
    exact, ours, _ = pair
    banks = [ParameterBank(method.experts.value.clone(), exact.flat, moments) for method in (exact, ours)]
    coefficients = torch.randn(3, 4, dtype=torch.float64)
    for step in range(1, 4):
        gradients = torch.randn(3, exact.flat.size, dtype=torch.float64)
        for bank in banks:
            bank.adamw_(coefficients.to(bank.value), gradients.to(bank.value), step, 1e-2, exact.context.optimizer)
    assert_near(banks[1].value, banks[0].value, relative)


def test_router(pair):
    exact, ours, _ = pair
    weights = exact.domain_weights(np.random.default_rng(0), 1)
    assert_near(ours.coefficients(weights), exact.coefficients(weights).detach(), 1e-5)


@pytest.mark.parametrize("compiled", ["null", "true"])
def test_a_run_from_end_to_end(compose, compiled):
    cfg = compose(f"device={DEVICE}", "train.tokens=20_000", "train.precision=bfloat16", f"train.compile={compiled}")
    execute(cfg)
    (path,) = Path(cfg.home).glob("runs/soup-*/records-*.jsonl")
    losses = [json.loads(line)["loss"] for line in path.read_text().splitlines()]
    assert losses and max(losses) < math.log(cfg.data.vocab_size)
