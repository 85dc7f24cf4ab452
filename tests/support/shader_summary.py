"""The golden text of a shader: its listing, or a summary if that is long."""

from __future__ import annotations

import re
from collections import Counter
from math import prod

from handglass.targets.codegen.vulkan.listing import listing
from handglass.targets.codegen.vulkan.module_bytes import Shader

LONG = 300
TYPE = re.compile(r"[a-z]+(\d+)(?:x(\d+))?((?:\[\d+\])*)$")
VARIABLE = re.compile(r"([^ :]+): (\w+) (\S+)")
POINTER = re.compile(r"(%\d+) = AccessChain (\S+)\* (\S+)")
ACCESS = re.compile(r"(?:%\d+ = )?(Load|Store|CooperativeMatrix(?:Load|Store)KHR) .*?(%\d+)")


def golden_text(shader: Shader) -> str:
    """The listing, or a summary if it is longer than `LONG` lines."""
    text = listing(shader.words)
    return text if text.count("\n") <= LONG else summary(text)


def summary(text: str) -> str:
    """The header, and the number of memory accesses by width and of instructions by name."""
    head, code = text.split("\n\n")
    lines = [line.strip() for line in code.splitlines() if line.startswith("  ")]
    known = [VARIABLE.match(line) for line in (*head.splitlines(), *lines)]
    variables = {m[1]: (m[2], m[3]) for m in known if m}
    shared = sum(size(type) for storage, type in variables.values() if storage == "Workgroup")
    names = Counter(opcode(line) for line in lines)
    return "\n".join(
        [
            head,
            "",
            f"{len(lines)} instructions, {shared} bytes of shared memory",
            *counted(accesses(lines, variables)),
            *counted(names),
            "",
        ]
    )


def accesses(lines: list[str], variables: dict[str, tuple[str, str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    places: dict[str, str] = {}
    for line in lines:
        if made := POINTER.match(line):
            places[made[1]] = f"{made[2]} in {variables[made[3]][0]}"
        elif (used := ACCESS.match(line)) and used[2] in places:
            found[f"{used[1]} {places[used[2]]}"] += 1
    return found


def opcode(line: str) -> str:
    words = line.split()
    if words[0].endswith(":"):
        return "Variable"
    return words[2] if words[0].startswith("%") else words[0]


def size(type: str) -> int:
    """Bytes of a type such as `float32x4[12]`."""
    parts = TYPE.match(type)
    assert parts is not None, type
    extents = (int(n) for n in re.findall(r"\d+", parts[3]))
    return int(parts[1]) // 8 * int(parts[2] or 1) * prod(extents)


def counted(many: Counter[str]) -> list[str]:
    return [f"{count:6} {name}" for name, count in sorted(many.items())]
