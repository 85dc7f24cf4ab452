"""What llama.cpp's converters make of the tensors of transformers: other names, and of those of
Qwen3.5 other values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
HYBRID = NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
}
"""Of Qwen3.5."""
MIXTURE = {
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    **{f"mlp.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
    **{f"mlp.experts.{part}_proj": f"ffn_{part}_exps" for part in ("gate", "up", "down")},
    "mlp.experts.gate_up_proj": "ffn_gate_up_exps",
}
"""Of Qwen3.5 with experts, in addition."""


def gguf_name(name: str) -> str:
    """The name in a GGUF file of a tensor of transformers."""
    stem, _, end = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, stem = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[stem]}.{end}"
    return f"{NAMES[stem]}.{end}"


def hybrid_name(name: str) -> str:
    """The same of Qwen3.5."""
    if not name.startswith("model.layers."):
        return gguf_name(name)
    _, _, layer, rest = name.split(".", 3)
    stem, _, end = rest.rpartition(".")
    kept = {"linear_attn.A_log": "ssm_a", "linear_attn.dt_bias": "ssm_dt.bias"}
    return f"blk.{layer}.{kept.get(rest) or f'{(HYBRID | MIXTURE)[stem]}.{end}'}"


def stacked(tensors: Mapping[str, np.ndarray], is_fused: bool = False) -> dict[str, np.ndarray]:
    """The matrices of experts one behind the other; `is_fused`: gate and up as one matrix."""
    found = {k: v for k, v in tensors.items() if ".experts." not in k}
    experts: dict[str, dict[int, np.ndarray]] = {}
    for name in tensors.keys() - found.keys():
        stem, _, rest = name.partition(".experts.")
        number, _, part = rest.partition(".")
        experts.setdefault(f"{stem}.experts.{part}", {})[int(number)] = tensors[name]
    for name, matrices in experts.items():
        found[name] = np.stack([matrices[number] for number in range(len(matrices))])
    for name in [k for k in experts if is_fused and k.endswith("gate_proj.weight")]:
        both = [found.pop(name), found.pop(name.replace("gate_proj", "up_proj"))]
        found[name.replace("gate_proj", "gate_up_proj")] = np.concatenate(both, 1)
    return found


def as_hybrid(name: str, array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    """As llama.cpp's converter changes a tensor of Qwen3.5 (`modify_tensors` of the classes for
    Qwen3-Next and Qwen3.5)."""
    if name.endswith("norm.weight") and "linear_attn" not in name:
        return array + np.float32(1)
    part = name.partition("linear_attn.")[2].removesuffix(".weight")
    keys, width = config["linear_num_key_heads"], config["linear_value_head_dim"]
    mixed = 2 * keys * config["linear_key_head_dim"]
    if part == "conv1d":
        array = array[:, 0]
    if part in ("conv1d", "in_proj_qkv"):
        return np.concatenate([array[:mixed], in_turn(array[mixed:], keys, width)])
    if part == "in_proj_z":
        return in_turn(array, keys, width)
    if part == "out_proj":
        return np.ascontiguousarray(in_turn(array.T, keys, width).T)
    if part in ("in_proj_a", "in_proj_b", "dt_bias", "A_log"):
        array = in_turn(array, keys, 1)
    return -np.exp(array) if part == "A_log" else array


def in_turn(rows: np.ndarray, keys: int, width: int) -> np.ndarray:
    """One value head of every key head after the other."""
    grouped = rows.reshape(keys, -1, width, *rows.shape[1:])
    return grouped.swapaxes(0, 1).reshape(rows.shape)
