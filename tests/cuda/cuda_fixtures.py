"""Fixtures of the CUDA tests: NVIDIA's compilers, which `make test-cuda` installs, and a driver."""

from collections.abc import Iterator

import pytest
from emulated_driver import driver_environment

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


@pytest.fixture(scope="module")
def emulated() -> Iterator[None]:
    """The emulated driver with two devices, 8.7 and 9.0, of 512 MB, in this process.

    A process opens its driver once, so these settings are the same for all tests; others need a
    process of their own (run_child).
    """
    settings = driver_environment(chips="87,90", memory=512 << 20)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield
