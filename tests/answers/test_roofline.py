"""Operations and bytes of the benchmark's rows, against numbers counted by hand."""

from dataclasses import replace
from typing import Any

import pytest
from odd_models import GROUPED
from test_cli_inspect import MANIFEST
from test_qwen35 import CONFIG as QWEN35

from handglass.compiler.checkpoints.fields import Fields
from handglass.compiler.models.model_config import ModelConfig
from handglass.compiler.models.qwen35 import qwen35_config
from handglass.compiler.models.work import (
    decode_work,
    prefill_work,
    resampler_flops,
    vision_flops,
)
from handglass.errors import InputError
from handglass.runtime.bundle.entries import StateEntry, StateTensor, TensorEntry, WorkEntry
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.measure.roofline import (
    decode_bytes,
    decode_params_bytes,
    encode_flops,
    prefill_flops,
)


def manifest_of(**work: WorkEntry) -> Manifest:
    keys = StateTensor("layers.0.k_cache", (2, 16, 4), "float16")
    sums = StateTensor("layers.1.recurrent", (3,), "float32", "recurrent")
    return replace(MANIFEST, state=StateEntry(16, (keys, sums)), work=work)


def grouped(**changes: Any) -> ModelConfig:
    return ModelConfig.from_dict({**GROUPED, **changes})


def test_one_picture() -> None:
    # tower: 25 patches, 2 * 25 * (588 * 144) + 2 layers * (2 * 25 * (4 * 144^2 + 2 * 144 * 100)
    # + 4 * 25^2 * 144); resampler: 2 * 25 * 144 * 384 + 4 * 25 * 384^2 + 4 * 9 * 25 * 384
    # + 4 * 9 * 384^2
    config = grouped()
    assert vision_flops(config.vision, 25) == 16_128_000
    assert resampler_flops(config.resampler, 25) == 23_164_416
    assert encode_flops(manifest_of(encode_image=WorkEntry(flops=5.0))) == 5.0


def test_prefill() -> None:
    # a row: 2 * (384 * (384 + 2 * 128) + 384^2 + 3 * 384 * 500) = 1,938,432; 5 rows see 15
    # positions, 4 * 384 each; 3 layers; logits of one row: 2 * 384 * 613
    manifest = manifest_of(prefill=prefill_work(grouped().language))
    assert prefill_flops(manifest, 5) == 3 * (5 * 1_938_432 + 23_040) + 470_784
    assert prefill_flops(manifest, 5, pos=10) == 3 * (5 * 1_938_432 + 99_840) + 470_784


def test_wide_heads_cost_what_they_are_wide() -> None:
    plain, wide = (prefill_work(grouped(**c).language) for c in ({}, {"head_dim": 80}))
    assert wide.flops_per_pair == plain.flops_per_pair / 64 * 80


def test_linear_attention_costs_the_same_at_every_position() -> None:
    # MLP of 5 layers: 2 * 3 * 48 * 80. Attention of one: 2 * 48 * (2 * 128 + 2 * 64 + 128 of the
    # gate); 4 * 128 per pair. Delta rule of four: heads of 2 * 16 + 2 * 16 + 4 * 24 = 160, out 96;
    # 2 * 48 * (160 + 2 * 96 + 2 * 4), 2 * 4 * 160 of the convolution, 2 * 3 * 96 * 16 of the rule.
    work = prefill_work(qwen35_config(Fields(QWEN35, "config.json"), True))
    assert work.flops_per_row == 5 * 23_040 + 49_152 + 4 * (34_560 + 1_280 + 9_216)
    assert (work.flops, work.flops_per_pair) == (2 * 48 * 97, 4 * 128)


PARAMS = (
    TensorEntry("vpm.patch_embedding.bias.value", (1000,), "float32"),
    TensorEntry("llm.embed_tokens.weight", (10, 4), "uint8"),
    TensorEntry("llm.rotations.value", (16, 2), "float32"),
    TensorEntry("llm.layers.0.down_proj.panels.weight", (3,), "float32"),
)


def test_a_step_reads_the_decoder_and_its_past() -> None:
    manifest = manifest_of(decode=decode_work(PARAMS, "llm.", ("llm.rotations.",)))
    assert decode_params_bytes(manifest) == 40 + 12
    # 2 * 4 values of 2 bytes per position, and the whole recurrent state
    assert decode_bytes(manifest, 2) == 40 + 12 + 3 * 16 + 12


def test_of_an_untied_embedding_it_reads_one_row() -> None:
    head = TensorEntry("llm.lm_head.weight", (11, 4), "uint8")
    tables = ("llm.rotations.", "llm.embed_tokens.")
    assert decode_work((*PARAMS, head), "llm.", tables).bytes == 44 + 12


def test_what_cannot_be_counted_is_named() -> None:
    with pytest.raises(InputError, match="'encode_image'"):
        encode_flops(manifest_of())
