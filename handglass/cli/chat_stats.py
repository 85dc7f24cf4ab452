"""`/stats` of `handglass chat`: how much the conversation holds, what it took, what was saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from handglass.runtime.system.memory import peak_bytes

from .conversation import Conversation
from .footer import footer, memory


def stats_of(talk: Conversation) -> dict[str, Any]:
    """The numbers, as `--json` prints them."""
    totals = talk.totals
    return {
        "questions": len(talk.exchanges),
        "shown": sum(len(exchange.shown) for exchange in talk.exchanges),
        "forgotten": totals.forgotten,
        "positions": positions(talk),
        "context": talk.model.manifest.state.context,
        "computed_tokens": totals.computed,
        "reused_tokens": totals.reused,
        "answered_tokens": totals.answered,
        "peak_mb": peak_bytes() / 1e6,
        "cache_mb": sum(tensor.nbytes for tensor in talk.model.manifest.state.tensors) / 1e6,
        "last": None if talk.last is None else asdict(talk.last.timings),
    }


def stats_lines(talk: Conversation) -> Iterator[str]:
    """The same for people."""
    found = stats_of(talk)
    used, context = found["positions"], found["context"]
    shown = f", {_count(found['shown'], 'picture')}" if found["shown"] else ""
    forgotten = f", {found['forgotten']} forgotten" if found["forgotten"] else ""
    yield f"{_count(found['questions'], 'question')}{shown}{forgotten}"
    yield f"context: {used:,} of {context:,} positions ({used / context:.0%})"
    computed, reused = found["computed_tokens"], found["reused_tokens"]
    share = f" ({reused / (computed + reused):.0%})" if computed + reused else ""
    yield f"prompts: {computed:,} tokens computed, {reused:,} reused from the cache{share}"
    yield f"answers: {found['answered_tokens']:,} tokens"
    yield f"memory: peak {memory(found['peak_mb'])}, of it cache {memory(found['cache_mb'])}"
    if talk.last is not None:
        yield f"last answer: {footer(found['last'])}"


def positions(talk: Conversation) -> int:
    """Positions of the context that the last prompt and its answer took."""
    if talk.last is None:
        return 0
    timings = talk.last.timings
    return timings.prefill_tokens + timings.reused_tokens + timings.decode_tokens


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
