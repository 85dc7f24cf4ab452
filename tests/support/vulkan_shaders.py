"""Small SPIR-V kernels, assembled word by word, and their serialized module."""

import dataclasses
import struct
from collections.abc import Sequence
from dataclasses import dataclass

BUFFER = (3, 64, 1)  # DLPack's opaque handle
I32 = (0, 32, 1)
F32 = (2, 32, 1)
TAGS = ("blockIdx.x", "threadIdx.x")


@dataclass(frozen=True)
class Kernel:
    """A kernel of a module; bit 0 of `flag`: scalars are in a uniform buffer."""

    name: str
    arguments: Sequence[tuple[int, int, int]]
    words: Sequence[int]
    flag: int = 0
    tags: Sequence[str] = TAGS


def pack_module(*kernels: Kernel) -> bytes:
    out = bytearray()

    def u64(value: int) -> None:
        out.extend(struct.pack("<Q", value))

    def text(value: str | bytes) -> None:
        raw = value.encode() if isinstance(value, str) else value
        u64(len(raw))
        out.extend(raw)

    text("vulkan")
    u64(len(kernels))
    for kernel in kernels:
        text(kernel.name)
        text(kernel.name)
        u64(len(kernel.arguments))
        for argument in kernel.arguments:
            out.extend(struct.pack("<BBH", *argument))
        u64(len(kernel.tags))
        for tag in kernel.tags:
            text(tag)
        u64(len(kernel.arguments))
        out.extend(bytes(4 * len(kernel.arguments)))
    u64(len(kernels))
    for kernel in kernels:
        text(kernel.name)
        words = kernel.words
        text(struct.pack(f"<IQ{len(words)}I", kernel.flag, len(words), *words))
    return bytes(out)


class Assembler:
    """Collects the sections of a module; ids are assigned in order."""

    def __init__(self, version: int = 0x00010300) -> None:
        self.version = version
        self.head: list[int] = []
        self.decorations: list[int] = []
        self.types: list[int] = []
        self.code: list[int] = []
        self.bound = 1

    def new(self) -> int:
        self.bound += 1
        return self.bound - 1

    @staticmethod
    def put(section: list[int], op: int, *operands: int) -> None:
        section.extend([(len(operands) + 1) << 16 | op, *(x & 0xFFFFFFFF for x in operands)])

    def made(self, section: list[int], op: int, *operands: int) -> int:
        """An instruction whose result id comes first."""
        result = self.new()
        self.put(section, op, result, *operands)
        return result

    def value(self, op: int, kind: int, *operands: int) -> int:
        """An instruction of the code with a type and a result."""
        result = self.new()
        self.put(self.code, op, kind, result, *operands)
        return result

    def constant(self, kind: int, word: int) -> int:
        result = self.new()
        self.put(self.types, 43, kind, result, word)
        return result

    def variable(self, pointer: int, storage: int) -> int:
        result = self.new()
        self.put(self.types, 59, pointer, result, storage)
        return result

    def words(self) -> list[int]:
        body = self.head + self.decorations + self.types + self.code
        return [0x07230203, self.version, 0, self.bound, 0, *body]


def text_words(text: str) -> list[int]:
    raw = text.encode() + b"\0"
    raw += bytes(-len(raw) % 4)
    return list(struct.unpack(f"<{len(raw) // 4}I", raw))


