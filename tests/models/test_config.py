"""Parsing of config.json: valid files give a frozen configuration, unsupported ones an error."""

import copy
from typing import Any

import pytest
from release_configs import STATED_1_0
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from handglass.compiler.checkpoints.fields import Fields
from handglass.compiler.checkpoints.unstated import PATCHES
from handglass.compiler.model_table import TABLE
from handglass.compiler.models import find_family
from handglass.compiler.models.architecture import MODEL_TYPES
from handglass.compiler.models.minicpmv import vision_entry
from handglass.compiler.models.model_config import ModelConfig
from handglass.compiler.models.release import find_release
from handglass.compiler.models.seed import SEED, SEED_JSON
from handglass.errors import InputError

ABSENT = object()
GELU: dict[str, Any] = {"vision": {"hidden_act": "gelu"}}
"""The activation of the early towers."""


def changed(**changes: Any) -> dict[str, Any]:
    """The seed's config.json with some keys replaced, or removed if the value is ABSENT."""
    config = copy.deepcopy(SEED_JSON)
    vision = changes.pop("vision", {})
    for section, section_changes in ((config, changes), (config["vision_config"], vision)):
        section.update(section_changes)
        for key in [key for key, value in section_changes.items() if value is ABSENT]:
            del section[key]
    return config


def test_seed_shape() -> None:
    assert (SEED.architecture, SEED.image_size) == ("MiniCPMV", 448)
    assert (SEED.vision.head_dim, SEED.vision.positions_per_side) == (72, 70)
    assert SEED.resampler.num_attention_heads == 12
    assert (SEED.resampler.vision_hidden_size, SEED.resampler.hidden_size) == (1152, 1536)
    assert (SEED.language.head_dim, SEED.language.num_key_value_heads) == (64, 8)
    assert SEED.language.tie_word_embeddings


def test_class_defaults_of_the_released_files() -> None:
    config = changed(
        num_key_value_heads=ABSENT,
        rope_theta=ABSENT,
        bos_token_id=ABSENT,
        eos_token_id=ABSENT,
        hidden_act=ABSENT,
        patch_size=ABSENT,
        vision={"hidden_act": ABSENT, "layer_norm_eps": ABSENT},
    )
    model = ModelConfig.from_dict(config)
    assert model.language.num_key_value_heads == 24
    assert model.language.rope_theta == 10000.0
    assert (model.language.bos_token_id, model.language.eos_token_ids) == (1, ())
    assert model.vision.layer_norm_eps == 1e-6


def test_stated_head_dim_wins() -> None:
    assert ModelConfig.from_dict(changed(head_dim=128)).language.head_dim == 128


def test_rotary_positions_without_scaling_in_newer_keys() -> None:
    for section in ("rope_parameters", "rope_scaling"):
        for key in ("rope_type", "type"):
            config = changed(rope_theta=ABSENT) | {section: {key: "default", "rope_theta": 5e5}}
            assert ModelConfig.from_dict(config).language.rope_theta == 5e5
            config = changed(rope_theta=5e5) | {section: {key: "default", "factor": 1.0}}
            assert ModelConfig.from_dict(config).language.rope_theta == 5e5


def test_one_or_several_tokens_end_an_answer() -> None:
    assert ModelConfig.from_dict(changed(eos_token_id=7)).language.eos_token_ids == (7,)
    config = changed(eos_token_id=[7, 2, 7])
    assert ModelConfig.from_dict(config).language.eos_token_ids == (7, 2)


def test_keys_that_are_set_to_nothing_are_fine() -> None:
    config = changed(
        rope_scaling=None, quantization_config=None, attention_bias=False, slice_mode=False
    )
    assert ModelConfig.from_dict(config) == SEED


@pytest.mark.parametrize(
    "named", [{"architectures": "MiniCPMV"}, {"architectures": ABSENT, "model_type": "minicpmv"}]
)
def test_an_architecture_by_another_key(named: dict[str, Any]) -> None:
    config = changed(**named)
    assert find_family(config).name == "MiniCPM-V with a resampler"
    assert ModelConfig.from_dict(config) == SEED


