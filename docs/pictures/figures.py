"""Pictures of figures that stand in tables of the documentation."""

from __future__ import annotations

import math

from sheet import Sheet
from tables import numbers, table

PEERS = {"llama.cpp": "blue", "OpenVINO": "orange", "PyTorch": "green"}
COMPARISONS = (
    ("2 cores of an AMD EPYC (Zen 3, AVX2), 2026-12-01", "llama.cpp Q4_0"),
    ("2 cores of an Intel Xeon (Emerald Rapids, AMX)", "llama.cpp"),
)
"""Machine, and the second cell of the header of its comparison in docs/measured.md."""


def measured() -> Sheet:
    """How many times as fast as its peers handglass is, by row and machine."""
    sheet = Sheet(
        "handglass beside other engines",
        1000,
        "Speed over theirs, full-size model with random weights, from one interleaved run on "
        "each machine. The line of a point is the spread over the rounds. To the right of 1, "
        "handglass is faster.",
    )
    y = 108.0
    for machine, header in COMPARISONS:
        rows = table("measured", "", "handglass", header)
        y = _comparison(sheet, y, machine, [row for row in rows if "memory" not in row[0]])
    sheet.legend(y + 12, {tone: name for name, tone in PEERS.items()}, x=330)
    return sheet


def _comparison(sheet: Sheet, y: float, machine: str, rows: list[list[str]]) -> float:
    left, step = 330.0, 34.0

    def at(ratio: float) -> float:
        return left + (math.log2(ratio) + 0.5) * 150

    sheet.words(20, y, machine, "title")
    y += 20
    for ratio in (0.75, 1, 1.5, 2, 3, 4, 6, 8, 11):
        x = at(ratio)
        sheet.words(x, y, f"{ratio:g}", "tick", "middle")
        sheet.line(x, y + 6, x, y + 10 + step * len(rows), "roof" if ratio == 1 else "grid")
    for number, row in enumerate(rows):
        middle = y + 28 + number * step
        sheet.words(20, middle + 4, row[0], "key")
        for place, (tone, cell) in enumerate(zip(PEERS.values(), row[2:], strict=True)):
            _, *found = numbers(cell)
            height = middle + (place - 1) * 9
            sheet.line(at(found[0]), height, at(found[-1]), height, "lead")
            sheet.dot(at(found[len(found) // 2]), height, tone)
    return y + 28 + step * len(rows) + 18


MACHINES = ("full size", "demo model")


def threads() -> Sheet:
    """Decode beside other processes, with this pool and with TVM's."""
    rows = table("measured", "", "full size", "baseline", "demo model", "baseline")
    sheet = Sheet(
        "Decoding, alone and beside other processes",
        1000,
        "Tokens per second on 2 cores of an AMD EPYC (Zen 5), full-size model: median of 5 "
        "interleaved rounds; the line is from the minimum to the 90th percentile.",
    )
    most = max(numbers(cell)[-1] for row in rows for cell in row[1:3])
    left, wide, y = 330.0, 560.0, 92.0
    for name, *found in rows:
        sheet.words(20, y + 17, name, "key")
        for place, (cell, tone) in enumerate(zip(found[:2], ("blue", "grey"), strict=True)):
            low, median, high = numbers(cell)
            top = y + place * 14
            sheet.bar(left, top, wide * median / most, 12, tone)
            sheet.line(
                left + wide * low / most, top + 6, left + wide * high / most, top + 6, "roof"
            )
            sheet.words(left + wide * max(high, median) / most + 8, top + 10, f"{median:g}", "note")
        y += 42
    sheet.legend(y + 12, {"blue": "the pool of handglass", "grey": "TVM's pool"}, x=left)
    return sheet


def cuda() -> Sheet:
    """What bounds the kernels on tensor cores, from the counts of docs/cuda.md."""
    sheet = Sheet(
        "What bounds the kernels on tensor cores",
        1000,
        "Clocks of a multiprocessor that each unit needs for the same work, counted by the "
        "emulator and from the machine code, never timed; the rates are those of the table in "
        "this page. The longest bar, filled, bounds.",
    )
    y = _bounds(
        sheet,
        104,
        "Products of many rows, by scheme",
        table("cuda", "scheme", "tensor cores", "shared memory"),
        ("tensor cores", "shared memory", "instructions"),
    )
    rows = [
        [row[0].split(":")[0].replace(" (†)", ""), *row[1:]]
        for row in table("cuda", "", "products", "exponentials (4 lanes per clock)")
    ]
    _bounds(
        sheet,
        y + 22,
        "Attention of many queries, by chip",
        rows,
        ("products", "exponentials", "instructions"),
    )
    return sheet


def _bounds(
    sheet: Sheet, y: float, title: str, rows: list[list[str]], units: tuple[str, ...]
) -> float:
    sheet.words(20, y, title, "title")
    y += 14
    left, wide = 420.0, 440.0
    found = [[numbers(cell)[-1] for cell in row[1:4]] for row in rows]
    most = max(max(each) for each in found)
    for row, counts in zip(rows, found, strict=True):
        sheet.words(20, y + 24, row[0], "key")
        sheet.words(20, y + 40, f"bound: {row[4]}", "note")
        for place, (unit, count) in enumerate(zip(units, counts, strict=True)):
            top = y + 4 + place * 15
            sheet.words(left - 8, top + 10, unit, "note", "end")
            sheet.bar(left, top, wide * count / most, 11, "blue", weak=count < max(counts))
            sheet.words(left + wide * count / most + 8, top + 10, row[1 + place], "note")
        y += 60
    return y
