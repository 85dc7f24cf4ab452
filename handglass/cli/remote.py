"""Where kernels are measured: on a device that is served, or on this machine."""

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
        help="The device, where 'handglass device serve' runs.  [default: this machine]",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file", metavar="FILE", help="The device's key.  [default: HANDGLASS_DEVICE_KEY]"
    ),
]


def connector(rpc: str | None, key_file: Path | None, threads: int | None) -> Any:
    """A context that gives what opens a session: with the device at `rpc`, or with this machine."""
    from contextlib import contextmanager

    from handglass.errors import UsageError
    from handglass.runtime.remote.client import DeviceClient
    from handglass.runtime.remote.keys import VARIABLE, find_key
    from handglass.runtime.remote.local import local_device

    @contextmanager
    def here() -> Iterator[Callable[[], DeviceClient]]:
        with local_device(threads) as endpoint:
            yield lambda: DeviceClient(*endpoint)

    @contextmanager
    def there() -> Iterator[Callable[[], DeviceClient]]:
        host, port = parse_address(rpc or "")
        key = find_key(key_file)
        if key is None:
            raise UsageError(f"--rpc {rpc}: needs the device's key, --key-file or {VARIABLE}")
        yield lambda: DeviceClient(host, port, key)

    if rpc and threads:
        raise UsageError("--threads is for this machine; give it to 'handglass device serve'")
    if key_file and not rpc:
        raise UsageError("--key-file is for a device: say which with --rpc HOST:PORT")
    return there() if rpc else here()


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, the host of IPv6 in brackets."""
    from handglass.errors import UsageError

    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"--rpc {text!r}: must be HOST:PORT, for example 127.0.0.1:9190")
    return host.strip("[]"), int(port)