def test_model_types_are_those_of_transformers() -> None:
    generate = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    for kind, name in MODEL_TYPES.items():
        known = {names.get(kind, name) for names in (generate, MODEL_MAPPING_NAMES)}
        assert name in known, f"{kind}: transformers has {known}"
    assert set(MODEL_TYPES.values()) <= {name for row in TABLE for name in row.architectures}
    assert all(set(MODEL_TYPES.values()) & set(row.architectures) for row in TABLE)
    for kind, name in MODEL_TYPES.items():
        assert find_family({"model_type": kind}) is find_family({"architectures": [name]})


@pytest.mark.parametrize(
    ("version", "name"),
    [("2.6", "2.6"), (2.6, "2.6"), ("4.0", "4.0"), (4.0, "4.0"), (4, "4.0"), (4.5, "4.5")],
)
def test_a_version_is_a_text_or_a_number(version: Any, name: str) -> None:
    found = find_release(Fields({"version": version}, "config.json"), is_omni=False)
    assert found.version == name


@pytest.mark.parametrize("absent", [list(STATED_1_0), *([key] for key in STATED_1_0)])
def test_what_no_file_says_is_asked_for(absent: list[str]) -> None:
    """The error names all keys that are missing, no other, and where to look."""
    stated = {key: value for key, value in STATED_1_0.items() if key not in absent}
    with pytest.raises(InputError, match="the Python code beside its weights") as caught:
        ModelConfig.from_dict(changed(version="1.0", **stated, **GELU))
    assert [key for key in STATED_1_0 if f"({key};" in str(caught.value)] == absent


@pytest.mark.parametrize("is_adaptive", [False, True])
@pytest.mark.parametrize("has_newline", [False, True])
def test_what_a_person_states_is_honoured(is_adaptive: bool, has_newline: bool) -> None:
    stated = {"resampler_adaptive": is_adaptive, "newline_after_picture": has_newline}
    model = ModelConfig.from_dict(changed(version="1.0", **STATED_1_0 | stated, **GELU))
    assert model.resampler.key_grid == (0 if is_adaptive else 32)
    assert model.prompt.between == ("\n" if has_newline else "")


@pytest.mark.parametrize(
    ("stated", "kind"),
    [({}, "padded"), ({PATCHES: "padded"}, "padded"), ({PATCHES: "grid"}, "bucket")],
)
def test_patches_of_2_5_stand_where_the_released_code_puts_them(
    stated: dict[str, str], kind: str
) -> None:
    """Unless the file says otherwise."""
    model = ModelConfig.from_dict(changed(version="2.5", **stated))
    assert model.resampler.has_padding == (kind == "padded")
    assert vision_entry(model).positions.kind == kind


