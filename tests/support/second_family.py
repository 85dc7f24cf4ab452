"""An example of a second model family (docs/adding.md), with few similarities to the first.

It is a Llama without muP, with other tensor names, a prompt template with text around turns,
pictures of two tiles, and one row per four patches. Tests add it to the table by
`FAMILIES["second"] = SECOND`.
"""

from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.compiler.checkpoints.template_file import TemplateFile
from handglass.compiler.models.config import LanguageConfig, VisionConfig
from handglass.compiler.models.family import Family, HasHead
from handglass.compiler.models.language import Decoder
from handglass.compiler.models.layers import Linear, opaque
from handglass.compiler.models.leaves import Rows
from handglass.compiler.models.network import DecoderNetwork
from handglass.compiler.models.storage import Storage
from handglass.compiler.models.vision import VisionTower
from handglass.compiler.models.work import vision_flops
from handglass.runtime.bundle.entries import (
    Around,
    FunctionEntry,
    MethodEntry,
    PromptEntry,
    TensorEntry,
    VisionEntry,
    WorkEntry,
)

PREFIX, MERGED = "language_model.", 4

CONFIG: dict[str, Any] = {
    "architectures": ["SecondForConditionalGeneration"],
    "tile_size": 28,
    "text_config": {
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 337,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    },
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "image_size": 28,
        "patch_size": 7,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu_pytorch_tanh",
    },
}


@dataclass(frozen=True)
class SecondConfig:
    architecture: str
    language: LanguageConfig
    vision: VisionConfig
    tile_size: int


class SecondVL(DecoderNetwork):
    decoder_name = "language_model"

    def __init__(self, config: SecondConfig, storage: Storage, head: str) -> None:
        super().__init__(storage)
        text, d = config.language, config.vision.hidden_size
        self.config = config
        self.vision_tower = VisionTower(config.vision, storage.vision, "vision_tower")
        self.projector = Linear(storage.language, [Rows("projector.weight", (text.hidden_size, d))])
        self.language_model = Decoder(text, storage, head, f"{PREFIX}model")

    def encode_image(
        self, pixels: nn.Tensor, position_ids: nn.Tensor, grid: nn.Tensor
    ) -> nn.Tensor:
        features = self.vision_tower(pixels, position_ids)  # (n, d)
        return self.projector(opaque(mean_of_neighbours, "merge", features))

    def specs(self) -> dict[str, dict]:
        pixels = spec.Tensor([3, self.config.vision.patch_size, "strip"], "float32")
        ids, grid = spec.Tensor(["n"], "int32"), spec.Tensor(["n", 2], "int32")
        eyes = {"encode_image": {"pixels": pixels, "position_ids": ids, "grid": grid}}
        return eyes | super().specs()

    def functions(self) -> dict[str, FunctionEntry]:
        arguments = ("pixels", "position_ids", "grid", "params")
        return {"encode_image": FunctionEntry(arguments, "rows")} | super().functions()

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        n = (self.config.tile_size // self.config.vision.patch_size) ** 2
        flops = vision_flops(self.config.vision, n)
        return {"encode_image": WorkEntry(flops=flops)} | super().work(params)


def mean_of_neighbours(x: te.Tensor) -> te.Tensor:
    """The mean of four neighboring rows: (n, d) -> (n / 4, d)."""
    quarter = tirx.const(1 / MERGED, "float32")

    def value(i: Expr, j: Expr) -> Expr:
        return quarter * (
            x[MERGED * i, j] + x[MERGED * i + 1, j] + x[MERGED * i + 2, j] + x[MERGED * i + 3, j]
        )

    return te.compute((x.shape[0] // MERGED, x.shape[1]), value, name="merge")


def configure(config: dict[str, Any]) -> SecondConfig:
    return SecondConfig(
        config["architectures"][0],
        LanguageConfig(**config["text_config"]),
        VisionConfig(**config["vision_config"]),
        config["tile_size"],
    )


def build(checkpoint: HasHead, config: SecondConfig, storage: Storage) -> SecondVL:
    names = f"{PREFIX}lm_head.weight", f"{PREFIX}model.embed_tokens.weight"
    head = checkpoint.lm_head(config.language.tie_word_embeddings, *names)
    return SecondVL(config, storage, head)


def prompt(config: SecondConfig, template: TemplateFile) -> PromptEntry:
    after = "<|im_end|>\n"
    return PromptEntry(
        bos="",
        roles={
            "system": Around("<|im_start|>system\n", after),
            "user": Around("<|im_start|>user\n", after),
            "assistant": Around("<|im_start|>assistant\n", after),
        },
        tiles={
            "overview": Around("<image>", "</image>"),
            "middle": Around("<slice>", "</slice>\n"),
        },
        reserved=("<|im_start|>", "<|im_end|>", "<image>", "</image>", "<slice>", "</slice>"),
        stop=("<|im_end|>",),
        defaults={"repeat_penalty": 1.25},
    )


def vision(config: SecondConfig) -> VisionEntry:
    boxes = [
        {"role": "overview", "left": 0, "top": 0, "right": 1, "bottom": 1},
        {"role": "middle", "left": 0.25, "top": 0.25, "right": 0.75, "bottom": 0.75},
    ]
    return VisionEntry(
        image_size=config.tile_size,
        patch_size=config.vision.patch_size,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
        slicing=MethodEntry("crops", {"boxes": boxes}),
        positions=MethodEntry("bucket", {"side": config.vision.positions_per_side}),
        patches_per_row=MERGED,
    )


SECOND = Family(
    name="second",
    matches=lambda config: config["architectures"] == CONFIG["architectures"],
    configure=configure,
    build=build,
    prompt=prompt,
    vision=vision,
)
