"""MiniCPM-V 4.6 and 4.7 from two GGUF files: the model of the folder that they come from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_files import small_file
from merged_mmproj_files import converted, merged_tensors, write_merged
from released46 import Reference, write_checkpoint
from safetensors.numpy import load_file, save_file
from test_gguf import ROUNDED, in_one

import handglass
from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models import read_config
from handglass.compiler.plan import plan_model
from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
from handglass.compiler.verify import verify
from handglass.errors import InputError

KERNEL = "model.vision_tower.embeddings.patch_embedding.weight"
RELEASES: dict[str, tuple[Any, ...]] = {
    "4.6": ("16x", "4.6"),
    "4.6-4x": ("4x", "4.6"),
    "4.7": ("16x", "4.7", False),
    "4.7-tied": ("16x", "4.7", True),
    "4.7-experts": ("16x", "4.7", False, True),
}


def write(folder: Path, release: str) -> Reference:
    """A folder whose values a GGUF file can have: kernels are float16 there."""
    model = write_checkpoint(folder, *RELEASES[release])
    tensors = load_file(folder / "model.safetensors")
    tensors[KERNEL] = tensors[KERNEL].astype(np.float16).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    kernel = model.get_parameter(KERNEL)
    kernel.data = kernel.data.half().float()
    return Reference(model)


@pytest.mark.parametrize("release", RELEASES)
def test_tensors_and_configuration_are_those_of_the_folder(release: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    write(folder, release)
    text, mmproj = converted(folder)
    ours, exact = open_checkpoint(text, mmproj=mmproj), open_checkpoint(folder)
    (one, first), (two, second) = (read_config(c.config) for c in (ours, exact))
    assert one is two and vars(first) | {"language": ()} == vars(second) | {"language": ()}
    for name, value in vars(second.language).items():
        if name not in ("bos_token_id", "eos_token_ids"):  # by the tokenizer
            assert getattr(first.language, name) == value, name
    assert one.prompt(first, ours.template()) == two.prompt(second, exact.template())
    for name, array in in_one(load_file(folder / "model.safetensors")).items():
        if name in ours:
            error = np.abs(ours.read(name, array.shape) - array).max()
            assert error < 4e-7 if name.endswith(ROUNDED) else not error, name
        else:
            assert "vit_merger" in name if release.endswith("4x") else name == "lm_head.weight"
    ours.finish()


@pytest.mark.large
@pytest.mark.parametrize("release", RELEASES)
def test_answer(release: str, tmp_path: Path) -> None:
    """From two files, against transformers."""
    reference = write(tmp_path / "checkpoint", release)
    text, mmproj = converted(tmp_path / "checkpoint")
    assert plan_model(text, mmproj=mmproj).picture is not None
    bundle = tmp_path / "bundle"
    compile_model(text, bundle, mmproj=mmproj, quantization="f32", context=2048)
    reference.check(handglass.load(bundle), "split")
    assert all(stage.ok for stage in verify(bundle, text, mmproj=mmproj))


def test_kernels_to_tune(folder: Path) -> None:
    """Those of the tower too, if its file is given."""
    text, mmproj = converted(folder)
    found = read_tuning_input(text, CompileOptions("host", "f32", mmproj=mmproj))
    assert {part.function for part in found.parts} == {"encode_image", "prefill", "decode"}
    assert any("window_attention" in name.name_hint for name in found.mod.get_global_vars())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "checkpoint"
    write(folder, "4.6")
    return folder


@pytest.mark.parametrize(("kind", "error"), [("F16", 1e-3), ("Q8_0", 8e-3)])
def test_other_types(kind: str, error: float, folder: Path) -> None:
    text, mmproj = converted(folder, kind=kind)
    ours = open_checkpoint(text, mmproj=mmproj)
    for name, array in load_file(folder / "model.safetensors").items():
        if name.startswith("model.vision_tower."):
            read = ours.read(name, array.shape)
            assert np.abs(read - array).max() <= error * np.abs(array).max(), name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"projector_type": "minicpmv5"}, "projector_type is 'minicpmv5', .* minicpmv4_7"),
        ({"projector_type": 4}, "projector_type is 4"),
        ({"vision.projector.scale_factor": 3}, r"scale_factor is 3; known: 4 \(16x\), 2 \(4x\)"),
        ({"vision.projector.scale_factor": None}, "scale_factor is None"),
        ({"vision.wa_layer_indexes": [1, 2]}, r"wa_layer_indexes is \[1, 2\]; must be one layer"),
        ({"vision.wa_layer_indexes": 1}, "wa_layer_indexes is 1; must be one layer"),
        ({"vision.wa_layer_indexes": [3]}, "insert_layer_id is 3, but the vision tower has 3"),
        ({"vision.wa_layer_indexes": [-1]}, "insert_layer_id is -1"),
        ({"vision.block_count": 2}, "not part of the model"),
    ],
)
def test_refused(changes: dict[str, Any], reason: str, folder: Path) -> None:
    text, mmproj = converted(folder, **changes)
    with pytest.raises(InputError, match=reason):
        plan_model(text, mmproj=mmproj)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("vision.max_slice_nums", 36, "max_slice_nums is 36, but only 9"),
        ("vision.image_size", 336, "scale_resolution is 336, but only 448"),
        ("vision.image_std", [0.25, 0.5, 0.5], "image_std is .0.25"),
    ],
)
def test_other_pictures_are_refused(key: str, value: Any, reason: str, folder: Path) -> None:
    text, mmproj = converted(folder, **{key: value})
    with pytest.raises(InputError, match=rf"mmproj.gguf: {reason}"):
        compile_model(text, folder.parent / "bundle", mmproj=mmproj, quantization="f32")


@pytest.mark.parametrize(
    "missing",
    [
        *("v.position_embd.weight", "v.vit_merger.ln1.bias"),
        *("v.vit_merger.ds_ffn_up.weight", "mm.up.bias"),
    ],
)
def test_a_missing_tensor(missing: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    tensors = merged_tensors(load_file(folder / "model.safetensors"), "16x")
    del tensors[missing]
    text, _ = converted(folder)
    with pytest.raises(InputError, match="missing"):
        plan_model(text, mmproj=write_merged(folder.parent / "less.gguf", config, tensors))


def test_beside_another_language_model(folder: Path, tmp_path: Path) -> None:
    _, mmproj = converted(folder)
    with pytest.raises(InputError, match="belongs beside a file of Qwen3.5, not of Llama"):
        open_checkpoint(small_file(tmp_path / "a.gguf"), mmproj=mmproj)
