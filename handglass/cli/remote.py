"""Connects to the device that measures kernels: a device server, or this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from handglass.runtime.remote.client import DeviceClient

Rpc = Annotated[
    str | None,
    typer.Option(
        "--rpc",
        metavar="HOST:PORT",
        help="Address of 'handglass device serve' on the device.  [default: this machine]",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="File with the device's key.  [default: $HANDGLASS_DEVICE_KEY]",
    ),
]


def connector(rpc: str | None, key_file: Path | None, threads: int | None) -> Any:
    """Return a context manager that yields a factory of sessions.

    The sessions run on the device at `rpc`, or on this machine if `rpc` is None.

    Raises:
        UsageError: The flags contradict each other, or the device's key is missing.
    """
    from contextlib import contextmanager

    from handglass.errors import UsageError
    from handglass.runtime.remote.client import DeviceClient
    from handglass.runtime.remote.keys import VARIABLE, find_key
    from handglass.runtime.remote.local import local_device

    @contextmanager
    def local() -> Iterator[Callable[[], DeviceClient]]:
        with local_device(threads) as endpoint:
            yield lambda: DeviceClient(*endpoint)

    @contextmanager
    def remote() -> Iterator[Callable[[], DeviceClient]]:
        host, port = parse_address(rpc or "")
        key = find_key(key_file)
        if key is None:
            raise UsageError(
                f"--rpc {rpc}: the device's key is missing; use --key-file or set {VARIABLE}"
            )
        yield lambda: DeviceClient(host, port, key)

    if rpc and threads:
        raise UsageError(
            f"--threads {threads} applies to this machine only; with --rpc pass it to "
            "'handglass device serve'"
        )
    if key_file and not rpc:
        raise UsageError(f"--key-file {key_file} needs a device: add --rpc HOST:PORT")
    return remote() if rpc else local()


def parse_address(text: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 host is in brackets.

    Raises:
        UsageError: The text is not a valid address.
    """
    from handglass.errors import UsageError

    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"--rpc {text!r}: must be HOST:PORT, for example 127.0.0.1:9190")
    return host.strip("[]"), int(port)
