"""The releases 2.6, 4.0 and 4.5 on a Vulkan device: biases of q, k and v, scaled rotations, norms
of heads. The tokens are those of torch.

Part of `make test-vulkan`; skipped where there is no device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import torch
from released import Release, write_release
from test_releases import QUESTION, pictures
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
    shown = pictures(name)
    tiles = [model.prepare(picture).tiles for picture in shown]
    content = [*shown, QUESTION] if shown else QUESTION
    answer = model.chat(
        [{"role": "user", "content": content}], temp=0, repeat_penalty=1, max_tokens=32
    )
    blocks = [release.block(n, [t.role for t in ts]) for n, ts in enumerate(tiles)]
    text = release.prompt(QUESTION, blocks)
    ids = release.library.encode(text).ids
    rows = torch.cat([torch.zeros(0, 128), *(release.tile_rows(t) for ts in tiles for t in ts)])
    tokens = list(answer.tokens)
    truth = release.logits([*ids, *tokens], rows, len(ids))
    assert len(tokens) == 32 or answer.finish_reason == "stop"
    assert tokens == [int(row.argmax()) for row in truth[: len(tokens)]]
