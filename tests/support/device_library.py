"""C libraries for devices, and the arguments of their functions."""

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tvm_ffi import libinfo

SOURCE = Path(__file__).with_name("device_functions.c")
VARIANTS = ("right", "wrong", "not-a-number", "writes-input")
N, K = 1037, 3  # length of x and y; the factor of `scale`


@cache
def library(variant: str = "right") -> bytes:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    with TemporaryDirectory() as folder:
        path = Path(folder, "lib.so")
        flags = ["-O1", "-shared", "-fPIC", f"-DVARIANT={VARIANTS.index(variant)}"]
        flags += [f"-I{path}" for path in libinfo.include_paths()]
        subprocess.run([compiler, *flags, str(SOURCE), "-o", str(path)], check=True)
        return path.read_bytes()


def tensor(*shape: int, dtype: str = "float32", **fill: Any) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": dtype, "fill": fill}


SCALED: list[int | Mapping[str, Any]] = [
    tensor(N, kind="normal", scale=1.0),
    tensor(N, kind="constant", value=7.0),
    K,
]
"""The arguments x, y and k of `scale`."""
