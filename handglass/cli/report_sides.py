"""Gathers what a report says: from bundles, from this machine, and from saved reports."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handglass.errors import HandglassError, UsageError

from .report_files import read

if TYPE_CHECKING:
    from handglass.runtime.bundle.reader import Bundle
    from handglass.runtime.bundle.report import Kernel
    from handglass.runtime.engine.encoders import EncoderSession
    from handglass.runtime.engine.session import Session
    from handglass.runtime.measure.kernels import KernelBenchmark
    from handglass.runtime.pages.content import Content, Measured, Parity


@dataclass(frozen=True)
class Options:
    threads: int | None
    device: str | None
    samples: int
    quick: bool
    measure: bool


@dataclass
class Side:
    """One bundle, and what was found when it ran here."""

    bundle: Bundle
    work: KernelBenchmark | None = None
    session: Session | EncoderSession | None = None
    problem: str = ""
    """Why it could not run."""
    peak: int | None = None


def gather(
    sources: Sequence[Path], parity: Sequence[Path], reference: Path | None, options: Options
) -> tuple[list[Content], bool]:
    """A report of each source, and whether measuring was interrupted."""
    saved = {path: content_of(path) for path in sources if path.is_file()}
    if reference and sources[0] in saved:
        raise UsageError(f"{sources[0]}: is a saved report; --reference needs the bundle")
    sides = [Side(open_bundle(path)) for path in sources if path not in saved]
    stages = [verified(path) for path in parity]
    if reference:  # before a bundle loads its own copy of the runtime that the compiler brings
        stages = [verify_now(sources[0], reference, options)]
    interrupted = run(sides, options)
    found, left = [], iter(sides)
    for number, path in enumerate(sources):
        content = saved.get(path) or content_here(next(left), interrupted)
        compared = stages[number] if number < len(stages) else content.parity
        found.append(replace(content, parity=compared))
    return found, interrupted


def open_bundle(path: Path) -> Bundle:
    from handglass.runtime.bundle.reader import Bundle

    return Bundle.open(path, "remembered")


def content_of(path: Path) -> Content:
    """A saved report. Raises InputError."""
    from handglass.runtime.pages.content import MAX_FILE, parse_content

    return parse_content(read(path, MAX_FILE), str(path))


def verified(path: Path) -> Parity:
    """The saved output of `handglass verify --json`. Raises InputError."""
    from handglass.runtime.pages.content import MAX_FILE
    from handglass.runtime.pages.of_measurement import parse_verified

    return parse_verified(read(path, MAX_FILE), str(path))


def verify_now(bundle: Path, reference: Path, options: Options) -> Parity:
    """Compare with the checkpoint, as `handglass verify` does."""
    from .compile import load_compiler
    from .progress import progress

    load_compiler(False)
    from handglass.compiler.parity.ratios import report
    from handglass.compiler.verify import verify
    from handglass.runtime.pages.of_measurement import parse_verified
    from handglass.runtime.system.printable import json_text

    with progress() as advance:
        stages = verify(bundle, reference, None, advance, device=options.device)
    return parse_verified(json_text(report(stages)).encode(), str(reference))


def run(sides: Sequence[Side], options: Options) -> bool:
    """Measure the bundles in turns. Returns whether that was interrupted."""
    from handglass.runtime.measure.kernels import run_together

    from .bench_setup import interruptible

    for side in sides:
        prepare(side, options)
    works = [side.work for side in sides if side.work]
    interrupted = works != [] and interruptible(
        lambda progress: run_together(works, options.samples, progress)
    )
    for side in sides:
        if side.session and not (options.quick or interrupted):
            side.peak = peak_of(side, options)
    return interrupted


def prepare(side: Side, options: Options) -> None:
    """Load the bundle on this machine, or note why that is impossible."""
    from handglass.errors import DeviceError, MismatchError
    from handglass.runtime.engine.encoders import open_session
    from handglass.runtime.measure.kernels import KernelBenchmark

    if not options.measure:
        side.problem = "--no-measure was given"
        return
    try:
        kernels = kernels_of(side.bundle)
        side.session = open_session(side.bundle, options.threads, options.device)
    except (DeviceError, MismatchError) as error:
        side.problem = str(error)
    else:
        side.work = KernelBenchmark(side.session, kernels)


def kernels_of(bundle: Bundle) -> dict[str, Kernel]:
    """The list of kernels. Raises MismatchError for a bundle without a valid one, of which there
    is still much to show."""
    from handglass.errors import InputError, MismatchError
    from handglass.runtime.bundle.report import read_report

    try:
        return read_report(bundle)
    except InputError as error:
        raise MismatchError(f"{error}; compile the model again") from error


def peak_of(side: Side, options: Options) -> int | None:
    """Bytes that loading and one question take at most; on a GPU, of its memory."""
    from handglass.runtime.measure import loading

    assert side.session is not None
    if (on_device := side.session.device_peak()) is not None:
        return on_device
    try:
        found = loading.measure(
            side.bundle.path, ask=True, threads=options.threads, device=options.device
        )
    except HandglassError:
        return None
    return found.peak_bytes


def content_here(side: Side, interrupted: bool) -> Content:
    """The report of a bundle that was opened here."""
    from handglass.runtime.pages import of_bundle, of_measurement
    from handglass.runtime.pages.content import FORMAT, VERSION, Content
    from handglass.runtime.system.hardware import read_machine

    from .conditions import revision

    manifest = side.bundle.manifest
    phases = side.work.report() if side.work else []
    workspace = of_measurement.workspace(phases)
    machine = read_machine().memory if side.session and not side.session.on_gpu else None
    return Content(
        format=FORMAT,
        version=VERSION,
        date=datetime.date.today().isoformat(),
        revision=revision(),
        bundle=of_bundle.about(manifest),
        memory=of_bundle.memory(manifest, workspace, side.peak, machine),
        kernels=of_bundle.scheduled(side.bundle),
        parity=None,
        measured=measured_here(side, phases, interrupted),
        not_measured=side.problem[:300],
    )


def measured_here(
    side: Side, phases: Sequence[Mapping[str, Any]], interrupted: bool
) -> Measured | None:
    from handglass.runtime.measure.steps import spread
    from handglass.runtime.pages.of_measurement import measured

    from .conditions import about

    if side.session is None or side.work is None:
        return None
    rates = side.work.limits.rates
    limits = {probe: spread(found) for probe, found in rates.items()}
    return measured(about(side.session, rates), limits, phases, interrupted)
