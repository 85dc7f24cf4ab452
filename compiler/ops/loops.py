"""Loops of hand-written loop nests that are bound to threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from handglass.schedules.loops import int64


@contextmanager
def bound(extent: Expr | int, thread: str) -> Iterator[Expr]:
    """A loop bound to `thread`, e.g. `blockIdx.x` or `threadIdx.x`."""
    with T.thread_binding(int64(0), int64(extent), thread=thread) as var:
        yield var
