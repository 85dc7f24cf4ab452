"""Llama 3.2 Vision against the class of transformers, with tiny random weights."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_mllama as tiny
import torch
from PIL import Image
from published import MLLAMA
from safetensors.numpy import load_file, save_file
from tolerance import FLOAT32

from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.template_file import TemplateFile
from handglass.compiler.models import read_config
from handglass.compiler.models.mllama import RENAMES
from handglass.compiler.plan import plan_model
from handglass.compiler.verify import verify
from handglass.errors import InputError, UsageError
from handglass.runtime.answer.generate import Conversation
from handglass.runtime.answer.kept_cache import keep_cache, put_cache
from handglass.runtime.answer.model import Model
from handglass.runtime.bundle.entries import TILED, MethodEntry
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.session import Session
from handglass.runtime.measure.steps import Steps
from handglass.runtime.prompt.preprocess import Preprocessor

pytestmark = [pytest.mark.compiler, pytest.mark.slow]
Turn = dict[str, Any]
SIZES = ONE, TWO, FOUR = (20, 24), (50, 20), (60, 61)
"""Sizes of pictures that take so many tiles."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mllama")


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> tiny.MllamaForConditionalGeneration:
    return tiny.tiny(checkpoint)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, expected: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundle") / "b"
    compile_model(checkpoint, output, quantization="f32", context=128)
    return output


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return Model.load(bundle, conversations=2)


@pytest.mark.parametrize("size", [ONE, TWO, FOUR, (200, 30), (31, 100)])
def test_rows_of_a_picture(
    model: Model, expected: tiny.MllamaForConditionalGeneration, size: tuple[int, int]
) -> None:
    picture = tiny.picture(*size)
    given = tiny.inputs([tiny.IMAGE], [picture])
    with torch.no_grad():
        features = expected.model.vision_model(
            given["pixel_values"], given["aspect_ratio_ids"], given["aspect_ratio_mask"]
        ).last_hidden_state
        rows = expected.model.multi_modal_projector(features).reshape(-1, 64).numpy()
    (tile,) = model._tiles_of(picture)
    found = model.session.encode_image(*tile.arrays)
    assert len(found) == given["aspect_ratio_mask"].sum() * 17
    FLOAT32.check(found, rows[: len(found)])


def keys(model: Model, ids: Sequence[int], pictures: Sequence[Image.Image]) -> list:
    tiles = iter(model._tiles_of(picture)[0] for picture in pictures)
    return [(next(tiles).digest, 0) if id == tiny.IMAGE else id for id in ids]


@pytest.mark.parametrize(
    ("ids", "sizes"),
    [
        pytest.param([tiny.IMAGE, 5, 6, 7], [ONE], id="one tile"),
        pytest.param([tiny.IMAGE, 5, 6, 7], [FOUR], id="several tiles"),
        pytest.param([tiny.IMAGE, 5, 6, tiny.IMAGE, 7, 8], [FOUR, ONE], id="two pictures"),
        pytest.param([9, tiny.IMAGE, tiny.IMAGE, 7, 8], [TWO, ONE], id="side by side"),
        pytest.param([9, 10, 11, tiny.IMAGE, 7], [TWO], id="text before"),
        pytest.param([5, 6, 7, 8], [], id="text only"),
    ],
)
def test_logits(
    model: Model,
    expected: tiny.MllamaForConditionalGeneration,
    ids: list[int],
    sizes: list[tuple[int, int]],
) -> None:
    pictures = [tiny.picture(*size, seed=seed) for seed, size in enumerate(sizes)]
    tiles = {tile.digest: tile for picture in pictures for tile in model._tiles_of(picture)}
    encode = lambda digest: model.session.encode_image(*tiles[digest].arrays)  # noqa: E731
    conversation = Conversation(model.session, picture=tiny.IMAGE)
    after = [12, 13]
    with torch.no_grad():
        logits = expected(**tiny.inputs([*ids, *after], pictures)).logits[0].numpy()
    found, _ = conversation.prefill(keys(model, ids, pictures), encode)
    FLOAT32.check(found, logits[len(ids) - 1])
    for number, id in enumerate(after):
        FLOAT32.check(conversation.decode(id), logits[len(ids) + number])


