"""Reads the body of /v1/embeddings, and tells its rows."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from .embedder import AskedRows, Rows
from .fields import Fields
from .limits import TEXTS
from .refusal import bad

HARMLESS = ("metadata", "safety_identifier", "service_tier")
BASE64 = "base64"


def read_embeddings(body: Any) -> AskedRows:
    """Raises Refusal for whatever this server would not follow."""
    fields = Fields(body)
    fields.only("dimensions")
    packing = fields.one_of("encoding_format", ("float", BASE64))
    asked = AskedRows(
        model=fields.text("model") or "",
        texts=_texts(fields.get("input")),
        is_packed=packing == BASE64,
        user=(fields.text("user") or "")[:64],
    )
    fields.refuse_others(HARMLESS)
    return asked


def _texts(given: Any) -> tuple[str, ...]:
    texts = given if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise bad("input must be a string, or a list of strings; tokens are not taken", "input")
    if len(texts) > TEXTS:
        raise bad(f"{len(texts)} texts, at most {TEXTS} at once", "input")
    return tuple(texts)


def embeddings(asked: AskedRows, rows: Rows) -> dict[str, Any]:
    """The answer, as OpenAI's API has it."""
    data = [
        {"object": "embedding", "index": number, "embedding": _told(row, asked.is_packed)}
        for number, row in enumerate(rows.rows)
    ]
    usage = {"prompt_tokens": rows.tokens, "total_tokens": rows.tokens}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}


def _told(row: np.ndarray, is_packed: bool) -> str | list[float]:
    if is_packed:
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return [float(value) for value in row]
