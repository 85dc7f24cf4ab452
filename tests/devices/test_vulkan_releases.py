"""The releases 2.6, 4.0 and 4.5 on a Vulkan device: biases of q, k and v, scaled rotations, norms
of heads. The tokens are those of torch.

Part of `make test-vulkan`; skipped where there is no device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from released import Release, write_release
from vulkan_running import needs_vulkan

import handglass
from handglass.compiler.build import compile_model

pytestmark = [pytest.mark.vulkan, pytest.mark.compiler, pytest.mark.slow, needs_vulkan]


@pytest.fixture(scope="module", params=["2.6", "4.0", "4.5"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Release, Any]:
    folder = tmp_path_factory.mktemp("release")
    release = write_release(folder / "checkpoint", request.param)
    options: dict[str, Any] = {"quantization": "f32", "context": 1024, "target": "vulkan"}
    compile_model(folder / "checkpoint", folder / "bundle", **options)
    return release, handglass.load(Path(folder, "bundle"))


@pytest.mark.parametrize("name", ["none", "whole", "sliced"])
def test_answer(both: tuple[Release, Any], name: str) -> None:
    release, model = both
    release.check(model, name, 32)
