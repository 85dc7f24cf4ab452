"""A SPIR-V module as sections of 32-bit words, with unique types, constants and variables.

This module handles the layout of SPIR-V and is independent of TIR. Equal declarations share an id,
and ids are assigned in order of use, so the output is reproducible.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from .opcodes import (
    ADDRESSING_LOGICAL,
    EXECUTION_MODE_LOCAL_SIZE,
    EXECUTION_MODEL_GL_COMPUTE,
    GLSL_STD_450,
    MAGIC,
    MEMORY_MODEL_GLSL450,
    MEMORY_MODEL_VULKAN,
    VERSION_1_3,
    VERSION_1_6,
    Capability,
    Op,
    StorageClass,
)

WORD = 0xFFFFFFFF


def instruction(op: int, *operands: int) -> list[int]:
    """The words of one instruction."""
    return [(len(operands) + 1) << 16 | op, *(operand & WORD for operand in operands)]


def string(text: str) -> list[int]:
    """A literal string: bytes in little-endian words, terminated by a zero byte."""
    data = text.encode() + b"\0"
    data += bytes(-len(data) % 4)
    return list(struct.unpack(f"<{len(data) // 4}I", data))


class Words:
    """A module under construction; `finish` joins the sections."""

    def __init__(self) -> None:
        self.count = 0
        self.capabilities: dict[int, None] = {Capability.Shader: None}
        self.extensions: dict[str, None] = {}
        self.names: list[int] = []
        self.processed: list[int] = []
        self.decorations: list[int] = []
        self.declarations: list[int] = []
        self.variables: dict[int, int] = {}  # variables of the module -> their storage class
        self.known: dict[tuple[int, ...], int] = {}
        self.glsl_set = 0

    def id(self) -> int:
        """A new id."""
        self.count += 1
        return self.count

    def type(self, op: int, *operands: int) -> int:
        """A type, declared once."""
        key = (op, *operands)
        if key not in self.known:
            self.known[key] = self.id()
            self.declarations += instruction(op, self.known[key], *operands)
        return self.known[key]

    def new_type(self, op: int, *operands: int) -> int:
        """A new type: structures and arrays are decorated, so equal ones stay distinct."""
        result = self.id()
        self.declarations += instruction(op, result, *operands)
        return result

    def constant(self, op: int, type: int, *operands: int) -> int:
        """A constant, declared once."""
        key = (op, type, *operands)
        if key not in self.known:
            self.known[key] = self.id()
            self.declarations += instruction(op, type, self.known[key], *operands)
        return self.known[key]

    def variable(self, pointer: int, storage: int) -> int:
        """A variable of the module."""
        result = self.id()
        self.declarations += instruction(Op.Variable, pointer, result, storage)
        self.variables[result] = storage
        return result

    def decorate(self, target: int, *operands: int) -> None:
        self.decorations += instruction(Op.Decorate, target, *operands)

    def decorate_member(self, target: int, member: int, *operands: int) -> None:
        self.decorations += instruction(Op.MemberDecorate, target, member, *operands)

    def name(self, target: int, text: str) -> None:
        self.names += instruction(Op.Name, target, *string(text))

    def process(self, text: str) -> None:
        """Add an OpModuleProcessed line for other readers; drivers ignore it."""
        self.processed += instruction(Op.ModuleProcessed, *string(text))

    def glsl(self) -> int:
        """The id of the imported instruction set GLSL.std.450."""
        self.glsl_set = self.glsl_set or self.id()
        return self.glsl_set

    @property
    def has_vulkan_memory_model(self) -> bool:
        return Capability.VulkanMemoryModel in self.capabilities

    @property
    def version(self) -> int:
        return VERSION_1_6 if self.has_vulkan_memory_model else VERSION_1_3

    def finish(self, name: str, main: int, size: Iterable[int], code: list[int]) -> list[int]:
        """The whole module: one entry point `name`, the function `main`, workgroups of `size`."""
        sections = [
            *self._head(name, main),
            *instruction(Op.ExecutionMode, main, *self._size(size)),
        ]
        sections += self.names + self.processed + self.decorations + self.declarations + code
        return [MAGIC, self.version, 0, self.count + 1, 0, *sections]

    def _size(self, size: Iterable[int]) -> list[int]:
        return [EXECUTION_MODE_LOCAL_SIZE, *size]

    def _head(self, name: str, main: int) -> list[int]:
        words: list[int] = []
        for capability in sorted(self.capabilities):
            words += instruction(Op.Capability, capability)
        for extension in sorted(self.extensions):
            words += instruction(Op.Extension, *string(extension))
        if self.glsl_set:
            words += instruction(Op.ExtInstImport, self.glsl_set, *string(GLSL_STD_450))
        model = MEMORY_MODEL_VULKAN if self.has_vulkan_memory_model else MEMORY_MODEL_GLSL450
        words += instruction(Op.MemoryModel, ADDRESSING_LOGICAL, model)
        entry = [EXECUTION_MODEL_GL_COMPUTE, main, *string(name), *self._interface()]
        return words + instruction(Op.EntryPoint, *entry)

    def _interface(self) -> list[int]:
        """Interface variables: all variables of the module since SPIR-V 1.4, before only inputs."""
        every = self.version > VERSION_1_3
        return [
            v for v, storage in self.variables.items() if every or storage == StorageClass.Input
        ]
