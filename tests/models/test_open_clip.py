"""Folders of OpenCLIP: the same model as that of transformers, read from another layout."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dual_checkpoints import TEXTS, Made
from open_clip_folders import SIDE, saved
from PIL import Image
from tolerance import FLOAT32

from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models import read_config
from handglass.compiler.packing.describe import Inputs, read_inputs
from handglass.compiler.verify import verify
from handglass.errors import InputError
from handglass.runtime.prompt.preprocess import Preprocessor
from handglass.runtime.search.encoder import Encoder, unit

SIZES = ((35, 35), (64, 47), (33, 90), (201, 36), (7, 9))
MEAN, STD = (0.5, 0.4, 0.3), 0.25


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("open-clip")


@pytest.fixture(scope="module")
def made(root: Path) -> Made:
    (root / "folder").mkdir()
    return saved(root / "folder")


def inputs_of(folder: Path) -> Inputs:
    checkpoint = open_checkpoint(folder)
    return read_inputs(checkpoint, *read_config(checkpoint.config))


def noise(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(size)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def copied(root: Path, to: Path, **changes: Any) -> Path:
    """The folder with another configuration: section -> keys of it."""
    shutil.copytree(root / "folder", to, ignore=shutil.ignore_patterns("theirs"))
    path = to / "open_clip_config.json"
    content = json.loads(path.read_text("utf-8"))
    for name, values in changes.items():
        section = content if name == "preprocess_cfg" else content["model_cfg"]
        if isinstance(values, dict) and isinstance(section.get(name), dict):
            values = {**section[name], **values}
        section[name] = values
    path.write_text(json.dumps(content), "utf-8")
    return to


def test_it_is_the_same_model(made: Made, root: Path) -> None:
    ours, theirs = (open_checkpoint(root / name) for name in ("folder", "folder/theirs"))
    assert read_config(ours.config)[1] == read_config(theirs.config)[1]
    for name, tensor in made.model.state_dict().items():
        if not name.endswith("position_ids"):
            expected = tensor.numpy()
            np.testing.assert_array_equal(ours.read(name, expected.shape), expected, name)
    ours.finish()


def test_rows_of_parts_and_of_columns(made: Made, root: Path) -> None:
    ours, state = open_checkpoint(root / "folder"), made.model.state_dict()
    for name in ("text_projection.weight", "vision_model.encoder.layers.1.self_attn.k_proj.weight"):
        np.testing.assert_array_equal(ours.read_rows(name, 3, 9), state[name][3:9].numpy())


def test_a_text_tower_of_its_own_name(root: Path, tmp_path: Path) -> None:
    made = saved(tmp_path, "text.")
    checkpoint, name = open_checkpoint(tmp_path), "text_model.final_layer_norm.bias"
    expected = made.model.state_dict()[name].numpy()
    np.testing.assert_array_equal(checkpoint.read(name, expected.shape), expected)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("kind", ["bicubic", "bilinear"])
def test_pixels(mode: str, kind: str, made: Made, root: Path, tmp_path: Path) -> None:
    """Those of torchvision's Resize, CenterCrop, ToTensor and Normalize, written down again."""
    given = {"resize_mode": mode, "interpolation": kind}
    vision = inputs_of(copied(root, tmp_path / "copy", preprocess_cfg=given)).vision
    assert vision is not None
    for size in SIZES:
        (tile,) = Preprocessor(vision).tiles(noise(size))
        scaled = torch.from_numpy(cut(noise(size), mode, Image.Resampling[kind.upper()]))
        tensor = scaled.permute(2, 0, 1).float().div(255)
        expected = (tensor - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)
        p, side = vision.patch_size, SIDE // vision.patch_size
        strip = tile.strip.reshape(3, p, side, side, p).transpose(0, 2, 1, 3, 4)
        np.testing.assert_array_equal(strip.reshape(3, SIDE, SIDE), expected.numpy())