def test_generated_tokens(model: Model, expected: tiny.MllamaForConditionalGeneration) -> None:
    """Turns of two conversations in turn, as `generate` answers them."""
    first, second = tiny.picture(*FOUR, seed=1), tiny.picture(*ONE, seed=2)
    asked = {"role": "user", "content": [first, "What is this?"]}
    other = {"role": "user", "content": ["Which ", first, second, " is red?"]}
    answered = model.chat([asked], max_tokens=6)
    more = [
        asked,
        {"role": "assistant", "content": answered.text},
        {"role": "user", "content": ["And this?", second]},
    ]
    for messages, pictures in (
        ([asked], [first]),
        ([other], [first, second]),
        (more, [first, second]),
        ([asked], [first]),
        ([{"role": "user", "content": "Hello"}], []),
    ):
        stream = model.stream(messages, max_tokens=6)
        stream.finish()
        generation = stream._production._generation
        given = [tiny.IMAGE if isinstance(key, tuple) else key for key in generation._keys]
        with torch.no_grad():
            whole = expected.generate(
                **tiny.inputs(given, pictures), max_new_tokens=6, do_sample=False
            )[0]
        assert generation.tokens == whole[len(given) :].tolist()[: len(generation.tokens)]
        assert len(generation.tokens) == 6 or generation.finish_reason == "stop"
        kept = keep_cache(model)  # the next turn continues what was taken out and put back
        assert kept is not None
        put_cache(model, kept)


def test_a_rewound_conversation_sees_its_pictures_again(model: Model) -> None:
    """The state shows the last picture; a question about the first one is asked again."""
    first, second = tiny.picture(*TWO, seed=3), tiny.picture(*ONE, seed=4)
    asked: Turn = {"role": "user", "content": [first, "What is this?"]}
    said: Turn = {"role": "assistant", "content": "Noise."}
    again = [asked, said, {"role": "user", "content": "And the colour?"}]
    other = [asked, said, {"role": "user", "content": [second, "And this?"]}]
    conversation = model.conversations.latest
    before = model.chat(again, max_tokens=5).text
    model.chat(other, max_tokens=5)
    assert model.conversations.latest is conversation
    assert model.chat(again, max_tokens=5).text == before


def test_pictures_side_by_side_have_a_limit(model: Model) -> None:
    pictures = [tiny.picture(*FOUR, seed=seed) for seed in range(5)]
    with pytest.raises(InputError, match="at most 272; write text between"):
        model.chat([{"role": "user", "content": [*pictures, "Which?"]}], max_tokens=1)
    assert model.chat("Hello", max_tokens=1)


def test_verify_holds(bundle: Path, checkpoint: Path) -> None:
    stages = verify(bundle, checkpoint, [np.asarray(tiny.picture(*TWO))])
    names = ["weights", "pixels", "encode_image", "embed", "logits", "end_to_end"]
    assert [stage.stage for stage in stages] == names
    assert all(stage.ok for stage in stages)
    assert min(stage.snr_db for stage in stages) > 100


@pytest.mark.large
@pytest.mark.parametrize(
    ("scheme", "kv_cache", "is_tied"),
    [("w4a8", None, False), ("w8a8", "int8", True), ("f32", None, True)],
)
def test_verify_holds_of_other_bundles(
    checkpoint: Path,
    expected: object,
    tmp_path: Path,
    scheme: str,
    kv_cache: str | None,
    is_tied: bool,
) -> None:
    """Integers, and the embedding as the head: its rows after the vocabulary have no logits."""
    folder, config = tmp_path / "checkpoint", json.loads((checkpoint / "config.json").read_text())
    folder.mkdir()
    config["text_config"]["tie_word_embeddings"] = is_tied
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    tensors = all_tensors(checkpoint)
    if is_tied:
        del tensors["language_model.lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    compile_model(folder, tmp_path / "b", quantization=scheme, context=128, kv_cache=kv_cache)
    stages = verify(tmp_path / "b", folder, [np.asarray(tiny.picture(*FOUR))])
    assert all(stage.ok for stage in stages), stages


def all_tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    shards = [load_file(shard) for shard in sorted(checkpoint.glob("*.safetensors"))]
    assert len(shards) > 1
    return {name: array for shard in shards for name, array in shard.items()}


def test_names_of_either_layout(checkpoint: Path, expected: object, tmp_path: Path) -> None:
    """transformers can write its own names of tensors, and those of the release."""
    tensors = all_tensors(checkpoint)
    back = {theirs: ours for ours, theirs in RENAMES.items()}
    renamed = {
        next(back[p] + name.removeprefix(p) for p in back if name.startswith(p)): array
        for name, array in tensors.items()
    }
    assert "model.language_model.layers.1.cross_attn.q_norm.weight" in renamed
    save_file(renamed, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    plan = plan_model(tmp_path, quantization="f32").model
    assert plan.tensors_checked and plan.parameters == sum(t.size for t in tensors.values())


def changed(section: str, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(MLLAMA))
    config[section] |= changes
    return config


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed("text_config", cross_attention_layers=[3, 40]), "layers from 0 to 39"),
        (changed("text_config", cross_attention_layers=[8, 3]), "ascending"),
        (changed("text_config", cross_attention_layers=[0]), "not the first"),
        (changed("text_config", rope_theta=None), "rope_theta is missing"),
        (changed("vision_config", intermediate_layers_indices="3"), "a list of layers"),
        (changed("vision_config", supported_aspect_ratios=[[1, 1]]), "supported_aspect_ratios"),
        (changed("vision_config", vision_output_dim=1280), "only 7680 is supported"),
        (changed("vision_config", max_num_tiles=17), "at most 16"),
        (MLLAMA | {"image_token_index": 5}, "only 128256 is supported"),
    ],
)
def test_what_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_config(config)


