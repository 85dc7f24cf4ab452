"""The metadata of a GGUF file as the config.json of the original checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np

from handglass.errors import InputError

from .gguf_experts import KNOWN_EXPERTS, QWEN35MOE, mixture_config
from .gguf_header import Header
from .gguf_qwen35 import KNOWN, QWEN35, ROTATED, TIME_SLOT, hybrid_config
from .gguf_tensors import ROPE_FREQS, ROPE_LONG, ROPE_SHORT, as_floats, dequantizer

MINICPM = "minicpm"
ARCHITECTURES = {
    MINICPM: "MiniCPMForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    QWEN35: "Qwen3_5ForCausalLM",
    QWEN35MOE: "Qwen3_5MoeForCausalLM",
}
HYBRIDS = (QWEN35, QWEN35MOE)
SIZES = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
}
"""Key without the architecture -> key of config.json."""
VISION = "clip"
"""Of a vision tower (gguf_clip.py)."""
CHECKED = ("vocab_size", "attention.value_length", ROTATED)
ROPE_SCALING = "rope.scaling."
MOST_ITEMS = 4096
SMALLEST = 1e-6
"""Of a scale; the largest is its inverse."""
MUP = ("embedding_scale", "residual_scale", "logit_scale")
"""The muP scales of MiniCPM: factors of embeddings and branches, a divisor before the head."""
ONLY = {MINICPM: MUP, QWEN35: KNOWN, QWEN35MOE: (*KNOWN, *KNOWN_EXPERTS)}
"""The keys that one architecture has in addition."""
INTERLEAVED = ("llama", MINICPM)
"""The architectures whose query and key rows are interleaved."""


def config_of(header: Header) -> dict[str, Any]:
    """Raises InputError for another architecture, and for keys that change the arithmetic in a way
    that is not supported."""
    architecture = architecture_of(header)
    prefix = f"{architecture}."
    keys = {
        key.removeprefix(prefix): plain(value)
        for key, value in header.metadata.items()
        if key.startswith(prefix)
    }
    config: dict[str, Any] = {"architectures": [ARCHITECTURES[architecture]]}
    config |= {theirs: keys[ours] for ours, theirs in SIZES.items() if ours in keys}
    config |= {"vocab_size": _vocab_size(header), "hidden_act": "silu"}
    config["tie_word_embeddings"] = "output.weight" not in header.places
    config |= _tokens(header)
    if architecture == MINICPM:
        config |= _mup(header, keys, config)
    if architecture in HYBRIDS:
        config |= hybrid_config(header.path, architecture, keys, config)
    if architecture == QWEN35MOE:
        config = mixture_config(header.path, keys, config)
    if scaling := _rope(header, keys, config):
        config["rope_scaling"] = scaling
    _check(header, keys, config)
    return config


def architecture_of(header: Header) -> str:
    name = header.metadata.get("general.architecture")
    if isinstance(name, str) and name == VISION:
        raise InputError(
            f"{header.path}: general.architecture is {VISION!r}: the file of a vision tower; pass "
            "it with --mmproj beside the file of its language model"
        )
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise InputError(
            f"{header.path}: general.architecture is {name!r:.100}, which is not supported; "
            f"known: {', '.join(ARCHITECTURES)}"
        )
    if whole(header, "split.count") not in (None, 0, 1):
        raise InputError(f"{header.path}: one part of several; join them with llama-gguf-split")
    return name


def interleaved_heads(header: Header, config: Mapping[str, Any]) -> dict[str, int]:
    """The heads of "q" and "k" whose rows are interleaved; empty if they are not."""
    if architecture_of(header) not in INTERLEAVED:
        return {}
    heads = config.get("num_attention_heads")
    both = {"q": heads, "k": config.get("num_key_value_heads", heads)}
    # config.json is checked later, by the model family: values of another type are refused there.
    return {name: n for name, n in both.items() if type(n) is int and n > 0}


def plain(value: Any) -> Any:
    """A number as in config.json: the shortest decimal number with the same float32. Of an array,
    which may have millions of items, the first MOST_ITEMS: no model accepts as many."""
    if isinstance(value, np.ndarray):
        return value[:MOST_ITEMS].tolist()
    with np.errstate(all="ignore"):  # infinity is refused by the model family
        return float(str(np.float32(value))) if isinstance(value, float) else value


def whole(header: Header, key: str) -> int | None:
    value = header.metadata.get(key)
    if value is not None and type(value) is not int:
        raise InputError(f"{header.path}: {key} is {value!r:.100}, which is not a whole number")
    return value


def _vocab_size(header: Header) -> int:
    place = header.places.get("token_embd.weight")
    if place is None:
        raise InputError(f"{header.path}: the tensor token_embd.weight is missing")
    return place.shape[0]


def _tokens(header: Header) -> dict[str, Any]:
    bos, *stops = (
        whole(header, f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot")
    )
    given = (stop for stop in stops if stop is not None)
    found: dict[str, Any] = {"eos_token_id": list(dict.fromkeys(given))}
    return found if bos is None else found | {"bos_token_id": bos}


def _mup(header: Header, keys: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The scales as config.json has them: before they are combined with sizes."""
    for key in MUP:
        value = keys.get(key)
        if not isinstance(value, float) or not SMALLEST <= value <= 1 / SMALLEST:
            raise InputError(f"{header.path}: {MINICPM}.{key} is {value!r:.100}, not a scale")
    hidden, layers = config.get("hidden_size"), config.get("num_hidden_layers")
    if type(hidden) is not int or type(layers) is not int or layers < 1:
        return {}  # refused by the model family
    embedding, residual, logit = (keys[key] for key in MUP)
    return {
        "scale_emb": embedding,
        "scale_depth": residual * sqrt(layers),
        "dim_model_base": hidden / logit,
    }


