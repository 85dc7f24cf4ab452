"""The demo dual encoder on other devices: the rows of pictures and texts are those of this CPU.

Parts of `make test-vulkan` and `make test-arm`; skipped elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from arm_device import Board, bring
from arm_tree import Tree
from encoder_rows import CHECKPOINT, LEAST, SCENES, check_rows, rows_of
from scenes import draw

from handglass.compiler.build import compile_model
from handglass.targets import known_targets

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

SCORES = [("f32", None, 1e-2), ("w8a8", "f32", 3e-2), ("w8a8", None, 0.3)]
"""Differences of scores, which are up to 20 times those of cosines, by scheme and arithmetic of
attention. Measured in w8a8, beside AVX2: 5e-7 with attention in float32, but a sum in another order
may round an activation to another number; without, 0.17: keys and queries are bytes there, words
here."""
Compiled = Callable[..., Path]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("bundles")

    @cache
    def compiled(target: str, scheme: str, attention: str | None = None) -> Path:
        path, runtime = folder / f"{target}-{scheme}-{attention}", target == "host"
        options: dict[str, Any] = {"quantization": scheme, "bundle_runtime": runtime}
        compile_model(CHECKPOINT, path, target=target, attention=attention, **options)
        return path

    return compiled


@pytest.mark.vulkan
@pytest.mark.parametrize("scheme", LEAST)
def test_rows_on_vulkan(scheme: str, bundle: Compiled) -> None:
    check_rows(rows_of(bundle("vulkan", scheme)), rows_of(bundle("host", scheme)), scheme)


@pytest.mark.arm
@pytest.mark.parametrize(("scheme", "attention", "bound"), SCORES)
def test_scores_on_a_raspberry_pi(
    scheme: str,
    attention: str | None,
    bound: float,
    bundle: Compiled,
    arm_tree: Tree,
    tmp_path: Path,
) -> None:
    """`classify` on the oldest CPU of the preset, after `deploy`."""
    name = "raspberry-pi-5"
    pictures = [tmp_path / f"{number}.png" for number in range(2)]
    for path, scene in zip(pictures, SCENES.values(), strict=False):
        draw(scene, 224).save(path)
    bring(bundle(name, scheme, attention), tmp_path / "board", pictures)
    cpu = known_targets()[name].emulator_cpu
    assert cpu
    board = Board(tmp_path / "board", arm_tree, cpu)
    words = [word for path in pictures for word in ("--image", str(path))]
    words += [word for label in SCENES for word in ("--label", f"a {label}")]
    ran = board.run("handglass", "classify", board.folder / "bundle", *words, "--json")
    assert ran.code == 0, ran.out + ran.err
    ours = str(bundle("host", scheme, attention))
    command = [sys.executable, "-m", "handglass.cli.main", "classify", ours]
    here = subprocess.run([*command, *words, "--json"], stdout=subprocess.PIPE, check=True).stdout
    found, truth = scores(json.loads(ran.out)), scores(json.loads(here))
    np.testing.assert_allclose(found, truth, atol=bound)


def scores(result: dict[str, Any]) -> list[float]:
    """Of each picture with each label."""
    return [
        row["score"]
        for picture in result["pictures"]
        for row in sorted(picture["labels"], key=lambda row: str(row["label"]))
    ]
