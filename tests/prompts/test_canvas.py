"""Rotary positions on a canvas: golden examples, and transformers' own on random prompts."""

from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from manifests import chatml_prompt
from test_chatml import tokenizer
from thinned import only
from transformers import MiniCPMV4_7Config
from transformers.models.minicpmv4_7.modeling_minicpmv4_7 import MiniCPMV4_7Model

from handglass.errors import InputError, MismatchError
from handglass.runtime.bundle.entries import CANVAS, MethodEntry
from handglass.runtime.prompt.canvas import _spread, open_positions, positions_of
from handglass.runtime.prompt.chat_template import Prompt, Slot, Tokens

START, END, SLICE, SLICE_END, NEWLINE, PAD = 1, 2, 3, 4, 5, 100
MARKERS = frozenset([START, END, SLICE, SLICE_END, NEWLINE])


@dataclass
class Tile:
    """The part of a tile that positions depend on."""

    height: int
    width: int
    rows: int
    role: str = ""


def prompt_of(ids: list[int], sizes: list[tuple[int, int]], merge: int) -> Prompt:
    """Each run of PAD is a tile of the next size; one after SLICE belongs to the same picture."""
    segments: list[Tokens | Slot] = []
    pictures: list[list[Tile]] = []
    left, place = iter(sizes), 0
    while place < len(ids):
        stop = place
        while stop < len(ids) and (ids[stop] == PAD) == (ids[place] == PAD):
            stop += 1
        if ids[place] == PAD:
            if ids[place - 1] != SLICE:
                pictures.append([])
            height, width = next(left)
            pictures[-1].append(Tile(height, width, height * width // merge**2))
            assert pictures[-1][-1].rows == stop - place
            segments.append(Slot(len(pictures) - 1, len(pictures[-1]) - 1))
        else:
            segments.append(Tokens(tuple(ids[place:stop])))
        place = stop
    return Prompt(tuple(segments), tuple(pictures))


def text_axes(*axes: str) -> list[list[int]]:
    return [[int(word) for word in axis.split()] for axis in axes]


A = [50, 51, 1, *[100] * 4, 2, 52, 53]
B_SLICE = [3, 100, 100, 4]
B = [50, 1, *[100] * 4, 2, *B_SLICE, *B_SLICE, 5, *B_SLICE, *B_SLICE, 52]
ONES = " ".join(["1"] * 23)
GOLDEN: list[tuple[list[int], list[tuple[int, int]], list[list[int]], int]] = [
    (
        A,
        [(8, 8)],
        text_axes("0 1 2 2 2 2 2 2 5 6", "0 1 1 2 2 3 3 4 5 6", "0 1 1 2 3 2 3 4 5 6"),
        -3,
    ),
    (
        B,
        [(8, 8), *[(4, 8)] * 4],
        text_axes(
            f"0 {ONES} 6",
            "0 0 1 1 2 2 3 1 1 1 1 1 1 1 1 1 2 2 2 2 2 2 2 2 6",
            "0 0 1 4 1 4 5 1 1 2 2 3 3 4 4 5 1 1 2 2 3 3 4 4 6",
        ),
        -18,
    ),
]


@pytest.mark.parametrize(("ids", "sizes", "expected", "delta"), GOLDEN, ids="AB")
def test_golden(
    ids: list[int], sizes: list[tuple[int, int]], expected: list[list[int]], delta: int
) -> None:
    found = positions_of(prompt_of(ids, sizes, 4), 4, MARKERS)
    assert found.dtype == np.int32 and found.T.tolist() == expected
    assert found.max() + 1 - len(ids) == delta


def reference(ids: list[int], sizes: list[tuple[int, int]], merge: int) -> tuple[Any, int]:
    model: Any = MiniCPMV4_7Model.__new__(MiniCPMV4_7Model)
    torch.nn.Module.__init__(model)
    model.config = MiniCPMV4_7Config(
        downsample_mode="16x" if merge == 4 else "4x",
        image_start_id=START,
        image_end_id=END,
        slice_start_id=SLICE,
        slice_end_id=SLICE_END,
        newline_id=NEWLINE,
    )
    tensor = torch.tensor([ids])
    kinds = (tensor == PAD).int()
    targets = torch.tensor(sizes) if sizes else None
    found, delta = model.get_rope_index(tensor, mm_token_type_ids=kinds, target_sizes=targets)
    return found[:, 0].T.numpy(), int(delta)


def random_prompt(
    random: np.random.Generator, merge: int
) -> tuple[list[int], list[tuple[int, int]]]:
    ids: list[int] = []
    sizes: list[tuple[int, int]] = []

    def side(most: int = 9) -> int:
        return int(random.integers(1, most)) * merge

    def tile(size: tuple[int, int], start: int, end: int) -> list[int]:
        sizes.append(size)
        return [start, *[PAD] * (size[0] * size[1] // merge**2), end]

    for _ in range(random.integers(0, 4)):
        ids += random.choice([50, 51, 52, NEWLINE], random.integers(0, 6)).tolist()
        ids += tile((side(), side()), START, END)
        if random.integers(2):
            lines, columns = random.integers(1, 5, 2).tolist()
            size = (side(), side())
            for line in range(lines):
                ids += chain.from_iterable(tile(size, SLICE, SLICE_END) for _ in range(columns))
                ids += [NEWLINE] if line + 1 < lines else []
    ids += random.choice([50, 51, 52, NEWLINE], random.integers(0, 6)).tolist()
    return ids or [50], sizes


@pytest.mark.parametrize("merge", only([4], [4, 2]))
def test_random_prompts(merge: int) -> None:
    """None to three pictures, with and without slices, apart or next to each other."""
    random = np.random.default_rng(merge)
    for _ in range(300):
        ids, sizes = random_prompt(random, merge)
        found = positions_of(prompt_of(ids, sizes, merge), merge, MARKERS)
        expected, delta = reference(ids, sizes, merge)
        assert np.array_equal(found, expected), (ids, sizes)
        assert found.max() + 1 - len(ids) == delta
        assert found.min() >= 0 and found.max() < len(ids)


def test_spread_as_in_torch() -> None:
    for count in range(1, 40):
        for length in range(1, 500):
            expected = torch.linspace(0, length - 1, count).round().numpy()
            assert np.array_equal(_spread(length, count), expected), (length, count)


def entry(kind: str = CANVAS, **parameters: Any) -> Any:
    given = {"merge": 4, "markers": ["<image>", "</image>", "<slice>", "</slice>", "\n"]}
    return replace(chatml_prompt(), positions=MethodEntry(kind, given | parameters))


def test_markers_are_found_in_the_vocabulary() -> None:
    positions = open_positions(entry(), tokenizer())
    assert positions is not None
    vocabulary = tokenizer()
    start, end, line = (vocabulary.marker_ids(m)[0] for m in ("<image>", "</image>", "\n"))
    prompt = Prompt((Tokens((start,)), Slot(0, 0), Tokens((end, line, 7))), ([Tile(4, 8, 2)],))
    assert positions(prompt).tolist() == [
        [0, 0, 0],
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 2],
        [0, 0, 0],
        [3, 3, 3],
    ]
    assert open_positions(chatml_prompt(), vocabulary) is None


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (entry(merge=0), "merge 0 must be"),
        (entry(merge="4"), "merge"),
        (entry(markers=["x"] * 17), "17 markers"),
    ],
)
def test_refused(changed: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        open_positions(changed, tokenizer())


def test_unknown_method() -> None:
    with pytest.raises(MismatchError, match="'sphere' is unknown"):
        open_positions(entry("sphere"), tokenizer())


def test_rows_that_do_not_fit_the_merge() -> None:
    prompt = Prompt((Tokens((START,)), Slot(0, 0), Tokens((END,))), ([Tile(4, 8, 8)],))
    with pytest.raises(InputError, match="has 8 rows, not 1 x 2"):
        positions_of(prompt, 4, MARKERS)
