"""PTX to C++: a file per kernel, a function per basic block, straight code over 32 lanes."""

from __future__ import annotations

import json

from . import arithmetic, bits, collectives, matrices, memory
from .declarations import offsets
from .instructions import emit
from .parse import Instruction, Kernel, Program, parse
from .ptx_types import PtxError
from .site import Frame, Site, frame_of

FAMILIES = (arithmetic, bits, collectives, matrices, memory)
"""Imported for the rows that they enter into the table of instructions."""


def translate(ptx: str, only: str = "") -> dict[str, str]:
    """The C++ of each kernel by its name, or of `only` one.

    Raises PtxError, with the line, for unknown PTX.
    """
    program = parse(ptx, only)
    if not program.kernels:
        raise PtxError(f"no kernel {only} in this PTX".replace("  ", " "))
    return {kernel.name: _kernel(kernel, program) for kernel in program.kernels}


def _kernel(kernel: Kernel, program: Program) -> str:
    frame = frame_of(kernel, program)
    steps = [_step(frame, i, block) for i, block in enumerate(kernel.blocks)]
    parts = [
        '#include "matrix.h"\n',
        *(_data(i, content) for i, content in enumerate(program.data.values())),
        _registers(frame),
        *steps,
        _description(kernel, frame, len(program.data)),
        _layout(kernel, frame),
    ]
    return "\n".join(parts)


def _data(number: int, content: bytes) -> str:
    numbers = ", ".join(map(str, content))
    return f"alignas(16) static const u8 data_{number}[{len(content)}] = {{{numbers}}};"


def _registers(frame: Frame) -> str:
    words = {"pred": "u32", "8": "u8", "16": "u16", "32": "u32", "64": "u64", "x2": "u32"}
    members = []
    for register in frame.scopes.registers.values():
        ending = next(e for e in words if register.ptx_type.endswith(e))
        count = "" if register.count is None else f"[{max(register.count, 1)}]"
        members.append(f"  alignas(64) {words[ending]} {register.member}{count}[32];")
    return "struct Registers {\n" + "\n".join(members) + "\n  u32 last;\n};\n"


def _step(frame: Frame, number: int, block: list[Instruction]) -> str:
    lines = [
        f"static void step_{number}(Warp& w, const u32 m) {{",
        "  Registers& __restrict r = *static_cast<Registers*>(w.registers);",
        "  u32 on[32]; lanes_of(m, on);",
        f"  w.enter(m, {len(block)});",
    ]
    lines += ["  " + emit(Site(frame, block, i, number + 1)) for i in range(len(block))]
    return "\n".join([*lines, f"  w.go({number + 1}, m);", "}"])


def _description(kernel: Kernel, frame: Frame, data: int) -> str:
    """The table of basic blocks, ended by one that leaves, and everything a launch must know."""
    names = ", ".join(f"step_{i}" for i in range(len(kernel.blocks)))
    firsts = [block[0] for block in kernel.blocks if block]
    frame.texts.update({first.line: first.text for first in firsts})
    lines = ", ".join(str(block[0].line if block else 0) for block in kernel.blocks)
    texts = ", ".join(f"{{{n}, {json.dumps(t)}}}" for n, t in sorted(frame.texts.items()))
    ranges = ", ".join(f"{{u64(data_{i}), u64(data_{i}) + sizeof data_{i}}}" for i in range(data))
    sizes = f"{frame.shared_bytes}, {frame.local_bytes}, {frame.param_bytes}"
    counts = f"{frame.granule}, {frame.accesses}"
    return f"""
static void end(Warp& w, const u32 m) {{ w.leave(m); }}
static const Step steps[] = {{{names}, end}};
static const u32 lines[] = {{{lines}, 0}};
static const Text texts[] = {{{texts or '{0, ""}'}}};
static const Range data[] = {{{ranges or "{0, 0}"}}};
static const Kernel kernel = {{"{kernel.name}", steps, lines, sizeof(Registers), {sizes}, {counts},
                               data, {data}, texts, {len(frame.texts)}}};
extern "C" int launch_{kernel.name}(const u32* grid, const u32* block, u32 dynamic,
                                    const u8* params, const u64* table, u32 count, u32 mode,
                                    u64* statistics, char* message) {{
  return launch(kernel, grid, block, dynamic, params, table, count, mode, statistics, message);
}}"""


def _layout(kernel: Kernel, frame: Frame) -> str:
    """Parameters: their number, each one's offset and size; bytes of shared memory and of all."""
    at, _ = offsets(kernel.params)
    numbers = [len(kernel.params)]
    for parameter in kernel.params:
        numbers += [at[parameter.name], parameter.size]
    numbers += [frame.shared_bytes, frame.param_bytes]
    declaration = f'extern "C" const unsigned layout_{kernel.name}[]'
    return f"{declaration};\n{declaration} = {{{', '.join(map(str, numbers))}}};\n"
