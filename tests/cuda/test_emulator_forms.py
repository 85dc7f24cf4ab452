"""What the PTX emulator compiles: an instruction's form, once for all its uses in all kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="imported by the cases")
from emulator.build import cache_folder
from emulator.launch import Module
from emulator.translate import Translated, translate
from ptx_kernels import HEADER, entry, place

ADDED = "mov.u32 %r0, 5; add.u32 %r1, %r0, %t;" + place("%d0", "%y", "%t", 4)
ADDED += "st.global.u32 [%d0], %r1;"
OTHER = "mov.u32 %r7, 900; mov.u32 %r9, 9; add.u32 %r0, %r7, %t; add.u32 %r0, %r0, %r9;"
OTHER += place("%d3", "%y", "%t", 4) + "st.global.u32 [%d3+8], %r0;"


def translated(body: str) -> Translated:
    return translate(HEADER + entry("some", "u64 y", body))["some"]


def test_registers_and_numbers_are_no_part_of_a_form() -> None:
    assert set(translated(OTHER).forms) == set(translated(ADDED).forms)
    steps = [kernel.steps for kernel in map(translated, (ADDED, OTHER))]
    assert steps[0] != steps[1]


@pytest.mark.parametrize(
    "one, another",
    [
        ("add.u32 %r1, %r0, %t;", "add.s32 %r1, %r0, %t;"),
        ("add.u32 %r1, %r0, %t;", "add.u32 %r1, %r0, 3;"),
        ("add.u32 %r1, %r0, %t;", "@%p0 add.u32 %r1, %r0, %t;"),
        ("ld.shared.u32 %r0, [%r1];", "ld.global.u32 %r0, [%d0];"),
        ("lop3.b32 %r0, %r1, %r2, %r3, 0x96;", "lop3.b32 %r0, %r1, %r2, %r3, 0x97;"),
    ],
)
def test_what_is_computed_is_part_of_it(one: str, another: str) -> None:
    assert set(translated(one).forms) != set(translated(another).forms)


@pytest.mark.cuda
def test_a_form_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second kernel has what it needs; a link that leads nowhere is made again. (The machine is
    that of the usual cache.)"""
    Module(HEADER + entry("some", "u64 y", ADDED)).layout("some")
    for made in (*cache_folder().glob("machine-*.so"), *cache_folder().glob("prelude-*")):
        (tmp_path / made.name).symlink_to(made)
    monkeypatch.setenv("HANDGLASS_CUDA_EMULATOR_CACHE", str(tmp_path))
    for body, expected, compiled in ((ADDED, 5, 1), (OTHER, 909, 1), (ADDED, 5, 1)):
        y = np.zeros(34, "u4")
        Module(HEADER + entry("some", "u64 y", body)).launch("some", [1], [32], y)
        place = 0 if body == ADDED else 2
        assert (y[place : place + 32] == np.arange(32) + expected).all()
        assert len([*tmp_path.glob("forms-*.so")]) == compiled
    (library,) = tmp_path.glob("forms-*.so")
    library.unlink()
    Module(HEADER + entry("another", "u64 y", ADDED)).launch("another", [1], [32], y)
    assert library.exists() and cache_folder() == tmp_path
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]
    assert next(tmp_path.glob("form-*.so")).readlink().name == library.name
