"""What `handglass bench` is asked to measure: the rows of a bundle, its kernels, or two bundles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from handglass.errors import UsageError

from .signals import ended_by

if TYPE_CHECKING:
    from handglass.runtime.bundle.manifest import Manifest
    from handglass.runtime.engine.encoders import EncoderSession
    from handglass.runtime.engine.session import Session
    from handglass.runtime.measure.limits import Limits
    from handglass.runtime.measure.rows import Rows

Progress = Callable[[str, int, int], object]


class Measurement(Protocol):
    """A benchmark of whole rows, of single kernels or of two bundles."""

    limits: Limits

    def run(self, samples: int, progress: Progress, between: Callable[[], object]) -> None: ...
    def report(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Asked:
    """The arguments of the verb."""

    bundle: Path
    against: Path | None
    kernels: bool
    threads: int | None
    device: str | None
    quick: bool
    samples: int | None

    def count(self, usual: int, quick: int) -> int:
        return self.samples or (quick if self.quick else usual)


@dataclass(frozen=True)
class Run:
    """A measurement that is ready to begin."""

    work: Measurement
    samples: int
    key: str
    """Of its report in the result."""
    conditions: Callable[[], dict[str, Any]]
    """Where and how it was measured; complete after it has run."""
    manifest: Manifest
    """Of the first bundle."""


def set_up(asked: Asked) -> Run:
    """Open the bundles and load them on this machine."""
    if asked.against:
        return _comparison(asked, asked.against)
    return _kernels(asked) if asked.kernels else _rows(asked)


def _rows(asked: Asked) -> Run:
    from handglass.runtime.measure.rows import QUICK_SAMPLES, SAMPLES

    from .conditions import about

    work = _benchmark(asked.bundle, asked)
    count = asked.count(SAMPLES, QUICK_SAMPLES)
    conditions = lambda: about(work.loaded, work.limits.rates)  # noqa: E731
    return Run(work, count, "rows", conditions, work.manifest)


def _kernels(asked: Asked) -> Run:
    from handglass.runtime.bundle.reader import Bundle
    from handglass.runtime.bundle.report import read_report
    from handglass.runtime.measure.kernels import KernelBenchmark
    from handglass.runtime.measure.rows import QUICK_SAMPLES, SAMPLES

    from .conditions import about

    opened = Bundle.open(asked.bundle, "remembered")
    report = read_report(opened)
    session = _session(asked, opened)
    work = KernelBenchmark(session, report)
    count = asked.count(SAMPLES, QUICK_SAMPLES)
    conditions = lambda: about(session, work.limits.rates)  # noqa: E731
    return Run(work, count, "phases", conditions, opened.manifest)


def _comparison(asked: Asked, against: Path) -> Run:
    from handglass.runtime.measure.against import QUICK_ROUNDS, ROUNDS, Comparison

    from .conditions import about

    ours, other = _benchmark(asked.bundle, asked), _benchmark(against, asked)
    sides = {"a": ours, "b": other}

    def conditions() -> dict[str, Any]:
        both = {name: about(side.loaded, side.limits.rates) for name, side in sides.items()}
        return {**both, "relation": relation(ours.manifest, other.manifest)}

    return Run(
        Comparison(ours, other),
        asked.count(ROUNDS, QUICK_ROUNDS),
        "rows",
        conditions,
        ours.manifest,
    )


SAME_BUNDLE, SAME_MODEL, OTHER_MODEL = "same bundle", "same model", "different models"


def relation(ours: Manifest, other: Manifest) -> str:
    """What the ratios of two bundles mean."""
    if ours == other:
        return SAME_BUNDLE
    return SAME_MODEL if ours.model == other.model else OTHER_MODEL


def _benchmark(path: Path, asked: Asked) -> Rows:
    from handglass.runtime.bundle.reader import Bundle
    from handglass.runtime.engine.session import Session
    from handglass.runtime.measure.bench import Benchmark
    from handglass.runtime.measure.encoder_bench import EncoderBenchmark

    session, given = _session(asked, Bundle.open(path, "remembered")), (path, asked.threads)
    if isinstance(session, Session):
        return Benchmark(session, *given, asked.quick, asked.device)
    return EncoderBenchmark(session, *given, asked.quick, asked.device)


def _session(asked: Asked, bundle: Any) -> Session | EncoderSession:
    from handglass.runtime.engine.encoders import open_session

    return open_session(bundle, asked.threads, asked.device)


def measure(run: Run, settle_s: float) -> tuple[bool, dict[str, Any] | None]:
    """Run the measurement. Returns whether it was interrupted, and how steady the machine was,
    if the bundle can tell; samples taken so far are kept."""
    from handglass.runtime.measure.steady import steadiness

    steady = steadiness(run.work.limits)

    def body(progress: Progress) -> None:
        if steady:
            progress("wait for a steady speed", 0, 0)
            steady.settle(settle_s)
        run.work.run(run.samples, progress, steady.note if steady else lambda: None)
        if steady:
            steady.note()

    return interruptible(body), steady.report() if steady else None


def interruptible(body: Callable[[Progress], None]) -> bool:
    """Run `body` with progress; returns whether it was interrupted."""
    from .progress import progress

    try:
        with progress() as report:
            body(report)
    except KeyboardInterrupt:
        ended_by()
        return True
    return False


def check_together(asked: Asked, share: Path | None, yes: bool) -> None:
    """Raise UsageError for options that exclude each other."""
    if asked.against and asked.kernels:
        raise UsageError("--against compares whole rows: leave out --kernels")
    if share and (asked.against or asked.kernels):
        raise UsageError("--share is one line of one bundle: leave out --against and --kernels")
    if share and asked.quick:
        raise UsageError("--share needs all rows: leave out --quick")
    if yes and not share:
        raise UsageError("--yes answers the question of --share: add --share FILE")


def check_shared(share: Path | None, manifest: Manifest) -> None:
    """Raise UsageError for a model that the table of --share has no columns for."""
    if share and manifest.encoders is not None:
        raise UsageError(
            "--share is a table of models that answer questions: use --format markdown"
        )
