"""Records for tests: valid in form, with invented content."""

import hashlib
import json
from dataclasses import replace
from typing import Any

from handglass.compiler.records.record import Device, Measured, Record, Times, Verified, Versions

HERE = Device("Some CPU @ 2 GHz", "x86_64", 2, 2)
RECORD = Record(
    target="x86-64-v3",
    task="ab" * 32,
    about="fused_matmul_add (dot4, scaled): (1, 256) int8, (1, 8) float32, (1, 512) float32",
    rule="cpu-dot",
    choices={"panels": 2},
    lengths=(
        Measured({"s": 64}, Times(2e-4, 2.2e-4, 3e-4, 20), Times(1e-4, 1.1e-4, 2e-4, 20)),
        Measured({"s": 512}, Times(2e-3, 2.2e-3, 3e-3, 20), Times(1e-3, 1.1e-3, 2e-3, 20)),
    ),
    share=0.25,
    limit_fraction=0.8,
    device=HERE,
    date="2026-11-25T10:00:00Z",
    versions=Versions("0.1.0", "0.27.0.post1", "0.1.14.post1"),
    verified=Verified(None, 0.0),
)


def example(**changes: Any) -> Record:
    return replace(RECORD, **changes)


def timed(seconds: float, **changes: Any) -> Record:
    """A record with one length, a tuned median of `seconds`, and a default of twice that."""
    tuned, default = (Times(t, t, t, 5) for t in (seconds, 2 * seconds))
    return example(lengths=(Measured({"s": 64}, default, tuned),), **changes)


def forged(data: dict[str, Any]) -> str:
    """A line with a valid id for any content, as a malicious sender could create it."""
    rest = {key: value for key, value in data.items() if key != "id"}
    return json.dumps({**rest, "id": hashlib.sha256(canonical(rest).encode()).hexdigest()})


def canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def as_data(record: Record = RECORD) -> dict[str, Any]:
    found = json.loads(record.text())
    assert isinstance(found, dict)
    return found
