"""MiniCPM-V: SigLIP, the resampler and the MiniCPM decoder joined, and its compiled functions.

Which functions there are, with their arguments, is the contract of docs/architecture.md.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.runtime.bundle.entries import (
    Around,
    FunctionEntry,
    MethodEntry,
    PromptEntry,
    StateTensor,
    TensorEntry,
    VisionEntry,
    WorkEntry,
)

from .config import ModelConfig
from .family import Family, HasHead
from .language import Cache, Decoder, cache_tensors
from .resampler import Resampler
from .storage import Storage
from .vision import VisionTower
from .work import decode_work, prefill_work, resampler_flops, vision_flops

NORMALISATION = (0.5, 0.5, 0.5)
WHOLE = {"role": "picture", "left": 0, "top": 0, "right": 1, "bottom": 1}
"""The one tile of a picture: all of it."""


class MiniCPMV(nn.Module):
    """All parameters belong to this one module, so that every function takes the same tuple."""

    def __init__(self, config: ModelConfig, storage: Storage, head: str) -> None:
        super().__init__()
        self.config, self.storage = config, storage
        self.vpm = VisionTower(config.vision, storage.vision)
        self.resampler = Resampler(config.resampler, storage.language)
        self.llm = Decoder(config.language, storage.language, storage.context, head)

    def encode_vision(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        return self.vpm(pixels, position_ids)

    def resample(self, features: nn.Tensor, grid: nn.Tensor) -> nn.Tensor:
        return self.resampler(features, grid)

    def encode_image(
        self, pixels: nn.Tensor, position_ids: nn.Tensor, grid: nn.Tensor
    ) -> nn.Tensor:
        return self.resampler(self.vpm(pixels, position_ids), grid)

    def embed(self, ids: nn.Tensor) -> nn.Tensor:
        return self.llm.embed(ids)

    def prefill(self, x: nn.Tensor, pos: tirx.Var, cache: Cache) -> nn.Tensor:
        return self.llm(x, pos, cache)

    def decode(self, ids: nn.Tensor, pos: tirx.Var, cache: Cache) -> nn.Tensor:
        return self.llm(self.llm.embed(ids), pos, cache)

    def state(self) -> tuple[StateTensor, ...]:
        """Keys and values of each layer."""
        config, storage = self.config.language, self.storage
        tensors = cache_tensors(config, storage.context, storage.cache)
        return tuple(StateTensor(*tensor) for tensor in tensors)

    def functions(self) -> dict[str, FunctionEntry]:
        vision, language = self.config.vision, self.config.language
        p, d, features = vision.patch_size, language.hidden_size, vision.hidden_size
        pixels, ids = f"pixels (3, {p}, {p} n) float32", "position_ids (n,) int32"
        grid, logits = "grid (n, 2) int32", f"({language.vocab_size},) float32"
        image = f"({self.config.resampler.query_num}, {d}) float32"
        table = {
            "encode_vision": ((pixels, ids), f"(n, {features}) float32"),
            "resample": ((f"features (n, {features}) float32", grid), image),
            "encode_image": ((pixels, ids, grid), image),
            "embed": (("ids (s,) int32",), f"(s, {d}) float32"),
            "prefill": ((f"x (s, {d}) float32", "pos", "cache"), logits),
            "decode": (("ids (1,) int32", "pos", "cache"), logits),
        }
        return {
            name: FunctionEntry((*arguments, "params"), result)
            for name, (arguments, result) in table.items()
        }

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        config = self.config
        n = (config.image_size // config.vision.patch_size) ** 2
        picture = vision_flops(config.vision, n) + resampler_flops(config.resampler, n)
        tables = ("llm.rotations.", *(("llm.embed_tokens.",) if self.llm.lm_head else ()))
        return {
            "encode_image": WorkEntry(flops=picture),
            "prefill": prefill_work(config.language),
            "decode": decode_work(params, "llm.", tables),
        }

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with all functions; parameters in the order of the `params` tuple."""
        return self.export_tvm(spec=self._spec())

    def _spec(self) -> dict:
        vision, d = self.config.vision, self.config.language.hidden_size
        pixels = spec.Tensor([3, vision.patch_size, "strip"], "float32")
        ids, grid = spec.Tensor(["n"], "int32"), spec.Tensor(["n", 2], "int32")
        features = spec.Tensor(["n", vision.hidden_size], "float32")
        cache = [spec.Tensor(tensor.shape, tensor.dtype) for tensor in self.state()]
        functions = {
            "encode_vision": {"pixels": pixels, "position_ids": ids},
            "resample": {"features": features, "grid": grid},
            "encode_image": {"pixels": pixels, "position_ids": ids, "grid": grid},
            "embed": {"ids": spec.Tensor(["s"], "int32")},
            "prefill": {"x": spec.Tensor(["s", d], "float32"), "pos": int, "cache": cache},
            "decode": {"ids": spec.Tensor([1], "int32"), "pos": int, "cache": cache},
        }
        modes = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        return {name: arguments | modes for name, arguments in functions.items()}


def build(checkpoint: HasHead, config: ModelConfig, storage: Storage) -> MiniCPMV:
    return MiniCPMV(config, storage, checkpoint.lm_head(config.language.tie_word_embeddings))


def vision_entry(config: ModelConfig) -> VisionEntry:
    return VisionEntry(
        image_size=config.image_size,
        patch_size=config.vision.patch_size,
        mean=NORMALISATION,
        std=NORMALISATION,
        slicing=MethodEntry("crops", {"boxes": [WHOLE]}),
        positions=MethodEntry("bucket", {"side": config.vision.positions_per_side}),
        query_num=config.resampler.query_num,
    )


def prompt_entry(config: ModelConfig) -> PromptEntry:
    return PromptEntry(
        bos="<s>",
        roles={"user": Around("<用户>"), "assistant": Around("<AI>")},
        tiles={"picture": Around("<image>", "</image>")},
        reserved=("<s>", "<用户>", "<AI>", "<image>", "</image>", "<unk>", "</s>"),
        stop=("</s>",),
    )


SEED_FAMILY = Family(
    name="MiniCPM-V, SigLIP 1.0 on one square, resampler, MiniCPM",
    matches=lambda config: config.get("architectures") == ["MiniCPMV"],
    configure=ModelConfig.from_dict,
    build=build,
    prompt=prompt_entry,
    vision=vision_entry,
)
