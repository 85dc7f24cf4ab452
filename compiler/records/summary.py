"""The report of `handglass compile` on records, for --json and the bundle's report.json."""

from __future__ import annotations

from typing import Any

from .apply import RecordBook
from .coverage import Coverage, Covered


def summarize(coverage: Coverage, book: RecordBook) -> dict[str, Any]:
    """Kernels by share of an answer's time, skipped records and refused lines with reasons."""
    return {
        "line": coverage.line(),
        "target": coverage.key,
        "covered": coverage.share,
        "measured_elsewhere": coverage.elsewhere,
        "kernels": [_kernel(kernel) for kernel in coverage.kernels],
        "skipped": [
            {"record": s.record.id, "about": s.record.about, "reason": s.reason}
            for s in book.skipped
        ],
        "refused": [
            {"file": str(path), "line": line.line, "reason": line.reason}
            for path, line in book.store.refused
        ],
    }


def _kernel(kernel: Covered) -> dict[str, Any]:
    record = kernel.record
    return {
        "function": kernel.function,
        "rule": kernel.rule,
        "share": kernel.share,
        "choices": dict(kernel.choices),
        "record": record.id if record else None,
        "device": record.device.model if record else None,
    }
