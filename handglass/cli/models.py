"""`handglass models`: lists the models that can be compiled, and how that was verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import fill
from typing import TYPE_CHECKING

from .options import Json
from .output import columns, print_json

if TYPE_CHECKING:
    from handglass.compiler.model_table import Row

WIDTH = 100
HEAD = ("MODEL", "ARCHITECTURE", "TEXT MODEL", "TOKENS PER TILE")


def models(json: Json = False) -> None:
    """List the models that can be compiled."""
    from handglass.compiler.model_table import TABLE

    if json:
        print_json({"models": [asdict(row) for row in TABLE]})
        return
    print_rows(HEAD, TABLE)


def print_rows(head: tuple[str, ...], rows: Sequence[Row]) -> None:
    """The table, with the details of each row below it."""
    cells = [(row.name, ", ".join(row.architectures), row.text, row.tokens) for row in rows]
    lines = columns([head, *cells]).splitlines()
    print(lines[0])
    for line, row in zip(lines[1:], rows, strict=True):
        print(line)
        for detail in details(row):
            print(fill(detail, WIDTH, initial_indent="    ", subsequent_indent="      "))


def details(row: Row) -> Iterator[str]:
    if row.version != "-":
        yield f"version: {row.version}"
    yield f"vision: {row.vision}"
    if row.video != "-":
        yield f"video: {row.video}"
    for question in row.questions:
        is_open = question.default is None
        yield f"config.json {'must' if is_open else 'may'} say {question.described}"
    for proof in row.proofs:
        yield f"verified: {proof.what} ({proof.test.partition('::')[2]})"
    yield f"not verified: {row.unverified}"
