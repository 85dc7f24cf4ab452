"""Our declarations of NVIDIA's driver API against cuda.h of every installed CUDA."""

import re
import subprocess
from pathlib import Path

import pytest
from emulated_driver import build_driver, header_folders, some_headers

from handglass.runtime.devices.cuda import CUDA
from handglass.runtime.devices.plugin.build import find_compiler

CHECK = Path(__file__).with_name("driver_api_check.cc")
HEADER = CUDA.recipe.folder / "driver_api.h"


def names_of_values() -> list[str]:
    """The enumerators and constants that the header declares."""
    return re.findall(r"^(?:  |constexpr unsigned int )(CU\w+) = \d+[,;]", HEADER.read_text(), re.M)


def compile_check(headers: Path, changed: Path) -> subprocess.CompletedProcess[str]:
    """Compile the comparison with another cuda.h, with driver_api.h in the folder `changed`."""
    checks = "".join(f"CHECK_VALUE({name})\n" for name in names_of_values())
    command = [*find_compiler(CUDA.recipe), "-std=c++17", "-fsyntax-only", "-x", "c++", "-"]
    return subprocess.run(
        [*command, f"-I{headers}", f"-I{changed}"],
        input=f"{CHECK.read_text()}{checks}",
        capture_output=True,
        text=True,
    )


def test_declarations_agree_with_cuda_h() -> None:
    assert len(names_of_values()) > 40
    some_headers()
    for headers in header_folders():
        done = compile_check(headers, HEADER.parent)
        assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (
            "CU_DEVICE_ATTRIBUTE_INTEGRATED = 18",
            "CU_DEVICE_ATTRIBUTE_INTEGRATED = 19",
            "INTEGRATED",
        ),
        ("f(cuMemFree_v2, (CUdeviceptr))", "f(cuMemFree_v2, (unsigned int))", "cuMemFree_v2"),
        ("(CUevent*, unsigned int)", "(CUevent, unsigned int)", "cuEventCreate"),
    ],
)
def test_a_wrong_declaration_is_found(right: str, wrong: str, words: str, tmp_path: Path) -> None:
    text = HEADER.read_text()
    assert right in text
    (tmp_path / HEADER.name).write_text(text.replace(right, wrong))
    done = compile_check(some_headers(), tmp_path)
    assert done.returncode and re.search(f"static assertion failed: .*{words}", done.stderr)


def test_the_emulated_driver_has_no_name_of_nvidias() -> None:
    """NVRTC calls undocumented functions of a library that is loaded under that name."""
    done = subprocess.run(["readelf", "-d", str(build_driver())], capture_output=True, text=True)
    assert "libcuda" not in done.stdout and "SONAME" not in done.stdout
