"""Writes a checkpoint of random weights in the released layout, of any size, with little memory.

    python benchmarks/random_checkpoint.py FOLDER          the full shape, 1.79 B parameters

Weights are scaled so that activations stay near 1, as in a trained model: linear layers by
1/sqrt(fan in), norms around 1. The same seed gives the same weights in every storage type, up to
rounding. The tokenizer is a SentencePiece model, trained on a few lines and padded with reserved
pieces.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from handglass.compiler.models.config import LanguageConfig, ResamplerConfig, VisionConfig
from handglass.compiler.models.model_config import ModelConfig
from handglass.compiler.models.seed import SEED_JSON
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.tensors import storage_dtype

SHARD_BYTES = 500_000_000
CHUNK = 1 << 22  # elements drawn at a time

# 256 byte pieces, the special ones, and the letters and merges of the lines below.
TOKENIZER_PIECES = 400
LINES = (
    "What is this picture?",
    "Is there a red circle? Yes. No.",
    "Which picture has more shapes? Picture 2.",
    "The quick brown fox jumps over the lazy dog, 0 1 2 3 4 5 6 7 8 9.",
    "这张图里有什么？",
    "左边有一个红色的圆。",
)
SPECIAL_PIECES = ("<用户>", "<AI>", "<image>", "</image>", "\n")


class Draw(NamedTuple):
    """A tensor to draw from a normal distribution."""

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float


def write_checkpoint(
    folder: str | Path,
    config: dict[str, Any],
    dtype: str = "bfloat16",
    shard_bytes: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write config.json, tokenizer.model and the weights, with `shard_bytes` in indexed shards."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = ModelConfig.from_dict(config)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, "utf-8")
    (folder / "tokenizer.model").write_bytes(tokenizer_model(model.language.vocab_size))
    write_tensors(folder, list(tensors(model)), dtype, shard_bytes, seed, progress)
    return folder


def write_tensors(
    folder: Path,
    draws: list[Draw],
    dtype: str,
    shard_bytes: int | None,
    seed: int,
    progress: Callable[[str], None],
) -> None:
    """Write the weights alone."""
    shards = _split(draws, dtype, shard_bytes)
    names = _shard_names(len(shards), shard_bytes is not None)
    normal = _Normal(dtype, seed)
    for number, (name, shard) in enumerate(zip(names, shards, strict=True), 1):
        _write_shard(folder / name, shard, normal)
        progress(f"shard {number} of {len(shards)}: {name}")
    if shard_bytes is not None:
        _write_index(folder, names, shards, dtype)


def tensors(model: ModelConfig) -> Iterator[Draw]:
    """All tensors of the released layout, in the order of computation."""
    yield from _vision(model.vision)
    yield from _resampler(model.resampler)
    yield from _language(model.language)


def _linear(name: str, rows: int, cols: int) -> Iterator[Draw]:
    yield Draw(f"{name}.weight", (rows, cols), 0.0, cols**-0.5)
    yield Draw(f"{name}.bias", (rows,), 0.0, 0.1)


def _norm(name: str, size: int) -> Iterator[Draw]:
    yield Draw(f"{name}.weight", (size,), 1.0, 0.1)
    yield Draw(f"{name}.bias", (size,), 0.0, 0.1)


def _vision(vision: VisionConfig) -> Iterator[Draw]:
    hidden, inter, patch = vision.hidden_size, vision.intermediate_size, vision.patch_size
    kernel = (hidden, 3, patch, patch)
    yield Draw("vpm.embeddings.patch_embedding.weight", kernel, 0.0, (3 * patch * patch) ** -0.5)
    yield Draw("vpm.embeddings.patch_embedding.bias", (hidden,), 0.0, 0.1)
    table = (vision.positions_per_side**2, hidden)
    yield Draw("vpm.embeddings.position_embedding.weight", table, 0.0, 0.5)
    for number in range(vision.num_hidden_layers):
        layer = f"vpm.encoder.layers.{number}"
        yield from _norm(f"{layer}.layer_norm1", hidden)
        for part in ("q", "k", "v", "out"):
            yield from _linear(f"{layer}.self_attn.{part}_proj", hidden, hidden)
        yield from _norm(f"{layer}.layer_norm2", hidden)
        yield from _linear(f"{layer}.mlp.fc1", inter, hidden)
        yield from _linear(f"{layer}.mlp.fc2", hidden, inter)
    yield from _norm("vpm.post_layernorm", hidden)


def _resampler(resampler: ResamplerConfig) -> Iterator[Draw]:
    size = resampler.hidden_size
    kv_proj = (size, resampler.vision_hidden_size)
    yield Draw("resampler.query", (resampler.query_num, size), 0.0, 1.0)
    yield Draw("resampler.kv_proj.weight", kv_proj, 0.0, resampler.vision_hidden_size**-0.5)
    yield Draw("resampler.attn.in_proj_weight", (3 * size, size), 0.0, size**-0.5)
    yield Draw("resampler.attn.in_proj_bias", (3 * size,), 0.0, 0.1)
    yield from _linear("resampler.attn.out_proj", size, size)
    for part in ("q", "kv", "post"):
        yield from _norm(f"resampler.ln_{part}", size)
    yield Draw("resampler.proj", (size, size), 0.0, size**-0.5)


def _language(language: LanguageConfig) -> Iterator[Draw]:
    hidden, inter = language.hidden_size, language.intermediate_size
    q_rows = language.num_attention_heads * language.head_dim
    kv_rows = language.num_key_value_heads * language.head_dim
    table = (language.vocab_size, hidden)
    yield Draw("llm.model.embed_tokens.weight", table, 0.0, 1 / language.scale_emb)
    for number in range(language.num_hidden_layers):
        layer = f"llm.model.layers.{number}"
        yield Draw(f"{layer}.input_layernorm.weight", (hidden,), 1.0, 0.1)
        for part, rows in (("q", q_rows), ("k", kv_rows), ("v", kv_rows)):
            weight = f"{layer}.self_attn.{part}_proj.weight"
            yield Draw(weight, (rows, hidden), 0.0, hidden**-0.5)
        yield Draw(f"{layer}.self_attn.o_proj.weight", (hidden, q_rows), 0.0, q_rows**-0.5)
        yield Draw(f"{layer}.post_attention_layernorm.weight", (hidden,), 1.0, 0.1)
        for part in ("gate", "up"):
            yield Draw(f"{layer}.mlp.{part}_proj.weight", (inter, hidden), 0.0, hidden**-0.5)
        yield Draw(f"{layer}.mlp.down_proj.weight", (hidden, inter), 0.0, inter**-0.5)
    # With a tied head the input token scores highest, and a random model would repeat one token
    # forever. Flipping signs in between prevents this.
    mean, std = (0.0, 1.0) if language.tie_word_embeddings else (1.0, 0.1)
    yield Draw("llm.model.norm.weight", (hidden,), mean, std)
    if not language.tie_word_embeddings:
        yield Draw("llm.lm_head.weight", table, 0.0, 1 / language.scale_emb)


class _Normal:
    """Draws normal numbers by looking up a random uint16 in a table of 65536 quantiles.

    Rounding to the storage type happens once per table entry instead of once per weight, so a
    full-size checkpoint takes seconds.
    """

    def __init__(self, dtype: str, seed: int) -> None:
        self.dtype = dtype
        self._random = np.random.Generator(np.random.SFC64(seed))
        inv_cdf = NormalDist().inv_cdf
        self._quantiles = np.array([inv_cdf((i + 0.5) / 65536) for i in range(65536)], np.float32)

    def draw(self, what: Draw) -> np.ndarray:
        table = narrow(what.mean + what.std * self._quantiles, self.dtype)
        values = np.empty(what.shape, table.dtype)
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK]
            index = np.frombuffer(self._random.bytes(2 * part.size), np.uint16)
            np.take(table, index, out=part)
        return values


def narrow(values: np.ndarray, dtype: str) -> np.ndarray:
    """Convert float32 to a storage type; bfloat16 as bit patterns, rounded to nearest even."""
    values = values.astype(np.float32)
    if dtype != "bfloat16":
        return values.astype(storage_dtype(dtype))
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _split(draws: list[Draw], dtype: str, shard_bytes: int | None) -> list[list[Draw]]:
    """Split the tensors, in order, into shards as full as the limit allows."""
    itemsize = storage_dtype(dtype).itemsize
    shards: list[list[Draw]] = [[]]
    used = 0
    for draw in draws:
        nbytes = int(np.prod(draw.shape)) * itemsize
        if shard_bytes is not None and shards[-1] and used + nbytes > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(draw)
        used += nbytes
    return shards


def _shard_names(count: int, indexed: bool) -> list[str]:
    if not indexed:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _write_shard(path: Path, draws: list[Draw], normal: _Normal) -> None:
    with TensorWriter(path, [(draw.name, draw.shape, normal.dtype) for draw in draws]) as file:
        for draw in draws:
            file.write(draw.name, normal.draw(draw))


def _write_index(folder: Path, names: list[str], shards: list[list[Draw]], dtype: str) -> None:
    elements = sum(int(np.prod(draw.shape)) for shard in shards for draw in shard)
    index = {
        "metadata": {"total_size": elements * storage_dtype(dtype).itemsize},
        "weight_map": {
            draw.name: name for name, shard in zip(names, shards, strict=True) for draw in shard
        },
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), "utf-8")


def tokenizer_model(vocab_size: int) -> bytes:
    """SentencePiece trained on a few lines and padded with reserved pieces to `vocab_size`."""
    import sentencepiece

    if vocab_size < TOKENIZER_PIECES:
        raise ValueError(f"vocab_size {vocab_size}: at least {TOKENIZER_PIECES} pieces are needed")
    reserved = (f"<reserved_{i}>" for i in range(vocab_size - TOKENIZER_PIECES))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        user_defined_symbols=[*SPECIAL_PIECES, *reserved],
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a random checkpoint of the full shape.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begin = time.monotonic()

    def show(line: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {line}", flush=True)

    write_checkpoint(
        arguments.folder, SEED_JSON, arguments.dtype, SHARD_BYTES, arguments.seed, show
    )


if __name__ == "__main__":
    main()
