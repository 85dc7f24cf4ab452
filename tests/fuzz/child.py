"""The process that reads damaged inputs: `python -m fuzz.child SEED START STOP [READER]`.

It writes one line per input to standard output before it reads it, and one line for a fault, so the
parent knows the input that ended the process. An input follows from SEED and its number alone.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

MEMORY = 1 << 30
"""Bytes that reading an input may add to the address space."""
SECONDS = 20
"""Seconds that reading an input may take."""


def input_of(seed: int, number: int, only: str = "") -> tuple[str, bytes]:
    """The reader and the contents of one input."""
    from .mutate import mutate
    from .readers import READERS

    random = Random(f"{seed}:{number}")
    name = only or list(READERS)[number % len(READERS)]
    seeds = READERS[name].seeds()
    return name, mutate(random.choice(seeds), random.choice(seeds), random)


def fault_of(name: str, data: bytes, folder: Path) -> str:
    """Read an input; the traceback of an error that a user should not see, or ""."""
    from handglass.cli.errors import INTERNAL, explain

    from .readers import READERS

    try:
        READERS[name].read(data, folder)
    except MemoryError:
        return f"more than {MEMORY >> 20} MB\n{traceback.format_exc(limit=-6)}"
    except Exception as error:  # noqa: BLE001  every kind is examined
        if isinstance(error, READERS[name].refusals):
            return ""
        failure = explain(error)
        lines = failure.message.splitlines()
        if failure.exit_code == INTERNAL or not all(line.startswith("  ") for line in lines[1:]):
            return traceback.format_exc(limit=-6)
    return ""


def set_limits() -> None:
    """Limit the address space; a hang ends the process by SIGALRM, whatever code it is in."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    logging.getLogger("handglass").setLevel(logging.ERROR)  # most damaged files have unknown keys


def main(arguments: Sequence[str]) -> None:
    seed, start, stop = map(int, arguments[:3])
    from .readers import READERS, warm_up

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print
    only = arguments[3] if len(arguments) > 3 else ""
    assert not only or only in READERS, f"{only}: known are {', '.join(READERS)}"
    with TemporaryDirectory() as folder:
        warm_up()
        set_limits()
        for number in range(start, stop):
            name, data = input_of(seed, number, only)
            print(json.dumps({"number": number, "reader": name}), file=out)
            signal.alarm(SECONDS)
            fault = fault_of(name, data, Path(folder))
            signal.alarm(0)
            if fault:
                print(json.dumps({"number": number, "fault": fault}), file=out)
        print(json.dumps({"done": True}), file=out)


if __name__ == "__main__":
    main(sys.argv[1:])
