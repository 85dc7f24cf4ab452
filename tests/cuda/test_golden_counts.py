"""The instructions of each kernel family on each chip as text: tests/cuda/golden/NAME.txt.

They are those of the exact versions of NVRTC that the files name; with other ones the tests are
skipped. After an intended change, or for new versions, review the difference and update the files:

    HANDGLASS_UPDATE_GOLDEN=1 HANDGLASS_TEST_CUDA=1 HANDGLASS_TEST_LARGE=1 \
      python -m pytest tests/cuda/test_golden_counts.py
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from cuda_kernels import image
from golden_kernels import KERNELS, cases
from machine_code import TENSOR, Code, count, disassembled, nvdisasm
from thinned import thinned

from handglass.targets.codegen.cuda.nvrtc import Nvrtc

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.cuda,
    pytest.mark.skipif(nvdisasm() is None, reason="nvdisasm is not installed: make test-cuda"),
]

FOLDER = Path(__file__).with_name("golden")
UPDATE = "HANDGLASS_UPDATE_GOLDEN"
PACKAGES = {12: "nvidia-cuda-nvrtc-cu12", 13: "nvidia-cuda-nvrtc"}
SCALAR = ("FFMA", "IDP")
"""Products where there are none of matrices."""
WHOLE = ("LD", "ST", *TENSOR)
"""Instructions whose modifiers matter: the width of an access, the shape of a product."""


@pytest.mark.parametrize(("name", "nvrtc", "chip"), thinned(8, cases()), indirect=["nvrtc"])
def test_instructions_are_as_they_were(name: str, nvrtc: Nvrtc, chip: int) -> None:
    key = f"NVRTC {version(PACKAGES[nvrtc.major])}, sm_{chip}:"
    kept = lines_of(name)
    if not update() and not any(line.startswith(key.split(",")[0]) for line in kept):
        pytest.skip(f"golden/{name}.txt has no counts of {key.split(',')[0]}")
    code = disassembled(*image(KERNELS[name](chip).source, f"sm_{chip}", nvrtc.major))
    line = f"{key} {described(code)}"
    if update():
        others = [other for other in kept if not other.startswith(key)]
        file_of(name).write_text("\n".join(sorted([*others, line])) + "\n")
        lines_of.cache_clear()
        return
    was = next((other for other in kept if other.startswith(key)), "nothing")
    assert line == was, f"{UPDATE}=1 updates golden/{name}.txt"


def described(code: Code) -> str:
    """Registers, and the instructions of the loop with the most products and of all code."""
    names = TENSOR if count(code.mix, *TENSOR) else SCALAR
    loop, parts = code.loop_of(*names), [f"{code.registers} registers"]
    if products := count(loop, *names):
        parts.append(f"a loop of {loop.total()}, of them {products} products ({counted(loop)})")
    parts.append(f"in all {code.mix.total()} ({counted(code.mix)})")
    return "; ".join(parts)


def counted(mix: Counter[str]) -> str:
    """Numbers of instructions by name, the most frequent first."""
    names: Counter[str] = Counter()
    for name, number in mix.items():
        names[name if name.startswith(WHOLE) else name.partition(".")[0]] += number
    ordered = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number} {name}" for name, number in ordered)


@cache
def lines_of(name: str) -> tuple[str, ...]:
    return tuple(file_of(name).read_text().splitlines()) if file_of(name).exists() else ()


def file_of(name: str) -> Path:
    return FOLDER / f"{name}.txt"


def update() -> bool:
    return os.environ.get(UPDATE, "") not in ("", "0")


def test_every_file_belongs_to_a_kernel_and_has_each_case() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(KERNELS)
    for name in KERNELS:
        assert len(lines_of(name)) == sum(case[0] == name for case in cases())
