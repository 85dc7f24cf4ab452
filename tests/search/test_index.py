"""The index of a folder of pictures: incremental, resumable, and read with care."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handglass.errors import HandglassError, InputError, MismatchError, UsageError
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.prompt.preprocess import read_picture
from handglass.runtime.search.encoder import unit
from handglass.runtime.search.index_file import FORMAT, About, Index, arrays_of
from handglass.runtime.search.journal import Journal
from handglass.runtime.search.making import Outcome, update
from handglass.runtime.search.nearest import nearest
from handglass.runtime.search.sheet import sheet

COLOURS = {"red.png": (255, 0, 0), "sub/green.png": (0, 255, 0), "blue.JPG": (0, 0, 255)}


def encode(data: bytes) -> np.ndarray:
    """The mean colour: a model that needs no weights."""
    return unit(np.asarray(read_picture(data), np.float32).mean((0, 1)) + np.float32(0.01))


def silent(phase: str, done: int, total: int) -> None:
    """Progress that nobody sees."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in COLOURS.items():
        draw(tmp_path / "pictures" / name, colour)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def draw(path: Path, colour: tuple[int, int, int], side: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path)


def about(folder: Path, bundle: str = "b" * 64) -> About:
    return About(FORMAT, "/bundle", bundle, str(folder))


def made(folder: Path, encoder: Callable[[Any], np.ndarray] = encode) -> tuple[Outcome, Index]:
    path = folder.parent / "index"
    outcome = update(path, about(folder), encoder, silent)
    return outcome, Index.read(path)


def refuse(data: bytes) -> np.ndarray:
    raise AssertionError("nothing had to be encoded")


def names(index: Index) -> list[str]:
    return [entry.name for entry in index.entries]


def test_the_nearest_pictures_come_first(folder: Path) -> None:
    outcome, index = made(folder)
    assert (outcome.total, outcome.added, outcome.skipped) == (3, 3, {})
    green = unit(np.array([0.1, 1, 0], np.float32))
    found = nearest(index, green, 2)
    assert [one.name for one in found] == ["sub/green.png", "red.png"]
    np.testing.assert_allclose([one.cosine for one in found], [0.995, 0.1], atol=0.02)
    assert len(nearest(index, green, 99)) == 3
    with pytest.raises(MismatchError, match="3 columns"):
        nearest(index, green[:2], 1)


def test_what_is_known_is_not_encoded_again(folder: Path) -> None:
    made(folder)
    outcome, index = made(folder, refuse)
    assert (outcome.added, outcome.unchanged) == (0, 3)
    (folder / "red.png").rename(folder / "rouge.png")
    os.utime(folder / "blue.JPG", ns=(1, 1))
    (folder / "sub" / "green.png").unlink()
    outcome, index = made(folder, refuse)
    assert (outcome.total, outcome.moved, outcome.unchanged, outcome.removed) == (2, 2, 0, 2)
    assert names(index) == ["blue.JPG", "rouge.png"]
    draw(folder / "rouge.png", (1, 2, 3), 20)
    outcome, _ = made(folder)
    assert outcome.added == 1


def test_a_damaged_picture_is_reported_and_skipped(folder: Path) -> None:
    (folder / "bad.png").write_bytes((folder / "red.png").read_bytes()[:40])
    outcome, index = made(folder)
    assert list(outcome.skipped) == ["bad.png"] and "bad.png" not in names(index)
    assert outcome.total == 3


@pytest.mark.parametrize("pictures", [0, 1])
def test_a_folder_without_pictures_that_can_be_read(pictures: int, tmp_path: Path) -> None:
    for number in range(pictures):
        (tmp_path / f"{number}.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no picture"):
        update(tmp_path / "index", about(tmp_path), encode, silent)
    assert not (tmp_path / "index").exists()


def test_another_bundle_or_folder_is_refused(folder: Path) -> None:
    made(folder)
    for other in (about(folder, "c" * 64), about(folder / "sub")):
        with pytest.raises(MismatchError, match="name"):
            update(folder.parent / "index", other, encode, silent)


def test_two_processes_cannot_make_one_index(folder: Path) -> None:
    path = folder.parent / "index"
    with Journal(path), pytest.raises(UsageError, match="another process"):
        update(path, about(folder), encode, silent)


CHILD = """
import sys, time
sys.path[:0] = sys.argv[3:]
from pathlib import Path
import test_index
def slow(data):
    time.sleep(0.2 if test_index.count else 0)
    test_index.count += 1
    print(test_index.count, flush=True)
    return test_index.encode(data)
test_index.count = 0
folder = Path(sys.argv[1])
test_index.update(Path(sys.argv[2]), test_index.about(folder), slow, test_index.silent)
"""


