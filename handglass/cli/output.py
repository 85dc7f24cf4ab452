"""Formats results for standard output: one JSON object or aligned columns."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handglass.runtime.system.printable import json_text, printable


def print_json(value: dict[str, Any]) -> None:
    """Print the whole object on one line; if it cannot be formatted, nothing is printed.

    Characters that the encoding of standard output lacks are escaped as JSON does it.
    """
    text = json_text(plain(value))
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text))
    print(text, flush=True)


def plain(value: Any) -> Any:
    """Convert to JSON-compatible values: paths become strings, non-finite floats become null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def cost_text(us: float, measure: str = "seconds") -> str:
    """Format microseconds, or the thousands of instructions that stand for them."""
    return f"{us:,.1f} us" if measure == "seconds" else f"{us * 1000:,.0f} instructions"


def columns(rows: Sequence[Sequence[object]], indent: str = "") -> str:
    """Align every column but the last to its longest cell; control characters are escaped."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    widths[-1:] = [0]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join(indent + line for line in lines)


def size_text(count: float) -> str:
    """Format a number of bytes with decimal units (steps of 1000)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
