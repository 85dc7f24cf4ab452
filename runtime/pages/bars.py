"""Small pictures: the memory that a bundle takes, and the signal to noise of its stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .axes import bytes_text
from .content import Content, Layer, Memory, Parity, Stage
from .svg import FONT, element, escaped, line, path, shortened, text

WIDTH, LEFT = 1080, 210
BAR, STEP = 26, 66
DB, TOP_DB = 24, 100.0
"""Pixels of a stage, and the highest ratio that is drawn; an exact stage is at the border."""


def memory_parts(memory: Memory) -> list[tuple[str, str, int]]:
    """(class, name, bytes) of each part of the memory that is known."""
    parts = [
        ("weights", "weights", memory.weights),
        ("state", "state (keys and values)", memory.state),
    ]
    if memory.workspace is not None:
        parts.append(("workspace", "workspace of the largest step", memory.workspace))
    if memory.peak is not None:
        rest = memory.peak - sum(size for *_, size in parts)
        if rest > 0:
            parts.append(("rest", "libraries, Python and the rest up to the peak", rest))
    return parts


def draw_memory(sides: Sequence[Content]) -> str:
    """A bar for each report, all at the same scale."""
    scale = (WIDTH - LEFT - 90) / (max(total(side.memory) for side in sides) or 1)
    parts: list[str] = []
    for number, side in enumerate(sides):
        parts += _memory_bar(side, number, len(sides), scale)
    height = len(sides) * STEP + 22
    parts += _memory_legend(sides, height - 8)
    return element(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {WIDTH} {height}",
        class_="picture memory",
        role="group",
        aria_label="Memory by part",
        font_family=FONT,
    )


def _memory_bar(side: Content, number: int, sides: int, scale: float) -> Iterator[str]:
    x, y = float(LEFT), float(number * STEP + 12)
    name = f"{'AB'[number]}: {side.bundle.target}" if sides > 1 else side.bundle.target
    yield text(0, y + 18, shortened(name, 30), class_="key")
    for class_, words, size in memory_parts(side.memory):
        wide = size * scale
        tip = f"{words}\n{bytes_text(size)}"
        yield element(
            "rect",
            element("title", escaped(tip)),
            x=x,
            y=y,
            width=max(wide, 1.0),
            height=BAR,
            class_=f"cell {class_}",
            role="img",
            aria_label=tip.replace("\n", ": "),
            data_tip=tip,
        )
        x += wide
    yield text(x + 10, y + 18, bytes_text(total(side.memory)), class_="key")
    if peak := side.memory.peak:
        mark = LEFT + peak * scale
        words = f"peak of one question: {bytes_text(peak)}"
        yield line(mark, y - 4, mark, y + BAR + 4, "floor")
        end = {"text_anchor": "end"} if mark > WIDTH - 260 else {}
        yield text(mark + (-6 if end else 6), y + BAR + 14, words, class_="note", **end)


def total(memory: Memory) -> int:
    """Bytes of all parts."""
    return sum(size for *_, size in memory_parts(memory))


def _memory_legend(sides: Sequence[Content], y: float) -> Iterator[str]:
    names = dict.fromkeys((c, words) for side in sides for c, words, _ in memory_parts(side.memory))
    x = float(LEFT)
    for class_, words in names:
        yield element("rect", x=x, y=y - 10, width=12, height=12, rx=2, class_=class_)
        yield text(x + 18, y, words, class_="note")
        x += 36 + 6.4 * len(words)


def draw_parity(parity: Parity) -> str:
    """A row for each stage: its floor, the ratio of the bundle, and that of its arithmetic."""
    parts = list(_db_axis(len(parity.stages)))
    for number, stage in enumerate(parity.stages):
        parts += _stage(stage, 30 + number * DB)
    height = 30 + len(parity.stages) * DB + 34
    parts += _parity_legend(height - 8)
    return element(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {WIDTH} {height}",
        class_="picture parity",
        role="group",
        aria_label="Signal to noise by stage",
        font_family=FONT,
    )


def draw_layers(layers: Sequence[Layer]) -> str:
    """A bar for each layer, as high as the signal to noise of its worst tensor."""
    height, top = 130, max([layer.snr_db for layer in layers] + [1.0])
    each = (WIDTH - LEFT) / max(1, len(layers))
    parts = [text(0, 70, "stored weights, by layer", class_="key")]
    for number, layer in enumerate(layers):
        high = max(0.0, min(layer.snr_db, TOP_DB) / min(top, TOP_DB)) * (height - 30)
        fault = " fault" if layer.snr_db < layer.floor_db else ""
        tip = f"{layer.layer}\n{db_text(layer.snr_db)}, floor {db_text(layer.floor_db)}"
        tip += f"\n{layer.tensor}"
        parts.append(
            element(
                "rect",
                element("title", escaped(tip)),
                x=LEFT + number * each + 0.5,
                y=height - 8 - high,
                width=max(each - 1.5, 0.5),
                height=high,
                class_=f"snr{fault}",
                role="img",
                aria_label=tip.replace("\n", ", "),
                data_tip=tip,
            )
        )
    highest = f"{min(top, TOP_DB):.0f} dB"
    parts.append(text(LEFT - 8, 30, highest, class_="tick", text_anchor="end"))
    parts.append(text(LEFT - 8, height - 6, "0", class_="tick", text_anchor="end"))
    parts.append(line(LEFT, height - 8, WIDTH, height - 8, "axis"))
    return element(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {WIDTH} {height}",
        class_="picture layers",
        role="group",
        aria_label="Signal to noise of the stored weights by layer",
        font_family=FONT,
    )


def _at(db: float) -> float:
    return LEFT + max(0.0, min(db, TOP_DB)) / TOP_DB * (WIDTH - LEFT - 30)


def db_text(db: float) -> str:
    return "exact" if db >= 300 else "not finite" if db <= -300 else f"{db:.1f} dB"


def _db_axis(rows: int) -> Iterator[str]:
    for db in range(0, int(TOP_DB) + 1, 20):
        x = _at(db)
        yield line(x, 18, x, 24 + rows * DB, "grid")
        yield text(x, 12, f"{db} dB", class_="tick", text_anchor="middle")


def _stage(stage: Stage, y: float) -> Iterator[str]:
    yield text(0, y + 10, stage.stage, class_="key")
    tip = "\n".join(_stage_lines(stage))
    yield line(_at(0), y + 6, _at(stage.snr_db), y + 6, "span")
    yield line(_at(stage.floor_db), y, _at(stage.floor_db), y + 12, "floor")
    if stage.arithmetic_db is not None:
        yield element("circle", cx=_at(stage.arithmetic_db), cy=y + 6, r=5, class_="arithmetic")
    yield element(
        "circle",
        element("title", escaped(tip)),
        cx=_at(stage.snr_db),
        cy=y + 6,
        r=6,
        class_="snr" if stage.ok else "snr fault",
        role="img",
        aria_label=tip.replace("\n", ", "),
        data_tip=tip,
    )


def _stage_lines(stage: Stage) -> Iterator[str]:
    yield stage.stage
    yield f"{db_text(stage.snr_db)} against the checkpoint, floor {db_text(stage.floor_db)}"
    if stage.arithmetic_db is not None:
        yield f"{db_text(stage.arithmetic_db)} against the weights as stored"
    if not stage.ok:
        yield "FAULT"


def _parity_legend(y: float) -> Iterator[str]:
    keys = (
        (element("circle", cx=LEFT + 6, cy=y - 4, r=6, class_="snr"), "against the checkpoint"),
        (
            element("circle", cx=LEFT + 206, cy=y - 4, r=5, class_="arithmetic"),
            "against the weights as stored",
        ),
        (element("path", d=path("M", LEFT + 446, y - 10, "v", 12), class_="floor"), "floor"),
    )
    for x, (mark, words) in zip((20, 220, 456), keys, strict=True):
        yield mark + text(LEFT + x, y, words, class_="note")
