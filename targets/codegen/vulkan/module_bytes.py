"""Serialisation of a module of kind `vulkan`, in the format of TVM's Vulkan runtime.

Little endian; a string is a 64-bit length followed by its bytes. The functions come first: name,
arguments as DLPack types, launch tags. The shaders follow: a flag (bit 0: scalars are in a uniform
buffer), the number of words, the words.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

KIND = "vulkan"
FLAG_UNIFORM_BUFFER = 1
BUFFER = (3, 64, 1)  # DLPack's opaque handle
DLPACK_CODES = {"int": 0, "uint": 1, "float": 2, "bool": 6}


@dataclass(frozen=True)
class Shader:
    """One kernel; `arguments` are (DLPack code, bits, lanes), `tags` are in call order."""

    name: str
    arguments: tuple[tuple[int, int, int], ...]
    tags: tuple[str, ...]
    flag: int
    words: tuple[int, ...]


def pack_module(shaders: list[Shader]) -> bytes:
    data = _string(KIND) + _u64(len(shaders))
    for shader in shaders:
        data += _string(shader.name) * 2
        data += _u64(len(shader.arguments))
        data += b"".join(struct.pack("<BBH", *argument) for argument in shader.arguments)
        data += _u64(len(shader.tags)) + b"".join(map(_string, shader.tags))
        data += _u64(len(shader.arguments)) + bytes(4 * len(shader.arguments))
    data += _u64(len(shaders))
    for shader in shaders:
        words = struct.pack(f"<{len(shader.words)}I", *shader.words)
        payload = struct.pack("<IQ", shader.flag, len(shader.words)) + words
        data += _string(shader.name) + _string(payload)
    return data


def _u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def _string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return _u64(len(data)) + data
