"""The process that renders a chat template, which is a program of a stranger.

The sandbox of Jinja keeps a template from Python's objects; the limits of the process bound its
time and memory. Templates expect the environment of transformers: `raise_exception`, `strftime_now`
and the block `generation`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MEMORY = 512 << 20
"""Bytes that the address space may grow by."""
SECONDS = 2
"""Processor time."""
LONGEST = 1 << 16
"""Characters of a text."""
DATE = "26 Jul 2024"
"""What `strftime_now` returns: a text must not depend on the day."""


def main(given: str, output: str) -> None:
    """`given`: JSON of the template and the variables of each text. Writes, as JSON, a pair for
    each text to the descriptor `output`: the text or null, and the error."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(int(given), "rb", closefd=False) as file:
        request = json.load(file)
    template = _compiled(request["template"])
    texts = [_rendered(template, variables) for variables in request["variables"]]
    with os.fdopen(int(output), "wb", closefd=False) as out:
        out.write(json.dumps(texts).encode())


def _compiled(text: str) -> Any:
    """The template, or the error of one that is not valid."""
    from jinja2 import TemplateError

    try:
        return _environment().from_string(text)
    except (TemplateError, ValueError, RecursionError, MemoryError, SyntaxError) as error:
        return error


def _rendered(template: Any, variables: Mapping[str, Any]) -> tuple[str | None, str]:
    if isinstance(template, BaseException):
        return None, _words(template)
    parts, left = [], LONGEST
    try:
        for part in template.generate(**variables):
            parts.append(part)
            left -= len(part)
            if left < 0:
                return None, f"more than {LONGEST} characters"
    except Exception as error:  # noqa: BLE001  a template may raise any
        return None, _words(error)
    return "".join(parts), ""


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _environment() -> Any:
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Marks what training learns from; its content is rendered as it is."""

        tags = {"generation"}  # noqa: RUF012  as in the base class

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: DATE}
    environment.filters["tojson"] = _as_json
    return environment


def _as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: object) -> None:
    from jinja2 import TemplateError

    raise TemplateError(str(message))


if __name__ == "__main__":
    main(*sys.argv[1:])
