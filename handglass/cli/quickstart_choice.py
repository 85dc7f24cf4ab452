"""What `handglass quickstart` compiles: the first choice of storage that fits the free memory.

Eight bits for a small language model, of which four bits cost much (docs/accuracy.md), four for
others; then keys and values in eight bits, and last a shorter context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handglass.errors import DeviceError
from handglass.runtime.system.memory import available_bytes

from .output import size_text
from .quickstart_shelf import Note

if TYPE_CHECKING:
    from handglass.compiler.plan import Plan

SMALL = 1_000_000_000
"""Parameters of a model that gets eight bits."""
SPARE = 256 << 20
"""Bytes beside weights and cache: Python, a picture, intermediate results.

At full size, 0.1 to 0.2 GB were measured."""
SHORTEST = 1024
"""The shortest context that is tried: a sliced picture takes 640 positions of it."""
FIXED_S, PER_BILLION_S = 15.0, 30.0
"""Seconds to compile: 32 for 1.3 billion parameters and 121 for 4.1 on two recent server cores."""
VERIFY_FIXED_S, VERIFY_PER_BILLION_S = 5.0, 60.0
"""Seconds to verify, counted and not timed: numpy reads each weight twice, packs and unpacks it
once as the compiler does, but one after the other, and multiplies a prompt of about 100 rows or a
tile of 1,024 patches by it, twice; once more where a ratio falls short and must be explained."""

Planner = Callable[..., "Plan"]


@dataclass(frozen=True)
class Choice:
    """Options of `compile_model`, and what they come to."""

    options: dict[str, Any]
    plan: Plan

    @property
    def text(self) -> str:
        plan = self.plan
        parts = ", ".join(f"{name} {part}" for part, name in plan.scheme.items())
        return f"{parts}, keys and values {plan.kv_cache}, context {plan.context}"


def choose(plan: Planner, quantization: str | None, context: int | None) -> Choice:
    """The first choice that fits. `plan` is `plan_model` with everything that is not chosen here.

    Raises DeviceError if none fits the memory, or the bundle not the disk.
    """
    names = [quantization] if quantization else ["w8a8", "w4a8"]
    found = plan(quantization=names[0], context=context, kv_cache=None)
    if not quantization and found.model.parameters >= SMALL:
        names = names[1:]
    for options in candidates(names, context, found.context):
        found = plan(**options)
        if fits(found):
            check_disk(found)
            return Choice(options, found)
    raise DeviceError(too_large(found))


def candidates(names: Sequence[str], context: int | None, longest: int) -> Iterator[dict[str, Any]]:
    """Options from the preferred to the smallest. A context that was asked for stays."""
    for name in names:
        yield {"quantization": name, "context": context, "kv_cache": None}
    smallest = {"quantization": names[-1], "kv_cache": "int8"}
    yield {**smallest, "context": context}
    while context is None and (longest := longest // 2) >= SHORTEST:
        yield {**smallest, "context": longest}


def free_memory(plan: Plan) -> int | None:
    """What the bundle may take: of this machine what is free, of a GPU what it has."""
    free = available_bytes() if plan.target == "host" else plan.memory.limit
    return None if free is None else max(0, free - SPARE)


def fits(plan: Plan) -> bool:
    free = free_memory(plan)
    return plan.memory.fits is not False and (free is None or plan.memory.resident <= free)


def check_disk(plan: Plan) -> None:
    if not plan.disk.fits:
        raise DeviceError(
            f"{plan.disk.folder}: the bundle takes {size_text(plan.disk.bundle)}, but only "
            f"{size_text(plan.disk.free)} are free; free some disk space, or set XDG_CACHE_HOME to "
            "a folder on another disk"
        )


def too_large(plan: Plan) -> str:
    free = free_memory(plan)
    room = "less is" if free is None else f"{size_text(free)} are"
    return (
        f"{plan.model.name}: its smallest bundle takes {size_text(plan.memory.resident)}, but only "
        f"{room} free: close other programs, or use a smaller model"
    )


def estimate(parameters: int, notes: Sequence[Note]) -> tuple[float, str]:
    """Seconds that compiling takes, and what they are estimated from."""
    usual = FIXED_S + PER_BILLION_S * parameters / 1e9
    took = _took_here(parameters, [(note.parameters, note.seconds) for note in notes])
    return took or (usual, "on two recent cores")


def estimate_verify(parameters: int, notes: Sequence[Note]) -> tuple[float, str]:
    """The same of verifying."""
    usual = VERIFY_FIXED_S + VERIFY_PER_BILLION_S * parameters / 1e9
    took = _took_here(parameters, [(note.parameters, note.verify_seconds) for note in notes])
    return took or (usual, "counted, not timed")


def _took_here(parameters: int, took: Sequence[tuple[int, float]]) -> tuple[float, str] | None:
    """From the first (parameters, seconds) of a model of about this size."""
    for others, seconds in took:
        if seconds and parameters / 2 <= others <= parameters * 2:
            return seconds * parameters / others, "as long as the last one here"
    return None


def time_text(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
