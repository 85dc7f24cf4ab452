"""The SPIR-V of each rule as text: tests/kernels/golden/vulkan/NAME.txt. No device is needed.

After an intended change, review the difference and update the files:

    HANDGLASS_UPDATE_GOLDEN=1 python -m pytest tests/kernels/test_vulkan_golden.py
"""

from __future__ import annotations

import os
import subprocess
from difflib import unified_diff
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from shader_summary import golden_text, summary
from thinned import thinned
from vulkan_golden_kernels import RULES, SCHEDULES
from vulkan_running import SPIRV_VAL, shaders

from handglass.targets.codegen.vulkan.decoding import OPS, instructions
from handglass.targets.codegen.vulkan.enable import enable_compiler
from handglass.targets.codegen.vulkan.listing import listing
from handglass.targets.codegen.vulkan.module_bytes import Shader
from handglass.targets.codegen.vulkan.words import Words

pytestmark = pytest.mark.compiler
FOLDER = Path(__file__).with_name("golden") / "vulkan"
KERNELS = {**RULES, **SCHEDULES}
UPDATE = "HANDGLASS_UPDATE_GOLDEN"


def made(name: str) -> list[Shader]:
    """Every shader of a kernel, validated by spirv-val."""
    enable_compiler()
    function, target = KERNELS[name]
    return shaders(function(), target)


@pytest.mark.parametrize("name", thinned(2, KERNELS))
def test_words_are_as_they_were(name: str) -> None:
    text = "\n".join(golden_text(shader) for shader in made(name))
    file = FOLDER / f"{name}.txt"
    if os.environ.get(UPDATE, "") not in ("", "0"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert file.exists(), f"{file} does not exist; {UPDATE}=1 writes it"
    kept = file.read_text()
    if text != kept:
        lines = unified_diff(kept.splitlines(), text.splitlines(), "kept", "now", lineterm="")
        pytest.fail("\n".join([f"{file.name} ({UPDATE}=1 updates it):", *lines]))


def test_every_file_belongs_to_a_kernel() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(KERNELS)


@pytest.mark.parametrize("name", ["mathematics", "while-break", "cooperative-matrix"])
def test_a_listing_says_what_the_disassembler_says(name: str) -> None:
    """The same instructions in the same order."""
    (shader,) = made(name)
    listed = [line.split() for line in disassembled(shader) if not line.startswith(";")]
    theirs = [next(word for word in words if word.startswith("Op"))[2:] for words in listed]
    assert [OPS[op] for op, _ in instructions(shader.words)] == theirs
    code = listing(shader.words).partition("\n\n")[2].splitlines()
    labels = sum(name == "Label" for name in theirs)
    assert sum(not line.startswith(" ") for line in code) == labels
    assert len(code) == len(theirs) - theirs.index("Function") - 2  # and OpFunctionEnd


def disassembled(shader: Shader) -> list[str]:
    code = np.asarray(shader.words, "<u4").tobytes()
    command = [str(SPIRV_VAL.with_name("spirv-dis")), "--no-indent", "--raw-id", "-"]
    done = subprocess.run(command, input=code, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


def test_ids_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = made("for-break-continue")
    begin = Words.__init__

    def later(words: Words) -> None:
        begin(words)
        words.count = 7

    monkeypatch.setattr(Words, "__init__", later)
    (second,) = made("for-break-continue")
    assert first.words != second.words
    assert listing(first.words) == listing(second.words)


def test_what_is_no_module_is_refused() -> None:
    (shader,) = made("if")
    with pytest.raises(ValueError, match="instruction 1 "):
        listing([*shader.words, 5 << 16 | 1])
    with pytest.raises(ValueError, match="0x1 "):
        listing([1, *shader.words[1:]])


def test_a_summary_counts() -> None:
    (shader,) = made("shared-memory-barrier")
    lines = [" ".join(line.split()) for line in summary(listing(shader.words)).splitlines()]
    for line in (
        "1 ControlBarrier",
        "1 Load float32 in StorageBuffer",
        "1 Store float32 in Workgroup",
    ):
        assert line in lines
    assert any(line.endswith("128 bytes of shared memory") for line in lines)