def axpy(
    name: str = "axpy",
    *,
    local: Sequence[int] = (64, 1, 1),
    uniform: bool = False,
    extra_scalars: int = 0,
    capabilities: Sequence[int] = (),
    shared_words: int = 0,
    version: int = 0x00010300,
    read_only: bool = True,
    repeat: bool = False,
) -> Kernel:
    """y[i] = alpha * x[i] + y[i] for i < n: buffers x, y, scalars alpha (f32), n (i32).

    `extra_scalars` unused i32 come between the two scalars; `repeat` makes the kernel loop forever.
    """
    a = Assembler(version)
    entry, block_id, thread_id = a.new(), a.new(), a.new()
    for capability in (1, *capabilities):
        a.put(a.head, 17, capability)
    a.put(a.head, 14, 0, 1)
    a.put(a.head, 15, 5, entry, *text_words(name), block_id, thread_id)
    a.put(a.head, 16, entry, 17, *local)
    a.put(a.decorations, 71, block_id, 11, 26)
    a.put(a.decorations, 71, thread_id, 11, 27)
    void = a.made(a.types, 19)
    function = a.made(a.types, 33, void)
    f32, i32 = a.made(a.types, 22, 32), a.made(a.types, 21, 32, 1)
    u32, boolean = a.made(a.types, 21, 32, 0), a.made(a.types, 20)
    u32x3 = a.made(a.types, 23, u32, 3)
    p_input = a.made(a.types, 32, 1, u32x3)
    a.put(a.types, 59, p_input, block_id, 1)
    a.put(a.types, 59, p_input, thread_id, 1)
    array = a.made(a.types, 29, f32)
    a.put(a.decorations, 71, array, 6, 4)
    record = a.made(a.types, 30, array)
    a.put(a.decorations, 71, record, 2)
    a.put(a.decorations, 72, record, 0, 35, 0)
    p_record, p_f32 = a.made(a.types, 32, 12, record), a.made(a.types, 32, 12, f32)
    x, y = a.variable(p_record, 12), a.variable(p_record, 12)
    for binding, variable in enumerate((x, y)):
        a.put(a.decorations, 71, variable, 34, 0)
        a.put(a.decorations, 71, variable, 33, binding)
    if read_only:
        a.put(a.decorations, 71, x, 24)
    # the scalars, 8 bytes each
    where = 2 if uniform else 9
    members = [f32, *([i32] * extra_scalars), i32]
    scalars = a.made(a.types, 30, *members)
    a.put(a.decorations, 71, scalars, 2)
    for member in range(len(members)):
        a.put(a.decorations, 72, scalars, member, 35, 8 * member)
    p_scalars = a.made(a.types, 32, where, scalars)
    pf, pi = a.made(a.types, 32, where, f32), a.made(a.types, 32, where, i32)
    constants = a.variable(p_scalars, where)
    if uniform:
        a.put(a.decorations, 71, constants, 34, 0)
        a.put(a.decorations, 71, constants, 33, 2)
    zero, last = a.constant(i32, 0), a.constant(i32, len(members) - 1)
    size = a.constant(i32, local[0])
    if shared_words:
        length = a.constant(u32, shared_words)
        shared = a.made(a.types, 28, f32, length)
        a.variable(a.made(a.types, 32, 4, shared), 4)
    a.put(a.code, 54, void, entry, 0, function)
    a.put(a.code, 248, a.new())
    block = a.value(124, i32, a.value(81, u32, a.value(61, u32x3, block_id), 0))
    thread = a.value(124, i32, a.value(81, u32, a.value(61, u32x3, thread_id), 0))
    i = a.value(128, i32, a.value(132, i32, block, size), thread)
    if repeat:
        _never_ends(a)
    n = a.value(61, i32, a.value(65, pi, constants, last))
    inside = a.value(177, boolean, i, n)
    yes, after = a.new(), a.new()
    a.put(a.code, 247, after, 0)
    a.put(a.code, 250, inside, yes, after)
    a.put(a.code, 248, yes)
    alpha = a.value(61, f32, a.value(65, pf, constants, zero))
    xi = a.value(61, f32, a.value(65, p_f32, x, zero, i))
    target = a.value(65, p_f32, y, zero, i)
    product = a.value(133, f32, alpha, xi)
    a.put(a.code, 62, target, a.value(129, f32, product, a.value(61, f32, target)))
    a.put(a.code, 249, after)
    a.put(a.code, 248, after)
    a.put(a.code, 253)
    a.put(a.code, 56)
    arguments = [BUFFER, BUFFER, F32, *([I32] * extra_scalars), I32]
    return Kernel(name, arguments, a.words(), flag=int(uniform))


def _never_ends(a: Assembler) -> None:
    head, body, again, merge = a.new(), a.new(), a.new(), a.new()
    a.put(a.code, 249, head)
    a.put(a.code, 248, head)
    a.put(a.code, 246, merge, again, 0)
    a.put(a.code, 249, body)
    a.put(a.code, 248, body)
    a.put(a.code, 249, again)
    a.put(a.code, 248, again)
    a.put(a.code, 249, head)
    a.put(a.code, 248, merge)


def processed(kernel: Kernel, text: str) -> Kernel:
    """The kernel with a line of OpModuleProcessed, at the position required by SPIR-V."""
    words = list(kernel.words)
    at = 5
    while words[at] & 0xFFFF not in (71, 72, *range(19, 40)):  # decorations, types
        at += words[at] >> 16
    line = text_words(text)
    words[at:at] = [(len(line) + 1) << 16 | 330, *line]
    return dataclasses.replace(kernel, words=words)
