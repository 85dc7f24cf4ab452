"""Where the time of a step goes, as an icicle: the step, its parts, the kernels of each part.

The width of a cell is its time. The layers of a tower are drawn together, once; the row of bars
below shows each of them alone. The colour of a kernel says how close it comes to its limit: what
is wide and orange is where time can be saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .axes import ms_text, share_text
from .content import About, Kernel, Part, Phase
from .svg import FONT, element, escaped, line, shortened, text
from .tips import tip_lines

WIDTH, ROW, BARS, TOP = 1080, 30, 46, 6
ADVANCE, NARROW = 6.9, 56
"""Pixels of an average character, and of the widest cell without a word."""
STEPS = (0.2, 0.4, 0.6, 0.8)
"""Borders of the colours, as fractions of the limit."""
COLOURS = ("q0", "q1", "q2", "q3", "q4")


def draw_flame(phase: Phase, bundle: About) -> str:
    """The SVG element of one phase; empty if its kernels were not in order."""
    total = sum(part.ms for part in phase.parts)
    if not total:
        return ""
    kernels = {kernel.kernel: kernel for kernel in phase.kernels}
    cells = [_step(phase, total)]
    left = 0.0
    for number, part in enumerate(phase.parts):
        width = part.ms / total * WIDTH
        cells += _part(part, part_name(phase.parts, number, bundle), left, width, total)
        cells += _kernels(part, kernels, phase, left, width)
        cells += _bars(part, left, width, bundle)
        left += width
    height = TOP + 3 * ROW + (BARS + 8 if any(part.blocks > 1 for part in phase.parts) else 2)
    return element(
        "svg",
        "\n".join(cells),
        viewBox=f"0 0 {WIDTH} {height}",
        class_="picture flame",
        role="group",
        aria_label=f"Time of {escaped(phase.phase)} by part and kernel",
        font_family=FONT,
    )


def part_name(parts: Sequence[Part], number: int, bundle: About) -> str:
    """How a part is called: by its layers, or by its place among them."""
    part = parts[number]
    if part.blocks > 1:
        return f"{part.blocks} {blocks_name(part, bundle)}s"
    if len(parts) == 1:
        return "the whole step"
    if number == 0:
        return "before the layers"
    return "after the layers" if number == len(parts) - 1 else "between the layers"


def blocks_name(part: Part, bundle: About) -> str:
    """A block is a layer if the model has as many layers; else it may be several."""
    return "layer" if part.blocks in bundle.layers else "block"


def colour(kernel: Kernel | None) -> str:
    """The class of its fraction of the limit; `qx` if that is not known."""
    if kernel is None or kernel.limit_fraction is None:
        return "qx"
    return COLOURS[sum(kernel.limit_fraction >= border for border in STEPS)]


def legend() -> str:
    """The colours and what they mean."""
    words = ("below 20 %", "20 to 40 %", "40 to 60 %", "60 to 80 %", "from 80 %", "no limit known")
    parts, x = [text(0, 14, "of its limit:", class_="note")], 86.0
    for name, label in zip((*COLOURS, "qx"), words, strict=True):
        parts.append(element("rect", x=x, y=4, width=22, height=13, class_=name, rx=2))
        parts.append(text(x + 28, 14, label, class_="note"))
        x += 46 + len(label) * ADVANCE
    return element(
        "svg", "".join(parts), viewBox="0 0 830 22", class_="picture key", font_family=FONT
    )


def _step(phase: Phase, total: float) -> str:
    """The step, which may take more than its kernels, or less on a device that overlaps them."""
    plain, inside = phase.step_ms.median, f"{ms_text(total)} in kernels"
    words = f"{phase.phase}  ·  {inside}"
    if plain is not None:
        words = f"{phase.phase}  ·  {ms_text(plain)}, {inside}"
    return _cell(0, TOP, WIDTH, "whole", (words,), f"{phase.phase}\n{inside}")


def _part(part: Part, name: str, left: float, width: float, total: float) -> Iterator[str]:
    share = share_text(part.ms / total)
    tip = f"{name}\n{ms_text(part.ms)}, {share} of the step"
    words = f"{name}  ·  {ms_text(part.ms)}", name
    yield _cell(left, TOP + ROW, width, "part", words, tip)


def _kernels(
    part: Part, kernels: Mapping[str, Kernel], phase: Phase, left: float, width: float
) -> Iterator[str]:
    for entry in part.kernels:
        known = kernels.get(entry.kernel)
        here = f"{ms_text(entry.ms)} here in {entry.calls} calls"
        tip = "\n".join([*(tip_lines(known, phase.phase) if known else [entry.kernel]), here])
        wide = width * entry.ms / part.ms if part.ms else 0.0
        name = colour(known)
        words = f"{entry.kernel}  ·  {ms_text(entry.ms)}", entry.kernel
        yield _cell(left, TOP + 2 * ROW, wide, name, words, tip, f"on{name[1:]}")
        left += wide


def _bars(part: Part, left: float, width: float, bundle: About) -> Iterator[str]:
    """A bar for each block: its height is its time, of the slowest of them."""
    if part.blocks < 2:
        return
    slowest, name = max(part.block_ms, default=0.0) or 1.0, blocks_name(part, bundle)
    each, floor = width / part.blocks, TOP + 3 * ROW + BARS + 4
    for number, ms in enumerate(part.block_ms):
        high = BARS * ms / slowest
        yield element(
            "rect",
            x=left + number * each + 0.5,
            y=floor - high,
            width=max(each - 1, 0.3),
            height=high,
            class_="bar",
            role="img",
            data_tip=f"{name} {number + 1} of {part.blocks}\n{ms_text(ms)}",
            aria_label=f"{name} {number + 1}: {ms_text(ms)}",
        )
    yield line(left, floor, left + width, floor, "axis")


def fitting(words: Sequence[str], width: float) -> str:
    """The first of the words that fits, or the last one shortened, or nothing."""
    most = int((width - 12) / ADVANCE)
    return next((text for text in words if len(text) <= most), shortened(words[-1], most))


def _cell(
    x: float,
    y: float,
    width: float,
    class_: str,
    words: Sequence[str],
    tip: str,
    on: str = "",
) -> str:
    """A rectangle with words, those that fit."""
    box = element(
        "rect",
        element("title", escaped(tip)),
        x=x,
        y=float(y),
        width=width,
        height=ROW - 2,
        rx=2 if width > 8 else None,
        class_=f"cell {class_}",
        role="img",
        aria_label=tip.replace("\n", ", "),
        data_tip=tip,
    )
    fits = fitting(words, width) if width > NARROW else ""
    return box + (text(x + 6, y + 18.5, fits, class_=f"inside {on}".strip()) if fits else "")
