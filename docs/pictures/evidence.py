"""Pictures of what is known: models and their parts, targets and what ran on them."""

from __future__ import annotations

from sheet import Sheet

from handglass.compiler.model_table import TABLE, Row
from handglass.targets import known_targets
from handglass.targets.evidence import Entry, read_evidence

TOWERS = (
    ("tiles together", "encoder of Llama 3.2", "tiles together, cross-attention"),
    ("timm", "timm SigLIP", "resampler, 64 queries with positions"),
    ("96 queries", "SigLIP so400m/14", "resampler, 96 queries"),
    ("resampler", "SigLIP so400m/14", "resampler, 64 queries"),
    ("merged", "SigLIP so400m/14", "merged by windows"),
    ("none", "no vision", "text only"),
)
DECODERS = (
    ("as 4.", "Qwen3.5", "gated delta net, attention, experts"),
    ("Qwen3.5", "Qwen3.5", "gated delta net, attention, experts"),
    ("Qwen3", "Qwen3", "attention with norms of q and k"),
    ("Qwen2", "Qwen2", "attention with biases"),
    ("Llama", "Llama", "attention, also longrope"),
    ("MiniCPM", "MiniCPM", "attention, scaled residuals (muP)"),
)
"""A part of the row's text that tells them, the name, what is special. The first that matches."""
TONES = ("blue", "orange", "green", "grey")


def models() -> Sheet:
    """Which vision tower and which decoder each model has."""
    sheet = Sheet(
        "One decoder with options, four towers",
        1000,
        "Every model of the table below that answers, between its vision tower and its decoder.",
    )
    rows = [row for row in TABLE if any(part in row.text for part, *_ in DECODERS)]
    step, top = 30.0, 84.0
    middle = [top + step * number for number in range(len(rows))]
    tower_at = _column(sheet, 20, [t[1:] for t in TOWERS], len(rows) * step, top)
    names = list(dict.fromkeys((name, words) for _, name, words in reversed(DECODERS)))
    decoder_at = _column(sheet, 720, names, len(rows) * step, top)
    for row, y in zip(rows, middle, strict=True):
        tower = next(number for number, (part, *_) in enumerate(TOWERS) if part in row.vision)
        decoder = next(name for part, name, _ in DECODERS if part in row.text)
        place = [name for name, _ in names].index(decoder)
        if TOWERS[tower][0] != "none":
            sheet.curve(290, tower_at[tower], 390, y + 12, TONES[tower % 4])
        sheet.curve(610, y + 12, 720, decoder_at[place], TONES[place % 4])
        sheet.box(390, y, 220, _short(row), height=25, centred=True)
    return sheet


def _short(row: Row) -> str:
    return row.name.replace("MiniCPM-V with MiniCPM-1B", "MiniCPM-V, 1B")


def _column(
    sheet: Sheet, x: float, entries: list[tuple[str, str]], tall: float, top: float
) -> list[float]:
    """Boxes with equal gaps; returns the heights of their middles."""
    step = tall / len(entries)
    found = []
    for number, (name, words) in enumerate(entries):
        y = top + step * number + step / 2 - 27
        sheet.box(x, y, 270 if x < 100 else 260, name, words, height=50)
        found.append(y + 25)
    return found


COLUMNS = (("kernels", ("kernels", "stages")), ("answers", ("answers",)), ("timed", ("speed",)))


def devices() -> Sheet:
    """What ran for each target, and on what, from targets/evidence."""
    sheet = Sheet(
        "What ran for each target",
        1000,
        "From targets/evidence, which tests and benchmarks write. Speed counts only on the "
        "hardware itself.",
    )
    names = [name for name, target in known_targets().items() if "host" not in name]
    y = 92.0
    for number, (column, _) in enumerate(COLUMNS):
        sheet.words(520 + number * 150, y, column, "title", "middle")
    for name in names:
        y += 24
        sheet.line(20, y + 8, 940, y + 8, "grid")
        sheet.words(20, y + 2, name, "key")
        sheet.words(400, y + 2, known_targets()[name].kind, "note", "end")
        for number, (_, beginnings) in enumerate(COLUMNS):
            entries = [e for e in read_evidence(name).entries if e.what.startswith(beginnings)]
            _mark(sheet, 520 + number * 150, y - 2, entries)
    sheet.legend(
        y + 36,
        {
            "green": "on the hardware",
            "blue": "on an emulated CPU, or a GPU in software",
            "orange": "special instructions replaced by C",
            "grey": "not yet",
        },
    )
    return sheet


def _on_hardware(entry: Entry) -> bool:
    """Not if a program stood in for the CPU, its instructions or the GPU (Mesa's llvmpipe)."""
    return not (entry.emulator or entry.emulated_instructions or "llvmpipe" in entry.on)


def _mark(sheet: Sheet, x: float, y: float, entries: list[Entry]) -> None:
    if not entries:
        sheet.dot(x, y, "grey", 2)
    elif any(_on_hardware(entry) for entry in entries):
        sheet.dot(x, y, "green", 7)
    elif any(not e.emulated_instructions for e in entries):
        sheet.dot(x, y, "blue", 7)
    else:
        sheet.dot(x, y, "orange", 7)
