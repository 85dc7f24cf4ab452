"""The child process of the builder, which imports TVM late: without an installed torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from handglass.runtime.system.packages import without_torch
from handglass.targets.target import Target


def serve(pipe: Connection) -> None:
    """Main function of the child: builds libraries until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    os.environ["TVM_NUM_THREADS"] = "1"
    target, functions = pipe.recv()
    with without_torch():
        from tvm.ir import load_json

    known = {key: (load_json(text), rule) for key, (text, rule) in functions.items()}
    pipe.send("ready")
    while True:
        try:
            key, choices = pipe.recv()
        except EOFError:
            return
        pipe.send(_library(*known[key], target, choices))


def _library(func: Any, rule_name: str, target: Target, choices: Mapping[str, int]) -> tuple:
    """(library, "") or (None, reason)."""
    import tvm

    from handglass.schedules.rule import replay

    from ..lowering.kernel_code import library_of

    rule = next(rule for rule in target.rules if rule.name == rule_name)
    try:
        sch = replay(func, rule, tvm.target.Target(target.tvm), choices)
        return library_of(sch.mod["main"], target), ""
    except Exception as error:  # noqa: BLE001  a compiler may raise anything
        lines = str(error).strip().splitlines() or [""]
        return None, f"{type(error).__name__}: {lines[-1][:200]}"
