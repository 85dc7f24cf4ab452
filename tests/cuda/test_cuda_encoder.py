"""The demo dual encoder on the emulated CUDA device: the rows are those of the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="compiles a model")
from emulated_driver import ptx_of
from encoder_rows import CHECKPOINT, check_rows, rows_of

from handglass.compiler.build import compile_model
from handglass.targets.codegen.cuda import build

pytestmark = [
    *(pytest.mark.compiler, pytest.mark.slow, pytest.mark.cuda),
    pytest.mark.usefixtures("emulated", "any_nvrtc"),
]
PICTURES = 2


@pytest.mark.parametrize("scheme", ["f32", pytest.param("f16", marks=pytest.mark.large)])
def test_rows(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDGLASS_TRUST_DRIVER", "1")  # known answers have tests of their own
    monkeypatch.setattr(build, "images_of", ptx_of)
    rows = []
    for target, device in (("host", None), ("rtx-30", "cuda:0")):
        compile_model(CHECKPOINT, tmp_path / target, target=target, quantization=scheme)
        rows.append(rows_of(tmp_path / target, device, PICTURES))
    check_rows(rows[1], rows[0], scheme)