def cut(image: Image.Image, mode: str, method: Any) -> np.ndarray:
    if mode == "squash":
        return np.array(image.resize((SIDE, SIDE), method))
    short, long = min(image.size), max(image.size)
    other = int(SIDE * long / short)
    width, height = (SIDE, other) if image.size[0] == short else (other, SIDE)
    left, top = round((width - SIDE) / 2.0), round((height - SIDE) / 2.0)
    return np.array(image.resize((width, height), method))[top : top + SIDE, left : left + SIDE]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "resnet": ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, "ResNet"),
    "timm": ({"vision_cfg": {"timm_model_name": "vit_tiny"}}, "timm_model_name is 'vit_tiny'"),
    "hf": ({"text_cfg": {"hf_model_name": "roberta"}}, "hf_model_name is 'roberta'"),
    "coca": ({"multimodal_cfg": {}}, "CoCa"),
    "siglip": ({"init_logit_bias": -10}, "init_logit_bias"),
    "pool": ({"vision_cfg": {"pool_type": "avg"}}, "pool_type"),
    "unknown": ({"text_cfg": {"rotary": True}}, "'rotary' is unknown"),
    "unknown norm": ({"text_cfg": {"norm_kwargs": {"eps": 1e-5, "x": 1}}}, "'x' is unknown"),
    "head": ({"vision_cfg": {"head_width": 24}}, "not a multiple of head_width"),
    "oblong": ({"vision_cfg": {"image_size": [35, 42]}}, "only squares"),
    "width": ({"embed_dim": 41}, "visual_projection.weight"),
    "filter": ({"preprocess_cfg": {"interpolation": "box"}}, "interpolation is 'box'"),
    "mode": ({"preprocess_cfg": {"resize_mode": "longest"}}, "resize_mode is 'longest'"),
    "size": ({"preprocess_cfg": {"size": 49}}, "image_size 35"),
    "list": ({"vision_cfg": []}, "expected an object"),
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_not_supported_is_refused(
    change: str, made: Made, root: Path, tmp_path: Path
) -> None:
    changes, message = REFUSED[change]
    folder = copied(root, tmp_path / "copy", **changes)
    with pytest.raises(InputError, match=message):
        compile_model(folder, tmp_path / "bundle")


def test_whose_weights_a_folder_has(made: Made, root: Path, tmp_path: Path) -> None:
    """Folders with both layouts are opened as transformers does it."""
    folder = copied(root, tmp_path / "both")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(root / "folder" / "theirs" / name, folder / name)
    assert "text_config" in open_checkpoint(folder).config
    assert open_checkpoint(folder).preprocessor() is None
    (folder / "model.safetensors").unlink()
    assert open_checkpoint(folder).preprocessor() is not None


def test_a_pickle_is_opened_if_that_is_asked_for(made: Made, root: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = copied(root, tmp_path / "pickled")
    tensors = load_file(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match="no open_clip_model.safetensors"):
        open_checkpoint(folder)
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match="'open_clip_model.safetensors'\\), or pass --allow"):
        open_checkpoint(folder)
    name = "logit_scale"
    assert open_checkpoint(folder, allow_pickle=True).read(name, ()) == tensors[name].numpy()


def package() -> Any:
    """OpenCLIP itself, where it can be imported: it needs a torchvision of the same torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import open_clip
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"OpenCLIP cannot be imported: {error}")
    return open_clip


@pytest.mark.large
@pytest.mark.compiler
@pytest.mark.parametrize("quick", [True, False])
def test_rows_are_those_of_the_package(quick: bool, made: Made, root: Path, tmp_path: Path) -> None:
    """Pixels and rows, with either activation; skipped where the package is missing."""
    folder = copied(root, tmp_path / "copy", quick_gelu=quick)
    compile_model(folder, tmp_path / "bundle", quantization="f32")
    assert all(stage.ok for stage in verify(tmp_path / "bundle", folder))
    encoder, rows_of = Encoder.load(tmp_path / "bundle"), reference(made, folder, quick)
    with torch.no_grad():
        for size in SIZES:
            row = unit(rows_of[0](noise(size))[0].numpy())
            FLOAT32.check(encoder.picture(noise(size)), row)
        for text in TEXTS:
            FLOAT32.check(encoder.text(text), unit(rows_of[1](made.ids(text))[0].numpy()))


def reference(made: Made, folder: Path, quick: bool) -> tuple[Any, Any]:
    """From a picture, and from ids, to a row."""
    open_clip = package()
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from safetensors.torch import load_file

    content = json.loads((folder / "open_clip_config.json").read_text("utf-8"))
    model = open_clip.model.CLIP(**content["model_cfg"]).eval()
    model.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    given = {**content["preprocess_cfg"], "size": SIDE}
    transform = image_transform_v2(PreprocessCfg(**given), is_train=False)
    return lambda image: model.encode_image(transform(image)[None]), model.encode_text
