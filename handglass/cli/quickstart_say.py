"""Tells what `handglass quickstart` does, on standard error."""

import sys

from handglass.runtime.system.printable import printable


def say(text: str) -> None:
    print(printable(text, lines=True), file=sys.stderr, flush=True)
