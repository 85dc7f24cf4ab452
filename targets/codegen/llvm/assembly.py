"""Analysis of generated code: the loops of an AArch64 assembly listing.

A loop is the span of text from a label to a branch back to it; it is innermost if it contains no
other loop. LLVM emits the body of a hot loop contiguously, so the span is the loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL = re.compile(r"^([.\w$]+):")
_BRANCH = re.compile(r"^(?:b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:.*,\s*)?([.\w$]+)$")
_STACK = re.compile(r"^(?:ld|st)[a-z0-9]*\s+.*\[(?:sp|x29)\b")
_VECTOR = re.compile(r"^\w+\s+\{?\s*[qvds]\d+\b")


@dataclass(frozen=True)
class Loop:
    """Instructions from a label to the branch back to it, without comments and directives."""

    label: str
    instructions: tuple[str, ...]

    def count(self, name: str) -> int:
        """Number of instructions with the mnemonic `name`."""
        return sum(line.split(None, 1)[0] == name for line in self.instructions)

    @property
    def vector_stack_traffic(self) -> list[str]:
        """Loads and stores of vector registers with a stack address: spilled accumulators."""
        return [s for s in self.instructions if _STACK.match(s) and _VECTOR.match(s)]


def lines_of(text: str) -> list[str]:
    """Labels and instructions of a listing, with whitespace normalised to single spaces."""
    lines = (re.split(r"//|(?<!\w)@", line, maxsplit=1)[0] for line in text.splitlines())
    words = (" ".join(line.split()) for line in lines)
    return [line for line in words if line and (_LABEL.match(line) or not line.startswith("."))]


def innermost_loops(text: str) -> list[Loop]:
    """All innermost loops of `text`, in the order of their labels."""
    lines = lines_of(text)
    places = {m[1]: at for at, line in enumerate(lines) if (m := _LABEL.match(line))}
    spans = set()
    for end, line in enumerate(lines):
        target = _BRANCH.match(line)
        if target and places.get(target[1], end + 1) <= end:
            spans.add((places[target[1]], end))
    inner = [a for a in spans if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    return [_loop(lines[start : end + 1]) for start, end in sorted(inner)]


def _loop(lines: list[str]) -> Loop:
    body = tuple(line for line in lines if not _LABEL.match(line))
    return Loop(lines[0].rstrip(":"), body)


def hot_loops(text: str, name: str) -> list[Loop]:
    """Innermost loops with the instruction `name` (sdot, smmla, fmla), most occurrences first."""
    found = [loop for loop in innermost_loops(text) if loop.count(name)]
    return sorted(found, key=lambda loop: -loop.count(name))
