"""Kernels with golden counts of machine code: one of each family of schedules, default choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import test_flash_code
import test_norm_rows
import test_one_row_code
import test_tensor_core
from cuda_kernels import Kernels
from occupancy import MULTIPROCESSORS

from handglass.targets.codegen.cuda.packages import MAJORS

Made = Callable[[int], Kernels]
"""The kernels for a chip."""
TENSOR_SINCE = 80


def _tensor(scheme: str) -> Made:
    return lambda _: test_tensor_core.large_product(scheme)


def _row(scheme: str) -> Made:
    return lambda _: test_one_row_code.built(scheme)[1]


def _attention(name: str) -> Made:
    return lambda chip: test_flash_code.built(name, test_flash_code.PRESETS[chip])


KERNELS: dict[str, Made] = {
    **{f"matmul-{scheme}": _tensor(scheme) for scheme in test_tensor_core.SCHEMES},
    **{f"row-{scheme}": _row(scheme) for scheme in test_one_row_code.RULES},
    **{f"attention-{name}": _attention(name) for name in test_flash_code.CASES},
    "norm-quantize": lambda _: test_norm_rows.built(test_norm_rows.K),
}


def cases() -> Iterator[tuple[str, int, int]]:
    """(kernel, CUDA major, chip) of all code there is."""
    for name in KERNELS:
        chips = test_flash_code.PRESETS if name.startswith("attention") else MULTIPROCESSORS
        for major in MAJORS:
            for chip in chips:
                # CUDA 12 calls 11.0 by another name
                if (major, chip) != (12, 110) and chip >= first_chip(name):
                    yield name, major, chip


def first_chip(name: str) -> int:
    return TENSOR_SINCE if name.startswith("matmul") else 0
