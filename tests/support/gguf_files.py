"""GGUF files for tests, written by the `gguf` package."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from gguf.quants import quantize
from gguf_names import as_hybrid, gguf_name, hybrid_name
from vocabularies import byte_level_json, sentencepiece_model

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
INTERLEAVED = ("llama", "minicpm")
HALF = np.float16(0.01).tobytes()
SCALES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
"""Where the float16 scales of a block are, of types that the package cannot write."""


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter does it for Llama (`permute` of convert_hf_to_gguf.py)."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def stored(name: str, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Random rows of a type, as the bytes of a file."""
    kind = gguf.GGMLQuantizationType[name]
    if name not in SCALES:
        values = random.standard_normal(shape).astype(np.float32)
        return np.ascontiguousarray(quantize(values, kind)).view(np.uint8)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (shape[0], shape[1] // block, size), np.uint8)
    for at in SCALES[name]:
        blocks[..., at : at + 2] = np.frombuffer(HALF, np.uint8)
    return blocks.reshape(shape[0], -1)


def write_gguf(
    path: Path,
    architecture: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    tokenizer: bytes | None = None,
    pre: str = "llama-bpe",
    model: bytes | None = None,
    **texts: str,
) -> Path:
    """`config` and `tensors` are those of transformers; `tokenizer` is the content of a
    tokenizer.json, `model` that of a tokenizer.model; `texts`: bos, template."""
    writer = gguf.GGUFWriter(str(path), architecture)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    if "intermediate_size" in config:
        writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if tokenizer is not None:
        add_tokenizer(writer, tokenizer, pre, texts.get("bos", ""))
    if model is not None:
        add_sentencepiece(writer, model)
    if "scale_emb" in config:
        writer.add_embedding_scale(float(config["scale_emb"]))
        writer.add_residual_scale(config["scale_depth"] / config["num_hidden_layers"] ** 0.5)
        writer.add_logit_scale(config["hidden_size"] / config["dim_model_base"])
    if "template" in texts:
        writer.add_chat_template(texts["template"])
    if "num_experts" in config:
        add_expert_sizes(writer, config)
    if architecture.startswith("qwen35"):
        add_hybrid_sizes(writer, config)
        gguf_tensors = {hybrid_name(k): as_hybrid(k, v, config) for k, v in tensors.items()}
        for name, array in gguf_tensors.items():
            writer.add_tensor(name, array)
        tensors = {}
    for name, array in tensors.items():
        if (
            architecture in ("llama", "minicpm")
            and "_proj" in name
            and name.split(".")[-2][0] in "qk"
        ):
            array = interleaved(array, heads if "q_proj" in name else kv_heads)
        writer.add_tensor(name if name.startswith("rope_") else gguf_name(name), array)
    finish(writer)
    return path


def add_hybrid_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    """Of Qwen3.5."""
    values = config["linear_num_value_heads"]
    writer.add_ssm_conv_kernel(config["linear_conv_kernel_dim"])
    writer.add_ssm_state_size(config["linear_key_head_dim"])
    writer.add_ssm_group_count(config["linear_num_key_heads"])
    writer.add_ssm_time_step_rank(values)
    writer.add_ssm_inner_size(values * config["linear_value_head_dim"])
    writer.add_full_attention_interval(config.get("full_attention_interval", 4))
    factor = config["rope_parameters"]["partial_rotary_factor"]
    writer.add_rope_dimension_count(int(config["head_dim"] * factor))
    sections = config["rope_parameters"].get("mrope_section", [11, 11, 10])
    writer.add_rope_dimension_sections([*sections, 0])


def add_expert_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: bytes, pre: str, bos: str = "") -> None:
    """The content of a tokenizer.json with byte-level BPE."""
    table = json.loads(tokenizer)
    added = {token["id"]: token for token in table["added_tokens"]}
    ids = {i: token for token, i in table["model"]["vocab"].items()}
    ids |= {i: token["content"] for i, token in added.items()}
    tokens = [ids.get(i, f"[PAD{i}]") for i in range(max(ids) + 1)]
    kinds = [NORMAL if i in ids else UNUSED for i in range(len(tokens))]
    for i, token in added.items():
        kinds[i] = CONTROL if token["special"] else USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in table["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    if bos:
        writer.add_bos_token_id(tokens.index(bos))


def add_sentencepiece(writer: gguf.GGUFWriter, model: bytes, **changes: Any) -> None:
    """The content of a tokenizer.model. `changes`: tokens, scores, types, of which a single one
    is repeated; space_prefix, charsmap."""
    tokens, scores, types = map(list, zip(*pieces(model), strict=True))
    given: dict[str, Any] = {"tokens": tokens, "scores": scores, "types": types}
    given |= {"space_prefix": False} | changes
    given = {k: v * len(tokens) if isinstance(v, list) and len(v) == 1 else v
             for k, v in given.items()}  # fmt: skip
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(given["tokens"])
    writer.add_token_types(given["types"])
    if given["scores"] is not None:
        writer.add_token_scores(given["scores"])
    if isinstance(given["space_prefix"], bool):
        writer.add_add_space_prefix(given["space_prefix"])
    elif given["space_prefix"] is not None:
        writer.add_uint32("tokenizer.ggml.add_space_prefix", given["space_prefix"])
    if "charsmap" in given:
        writer.add_precompiled_charsmap(given["charsmap"])


def pieces(model: bytes) -> Iterator[tuple[str, float, int]]:
    """Text, score and type of each piece: field 1 of a tokenizer.model."""
    for number, content in fields(model):
        if number == 1 and isinstance(content, bytes):
            piece = dict(fields(content))
            yield piece[1].decode(), struct.unpack("<f", piece[2])[0], piece.get(3, NORMAL)


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and content of each field of a message of protocol buffers."""
    stream = io.BytesIO(message)
    while stream.tell() < len(message):
        number, wire_type = divmod(varint(stream), 8)
        if wire_type == 0:
            yield number, varint(stream)
        else:
            yield number, stream.read(4 if wire_type == 5 else varint(stream))


def varint(stream: BinaryIO) -> int:
    byte = stream.read(1)[0]
    return byte if byte < 128 else byte - 128 + 128 * varint(stream)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_kinds(
    path: Path,
    kinds: tuple[str, ...],
    tokenizer: bytes | None = None,
    model: bytes | None = None,
) -> Path:
    """A Llama without most of its tensors, and one matrix of each type. `tokenizer`: the content
    of a tokenizer.json; `model`: that of a tokenizer.model."""
    random = np.random.default_rng(3)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    if tokenizer is not None:
        add_tokenizer(writer, tokenizer, "gpt-2")
    if model is not None:
        add_sentencepiece(writer, model)
        writer.add_chat_template("<用户>")
    writer.add_tensor("token_embd.weight", np.ones((4, 256), np.float32))
    for kind in kinds:
        rows = stored(kind, (40, 256), random)
        writer.add_tensor(f"test.{kind}", rows, raw_dtype=gguf.GGMLQuantizationType[kind])
    finish(writer)
    return path


def small_file(path: Path) -> Path:
    return write_kinds(path, ("Q8_0", "Q6_K"), byte_level_json(("<|im_start|>", "<|im_end|>")))


def small_sentencepiece_file(path: Path) -> Path:
    return write_kinds(path, ("Q4_0",), model=sentencepiece_model())
