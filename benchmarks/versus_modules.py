"""The model in plain PyTorch with random weights, written for speed.

qkv and gate+up are fused, attention is scaled dot product attention, and the caller appends keys
and values to a cache. Only the shapes matter; the weights are arbitrary, but differ between layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Past = tuple[Tensor, Tensor]
"""Keys and values, (1, kv heads, positions, head_dim)."""


class Decoder(nn.Module):
    """Maps rows (1, s, D), after a past of any length, to the logits (1, 1, V) of the last row and
    the new keys and values of every layer."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        self.embed_tokens = nn.Embedding(config["vocab_size"], hidden)
        self.layers = nn.ModuleList([Layer(config) for _ in range(layers)])
        self.norm = nn.RMSNorm(hidden, eps=config["rms_norm_eps"])
        self.head = nn.Linear(hidden, config["vocab_size"], bias=False)
        self.head.weight = self.embed_tokens.weight
        self.logit_scale = config["logit_scale"]
        self.scale_emb = config["scale_emb"]
        self.head_dim = config["head_dim"]
        half = torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim
        self.register_buffer("inverse", 1.0 / config["rope_theta"] ** half, persistent=False)

    def embed(self, ids: Tensor) -> Tensor:
        return self.embed_tokens(ids) * self.scale_emb

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None, past: list[Past]) -> Any:
        angle = positions.float()[:, None] * self.inverse[None]
        angle = torch.cat([angle, angle], -1)
        turn = (angle.cos().to(x.dtype), angle.sin().to(x.dtype))
        new = []
        for layer, kept in zip(self.layers, past, strict=True):
            x, keys_values = layer(x, turn, mask, kept)
            new.append(keys_values)
        return self.head(self.norm(x[:, -1:]) * self.logit_scale), new


class Layer(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        d, f, eps = config["hidden_size"], config["intermediate_size"], config["rms_norm_eps"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head_dim, self.residual_scale = config["head_dim"], config["residual_scale"]
        self.input_layernorm = nn.RMSNorm(d, eps=eps)
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv_proj = nn.Linear(d, width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, d, bias=False)
        self.post_attention_layernorm = nn.RMSNorm(d, eps=eps)
        self.gate_up_proj = nn.Linear(d, 2 * f, bias=False)
        self.down_proj = nn.Linear(f, d, bias=False)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, past: Past
    ) -> tuple[Tensor, Past]:
        q, k, v = self.split(self.qkv_proj(self.input_layernorm(x)))
        k = torch.cat([past[0], rotate(k, *turn)], 2)
        v = torch.cat([past[1], v], 2)
        mixed = F.scaled_dot_product_attention(
            rotate(q, *turn), self.repeat(k), self.repeat(v), attn_mask=mask
        )
        attended = self.o_proj(mixed.transpose(1, 2).flatten(2))
        x = x + attended * self.residual_scale
        gate, up = self.gate_up_proj(self.post_attention_layernorm(x)).chunk(2, -1)
        return x + self.down_proj(F.silu(gate) * up) * self.residual_scale, (k, v)

    def split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """(1, s, width) -> queries, keys and values of shape (1, heads, s, head_dim)."""
        h, kv, e = self.heads, self.kv_heads, self.head_dim
        parts = qkv.split([h * e, kv * e, kv * e], -1)
        return tuple(
            part.view(1, -1, n, e).transpose(1, 2)
            for part, n in zip(parts, (h, kv, kv), strict=True)
        )

    def repeat(self, x: Tensor) -> Tensor:
        """Repeat each key-value head for all its query heads."""
        count = self.heads // self.kv_heads
        shape = (1, self.kv_heads, count, x.shape[2], self.head_dim)
        return x[:, :, None].expand(shape).reshape(1, self.heads, x.shape[2], self.head_dim)


class VisionTower(nn.Module):
    """Patches (n, 3 p p) -> (query_num, D): SigLIP and the resampler."""

    def __init__(self, config: dict[str, Any], patches: int) -> None:
        super().__init__()
        vision = config["vision_config"]
        d, values = vision["hidden_size"], 3 * config["patch_size"] ** 2
        self.patch_embedding = nn.Linear(values, d)
        self.positions = nn.Parameter(torch.empty(patches, d))
        self.layers = nn.ModuleList([Encoder(vision) for _ in range(vision["num_hidden_layers"])])
        self.post_layernorm = nn.LayerNorm(d, eps=vision["layer_norm_eps"])
        self.resampler = Resampler(config, patches)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.patch_embedding(patches) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.resampler(self.post_layernorm(x))


class Encoder(nn.Module):
    def __init__(self, vision: dict[str, Any]) -> None:
        super().__init__()
        d, f, eps = vision["hidden_size"], vision["intermediate_size"], vision["layer_norm_eps"]
        self.heads = vision["num_attention_heads"]
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(d, eps=eps), nn.LayerNorm(d, eps=eps)
        self.qkv_proj, self.out_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, f), nn.Linear(f, d)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            by_head(part, self.heads) for part in self.qkv_proj(self.layer_norm1(x)).chunk(3, -1)
        )
        x = x + self.out_proj(joined(F.scaled_dot_product_attention(q, k, v)))
        return x + self.fc2(F.gelu(self.fc1(self.layer_norm2(x)), approximate="tanh"))


class Resampler(nn.Module):
    def __init__(self, config: dict[str, Any], patches: int) -> None:
        super().__init__()
        D = config["hidden_size"]
        self.heads = D // 128
        self.query = nn.Parameter(torch.empty(config["query_num"], D))
        self.positions = nn.Parameter(torch.empty(patches, D))
        self.kv_proj = nn.Linear(config["vision_config"]["hidden_size"], D, bias=False)
        self.ln_kv, self.ln_post = nn.LayerNorm(D, eps=1e-6), nn.LayerNorm(D, eps=1e-6)
        self.k_proj, self.v_proj, self.out_proj = (nn.Linear(D, D) for _ in range(3))
        self.proj = nn.Linear(D, D, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        kv = self.ln_kv(self.kv_proj(features))
        k, v = self.k_proj(kv + self.positions), self.v_proj(kv)
        q, k, v = (by_head(part, self.heads) for part in (self.query, k, v))
        mixed = joined(F.scaled_dot_product_attention(q, k, v))
        return self.proj(self.ln_post(self.out_proj(mixed)))


def by_head(x: Tensor, heads: int) -> Tensor:
    """(n, d) -> (1, heads, n, d / heads)"""
    return x.view(x.shape[0], heads, -1).transpose(0, 1)[None]


def joined(x: Tensor) -> Tensor:
    return x[0].transpose(0, 1).flatten(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def draw(module: nn.Module, seed: int) -> nn.Module:
    """Draw random weights: matrices scaled by 1/sqrt(fan in), norms around 1, small biases."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            is_norm = "norm" in name or "ln_" in name
            std = 0.02 if weight.ndim < 2 else weight.shape[-1] ** -0.5
            weight.normal_(0.0, std, generator=random).add_(1.0 if is_norm else 0.0)
    return module.eval()
