"""Fixtures of the CUDA tests: NVIDIA's compilers, which `make test-cuda` installs."""

import pytest

from handglass.targets.codegen.cuda.nvrtc import Nvrtc, load_nvrtc
from handglass.targets.codegen.cuda.packages import MAJORS


@pytest.fixture(scope="session", params=MAJORS, ids=[f"cuda{major}" for major in MAJORS])
def nvrtc(request: pytest.FixtureRequest) -> Nvrtc:
    """The compiler of each CUDA major."""
    return found(request.param)


@pytest.fixture(scope="session")
def any_nvrtc() -> Nvrtc:
    """The compiler of one CUDA major."""
    return next(filter(None, map(load_nvrtc, MAJORS)), None) or found(MAJORS[-1])


def found(major: int) -> Nvrtc:
    compiler = load_nvrtc(major)
    if compiler is None:
        pytest.skip(f"NVRTC of CUDA {major} is not installed: make test-cuda")
    return compiler
