"""The bytes of a module, read back as the format says."""

from __future__ import annotations

import struct

from handglass.targets.codegen.cuda.module_bytes import FORMAT, Kernel, pack_module

POINTER, INT64, HALF = (3, 64, 1), (0, 64, 1), (2, 16, 1)


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def number(self) -> int:
        return self.take("Q")[0]

    def string(self) -> bytes:
        size = self.number()
        self.at += size
        return self.data[self.at - size : self.at]


def test_what_was_packed_is_read() -> None:
    kernels = [
        Kernel("first", (POINTER, HALF), ("blockIdx.x", "threadIdx.x")),
        Kernel("größer", (POINTER, INT64, INT64), (), cells=(2, 1)),
    ]
    images = {"sm_87": b"\x7fELF\0code", "compute_87": b".version 8.8\0"}
    reader = Reader(pack_module(kernels, images))
    assert reader.string().decode() == FORMAT == "handglass.cuda.2"
    read = []
    for _ in range(reader.number()):
        name = reader.string().decode()
        arguments = tuple(reader.take("BBH") for _ in range(reader.number()))
        tags = tuple(reader.string().decode() for _ in range(reader.number()))
        cells = tuple(reader.number() for _ in range(reader.number()))
        read.append(Kernel(name, arguments, tags, cells))  # type: ignore[arg-type]
    assert read == kernels
    assert {reader.string().decode(): reader.string() for _ in range(reader.number())} == images
    assert reader.at == len(reader.data)
