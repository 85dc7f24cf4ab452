"""How checkpoints name the tensors of a SigLIP tower: data, relative to the tower's prefix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TowerNames:
    """`norms`, `qkv` and `out` are within a layer. `qkv`: one name per stored tensor, which holds
    q, k and v stacked if there is only one."""

    patches: str
    positions: str
    layers: str
    norms: tuple[str, str]
    qkv: tuple[str, ...]
    out: str
    final_norm: str


SIGLIP = TowerNames(
    patches="embeddings.patch_embedding",
    positions="embeddings.position_embedding.weight",
    layers="encoder.layers",
    norms=("layer_norm1", "layer_norm2"),
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    final_norm="post_layernorm",
)
TIMM = TowerNames(
    patches="patch_embed.proj",
    positions="pos_embed",
    layers="blocks",
    norms=("norm1", "norm2"),
    qkv=("attn.qkv",),
    out="attn.proj",
    final_norm="norm",
)
