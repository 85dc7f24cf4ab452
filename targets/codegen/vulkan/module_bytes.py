"""Serialisation of a module of kind `vulkan`, in the format of TVM's Vulkan runtime.

The functions come first: name, arguments as DLPack types, launch tags. The shaders follow: a flag
(bit 0: scalars are in a uniform buffer), the number of words, the words.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..serialized import DLPACK_CODES, DLPackType, string, strings, types, u64

KIND = "vulkan"
FLAG_UNIFORM_BUFFER = 1
BUFFER = (DLPACK_CODES["handle"], 64, 1)


@dataclass(frozen=True)
class Shader:
    """One kernel; `arguments` are (DLPack code, bits, lanes), `tags` are in call order."""

    name: str
    arguments: tuple[DLPackType, ...]
    tags: tuple[str, ...]
    flag: int
    words: tuple[int, ...]


def pack_module(shaders: list[Shader]) -> bytes:
    data = string(KIND) + u64(len(shaders))
    for shader in shaders:
        data += string(shader.name) * 2 + types(shader.arguments) + strings(shader.tags)
        data += u64(len(shader.arguments)) + bytes(4 * len(shader.arguments))
    data += u64(len(shaders))
    for shader in shaders:
        words = struct.pack(f"<{len(shader.words)}I", *shader.words)
        payload = struct.pack("<IQ", shader.flag, len(shader.words)) + words
        data += string(shader.name) + string(payload)
    return data
