"""A kept conversation: the same comes back, and nothing that a file says is believed."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_talk import HERE, KEYS, talk
from scripted_model import MANIFEST

from handglass.errors import DeviceError, InputError
from handglass.runtime.answer.saved_conversation import (
    TALK,
    SavedConversation,
    arrays_of,
    read_conversation,
)
from handglass.runtime.answer.saved_file import write_conversation
from handglass.runtime.bundle.entries import FileEntry
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.tensors import TensorFile


def same(a: Any, b: Any) -> bool:
    """Whether two trees of dataclasses, tuples and arrays are equal."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if hasattr(a, "digest"):
        return bool(a.digest == b.digest and a.role == b.role and a.rows == b.rows)
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "talk"
    size = write_conversation(path, talk(), HERE)
    assert path.stat().st_size == size and path.stat().st_mode & 0o777 == 0o600
    assert same(read_conversation(path, HERE), talk())
    assert TensorFile.open(path).shape("state.k") == (2, 1, 8, 16), "more than the part was kept"
    empty = SavedConversation("demo", None, ())
    write_conversation(path, empty, HERE)
    assert same(read_conversation(path, HERE), empty)
    assert [p.name for p in tmp_path.iterdir()] == ["talk"]


def test_another_bundle_gets_the_turns_without_the_cache(tmp_path: Path) -> None:
    write_conversation(tmp_path / "talk", talk(), HERE)
    other = dataclasses.replace(HERE, files={"lib.so": FileEntry("1" * 64, 1)})
    found = read_conversation(tmp_path / "talk", other)
    assert same(found, dataclasses.replace(talk(), cache=None, is_foreign=True))
    blind = dataclasses.replace(other, vision=None)
    found = read_conversation(tmp_path / "talk", blind)
    assert [s.tiles for turn in found.turns for s in turn.shown] == [(), ()]
    assert found.waiting[0].original == b"the file"


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def set_in(*keys: Any, to: Any) -> Change:
    def change(talk: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        inner: Any = talk
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to

    return change


def replace(name: str, array: np.ndarray | None) -> Change:
    def change(talk: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = array  # type: ignore[assignment]
        if array is None:
            del arrays[name]

    return change


HOSTILE: dict[str, Change] = {
    "version": set_in("version", to=2),
    "key": set_in("more", to=1),
    "type": set_in("turns", to={}),
    "token beyond": set_in("cache", "runs", 0, "ids", to=[1, 2, MANIFEST.vocab_size]),
    "token below": set_in("cache", "runs", 0, "ids", to=[1, -2, 3]),
    "digest": set_in("cache", "runs", 1, "tile", to="../x"),
    "rows": set_in("cache", "runs", 1, "rows", to=1 << 62),
    "row": set_in("cache", "runs", 1, "first", to=-1),
    "longer than its state": set_in("cache", "runs", 0, "ids", to=[1] * 20),
    "beyond the context": set_in("cache", "runs", 0, "ids", to=[1] * 65),
    "nothing": set_in("cache", "runs", to=[]),
    "copies": set_in("cache", "copies", to=[9, 4]),
    "copy beyond": set_in("cache", "copies", to=[4, 99]),
    "no copy": set_in("cache", "copies", to=[4, 9, 10]),
    "marks": set_in("turns", 0, "question", to="no mark"),
    "shown": set_in("turns", 1, "shown", to=-1),
    "pictures": set_in("shown", to=[]),
    "role": set_in("shown", 0, "frames", 0, 0, "role", to="x"),
    "times": set_in("shown", 1, "frames", 0, 0, "times", to=[0, 1 << 40]),
    "frames of a picture": set_in("shown", 1, "is_video", to=False),
    "no tiles": set_in("shown", 0, "frames", to=[[]]),
    "more tiles": set_in("shown", 1, "frames", 0, 0, "times", to=[0, 1, 2, 3]),
    "tile": replace("tile.0.0", np.zeros((15, 14, 3), np.uint8)),
    "large tile": replace("tile.0.0", np.zeros((14 * 9, 14 * 9, 3), np.uint8)),
    "kind of tile": replace("tile.0.0", np.zeros((14, 14, 3), np.int8)),
    "no tile": replace("tile.0.0", None),
    "state": replace("state.v", np.zeros((2, 65, 8), np.float16)),
    "kind of state": replace("state.v", np.zeros((2, 12, 8), np.float32)),
    "no state": replace("state.memory", None),
    "places": replace("places", np.full((len(KEYS), 3), 64, np.int32)),
    "logits": replace("copy.0", np.zeros(3, np.float32)),
    "talk": replace(TALK, np.frombuffer(b"[]", np.uint8)),
    "no json": replace(TALK, np.frombuffer(b"{", np.uint8)),
    "no talk": replace(TALK, None),
    "kind of talk": replace(TALK, np.zeros(4, np.float32)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "talk"
    arrays = arrays_of(talk(), HERE)
    described = json.loads(arrays[TALK].tobytes())
    HOSTILE[name](described, arrays)
    if TALK in arrays and arrays[TALK].dtype == np.uint8 and len(arrays[TALK]) > 9:
        arrays[TALK] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    with TensorWriter(path, [(n, a.shape, a.dtype.name) for n, a in arrays.items()]) as writer:
        for tensor, array in arrays.items():
            writer.write(tensor, np.ascontiguousarray(array))
    with pytest.raises(InputError, match="talk"):
        read_conversation(path, HERE)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    write_conversation(tmp_path / "talk", talk(), HERE)
    data = (tmp_path / "talk").read_bytes()
    for length in (0, 5, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(InputError):
            read_conversation(tmp_path / "cut", HERE)


def test_a_killed_process_of_the_same_number_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f".talk.partial-{os.getpid()}").write_bytes(b"half")
    write_conversation(tmp_path / "talk", talk(), HERE)
    assert [path.name for path in tmp_path.iterdir()] == ["talk"]


def test_nothing_else_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    for there in (path, tmp_path):
        with pytest.raises(InputError, match="no kept conversation"):
            write_conversation(there, talk(), HERE)
    assert path.read_text() == "mine"
    with pytest.raises(DeviceError, match="cannot write"):
        write_conversation(tmp_path / "none" / "talk", talk(), HERE)


KILLS = """
import json, os, random, signal, sys, time
sys.path[:0] = sys.argv[2:]
from dataclasses import replace
from pathlib import Path
from kept_talk import HERE, talk
from handglass.runtime.answer.saved_conversation import SavedTurn, read_conversation
from handglass.runtime.answer.saved_file import write_conversation

path, first, draw = Path(sys.argv[1]), talk(), random.Random(3)

def save(number):
    turns = (*first.turns, SavedTurn("number", str(number)))
    write_conversation(path, replace(first, turns=turns), HERE)

def save_on(number, report):
    os.write(report, number.to_bytes(4, "big"))
    while True:
        number += 1
        save(number)
        os.write(report, number.to_bytes(4, "big"))

save(0)
start = time.perf_counter()
save(0)
took = time.perf_counter() - start
number, lost, begun = 0, [], 0
for kills in range(500):
    if begun and kills >= 16:
        break
    there, report = os.pipe()
    child = os.fork()
    if not child:
        save_on(number, report)
    os.close(report)
    os.read(there, 4)  # it has begun
    time.sleep(draw.uniform(0, 3) * took)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reported = b"".join(iter(lambda: os.read(there, 4096), b""))
    os.close(there)
    begun += any(path.parent.glob(".talk.partial-*"))
    found = int(read_conversation(path, HERE).turns[-1].answer)
    last = int.from_bytes(reported[-4:], "big") if reported else number
    if found not in (last, last + 1):
        lost.append([last, found])
    number = found
save(number)
print(json.dumps({"lost": lost, "saved": number, "begun": begun}))
"""


def test_killed_at_any_moment_nothing_saved_is_lost(tmp_path: Path) -> None:
    """The file holds the last conversation whose saving was reported, or the one after it."""
    support = str(Path(__file__).parents[1] / "support")
    command = [sys.executable, "-c", KILLS, str(tmp_path / "talk"), support]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["lost"] == []
    assert found["saved"] > 0 < found["begun"], "no process was killed while it saved"
    assert [p.name for p in tmp_path.iterdir()] == ["talk"], "what was cut off is still there"
