"""The conditions of a measurement: machine, date, revision, versions."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handglass.runtime.engine.calls import CompiledFunctions


def about(session: CompiledFunctions, rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
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
