"""Tiny checkpoints in the layout of MiniCPM-V 1.0 and 2.0, and their answers in plain torch.

Names and shapes are listed here as the released files have them, and prompts are made of token ids.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
import torch_minicpmv as plain
import torch_timm
from random_checkpoint import tokenizer_model
from release_configs import STATED_1_0
from safetensors.torch import save_file

VISION = {
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,  # of which the file has two
    "num_attention_heads": 4,
    "image_size": 98,
    "patch_size": 14,
}
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 176,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 32,
    "tie_word_embeddings": False,
}
QUERIES = 9
ADDED = {"<slice>": "<reserved_3>", "</slice>": "<reserved_4>"}
"""Spare pieces, to which tokenizer_config.json of 2.0 gives names."""
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Early:
    """A checkpoint folder and its reference."""

    folder: Path
    version: str
    config: dict[str, Any]
    weights: plain.Weights

    def prompt(self, question: str, pictures: Sequence[Sequence[str]]) -> list[int]:
        """The tokens of one turn; `pictures` are the roles of each picture's tiles."""
        model = sentencepiece.SentencePieceProcessor(str(self.folder / "tokenizer.model"))
        one = model.piece_to_id
        ids = [model.bos_id(), one("<用户>")]
        for roles in pictures:
            ids += [*self._block(one, roles), one("\n")]
        return [*ids, *model.encode(question), one("<AI>")]

    def _block(self, one: Any, roles: Sequence[str]) -> list[int]:
        tile = [one("<image>"), *[0] * QUERIES, one("</image>")]
        if len(roles) == 1:
            return tile
        slices = [i for r in roles[1:] for i in (*tile, *[one("\n")] * (r == "row_end"))]
        return [*tile, one(ADDED["<slice>"]), *slices, one(ADDED["</slice>"])]

    def tile_rows(self, tile: Any) -> torch.Tensor:
        """Expected encode_image of a tile."""
        vpm, bridge = (plain.part(self.weights, p) for p in ("vpm.", "resampler."))
        grid = tile.height, tile.width
        features = torch_timm.encode_vision(vpm, torch.from_numpy(tile.strip), *grid, 2, 4)
        enlarged = self.version == "1.0"
        return torch_timm.resample_with_positions(bridge, features, *grid, 1, enlarged)

    def logits(self, ids: list[int], rows: Sequence[torch.Tensor], after: int) -> np.ndarray:
        """Logits from position `after` - 1 on; `rows` replace the unknown tokens of the prompt."""
        llm = plain.part(self.weights, "llm.")
        shown = plain.splice(plain.embed(llm, self.config, ids[:after]), ids[:after], list(rows))
        x = torch.cat([shown, plain.embed(llm, self.config, ids[after:])])
        return plain.logits(llm, self.config, x)[after - 1 :].numpy()


def write_early(folder: Path, version: str) -> Early:
    """Write a checkpoint with random weights."""
    folder.mkdir(parents=True)
    weights = dict(_draw(np.random.default_rng(len(version))))
    save_file(weights, folder / "model.safetensors")
    (folder / "tokenizer.model").write_bytes(tokenizer_model(TEXT["vocab_size"]))
    config: dict[str, Any] = TEXT | {
        "architectures": ["MiniCPMV"],
        "model_type": "minicpmv",
        "version": version,
        "vision_encoder": "vit_so400m_patch14_siglip_384.webli",
        "vision_config": VISION,
        "query_num": QUERIES,
        "image_size": 448,
        "drop_vision_last_layer": True,
        "mm_use_im_start_end": True,
    }
    if version == "1.0":
        config |= STATED_1_0
    else:
        more = {"patch_size": 14, "max_slice_nums": 9, "scale_resolution": 448, "slice_mode": True}
        config |= more
        (folder / "tokenizer_config.json").write_text(json.dumps(_added(folder)))
    (folder / "config.json").write_text(json.dumps(config))
    return Early(folder, version, config, weights)


def _added(folder: Path) -> dict[str, Any]:
    model = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    tokens = {model.piece_to_id(spare): name for name, spare in ADDED.items()}
    tokens |= {0: "<unk>", model.piece_to_id("<image>"): "<image>"}
    return {
        "tokenizer_class": "MiniCPMVTokenizer",
        "added_tokens_decoder": {
            str(id_): {"content": name, "special": True} for id_, name in tokens.items()
        },
    }


def _draw(random: np.random.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights of a size that keeps rows alive; norms around one."""
    for name, shape in (*_vision(), *_resampler(), *_language()):
        values = random.standard_normal(shape).astype(np.float32)
        is_norm = name.endswith("weight") and ("norm" in name or "ln_" in name)
        scale = 0.3 if len(shape) == 1 or "embed" in name else 1.2 / math.prod(shape[1:]) ** 0.5
        yield name, torch.from_numpy(1 + 0.2 * values if is_norm else np.float32(scale) * values)


def _linear(name: str, rows: int, cols: int) -> Shapes:
    yield f"{name}.weight", (rows, cols)
    yield f"{name}.bias", (rows,)


def _norm(name: str, size: int) -> Shapes:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def _vision() -> Shapes:
    d, f, side = VISION["hidden_size"], VISION["intermediate_size"], VISION["image_size"] // 14
    yield "vpm.pos_embed", (1, side * side, d)
    yield "vpm.patch_embed.proj.weight", (d, 3, 14, 14)
    yield "vpm.patch_embed.proj.bias", (d,)
    for number in range(2):
        block = f"vpm.blocks.{number}"
        yield from _norm(f"{block}.norm1", d)
        yield from _linear(f"{block}.attn.qkv", 3 * d, d)
        yield from _linear(f"{block}.attn.proj", d, d)
        yield from _norm(f"{block}.norm2", d)
        yield from _linear(f"{block}.mlp.fc1", f, d)
        yield from _linear(f"{block}.mlp.fc2", d, f)
    yield from _norm("vpm.norm", d)


def _resampler() -> Shapes:
    d = TEXT["hidden_size"]
    yield "resampler.query", (QUERIES, d)
    yield "resampler.pos_embed", (QUERIES, d)
    yield "resampler.proj", (d, d)
    yield "resampler.kv_proj.weight", (d, VISION["hidden_size"])
    yield "resampler.attn.in_proj_weight", (3 * d, d)
    yield "resampler.attn.in_proj_bias", (3 * d,)
    yield from _linear("resampler.attn.out_proj", d, d)
    for part in ("q", "kv", "post"):
        yield from _norm(f"resampler.ln_{part}", d)


def _language() -> Shapes:
    d, f, rows = TEXT["hidden_size"], TEXT["intermediate_size"], TEXT["vocab_size"]
    yield "llm.model.embed_tokens.weight", (rows, d)
    for number in range(TEXT["num_hidden_layers"]):
        layer = f"llm.model.layers.{number}"
        for part in ("input", "post_attention"):
            yield f"{layer}.{part}_layernorm.weight", (d,)
        for part in "qkvo":
            yield f"{layer}.self_attn.{part}_proj.weight", (d, d)
        for part in ("gate", "up"):
            yield f"{layer}.mlp.{part}_proj.weight", (f, d)
        yield f"{layer}.mlp.down_proj.weight", (d, f)
    yield "llm.model.norm.weight", (d,)
    yield "llm.lm_head.weight", (rows, d)
