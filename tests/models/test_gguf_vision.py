"""MiniCPM-V from two GGUF files: the same model as the folder that they were converted from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_files import small_file
from mmproj_files import vision_tensors, write_mmproj, write_text
from released import Release, write_release
from safetensors.numpy import load_file, save_file

import handglass
from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models import read_config
from handglass.compiler.models.matching import build_for
from handglass.compiler.models.storage import choose_storage
from handglass.compiler.packing.pack import entries, pack_parameters
from handglass.compiler.plan import plan_model
from handglass.compiler.verify import verify
from handglass.errors import InputError, UsageError
from handglass.schedules.select import ANY_CPU

RELEASES = [
    ("2.5", "MiniCPMV"),
    ("2.6", "MiniCPMV"),
    ("2.6", "MiniCPMO"),
    ("4.0", "MiniCPMV"),
    ("4.5", "MiniCPMO"),
]
KERNEL = "vpm.embeddings.patch_embedding.weight"


def rounded(values: list[float]) -> list[float]:
    return [float(np.float32(value)) for value in values]


def write(folder: Path, version: str, architecture: str = "MiniCPMV") -> Release:
    """A folder whose values a GGUF file can have: kernels are float16 there, lists float32."""
    release = write_release(folder, version, architecture)
    tensors = load_file(folder / "model.safetensors")
    tensors[KERNEL] = tensors[KERNEL].astype(np.float16).astype(np.float32)
    release.weights[KERNEL] = torch.from_numpy(tensors[KERNEL])
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    rope = config.get("rope_scaling") or {}
    rope |= {k: rounded(v) for k, v in rope.items() if k.endswith("_factor")}
    (folder / "config.json").write_text(json.dumps(config))
    return release


def convert(folder: Path, mlp: str = "old", **changes: Any) -> tuple[Path, Path]:
    """The files of the language model and of the vision tower."""
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    data = (folder / "tokenizer.json").read_bytes()
    text = write_text(folder.with_suffix(".gguf"), config, tensors, data)
    mmproj = folder.parent / "mmproj.gguf"
    return text, write_mmproj(mmproj, config, vision_tensors(tensors, mlp), **changes)


def parameters(checkpoint: Checkpoint, folder: Path) -> list[bytes]:
    """The parameter files of a bundle."""
    folder.mkdir()
    family, config = read_config(checkpoint.config)
    storage = choose_storage(config.language, ANY_CPU, "w4a8", None, 256, None)
    network = build_for(checkpoint, family, config, storage)
    params = entries(list(network.named_parameters()))
    names = pack_parameters(network, checkpoint, params, folder, None)
    return [(folder / name).read_bytes() for name in names]


@pytest.mark.parametrize(("version", "architecture"), RELEASES)
def test_the_parameters_are_those_of_the_folder(
    version: str, architecture: str, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    write(folder, version, architecture)
    text, mmproj = convert(folder, "new" if version == "4.5" else "old")
    ours, exact = open_checkpoint(text, mmproj=mmproj), open_checkpoint(folder)
    for config in (ours.config, exact.config):
        assert config["architectures"] == [architecture]
    (one, first), (two, second) = (read_config(c.config) for c in (ours, exact))
    assert one is two
    assert first.vision == second.vision
    assert first.resampler == second.resampler
    assert (first.max_slices, first.has_image_ids) == (second.max_slices, second.has_image_ids)
    assert one.prompt(first, ours.template()) == two.prompt(second, exact.template())
    assert parameters(ours, tmp_path / "a") == parameters(exact, tmp_path / "b")
    ours.finish()


@pytest.mark.large
def test_answer(tmp_path: Path) -> None:
    """MiniCPM-V 4.5 from two files, against torch."""
    folder = tmp_path / "checkpoint"
    release = write(folder, "4.5")
    text, mmproj = convert(folder)
    assert plan_model(text, mmproj=mmproj).picture is not None
    assert plan_model(text).picture is None
    bundle = tmp_path / "bundle"
    compile_model(text, bundle, mmproj=mmproj, quantization="f32", context=1024)
    release.check(handglass.load(bundle), "sliced")
    assert all(stage.ok for stage in verify(bundle, text, mmproj=mmproj))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "checkpoint"
    write(folder, "2.6")
    return folder


@pytest.mark.parametrize(("kind", "error"), [("F16", 1e-3), ("BF16", 8e-3), ("Q8_0", 8e-3)])
def test_other_types(kind: str, error: float, folder: Path) -> None:
    text, mmproj = convert(folder, kind=kind)
    ours = open_checkpoint(text, mmproj=mmproj)
    for name, array in load_file(folder / "model.safetensors").items():
        read = ours.read(name, array.shape)
        assert np.abs(read - array).max() <= error * np.abs(array).max(), name


def test_rows(folder: Path) -> None:
    text, mmproj = convert(folder)
    ours, exact = open_checkpoint(text, mmproj=mmproj), open_checkpoint(folder)
    for name in ("resampler.attn.in_proj_weight", "resampler.attn.in_proj_bias", "resampler.proj"):
        count = exact.shape(name)[0]
        for start, stop in ((0, count), (100, count - 5), (3, 4), (7, 7)):
            rows = ours.read_rows(name, start, stop)
            assert (rows == exact.read_rows(name, start, stop)).all(), name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "llama"}, "general.architecture is 'llama'"),
        ({"projector_type": "mlp"}, "projector_type is 'mlp'"),
        ({"projector_type": None}, "projector_type is None"),
        ({"minicpmv_version": 1}, "minicpmv_version is 1"),
        ({"minicpmv_version": None}, "minicpmv_version is None"),
        ({"vision.image_mean": [0.25, 0.5, 0.5]}, "image_mean is [0.25"),
        ({"vision.patch_size": 0}, "patch_size is 0"),
        ({"vision.block_count": None}, "num_hidden_layers is missing"),
        ({"vision.block_count": 1 << 31}, "num_hidden_layers is 2147483648"),
        ({"vision.attention.head_count": 5}, "num_attention_heads (5)"),
        ({"vision.image_size": 451}, "image_size is 451"),
        ({"vision.embedding_length": 40}, "config.json and tensors differ"),
        ({"vision.block_count": 1}, "not part of the model"),
    ],
)
def test_refused(changes: dict[str, Any], reason: str, folder: Path) -> None:
    text, mmproj = convert(folder, **changes)
    with pytest.raises(InputError) as error:
        plan_model(text, mmproj=mmproj)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    "missing",
    ["v.position_embd.weight", "resampler.query", "resampler.proj.weight", "resampler.attn.k.bias",
     "v.blk.0.ffn_down.weight", "v.blk.1.ln2.bias"],
)  # fmt: skip
def test_a_missing_tensor(missing: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    tensors = vision_tensors(load_file(folder / "model.safetensors"))
    del tensors[missing]
    text, _ = convert(folder)
    mmproj = write_mmproj(folder.parent / "less.gguf", config, tensors)
    with pytest.raises(InputError, match="missing"):
        plan_model(text, mmproj=mmproj)


def test_parts_of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    tensors = vision_tensors(load_file(folder / "model.safetensors"))
    tensors["resampler.attn.k.weight"] = np.ones((128, 64), np.float32)
    text, _ = convert(folder)
    mmproj = write_mmproj(folder.parent / "other.gguf", config, tensors)
    with pytest.raises(InputError, match=r"resampler.attn.k.weight, .* \(128, 64\) and"):
        open_checkpoint(text, mmproj=mmproj)


def test_files_in_other_places(folder: Path, tmp_path: Path) -> None:
    text, mmproj = convert(folder)
    with pytest.raises(UsageError, match="--mmproj"):
        open_checkpoint(folder, mmproj=mmproj)
    with pytest.raises(InputError, match="'clip': .* pass it with --mmproj"):
        open_checkpoint(mmproj)
    with pytest.raises(InputError, match="general.architecture is 'llama'"):
        open_checkpoint(text, mmproj=small_file(tmp_path / "a.gguf"))
    with pytest.raises(InputError, match="No such file"):
        open_checkpoint(text, mmproj=tmp_path / "none.gguf")
