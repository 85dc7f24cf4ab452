"""Operations and bytes of the benchmark's rows, against numbers counted by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from odd_models import GROUPED
from test_cli_inspect import MANIFEST

from handglass.errors import InputError
from handglass.runtime.bundle.entries import StateTensor
from handglass.runtime.bundle.manifest import (
    Manifest,
    ModelEntry,
    StateEntry,
    TensorEntry,
    VisionEntry,
)
from handglass.runtime.measure.roofline import (
    Shape,
    decode_bytes,
    decode_params_bytes,
    encode_flops,
    prefill_flops,
)


def manifest_of(config: dict[str, Any], params: Sequence[TensorEntry] = ()) -> Manifest:
    cache = StateEntry(16, (StateTensor("layers.0.k_cache", (2, 16, 4), "float16"),))
    vision = VisionEntry(config["image_size"], 14, (0.5,) * 3, (0.5,) * 3, config["query_num"], 2)
    return replace(
        MANIFEST,
        model=ModelEntry("MiniCPMV", config),
        params=tuple(params),
        cache=cache,
        vision=vision,
        vocab_size=config["vocab_size"],
    )


def test_one_picture() -> None:
    # tower: 25 patches, 2 * 25 * (588 * 144) + 2 layers * (2 * 25 * (4 * 144^2 + 2 * 144 * 100)
    # + 4 * 25^2 * 144); resampler: 2 * 25 * 144 * 384 + 4 * 25 * 384^2 + 4 * 9 * 25 * 384
    # + 4 * 9 * 384^2
    assert encode_flops(Shape.of(manifest_of(GROUPED))) == 16_128_000 + 23_164_416


def test_prefill() -> None:
    # a row: 2 * (384 * (384 + 2 * 128) + 384^2 + 3 * 384 * 500) = 1,938,432; 5 rows see 15
    # positions, 4 * 384 each; 3 layers; logits of one row: 2 * 384 * 613
    shape = Shape.of(manifest_of(GROUPED))
    assert prefill_flops(shape, 5) == 3 * (5 * 1_938_432 + 23_040) + 470_784
    assert prefill_flops(shape, 5, pos=10) == 3 * (5 * 1_938_432 + 99_840) + 470_784


def test_defaults_are_those_of_the_import() -> None:
    config = {k: v for k, v in GROUPED.items() if k != "num_key_value_heads"}
    assert Shape.of(manifest_of(config)).kv_width == 384
    wide = Shape.of(manifest_of({**GROUPED, "head_dim": 80}))
    assert (wide.q_width, wide.kv_width) == (480, 160)


PARAMS = (
    TensorEntry("vpm.patch_embedding.bias.value", (1000,), "float32"),
    TensorEntry("llm.embed_tokens.weight", (10, 4), "uint8"),
    TensorEntry("llm.rotations.value", (16, 2), "float32"),
    TensorEntry("llm.layers.0.down_proj.panels.weight", (3,), "float32"),
)


def test_a_step_reads_the_decoder_and_its_past() -> None:
    manifest = manifest_of(GROUPED, PARAMS)
    assert decode_params_bytes(manifest) == 40 + 12
    assert decode_bytes(manifest, 2) == 40 + 12 + 3 * 16  # 2 * 4 values of 2 bytes a position


def test_of_an_untied_embedding_it_reads_one_row() -> None:
    head = TensorEntry("llm.lm_head.weight", (11, 4), "uint8")
    assert decode_params_bytes(manifest_of(GROUPED, (*PARAMS, head))) == 44 + 12


def test_what_cannot_be_counted_is_named() -> None:
    with pytest.raises(InputError, match="intermediate_size None"):
        Shape.of(manifest_of({k: v for k, v in GROUPED.items() if k != "intermediate_size"}))
    with pytest.raises(InputError, match="vision_config"):
        Shape.of(manifest_of({**GROUPED, "vision_config": 3}))
    with pytest.raises(InputError, match="llm"):
        decode_params_bytes(manifest_of(GROUPED, PARAMS[:1]))
