"""FLOPs by hand: products and attention, causal or not, forward and backward, in float types and under vmap."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from soe_bench.config import make
from soe_bench.ops.flat import Flat, forward_at
from soe_bench.ops.flops import FlopCounter, attention_flops, forward_flops

HEADS, LENGTH, WIDTH = 2, 5, 4
FORWARD = 2 * 3 * HEADS * (LENGTH * (LENGTH + 1) // 2) * 2 * WIDTH  # of a batch of 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_attention_counts_the_pairs_that_the_mask_leaves(dtype):
    x = torch.randn(3, HEADS, LENGTH, WIDTH, dtype=dtype, requires_grad=True)
    with FlopCounter() as counter:
        y = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        assert counter.get_total_flops() == FORWARD
        y.sum().backward()
    assert counter.get_total_flops() == 3 * FORWARD
    with FlopCounter() as counter:
        F.scaled_dot_product_attention(x, x, x)
    assert counter.get_total_flops() == FORWARD * 2 * LENGTH / (LENGTH + 1)


def test_attention_of_other_keys():
    """3 queries, 7 keys of width 4, values of width 6."""
    shapes = (torch.Size([2, length, width]) for length, width in ((3, 4), (7, 4), (7, 6)))
    assert attention_flops(*shapes, causal=False) == 2 * 2 * 21 * 10


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_decoder_by_hand_on_any_device(compose, device):
    """Each matrix once a token (the tied embedding as the head), and attention in each layer."""
    cfg = compose()
    with torch.device(device):
        base = make(cfg.model.base)
    node, length = cfg.model.base, cfg.train.seq_len
    matrices = sum(p.numel() for p in base.parameters() if p.dim() == 2)
    attention = node.num_hidden_layers * 2 * node.hidden_size * 2 * length * (length + 1) // 2
    assert forward_flops(base, length) == 2 * length * matrices + attention


def test_several_models_in_one_pass_count_as_so_many(compose):
    cfg = compose()
    base, length = make(cfg.model.base), cfg.train.seq_len
    theta = Flat(base).flatten(base).expand(3, -1)
    with FlopCounter() as counter, torch.no_grad():
        forward_at(base, Flat(base), theta, torch.zeros(3, 2, length, dtype=torch.long))
    assert counter.get_total_flops() == 3 * 2 * forward_flops(base, length)


def test_a_module_without_attention():
    module = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 5, bias=False))
    assert forward_flops(module, 4) == 2 * 4 * 3 * 5
