"""Llama 3.2 Vision: an encoder of tiles, and Llama 3.1 with layers that attend to pictures.

One token of the prompt stands for a picture. The rows of the picture are no rows of the text: the
layers of cross_attention.py attend to them from that token on, until the next picture. Pictures
whose tokens follow one another are seen together. Text before the first picture skips these layers,
as in the released implementation (github.com/meta-llama/llama-models); transformers 5 skips the MLP
only. `intermediate_layers_indices` counts as there, too: the inputs of these layers, whereas
transformers 5 takes their outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.runtime.bundle.entries import (
    TILED,
    Around,
    FunctionEntry,
    MethodEntry,
    PromptEntry,
    TensorEntry,
    VisionEntry,
    WorkEntry,
)

from ..checkpoints.template_file import TemplateFile
from .architecture import architecture_of
from .family import Family, HasHead
from .language import Decoder, State
from .mllama_config import MllamaConfig, parse
from .network import DecoderNetwork
from .storage import Storage
from .templates import llama3
from .tiled_vision import TiledVisionTower
from .work import shown_work, tiled_vision_flops

ARCHITECTURE = "MllamaForConditionalGeneration"
PICTURE = "<|image|>"
TRIMMED = re.compile(r"\|\s*trim\s*\+")
"""How a template removes white space around every text; the released one leaves it."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the released preprocessor_config.json."""
DECODER, HEAD = "language_model.model", "language_model.lm_head.weight"
RENAMES = {
    "model.language_model.": f"{DECODER}.",
    "model.vision_model.": "vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}
"""Names in files that have those of the class in transformers 5 -> names of the release."""


class Mllama(DecoderNetwork):
    """The vision tower with its projector (`vision`) and the decoder (`language_model`)."""

    decoder_name = "language_model"

    def __init__(self, config: MllamaConfig, storage: Storage, head: str) -> None:
        super().__init__(storage)
        self.config = config
        self.vision = TiledVisionTower(
            config.vision,
            config.language.hidden_size,
            storage.vision,
            "vision_model",
            "multi_modal_projector",
        )
        self.language_model = Decoder(config.language, storage, head, DECODER)

    def encode_image(
        self, pixels: nn.Tensor, position_ids: nn.Tensor, grid: nn.Tensor
    ) -> nn.Tensor:
        return self.vision(pixels, position_ids, grid)

    def show_pictures(self, rows: nn.Tensor, first: tirx.Var, state: State) -> State:
        return self.language_model.show(rows, first, state)

    def prefill_seeing(
        self, x: nn.Tensor, pos: tirx.Var, seen: tirx.Var, state: State
    ) -> nn.Tensor:
        return self.language_model(x, pos, state, seen=seen)

    def decode_seeing(
        self, ids: nn.Tensor, pos: tirx.Var, seen: tirx.Var, state: State
    ) -> nn.Tensor:
        return self.language_model(self.language_model.embed(ids), pos, state, seen=seen)

    def specs(self) -> dict[str, dict]:
        text = super().specs()
        pixels = spec.Tensor([3, self.config.vision.patch_size, "strip"], "float32")
        ids, grid = spec.Tensor(["n"], "int32"), spec.Tensor(["r", 2], "int32")
        rows = spec.Tensor(["r", self.config.language.hidden_size], "float32")
        state = text["prefill"]["state"]
        return {
            "encode_image": {"pixels": pixels, "position_ids": ids, "grid": grid},
            **text,
            "show_pictures": {"rows": rows, "first": int, "state": state},
            "prefill_seeing": text["prefill"] | {"seen": int},
            "decode_seeing": text["decode"] | {"seen": int},
        }

    def functions(self) -> dict[str, FunctionEntry]:
        text = super().functions()
        p, d = self.config.vision.patch_size, self.config.language.hidden_size
        pixels, ids = f"pixels (3, {p}, {p} n) float32", "position_ids (n,) int32"
        rows = f"(r, {d}) float32"
        encode = FunctionEntry((pixels, ids, "grid (r, 2) int32", "params"), rows)
        show = FunctionEntry((f"rows {rows}", "first", "state", "params"), "state")
        seeing = {f"{name}_seeing": _seeing(text[name]) for name in ("prefill", "decode")}
        return {"encode_image": encode} | text | {"show_pictures": show} | seeing

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        vision, language = self.config.vision, self.config.language
        flops = tiled_vision_flops(vision, language.hidden_size)
        seeing = tuple(f"{self.decoder_name}.layers.{n}." for n in language.cross_layers)
        text = [
            p for p in params if not p.name.startswith((f"{self.decoder_name}.still.", *seeing))
        ]
        return (
            {"encode_image": WorkEntry(flops=flops)}
            | super().work(tuple(text))
            | {"show_pictures": shown_work(language)}
        )


def _seeing(entry: FunctionEntry) -> FunctionEntry:
    first, pos, *rest = entry.arguments
    return FunctionEntry((first, pos, "seen", *rest), entry.result)


def configure(config: dict[str, Any]) -> MllamaConfig:
    """Parse the released layout. Raises InputError for an invalid or unsupported setting."""
    return parse(config, ARCHITECTURE)


def build(checkpoint: HasHead, config: MllamaConfig, storage: Storage) -> Mllama:
    is_tied = config.language.tie_word_embeddings and HEAD not in checkpoint
    return Mllama(config, storage, f"{DECODER}.embed_tokens.weight" if is_tied else HEAD)


def vision_entry(config: MllamaConfig) -> VisionEntry:
    vision = config.vision
    return VisionEntry(
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        mean=MEAN,
        std=STD,
        slicing=MethodEntry(TILED, {"max_tiles": vision.max_num_tiles}),
        positions=MethodEntry(TILED, {}),
        query_num=1,
    )


def prompt_entry(config: MllamaConfig, template: TemplateFile) -> PromptEntry:
    return llama3(
        {"picture": Around("")},
        picture=PICTURE,
        is_trimmed=TRIMMED.search(template.text) is not None,
    )


def matches(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) == ARCHITECTURE


FAMILY = Family(
    name="Llama 3.2 Vision: an encoder of tiles, Llama with cross-attention",
    matches=matches,
    configure=configure,
    build=build,
    prompt=prompt_entry,
    vision=vision_entry,
    title=lambda config: "Llama 3.2 Vision",
    renames=RENAMES,
    reference="handglass.compiler.parity.reference.mllama",
)