REFUSED = [
    ({"architectures": ABSENT, "model_type": ABSENT}, "architectures is missing"),
    ({"architectures": []}, "architectures is [] (a list)"),
    ({"architectures": ["MiniCPMV", "MiniCPMO"]}, "'MiniCPMV, MiniCPMO'"),
    ({"architectures": ABSENT, "model_type": "llava"}, "architectures is missing"),
    ({"architectures": ABSENT, "model_type": 2.6}, "architectures is missing"),
    ({"architectures": ["LlavaForConditionalGeneration"]}, "LlavaForConditionalGeneration"),
    ({"architectures": ["MiniCPMO"]}, "MiniCPM-o"),
    ({"architectures": ["MiniCPMO"], "version": "9"}, "MiniCPM-o 9"),
    ({"version": 1.5}, "MiniCPM-V 1.5"),
    ({"version": "2.0", "vision_config": ABSENT}, "vision_encoder is None"),
    ({"version": "2.0", "vision": {"num_hidden_layers": 1, "hidden_act": "gelu"}}, "has 1 layer"),
    ({"version": "2.0", "vision": {"hidden_act": "gelu_pytorch_tanh"}}, "only 'gelu'"),
    ({"version": 1.0, "slice_mode": True, "vision": {"hidden_act": ABSENT}}, "slice_mode"),
    ({"version": "1.0", "query_num": 63, **STATED_1_0, **GELU}, "square number"),
    ({"version": "2.5", PATCHES: "row"}, 'supported: "padded" and "grid"'),
    ({"version": "1.0", **STATED_1_0, "picture_fit": "crop", **GELU}, 'supported: "squash"'),
    ({"version": "1.0", **STATED_1_0, "resampler_adaptive": 1, **GELU}, "supported: true and"),
    ({"version": "1.0", **STATED_1_0, "newline_after_picture": "", **GELU}, "picture is ''"),
    ({"rope_scaling": {"type": "longrope"}}, "rope_scaling"),
    ({"rope_scaling": {"type": "default", "factor": 4}}, "rope_scaling"),
    ({"rope_scaling": {"rope_theta": 10000.0}}, "rope_scaling"),
    ({"rope_scaling": [1]}, "rope_scaling"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_parameters"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}, "50000"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": "x"}}, "'x'"),
    ({"rope_theta": 0}, "rope_theta is 0"),
    ({"eos_token_id": ["</s>"]}, "'</s>'"),
    ({"eos_token_id": [2] * 65}, "65"),
    ({"attention_bias": True}, "attention_bias is True"),
    ({"qkv_bias": True}, "qkv_bias is True"),
    ({"drop_vision_last_layer": True}, "drop_vision_last_layer"),
    ({"slice_mode": True}, "slice_mode"),
    ({"hidden_act": "relu"}, "'silu'"),
    ({"vision": {"hidden_act": "gelu"}}, "'gelu_pytorch_tanh'"),
    ({"vision": {"num_channels": 1}}, "num_channels is 1"),
    ({"hidden_size": 1500, "num_attention_heads": 25}, "num_key_value_heads (8)"),
    ({"hidden_size": 1537}, "hidden_size is 1537"),
    ({"hidden_size": 1584}, "(128)"),
    ({"head_dim": 63}, "head_dim is 63"),
    ({"image_size": 450}, "image_size is 450"),
    ({"patch_size": 16}, "vision_config.patch_size is 14"),
    ({"vision": {"image_size": 981}}, "image_size is 981"),
    ({"vision": {"num_attention_heads": 17}}, "vision_config: hidden_size is 1152"),
    ({"vision_config": ABSENT}, "vision_config is missing"),
    ({"vision_config": 3}, "found a number"),
    ({"vocab_size": "73440"}, "vocab_size is '73440' (a string)"),
    ({"vocab_size": True}, "vocab_size is True (a boolean)"),
    ({"num_hidden_layers": 52.0}, "num_hidden_layers is 52.0 (a number)"),
    ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
    ({"vocab_size": 10**30}, "16777216"),
    ({"query_num": -64}, "query_num is -64"),
    ({"rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5' (a string)"),
    ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
    ({"scale_depth": float("nan")}, "scale_depth is nan"),
    ({"rope_theta": float("inf")}, "rope_theta is inf"),
    ({"scale_emb": -12}, "scale_emb is -12"),
    ({"scale_emb": 10**400}, "scale_emb is 1000"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1 (a number)"),
    ({"eos_token_id": [2, 73440]}, "eos_token_id is 73440"),
    ({"eos_token_id": 73440}, "eos_token_id is 73440"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        ModelConfig.from_dict(changed(**changes))
    assert message in str(error.value)
    assert str(error.value).startswith("config.json")


NEEDED_VISION = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
]
NEEDED = [
    *NEEDED_VISION,
    "vocab_size",
    "rms_norm_eps",
    "max_position_embeddings",
    "scale_emb",
    "scale_depth",
    "dim_model_base",
    "query_num",
]


@pytest.mark.parametrize("key", NEEDED)
def test_missing_key_is_named(key: str) -> None:
    with pytest.raises(InputError, match=f"config.json: {key} "):
        ModelConfig.from_dict(changed(**{key: ABSENT}))


@pytest.mark.parametrize("key", [*NEEDED_VISION, "patch_size"])
def test_missing_vision_key_is_named(key: str) -> None:
    with pytest.raises(InputError, match=f"vision_config: {key} "):
        ModelConfig.from_dict(changed(vision={key: ABSENT}))


@pytest.mark.parametrize("config", [[], "MiniCPMV", None, 7])
def test_not_an_object(config: Any) -> None:
    with pytest.raises(InputError, match="config.json"):
        ModelConfig.from_dict(config)
