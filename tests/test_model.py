"""The decoder: Hugging Face's names, causality, rotary positions, and the batched pass at R parameter vectors."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import scaled_dot_product_attention as attention

from soe_bench.method import with_parameters
from soe_bench.model import Llama, RotaryEmbedding
from soe_bench.ops.flat import Flat, forward_at


def llama(tied: bool = True) -> Llama:
    torch.manual_seed(0)
    return Llama(
        32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=12,
        tie_word_embeddings=tied,
    ).double()


def test_names_are_those_of_hugging_face():
    layer = [
        "input_layernorm",
        "mlp.down_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "post_attention_layernorm",
        "self_attn.k_proj",
        "self_attn.o_proj",
        "self_attn.q_proj",
        "self_attn.v_proj",
    ]
    expected = {"model.embed_tokens.weight", "model.norm.weight"}
    expected |= {f"model.layers.{i}.{name}.weight" for i in range(2) for name in layer}
    assert set(llama().state_dict()) == expected
    assert set(llama(tied=False).state_dict()) == expected | {"lm_head.weight"}


def test_logits_do_not_see_the_future():
    model = llama()
    tokens = torch.randint(32, (1, 12), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[0, 7:] = (changed[0, 7:] + 1) % 32
    assert torch.equal(model(tokens)[0, :7], model(changed)[0, :7])
    assert not torch.allclose(model(tokens)[0, 7:], model(changed)[0, 7:])


def test_rotary_scores_depend_on_distance_only():
    rotary = RotaryEmbedding(8, 12, 10_000.0).double()
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    score = rotary(q.expand(1, 1, 12, 8))[0, 0] @ rotary(k.expand(1, 1, 12, 8))[0, 0].T
    for offset in range(-11, 12):
        diagonal = score.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("error")  # torch warns of what it does model by model
@pytest.mark.parametrize("tied", [True, False])
def test_batched_pass_equals_each_model_alone(tied):
    base = llama(tied)
    flat = Flat(base)
    generator = torch.Generator().manual_seed(2)
    theta = flat.flatten(base) + 0.1 * torch.randn(3, flat.size, dtype=torch.float64, generator=generator)
    tokens = torch.randint(32, (3, 4, 12), generator=generator)
    batched = forward_at(base, flat, theta, tokens)
    for r in range(3):
        torch.testing.assert_close(batched[r], with_parameters(base, flat, theta[r])(tokens[r]), rtol=0, atol=1e-12)


class Own(nn.Module):
    """A decoder of a stranger's that calls torch's attention as it likes: attend(q, k, v, tokens)."""

    def __init__(self, attend):
        super().__init__()
        self.attend, self.embed, self.project = attend, nn.Embedding(32, 8), nn.Linear(8, 24)

    def forward(self, tokens):
        parts = self.project(self.embed(tokens)).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, -1)
        return self.attend(*parts, tokens).transpose(1, 2).flatten(-2) @ self.embed.weight.T


def causal(tokens):
    return torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()


def known(tokens):
    return causal(tokens) & (tokens < 24)[:, None, None] | torch.eye(tokens.shape[1], dtype=torch.bool)


@pytest.mark.parametrize(
    "attend",
    [
        lambda q, k, v, tokens: attention(q, k, v, causal(tokens)),
        lambda q, k, v, tokens: attention(q, k, v, None, 0.0, True, scale=0.1),
        lambda q, k, v, tokens: attention(value=v, key=k, query=q, is_causal=True),
        lambda q, k, v, tokens: attention(q, k, v, known(tokens)),
        lambda q, k, v, tokens: attention(q, k, v, attn_mask=causal(tokens).expand(len(q), 1, -1, -1)),
        lambda q, k, v, tokens: attention(torch.ones(q.shape).double(), k, v, is_causal=True),
        lambda q, k, v, tokens: attention(q[:1], k, v, is_causal=True),
        lambda q, k, v, tokens: attention(q[0, 0], k[0, 0], v[0, 0], is_causal=True).expand_as(v),
    ],
    ids=["positional", "all positional", "named", "of tokens", "expanded", "constant query", "one query", "no batch"],
)
def test_batched_pass_of_a_module_of_ones_own_equals_each_model_alone(attend):
    torch.manual_seed(0)
    base = Own(attend).double()
    flat = Flat(base)
    theta = (flat.flatten(base) + 0.1 * torch.randn(3, flat.size, dtype=torch.float64)).requires_grad_()
    tokens = torch.randint(32, (3, 4, 6))
    batched = forward_at(base, flat, theta, tokens)
    alone = torch.stack([functional_call(base, flat.unflatten(theta[r]), (tokens[r],)) for r in range(3)])
    torch.testing.assert_close(batched, alone, rtol=0, atol=1e-12)
    slopes = [torch.autograd.grad(logits.square().sum(), theta)[0] for logits in (batched, alone)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)


def test_flat_round_trip_and_spans():
    base = llama()
    flat = Flat(base)
    for name, value in flat.unflatten(flat.flatten(base)).items():
        assert torch.equal(value, base.get_parameter(name))
    norms = sum(p.numel() for p in base.parameters() if p.dim() == 1)
    assert sum(stop - start for start, stop, decays in flat.spans if decays) == flat.size - norms
    assert [start for start, *_ in flat.spans] == [0] + [stop for _, stop, _ in flat.spans][:-1]
