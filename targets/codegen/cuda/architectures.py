"""Which CUDA major compiles for a chip, and which images a bundle gets.

An architecture is named by its compute capability: sm_87 is machine code (a cubin) for 8.7,
compute_87 is PTX, which a driver compiles for any chip of at least 8.7. A driver loads the cubins
of its own CUDA major and of older ones, so the oldest installed major that can is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from handglass.errors import DeviceError, UsageError

from .nvrtc import Nvrtc, load_nvrtc
from .packages import MAJORS, PACKAGES

MAJOR = "HANDGLASS_CUDA_MAJOR"
"""The environment variable that selects one of several installed majors."""
RENAMED = {(12, 110): 101}
"""(major, compute capability) -> its number in that major: CUDA 13 renamed Jetson Thor's."""


def compiler_for(capabilities: Sequence[int], majors: Sequence[int] = MAJORS) -> Nvrtc:
    """The first installed compiler of `majors` that generates code for all `capabilities`.

    Raises DeviceError with the reason for each major if there is none, UsageError if the
    environment variable names an unknown one.
    """
    reasons = []
    for major in _wanted(majors):
        compiler, package = load_nvrtc(major), PACKAGES[major]
        if compiler is None:
            reasons.append(f"NVRTC of CUDA {major} is not installed ({package.install})")
            continue
        able = compiler.architectures
        lacking = [n for n in capabilities if RENAMED.get((major, n), n) not in able]
        if not lacking:
            return compiler
        names = ", ".join(f"sm_{n}" for n in lacking)
        reasons.append(f"CUDA {major} cannot generate code for {names}")
    raise DeviceError(f"CUDA code cannot be compiled here: {'; '.join(reasons)}")


def _wanted(majors: Sequence[int]) -> Sequence[int]:
    text = os.environ.get(MAJOR, "")
    if not text:
        return majors
    if text not in map(str, MAJORS):
        raise UsageError(f"{MAJOR} is {text!r:.20}: must be {' or '.join(map(str, MAJORS))}")
    return (int(text),)


def images_of(capabilities: Sequence[int], compiler: Nvrtc) -> tuple[str, ...]:
    """The names of the images: a cubin per capability, and PTX of the lowest for all others."""
    numbers = [RENAMED.get((compiler.major, n), n) for n in sorted(capabilities)]
    return (*(f"sm_{n}" for n in numbers), f"compute_{numbers[0]}")
