"""What `handglass embed` writes: the rows of pictures and texts, in one of three kinds of file.

`.npy`: an array (n, width) float32. `.safetensors`: the same as `rows`; `inputs`, a JSON list of
the names of the pictures and of the texts; `about`, JSON: which bundle made them. `handglass
search` reads it. `.jsonl`: a JSON object for each row, on a line.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from handglass.errors import DeviceError, InputError, UsageError

from ..bundle.tensor_writer import TensorWriter
from ..bundle.tensors import TensorFile
from ..system.json_dataclass import parse_dataclass
from ..system.json_text import parse_json
from ..system.regular_file import read_regular
from .index_file import About, Entry, Index, parts

LINES_BYTES = 1 << 28
"""Of a file of lines at most."""
FORMAT = "handglass-rows 1"
UNIT = 1e-3
"""How much the length of a row may differ from 1."""
PICTURE, TEXT = "image", "text"


@dataclass(frozen=True)
class Input:
    """What a row is made of: a picture, by its path, or a text."""

    kind: str  # PICTURE or TEXT
    value: str

    def line(self, row: np.ndarray) -> str:
        """The row (width,) as a JSON object, in ASCII."""
        return json.dumps(self.plain(row))

    def plain(self, row: np.ndarray) -> dict[str, Any]:
        # Nine digits tell float32 numbers apart.
        return {self.kind: self.value, "embedding": [float(f"{x:.9g}") for x in row]}


def check_output(path: Path) -> None:
    """Raise UsageError if it has another suffix than those of WRITERS."""
    if path.suffix not in WRITERS:
        raise UsageError(
            f"{path}: must end in {', '.join(WRITERS)}; the suffix says what is written"
        )


def write_rows(path: Path, about: About, inputs: Sequence[Input], rows: np.ndarray) -> None:
    """Write rows (n, width) float32, and replace the file at once. Raises DeviceError."""
    part = path.with_name(f"{path.name}.part")
    try:
        WRITERS[path.suffix](part, about, inputs, rows)
        part.replace(path)
    except OSError as error:
        raise DeviceError(f"{path}: cannot write: {error.strerror}") from error


def _array(path: Path, about: About, inputs: Sequence[Input], rows: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, rows)
    path.write_bytes(content.getbuffer())


def _tensors(path: Path, about: About, inputs: Sequence[Input], rows: np.ndarray) -> None:
    texts = {"inputs": [one.value for one in inputs], "about": asdict(about)}
    arrays = {
        name: np.frombuffer(json.dumps(value).encode(), np.uint8) for name, value in texts.items()
    } | {"rows": np.ascontiguousarray(rows)}
    with TensorWriter(path, [(n, a.shape, a.dtype.name) for n, a in arrays.items()]) as writer:
        for name, array in arrays.items():
            writer.write(name, array)


def _lines(path: Path, about: About, inputs: Sequence[Input], rows: np.ndarray) -> None:
    with path.open("w", encoding="ascii") as file:
        for one, row in zip(inputs, rows, strict=True):
            file.write(one.line(row) + "\n")


WRITERS: dict[str, Callable[[Path, About, Sequence[Input], np.ndarray], None]] = {
    ".npy": _array,
    ".safetensors": _tensors,
    ".jsonl": _lines,
}
"""By the suffix of the file."""


class Inputs(Sequence[Entry]):
    """Entries that only have a name, each made when it is asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> Entry: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Entry]: ...

    def __getitem__(self, at: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(at, slice):
            return Inputs(self._names[at])
        return Entry(self._names[at], 0, 0, b"")


def open_index(path: Path) -> Index:
    """An index of pictures, or the rows of a `.safetensors` file as one, whose entries are named as
    the inputs were. Raises InputError for what is neither, for a damaged one, and for rows that do
    not have length 1."""
    file = TensorFile.open(path)
    if set(file.names) != {"rows", "inputs", "about"}:
        return Index.read(path)
    values = {
        name: parse_json(file.array(name).tobytes(), f"{path}: {name}", LINES_BYTES)
        for name in ("inputs", "about")
    }
    about = parse_dataclass(About, values["about"], f"{path}: about")
    rows, inputs = file.array("rows"), values["inputs"]
    is_list = isinstance(inputs, list) and all(isinstance(one, str) for one in inputs)
    if about.format != FORMAT or not is_list:
        raise InputError(f"{path}: not what handglass embed writes, or of another version")
    if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(inputs):
        raise InputError(f"{path}: rows must be float32, one for each of inputs; it is damaged")
    if not all(_are_unit(rows[part]) for part in parts(len(rows))):
        raise InputError(f"{path}: rows have other lengths than 1; embed without --raw to search")
    return Index(about, Inputs(inputs), rows, path)


def _are_unit(rows: np.ndarray) -> bool:
    lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(1))
    return bool((np.abs(lengths - 1) < UNIT).all())  # NaN is not below


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends. Raises InputError for a file that is too large
    or not UTF-8."""
    try:
        data = read_regular(path, LINES_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return split_lines(data, str(path))


def split_lines(data: bytes, where: str) -> list[str]:
    """See read_lines; `where` names the content in errors."""
    if len(data) > LINES_BYTES:
        raise InputError(f"{where}: has more than {LINES_BYTES} bytes; divide it")
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 at byte {error.start}") from error
    if not lines[-1]:
        lines.pop()  # after the last line's end
    return [line.removesuffix("\r") for line in lines]