def _rope(header: Header, keys: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    kind = keys.get(f"{ROPE_SCALING}type", "none")
    for tensors, scaling, read in (
        ((ROPE_SHORT, ROPE_LONG), "longrope", lambda: _longrope(header, keys, config)),
        ((ROPE_FREQS,), "llama3", lambda: _divisors(header, config)),
    ):
        if found := [name for name in tensors if name in header.places]:
            if kind not in ("none", scaling):
                raise InputError(f"{header.path}: rope.scaling.type {kind!r:.40} beside {found[0]}")
            return read()
    if kind == "linear":
        return {"rope_type": "linear", "factor": keys.get(f"{ROPE_SCALING}factor")}
    if kind != "none":
        raise InputError(
            f"{header.path}: rope.scaling.type is {kind!r:.40}; known: none, linear, or the tensor "
            f"{ROPE_FREQS}"
        )
    return {}


def _longrope(header: Header, keys: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Two lists of divisors; the magnitude follows from the lengths unless it is given."""
    longest = config.get("max_position_embeddings")
    return {
        "rope_type": "longrope",
        "short_factor": _floats(header, ROPE_SHORT),
        "long_factor": _floats(header, ROPE_LONG),
        "attention_factor": keys.get(f"{ROPE_SCALING}attn_factor"),
        "original_max_position_embeddings": keys.get(
            f"{ROPE_SCALING}original_context_length", longest
        ),
    }


def _floats(header: Header, name: str) -> list[float]:
    """A short tensor of one dimension."""
    place = header.places.get(name)
    if place is None:
        raise InputError(f"{header.path}: the tensor {name} is missing")
    if len(place.shape) != 1 or place.encoding.name != "F32" or place.shape[0] > 1 << 16:
        raise InputError(f"{header.path}: {name} is {place.encoding.name} {place.shape}")
    stored = np.ndarray((place.nbytes,), np.uint8, header.mapped, place.start)
    return as_floats(stored, place, dequantizer()).tolist()


def _divisors(header: Header, config: Mapping[str, Any]) -> dict[str, Any]:
    """Divisors as a list, of which config.json has one kind: longrope, without its magnitude."""
    divisors = _floats(header, ROPE_FREQS)
    return {
        "rope_type": "longrope",
        "short_factor": divisors,
        "long_factor": divisors,
        "attention_factor": 1.0,
        "original_max_position_embeddings": config.get("max_position_embeddings"),
    }


def _check(header: Header, keys: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse keys that are set and have no effect here, and sizes that contradict each other."""
    architecture = architecture_of(header)
    known = (*SIZES, *CHECKED, *ONLY.get(architecture, ()))
    for key, value in keys.items():
        of_4_7 = architecture in HYBRIDS and key.endswith(TIME_SLOT)
        if value and not (key in known or key.startswith(ROPE_SCALING) or of_4_7):
            raise InputError(
                f"{header.path}: {architecture}.{key} is {value!r:.100}: not supported yet"
            )
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if type(hidden) is not int or type(heads) is not int or heads < 1:
        return  # refused by the model family
    head_dim = config.get("head_dim", hidden // heads)
    expected = dict(zip(CHECKED, (config["vocab_size"], head_dim, head_dim), strict=True))
    if architecture in HYBRIDS:
        del expected[ROTATED]  # a part of the head
    for key, size in expected.items():
        if keys.get(key, size) != size:
            raise InputError(
                f"{header.path}: {architecture}.{key} is {keys[key]!r:.40}, "
                f"but the other sizes require {size}"
            )
