"""The model configuration: a checkpoint's `config.json`, validated and frozen.

Fields are named after the keys of the checkpoint. Settings that would compile to a wrong model
(another release of the family, scaled rotary positions) are rejected here, so
later stages need no checks. This module reads no files and no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from ..checkpoints.fields import Fields
from .tower_names import SIGLIP, TowerNames

# Every release with a resampler uses 128 columns per resampler head.
RESAMPLER_HEAD_DIM = 128
MAX_LAYERS = 1000


@dataclass(frozen=True)
class TokenRows:
    """Learned rows before those of the patches of a picture, and the grid that their positions are
    made for at packing time."""

    placed: tuple[str, ...]
    """The tokens with a position each, the first of the table."""
    side: int
    """Rows and columns of patches of a picture."""
    registers: str = ""
    """Further rows, without positions, after them; empty: none."""
    register_count: int = 0
    antialias: bool = False
    """Whether a table that is shrunk is smoothed."""

    @property
    def count(self) -> int:
        return len(self.placed) + self.register_count


@dataclass(frozen=True)
class VisionConfig:
    """The SigLIP tower; `image_size` is the size of the position table, not of the input image."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    layer_norm_eps: float
    hidden_act: str
    names: TowerNames = SIGLIP
    resizes_positions: bool = False
    """Whether the position table is resized to the grid of a tile; else patches look up a row."""
    tokens: TokenRows | None = None
    """None: there are none, or one that `names` has as `class_token`."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def positions_per_side(self) -> int:
        """The position table has this many rows and as many columns."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ResamplerConfig:
    """Cross-attention that reduces any number of patches to `query_num` embeddings."""

    query_num: int
    hidden_size: int
    vision_hidden_size: int
    num_attention_heads: int
    has_times: bool = False
    """Whether the patches of several frames can be reduced together, with keys that tell when."""
    has_query_positions: bool = False
    """Whether the queries have a stored position table, which is added to them."""
    has_padding: bool = False
    """Whether a tile may have patches after its own, whose place in the grid is (-1, -1)."""
    key_grid: int = 0
    """The side of the only grid of patches, if the positions of keys are that table enlarged to it;
    0: they are computed for each grid."""


@dataclass(frozen=True)
class DeltaConfig:
    """Linear attention by the gated delta rule, of Qwen3.5."""

    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel_dim: int


@dataclass(frozen=True)
class ExpertConfig:
    """The mixture of experts that replaces the MLP of every layer: a router sends each token to
    `chosen` of `count` experts; one more, the shared expert, sees all tokens."""

    count: int
    chosen: int
    intermediate_size: int
    """Of each of the experts; that of the shared one is the `intermediate_size` of the model."""
    are_stacked: bool = False
    """Whether the checkpoint stores all experts of a layer as one tensor, not as one for each."""


@dataclass(frozen=True)
class LanguageConfig:
    """A Llama-style decoder, with the options of the released language models.

    The muP scales are those that MiniCPM is trained with; None: not used.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    bos_token_id: int = 1
    eos_token_ids: tuple[int, ...] = ()
    """Tokens that end an answer, in addition to those of the prompt template."""
    scale_emb: float = 1.0
    scale_depth: float | None = None
    dim_model_base: float | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    """RMSNorm of each query and key head before the rotation."""
    are_norms_centred: bool = False
    """Norm weights are stored minus one."""
    rope_divisors: tuple[float, ...] = ()
    """Divisors of the rotary frequencies; empty: all 1."""
    rope_magnitude: float = 1.0
    """The factor of cosines and sines."""
    rope_sections: tuple[int, ...] = ()
    """Rotated pairs per axis (T, H, W), for tokens with a position on each; empty: one position."""
    rotary_dim: int | None = None
    """Elements of a head that are rotated; None: all."""
    has_output_gate: bool = False
    """q_proj also yields a gate of the attention's result."""
    linear_layers: frozenset[int] = frozenset()
    """Layers with linear attention."""
    delta: DeltaConfig | None = None
    """The linear attention of these layers."""
    experts: ExpertConfig | None = None
    """None: every layer has one MLP."""
    cross_layers: frozenset[int] = frozenset()
    """Layers that attend to pictures, and that text without pictures skips."""
    picture_rows: int = 0
    """The most rows of pictures that they attend to."""
    extra_tokens: int = 0
    """Tokens after the vocabulary that have an embedding, but no logit."""

    @property
    def residual_scale(self) -> float:
        """The factor of every residual branch: the muP scale, or 1 without one."""
        return 1.0 if self.scale_depth is None else self.scale_depth / sqrt(self.num_hidden_layers)

    @property
    def logit_scale(self) -> float:
        """The factor of the last hidden state before the head: the muP scale, or 1 without one."""
        return 1.0 if self.dim_model_base is None else self.dim_model_base / self.hidden_size


def vision_config(fields: Fields, hidden_act: str = "gelu_pytorch_tanh") -> VisionConfig:
    # Released files omit the activation and the epsilon: SigLIP's class defaults apply.
    fields.expect("hidden_act", hidden_act)
    fields.expect("num_channels", 3)
    vision = VisionConfig(
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=fields.integer("num_hidden_layers", maximum=MAX_LAYERS),
        num_attention_heads=fields.integer("num_attention_heads"),
        image_size=fields.integer("image_size"),
        patch_size=fields.integer("patch_size"),
        layer_norm_eps=fields.number("layer_norm_eps", default=1e-6),
        hidden_act=hidden_act,
    )
    fields.multiple(
        "hidden_size", vision.hidden_size, "num_attention_heads", vision.num_attention_heads
    )
    fields.multiple("image_size", vision.image_size, "patch_size", vision.patch_size)
    return vision
