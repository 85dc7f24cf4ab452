"""Which numbers of which kernels are read from cells, and how."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the code generator needs the TVM compiler")
from emulator.launch import Argument, Module
from generated import Generated, generated
from tiny_gpu import build_for
from tiny_library import CONTEXT, TABLE, D

from handglass.targets import find_target
from handglass.targets.codegen.cuda.nvrtc import Nvrtc
from handglass.targets.codegen.cuda.prelude import with_prelude

pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """The kernels of a model's functions, of which `decode` alone has constant sizes."""
    with generated() as caught:
        build_for(find_target("rtx-30"), tmp_path_factory.mktemp("unfinished") / "lib.so")
    return caught


def test_the_position_is_in_cells_but_not_what_the_grid_depends_on(tiny: Generated) -> None:
    cells = {kernel.name: kernel.cells for kernel in tiny.kernels if kernel.cells}
    numbers = {name: signature_of(tiny, name) for name in cells}
    named = {name: [numbers[name][i] for i in cells[name]] for name in cells}
    # cse_v1 is what the host computes from s, of which the grid has another multiple
    assert named == {"append_kernel": ["int cse_v1", "int pos"], "total_kernel": ["int end"]}
    assert numbers["append_kernel"][-2:] == ["int s", "int64_t* __restrict__ cells"]


def test_kernels_of_other_functions_stay_as_they_are(tiny: Generated) -> None:
    lengths = [kernel for kernel in tiny.kernels if (0, 32, 1) in kernel.arguments]
    assert len(lengths) > 2, "of prefill and pictures"
    assert tiny.source.count("handglass_cell(") == 3
    for kernel in tiny.kernels:
        passed = len(signature_of(tiny, kernel.name)) - bool(kernel.cells)
        assert len(kernel.arguments) == passed


@pytest.mark.cuda
def test_a_null_address_means_the_numbers_that_were_passed(
    tiny: Generated, any_nvrtc: Nvrtc
) -> None:
    ptx = any_nvrtc.compile(with_prelude(tiny.source), "compute_86")[0].decode().rstrip("\0")
    cache = np.resize(TABLE, (CONTEXT, D)).astype(np.float32)
    names = [parameter.split()[-1] for parameter in signature_of(tiny, "total_kernel")]
    for cells, end in ((0, 30), (np.array([7], np.int64), 7)):
        out = np.zeros(D, np.float32)
        given: dict[str, Argument] = {"out_ptr": out, "cache_ptr": cache, "end": 30, "cells": cells}
        Module(ptx).launch("total_kernel", [1], [D], *(given[name] for name in names))
        np.testing.assert_allclose(out, cache[:end].sum(0), rtol=1e-4)


def signature_of(tiny: Generated, kernel: str) -> list[str]:
    """The parameters of a kernel, as they are declared."""
    start = tiny.source.index(f" {kernel}(") + len(kernel) + 2
    return tiny.source[start : tiny.source.index(")", start)].split(", ")
