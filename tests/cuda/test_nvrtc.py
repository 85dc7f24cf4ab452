"""NVRTC through ctypes: images, errors, and which major compiles for which chip."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the code generator needs the TVM compiler")

from handglass.errors import DeviceError, UsageError
from handglass.targets.codegen.cuda import architectures, packages
from handglass.targets.codegen.cuda.architectures import MAJOR, compiler_for, images_of
from handglass.targets.codegen.cuda.nvrtc import CompilationError, Nvrtc
from handglass.targets.codegen.cuda.packages import PACKAGES

ADD = 'extern "C" __global__ void add(float* a) { a[threadIdx.x] += 1; }'
HALF = """
#include <cuda_fp16.h>
#include <mma.h>
#include <cuda/std/cstdint>
#include <cuda/std/type_traits>
static_assert(sizeof(cuda::std::int8_t) == 1 && sizeof(cuda::std::uint64_t) == 8, "");
static_assert(cuda::std::is_integral<int>::value && !cuda::std::is_integral<float>::value, "");
static_assert(cuda::std::is_signed<char>::value && cuda::std::is_unsigned<unsigned>::value, "");
static_assert(cuda::std::is_same_v<cuda::std::conditional<false, int, float>::type, float>, "");
extern "C" __global__ void twice(half* a) { a[0] = __hadd(a[0], a[1]); }
"""
ELF = b"\x7fELF"


class TestImages:
    def test_a_cubin_and_ptx(self, nvrtc: Nvrtc) -> None:
        cubin, log = nvrtc.compile(ADD, "sm_87")
        ptx, _ = nvrtc.compile(ADD, "compute_87")
        assert cubin.startswith(ELF) and "registers" in log
        assert ptx.endswith(b"\0") and b".entry add(" in ptx and b".target sm_87" in ptx

    def test_headers_of_half_and_of_cpp(self, nvrtc: Nvrtc) -> None:
        assert b".f16" in nvrtc.compile(HALF, "compute_87")[0]

    def test_equal_sources_have_equal_images(self, nvrtc: Nvrtc) -> None:
        first, second = (nvrtc.compile(ADD, "sm_80")[0] for _ in range(2))
        assert first == second

    def test_a_wrong_source_is_quoted(self, nvrtc: Nvrtc) -> None:
        with pytest.raises(CompilationError, match="(?s)^sm_87: .*flaot"):
            nvrtc.compile(ADD.replace("float", "flaot"), "sm_87")


def test_a_library_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "libnvrtc.so.12").write_text("not a library")
    with pytest.raises(DeviceError, match=r"libnvrtc.so.12: cannot be loaded"):
        Nvrtc(12, tmp_path / "libnvrtc.so.12", ())


class Fake:
    """A compiler for some chips."""

    def __init__(self, major: int, *able: int) -> None:
        self.major, self.architectures = major, frozenset(able)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[int, Fake]:
    """The installed compilers, as a table to change."""
    table = {12: Fake(12, 50, 87, 101), 13: Fake(13, 87, 110)}
    monkeypatch.setattr(architectures, "load_nvrtc", table.get)
    monkeypatch.delenv(MAJOR, raising=False)
    return table


@pytest.mark.usefixtures("installed")
class TestWhichMajor:
    def test_the_oldest_that_can(self, installed: dict[int, Fake]) -> None:
        assert compiler_for([87]).major == 12
        assert compiler_for([87], (13, 12)).major == 13
        del installed[12]
        assert compiler_for([87]).major == 13

    def test_a_renamed_chip(self) -> None:
        old, new = compiler_for([110], (12,)), compiler_for([110], (13,))
        assert images_of([110], old) == ("sm_101", "compute_101")
        assert images_of([110], new) == ("sm_110", "compute_110")

    def test_the_variable_selects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(MAJOR, "13")
        assert compiler_for([87]).major == 13
        with pytest.raises(DeviceError, match=r"here: CUDA 13 cannot generate code for sm_50$"):
            compiler_for([87, 50])
        monkeypatch.setenv(MAJOR, "11")
        with pytest.raises(UsageError, match=rf"{MAJOR} is '11': must be 12 or 13"):
            compiler_for([87])

    def test_no_major_can(self, installed: dict[int, Fake]) -> None:
        with pytest.raises(DeviceError, match=r"CUDA 12 cannot .* sm_35; CUDA 13 cannot .* sm_35"):
            compiler_for([35])
        installed.clear()
        with pytest.raises(DeviceError, match=r"handglass\[cuda12\].*; .*handglass\[cuda13\]"):
            compiler_for([87])
        installed[13] = Fake(13, 110)
        with pytest.raises(DeviceError, match=r"handglass\[cuda12\]'\); CUDA 13 cannot"):
            compiler_for([50])


def test_the_real_compilers_know_the_chips(nvrtc: Nvrtc) -> None:
    assert {75, 80, 86, 87, 89, 90, 120} <= nvrtc.architectures
    assert {101, 110} & nvrtc.architectures == {{12: 101, 13: 110}[nvrtc.major]}


def test_a_package_needs_its_library_and_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PACKAGES[12]
    monkeypatch.setattr(packages, "_folders", lambda: iter([tmp_path / "none", tmp_path]))
    assert package.find() is None
    (tmp_path / package.library).parent.mkdir(parents=True)
    (tmp_path / package.library).touch()
    assert package.find() is None
    for folder in package.headers:
        (tmp_path / folder).mkdir(parents=True)
    assert package.find() == (
        tmp_path / package.library,
        tuple(tmp_path / folder for folder in package.headers),
    )
