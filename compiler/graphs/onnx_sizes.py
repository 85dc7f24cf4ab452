"""The sizes of the inputs of an ONNX file, with numbers in place of names.

Exporters name the sizes that may vary (`batch_size`, `sequence`); compiled code has those that were
asked for. A name stands for one number wherever inputs have it. One that says "batch" and is the
first size wherever it occurs is 1, unless something else is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from handglass.errors import InputError, UsageError

from .onnx_bounds import elements

Shapes = Mapping[str, tuple[int, ...]]
Size = int | str
"""A number, or the name that a file has in its place; "" if it has not even a name."""
BATCH = "batch"
PICTURE = {1: 3, 2: 224, 3: 224}
"""Axis of an input of four axes -> a size to show in an example."""
TOKENS = 128
"""A size to show in an example, of any other axis."""
log = logging.getLogger(__name__)


def fix_inputs(path: Path, model: Any, shapes: Shapes) -> None:
    """Give all inputs of `model` numbers, in place; `shapes`: those asked for, by input.

    Raises UsageError for shapes that are missing or do not fit the file, InputError for sizes out
    of bounds.
    """
    inputs = _inputs(path, model)
    if unknown := sorted(shapes.keys() - inputs.keys()):
        known = ", ".join(inputs)
        raise UsageError(f"--shape {unknown[0][:80]}: no such input; {path} has {known:.200}")
    sizes = {name: _sizes(kind) for name, kind in inputs.items()}
    numbers = _asked(sizes, shapes)
    batches = [name for name in _batches(sizes) if name not in numbers]
    numbers |= dict.fromkeys(batches, 1)
    found = {name: shapes.get(name) or _with(numbers, sizes[name]) for name in inputs}
    fixed = {name: shape for name, shape in found.items() if shape is not None}
    if left := {name: sizes[name] for name in inputs if name not in fixed}:
        raise UsageError(f"{path}: {_question(left, numbers)}")
    for name, shape in fixed.items():
        elements(f"{path}: the input {name[:80]!r}", shape)
        del inputs[name].shape.dim[:]
        for size in shape:
            inputs[name].shape.dim.add().dim_value = size
    for name in batches:
        log.warning("%s: the size %.80r of its inputs is 1; --shape asks for another", path, name)


def _inputs(path: Path, model: Any) -> dict[str, Any]:
    """The type of each input that is no weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {i.name: i.type.tensor_type for i in model.graph.input if i.name not in weights}
    for name, kind in inputs.items():
        if not kind.elem_type:
            raise InputError(f"{path}: the input {name[:80]!r} is no tensor")
    return inputs


def _sizes(kind: Any) -> tuple[Size, ...] | None:
    """None: not even the number of axes is known."""
    if not kind.HasField("shape"):
        return None
    return tuple(dim.dim_value or dim.dim_param for dim in kind.shape.dim)


def _asked(sizes: Mapping[str, Sequence[Size] | None], shapes: Shapes) -> dict[str, int]:
    """The numbers that the shapes asked for give to names."""
    numbers: dict[str, int] = {}
    for name, shape in shapes.items():
        stated = sizes[name]
        if stated is None:
            continue
        if len(stated) != len(shape):
            raise UsageError(
                f"--shape {name[:80]}: {len(shape)} sizes, the input has {len(stated)}"
            )
        for axis, (size, number) in enumerate(zip(stated, shape, strict=True)):
            expected = size if isinstance(size, int) else numbers.get(size, number)
            if number != expected:
                what = "the file says" if isinstance(size, int) else f"but {size[:80]!r} also is"
                raise UsageError(f"--shape {name[:80]}: size {axis} is {number}, {what} {expected}")
            if isinstance(size, str) and size:
                numbers[size] = number
    return numbers


def _batches(sizes: Mapping[str, Sequence[Size] | None]) -> list[str]:
    """The names that can only mean how many examples there are."""
    axes: dict[str, set[int]] = {}
    for shape in sizes.values():
        for axis, size in enumerate(shape or ()):
            if isinstance(size, str):
                axes.setdefault(size, set()).add(axis)
    return [name for name, found in axes.items() if BATCH in name.lower() and found == {0}]


def _with(numbers: Mapping[str, int], shape: Sequence[Size] | None) -> tuple[int, ...] | None:
    """The shape with numbers; None if one is missing."""
    if shape is None:
        return None
    found = [size if isinstance(size, int) else numbers.get(size) for size in shape]
    return tuple(n for n in found if n is not None) if None not in found else None


def _question(inputs: Mapping[str, Sequence[Size] | None], numbers: Mapping[str, int]) -> str:
    """Which sizes are missing, and options that give them."""
    shown = "; ".join(f"{name[:80]} ({_text(shape)})" for name, shape in inputs.items())
    options = " ".join(_options(inputs, numbers))
    return (
        f"sizes of inputs have no numbers: {shown:.500}; say which to compile for, such as "
        f"{options}"
    )


def _text(shape: Sequence[Size] | None) -> str:
    return "?" if shape is None else ",".join(str(size)[:40] or "?" for size in shape)


def _options(
    inputs: Mapping[str, Sequence[Size] | None], numbers: Mapping[str, int]
) -> Iterator[str]:
    """Options that together give a number to every name that has none."""
    known = dict(numbers)
    for name, shape in inputs.items():
        if shape is None:
            yield f"--shape {quote(f'{name[:80]}=SIZE,...')}"
        elif _with(known, shape) is None:
            example = [
                size if isinstance(size, int) else known.get(size) or _example(axis, len(shape))
                for axis, size in enumerate(shape)
            ]
            named = zip(shape, example, strict=True)
            known |= {size: number for size, number in named if isinstance(size, str) and size}
            sizes = ",".join(map(str, example))
            yield f"--shape {quote(f'{name[:80]}={sizes}')}"


def _example(axis: int, rank: int) -> int:
    if axis == 0:
        return 1
    return PICTURE[axis] if rank == len(PICTURE) + 1 else TOKENS


def parse_shapes(given: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """`name=1,3,224,224` -> the sizes by name. Raises UsageError."""
    shapes = {}
    for text in given:
        name, equals, sizes = text.rpartition("=")
        try:
            shapes[name] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            equals = ""
        if not (name and equals) or min(shapes[name]) < 1:
            raise UsageError(
                f"--shape {text:.100}: must be NAME=SIZE,SIZE,..., such as x=1,3,224,224"
            )
    return shapes