def test_a_killed_run_is_resumed(folder: Path) -> None:
    for number in range(20):
        draw(folder / f"{number}.png", (number, 5, 5))
    path = folder.parent / "index"
    command = [sys.executable, "-c", CHILD, str(folder), str(path), *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while child.stdout.readline().strip() not in ("4", ""):
            pass
        child.send_signal(signal.SIGKILL)
    assert not path.exists()
    with (path.parent / "index.journal").open("ab") as journal:
        journal.write(b'{"name": "cut')  # in the middle of a line
    encoded = 0

    def counted(data: bytes) -> np.ndarray:
        nonlocal encoded
        encoded += 1
        return encode(data)

    outcome, index = made(folder, counted)
    assert 3 <= 23 - encoded <= 5, "what was ready has been encoded again"
    assert outcome.total == outcome.added == 23
    clean = np.stack([encode((folder / name).read_bytes()) for name in names(index)])
    np.testing.assert_array_equal(index.rows, clean)
    assert not (path.parent / "index.journal").exists()


def test_a_journal_of_another_making_is_not_used(folder: Path) -> None:
    _, index = made(folder)
    path = folder.parent / "index"
    path.unlink()
    with Journal(path) as journal:
        journal.resume(about(folder, "c" * 64), None)
        journal.add(index.entries[0], np.ones(3, np.float32))
    outcome, again = made(folder)
    assert outcome.added == 3
    np.testing.assert_array_equal(again.rows, index.rows)


def test_damaged_indexes_are_refused(folder: Path) -> None:
    _, index = made(folder)
    arrays = {"rows": index.rows, **arrays_of(index.about, index.entries)}
    changes: dict[str, np.ndarray] = {
        "hashes": arrays["hashes"][:2],
        "rows": np.where(np.eye(3, dtype=bool), np.float32(np.nan), arrays["rows"]),
        "names": np.frombuffer(b"../a\0b\0c\0", np.uint8),
        "sizes": arrays["sizes"].astype(np.int32),
        "about": np.frombuffer(b"{}", np.uint8),
    }
    for name, array in changes.items():
        path = folder.parent / f"bad-{name}"
        changed = {**arrays, name: np.ascontiguousarray(array)}
        with TensorWriter(path, [(n, a.shape, a.dtype.name) for n, a in changed.items()]) as out:
            for key, value in changed.items():
                out.write(key, value)
        with pytest.raises(InputError, match="index|about"):
            read = Index.read(path)
            list(read.entries)
            nearest(read, index.rows[0], 1)
    path.write_bytes(b"x")
    with pytest.raises(HandglassError):
        Index.read(path)


def test_the_contact_sheet_is_one_page(folder: Path) -> None:
    draw(folder / "<b>.png", (250, 250, 0), 700)
    _, index = made(folder)
    (folder / "red.png").unlink()
    page = sheet("<red> & round", folder, nearest(index, index.rows[0], 9))
    assert page.count("data:image/jpeg;base64,") == 3 and "cannot be read" in page
    assert "&lt;b&gt;.png" in page and "&lt;red&gt; &amp; round" in page
    assert "<b>" not in page and "<red>" not in page
    assert len(page) < 100_000


def test_what_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, cut and foreign files, loops of links, pipes, folders without permission."""
    good = (folder / "red.png").read_bytes()
    contents = {"empty.png": b"", "cut.png": good[:50], "text.png": b"Dear diary", "a.txt": good}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "again").symlink_to(".")
    os.mkfifo(folder / "pipe.png")
    scandir = os.scandir

    def forbidden(path: Any) -> Any:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    outcome, index = made(folder)
    unread = {"empty.png", "cut.png", "text.png", "loop.png", "pipe.png", "sub"}
    assert outcome.skipped.keys() == unread and names(index) == ["blue.JPG", "red.png"]
    assert outcome.skipped["sub"] == "cannot be read: Permission denied"


def test_odd_names_are_kept(folder: Path) -> None:
    odd = ["new\nline.png", "\x1b[31m.png", "\u732b.png", os.fsdecode(b"\xff.png")]
    for number, name in enumerate(odd):
        draw(folder / name, (number, 90, 9))
    _, index = made(folder)
    assert set(odd) <= set(names(index))
    assert len(sheet("x", folder, nearest(index, index.rows[0], 99))) > 0


def test_an_index_that_is_up_to_date_is_left_alone(folder: Path) -> None:
    made(folder)
    path = folder.parent / "index"
    before = path.stat().st_ino
    made(folder, refuse)
    assert path.stat().st_ino == before
    os.utime(folder / "red.png", ns=(1, 1))
    made(folder, refuse)
    assert path.stat().st_ino != before
    assert not (folder.parent / "index.journal").exists()


def test_a_bundle_that_has_moved_is_noted(folder: Path) -> None:
    _, index = made(folder)
    moved = replace(index.about, bundle="/elsewhere")
    update(folder.parent / "index", moved, refuse, silent)
    assert Index.read(folder.parent / "index").about == moved


def test_a_run_that_fails_leaves_no_journal_without_rows(folder: Path) -> None:
    made(folder)
    path = folder.parent / "index"
    with pytest.raises(MismatchError):
        update(path, about(folder, "c" * 64), encode, silent)
    with pytest.raises(UsageError, match="is a folder"):
        update(folder, about(folder), encode, silent)
    assert sorted(one.name for one in folder.parent.iterdir()) == ["index", "pictures"]


def test_the_journal_is_locked_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has opened the journal of another one, which removes it then, opens it
    again: a third one would not see the lock of a file without a name."""
    path, calls = folder.parent / "index", 0
    samestat = os.path.samestat

    def once_removed(a: Any, b: Any) -> bool:
        nonlocal calls
        calls += 1
        return calls > 1 and samestat(a, b)

    monkeypatch.setattr(os.path, "samestat", once_removed)
    with Journal(path), pytest.raises(UsageError, match="another process"):
        Journal(path)
    assert calls == 2


def test_what_is_found_is_what_a_product_finds(folder: Path) -> None:
    """Recall of the exact search is 1, after changes too."""
    rng = np.random.default_rng(4)
    for number in range(60):
        draw(folder / f"{number}.png", tuple(rng.integers(0, 256, 3).tolist()))
    made(folder)
    for name in ("3.png", "40.png"):
        (folder / name).unlink()
    draw(folder / "7.png", (1, 200, 1), 5)
    _, index = made(folder)
    assert "3.png" not in names(index) and len(index.entries) == 61
    for query in map(unit, rng.standard_normal((20, 3))):
        truth = index.rows.astype(np.float64) @ query
        found = [one.cosine for one in nearest(index, query, 10)]
        np.testing.assert_allclose(found, np.sort(truth)[::-1][:10], atol=1e-6)
