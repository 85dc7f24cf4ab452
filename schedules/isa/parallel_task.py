"""Statements that each task of a parallel loop runs once, not in each iteration."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from ..tiling import is_one

LAUNCH = "pragma_parallel_launch_point"
"""The task starts there, before the statements that precede the loop."""


def in_each_task(loop: tirx.For, statements: Sequence[tirx.Stmt]) -> tirx.Stmt:
    """`statements`, of which one is the parallel loop, as a task."""
    body = tirx.SeqStmt(list(statements))
    if is_one(loop.extent):
        return body  # lowering drops the loop: there is no launch, and one task
    return tirx.AttrStmt(tirx.const(0, "int32"), LAUNCH, tirx.const(1, "int32"), body)
