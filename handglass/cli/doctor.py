"""`handglass doctor`: checks the installation, this machine and, on request, a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handglass.runtime.devices.kinds import device_names

from .bundle_argument import bundle_folder
from .bundle_checks import bundle_checks
from .checks import Check, all_checks
from .options import Json
from .output import columns, print_json

MARKS = {True: "ok", False: "BROKEN", None: "-"}


def doctor(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            metavar="BUNDLE", help="A bundle to check on this machine.", callback=bundle_folder
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help=f"Also test a GPU: {device_names(with_host=False)}.  [default: the device that "
            "the bundle is compiled for]",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check this machine and whether it can run a bundle."""
    from handglass.errors import DeviceError

    checks = [*all_checks(), *device_checks(bundle, device)]
    healthy = all(check.ok is not False for check in checks)
    if json:
        print_json({"ok": healthy, "checks": [vars(check) for check in checks]})
    else:
        print_text(checks)
    if not healthy:
        raise typer.Exit(DeviceError.exit_code)


def device_checks(path: Path | None, device: str | None) -> list[Check]:
    """Checks of the bundle and of the GPU named by the bundle or by --device."""
    from .device_checks import checks_of_device

    if path is None:
        return checks_of_device(device, None) if device else []
    from handglass.runtime.bundle.reader import Bundle

    bundle = Bundle.open(path)
    return bundle_checks(bundle, device, checks_of_device(device, bundle))


def print_text(checks: list[Check]) -> None:
    print(columns([(check.name, MARKS[check.ok], check.value) for check in checks]))
    for check in checks:
        if check.hint:
            print(f"\n{check.name}: {check.hint}")
