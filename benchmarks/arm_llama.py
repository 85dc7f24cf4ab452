"""llama.cpp's kernels for AArch64: one object file to link beside ours, and their calls.

The sources come from the llama_cpp_python sdist, which pip downloads.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from arm_emulator import Call, tool

VERSION = "0.3.16"
"""Version of llama_cpp_python, which contains the llama.cpp to compare with."""
NAMES = tuple(f"{kind}_q4_0_4x{step}_q8_0" for kind in ("gemv", "gemm") for step in (4, 8))
"""Kernels of arm_llama.c: one row or many, with SDOT (step 4) or SMMLA (step 8)."""
BLOCK, Q8_0 = 72, 34
"""Bytes of 32 inputs: of four outputs in Q4_0, and of a row in Q8_0, with their scales."""


def sources(folder: Path) -> Path:
    """The folder of ggml's sources, from the sdist; downloaded once."""
    unpacked = folder / f"llama_cpp_python-{VERSION}"
    if not unpacked.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(folder)]
        package = ["--no-binary", "llama_cpp_python", f"llama_cpp_python=={VERSION}"]
        subprocess.run([*pip, *package], check=True)
        with tarfile.open(folder / f"{unpacked.name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return unpacked / "vendor/llama.cpp/ggml"


def kernels(folder: Path) -> Path:
    """Compile only repack.cpp, as llama.cpp's own build does for a machine with i8mm."""
    ggml, made = sources(folder), folder / "repack.o"
    if made.exists():
        return made
    includes = [f"-I{ggml / d}" for d in ("include", "src", "src/ggml-cpu")]
    options = ["-O3", "-DNDEBUG", "-march=armv8.2-a+dotprod+fp16+i8mm", "-ffunction-sections"]
    source = ggml / "src/ggml-cpu/arch/arm/repack.cpp"
    compiler = tool("aarch64-linux-gnu-g++")
    subprocess.run([compiler, *options, *includes, "-c", str(source), "-o", str(made)], check=True)
    return made


def linked(folder: Path) -> list[Path | str]:
    """What a program is linked with to call NAMES."""
    adapter = Path(__file__).with_name("arm_llama.c")
    options = ["-Wl,--gc-sections", "-Wl,--unresolved-symbols=ignore-all"]
    return [adapter, kernels(folder), *options]


def one_row(n: int, k: int, step: int) -> Call:
    """One row times n x k weights of random bits, which take as many instructions as any."""
    rng = np.random.default_rng(n)
    weight = rng.integers(0, 256, (n // 4, k // 32, BLOCK), np.uint8)
    row = rng.integers(0, 256, (k // 32, Q8_0), np.uint8)
    return Call(f"gemv_q4_0_4x{step}_q8_0", [weight, row, k, np.zeros((1, n), np.float32)])
