"""Which pictures the text of a conversation sees, for a model that attends to their rows.

One key of the prompt stands for a picture. From it on, until the next one, the text sees that
picture; pictures whose keys follow one another are seen together. The state holds what the text
needs of the pictures in view, so a prompt is computed in parts that begin at pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np

from .engines import Engine

Key = int | tuple[str, int]  # of one position: a token, or the digest of a tile and its row
Features = Callable[[str], np.ndarray]  # digest of a tile -> (rows, hidden_size)


class Shows(Protocol):
    """The part of a session that shows pictures to the text."""

    def embed(self, ids: Sequence[int]) -> np.ndarray: ...
    def show(self, rows: np.ndarray, first: int = 0) -> None: ...
    def prefill(self, x: np.ndarray, pos: int, *, seen: int) -> np.ndarray: ...
    def decode(self, token: int, pos: int, *, seen: int) -> np.ndarray: ...


class OwnRows:
    """Of a model whose pictures are rows of the prompt: nothing is shown besides."""

    def __init__(self, session: Engine) -> None:
        self._session = session

    def forget(self) -> None:
        """There is nothing to forget."""

    def starts(self, keys: Sequence[Key], start: int, end: int) -> list[int]:
        return []

    def look(self, keys: Sequence[Key], place: int, features: Features) -> None:
        """There is nothing to show."""

    def rows(self, keys: Sequence[tuple[str, int]], features: Features) -> np.ndarray:
        """Rows of the prompt, for keys of one tile: (len(keys), hidden_size)."""
        return features(keys[0][0])[[row for _, row in keys]]

    def prefill(self, x: np.ndarray, place: int, *positions: Any) -> np.ndarray:
        """As `Session.prefill`."""
        return self._session.prefill(x, place, *positions)

    def decode(self, token: int, place: int, *positions: Any) -> np.ndarray:
        """As `Session.decode`."""
        return self._session.decode(token, place, *positions)


class View:
    """What the state of one conversation shows. `token`: the one that stands for a picture."""

    def __init__(self, session: Shows, token: int) -> None:
        self._session, self._token = session, token
        self._shown: list[tuple[str, int]] = []  # digest and rows of each picture in the state
        self._seen = 0  # rows of them that the last step saw

    def forget(self) -> None:
        """The state shows nothing that is known."""
        self._shown, self._seen = [], 0

    def starts(self, keys: Sequence[Key], start: int, end: int) -> list[int]:
        """Where other pictures come into view, after `start` and before `end`."""
        return [i for i in range(start + 1, end) if isinstance(keys[i], tuple)]

    def look(self, keys: Sequence[Key], place: int, features: Features) -> None:
        """Show the pictures that the keys from `place` to the next picture see."""
        wanted = in_view(keys, place)
        same = _common(wanted, [digest for digest, _ in self._shown])
        for digest in wanted[same:]:
            del self._shown[same:]  # before the call below, which may be interrupted
            rows, first = features(digest), self._rows(same)
            self._session.show(rows, first)
            self._shown.append((digest, len(rows)))
            same += 1
        self._seen = self._rows(len(wanted))

    def prefill(self, x: np.ndarray, place: int, *positions: Any) -> np.ndarray:
        """As `Session.prefill`, of rows that see what `look` has shown."""
        return self._session.prefill(x, place, seen=self._seen)

    def decode(self, token: int, place: int, *positions: Any) -> np.ndarray:
        """As `Session.decode`, of a token that sees what the last rows have seen."""
        return self._session.decode(token, place, seen=self._seen)

    def rows(self, keys: Sequence[tuple[str, int]], features: Features) -> np.ndarray:
        """Rows of the prompt, for keys of one picture: (len(keys), hidden_size)."""
        return self._session.embed([self._token] * len(keys))

    def _rows(self, count: int) -> int:
        return sum(rows for _, rows in self._shown[:count])


def view_of(session: Engine, picture: int | None) -> OwnRows | View:
    """`picture`: the token in the place of a picture; None: pictures are rows of the prompt."""
    return OwnRows(session) if picture is None else View(cast(Shows, session), picture)


def in_view(keys: Sequence[Key], place: int) -> list[str]:
    """Digests of the pictures that the key at `place` sees, in order."""
    last = next((i for i in range(place, -1, -1) if isinstance(keys[i], tuple)), -1)
    first = last
    while first > 0 and isinstance(keys[first - 1], tuple):
        first -= 1
    return [key[0] for key in keys[first : last + 1] if isinstance(key, tuple)]


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
