"""The schedule of the learning rate, the clipping and the banks, by their values."""

import pytest
import torch
from torch import nn

from soe_bench.ops.adamw import Gradient, Optimizer, ParameterBank
from soe_bench.ops.flat import Flat


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


def bank(rows):
    return ParameterBank(torch.arange(2.0 * rows).view(rows, 2), Flat(nn.Linear(1, 2, bias=False)))


def test_a_row_shares_the_memory_of_its_bank():
    whole = bank(3)
    row = whole.row(1)
    for name in ("value", "exp_avg", "exp_avg_sq"):
        getattr(row, name).fill_(7)
        assert getattr(whole, name)[1].tolist() == [7, 7] and not (getattr(whole, name)[[0, 2]] == 7).any()
    assert row.bytes == 3 * 2 * 4 and whole.bytes == 3 * row.bytes
    assert (
        list(row.tensors("x")) == ["x.value", "x.exp_avg", "x.exp_avg_sq"] and row.tensors("x")["x.value"] is row.value
    )


def test_the_norm_of_a_gradient_that_is_never_formed():
    """A (2, 3), G (2, 2): ||A^T G||^2; and of a bank of one row the sum of the rows of G."""
    a, g = torch.tensor([[1.0, 2, 0], [0, -1, 3]]), torch.tensor([[1.0, 2], [4, -1]])
    assert Gradient(bank(3), a, g, g @ g.T).squared_norm() == (a.T @ g).square().sum() == 187
    total = Gradient.of_sum(bank(1), g, 0.5)
    assert total.a.tolist() == [[1], [1]] and total.squared_norm() == 5**2 + 1 and total.lr_ratio == 0.5


def test_one_step_clips_all_gradients_by_one_norm_and_scales_each_rate():
    """Gradients (3, 0) and (0, 4) have the norm 5, clipped to 1. After one step AdamW moves by its rate, as the moments
    cancel, and a matrix first decays by rate times 0.1; so the moments are what shows the clipping."""
    one, other = bank(1), bank(1)
    gradients = [Gradient.of_sum(one, torch.tensor([[3.0, 0]])), Gradient.of_sum(other, torch.tensor([[0, 4.0]]), 0.5)]
    assert optimizer().step(torch.tensor(2.5), gradients, 1, 0.1) == 2.5
    torch.testing.assert_close(one.exp_avg, torch.tensor([[0.06, 0]]))
    torch.testing.assert_close(other.exp_avg, torch.tensor([[0, 0.08]]))
    torch.testing.assert_close(one.value, torch.tensor([[-0.1, 1 - 0.01]]))
    torch.testing.assert_close(other.value, torch.tensor([[0, 1 - 0.005 - 0.05]]))
    with pytest.raises(FloatingPointError):
        optimizer().step(torch.tensor(float("nan")), gradients, 2, 0.1)
    torch.testing.assert_close(one.value, torch.tensor([[-0.1, 1 - 0.01]]))
