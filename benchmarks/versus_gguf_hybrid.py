"""Random models in llama.cpp's file format: Qwen3.5 and the tower with mergers of MiniCPM-V 4.6."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from versus_gguf import Drawer, add_sizes, add_tensors, add_tokenizer, finish

WINDOW = 4
SECTIONS = (11, 11, 10, 0)
"""Pairs of a head that are rotated by time, row, and column."""


def write_hybrid(path: Path, shape: dict[str, Any]) -> None:
    """Write a decoder with linear attention in all layers but each fourth."""
    text = shape["text_config"]
    writer = gguf.GGUFWriter(str(path), "qwen35")
    add_sizes(writer, shape)
    writer.add_rope_freq_base(text["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(int(text["head_dim"] * text["partial_rotary_factor"]))
    writer.add_rope_dimension_sections(SECTIONS)
    writer.add_ssm_conv_kernel(text["linear_conv_kernel_dim"])
    writer.add_ssm_state_size(text["linear_key_head_dim"])
    writer.add_ssm_group_count(text["linear_num_key_heads"])
    writer.add_ssm_time_step_rank(text["linear_num_value_heads"])
    writer.add_ssm_inner_size(text["linear_num_value_heads"] * text["linear_value_head_dim"])
    writer.add_full_attention_interval(text["full_attention_interval"])
    add_tokenizer(writer, shape["vocab_size"])
    add_tensors(writer, hybrid_tensors(text))
    finish(writer)


def hybrid_tensors(text: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    draw, hidden, inter = Drawer(0), text["hidden_size"], text["intermediate_size"]
    yield "token_embd.weight", draw.q4_0(text["vocab_size"], hidden)
    yield "output_norm.weight", draw.normal(hidden, mean=1.0)
    for number in range(text["num_hidden_layers"]):
        name = f"blk.{number}"
        yield f"{name}.attn_norm.weight", draw.normal(hidden, mean=1.0)
        yield f"{name}.post_attention_norm.weight", draw.normal(hidden, mean=1.0)
        full = (number + 1) % text["full_attention_interval"] == 0
        yield from (full_attention if full else linear_attention)(name, draw, text)
        yield f"{name}.ffn_gate.weight", draw.q4_0(inter, hidden)
        yield f"{name}.ffn_up.weight", draw.q4_0(inter, hidden)
        yield f"{name}.ffn_down.weight", draw.q4_0(hidden, inter)


def full_attention(
    name: str, draw: Drawer, text: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """Queries come with a gate for every value."""
    hidden, width = text["hidden_size"], text["head_dim"]
    heads, kv = text["num_attention_heads"] * width, text["num_key_value_heads"] * width
    yield f"{name}.attn_q.weight", draw.q4_0(2 * heads, hidden)
    yield f"{name}.attn_k.weight", draw.q4_0(kv, hidden)
    yield f"{name}.attn_v.weight", draw.q4_0(kv, hidden)
    yield f"{name}.attn_output.weight", draw.q4_0(hidden, heads)
    yield f"{name}.attn_q_norm.weight", draw.normal(width, mean=1.0)
    yield f"{name}.attn_k_norm.weight", draw.normal(width, mean=1.0)


def linear_attention(
    name: str, draw: Drawer, text: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    hidden, count = text["hidden_size"], text["linear_num_value_heads"]
    keys = text["linear_num_key_heads"] * text["linear_key_head_dim"]
    values = count * text["linear_value_head_dim"]
    yield f"{name}.attn_qkv.weight", draw.q4_0(2 * keys + values, hidden)
    yield f"{name}.attn_gate.weight", draw.q4_0(values, hidden)
    yield (
        f"{name}.ssm_conv1d.weight",
        draw.normal(2 * keys + values, text["linear_conv_kernel_dim"], std=0.5),
    )
    yield f"{name}.ssm_dt.bias", draw.normal(count)
    yield f"{name}.ssm_a", draw.normal(count, mean=-1.0)
    yield f"{name}.ssm_beta.weight", draw.q4_0(count, hidden)
    yield f"{name}.ssm_alpha.weight", draw.q4_0(count, hidden)
    yield f"{name}.ssm_norm.weight", draw.normal(text["linear_value_head_dim"], mean=1.0)
    yield f"{name}.ssm_out.weight", draw.q4_0(hidden, values)


def merger_keys(writer: gguf.GGUFWriter, shape: dict[str, Any]) -> None:
    """What a tower with mergers has in place of a resampler."""
    writer.add_string("clip.projector_type", "minicpmv4_6")
    writer.add_uint32("clip.vision.projector.scale_factor", WINDOW)
    writer.add_array("clip.vision.wa_layer_indexes", [shape["insert_layer_id"]])


def merger_tensors(shape: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Attention within windows, then two MLPs on the joined rows of a window."""
    vision, draw = shape["vision_config"], Drawer(2)
    d, wide = vision["hidden_size"], WINDOW * vision["hidden_size"]
    first = "v.vit_merger"
    for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
        yield from affine(draw, f"{first}.{part}", d, d)
    yield from norm(draw, f"{first}.ln1", d)
    yield from norm(draw, f"{first}.ds_ln", wide)
    inner = WINDOW * vision["intermediate_size"]
    yield from affine(draw, f"{first}.ds_ffn_up", inner, wide)
    yield from affine(draw, f"{first}.ds_ffn_down", d, inner)
    yield from norm(draw, "mm.input_norm", wide)
    yield from affine(draw, "mm.up", wide, wide)
    yield from affine(draw, "mm.down", shape["hidden_size"], wide)


def affine(draw: Drawer, name: str, rows: int, columns: int) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name}.weight", draw.half(rows, columns)
    yield f"{name}.bias", draw.normal(rows)


def norm(draw: Drawer, name: str, width: int) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name}.weight", draw.normal(width, mean=1.0)
    yield f"{name}.bias", draw.normal(width)
