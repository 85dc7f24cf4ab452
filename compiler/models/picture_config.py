"""The configuration of an encoder of pictures: `config.json` of ViT, DeiT, DINO or DINOv2, with or
without a head that knows labels, validated and frozen.

transformers writes only what differs from the defaults of its classes, so that these stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.bounds import LARGEST
from handglass.runtime.bundle.entries import COSINE, SIGMOID, SOFTMAX

from ..checkpoints.fields import Fields
from .architecture import architecture_of
from .config import MAX_LAYERS, TokenRows, VisionConfig
from .tower_names import DINOV2, DINOV2_GATED, VIT, TowerNames
from .vision import GELU

MAX_REGISTERS = 32
MAX_LABEL = 1000
"""Characters of a label."""
HALF = (0.5, 0.5, 0.5)
SCORES = {None: SOFTMAX, "single_label_classification": SOFTMAX}
SCORES |= {"multi_label_classification": SIGMOID}
"""`problem_type` -> how the scores of labels become probabilities."""


@dataclass(frozen=True)
class Kind:
    """What the configurations of one model have in common."""

    title: str
    prefix: str
    """Of the tower in a checkpoint with a head."""
    names: TowerNames
    placed: tuple[str, ...] = ("embeddings.cls_token",)
    """Tokens with a position."""
    layer_norm_eps: float = 1e-12
    patch_size: int = 16
    has_pooler: bool = True
    """Whether a checkpoint without a head may have one."""
    resizes: bool = False
    """Whether pictures may have another size than `image_size`."""
    antialias: bool = False
    has_registers: bool = False
    reads_patches: bool = False
    """Whether the head also reads the mean of all patches."""
    heads: tuple[str, ...] = ("classifier",)
    """The second of two reads the row of the second token; the scores are their mean."""
    filter: str = "bilinear"
    is_cropped: bool = False
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF


VIT_KIND = Kind("ViT", "vit", VIT)
DEIT_KIND = replace(
    VIT_KIND,
    title="DeiT",
    prefix="deit",
    placed=("embeddings.cls_token", "embeddings.distillation_token"),
    filter="bicubic",
)
TEACHER_KIND = replace(DEIT_KIND, heads=("cls_classifier", "distillation_classifier"))
DINOV2_KIND = Kind(
    "DINOv2",
    "dinov2",
    DINOV2,
    layer_norm_eps=1e-6,
    has_pooler=False,
    resizes=True,
    reads_patches=True,
    filter="bicubic",
    is_cropped=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
REGISTERS_KIND = replace(
    DINOV2_KIND,
    title="DINOv2 with registers",
    prefix="dinov2_with_registers",
    antialias=True,
    has_registers=True,
)
KINDS = {
    "ViTModel": VIT_KIND,
    "ViTForImageClassification": VIT_KIND,
    "DeiTModel": DEIT_KIND,
    "DeiTForImageClassification": DEIT_KIND,
    "DeiTForImageClassificationWithTeacher": TEACHER_KIND,
    "Dinov2Model": DINOV2_KIND,
    "Dinov2ForImageClassification": DINOV2_KIND,
    "Dinov2WithRegistersModel": REGISTERS_KIND,
    "Dinov2WithRegistersForImageClassification": REGISTERS_KIND,
}
"""By the class that config.json names."""


@dataclass(frozen=True)
class NoTexts:
    """The text part of a model that has none."""

    max_position_embeddings: int = 1
    vocab_size: int = 0


@dataclass(frozen=True)
class PictureConfig:
    """One tower, and what its head calls the pictures."""

    architecture: str
    vision: VisionConfig
    pooler_width: int
    """Columns of the pooler, if the checkpoint has one."""
    score: str = COSINE
    labels: tuple[str, ...] = ()
    language: NoTexts = NoTexts()

    @property
    def kind(self) -> Kind:
        return KINDS[self.architecture]

    @property
    def prefix(self) -> str:
        """Of the names of the tower's tensors."""
        return self.kind.prefix if self.labels else ""

    @property
    def is_double(self) -> bool:
        """Whether a row is that of the class token and one more that a head reads: the mean of all
        patches, or that of the second token."""
        return bool(self.labels) and (self.kind.reads_patches or len(self.kind.heads) > 1)


