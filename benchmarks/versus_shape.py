"""The shape of a model as the peers read it: flat, with what a config.json leaves out."""

from __future__ import annotations

from typing import Any

COPIED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "rms_norm_eps",
    "max_position_embeddings",
)
PLAIN = {"rope_theta": 10000.0, "scale_emb": 1.0}
LINEAR = "linear_num_key_heads"


def name_of(config: dict[str, Any]) -> str:
    """A folder name: the version and the sizes of a model."""
    text = config.get("text_config", config)
    version = config.get("version", config["model_type"])
    return f"{version}-{text['hidden_size']}x{text['num_hidden_layers']}"


def shape_of(config: dict[str, Any]) -> dict[str, Any]:
    """Sizes of the decoder at the top, of the tower in `vision_config`.

    A decoder with linear attention keeps its fields in `text_config` as they are.
    """
    text = config.get("text_config", config)
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    shape = {name: text[name] for name in COPIED}
    shape |= {name: text.get(name, value) for name, value in PLAIN.items()}
    shape["head_dim"] = text.get("head_dim", hidden // text["num_attention_heads"])
    shape["residual_scale"] = text["scale_depth"] / layers**0.5 if "scale_depth" in text else 1.0
    shape["logit_scale"] = text["dim_model_base"] / hidden if "dim_model_base" in text else 1.0
    shape["vision_config"] = config["vision_config"]
    shape["query_num"] = config.get("query_num", 64)
    shape["image_size"] = config.get("image_size", 448)
    shape["patch_size"] = config.get("patch_size", config["vision_config"]["patch_size"])
    shape["version"] = config.get("version", config["model_type"])
    if LINEAR in text:
        shape["text_config"] = text
        shape["insert_layer_id"] = config["insert_layer_id"]
    return shape


def is_hybrid(shape: dict[str, Any]) -> bool:
    """Whether the decoder has linear attention."""
    return "text_config" in shape


def refuse_hybrid(shape: dict[str, Any], engine: str) -> None:
    """End a worker whose model has no linear attention, with the reason."""
    if is_hybrid(shape):
        raise SystemExit(f"{engine}: the model that it is given has no linear attention")


def parameters(shape: dict[str, Any]) -> int:
    """The weights of both towers, about: without norms, biases, and the bridge between them."""
    hidden, vision = shape["hidden_size"], shape["vision_config"]
    heads = shape["head_dim"] * (shape["num_attention_heads"] + shape["num_key_value_heads"])
    layer = hidden * (2 * heads + 3 * shape["intermediate_size"])
    d, f = vision["hidden_size"], vision["intermediate_size"]
    tower = vision["num_hidden_layers"] * (4 * d * d + 2 * d * f)
    return shape["vocab_size"] * hidden + shape["num_hidden_layers"] * layer + tower
