"""Renders a chat template in a process of its own, within limits of time and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from handglass.errors import InputError
from handglass.runtime.system.isolated import run_isolated
from handglass.runtime.system.json_text import parse_json
from handglass.runtime.system.printable import printable
from handglass.runtime.system.scratch_file import scratch_file

PACKAGE = "jinja2"
INSTALL = "pip install 'handglass[compile]'"
SECONDS = 20.0
"""For the process, with its start."""
MAX_OUTPUT = 4 << 20
CHILD = """
import sys
sys.path[:] = [path for path in sys.path if path]
from handglass.compiler.checkpoints.rendering_child import main
main(*sys.argv[1:])
"""


@dataclass(frozen=True)
class Rendered:
    """The text of a conversation; None if the template ends with `error`."""

    text: str | None
    error: str = ""


def can_render() -> bool:
    """Whether the package is installed."""
    return find_spec(PACKAGE) is not None


def render(template: str, variables: Sequence[Mapping[str, Any]]) -> list[Rendered]:
    """The texts of a template for each set of variables; see `can_render`."""
    with scratch_file() as given, scratch_file() as output:
        given.write(json.dumps({"template": template, "variables": variables}).encode())
        given.seek(0)
        numbers = given.fileno(), output.fileno()
        ended = run_isolated(CHILD, *map(str, numbers), limit_s=SECONDS, keep=numbers)
        output.seek(0)
        data = output.read(MAX_OUTPUT + 1)
    pairs = _pairs(data, len(variables))
    if ended.code or pairs is None:
        why = f"too much time or memory, or a damaged Jinja ({ended.words})"
        return [Rendered(None, why)] * len(variables)
    return [Rendered(text, printable(error)) for text, error in pairs]


def _pairs(data: bytes, count: int) -> list[list[Any]] | None:
    try:
        pairs = parse_json(data, "the texts", MAX_OUTPUT)
    except InputError:
        return None
    return pairs if isinstance(pairs, list) and len(pairs) == count else None
