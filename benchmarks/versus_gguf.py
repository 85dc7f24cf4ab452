"""Writes random models in llama.cpp's file format, of the shape given by a config.json.

The decoder is Q4_0 throughout, including the tied head: 4.5 bits per weight, like our 4-bit
schemes. The stored blocks are drawn directly. The vision tower is in float16 or bfloat16, or in
Q8_0 but for the products with 4304 inputs, which are no multiple of the 32 of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Q4_0_GROUP, Q4_0_BYTES = 32, 18
Q8_0_GROUP, Q8_0_BYTES = 32, 34
SPECIAL = ("<unk>", "<s>", "</s>", "<image>", "</image>", "<slice>", "</slice>")
RESAMPLERS = {"2.5": 2, "2.6": 3, "4.0": 5, "4.5": 6}
"""llama.cpp's number of a release; that of others is the one of 2.5."""
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # token types


class Drawer:
    """Draws all weights from one random stream, so that layers differ."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def normal(self, *shape: int, mean: float = 0.0, std: float = 0.02) -> np.ndarray:
        return self._random.normal(mean, std, shape).astype(np.float32)

    def q8_0(self, rows: int, columns: int) -> np.ndarray:
        """Blocks of a float16 scale and 32 signed bytes."""
        blocks = np.empty((rows, columns // Q8_0_GROUP, Q8_0_BYTES), np.uint8)
        scale = np.float16(columns**-0.5 / 73)  # the standard deviation of the bytes
        blocks[..., :2] = np.frombuffer(scale.tobytes(), np.uint8)
        blocks[..., 2:] = self._random.integers(0, 256, (*blocks.shape[:2], 32), np.uint8)
        return blocks.reshape(rows, -1)

    def half(self, rows: int, columns: int) -> np.ndarray:
        drawn = self._random.standard_normal((rows, columns), np.float32) * columns**-0.5
        return drawn.astype(np.float16)

    def q4_0(self, rows: int, columns: int) -> np.ndarray:
        """Blocks of a float16 scale and 32 nibbles, (q - 8) * scale."""
        groups = columns // Q4_0_GROUP
        blocks = np.empty((rows, groups, Q4_0_BYTES), np.uint8)
        scale = np.float16(columns**-0.5 / 4.6)  # the standard deviation of nibbles is 4.6
        blocks[..., :2] = np.frombuffer(scale.tobytes(), np.uint8)
        blocks[..., 2:] = self._random.integers(0, 256, (rows, groups, 16), np.uint8)
        return blocks.reshape(rows, groups * Q4_0_BYTES)


def write_decoder(path: Path, config: dict[str, Any]) -> None:
    """`config`: of versus_shape.py."""
    writer = gguf.GGUFWriter(str(path), "minicpm")
    add_sizes(writer, config)
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_embedding_scale(config["scale_emb"])
    writer.add_residual_scale(config["residual_scale"])
    writer.add_logit_scale(config["logit_scale"])
    add_tokenizer(writer, config["vocab_size"])
    add_tensors(writer, decoder_tensors(config))
    finish(writer)


def add_sizes(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """What decoders of any architecture have."""
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)


def add_tensors(writer: gguf.GGUFWriter, tensors: Iterator[tuple[str, np.ndarray]]) -> None:
    """Add float32 arrays, and bytes as Q4_0."""
    for name, array in tensors:
        kind = gguf.GGMLQuantizationType.Q4_0 if array.dtype == np.uint8 else None
        writer.add_tensor(name, array, raw_dtype=kind)


def decoder_tensors(config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    draw, hidden, inter = Drawer(0), config["hidden_size"], config["intermediate_size"]
    kv = config["head_dim"] * config["num_key_value_heads"]
    heads = config["head_dim"] * config["num_attention_heads"]
    yield "token_embd.weight", draw.q4_0(config["vocab_size"], hidden)
    yield "output_norm.weight", draw.normal(hidden, mean=1.0)
    for number in range(config["num_hidden_layers"]):
        name = f"blk.{number}"
        yield f"{name}.attn_norm.weight", draw.normal(hidden, mean=1.0)
        yield f"{name}.attn_q.weight", draw.q4_0(heads, hidden)
        yield f"{name}.attn_k.weight", draw.q4_0(kv, hidden)
        yield f"{name}.attn_v.weight", draw.q4_0(kv, hidden)
        yield f"{name}.attn_output.weight", draw.q4_0(hidden, heads)
        yield f"{name}.ffn_norm.weight", draw.normal(hidden, mean=1.0)
        yield f"{name}.ffn_gate.weight", draw.q4_0(inter, hidden)
        yield f"{name}.ffn_up.weight", draw.q4_0(inter, hidden)
        yield f"{name}.ffn_down.weight", draw.q4_0(hidden, inter)


def add_tokenizer(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    """Add a minimal valid tokenizer; only the picture marker is tokenized."""
    tokens = [*SPECIAL, "\n", "▁"]
    kinds = [UNKNOWN, *[CONTROL] * (len(SPECIAL) - 1), NORMAL, NORMAL]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    kinds += [BYTE] * 256
    while len(tokens) < vocab_size:
        tokens.append(f"t{len(tokens)}")
        kinds.append(NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * vocab_size)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def write_vision(
    path: Path,
    config: dict[str, Any],
    kind: str,
    add_keys: Callable[[gguf.GGUFWriter, dict[str, Any]], None],
    bridge: Iterable[tuple[str, np.ndarray]],
) -> None:
    """Write the tower, and after it the `bridge` to the decoder with its own keys.

    Args:
        kind: of the matrices: f16, bf16 or q8_0.
    """
    vision = config["vision_config"]
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    add_keys(writer, config)
    writer.add_uint32("clip.vision.image_size", config["image_size"])
    writer.add_uint32("clip.vision.patch_size", config["patch_size"])
    writer.add_uint32("clip.vision.embedding_length", vision["hidden_size"])
    writer.add_uint32("clip.vision.feed_forward_length", vision["intermediate_size"])
    writer.add_uint32("clip.vision.projection_dim", config["hidden_size"])
    writer.add_uint32("clip.vision.block_count", vision["num_hidden_layers"])
    writer.add_uint32("clip.vision.attention.head_count", vision["num_attention_heads"])
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", vision["layer_norm_eps"])
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_bool("clip.use_gelu", True)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, array in (*tower_tensors(config), *bridge):
        matrix = array.ndim == 2 and array.dtype == np.float16
        add_matrix(writer, name, array, kind) if matrix else writer.add_tensor(name, array)
    finish(writer)


def add_matrix(writer: gguf.GGUFWriter, name: str, array: np.ndarray, kind: str) -> None:
    """Add a float16 matrix as `kind`, where a row has whole blocks."""
    if kind == "bf16":
        bits = (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        writer.add_tensor(name, bits.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    elif kind == "q8_0" and array.shape[1] % Q8_0_GROUP == 0:
        blocks = Drawer(3).q8_0(*array.shape)
        writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    else:
        writer.add_tensor(name, array)


def resampler_keys(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_string("clip.projector_type", "resampler")
    writer.add_int32("clip.minicpmv_version", RESAMPLERS.get(config["version"], 2))
    writer.add_uint32("clip.minicpmv_query_num", config["query_num"])


def tower_tensors(config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    vision, draw = config["vision_config"], Drawer(1)
    d, f, p = vision["hidden_size"], vision["intermediate_size"], config["patch_size"]
    yield "v.patch_embd.weight", draw.half(d, 3 * p * p).reshape(d, 3, p, p)
    yield "v.patch_embd.bias", draw.normal(d)
    side = vision["image_size"] // p
    yield "v.position_embd.weight", draw.normal(side * side, d)
    for number in range(vision["num_hidden_layers"]):
        name = f"v.blk.{number}"
        for part, rows, columns in (
            ("attn_q", d, d),
            ("attn_k", d, d),
            ("attn_v", d, d),
            ("attn_out", d, d),
            ("ffn_up", f, d),
            ("ffn_down", d, f),
        ):
            yield f"{name}.{part}.weight", draw.half(rows, columns)
            yield f"{name}.{part}.bias", draw.normal(rows)
        for norm in ("ln1", "ln2"):
            yield f"{name}.{norm}.weight", draw.normal(d, mean=1.0)
            yield f"{name}.{norm}.bias", draw.normal(d)
    yield "v.post_ln.weight", draw.normal(d, mean=1.0)
    yield "v.post_ln.bias", draw.normal(d)


def resampler_tensors(config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    D, d, draw = config["hidden_size"], config["vision_config"]["hidden_size"], Drawer(2)
    yield "resampler.query", draw.normal(config["query_num"], D, std=1.0)
    yield "resampler.pos_embed_k", draw.normal(4, D)  # required, but unused
    yield "resampler.proj.weight", draw.half(D, D)
    yield "resampler.kv.weight", draw.half(D, d)
    for part in ("q", "k", "v", "out"):
        yield f"resampler.attn.{part}.weight", draw.half(D, D)
        yield f"resampler.attn.{part}.bias", draw.normal(D)
    for part in ("q", "kv", "post"):
        yield f"resampler.ln_{part}.weight", draw.normal(D, mean=1.0)
        yield f"resampler.ln_{part}.bias", draw.normal(D)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
