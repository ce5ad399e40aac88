"""The schedule of the learning rate and the clipping, by their values."""

import pytest
import torch

from soe_bench.ops.adamw import Optimizer


def optimizer(**changes):
    settings = dict(beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, warmup_ratio=0.2, min_lr_ratio=0.1)
    return Optimizer(**{**settings, "max_grad_norm": 1.0, **changes})


def test_the_schedule_grows_linearly_then_falls_by_a_cosine_to_its_end():
    factors = [optimizer().schedule(step, 10) for step in range(11)]
    # 0.1 + 0.45 (1 + cos(pi k / 8)), k = 0..8; the last is one step after the end
    cosine = [1, 0.965746, 0.868198, 0.722208, 0.55, 0.377792, 0.231802, 0.134254, 0.1]
    assert factors == pytest.approx([0.5, 1, *cosine], abs=1e-6)


def test_a_schedule_of_one_step_and_without_warmup():
    assert optimizer().schedule(0, 1) == 1
    assert [optimizer(warmup_ratio=0).schedule(step, 3) for step in range(3)] == pytest.approx([1, 1, 0.55])


def test_the_norm_is_clipped_to_its_bound_and_never_raised():
    def scale(norm, bound):
        return optimizer(max_grad_norm=bound).clip_scale(torch.tensor(2.5), torch.tensor(norm**2, dtype=torch.float64))

    assert scale(8.0, 2.0) == (2.5, pytest.approx(0.25, rel=1e-6))
    assert scale(1.0, 2.0) == (2.5, 1.0) and scale(0.0, 2.0) == (2.5, 1.0)


@pytest.mark.parametrize(
    ("loss", "squares", "message"),
    [
        (float("nan"), 1.0, "the loss is nan"),
        (float("inf"), 1.0, "the loss is inf"),
        (1.0, float("nan"), "the gradient is not finite"),
        (1.0, float("inf"), "the gradient is not finite"),
    ],
)
def test_a_step_that_is_not_finite_is_refused(loss, squares, message):
    with pytest.raises(FloatingPointError, match=message):
        optimizer().clip_scale(torch.tensor(loss), torch.tensor(squares))
