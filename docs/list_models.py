"""Writes docs/models.md: the models that can be compiled.

    python docs/list_models.py

The rows are those of compiler/model_table.py. `tests/models/test_model_table.py` fails if the
committed page differs from the output.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from json import dumps
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "models.md"
sys.path.insert(0, str(ROOT))

from handglass.compiler.checkpoints.unstated import Question  # noqa: E402
from handglass.compiler.model_proofs import Proof  # noqa: E402
from handglass.compiler.model_table import TABLE, Row  # noqa: E402

HEAD = """# Models

![Vision towers and decoders, and the models that combine them](pictures/models.svg)

This page is generated from `compiler/model_table.py` by `docs/list_models.py`; `handglass models`
prints the same. A model is recognized by `architectures` (else `model_type`) and `version` of its
config.json, and may have any sizes. `handglass compile --dry-run --model FOLDER` says what a
config.json would become.
"""
SUPPORTED = "## Supported\n"
ASKED = """## What the files of a release do not say

Its config.json has no key for these choices, and no other file of the release makes them. Add the
key to config.json: `handglass compile` honours it, and refuses a model without it if there is no
default. The Python code beside the weights makes the choice.
"""
VERIFIED = """## What was verified

Each line is a test of this repository. *Not verified* is what no test can show here.
"""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for cells in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(cells)} |".replace("| --- |", "|---|").replace(" --- |", "---|")
    yield ""


def facts(row: Row) -> tuple[str, ...]:
    names = ", ".join(f"`{name}`" for name in row.architectures)
    return row.name, names, row.version, row.text, row.vision, row.tokens, row.video


FACTS = "model", "architecture", "version", "text model", "vision", "tokens per tile", "video"


def proof(found: Proof) -> str:
    path, _, name = found.test.partition("::")
    return f"* {found.what}: [`{name}`](../{path})"


def asked(row: Row, question: Question) -> tuple[str, ...]:
    values = "; ".join(f"`{dumps(value)}`: {text}" for value, text in question.values.items())
    default = "none" if question.default is None else f"`{dumps(question.default)}`"
    return row.name, f"`{question.key}`", question.asks, values, default


CHOICES = "model", "key", "choice", "values", "default"


def verified(row: Row) -> Iterator[str]:
    yield f"**{row.name}**\n"
    yield from map(proof, row.proofs)
    yield f"* not verified: {row.unverified}\n"


def page() -> str:
    choices = [asked(row, question) for row in TABLE for question in row.questions]
    parts = [HEAD, SUPPORTED, *table(FACTS, map(facts, TABLE))]
    parts += [ASKED, *table(CHOICES, choices), VERIFIED]
    for row in TABLE:
        parts += verified(row)
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(page(), "utf-8")
