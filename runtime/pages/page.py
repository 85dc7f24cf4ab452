"""The page: one HTML file with its styles, script and pictures inside, which opens from disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .arrivals import draw_arrivals
from .axes import bytes_text, ms_text, share_text, si
from .bars import draw_layers, draw_memory, draw_parity, memory_parts
from .content import Content
from .flame import draw_flame, legend
from .ratios import kernel_pairs, pair_table, pairs
from .roofline import draw_roofline
from .svg import asset, element, escaped
from .tables import Cell, coverage_table, facts, kernel_table, parity_table, table
from .tips import LIMITS, unit_of

MARK = "<!-- made by handglass report -->"
"""In the first bytes of every page, so that a page may be replaced but nothing else."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""The page loads nothing, from anywhere."""


def draw_page(sides: Sequence[Content]) -> str:
    """The whole file, of one report or of two side by side."""
    title = " and ".join(dict.fromkeys(side.bundle.model for side in sides))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">'
        f"<title>{escaped(title)}: report</title>"
        f"<style>{asset('colours.css')}{asset('page.css')}</style>"
    )
    body = [_header(sides, title), element("main", "\n".join(_sections(sides)))]
    tip = '<div id="tip" role="tooltip" hidden></div>'
    script = f"<script>{asset('page.js')}</script>"
    return (
        f'<!doctype html>{MARK}\n<html lang="en"><head>{head}</head>\n'
        f"<body>{''.join(body)}{tip}{script}</body></html>\n"
    )


def _header(sides: Sequence[Content], title: str) -> str:
    made = "; ".join(dict.fromkeys(f"{side.date}, revision {side.revision}" for side in sides))
    button = '<button type="button" id="theme" aria-label="Light or dark">◐</button>'
    return element(
        "header",
        element("h1", escaped(title)) + element("p", escaped(made), class_="soft") + button,
    )


def _sections(sides: Sequence[Content]) -> Iterator[str]:
    if len(sides) > 1:
        yield section("Side by side", *_side_by_side(sides))
    yield section(
        "Bundle", *(_about(side, number, len(sides)) for number, side in enumerate(sides))
    )
    measured = [side for side in sides if side.measured]
    if measured:
        yield section("Roofline", *_roofline(measured, sides))
        yield section("Where the time goes", *_flames(sides))
    else:
        notes = (_unmeasured(side) for side in sides)
        yield section("Roofline and time", *notes)
    yield section("Memory", draw_memory(sides), *_memory(sides))
    yield section("Schedules", *_coverage(sides))
    yield section("Parity", *_parity(sides))
    if measured:
        yield section("Every kernel", *_kernels(sides))


def section(title: str, *parts: str) -> str:
    name = title.lower().replace(" ", "-")
    heading = element("h2", escaped(title), id=name)
    return element("section", heading + "\n".join(filter(None, parts)), aria_labelledby=name)


def named(side: int, sides: int) -> str:
    """The name of a report beside another one."""
    return f"{'AB'[side]}: " if sides > 1 else ""


def _about(side: Content, number: int, sides: int) -> str:
    bundle, measured = side.bundle, side.measured
    rows = [
        ("model", bundle.model),
        ("scheme", ", ".join(f"{part} {name}" for part, name in bundle.scheme.items())),
        ("target", f"{bundle.target} ({bundle.processor})"),
        ("runs on", bundle.kind),
        ("needs", " ".join(bundle.features) or "nothing beyond the baseline"),
        ("pictures", bundle.picture),
        ("context", f"{bundle.context} tokens, vocabulary {bundle.vocabulary}"),
        ("parameters", f"{bundle.tensors} tensors, {bytes_text(side.memory.weights)}"),
        ("compiled with", _listed(bundle.versions)),
        ("functions", ", ".join(bundle.functions)),
    ]
    if measured:
        rows.append(("measured on", measured.gpu or measured.device))
        rows.append(("threads", str(measured.threads)))
        ours = {n: t for n, t in measured.versions.items() if not n.startswith("bundle_")}
        rows.append(("measured with", _listed(ours)))
    title = f"{named(number, sides)}{bundle.model}"
    heading = element("h3", escaped(title)) if sides > 1 else ""
    return element("div", heading + facts(rows), class_="card")


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in values.items())


def _unmeasured(side: Content) -> str:
    words = f"Not measured: {side.not_measured or 'no reason is given'}"
    return element("p", escaped(words), class_="note")


def _figure(picture: str, caption: str) -> str:
    return element(
        "figure",
        element("div", picture, class_="wide", tabindex=0, role="region", aria_label=caption)
        + element("figcaption", escaped(caption)),
    )


