"""Measures the effect of tuning records on whole steps: two bundles of one model, interleaved.

    python benchmarks/tuned.py DEFAULT-BUNDLE TUNED-BUNDLE [--rounds 7] [--threads 2]

Both run in one process, in alternating order in each round. The ratio is computed within a round,
so a machine that slows down affects both. Compile the first bundle with --no-records.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

import handglass
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.session import Session
from handglass.runtime.measure.steps import Steps, spread

TOKENS, POSITION = 64, 80


def rows(steps: Steps) -> dict[str, Callable[[], float]]:
    """The parts of an answer, and the whole answer."""
    question = steps.ids(16)
    prompt = steps.ids(80)

    def answer() -> float:
        return steps.first_token(question) + steps.decode(POSITION, TOKENS)

    return {
        "picture": steps.encode,
        "prefill 80": lambda: steps.prefill(prompt),
        f"{TOKENS} tokens": lambda: steps.decode(POSITION, TOKENS),
        "answer": answer,
    }


def measure(bundles: list[Path], rounds: int, threads: int | None) -> dict[str, dict]:
    """For each row, the seconds of both and the speedup of the second over the first, by round."""
    sessions = [Session(Bundle.open(path, "remembered"), threads) for path in bundles]
    peers = [Steps(session) for session in sessions]
    for peer in peers:
        peer.prepare()
    works = [rows(peer) for peer in peers]
    found = {}
    for name in works[0]:
        seconds = np.zeros((rounds, 2))
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                seconds[turn, which] = works[which][name]()
        found[name] = {
            "default_s": spread(list(seconds[:, 0])),
            "tuned_s": spread(list(seconds[:, 1])),
            "speedup": spread(list(seconds[:, 0] / seconds[:, 1])),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("default", type=Path)
    parser.add_argument("tuned", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    result = {
        "date": date.today().isoformat(),
        "handglass": handglass.__version__,
        "bundles": [str(given.default), str(given.tuned)],
        "rounds": given.rounds,
        "rows": measure([given.default, given.tuned], given.rounds, given.threads),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
