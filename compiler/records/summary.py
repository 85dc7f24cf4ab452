"""The report of `handglass compile` on records, for --json and the bundle's report.json."""

from __future__ import annotations

from typing import Any

from .apply import RecordBook
from .coverage import Coverage, Covered
from .store import SHIPPED


def summarize(coverage: Coverage, book: RecordBook) -> dict[str, Any]:
    """Kernels by share of an answer's time, skipped records and refused lines with reasons."""
    return {
        "line": f"{coverage.line()}{_shipped(coverage, book)}",
        "target": coverage.key,
        "covered": coverage.share,
        "measured_elsewhere": coverage.elsewhere,
        "kernels": [_kernel(kernel, book) for kernel in coverage.kernels],
        "skipped": [
            {"record": s.record.id, "about": s.record.about, "reason": s.reason}
            for s in book.skipped
        ],
        "refused": [
            {"file": str(path), "line": line.line, "reason": line.reason}
            for path, line in book.store.refused
        ],
    }


def _shipped(coverage: Coverage, book: RecordBook) -> str:
    """How many kernels have a record that came with handglass; "" if none has."""
    used = [book.sources[kernel.record.id] for kernel in coverage.tuned if kernel.record]
    count = used.count(SHIPPED)
    return f"; {count} from records shipped with handglass" if count else ""


def _kernel(kernel: Covered, book: RecordBook) -> dict[str, Any]:
    record = kernel.record
    return {
        "function": kernel.function,
        "rule": kernel.rule,
        "share": kernel.share,
        "choices": dict(kernel.choices),
        "record": record.id if record else None,
        "device": record.device.model if record else None,
        "source": book.sources[record.id] if record else None,
        "measure": record.measure if record else None,
    }
