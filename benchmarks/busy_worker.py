"""A worker of `busy.py`: python busy_worker.py BUNDLE THREADS.

Prints 0 when the model is loaded. Then, for each number of seconds on standard input, decodes for
that long and prints the rate in tok/s. Ends with its input.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.session import Session

PROMPT, STEPS = 16, 64


def decode(session: Session, seconds: float) -> float:
    """Tokens per second, greedy, at the positions of a short answer."""
    start, count, token = time.perf_counter(), 0, 0
    while (passed := time.perf_counter() - start) < seconds:
        token = int(session.decode(token, PROMPT + count % STEPS).argmax())
        count += 1
    return count / passed


def main() -> None:
    bundle, threads = sys.argv[1:]
    session = Session(Bundle.open(Path(bundle), "remembered"), int(threads))
    session.prefill(session.embed(range(PROMPT)), 0)
    # An answer is generated in the session's thread, in checkouts that have one.
    worker = getattr(session, "worker", None)
    decode(session, 0.5)
    print(0, flush=True)
    for line in sys.stdin:
        seconds = float(line)
        rate = worker.run(decode, session, seconds) if worker else decode(session, seconds)
        print(rate, flush=True)


if __name__ == "__main__":
    main()
