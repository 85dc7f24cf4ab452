"""NVRTC, NVIDIA's compiler as a library, called through ctypes: CUDA C++ to machine code or PTX.

https://docs.nvidia.com/cuda/nvrtc/
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from handglass.errors import DeviceError

from .packages import PACKAGES
from .standard_headers import HEADERS

Program = ctypes.c_void_p
OPTIONS = ("--std=c++17", "-default-device")


class CompilationError(Exception):
    """NVRTC rejected a source: a defect of the code generator. The message is its log."""


class Nvrtc:
    """The compiler of one CUDA major."""

    def __init__(self, major: int, library: Path, headers: Sequence[Path]) -> None:
        self.major = major
        self.includes = [f"--include-path={folder}" for folder in headers]
        try:
            self.library = ctypes.CDLL(str(library))
        except OSError as error:
            raise DeviceError(f"{library}: cannot be loaded: {error}") from error

    @property
    def architectures(self) -> frozenset[int]:
        """The compute capabilities that it generates code for; 87 is 8.7."""
        count = ctypes.c_int()
        self._do("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self._do("nvrtcGetSupportedArchs", found)
        return frozenset(found)

    def compile(self, source: str, architecture: str) -> tuple[bytes, str]:
        """The image for "sm_87" (a cubin) or "compute_87" (PTX with its NUL), and NVRTC's log."""
        options = [f"--gpu-architecture={architecture}", *OPTIONS, *self.includes]
        is_cubin = architecture.startswith("sm_")
        if is_cubin:
            options.append("--ptxas-options=--verbose")  # registers and spills, for the log
        with self._program(source) as program:
            failed = self._call("nvrtcCompileProgram", program, len(options), _texts(options))
            log = self._output(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if failed:
                raise CompilationError(f"{architecture}: {log.strip() or self._text(failed)}")
            return self._output(program, "CUBIN" if is_cubin else "PTX"), log

    @contextmanager
    def _program(self, source: str) -> Iterator[Program]:
        program = Program()
        names, bodies = _texts(HEADERS.keys()), _texts(HEADERS.values())
        given = (source.encode(), b"kernels.cu", len(HEADERS), bodies, names)
        self._do("nvrtcCreateProgram", ctypes.byref(program), *given)
        try:
            yield program
        finally:
            self._do("nvrtcDestroyProgram", ctypes.byref(program))

    def _output(self, program: Program, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._do(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._do(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _do(self, function: str, *arguments: object) -> None:
        if failed := self._call(function, *arguments):
            raise DeviceError(f"NVRTC of CUDA {self.major}: {function}: {self._text(failed)}")

    def _call(self, function: str, *arguments: object) -> int:
        return int(getattr(self.library, function)(*arguments))

    def _text(self, code: int) -> str:
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return bytes(self.library.nvrtcGetErrorString(code)).decode()


def _texts(texts: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


@cache
def load_nvrtc(major: int) -> Nvrtc | None:
    """The compiler of a CUDA major; None if its packages are not installed."""
    found = PACKAGES[major].find()
    return Nvrtc(major, *found) if found else None
