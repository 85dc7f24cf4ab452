"""Pictures of what the compiler writes: packed weights, the files of a bundle, what they lose."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sheet import FILLS, Sheet

from handglass.runtime.pages.arrivals import draw_arrivals
from handglass.runtime.pages.content import Arrival
from handglass.runtime.pages.svg import standalone

DATA = Path(__file__).parent / "data"
GROUP, LANES, CELL = 32, 16, 19.0


def data(name: str) -> Any:
    """What measure.py has written."""
    return json.loads((DATA / f"{name}.json").read_text("utf-8"))


def nibbles() -> dict[int, list[tuple[int, int]]]:
    """Byte of one output -> (input, shift of its nibble), found by packing single weights."""
    from handglass.compiler.schemes.quantize import SCHEMES

    scheme, found = SCHEMES["w4"], {}
    empty = scheme.pack(np.zeros((LANES, GROUP), np.float32))["weight"]
    for k in range(GROUP):
        rows = np.zeros((LANES, GROUP), np.float32)
        rows[0, k] = 1.0
        change = (scheme.pack(rows)["weight"] ^ empty).reshape(-1, LANES)
        (byte,), (lane,) = np.nonzero(change)
        assert lane == 0
        found.setdefault(int(byte), []).append((k, 0 if change[byte, lane] < 16 else 4))
    return found


def kernels() -> Sheet:
    """One group of one panel of int4 weights, as a matrix and in memory."""
    sheet = Sheet(
        "How int4 weights are packed",
        1000,
        "A panel has 16 outputs, a group 32 inputs with one scale per output: 512 codes of 4 "
        "bits. The order was found by packing single weights.",
    )
    left, top, right, wide = 60.0, 128.0, 650.0, 272.0
    half = (CELL - 3) / 2
    sheet.words(left, 92, "the matrix: 32 inputs of 16 outputs", "title")
    for k in range(GROUP):
        sheet.bar(
            left + k * 15.5, top, 13.5, LANES * CELL - 3, "blue" if k < 16 else "orange", weak=True
        )
        if k % 4 == 0 or k == GROUP - 1:
            sheet.words(left + k * 15.5 + 7, top - 7, str(k), "tick", "middle")
    for n in (0, 5, 10, 15):
        sheet.words(left - 8, top + n * CELL + 13, str(n), "tick", "end")
    for k, tone in ((3, "blue"), (19, "orange")):
        sheet.bar(left + k * 15.5, top + 5 * CELL, 13.5, CELL - 3, tone)
    sheet.words(right, 92, "in memory: 16 loads of 16 bytes", "title")
    for byte, pair in sorted(nibbles().items()):
        y = top + byte * CELL
        low, high = (next(k for k, shift in pair if shift == want) for want in (0, 4))
        for k, place in ((low, y), (high, y + half)):
            sheet.bar(right, place, wide, half, "blue" if k < 16 else "orange", weak=True)
            if k in (3, 19):
                sheet.bar(
                    right + 5 * wide / LANES,
                    place,
                    wide / LANES,
                    half,
                    "blue" if k < 16 else "orange",
                )
        sheet.words(right - 8, y + 13, f"load {byte}", "tick", "end")
        sheet.words(right + wide + 8, y + 13, f"{low}, {high}", "tick")
    y = top + LANES * CELL + 24
    sheet.words(
        left,
        y,
        "Filled: inputs 3 and 19 of output 5 share a byte. A load of 16 bytes brings two "
        "codes of each output,",
        "note",
    )
    sheet.words(
        left,
        y + 17,
        "for one row (decode) as for many (prefill): both read the same packing.",
        "note",
    )
    return sheet


def bundle() -> Sheet:
    """The files of the demo model's bundle by size, and what the parameters consist of."""
    found = data("bundle")
    sheet = Sheet(
        "A bundle is a folder",
        1000,
        f"The demo model, compiled for {found['target']} in {found['scheme']}; kilobytes.",
    )
    sheet.box(
        20, 76, 200, "manifest.json", "names, sizes and sha256", "of all other files", tone="blue"
    )
    left, wide, y = 560.0, 330.0, 76.0
    most = max(size for _, size, _ in found["files"])
    for number, (name, size, meaning) in enumerate(found["files"]):
        sheet.curve(220, 110, 280, y + 14, "grey")
        sheet.box(280, y, 260, name, height=30)
        tone = "green" if name.startswith("params") else "grey"
        sheet.bar(left, y + 4, wide * size / most, 12, tone)
        sheet.words(left + wide * size / most + 8, y + 14, f"{size / 1000:,.0f}", "note")
        sheet.words(left, y + 28, meaning, "note")
        y += 42 if number + 1 < len(found["files"]) else 50
    total = sum(size for _, size in found["parts"])
    sheet.words(20, y + 16, "the parameters, by part", "title")
    x, words = 20.0, {}
    for (name, size), tone in zip(found["parts"], FILLS, strict=False):
        width = 960 * size / total
        sheet.bar(x, y + 26, width - 2, 26, tone)
        words[tone] = f"{name}, {size / 1000:,.0f}"
        x += width
    sheet.legend(y + 74, words)
    return sheet


def accuracy() -> Sheet:
    """What each stage of the demo model keeps, by scheme."""
    found = data("accuracy")
    sheet = Sheet(
        "What each storage keeps, stage by stage",
        1000,
        "Signal to noise in dB of the demo model, from handglass verify: filled against the "
        "checkpoint, outlined against the weights as stored (the arithmetic alone). The "
        "black line is the floor: what is left of it is a fault, or lossy.",
    )
    y, left, wide, most = 112.0, 160.0, 760.0, 160.0
    bottom = y + sum(30 + 19 * len(stages) for stages in found.values())
    for mark in range(0, 161, 20):
        x = left + wide * mark / most
        sheet.words(x, y, str(mark), "tick", "middle")
        sheet.line(x, y + 8, x, bottom + 6, "grid")
    for scheme, stages in found.items():
        y += 26
        sheet.words(20, y + 4, scheme, "limit")
        for stage in stages:
            y += 19
            sheet.words(left - 10, y + 2, stage["stage"], "note", "end")
            ratio, floor = (wide * min(most, stage[key]) / most for key in ("snr_db", "floor_db"))
            sheet.bar(left, y - 8, ratio, 12, "blue" if stage["ok"] else "orange")
            if stage["arithmetic_db"] is not None:
                arithmetic = wide * min(most, stage["arithmetic_db"]) / most
                sheet.bar(left, y - 8, arithmetic, 12, "blue", weak=True)
            sheet.line(left + floor, y - 10, left + floor, y + 6, "floor")
        y += 4
    return sheet


@dataclass(frozen=True)
class Figure:
    """A picture of the report, as it is."""

    markup: str

    def svg(self) -> str:
        return standalone(self.markup)


def layers() -> Figure:
    """What arrives at each layer of the demo model, as handglass report draws it."""
    return Figure(draw_arrivals([Arrival(**row) for row in data("layers")]))
