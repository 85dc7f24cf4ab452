"""Each KV cache type: tensors of the manifest, `verify`, answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_models import ODD_MODELS, write_checkpoint
from questions import held_out
from scenes import draw

pytest.importorskip("tvm", reason="compiles with the TVM compiler")


from handglass.compiler.build import compile_model
from handglass.compiler.schemes.kv_cache import CACHE_TYPES
from handglass.compiler.verify import verify
from handglass.runtime.answer.model import Model
from handglass.runtime.bundle.reader import Bundle

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

DEMO = Path(__file__).parents[2] / "examples" / "demo-checkpoint"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Cache type -> the demo model in float32, compiled by the first test that asks."""
    folder = tmp_path_factory.mktemp("bundles")

    def bundle(name: str) -> Path:
        if not (folder / name).exists():
            options: dict[str, Any] = {"quantization": "f32", "context": 400, "kv_cache": name}
            compile_model(DEMO, folder / name, **options)
        return folder / name

    return bundle


@pytest.mark.large
@pytest.mark.parametrize("name", CACHE_TYPES)
def test_the_manifest_lists_what_is_kept(compiled: Callable[[str], Path], name: str) -> None:
    tensors = Bundle.open(compiled(name)).manifest.state.tensors
    if name != "int8":
        assert {tensor.dtype for tensor in tensors} == {{"f32": "float32", "f16": "float16"}[name]}
        return
    first = [(t.name, t.shape[1], t.dtype) for t in tensors[:4]]
    assert first == [
        ("layers.0.k_cache", 25, "int8"),
        ("layers.0.v_cache", 400, "int8"),
        ("layers.0.k_scale", 25, "float32"),
        ("layers.0.v_scale", 25, "float32"),
    ]


@pytest.mark.large
def test_answers_do_not_change(compiled: Callable[[str], Path]) -> None:
    exact, kept = Model.load(compiled("f32")), Model.load(compiled("int8"))
    for item in held_out(12, seed=3):
        pictures = [draw(scene, 224) for scene in item.scenes]
        answers = [model.chat(item.question, pictures, temp=0) for model in (exact, kept)]
        assert answers[0].tokens == answers[1].tokens, item.question


@pytest.mark.large
@pytest.mark.parametrize("name", CACHE_TYPES)
def test_verify_holds(compiled: Callable[[str], Path], name: str) -> None:
    stages = {stage.stage: stage for stage in verify(compiled(name), DEMO)}
    assert [stage.stage for stage in stages.values() if not stage.ok] == []
    assert stages["logits"].floor_db == min(80.0, CACHE_TYPES[name].floor_db)


@pytest.mark.large
@pytest.mark.parametrize("name", ODD_MODELS)
def test_decoding_continues_what_prefill_has_written(name: str, tmp_path: Path) -> None:
    """Prefill and decode over a cache with old contents give the logits of a single prefill."""
    checkpoint = write_checkpoint(tmp_path / "c", ODD_MODELS[name], "float32")
    bundle = tmp_path / "bundle"
    compile_model(checkpoint, bundle, quantization="f32", context=100, kv_cache="int8")
    session, ids = Model.load(bundle).session, [1, 44, 17, 301, 8, 99, 5, 6, 7]
    whole = session.prefill(session.embed(ids), 0)
    session.prefill(session.embed([3] * 60), 0)
    session.prefill(session.embed(ids[:3]), 0)
    for pos in range(3, len(ids)):
        last = session.decode(ids[pos], pos)
    noise = np.square(last - whole).sum() / np.square(whole).sum()
    assert noise < 10**-4.5  # a value between two codes may round either way
