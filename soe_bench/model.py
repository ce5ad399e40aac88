"""A small decoder language model whose state dict has the names of Hugging Face's Llama.

RMSNorm, rotary positions, SwiGLU, tied or untied head. `LlamaForCausalLM` loads the state dict as it is, so to export a
specialist is to write a file. Sources: Llama, https://arxiv.org/abs/2302.13971; rotary positions,
https://arxiv.org/abs/2104.09864.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, THETA = 1e-5, 10_000.0  # of every RMSNorm, and of the rotary positions


class RotaryEmbedding(nn.Module):
    """Cosines and sines of the rotary positions, each of shape (max_length, head_dim); not in the state dict."""

    def __init__(self, head_dim: int, max_length: int, theta: float) -> None:
        super().__init__()
        frequency = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        angle = torch.outer(torch.arange(max_length, dtype=torch.float64), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rotates x of shape (B, heads, T, head_dim). Its two halves are paired as in Hugging Face's Llama."""
        length = x.shape[-2]
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
        return x * self.cos[:length].to(x.dtype) + turned * self.sin[:length].to(x.dtype)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x: Tensor, rotary: RotaryEmbedding) -> Tensor:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (proj(x).unflatten(-1, (self.heads, -1)).transpose(-3, -2) for proj in projections)
        y = F.scaled_dot_product_attention(rotary(q), rotary(k), v, is_causal=True)
        return self.o_proj(y.transpose(-3, -2).flatten(-2))


class MLP(nn.Module):
    """SwiGLU feed-forward layer."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.mlp = MLP(dim, hidden)
        self.input_layernorm = nn.RMSNorm(dim, eps=EPS)
        self.post_attention_layernorm = nn.RMSNorm(dim, eps=EPS)

    def forward(self, x: Tensor, rotary: RotaryEmbedding) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers and final norm: the `model.` prefix of Hugging Face's names."""

    def __init__(self, vocab_size: int, dim: int, layers: int, heads: int, hidden: int, max_length: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(Layer(dim, heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(dim, eps=EPS)
        self.rotary = RotaryEmbedding(dim // heads, max_length, THETA)

    def forward(self, tokens: Tensor, shift: Tensor | None = None) -> Tensor:
        x = self.embed_tokens(tokens)
        if shift is not None:
            x = x + shift
        for layer in self.layers:
            x = layer(x, self.rotary)
        return self.norm(x)


class Llama(nn.Module):
    """Decoder language model: tokens (B, T) -> logits (B, T, vocab_size); `shift` (hidden_size,) is added to every
    embedding. The arguments have the names of Hugging Face's LlamaConfig; hidden_size must be num_attention_heads times
    an even number.

    Initialisation: N(0, 0.02), and 0.02 / sqrt(2 num_hidden_layers) for the two projections that write to the residual
    stream (GPT-2).
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        intermediate_size: int,
        max_position_embeddings: int,
        tie_word_embeddings: bool = True,
    ) -> None:
        super().__init__()
        self.model = Decoder(
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            max_position_embeddings,
        )
        self.lm_head = None if tie_word_embeddings else nn.Linear(hidden_size, vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * num_hidden_layers) ** 0.5 if residual else 0.02)

    def forward(self, tokens: Tensor, shift: Tensor | None = None) -> Tensor:
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        return F.linear(self.model(tokens, shift), head.weight)


def llama_config(model: Llama) -> dict[str, Any]:
    """The settings of LlamaConfig that give this model."""
    decoder, layer = model.model, model.model.layers[0]
    heads = layer.self_attn.heads
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": decoder.embed_tokens.num_embeddings,
        "hidden_size": decoder.embed_tokens.embedding_dim,
        "intermediate_size": layer.mlp.gate_proj.out_features,
        "num_hidden_layers": len(decoder.layers),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": decoder.rotary.cos.shape[0],
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
        "tie_word_embeddings": model.lm_head is None,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
