"""The model configuration: a checkpoint's `config.json`, validated and frozen.

Fields are named after the keys of the checkpoint. Settings that would compile to a wrong model
(another release of the family, quantized weights, scaled rotary positions) are rejected here, so
later stages need no checks. This module reads no files and no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

from handglass.errors import InputError

from ..checkpoints.fields import Fields
from .rope import rope_theta, rotary_factor

# Every release with a resampler uses 128 columns per resampler head.
RESAMPLER_HEAD_DIM = 128
MAX_LAYERS = 1000

# Released architectures that are recognized but not supported yet, for a clear error message.
NOT_YET = {
    "MiniCPMO": "MiniCPM-o",
    "MiniCPMV4_7ForConditionalGeneration": "MiniCPM-V 4.7",
}

# All releases use the architecture name MiniCPMV and the early ones have no version key, so they
# are recognized by their shapes.
RELEASED_SHAPES = (
    ("MiniCPM-V 1.0 or 2.0", {"hidden_size": 2304, "intermediate_size": 5760}),
    ("MiniCPM-V 2.5", {"hidden_size": 4096, "intermediate_size": 14336}),
    ("MiniCPM-V 2.6", {"hidden_size": 3584, "intermediate_size": 18944}),
    ("MiniCPM-V 4.0", {"hidden_size": 2560, "intermediate_size": 10240}),
    ("MiniCPM-V 4.5", {"hidden_size": 4096, "intermediate_size": 12288}),
)

# Keys that change the arithmetic or the prompt when they are set: key -> the feature it enables.
REFUSED_KEYS = {
    "quantization_config": "quantized weights; compile from the original checkpoint instead",
    "attention_bias": "biases on the q, k and v projections",
    "qkv_bias": "biases on the q, k and v projections",
    "mlp_bias": "biases in the language model's MLP",
    "use_sliding_window": "sliding-window attention",
    "drop_vision_last_layer": "a vision tower without its last layer",
    "slice_mode": "image slicing",
    "use_image_id": "image numbers in the prompt",
}


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


@dataclass(frozen=True)
class DeltaConfig:
    """Linear attention by the gated delta rule, of Qwen3.5."""

    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel_dim: int


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
    rotary_dim: int | None = None
    """Elements of a head that are rotated; None: all."""
    has_output_gate: bool = False
    """q_proj also yields a gate of the attention's result."""
    linear_layers: frozenset[int] = frozenset()
    """Layers with linear attention."""
    delta: DeltaConfig | None = None
    """The linear attention of these layers."""

    @property
    def residual_scale(self) -> float:
        """The factor of every residual branch: the muP scale, or 1 without one."""
        return 1.0 if self.scale_depth is None else self.scale_depth / sqrt(self.num_hidden_layers)

    @property
    def logit_scale(self) -> float:
        """The factor of the last hidden state before the head: the muP scale, or 1 without one."""
        return 1.0 if self.dim_model_base is None else self.dim_model_base / self.hidden_size


@dataclass(frozen=True)
class ModelConfig:
    """The whole model; input images are resized to squares of `image_size` pixels."""

    architecture: str
    vision: VisionConfig
    resampler: ResamplerConfig
    language: LanguageConfig
    image_size: int

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> ModelConfig:
        """Parse the released layout: language fields at the top level, the tower under
        `vision_config`. Raises InputError for an invalid or unsupported setting."""
        top = Fields(config, "config.json")
        architecture = _architecture(top)
        _refuse_unsupported(top)
        vision = vision_config(top.section("vision_config"))
        language = _language(top)
        image_size = top.integer("image_size")
        top.multiple("image_size", image_size, "patch_size", vision.patch_size)
        _refuse_other_patch_size(top, vision.patch_size)
        return cls(architecture, vision, _resampler(top, vision, language), language, image_size)


def _architecture(top: Fields) -> str:
    """The supported architecture; InputError names the release if it is another one."""
    names = top.texts("architectures")
    name = names[0] if len(names) == 1 else ", ".join(names)
    if name in NOT_YET:
        raise InputError(f"config.json: {NOT_YET[name]} ({name!r}) is not supported yet")
    if name != "MiniCPMV":
        raise InputError(
            f"config.json: unknown architecture {name!r}; known architectures: MiniCPMV"
        )
    if top.get("version") is not None:
        raise InputError(f"config.json: MiniCPM-V {top.get('version')} is not supported yet")
    for release, shape in RELEASED_SHAPES:
        if all(top.get(key) == value for key, value in shape.items()):
            raise InputError(f"config.json: {release} is not supported yet (shape {shape})")
    return name


