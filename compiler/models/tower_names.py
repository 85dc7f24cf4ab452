"""How checkpoints name the tensors of a vision tower: data, relative to the tower's prefix."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class TowerNames:
    """`norms`, `qkv`, `out`, `mlp` and `scales` are within a layer. `qkv`: one name per stored
    tensor, which holds q, k and v stacked if there is only one. A name that is empty: the tower has
    no such tensor."""

    patches: str
    positions: str
    layers: str
    norms: tuple[str, str]
    qkv: tuple[str, ...]
    out: str
    final_norm: str
    first_norm: str = ""
    """Of the patches, before the first layer."""
    class_token: str = ""
    """A learned row before those of the patches, with the first of the positions."""
    has_patch_bias: bool = True
    mlp: tuple[str, str] = ("mlp.fc1", "mlp.fc2")
    is_gated: bool = False
    """Whether the first of `mlp` stacks gates and values: SwiGLU."""
    scales: tuple[str, ...] = ()
    """Vectors that multiply the results of attention and of the MLP, if there are any."""


SIGLIP = TowerNames(
    patches="embeddings.patch_embedding",
    positions="embeddings.position_embedding.weight",
    layers="encoder.layers",
    norms=("layer_norm1", "layer_norm2"),
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    final_norm="post_layernorm",
)
CLIP = replace(
    SIGLIP,
    first_norm="pre_layrnorm",  # so spelled
    class_token="embeddings.class_embedding",
    has_patch_bias=False,
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
VIT = TowerNames(
    patches="embeddings.patch_embeddings.projection",
    positions="embeddings.position_embeddings",
    layers="encoder.layer",
    norms=("layernorm_before", "layernorm_after"),
    qkv=tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
    out="attention.output.dense",
    final_norm="layernorm",
    mlp=("intermediate.dense", "output.dense"),
)
DINOV2 = replace(
    VIT,
    norms=("norm1", "norm2"),
    mlp=("mlp.fc1", "mlp.fc2"),
    scales=("layer_scale1.lambda1", "layer_scale2.lambda1"),
)
DINOV2_GATED = replace(DINOV2, mlp=("mlp.weights_in", "mlp.weights_out"), is_gated=True)
BERT = TowerNames(
    patches="",
    positions="embeddings.position_embeddings",
    layers="encoder.layer",
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    qkv=tuple(f"attention.self.{part}" for part in ("query", "key", "value")),
    out="attention.output.dense",
    final_norm="",
    mlp=("intermediate.dense", "output.dense"),
)
