"""Compiles llama.cpp from the source archive of llama_cpp_python, once per compiler and option.

A build by gcc 12 was seen to fail in its AMX path, and AMX may not be its fastest path for every
row, so each compiler builds it with and without. The builds share all libraries but the one with
the kernels (`libggml-cpu.so`), which is preloaded: a further build takes a fifth of the first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSION = "0.3.36"
INSTALLS = (
    ("numpy", "gguf", "cmake", "ninja", "scikit-build-core"),
    ("diskcache", "jinja2", "typing-extensions"),
)
"""What builds it and writes models; what its Python package imports."""
FOLDER = "llama.cpp"
COMPILERS = {
    "gcc": (("gcc", "g++"),),
    "clang": (("clang-19", "clang++-19"), ("clang-16", "clang++-16"), ("clang", "clang++")),
}
"""C and C++ compilers, the preferred ones first."""
NO_AMX = "-march=native -mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
WITHOUT_AMX = " without AMX"
BUILDS = tuple(f"{compiler}{amx}" for compiler in COMPILERS for amx in ("", WITHOUT_AMX))
OPTIONS = (
    *("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON"),
    *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF"),
    *("-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_COMMON=ON"),
    *("-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF"),
)


class BuildError(OSError):
    """A build is not possible here."""


def variables(build: str) -> dict[str, str]:
    """The environment of a process with this build; {root} is the folder of all peers."""
    return {
        "PYTHONPATH": f"{{root}}/{FOLDER}/source",
        "LLAMA_CPP_LIB_PATH": f"{{root}}/{FOLDER}/lib",
        "MTMD_CPP_LIB": f"{{root}}/{FOLDER}/lib",
        "LD_PRELOAD": f"{{root}}/{FOLDER}/{folder_of(build)}/bin/libggml-cpu.so",
    }


def folder_of(build: str) -> str:
    return build.replace(WITHOUT_AMX, "-no-amx")


def build_llama(python: Path, root: Path, process: str) -> None:
    """Compile the build that a process is named after, if it is missing; takes minutes."""
    name = process.split(",")[0]
    folder = root.resolve() / FOLDER / folder_of(name)
    if (folder / "built").exists():
        return
    print(f"building llama.cpp: {name}", file=sys.stderr, flush=True)
    path = f"{python.absolute().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    source = unpacked(python, root.resolve() / FOLDER, path)
    library = folder.parent / "lib"
    targets = ("ggml-cpu",) if library.exists() else ("llama", "mtmd")
    options = [*OPTIONS, *compiler_options(name)]
    log = folder.with_suffix(".log")
    call(log, path, "cmake", "-S", str(source), "-B", str(folder), *options)
    call(log, path, "cmake", "--build", str(folder), "--target", *targets)
    if not library.exists():
        library.symlink_to(folder / "bin")
    (folder / "built").touch()


def compiler_options(build: str) -> Iterator[str]:
    """CMake's options; {build} is a compiler's name, with or without AMX."""
    family = build.removesuffix(WITHOUT_AMX)
    found = [pair for pair in COMPILERS[family] if all(map(shutil.which, pair))]
    if not found:
        names = ", ".join(pair[0] for pair in COMPILERS[family])
        raise BuildError(f"no {family} is installed ({names})")
    for language, compiler in zip(("C", "CXX"), found[0], strict=True):
        yield f"-DCMAKE_{language}_COMPILER={compiler}"
        if build.endswith(WITHOUT_AMX):
            yield f"-DCMAKE_{language}_FLAGS={NO_AMX}"
    if build.endswith(WITHOUT_AMX):
        yield "-DGGML_NATIVE=OFF"


def unpacked(python: Path, folder: Path, path: str) -> Path:
    """The folder of llama.cpp in the unpacked archive; the bindings lie two folders above."""
    source = folder / "source"
    if not source.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = (str(python), "-m", "pip", "download", "--quiet", "--no-deps")
        options = ("--no-build-isolation", "--no-binary=llama_cpp_python", "-d", str(folder))
        call(folder / "download.log", path, *pip, *options, f"llama_cpp_python=={VERSION}")
        (archive,) = folder.glob("llama_cpp_python-*.tar.gz")
        shutil.unpack_archive(archive, folder, filter="data")
        archive.unlink()
        (folder / f"llama_cpp_python-{VERSION}").rename(source)
    return source / "vendor" / "llama.cpp"


def call(log: Path, path: str, *command: str) -> None:
    with log.open("a") as file:
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command[:3])} failed: exit code {done.returncode}, see {log}")