def _refuse_unsupported(top: Fields) -> None:
    for key, meaning in REFUSED_KEYS.items():
        value = top.get(key)
        if value is not None and value is not False:
            raise InputError(f"config.json: {key} is {value!r}: {meaning}: not supported yet")


def _refuse_other_patch_size(top: Fields, patch_size: int) -> None:
    """The released layout repeats the patch size at the top level; both values must agree."""
    stated = top.integer("patch_size", default=patch_size)
    if stated != patch_size:
        raise InputError(
            f"config.json: patch_size is {stated} but vision_config.patch_size is {patch_size}"
        )


def vision_config(fields: Fields) -> VisionConfig:
    # Released files omit the activation and the epsilon: SigLIP's class defaults apply.
    fields.expect("hidden_act", "gelu_pytorch_tanh")
    fields.expect("num_channels", 3)
    vision = VisionConfig(
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=fields.integer("num_hidden_layers", maximum=MAX_LAYERS),
        num_attention_heads=fields.integer("num_attention_heads"),
        image_size=fields.integer("image_size"),
        patch_size=fields.integer("patch_size"),
        layer_norm_eps=fields.number("layer_norm_eps", default=1e-6),
        hidden_act="gelu_pytorch_tanh",
    )
    fields.multiple(
        "hidden_size", vision.hidden_size, "num_attention_heads", vision.num_attention_heads
    )
    fields.multiple("image_size", vision.image_size, "patch_size", vision.patch_size)
    return vision


def _language(fields: Fields) -> LanguageConfig:
    fields.expect("hidden_act", "silu")
    if (factor := rotary_factor(fields)) != 1:
        raise InputError(f"config.json: partial_rotary_factor is {factor:g}: not supported yet")
    hidden_size = fields.integer("hidden_size")
    heads = fields.integer("num_attention_heads")
    vocab_size = fields.integer("vocab_size")
    language = LanguageConfig(
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=fields.integer("num_hidden_layers", maximum=MAX_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=fields.integer("num_key_value_heads", default=heads),
        head_dim=_head_dim(fields, hidden_size, heads),
        vocab_size=vocab_size,
        rms_norm_eps=fields.number("rms_norm_eps"),
        rope_theta=rope_theta(fields),
        max_position_embeddings=fields.integer("max_position_embeddings"),
        scale_emb=fields.number("scale_emb"),
        scale_depth=fields.number("scale_depth"),
        dim_model_base=fields.number("dim_model_base"),
        # The class default: MiniCPM-1B omits the key and stores no head.
        tie_word_embeddings=fields.flag("tie_word_embeddings", default=True),
        bos_token_id=fields.token("bos_token_id", vocab_size, default=1),
        eos_token_ids=fields.tokens("eos_token_id", vocab_size),
    )
    fields.multiple(
        "num_attention_heads", heads, "num_key_value_heads", language.num_key_value_heads
    )
    return language


def _head_dim(fields: Fields, hidden_size: int, heads: int) -> int:
    """`head_dim`, by default hidden_size / heads; even, as rotary positions pair its halves."""
    if fields.get("head_dim") is None:
        fields.multiple("hidden_size", hidden_size, "num_attention_heads", heads)
    head_dim = fields.integer("head_dim", default=hidden_size // heads)
    if head_dim % 2:
        raise InputError(f"config.json: head_dim is {head_dim}, but must be even")
    return head_dim


def _resampler(top: Fields, vision: VisionConfig, language: LanguageConfig) -> ResamplerConfig:
    hidden_size = language.hidden_size
    top.multiple("hidden_size", hidden_size, "the resampler's head width", RESAMPLER_HEAD_DIM)
    return ResamplerConfig(
        query_num=top.integer("query_num"),
        hidden_size=hidden_size,
        vision_hidden_size=vision.hidden_size,
        num_attention_heads=hidden_size // RESAMPLER_HEAD_DIM,
    )


# The default configuration in the released layout: SigLIP so400m/14 at 448 and MiniCPM-1B.
SEED_JSON: dict[str, Any] = {
    "architectures": ["MiniCPMV"],
    "model_type": "minicpmv",
    "hidden_size": 1536,
    "intermediate_size": 3840,
    "num_hidden_layers": 52,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "vocab_size": 73440,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "query_num": 64,
    "image_size": 448,
    "patch_size": 14,
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 980,
        "patch_size": 14,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
}

SEED = ModelConfig.from_dict(SEED_JSON)