def test_commands(bundle: Path, model: Model, tmp_path: Path, handglass: Any) -> None:
    """`handglass run` about two pictures, and `handglass bench`."""
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, file in enumerate(files):
        tiny.picture(*SIZES[number], seed=number).save(file)
    shown = [flag for file in files for flag in ("--image", file)]
    flags = ("-p", "Which is red?", "--temp", 0, "-n", 6, "--json")
    asked = handglass("run", "-m", bundle, *shown, *flags)
    expected = model.chat("Which is red?", files, temp=0, max_tokens=6)
    assert asked.json["tokens"] == list(expected.tokens)
    assert asked.json["text"] == expected.text
    steps = Steps(Session(Bundle.open(bundle)))
    steps.prepare()
    assert steps.picture_rows() == 1 and steps.first_token([1, 2, 3]) > 0


@pytest.mark.parametrize("tiles", [0, 17])
def test_a_number_of_tiles_has_bounds(tiles: int) -> None:
    entry = replace(tiny.vision_entry(), slicing=MethodEntry(TILED, {"max_tiles": tiles}))
    with pytest.raises(InputError, match="max_tiles"):
        Preprocessor(entry)


@pytest.mark.parametrize(
    ("template", "is_trimmed"),
    [
        ("{{ message['content'] | trim + '<|eot_id|>' }}", True),
        ("{%- set system_message = messages[0]['content']|trim %}{{ message.content }}", False),
        ("", False),
    ],
)
def test_the_template_says_whether_texts_are_trimmed(template: str, is_trimmed: bool) -> None:
    family, config = read_config(MLLAMA)
    prompt = family.prompt(config, TemplateFile(template))
    assert (prompt.is_trimmed, prompt.picture, prompt.joint) == (is_trimmed, "<|image|>", "")


def test_a_gpu_is_refused(checkpoint: Path, expected: object) -> None:
    with pytest.raises(UsageError, match="no GPU kernels yet"):
        plan_model(checkpoint, target="vulkan")


def test_pixels() -> None:
    """The tiles of the reference, bit by bit, whatever the shape of the picture."""
    pictures = Preprocessor(tiny.vision_entry())
    for number, size in enumerate(tiny.SIZES):
        picture = tiny.picture(*size, seed=number)
        made = tiny.processor()([[picture]], return_tensors="np")
        (tile,) = pictures.tiles(picture)
        ids, row = np.divmod(tile.position_ids, 24)
        arrangement, place = np.divmod(ids, tiny.TILES)
        assert set(arrangement + 1) == {int(made["aspect_ratio_ids"][0, 0])}
        strip = tile.strip.reshape(3, 7, -1, 7)
        for number, expected in enumerate(made["pixel_values"][0, 0]):
            own = np.flatnonzero((place == number) & (row > 0) & (row < 17))
            found = strip[:, :, own].reshape(3, 7, 4, 4, 7).transpose(0, 2, 1, 3, 4)
            np.testing.assert_array_equal(found.reshape(3, 28, 28), expected)
