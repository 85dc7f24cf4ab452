"""handglass-native: the number of threads that TVM_NUM_THREADS or --threads may ask for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from native_program import NativeProgram

CPUS = len(os.sched_getaffinity(0))
RANGE = f"must be an integer between 1 and {CPUS}, the number of usable CPUs"
REFUSED = [str(CPUS + 1), str(max(64, CPUS + 2)), "100000", "9" * 30, "0", "-1"]
NOT_INTEGERS = ["²", "1.0", "1 ", " 1", "+1", "0x1", "two"]


@pytest.mark.parametrize("given", [*REFUSED, *NOT_INTEGERS])
def test_the_variable_is_checked(program: NativeProgram, given: str) -> None:
    program.fails(2, f"TVM_NUM_THREADS={given} {RANGE}", "describe", threads=given)


def test_the_server_refuses_it_before_it_listens(program: NativeProgram, tmp_path: Path) -> None:
    serve = ["serve", "--port", 0, "--key-file", tmp_path / "not-read-yet"]
    program.fails(2, f"TVM_NUM_THREADS=0 {RANGE}", *serve, threads="0")
    program.fails(2, f"threads={CPUS + 1} {RANGE}", *serve, "--threads", CPUS + 1)


@pytest.mark.parametrize("given", sorted({1, CPUS}))
def test_every_usable_cpu_may_be_asked_for(program: NativeProgram, given: int) -> None:
    assert threads(program, str(given)) == given


def test_a_flag_precedes_the_variable(program: NativeProgram) -> None:
    assert threads(program, "100000", "--threads", 1) == 1


def test_an_empty_variable_is_no_variable(program: NativeProgram) -> None:
    assert 1 <= threads(program, "") <= CPUS


def threads(program: NativeProgram, given: str, *flags: object) -> int:
    done = program.run("describe", *flags, threads=given)
    assert done.returncode == 0, done.stderr
    found: int = json.loads(done.stdout)["threads"]
    return found
