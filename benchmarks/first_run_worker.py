"""Times one bundle on one device, for `cuda_first_run.py`: prints one JSON object.

    python benchmarks/first_run_worker.py BUNDLE [--device cuda:0] [--quick]

Samples of all rows are interleaved, and the memory bandwidth that the device reaches is measured
before and after each sample of decode. With --quick every row is short and runs once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from handglass.runtime.bundle.probes import READ
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.devices.driver import open_driver
from handglass.runtime.devices.kinds import KINDS
from handglass.runtime.engine.session import Session
from handglass.runtime.measure.limits import Limits
from handglass.runtime.measure.roofline import decode_bytes
from handglass.runtime.measure.steps import Steps, spread

SAMPLES, PREFILL, POSITION, TOKENS = 5, 512, 512, 64
QUICK = (1, 16, 16, 3)
COUNTED = ("waits", "launches", "graph_launches", "graph_updates", "cell_writes")


def measure(session: Session, samples: int, prefill: int, pos: int, tokens: int) -> dict[str, Any]:
    """Rates and their share of the bandwidth, and what one token costs the driver."""
    steps, limits = Steps(session), Limits(session)
    steps.prepare()
    ids = steps.ids(prefill)
    rows: dict[str, Callable[[], float]] = {
        **({"encode_s": steps.encode} if steps.reads_pictures else {}),
        f"prefill_{prefill}_s": lambda: steps.prefill(ids),
        f"decode_{tokens}_s": lambda: steps.decode(pos, tokens),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(samples):
        for name, row in rows.items():
            limits.sample(READ)
            seconds[name].append(row())
    limits.sample(READ)
    found = {name: spread(values) for name, values in seconds.items()}
    bandwidth = median(limits.rates[READ])
    token = median(seconds[f"decode_{tokens}_s"]) / tokens
    rate = decode_bytes(session.manifest, pos) / token
    return {
        **found,
        "read_gb_s": bandwidth / 1e9,
        "decode_tok_s": 1 / token,
        "decode_share_of_bandwidth": rate / bandwidth,
        "per_token": per_token(session, steps, pos, tokens),
    }


def per_token(session: Session, steps: Steps, pos: int, tokens: int) -> dict[str, float]:
    """The driver's counters, divided by the tokens; {} on a device that does not count."""
    device = session.device
    if device is None:
        return {}
    driver = open_driver(KINDS[device.kind])
    before = driver.statistics(device.index)
    steps.decode(pos, tokens)
    after = driver.statistics(device.index)
    return {name: (after[name] - before[name]) / tokens for name in COUNTED if name in before}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time one bundle on one device.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--quick", action="store_true", help="short rows, once")
    given = parser.parse_args()
    session = Session(Bundle.open(given.bundle, "remembered"), device=given.device)
    sizes = QUICK if given.quick else (SAMPLES, PREFILL, POSITION, TOKENS)
    print(json.dumps(measure(session, *sizes)))


if __name__ == "__main__":
    main()
