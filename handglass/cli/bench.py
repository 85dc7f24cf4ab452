"""`handglass bench`: times a bundle on this machine against the machine's measured limits."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from handglass.runtime.system.exits import INTERRUPTED

from .options import BundleArgument, Device, Json, Threads
from .output import print_json
from .signals import ended_by

if TYPE_CHECKING:
    from pathlib import Path

    from handglass.runtime.engine.session import Session
    from handglass.runtime.measure.limits import Limits


def bench(
    bundle: BundleArgument,
    threads: Threads = None,
    device: Device = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=1, metavar="N", help="Samples per row.  [default: 5, quick: 2]"
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take fewer samples and skip the slowest rows.")
    ] = False,
    kernels: Annotated[
        bool,
        typer.Option("--kernels", help="Time each kernel of a picture, a prefill and a decode."),
    ] = False,
    json: Json = False,
) -> None:
    """Measure a bundle on this machine."""
    from handglass.runtime.bundle.reader import Bundle
    from handglass.runtime.bundle.report import read_report
    from handglass.runtime.engine.session import Session
    from handglass.runtime.measure.bench import QUICK_SAMPLES, SAMPLES, Benchmark
    from handglass.runtime.measure.kernels import KernelBenchmark

    from .bench_text import kernels_text, rows_text

    opened = Bundle.open(bundle, "remembered")
    report = read_report(opened) if kernels else {}
    session = Session(opened, threads, device)
    count = samples or (QUICK_SAMPLES if quick else SAMPLES)
    if kernels:
        work: Measurement = KernelBenchmark(session, report)
    else:
        work = Benchmark(session, bundle, threads, quick, device)
    interrupted = measure(work, count)
    result = {**about(session, work.limits.rates), "interrupted": interrupted}
    result["phases" if kernels else "rows"] = work.report()
    if json:
        print_json(result)
    else:
        (kernels_text if kernels else rows_text)(result)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


class Measurement(Protocol):
    """A benchmark of whole rows or of single kernels."""

    limits: Limits

    def run(self, samples: int, progress: Callable[[str, int, int], object]) -> None: ...
    def report(self) -> list[dict[str, Any]]: ...


def measure(work: Measurement, samples: int) -> bool:
    """Run the measurement. Returns whether it was interrupted; samples taken so far are kept."""
    from .progress import progress

    try:
        with progress() as report:
            work.run(samples, report)
    except KeyboardInterrupt:
        ended_by()
        return True
    return False


def about(session: Session, rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Describe the conditions of the measurement: device, versions, scheme, limits."""
    from handglass.runtime.bundle.probes import TILE_UNITS, UNITS
    from handglass.runtime.measure.steps import spread
    from handglass.runtime.system.hardware import read_machine

    machine, manifest, device = read_machine(), session.manifest, session.device
    return {
        "device": f"{machine.model}, {machine.cores} cores",
        "gpu": device and f"{device.name}, {device.driver}",
        "date": datetime.date.today().isoformat(),
        "revision": revision(),
        "threads": session.threads,
        "versions": versions(manifest.versions),
        "scheme": dict(manifest.scheme),
        "limits": {
            unit: spread([rate / 1e9 for rate in rates[kind]])
            for kind, unit in (UNITS | TILE_UNITS).items()
            if kind in rates
        },
    }


def versions(compiled_with: Mapping[str, str]) -> dict[str, str]:
    """The installed versions, and those the bundle was compiled with under `bundle_*`."""
    from importlib.metadata import version
    from platform import python_version

    import handglass

    return {
        "handglass": handglass.__version__,
        "python": python_version(),
        "numpy": version("numpy"),
        "tvm_ffi": version("apache-tvm-ffi"),
        **{f"bundle_{name}": text for name, text in compiled_with.items()},
    }


def revision() -> str:
    """The git revision of the checkout, or the version of an installed wheel."""
    from pathlib import Path

    import handglass

    package = Path(handglass.__file__).parent
    tracked = git(package, "ls-files", "--error-unmatch", "__init__.py")
    return (tracked and git(package, "describe", "--always", "--dirty")) or handglass.__version__


def git(folder: Path, *arguments: str) -> str:
    """Output of a git command; empty if it fails or git is not installed."""
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
