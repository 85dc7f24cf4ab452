"""An output head that is stored otherwise than the rest of the language model."""

from dataclasses import replace
from pathlib import Path

import pytest
from published import PUBLISHED
from test_plan import write_config
from test_text_only import KINDS, write

from handglass.compiler.build import compile_model
from handglass.compiler.plan import plan_model
from handglass.compiler.verify import verify
from handglass.errors import UsageError
from handglass.runtime.bundle.reader import Bundle

pytestmark = pytest.mark.compiler


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.large)])
def test_verify_holds(tied: bool, tmp_path: Path) -> None:
    """Also of an embedding that is the head."""
    kind = next(kind for kind in KINDS if kind.options.get("tie_word_embeddings", False) == tied)
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    write(checkpoint, kind)
    compile_model(checkpoint, bundle, quantization="f32", head_quantization="w8a8")
    manifest = Bundle.open(bundle).manifest
    assert manifest.scheme == {"language": "f32", "head": "w8a8"}
    stages = {stage.stage: stage for stage in verify(bundle, checkpoint)}
    assert all(stage.ok and not stage.is_lossy for stage in stages.values())
    assert stages["logits"].snr_db < 60
    assert (stages["embed"].snr_db < 60) == tied


@pytest.mark.parametrize("name", ["MiniCPM-V 4.5", "MiniCPM-V 4.6"])
def test_the_plan_counts_its_bytes(name: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path, PUBLISHED[name])
    plain, same = (plan_model(folder, head_quantization=head) for head in (None, "w4a8"))
    assert replace(plain, disk=same.disk) == same  # others may use the disk meanwhile
    assert plain.disk.bundle == same.disk.bundle
    eight = plan_model(folder, head_quantization="w8a8")
    text = PUBLISHED[name].get("text_config", PUBLISHED[name])
    weights = text["vocab_size"] * text["hidden_size"]
    # one byte instead of a half and two bytes for 32
    assert eight.disk.bundle - plain.disk.bundle == pytest.approx(weights * (1 - 0.5625), rel=0.01)


def test_an_unknown_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'w3'"):
        plan_model(write_config(tmp_path, PUBLISHED["Qwen3-8B"]), head_quantization="w3")
