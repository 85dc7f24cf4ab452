"""The options of `handglass compile` that make a bundle need less memory than it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .entries import POSITIONS, StateEntry

FOUR_BITS = ("w4", "w4a8")
UNROUNDED = ("f32", "f16", "bf16")
"""Schemes of more than 8 bits."""
STEP = 64
"""Of the context that is proposed; a model answers little with less."""


def lighter(scheme: Mapping[str, str], weights: int, state: StateEntry, memory: int) -> str:
    """Advice for a bundle of this scheme that exceeds `memory` bytes, without a full stop.

    `weights` are the bytes of its parameters. Options that it has already are not named, nor those
    of the cache if the weights leave no room for one.
    """
    return _advice([*_of_weights(scheme), *_of_cache(state, memory - weights)])


def smaller(scheme: Mapping[str, str], state: StateEntry) -> str:
    """The same for a bundle that did not fit, where the memory that is left is not known."""
    return _advice([*_of_weights(scheme), *_of_any_cache(state)])


def _advice(options: Sequence[str]) -> str:
    if not options:
        return "use a smaller model: no option is left that makes this one small enough"
    *most, last = options
    return f"compile with {' or '.join([', '.join(most), last] if most else [last])}"


def _of_weights(scheme: Mapping[str, str]) -> Iterator[str]:
    if scheme.get("language") not in FOUR_BITS:
        yield "--quantization w4a8"
    if scheme.get("vision") in UNROUNDED:
        yield "--vision-quantization w8a8"


def _of_cache(state: StateEntry, room: int) -> Iterator[str]:
    kept = [tensor for tensor in state.tensors if tensor.kind == POSITIONS]
    recurrent = sum(tensor.nbytes for tensor in state.tensors) - sum(t.nbytes for t in kept)
    per_position = sum(tensor.nbytes for tensor in kept) / state.context
    if not per_position or room <= recurrent:
        return
    context = int((room - recurrent) / per_position) // STEP * STEP
    if STEP <= context < state.context:
        yield f"--context {context}"
    yield from _of_type(state)


def _of_any_cache(state: StateEntry) -> Iterator[str]:
    if any(tensor.kind == POSITIONS for tensor in state.tensors):
        if state.context > STEP:
            yield "a smaller --context"
        yield from _of_type(state)


def _of_type(state: StateEntry) -> Iterator[str]:
    if state.cache_dtype != "int8":
        yield "--kv-cache int8"