def configure(config: dict[str, Any]) -> PictureConfig:
    """Parse config.json. Raises InputError for an invalid or unsupported setting."""
    name = architecture_of(config)
    assert name is not None  # `matches` has found it
    kind, fields = KINDS[name], Fields(config, "config.json")
    for key, only in (("num_channels", 3), ("qkv_bias", True), ("pooler_act", "tanh")):
        fields.expect(key, only)
    vision = _vision(fields, kind)
    pooler = fields.integer("pooler_output_size", vision.hidden_size)
    if "ForImageClassification" not in name:
        return PictureConfig(name, vision, pooler)
    return PictureConfig(name, vision, pooler, _score(fields), _labels(fields))


def _vision(fields: Fields, kind: Kind) -> VisionConfig:
    d = fields.integer("hidden_size", 768)
    act = fields.get("hidden_act") or "gelu"
    if act not in GELU:
        raise InputError(f"config.json: hidden_act is {act!r:.100}; known: {', '.join(GELU)}")
    size, patch = _side(fields, "image_size", 224), _side(fields, "patch_size", kind.patch_size)
    is_gated = kind.names is DINOV2 and fields.flag("use_swiglu_ffn", False)
    vision = VisionConfig(
        hidden_size=d,
        intermediate_size=_hidden(fields, kind, d, is_gated),
        num_hidden_layers=fields.integer("num_hidden_layers", 12, maximum=MAX_LAYERS),
        num_attention_heads=fields.integer("num_attention_heads", 12),
        image_size=size,
        patch_size=patch,
        layer_norm_eps=fields.number("layer_norm_eps", kind.layer_norm_eps),
        hidden_act=act,
        names=DINOV2_GATED if is_gated else kind.names,
    )
    heads = vision.num_attention_heads
    fields.multiple("hidden_size", d, "num_attention_heads", heads)
    fields.multiple("image_size", size, "patch_size", patch)
    return replace(vision, tokens=_tokens(fields, kind, vision.positions_per_side))


def _side(fields: Fields, key: str, default: int) -> int:
    """A number, or a list of two equal ones. Raises InputError for one that is no square."""
    value, largest = fields.get(key), LARGEST["vision.image_size"]
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return Fields({key: value[0]}, fields.where).integer(key, maximum=largest)
    return fields.integer(key, default, maximum=largest)


def _hidden(fields: Fields, kind: Kind, d: int, is_gated: bool) -> int:
    """The hidden columns of the MLP: DINOv2 states a factor, whatever its intermediate_size; of a
    gated one, two thirds are kept, as a multiple of 8."""
    if kind.names is not DINOV2:
        return fields.integer("intermediate_size", 3072)
    f = int(d * fields.number("mlp_ratio", 4))
    fields.get("intermediate_size")  # without effect there, too
    f = (int(f * 2 / 3) + 7) // 8 * 8 if is_gated else f
    return Fields({"mlp_ratio": f}, fields.where).integer("mlp_ratio")


def _tokens(fields: Fields, kind: Kind, side: int) -> TokenRows:
    if not kind.has_registers:
        return TokenRows(kind.placed, side, antialias=kind.antialias)
    count = fields.integer("num_register_tokens", 4, minimum=0, maximum=MAX_REGISTERS)
    name = "embeddings.register_tokens" if count else ""
    return TokenRows(kind.placed, side, name, count, kind.antialias)


def _score(fields: Fields) -> str:
    problem = fields.get("problem_type")
    if problem is not None and problem not in SCORES:
        known = ", ".join(name for name in SCORES if name)
        raise InputError(f"config.json: problem_type is {problem!r:.100}; known: {known}")
    return SCORES[problem]


def _labels(fields: Fields) -> tuple[str, ...]:
    """`id2label`, whose keys are the numbers from 0 on; the class has two labels by default."""
    table = fields.get("id2label")
    fields.get("label2id")  # repeats it
    if table is None:
        return "LABEL_0", "LABEL_1"
    most = LARGEST["encoders.labels"]
    if not isinstance(table, Mapping) or not 0 < len(table) <= most:
        raise InputError(f"config.json: id2label must have 1 to {most} labels")
    found = [table.get(str(number)) for number in range(len(table))]
    for number, label in enumerate(found):
        if not isinstance(label, str) or len(label) > MAX_LABEL:
            raise InputError(
                f"config.json: id2label has {label!r:.100} for {number}, but must have a text of "
                f"at most {MAX_LABEL} characters for each number below {len(table)}"
            )
    return tuple(str(label) for label in found)
