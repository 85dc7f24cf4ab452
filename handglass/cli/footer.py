"""Formats the line after an answer: times, rates, memory and sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

GREEDY_OPTIONS = ("temp", "repeat_penalty")
SAMPLING_OPTIONS = ("temp", "top_p", "top_k", "repeat_penalty", "seed")


def footer(timings: Mapping[str, Any], sampling: str = "") -> str:
    """Format `timings` as printed by `handglass run --json`; pictures in the cache are omitted."""
    parts = list(shown(timings))
    parts += [phase(name, timings) for name in ("prefill", "decode")]
    parts.append(f"peak {memory(timings['peak_mb'])}")
    if timings.get("device_mb") is not None:
        parts.append(f"device {memory(timings['device_mb'])}")
    return " | ".join([*parts, *filter(None, [sampling])])


def shown(timings: Mapping[str, Any]) -> Iterator[str]:
    """Format each picture and video that was encoded; they are counted apart."""
    counts = {"image": 0, "video": 0}
    items = zip(*(timings[n] for n in ("encode_ms", "image_tokens", "video_frames")), strict=True)
    for milliseconds, tokens, frames in items:
        kind = "video" if frames else "image"
        counts[kind] += 1
        if milliseconds:
            extent = f"{frames} frame{'' if frames == 1 else 's'}, " if frames else ""
            yield f"{kind} {counts[kind]}: {milliseconds:.0f} ms ({extent}{tokens} tokens)"


def sampling_text(defaults: Mapping[str, Any], flags: Mapping[str, Any]) -> str:
    """How tokens were selected: `flags` replace the `defaults` of the model.

    Empty if there are neither. Options that greedy decoding ignores are omitted.
    """
    used = {**defaults, **flags}
    given = [name for name in SAMPLING_OPTIONS if name in used]
    if not given:
        return ""
    used.setdefault("temp", 0)
    effective = SAMPLING_OPTIONS if used["temp"] else GREEDY_OPTIONS
    origins: dict[str, list[str]] = {}
    for name in (name for name in effective if name in used):
        origin = "flags" if name in flags else "model" if name in defaults else "default"
        origins.setdefault(origin, []).append(option_text(name, used[name]))
    return ", ".join(f"{' '.join(texts)} ({origin})" for origin, texts in origins.items())


def option_text(name: str, value: float) -> str:
    """As on the command line, such as `top-p 0.8`."""
    return "greedy" if name == "temp" and not value else f"{name.replace('_', '-')} {value:g}"


def phase(name: str, timings: Mapping[str, Any]) -> str:
    """Format a phase; no rate if it has no tokens, such as the decode of a one-token answer."""
    count, rate = timings[f"{name}_tokens"], timings[f"{name}_tok_s"]
    speed = f", {rate:.{0 if rate >= 100 else 1}f} tok/s" if count else ""
    return f"{name} {count} tok{speed}"


def memory(megabytes: float) -> str:
    return f"{megabytes / 1000:.2f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