def _roofline(measured: Sequence[Content], sides: Sequence[Content]) -> Iterator[str]:
    yield _figure(
        draw_roofline(measured),
        "A point is a kernel in one step: a picture, a text, a prefill, a decoded token. The lines "
        "are rates that this machine reached in the same run. A kernel is bounded by the slope and "
        "by the line of the unit that it multiplies on, which its note names; above the slope, "
        "data came from a cache.",
    )
    for number, side in enumerate(sides):
        if side.measured:
            yield _limits(side, f"{named(number, len(sides))}Measured limits of the machine")
        else:
            yield _unmeasured(side)


def _limits(side: Content, caption: str) -> str:
    assert side.measured is not None
    rows = []
    for probe, found in side.measured.limits.items():
        unit = unit_of(probe)
        values = (found.min, found.median, found.p90)
        cells = (Cell("–", -1.0) if v is None else Cell(si(v, unit), v) for v in values)
        rows.append((Cell(LIMITS.get(probe, probe)), *cells))
    return table(caption, ("limit", "least", "median", "p90"), rows, sorts=False)


def _flames(sides: Sequence[Content]) -> Iterator[str]:
    yield legend()
    for number, side in enumerate(sides):
        for phase in side.measured.phases if side.measured else ():
            plain, observed = phase.step_ms.median, phase.observed_ms.median
            if plain is None or observed is None:
                continue
            more = f"{(observed / plain - 1):+.0%} while profiled" if plain else ""
            caption = f"{named(number, len(sides))}{phase.phase}: {ms_text(plain)}, {more}"
            picture = draw_flame(phase, side.bundle)
            yield _figure(picture, caption) if picture else element("p", escaped(caption))


def _memory(sides: Sequence[Content]) -> Iterator[str]:
    for number, side in enumerate(sides):
        found = side.memory
        rows = [(name, bytes_text(size)) for name, _, size in memory_parts(found)]
        if found.workspace is None:
            rows.append(("workspace", "not measured"))
        rows.append(("measured peak", bytes_text(found.peak) if found.peak else "not measured"))
        if found.machine:
            rows.append(("the machine has", bytes_text(found.machine)))
        heading = element("h3", escaped(named(number, len(sides)))) if len(sides) > 1 else ""
        yield element("div", heading + facts(rows), class_="card")


def _coverage(sides: Sequence[Content]) -> Iterator[str]:
    for number, side in enumerate(sides):
        tuned = [kernel for kernel in side.kernels if kernel.record]
        share = sum(kernel.share or 0.0 for kernel in tuned)
        words = (
            f"{named(number, len(sides))}{len(tuned)} of {len(side.kernels)} kernels are scheduled "
            f"by tuning records, {share_text(share)} of the kernel time of an answer as the "
            "compiler estimates it; the others have default schedules."
            if side.kernels
            else "The bundle has no valid report.json; compile the model again."
        )
        yield element("p", escaped(words))
        if side.kernels:
            yield _folded(coverage_table(side.kernels), "All kernels of the library")


def _parity(sides: Sequence[Content]) -> Iterator[str]:
    for number, side in enumerate(sides):
        name = named(number, len(sides))
        if side.parity is None:
            words = f"{name}Not measured: give --reference CHECKPOINT, or --parity with the output "
            yield element("p", escaped(words + "of handglass verify --json."), class_="note")
            continue
        state = "no stage is at fault" if side.parity.ok else "a stage is at fault"
        caption = f"{name}Signal to noise of each stage against the checkpoint: {state}."
        yield _figure(draw_parity(side.parity), caption)
        if side.parity.layers:
            caption = f"{name}What storage leaves of the weights: the worst tensor of each layer; "
            caption += "red is below the floor of its scheme."
            yield _figure(draw_layers(side.parity.layers), caption)
        if side.parity.arrivals:
            caption = (
                f"{name}What arrives at each layer of the compiled model, and at the norm after "
            )
            caption += "the last one: the loss of all layers before it together."
            yield _figure(draw_arrivals(side.parity.arrivals), caption)
        yield parity_table(side)


def _kernels(sides: Sequence[Content]) -> Iterator[str]:
    for number, side in enumerate(sides):
        for phase in side.measured.phases if side.measured else ():
            yield kernel_table(phase, f"{named(number, len(sides))}{phase.phase}")


def _side_by_side(sides: Sequence[Content]) -> Iterator[str]:
    a, b = sides
    yield pair_table(
        "B / A below 1: B takes less time or memory, or has a lower limit", pairs(a, b), ""
    )
    inner = pair_table("The same kernel by name", kernel_pairs(a, b), "phase")
    yield _folded(inner, "Kernel by kernel")


def _folded(inner: str, summary: str) -> str:
    return element("details", element("summary", escaped(summary)) + inner)
