"""HTML tables: headings that sort, numbers to the right, with the value to sort by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .axes import bytes_text, digits, ms_text, share_text, si
from .content import Content, Phase, Scheduled
from .svg import element, escaped
from .tips import achieved, bandwidth, bound_text, intensity


@dataclass(frozen=True)
class Cell:
    """What is shown, and the number to sort by; None sorts by the text."""

    words: str
    value: float | None = None


NOTHING = Cell("–", -1.0)


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell]], sorts: bool = True
) -> str:
    """A table whose columns with numbers are those of the first row."""
    body = list(rows)
    numeric = [cell.value is not None for cell in body[0]] if body else [False] * len(head)
    cells = "".join(
        _heading(words, is_number, sorts) for words, is_number in zip(head, numeric, strict=True)
    )
    lines = "".join(element("tr", "".join(map(_cell, row, numeric))) for row in body)
    inner = (
        element("caption", escaped(caption))
        + element("thead", element("tr", cells))
        + element("tbody", lines or " ")
    )
    whole = element("table", inner, class_="sortable" if sorts else None)
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _heading(words: str, is_number: bool, sorts: bool) -> str:
    inner = element("button", escaped(words), type="button") if sorts else escaped(words)
    return element("th", inner, scope="col", class_="number" if is_number else None)


def _cell(cell: Cell, is_number: bool) -> str:
    value = None if cell.value is None else f"{cell.value:.9g}"
    return element(
        "td", escaped(cell.words), class_="number" if is_number else None, data_value=value
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A list of names and values."""
    return element(
        "dl",
        "".join(
            element("div", element("dt", escaped(name)) + element("dd", escaped(value)))
            for name, value in rows
        ),
    )


KERNEL_HEAD = (
    "kernel",
    "rule",
    "calls",
    "time",
    "share",
    "median call",
    "bytes",
    "operations",
    "op/byte",
    "B/s",
    "OP/s",
    "bound by",
    "of limit",
)


def kernel_table(phase: Phase, title: str) -> str:
    """All kernels of a phase with every figure of the plot."""
    rows = (
        (
            Cell(kernel.kernel),
            Cell(kernel.rule or "–"),
            Cell(f"{kernel.calls:.0f}", kernel.calls),
            Cell(ms_text(kernel.ms), kernel.ms),
            Cell(share_text(kernel.share), kernel.share),
            Cell(ms_text(kernel.median_us / 1e3), kernel.median_us),
            _figure(kernel.bytes, bytes_text),
            _figure(kernel.operations, si),
            _figure(kernel.operations and kernel.bytes and intensity(kernel), digits),
            _figure(kernel.bytes and kernel.ms and bandwidth(kernel), si),
            _figure(kernel.operations and kernel.ms and achieved(kernel), si),
            Cell(bound_text(kernel.limit) if kernel.bytes else "–"),
            _figure(kernel.limit_fraction, share_text),
        )
        for kernel in phase.kernels
    )
    return table(title, KERNEL_HEAD, rows)


def coverage_table(kernels: Sequence[Scheduled]) -> str:
    rows = (
        (
            Cell(kernel.kernel),
            Cell(kernel.rule),
            _figure(kernel.share, share_text),
            Cell("record" if kernel.record else "default"),
            Cell(kernel.record or "–"),
            Cell(kernel.device or "–"),
        )
        for kernel in kernels
    )
    head = ("kernel", "rule", "share of an answer", "schedule", "record", "measured on")
    return table("Where the schedule of each kernel comes from", head, rows)


def parity_table(side: Content) -> str:
    assert side.parity is not None
    rows = (
        (
            Cell(stage.stage),
            Cell(f"{stage.snr_db:.1f}", stage.snr_db),
            Cell(f"{stage.floor_db:.1f}", stage.floor_db),
            _figure(stage.arithmetic_db, lambda db: f"{db:.1f}"),
            Cell("ok" if stage.ok else "FAULT"),
        )
        for stage in side.parity.stages
    )
    head = ("stage", "signal to noise, dB", "floor, dB", "arithmetic, dB", "")
    return table("Signal to noise against the checkpoint", head, rows, sorts=False)


def _figure(value: float | None, show: Callable[[float], str]) -> Cell:
    return Cell(show(value), float(value)) if value else NOTHING
