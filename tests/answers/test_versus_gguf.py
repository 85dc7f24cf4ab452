"""The random GGUF files of the comparison: our own importer finds every tensor in its shape."""

from pathlib import Path
from typing import Any

import pytest
from release_configs import V4_6
from versus_gguf import resampler_keys, resampler_tensors, write_decoder, write_vision
from versus_gguf_hybrid import merger_keys, merger_tensors, write_hybrid
from versus_shape import shape_of

from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models import find_family
from handglass.compiler.models.matching import tensors_of
from handglass.compiler.models.storage import choose_storage
from handglass.schedules.select import ANY_CPU

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
}
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
}


def check(decoder: Path, vision: Path) -> None:
    """Every tensor of the model that the files describe is in them, in its shape."""
    checkpoint = open_checkpoint(decoder, mmproj=vision)
    family = find_family(dict(checkpoint.config))
    model = family.configure(dict(checkpoint.config))
    storage = choose_storage(model.language, ANY_CPU, "f32", None, None, None)
    needed = tensors_of(family.build(checkpoint, model, storage))
    assert len(needed) > 40
    for name, shape in needed.items():
        checkpoint.read(name, tuple(shape))  # raises if it is missing, or has another shape


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0"])
def test_a_decoder_with_linear_attention_and_a_tower_with_mergers(
    kind: str, tmp_path: Path
) -> None:
    text = {**V4_6["text_config"], **SIZES, **LINEAR}
    config: dict[str, Any] = {**V4_6, "insert_layer_id": 0}
    shape = shape_of({**config, "text_config": text, "vision_config": VISION})
    write_hybrid(tmp_path / "decoder.gguf", shape)
    tensors = merger_tensors(shape)
    write_vision(tmp_path / "vision.gguf", shape, kind, merger_keys, tensors)
    check(tmp_path / "decoder.gguf", tmp_path / "vision.gguf")


def test_a_llama_and_a_tower_with_a_resampler(tmp_path: Path) -> None:
    config = {"model_type": "minicpmv", "version": "4.0", "query_num": 4, "vision_config": VISION}
    shape = shape_of({**config, **SIZES})
    write_decoder(tmp_path / "decoder.gguf", shape)
    tensors = resampler_tensors(shape)
    write_vision(tmp_path / "vision.gguf", shape, "bf16", resampler_keys, tensors)
    check(tmp_path / "decoder.gguf", tmp_path / "vision.gguf")
