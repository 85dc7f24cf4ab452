"""The demo model as bundles for the native program, and questions about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from handglass.runtime.answer.native_request import Written

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = sorted((EXAMPLES / "pictures").glob("*.png"))
TARGETS = {"x86_64": "x86-64-v3", "aarch64": "android-arm64"}
QUESTIONS = {
    "text": ("How are you?", []),
    "picture": ("How many shapes are there?", [PICTURES[1]]),
    "two pictures": ("Which picture has more shapes?", PICTURES[1:3]),
    "the same twice": ("(<image>./</image>)(<image>./</image>)这张图里有什么？", [PICTURES[0]] * 2),
}


def compile_demo(target: str, bundle: Path) -> None:
    from handglass.compiler.build import compile_model

    checkpoint = EXAMPLES / "demo-checkpoint"
    compile_model(checkpoint, bundle, target=target, quantization="f32", bundle_runtime=False)


def asked(written: Written, bundle: Path) -> list[str]:
    """The arguments of the native program that ask a question."""
    return written.command("", str(bundle))[1:]


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    change(manifest)
    file.write_text(json.dumps(manifest), "utf-8")
