"""Formats the line after an answer: times, rates and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def footer(timings: Mapping[str, Any]) -> str:
    """Format `timings` as printed by `handglass run --json`; pictures in the cache are omitted."""
    images = zip(timings["encode_ms"], timings["image_tokens"], strict=True)
    parts = [
        f"image {number}: {milliseconds:.0f} ms ({tokens} tokens)"
        for number, (milliseconds, tokens) in enumerate(images, 1)
        if milliseconds
    ]
    parts += [phase(name, timings) for name in ("prefill", "decode")]
    parts.append(f"peak {memory(timings['peak_mb'])}")
    if timings.get("device_mb") is not None:
        parts.append(f"device {memory(timings['device_mb'])}")
    return " | ".join(parts)


def phase(name: str, timings: Mapping[str, Any]) -> str:
    """Format a phase; no rate if it has no tokens, such as the decode of a one-token answer."""
    count, rate = timings[f"{name}_tokens"], timings[f"{name}_tok_s"]
    speed = f", {rate:.{0 if rate >= 100 else 1}f} tok/s" if count else ""
    return f"{name} {count} tok{speed}"


def memory(megabytes: float) -> str:
    return f"{megabytes / 1000:.2f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
