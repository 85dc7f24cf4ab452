"""SigLIP, the resampler and a decoder: the seed and the releases 1.0 to 4.5 (release.py).

docs/architecture.md specifies the exported functions and their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.errors import InputError
from handglass.runtime.bundle.entries import (
    PADDED,
    FunctionEntry,
    MethodEntry,
    PromptEntry,
    TensorEntry,
    VisionEntry,
    WorkEntry,
)

from ..checkpoints.template_file import SEPARATE, TemplateFile
from .architecture import architecture_of
from .family import Family, HasHead
from .language import Decoder
from .model_config import ModelConfig
from .network import DecoderNetwork
from .position_tables import SIDE
from .release import ARCHITECTURES
from .resampler import Resampler
from .storage import Storage
from .vision import VisionTower
from .work import resampler_flops, vision_flops

NORMALISATION = (0.5, 0.5, 0.5)
WHOLE = {"role": "picture", "left": 0, "top": 0, "right": 1, "bottom": 1}
"""The only tile of an image: the whole image."""


class MiniCPMV(DecoderNetwork):
    """SigLIP (`vpm`), `resampler` and the decoder (`llm`); names are those of the checkpoint."""

    def __init__(self, config: ModelConfig, storage: Storage, head: str) -> None:
        super().__init__(storage)
        self.config = config
        self.vpm = VisionTower(config.vision, storage.vision)
        self.resampler = Resampler(config.resampler, storage.language)
        self.llm = Decoder(config.language, storage, head)

    def encode_vision(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        return self.vpm(pixels, position_ids)

    def resample(self, features: nn.Tensor, grid: nn.Tensor) -> nn.Tensor:
        return self.resampler(features, grid)

    def encode_image(
        self, pixels: nn.Tensor, position_ids: nn.Tensor, grid: nn.Tensor
    ) -> nn.Tensor:
        return self.resampler(self.vpm(pixels, position_ids), grid)

    def resample_frames(self, features: nn.Tensor, grid: nn.Tensor, times: nn.Tensor) -> nn.Tensor:
        return self.resampler(features, grid, times)

    def specs(self) -> dict[str, dict]:
        vision = self.config.vision
        pixels = spec.Tensor([3, vision.patch_size, "strip"], "float32")
        ids, grid = spec.Tensor(["n"], "int32"), spec.Tensor(["n", 2], "int32")
        features = spec.Tensor(["n", vision.hidden_size], "float32")
        eyes = {
            "encode_vision": {"pixels": pixels, "position_ids": ids},
            "resample": {"features": features, "grid": grid},
            "encode_image": {"pixels": pixels, "position_ids": ids, "grid": grid},
        }
        if self.config.resampler.has_times:
            frames = {"features": features, "grid": grid, "times": ids}
            eyes["resample_frames"] = frames
        return eyes | super().specs()

    def functions(self) -> dict[str, FunctionEntry]:
        vision, d = self.config.vision, self.config.language.hidden_size
        p, features = vision.patch_size, vision.hidden_size
        pixels, ids = f"pixels (3, {p}, {p} n) float32", "position_ids (n,) int32"
        grid = "grid (n, 2) int32"
        image = f"({self.config.resampler.query_num}, {d}) float32"
        rows = f"features (n, {features}) float32"
        eyes = {
            "encode_vision": FunctionEntry((pixels, ids, "params"), f"(n, {features}) float32"),
            "resample": FunctionEntry((rows, grid, "params"), image),
            "encode_image": FunctionEntry((pixels, ids, grid, "params"), image),
        }
        if self.config.resampler.has_times:
            times = "times (n,) int32"
            eyes["resample_frames"] = FunctionEntry((rows, grid, times, "params"), image)
        return eyes | super().functions()

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        config = self.config
        n = (config.image_size // config.vision.patch_size) ** 2
        picture = vision_flops(config.vision, n) + resampler_flops(config.resampler, n)
        return {"encode_image": WorkEntry(flops=picture)} | super().work(params)


def build(checkpoint: HasHead, config: ModelConfig, storage: Storage) -> MiniCPMV:
    return MiniCPMV(config, storage, checkpoint.lm_head(config.language.tie_word_embeddings))


def vision_entry(config: ModelConfig) -> VisionEntry:
    return VisionEntry(
        image_size=config.image_size,
        patch_size=config.vision.patch_size,
        mean=NORMALISATION,
        std=NORMALISATION,
        slicing=_slicing(config),
        positions=_positions(config),
        query_num=config.resampler.query_num,
        video=config.video,
    )


def _positions(config: ModelConfig) -> MethodEntry:
    if config.vision.resizes_positions:
        return MethodEntry("place", {"side": SIDE})
    kind = PADDED if config.resampler.has_padding else "bucket"
    return MethodEntry(kind, {"side": config.vision.positions_per_side})


def _slicing(config: ModelConfig) -> MethodEntry:
    """The seed and 1.0 take a square; the others plan a grid of tiles of about that area."""
    if not config.release.slices:
        return MethodEntry("crops", {"boxes": [WHOLE]})
    size, multiple = config.image_size, config.vision.patch_size
    grid = {"resolution": size, "multiple": multiple, "max_slices": config.max_slices}
    return MethodEntry("grid", grid)


def prompt_entry(config: ModelConfig, template: TemplateFile) -> PromptEntry:
    """The release's own; packing/template_check.py compares it with the checkpoint's template.

    Raises InputError if there is none to compare and the release is not known well enough."""
    if config.release.needs_template and not template.text:
        raise InputError(
            f"{config.release.name}: the checkpoint has no chat template, without which its prompt "
            f"is not certain; add {SEPARATE} of the release (or chat_template in "
            "tokenizer_config.json)"
        )
    return config.prompt


def matches(config: Mapping[str, Any]) -> bool:
    """Whether the architecture is one with a resampler; `configure` tells the releases apart."""
    return architecture_of(config) in ARCHITECTURES


FAMILY = Family(
    name="MiniCPM-V with a resampler",
    matches=matches,
    configure=ModelConfig.from_dict,
    build=build,
    prompt=prompt_entry,
    vision=vision_entry,
    reference="handglass.compiler.parity.reference.minicpmv",
    title=lambda config: config.release.name,
    # The released `chat` does, and it asks for plain answers whatever the template would open.
    template_decides=False,
)
