"""Rows of texts for /v1/embeddings: an encoder under its name, and the texts of one request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..search.encoder import Encoder
from .limits import TEXT_PER_POSITION
from .refusal import Refusal, bad

ENCODE_TEXT = "encode_text"
"""The capability that embeddings need."""


@dataclass(frozen=True)
class AskedRows:
    model: str
    texts: tuple[str, ...]
    is_packed: bool = False
    """Rows are wanted as base64 of their float32 numbers, lowest byte first."""
    user: str = ""
    stream: bool = False
    """Never: rows come all at once."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows (n, width) float32 of n texts, each of length 1, and their tokens."""

    rows: np.ndarray
    tokens: int  # without padding


@dataclass
class Embedder:
    """An encoder of texts under its name."""

    name: str
    encoder: Encoder
    created: int  # seconds since 1970

    @property
    def entry(self) -> dict[str, Any]:
        """The entry of /v1/models."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "handglass",
            "context": self.encoder.text_length,
            "embeddings": True,
        }

    def ready(self, asked: AskedRows) -> ReadyRows:
        """Raises Refusal for a text that is certainly too long, before anything is computed."""
        longest = TEXT_PER_POSITION * self.encoder.text_length
        for number, text in enumerate(asked.texts):
            if len(text.encode("utf-8", "surrogatepass")) > longest:
                raise self.too_long(number)
        return ReadyRows(asked, self, RowStream(self, asked.texts))

    def too_long(self, number: int) -> Refusal:
        return bad(
            f"input[{number}] is longer than the {self.encoder.text_length} tokens that the model "
            "reads; shorten it",
            "input",
            "context_length_exceeded",
        )


@dataclass(frozen=True)
class ReadyRows:
    """A request for rows that only waits for its turn."""

    asked: AskedRows
    served: Embedder
    stream: RowStream


class RowStream:
    """Computes the rows of some texts, one after the other; `answer` has all of them afterwards."""

    def __init__(self, served: Embedder, texts: tuple[str, ...]) -> None:
        self._served, self._texts = served, texts
        self._is_closed = False
        self.answer: Rows | None = None

    def watch(self, report: Callable[[int, int], None]) -> None:
        """As of an answer's stream, whose pictures are watched: here are none."""

    def items(self) -> Iterator[Any]:
        """Nothing: rows come all at once. Raises Refusal for a text that is too long."""
        encoder, rows = self._served.encoder, list[np.ndarray]()
        tokens, cut = encoder.text_tokens, encoder.texts_cut
        for number, text in enumerate(self._texts):
            if self._is_closed:
                return
            rows.append(encoder.text(text))
            if encoder.texts_cut > cut:
                raise self._served.too_long(number)
        self.answer = Rows(np.stack(rows), encoder.text_tokens - tokens)
        yield from ()

    def close(self) -> None:
        """End after the current text; there is no answer then."""
        self._is_closed = True
