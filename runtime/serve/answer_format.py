"""The format that an answer must have, from the fields of a request."""

from __future__ import annotations

import json
from typing import Any

from .asked import GBNF, JSON, LARK, REGEX, SCHEMA, Format
from .fields import Fields
from .limits import GRAMMAR_BYTES
from .refusal import bad

SYNTAXES = (LARK, GBNF, REGEX)


def read_format(fields: Fields, name: str) -> Format | None:
    """`{"type": "text" | "json_object" | "json_schema" | "grammar", ...}`.

    A schema is under `json_schema` (chat completions) or beside the type (responses, or with
    `json_object`).
    """
    given = fields.object(name)
    if given is None:
        return None
    kind = given.one_of("type", ("text", JSON, SCHEMA, "grammar"))
    if kind is None:
        raise given.wrong("type", f"must be 'text', {JSON!r}, {SCHEMA!r} or 'grammar'")
    if kind == SCHEMA:
        return _schema(given.object(SCHEMA) or given)
    if kind == "grammar":
        return _grammar(given)
    if kind == JSON and given.get("schema") is not None:  # as llama.cpp's server takes it
        return _schema(given)
    given.refuse_others()
    return Format(JSON, '{"type": "object"}') if kind == JSON else None


def read_grammar(fields: Fields, name: str) -> Format | None:
    """A grammar in llama.cpp's notation, as its server takes it."""
    text = fields.text(name)
    return Format(GBNF, _bounded(text, fields.path(name))) if text else None


def _schema(fields: Fields) -> Format:
    schema: Any = fields.get("schema")
    if not isinstance(schema, dict | bool):
        raise fields.wrong("schema", "must be a JSON schema")
    name, _ = fields.text("name"), fields.flag("strict")  # a schema is always followed
    fields.refuse_others(("type", "description"))
    return Format(SCHEMA, _bounded(json.dumps(schema), fields.path("schema")), name or "")


def _grammar(fields: Fields) -> Format:
    syntax = fields.one_of("syntax", SYNTAXES) or LARK
    text = fields.text("definition")
    if not text:
        raise fields.wrong("definition", f"must be a grammar in {syntax} notation")
    fields.refuse_others(("type",))
    return Format(syntax, _bounded(text, fields.path("definition")))


def _bounded(text: str, path: str) -> str:
    if len(text.encode()) > GRAMMAR_BYTES:
        raise bad(f"{path} is longer than {GRAMMAR_BYTES} bytes", path)
    return text
