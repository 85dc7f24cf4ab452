"""Which pictures are shown to the text, and how often, with a session that records the calls."""

from collections.abc import Sequence

import numpy as np
import pytest

from handglass.runtime.answer.view import Key, View, in_view

A, B, C = ("a", 0), ("b", 0), ("c", 0)
KEYS: list[Key] = [1, A, 2, B, C, 3]
ROWS = {"a": 3, "b": 2, "c": 4}


class Recorder:
    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []  # first place, rows
        self.seen: list[int] = []

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        return np.array(ids, np.float32)[:, None]

    def show(self, rows: np.ndarray, first: int = 0) -> None:
        self.shown.append((first, len(rows)))

    def prefill(self, x: np.ndarray, pos: int, *, seen: int) -> np.ndarray:
        self.seen.append(seen)
        return x

    def decode(self, token: int, pos: int, *, seen: int) -> np.ndarray:
        self.seen.append(seen)
        return self.embed([token])


def features(digest: str) -> np.ndarray:
    return np.zeros((ROWS[digest], 1), np.float32)


def looked(view: View, *places: int) -> None:
    for place in places:
        view.look(KEYS, place, features)
        view.prefill(np.zeros((1, 1), np.float32), place)


@pytest.mark.parametrize(
    ("place", "digests"),
    [(0, []), (1, ["a"]), (2, ["a"]), (3, ["b"]), (4, ["b", "c"]), (5, ["b", "c"])],
)
def test_a_picture_is_seen_until_the_next_but_neighbours_together(
    place: int, digests: list[str]
) -> None:
    assert in_view(KEYS, place) == digests


def test_each_picture_is_shown_once_as_it_comes_into_view() -> None:
    session = Recorder()
    view = View(session, 9)
    assert view.starts(KEYS, 0, len(KEYS)) == [1, 3, 4]
    assert view.starts(KEYS, 3, len(KEYS)) == [4]
    looked(view, 0, 1, 3, 4, 5)
    view.decode(7, 6)
    assert session.shown == [(0, 3), (0, 2), (2, 4)]
    assert session.seen == [0, 3, 2, 6, 6, 6]


def test_after_a_rewind_it_is_shown_again_only_if_another_took_its_place() -> None:
    session = Recorder()
    view = View(session, 9)
    looked(view, 4, 3, 5, 2, 5)
    assert session.shown == [(0, 2), (2, 4), (0, 3), (0, 2), (2, 4)]
    assert session.seen == [6, 2, 6, 3, 6]


def test_what_was_interrupted_is_shown_again() -> None:
    session = Recorder()
    view = View(session, 9)

    def interrupted(digest: str) -> np.ndarray:
        raise KeyboardInterrupt

    looked(view, 1)
    with pytest.raises(KeyboardInterrupt):
        view.look(KEYS, 3, interrupted)
    looked(view, 1)
    view.forget()
    looked(view, 1)
    assert session.shown == [(0, 3)] * 3


def test_a_picture_is_one_row_of_the_prompt() -> None:
    assert View(Recorder(), 9).rows([A], features).tolist() == [[9]]
