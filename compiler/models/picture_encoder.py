"""Encoders of pictures: ViT, DeiT, DINO and DINOv2, a picture as one row, and its labels if the
checkpoint has a head.

ViT (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929) reads a picture off the row of its
class token; a pooler multiplies that by one more matrix. DINO (Caron et al. 2021,
https://arxiv.org/abs/2104.14294) has the same tower; DeiT (Touvron et al. 2021,
https://arxiv.org/abs/2012.12877) has a second token, which a second head may read. DINOv2 (Oquab
et al. 2024, https://arxiv.org/abs/2304.07193) scales the results of its layers; its head also reads
the mean of all patches. What a head reads in addition is the second half of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tvm
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op, spec

from handglass.errors import InputError
from handglass.runtime.bundle.entries import (
    FunctionEntry,
    MethodEntry,
    PromptEntry,
    StateTensor,
    TensorEntry,
    VisionEntry,
    WorkEntry,
)

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.preprocessor import picture_side
from ..checkpoints.template_file import TemplateFile
from .architecture import architecture_of
from .family import Family, HasHead, Score
from .network import MODES
from .picture_config import KINDS, PictureConfig, configure
from .row_pooling import FIRST, SECOND, mean_row, row_of
from .storage import Storage
from .vision import VisionTower, linear
from .work import vision_flops

POOLER = "pooler.dense"


class PictureEncoder(nn.Module):
    """Exports `encode_image`, and `classify` of its result if there are labels."""

    def __init__(self, config: PictureConfig, storage: Storage, has_pooler: bool) -> None:
        super().__init__()
        self.config, self.storage = config, storage
        self.tower = VisionTower(config.vision, storage.vision, config.prefix)
        d, self.width = config.vision.hidden_size, row_width(config, has_pooler)
        shape = (config.pooler_width, d)
        self.pooler = linear(storage.vision, "", shape, POOLER) if has_pooler else None
        names = config.kind.heads if config.labels else ()
        shape = (len(config.labels), self.width // max(len(names), 1))
        self.heads = nn.ModuleList([linear(storage.vision, "", shape, name) for name in names])

    def encode_image(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        x, tower = self.tower.encode(pixels, position_ids), self.tower
        if self.pooler is not None:
            return op.tanh(self.pooler(row_of(x, FIRST, tower.post_layernorm)))
        if not self.config.is_double:
            return row_of(x, FIRST, tower.post_layernorm).computed()
        assert self.config.vision.tokens is not None
        rows = tower.post_layernorm(x).computed()
        if self.config.kind.reads_patches:
            more = mean_row(rows, self.config.vision.tokens.count)
        else:
            more = row_of(rows, SECOND).computed()
        return op.concat([row_of(rows, FIRST).computed(), more], 1)

    def classify(self, row: nn.Tensor) -> nn.Tensor:
        if len(self.heads) == 1:
            return self.heads[0](row)
        first, second = (
            head(half) for head, half in zip(self.heads, op.split(row, 2, 1), strict=True)
        )
        return op.multiply(op.add(first, second), nn.Tensor.from_scalar(0.5, "float32"))

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with all functions; parameters in the order of the `params` tuple."""
        pixels = spec.Tensor([3, self.config.vision.patch_size, "strip"], "float32")
        given: dict[str, dict[str, Any]] = {
            "encode_image": {"pixels": pixels, "position_ids": spec.Tensor(["n"], "int32")}
        }
        if self.config.labels:
            given["classify"] = {"row": spec.Tensor([1, self.width], "float32")}
        made = {
            name: spec.MethodSpec.from_raw(arguments | MODES, getattr(self, name))
            for name, arguments in given.items()
        }
        return self.export_tvm(spec=made)

    def functions(self) -> dict[str, FunctionEntry]:
        p, row = self.config.vision.patch_size, f"(1, {self.width}) float32"
        pixels, ids = f"pixels (3, {p}, {p} n) float32", "position_ids (n,) int32"
        made = {"encode_image": FunctionEntry((pixels, ids, "params"), row)}
        if self.config.labels:
            scores = f"(1, {len(self.config.labels)}) float32"
            made["classify"] = FunctionEntry((f"row {row}", "params"), scores)
        return made

    def state(self) -> tuple[StateTensor, ...]:
        """There is none."""
        return ()

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        config, tokens = self.config, self.config.vision.tokens
        assert tokens is not None
        flops = vision_flops(config.vision, tokens.side**2 + tokens.count)
        if self.pooler is not None:
            flops += 2 * config.vision.hidden_size * config.pooler_width
        made = {"encode_image": WorkEntry(flops=flops)}
        if self.config.labels:
            made["classify"] = WorkEntry(flops=2 * self.width * len(config.labels))
        return made


