"""Starts a server, and answers until it is ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...bundle.reader import Bundle
from ..plan import (
    Options,
    Started,
    access_of,
    check_memory,
    listen,
    load,
    load_encoder,
    memory_of,
    memory_text,
    names_of,
)
from ..served import Models
from ..url_fetch import fetcher
from .server import run


def serve(
    bundles: Sequence[Path],
    options: Options,
    note: Callable[[str], None],
    announce: Callable[[Started], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once requests are taken.

    Raises UsageError, InputError, DeviceError or MismatchError before anything is answered.
    """
    access, names, count = access_of(options), names_of(bundles), options.conversations
    with listen(options.host, options.port) as listener:
        opened = {name: Bundle.open(path, "library").manifest for name, path in names.items()}
        memories = [memory_of(name, one, options.limits) for name, one in opened.items()]
        check_memory(memories, count)
        encoders = {
            name: load_encoder(names[name], options) for name, one in opened.items() if one.encoders
        }
        models = {name: load(names[name], options) for name in names if name not in encoders}
        for memory in memories:
            note(memory_text(memory, count))
        host, port = listener.getsockname()[:2]
        started = Started(host, port, tuple(names))
        served = Models(models, options.limits, fetcher(options.limits.hosts), encoders)
        run(served, options.limits, access, listener, lambda: announce(started))
