"""Pictures of a conversation are read, cut and encoded once."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scripted_model import model, picture, says

from handglass.errors import InputError
from handglass.runtime.answer.model import Model
from handglass.runtime.answer.pictures import TILES_KEPT
from handglass.runtime.prompt import preprocess
from handglass.runtime.prompt.pictures.upright import Upright
from handglass.runtime.system import file_state


def test_encoded_tiles_are_reported() -> None:
    """Those of pictures that the model has not seen yet, the same tile once."""
    asked, reports = model(says("Red.") * 3), list[tuple[int, int]]()
    for shades in ([1, 2, 1], [1, 2], [2, 3]):
        shown = [picture(shade) for shade in shades]
        stream = asked.chat("What?", shown, stream=True)
        stream.watch(lambda *counts: reports.append(counts))
        assert reports == []
        stream.finish()
        expected = {(1, 2, 1): [(0, 2), (1, 2), (2, 2)], (1, 2): [], (2, 3): [(0, 1), (1, 1)]}
        assert reports == expected[tuple(shades)]
        reports.clear()


def test_a_picture_given_twice_is_encoded_once(tmp_path: Path) -> None:
    asked = model()
    picture(9).save(tmp_path / "x.png")
    ways = [picture(9), np.asarray(picture(9)), tmp_path / "x.png", str(tmp_path / "x.png")]
    answer = asked.chat("Which?", ways, max_tokens=2)
    assert asked.session.images == 1
    assert len(answer.timings.encode_ms) == 4
    assert [ms > 0 for ms in answer.timings.encode_ms] == [True, False, False, False]
    answer = asked.chat("And now?", [picture(8), picture(9)], max_tokens=2)
    assert asked.session.images == 2
    assert [ms > 0 for ms in answer.timings.encode_ms] == [True, False]


def counted(asked: Model, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Pictures that are read and cut from now on."""
    seen: list[object] = []
    read = preprocess.open_picture

    def count(picture: object) -> Upright:
        seen.append(picture)
        return read(picture)

    monkeypatch.setattr(preprocess, "open_picture", count)
    return seen


def test_earlier_pictures_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = model()
    path = tmp_path / "x.png"
    picture(3).save(path)
    seen = counted(asked, monkeypatch)
    monkeypatch.setattr(file_state, "RECENT_NS", -1)
    shown = asked.prepare(picture(9))
    turns = [{"role": "user", "content": [shown, path, "What?"]}]
    for _ in range(3):
        answer = asked.chat(turns, max_tokens=2).text
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And?"}]
    assert len(seen) == 2, "the prepared one and the file, once each"
    assert asked.session.images == 2


def test_a_file_that_may_still_change_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second change of the same size within a tick of the clock would leave no trace."""
    asked = model()
    path = tmp_path / "x.png"
    picture(3).save(path)
    seen = counted(asked, monkeypatch)
    monkeypatch.setattr(file_state, "RECENT_NS", 3_600_000_000_000)
    for _ in range(2):
        asked.chat("What?", [path], max_tokens=1)
    assert len(seen) == 2


def test_a_file_that_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = model()
    path = tmp_path / "x.png"
    seen = counted(asked, monkeypatch)
    monkeypatch.setattr(file_state, "RECENT_NS", -1)
    for shade in (3, 200):
        picture(shade).save(path)
        for _ in range(2):
            asked.chat("What?", [path], max_tokens=1)
    assert len(seen) == 2 and asked.session.images == 2


def test_what_was_prepared_for_another_model_is_refused() -> None:
    prepared = model().prepare(picture(1))
    vision = dataclasses.replace(prepared.vision, mean=(0.4, 0.5, 0.5))
    other = dataclasses.replace(prepared, vision=vision)
    with pytest.raises(InputError, match="prepared"):
        model().chat("What?", [other])


def test_only_the_latest_pictures_are_remembered() -> None:
    asked = model()
    for shade in range(TILES_KEPT + 1):
        asked.chat("x", [picture(shade)], max_tokens=1)
    asked.chat("x", [picture(TILES_KEPT)], max_tokens=1)
    assert asked.session.images == TILES_KEPT + 1
    asked.chat("x", [picture(0)], max_tokens=1)
    assert asked.session.images == TILES_KEPT + 2


def test_another_picture_is_not_taken_for_the_one_in_the_cache() -> None:
    asked = model()
    asked.chat("x", [picture(1)], max_tokens=3)
    again = asked.chat("x", [picture(200)], max_tokens=8)
    assert again.timings.reused_tokens == 3  # <s>, the role marker, <image>
    assert again.tokens == model().chat("x", [picture(200)], max_tokens=8).tokens
