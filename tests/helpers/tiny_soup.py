"""A soup of a tiny model, and batches for it."""

import numpy as np
import torch

from soe_bench.method import MethodContext
from soe_bench.mixture import MetaDistribution
from soe_bench.model import Llama
from soe_bench.ops.adamw import Optimizer
from soe_bench.soup import SoupOfExperts

K, DRAWS, VOCAB, STEPS, RATE = 5, 3, 17, 4, 1e-2
OPTIMIZER = Optimizer(
    beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, warmup_ratio=0.1, min_lr_ratio=0.1, max_grad_norm=0.5
)
META = MetaDistribution(max_support=3, domains="uniform", concentration=1.0, generic_fraction=0.2)
ROUTER = {"hidden": 6, "activation": "softmax", "init_std": 1.0}


def tiny_context() -> MethodContext:
    torch.manual_seed(0)
    base = Llama(
        VOCAB,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=9,
    ).double()
    return MethodContext(
        base, np.full(K, 1 / K), seq_len=9, sequences=6, draws_per_step=DRAWS, optimizer=OPTIMIZER, seed=1
    )


def soup(n: int, law: str = "softmax", expert_init: float = 0.02) -> SoupOfExperts:
    method = SoupOfExperts("soup", RATE, n, 0.3, expert_init, ROUTER | {"activation": law}, META)
    method.build(tiny_context())
    return method


def batches() -> list[tuple[torch.Tensor, np.ndarray]]:
    generator = torch.Generator().manual_seed(3)
    rng = np.random.default_rng(3)
    return [
        (torch.randint(VOCAB, (DRAWS, 2, 10), generator=generator), META.sample(rng, DRAWS, np.full(K, 1 / K)))
        for _ in range(STEPS)
    ]
