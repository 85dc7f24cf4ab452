"""A second family needs one file and one line; it compiles and gives the answers of PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_minicpmv as expected
from PIL import Image
from random_checkpoint import _language, _vision
from safetensors.numpy import save_file
from second_family import CONFIG, MERGED, PREFIX, SECOND, configure
from vocabularies import byte_level_json

from handglass.compiler import models
from handglass.compiler.build import compile_model
from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
from handglass.errors import UsageError
from handglass.runtime.answer.model import Model
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.measure.roofline import decode_bytes, encode_flops, prefill_flops
from handglass.runtime.prompt.chat_template import Slot, build_prompt

SPECIAL = ("<|im_start|>", "<|im_end|>", "<image>", "</image>", "<slice>", "</slice>")
QUESTION = "What is this picture?"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with the tensor names of this family."""
    folder = tmp_path_factory.mktemp("second")
    config, random = configure(CONFIG), np.random.default_rng(0)
    text, sight = config.language, config.vision
    draws = {d.name.replace("llm.", PREFIX): d for d in _language(text)}
    draws |= {d.name.replace("vpm.", "vision_tower."): d for d in _vision(sight)}
    arrays = {
        name: (d.mean + d.std * random.standard_normal(d.shape)).astype(np.float32)
        for name, d in draws.items()
    }
    shape = (text.hidden_size, sight.hidden_size)
    arrays["projector.weight"] = random.normal(0, 1 / 7, shape).astype(np.float32)
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_bytes(byte_level_json(SPECIAL))
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundle") / "b"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "second", SECOND)  # the one line
        compile_model(checkpoint, output, quantization="f32", context=128)
    return output


def picture() -> Image.Image:
    noise = np.random.default_rng(5).integers(0, 256, (40, 60, 3), np.uint8)
    return Image.fromarray(noise)


def tile_rows(weights: expected.Weights, tile: Any) -> torch.Tensor:
    """Expected encode_image of a tile: the tower, means of four patches, the projector."""
    tower = expected.part(weights, "vision_tower.")
    ids = torch.from_numpy(tile.position_ids).long()
    strip = torch.from_numpy(tile.strip)
    features = expected.encode_vision(tower, CONFIG["vision_config"], strip, ids)
    return features.view(-1, MERGED, features.shape[1]).mean(1) @ weights["projector.weight"].T


def reference_answer(model: Model, weights: expected.Weights, count: int) -> list[int]:
    """Greedy decoding with the template's repetition penalty, for one image and the question."""
    text = expected.part(weights, PREFIX)
    layers, d = CONFIG["text_config"]["num_hidden_layers"], CONFIG["text_config"]["hidden_size"]
    plain = {"scale_emb": 1.0, "scale_depth": layers**0.5, "dim_model_base": d}
    config = CONFIG["text_config"] | plain
    prompt = build_prompt(
        QUESTION, [picture()], model.tokenizer, model.manifest.prompt, model._tiles_of
    )
    parts = [
        tile_rows(weights, prompt.pictures[s.picture][s.tile])
        if isinstance(s, Slot)
        else expected.embed(text, config, list(s.ids))
        for s in prompt.segments
    ]
    x, tokens = torch.cat(parts), list[int]()
    for _ in range(count):
        scores = expected.logits(text, config, x)[-1]
        for token in set(tokens):
            scores[token] = scores[token] / 1.25 if scores[token] > 0 else scores[token] * 1.25
        tokens.append(int(scores.argmax()))
        x = torch.cat([x, expected.embed(text, config, tokens[-1:])])
    return tokens


def test_the_manifest_says_what_is_different(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.vision is not None and manifest.vision.rows(16) == 4
    assert set(manifest.functions) == {"encode_image", "embed", "prefill", "decode"}
    assert not any(p.name.startswith("llm.") for p in manifest.params)
    assert encode_flops(manifest) > 0 and prefill_flops(manifest, 5) > 0
    assert 0 < decode_bytes(manifest, 3) < manifest.resident_bytes


def test_it_answers_as_the_reference_does(bundle: Path, checkpoint: Path) -> None:
    model = Model.load(bundle)
    _, weights = expected.load(checkpoint)
    answer = model.chat(QUESTION, [picture()], max_tokens=12)
    assert list(answer.tokens) == reference_answer(model, weights, len(answer.tokens))
    assert answer.timings.image_tokens == (8,), "two tiles of four rows"


def test_the_prompt_is_the_template_filled_in(bundle: Path) -> None:
    model = Model.load(bundle)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [picture(), "Hello"]},
    ]
    prompt = build_prompt(messages, [], model.tokenizer, model.manifest.prompt, model._tiles_of)
    text = "".join(
        f"[{s.tile}]" if isinstance(s, Slot) else shown(model, s.ids) for s in prompt.segments
    )
    assert text == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
        "<image>[0]</image><slice>[1]</slice>\n\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def shown(model: Model, ids: tuple[int, ...]) -> str:
    special = {model.tokenizer.token_id(name): name for name in SPECIAL}
    parts = (special.get(i, "").encode() or model.tokenizer.surface(i) for i in ids)
    return b"".join(parts).decode()


def test_its_kernels_can_be_tuned(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.FAMILIES, "second", SECOND)
    found = read_tuning_input(checkpoint, CompileOptions("host", quantization="f32", context=64))
    calls = {part.function: part.calls for part in found.parts}
    assert calls == {"encode_image": 2, "prefill": 1, "decode": 64}


def test_there_is_no_reference_to_verify_it_with(
    bundle: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handglass.compiler.verify import verify

    monkeypatch.setitem(models.FAMILIES, "second", SECOND)
    with pytest.raises(UsageError, match="second"):
        verify(bundle, checkpoint)
