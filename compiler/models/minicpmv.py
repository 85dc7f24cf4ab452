"""MiniCPM-V: SigLIP, the resampler and the MiniCPM decoder joined, and its compiled functions.

Which functions there are, with their arguments, is the contract of docs/architecture.md.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from .config import ModelConfig
from .language import Cache, Decoder, cache_tensors
from .resampler import Resampler
from .storage import Storage
from .vision import VisionTower


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

    def cache_tensors(self) -> list[tuple[str, tuple[int, ...], str]]:
        """(name, shape, dtype) of each cache tensor."""
        return cache_tensors(self.config.language, self.storage.context, self.storage.cache)

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with all functions; parameters in the order of the `params` tuple."""
        return self.export_tvm(spec=self._spec())

    def _spec(self) -> dict:
        vision, d = self.config.vision, self.config.language.hidden_size
        pixels = spec.Tensor([3, vision.patch_size, "strip"], "float32")
        ids, grid = spec.Tensor(["n"], "int32"), spec.Tensor(["n", 2], "int32")
        features = spec.Tensor(["n", vision.hidden_size], "float32")
        cache = [spec.Tensor(shape, dtype) for _, shape, dtype in self.cache_tensors()]
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
