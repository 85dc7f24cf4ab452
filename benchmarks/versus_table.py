"""The lines and the text of the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handglass.runtime.measure.steps import spread

OURS = "handglass"
Seconds = dict[str, dict[str, list[float]]]
"""Seconds per round, by row and engine."""
MEMORY = "peak memory"
NO_SAMPLE = "it does not run this row, or was interrupted"


def ratios(
    seconds: Seconds,
    failed: Mapping[str, str],
    chosen: Mapping[str, Mapping[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """One line per row and peer: the seconds of both, and our speed over theirs.

    Args:
        failed: why a peer has no seconds.
        chosen: the configuration by row and peer.
    """
    lines = []
    for row, engines in seconds.items():
        ours = engines[OURS]
        for name in dict.fromkeys([*engines, *failed]):
            theirs = engines.get(name, [])
            pairs = [their / our for our, their in zip(ours, theirs, strict=False)]
            if name != OURS and pairs:
                one = line(row, name, spread(pairs), spread(ours), spread(theirs))
                lines.append({**one, "configuration": (chosen or {}).get(row, {}).get(name, "")})
            elif name != OURS:
                note = {"note": failed.get(name, NO_SAMPLE)}
                lines.append({**line(row, name, None, _spread(ours), None), **note})
    return lines


def line(row: str, peer: str, ratio: Any, ours: Any, theirs: Any) -> dict[str, Any]:
    return {"row": row, "peer": peer, "ratio": ratio, "ours_s": ours, "theirs_s": theirs}


def _spread(values: list[float]) -> dict[str, float | None] | None:
    return spread(values) if values else None


def as_text(result: Mapping[str, Any]) -> str:
    lines = [
        f"{result['model']}: {result['device']}, {result['date']}, {result['revision']}",
        f"{result['samples']} interleaved samples",
        "ratio: speed, ours over theirs; above 1 we are faster",
        "",
    ]
    for about in result["engines"]:
        facts = [about["version"], about["weights"], f"cache {about['cache']}"]
        facts += [f"{about['threads']} threads", about["wait"]]
        lines.append(f"* {about['name']}: {'; '.join(facts)}")
    lines += ["", "| row | against | its best configuration | ratio: min | median | p90 | "]
    lines[-1] += "ours s | theirs s |"
    lines.append("|---|---|---|---|---|---|---|---|")
    lines += map(line_text, result["rows"])
    lines += ["", *memory_text(result["memory"], result["bundle_bytes"])]
    return "\n".join(lines)


def line_text(line: Mapping[str, Any]) -> str:
    start = f"| {line['row']} | {line['peer']} |"
    if line["ratio"] is None:
        return f"{start} not measured: {line['note']} | | | | | |"
    ratio = [f"{line['ratio'][name]:.2f}" for name in ("min", "median", "p90")]
    both = [f"{line[name]['median']:.3g}" for name in ("ours_s", "theirs_s")]
    return f"{start} {' | '.join([line['configuration'], *ratio, *both])} |"


def memory_text(memory: Mapping[str, int], bundle_bytes: int) -> list[str]:
    """A line per process: the most memory it has held, mapped files included."""
    ours = memory[OURS]
    lines = [f"| {MEMORY} | GB | over ours |", "|---|---|---|"]
    for name, peak in memory.items():
        lines.append(f"| {name} | {peak / 1e9:.2f} | {peak / ours:.2f} |")
    share = ours / bundle_bytes
    return [*lines, "", f"our bundle: {bundle_bytes / 1e9:.2f} GB; peak over bundle {share:.2f}"]