def row_width(config: PictureConfig, has_pooler: bool) -> int:
    """Columns of the row of a picture."""
    if has_pooler:
        return config.pooler_width
    return (1 + config.is_double) * config.vision.hidden_size


def build(checkpoint: HasHead, config: PictureConfig, storage: Storage) -> PictureEncoder:
    assert isinstance(checkpoint, Checkpoint)
    shown = for_pictures(checkpoint, config)
    return PictureEncoder(shown, storage, pools(checkpoint, config))


def pools(checkpoint: HasHead, config: PictureConfig) -> bool:
    """Whether the checkpoint has a pooler; released files of DINO have none."""
    may_pool = config.kind.has_pooler and not config.labels
    return may_pool and f"{POOLER}.weight" in checkpoint


def for_pictures(checkpoint: Checkpoint, config: PictureConfig) -> PictureConfig:
    """The configuration for the size of the pictures that preprocessor_config.json states, if the
    model takes any size. Raises InputError for one that is not a whole number of patches."""
    vision = config.vision
    if not config.kind.resizes or vision.tokens is None:
        return config
    side = picture_side(checkpoint, vision.image_size)
    if side % vision.patch_size:
        raise InputError(
            f"{checkpoint.folder}: pictures of {side} x {side} pixels are not a whole number of "
            f"patches of {vision.patch_size}"
        )
    tokens = replace(vision.tokens, side=side // vision.patch_size)
    return replace(config, vision=replace(vision, tokens=tokens))


def vision_entry(config: PictureConfig) -> VisionEntry:
    """As the architecture's class does it; packing/encoder_inputs.py follows the checkpoint's
    preprocessor_config.json."""
    kind, vision = config.kind, config.vision
    assert vision.tokens is not None
    side = vision.tokens.side
    size = side * vision.patch_size
    parameters: dict[str, Any] = {"filter": kind.filter}
    cropped = MethodEntry("centre", parameters | {"shortest": size})
    return VisionEntry(
        image_size=size,
        patch_size=vision.patch_size,
        mean=kind.mean,
        std=kind.std,
        slicing=cropped if kind.is_cropped else MethodEntry("square", parameters),
        positions=MethodEntry("floor", {"side": side}),
        query_num=1,
    )


def prompt_entry(config: PictureConfig, template: TemplateFile) -> PromptEntry:
    """It answers no questions."""
    return PromptEntry(bos="", roles={}, tiles={}, reserved=(), stop=())


def score(checkpoint: Checkpoint, config: PictureConfig) -> Score:
    """Raises InputError for pictures of a size that the model does not take."""
    shown = for_pictures(checkpoint, config)
    assert shown.vision.tokens is not None
    return Score(
        kind=config.score,
        width=row_width(config, pools(checkpoint, config)),
        class_tokens=shown.vision.tokens.count,
        labels=config.labels,
        vision=vision_entry(shown),
    )


def ignored(config: PictureConfig) -> tuple[str, ...]:
    """The row that stands for a hidden patch in training; a pooler below a head."""
    start = f"{config.prefix}." if config.prefix else ""
    return f"{start}embeddings.mask_token", f"{start}pooler."


def matches(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) in KINDS


FAMILY = Family(
    name="picture encoder",
    matches=matches,
    configure=configure,
    build=build,
    prompt=prompt_entry,
    vision=vision_entry,
    title=lambda config: config.kind.title,
    ignored=ignored,
    score=score,
    has_texts=False,
    reference="handglass.compiler.parity.reference.picture_encoder",
)
