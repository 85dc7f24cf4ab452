"""Dual encoders: SigLIP and CLIP, pictures and texts as rows whose directions are compared.

docs/architecture.md specifies the exported functions and their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.errors import InputError
from handglass.runtime.bundle.entries import (
    SIGMOID,
    FunctionEntry,
    MethodEntry,
    PromptEntry,
    StateTensor,
    TensorEntry,
    VisionEntry,
    WorkEntry,
)

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.template_file import TemplateFile
from .architecture import architecture_of
from .dual_config import KINDS, DualConfig, configure
from .dual_towers import PictureTower, TextTower
from .family import Family, HasHead, Score
from .network import MODES
from .storage import Storage
from .work import encoder_flops, probe_flops, vision_flops

SCALE, BIAS = "logit_scale", "logit_bias"
LARGEST_SCALE = 60.0
"""Of the logarithm of a factor of cosines; CLIP is trained with at most 4.6."""


class DualEncoder(nn.Module):
    """Exports `encode_image` and `encode_text`, each with the same `params` tuple."""

    def __init__(self, config: DualConfig, storage: Storage) -> None:
        super().__init__()
        self.config, self.storage = config, storage
        self.vision = PictureTower(config, storage.vision)
        self.text = TextTower(config, storage.language)

    def encode_image(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        return self.vision(pixels, position_ids)

    def encode_text(self, ids: nn.Tensor) -> nn.Tensor:
        return self.text(ids)

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with both functions; parameters in the order of the `params` tuple."""
        pixels = spec.Tensor([3, self.config.vision.patch_size, "strip"], "float32")
        image = {"pixels": pixels, "position_ids": spec.Tensor(["n"], "int32")}
        given = {"encode_image": image, "encode_text": {"ids": spec.Tensor(["s"], "int32")}}
        made = {
            name: spec.MethodSpec.from_raw(arguments | MODES, getattr(self, name))
            for name, arguments in given.items()
        }
        return self.export_tvm(spec=made)

    def functions(self) -> dict[str, FunctionEntry]:
        p, row = self.config.vision.patch_size, f"(1, {self.config.width}) float32"
        pixels, ids = f"pixels (3, {p}, {p} n) float32", "position_ids (n,) int32"
        return {
            "encode_image": FunctionEntry((pixels, ids, "params"), row),
            "encode_text": FunctionEntry(("ids (s,) int32", "params"), row),
        }

    def state(self) -> tuple[StateTensor, ...]:
        """Neither function has any."""
        return ()

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        config = self.config
        n = config.vision.positions_per_side**2 + config.class_tokens
        picture = vision_flops(config.vision, n)
        if not config.class_tokens:
            picture += probe_flops(config.vision, n)
        text = encoder_flops(config.text, config.text.max_position_embeddings)
        return {"encode_image": WorkEntry(flops=picture), "encode_text": WorkEntry(flops=text)}


def build(checkpoint: HasHead, config: DualConfig, storage: Storage) -> DualEncoder:
    return DualEncoder(config, storage)


def vision_entry(config: DualConfig) -> VisionEntry:
    """As the architecture's class does it; packing/encoder_inputs.py follows the checkpoint's
    preprocessor_config.json."""
    side, size, pixels = config.vision.positions_per_side, config.vision.image_size, config.kind
    centre = {"filter": "bicubic", "shortest": size}
    return VisionEntry(
        image_size=size,
        patch_size=config.vision.patch_size,
        mean=pixels.mean,
        std=pixels.std,
        slicing=(
            MethodEntry("centre", centre)
            if pixels.is_cropped
            else MethodEntry("square", {"filter": "bicubic"})
        ),
        positions=MethodEntry("floor", {"side": side}),
        query_num=1,
    )


def prompt_entry(config: DualConfig, template: TemplateFile) -> PromptEntry:
    """It answers no questions."""
    return PromptEntry(bos="", roles={}, tiles={}, reserved=(), stop=())


def score(checkpoint: Checkpoint, config: DualConfig) -> Score:
    """Raises InputError if the checkpoint lacks the scale, or has one beyond all reason."""
    logarithm, kind = _scalar(checkpoint, SCALE), config.kind
    if abs(logarithm) > LARGEST_SCALE:
        raise InputError(
            f"{checkpoint.folder}: {SCALE} is {logarithm:.3g}, but must be within {LARGEST_SCALE:g}"
        )
    bias = _scalar(checkpoint, BIAS) if kind.score == SIGMOID else 0.0
    return Score(
        kind=kind.score,
        scale=float(np.exp(logarithm)),
        bias=bias,
        width=config.width,
        class_tokens=config.class_tokens,
        pads_texts=not kind.is_causal,
    )


def _scalar(checkpoint: Checkpoint, name: str) -> float:
    shape = checkpoint.shape(name)
    if shape not in ((), (1,)):
        raise InputError(f"{name}: the shape is {shape}, but must be that of one number")
    return float(checkpoint.read(name, shape).reshape(-1)[0])


def matches(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) in KINDS


FAMILY = Family(
    name="dual encoder",
    matches=matches,
    configure=configure,
    build=build,
    prompt=prompt_entry,
    vision=vision_entry,
    title=lambda config: config.kind.title,
    ignored=lambda config: (SCALE, BIAS),
    score=score,
    reference="handglass.compiler.parity.reference.dual_encoder",
)
