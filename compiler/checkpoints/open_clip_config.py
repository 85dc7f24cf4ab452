"""open_clip_config.json of OpenCLIP, said with the keys of transformers' CLIPModel.

The towers are those that OpenCLIP itself has: a ViT with a class token, and a causal text tower.
Its other towers (ResNet, those of timm and of transformers, CoCa) are refused, and so is every
setting that is not known: most of them change the network. Defaults are those of OpenCLIP 3.3,
open_clip/model.py and open_clip/transform.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from handglass.errors import InputError

from .fields import Fields

CONFIG = "open_clip_config.json"
HEAD_WIDTH = 64
MLP_RATIO = 4.0
EPS = 1e-5
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
FILTERS = {"bilinear": 2, "bicubic": 3, "random": 3}
"""Pillow's numbers of the filters; "random" is bicubic after training."""
ROUNDED = "center_crop_rounded"
"""Key of our own beside those of preprocessor_config.json: an odd border is divided as torchvision
does it."""

NEUTRAL: Mapping[str, Any] = {
    **dict.fromkeys(
        ("ls_init_value", "act_kwargs", "block_type", "hf_model_name", "timm_model_name")
    ),
    **dict.fromkeys(
        ("attentional_pool", "no_ln_pre", "final_ln_after_pool", "embed_cls", "no_causal_mask"),
        False,
    ),
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads", "proj_bias"), False),
    **dict.fromkeys(("scale_attn_inner", "scale_attn", "scale_fc"), False),
    "pos_embed_type": "learnable",
    "proj_type": "linear",
}
"""Settings of a tower that change the network, and their only supported value."""
WITHOUT_EFFECT = frozenset(
    (
        *("patch_dropout", "output_tokens", "pad_id", "eos_id", "tokenizer_mode"),
        *("tokenizer_kwargs", "hf_tokenizer_name", "hf_model_pretrained", "hf_proj_type"),
        *("hf_pooler_type", "attn_pooler_queries", "attn_pooler_heads", "timm_pool"),
        *("timm_model_pretrained", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"),
    )
)
"""Settings of training, of the tokenizer, which the folder has, and of what is switched off."""
VISION_POOL, TEXT_POOL = "tok", "argmax"
COMMON = ("layers", "width", "mlp_ratio", "norm_kwargs", "pool_type")
VISION_KEYS = frozenset((*COMMON, "head_width", "patch_size", "image_size"))
TEXT_KEYS = frozenset((*COMMON, "heads", "context_length", "vocab_size"))
TOP = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text")
TOP_WITHOUT_EFFECT = ("init_logit_scale", "nonscalar_logit_scale", "output_dict", "cast_dtype")


def clip_config(content: object, where: str) -> dict[str, Any]:
    """What config.json of the same model would say, from the content of the file.

    Raises InputError for a model that is not supported.
    """
    top = Fields(content, where).section("model_cfg")
    _refuse_others(top)
    act = "quick_gelu" if top.flag("quick_gelu", False) else "gelu"
    width = top.integer("embed_dim")
    vision, text = (
        {**make(top.section(key)), "hidden_act": act, "projection_dim": width}
        for key, make in (("vision_cfg", _vision), ("text_cfg", _text))
    )
    return {
        "architectures": ["CLIPModel"],
        "projection_dim": width,
        "vision_config": vision,
        "text_config": text,
    }


def _refuse_others(top: Fields) -> None:
    if top.get("multimodal_cfg") is not None:
        raise InputError(f"{top.where}: multimodal_cfg: CoCa is not supported")
    if top.get("init_logit_bias") is not None:
        raise InputError(
            f"{top.where}: init_logit_bias: models of OpenCLIP that are trained as SigLIP are not "
            "supported; compile the folder that transformers has of the same model"
        )
    _known(top, {*TOP, *TOP_WITHOUT_EFFECT, "multimodal_cfg", "init_logit_bias"})


def _vision(fields: Fields) -> dict[str, Any]:
    _check_tower(fields, VISION_KEYS, VISION_POOL)
    if isinstance(fields.get("layers"), list):
        raise InputError(f"{fields.where}: layers is a list: ResNet towers are not supported")
    head, width = fields.integer("head_width", HEAD_WIDTH), fields.integer("width", 768)
    fields.multiple("width", width, "head_width", head)
    return {
        **_layers(fields, width),
        "num_attention_heads": width // head,
        "patch_size": fields.integer("patch_size", 16),
        "image_size": _side(fields, "image_size", 224),
    }


def _text(fields: Fields) -> dict[str, Any]:
    _check_tower(fields, TEXT_KEYS, TEXT_POOL)
    return {
        **_layers(fields, fields.integer("width", 512)),
        "num_attention_heads": fields.integer("heads", 8),
        "max_position_embeddings": fields.integer("context_length", 77),
        "vocab_size": fields.integer("vocab_size", 49408),
    }


def _check_tower(fields: Fields, known: frozenset[str], pool: str) -> None:
    for key, only in NEUTRAL.items():
        if (value := fields.get(key)) is not None and value != only:
            raise InputError(
                f"{fields.where}: {key} is {value!r:.100}: this tower of OpenCLIP is not supported"
            )
    fields.expect("pool_type", pool)
    _known(fields, known | NEUTRAL.keys() | WITHOUT_EFFECT)


def _known(fields: Fields, known: Set[str]) -> None:
    for key in fields.keys - known:
        raise InputError(f"{fields.where}: {key!r:.100} is unknown; it may change the model")


def _layers(fields: Fields, width: int) -> dict[str, Any]:
    norm = fields.section("norm_kwargs") if fields.get("norm_kwargs") is not None else None
    if norm is not None:
        _known(norm, {"eps"})
    return {
        "hidden_size": width,
        "intermediate_size": int(width * fields.number("mlp_ratio", MLP_RATIO)),
        "num_hidden_layers": fields.integer("layers", 12),
        "layer_norm_eps": norm.number("eps", EPS) if norm is not None else EPS,
    }


def _side(fields: Fields, key: str, default: int) -> int:
    """Of a square, stated once or twice."""
    given = fields.get(key)
    if not isinstance(given, list):
        return fields.integer(key, default)
    if len(given) != 2 or given[0] != given[1]:
        raise InputError(f"{fields.where}: {key} is {given!r:.100}; only squares are supported")
    return Fields({key: given[0]}, fields.where).integer(key)


def pictures(content: object, where: str, side: int) -> dict[str, Any]:
    """What preprocessor_config.json would say; `side`: of the pictures that the tower takes.

    Raises InputError for steps that are not supported.
    """
    top = Fields(content, where)
    fields = top.section("preprocess_cfg") if top.get("preprocess_cfg") is not None else None
    fields = fields or Fields({}, f"{where} preprocess_cfg")
    _known(fields, {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"})
    fields.expect("mode", "RGB")
    filter_ = fields.get("interpolation") or "bicubic"
    if filter_ not in FILTERS:
        known = ", ".join(FILTERS)
        raise InputError(f"{fields.where}: interpolation is {filter_!r:.100}; known: {known}")
    given = _side(fields, "size", side)
    square = {"width": given, "height": given}
    sizes: dict[str, Mapping[str, Any]] = {
        "shortest": {"do_center_crop": True, "crop_size": square, ROUNDED: True}
        | {"size": {"shortest_edge": given}},
        "squash": {"do_center_crop": False, "size": square},
    }
    if (mode := fields.get("resize_mode") or "shortest") not in sizes:
        raise InputError(
            f"{fields.where}: resize_mode is {mode!r:.100}; supported: {', '.join(sizes)}"
        )
    return {
        **sizes[mode],
        "resample": FILTERS[filter_],
        "image_mean": _channels(fields, "mean", MEAN),
        "image_std": _channels(fields, "std", STD),
    }


def _channels(fields: Fields, key: str, default: list[float]) -> Any:
    """Three numbers; one stands for all."""
    given = fields.get(key)
    if given is None:
        return default
    return given if isinstance(given, list) else [given] * 3
