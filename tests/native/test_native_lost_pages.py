"""handglass-native run: parameters that are truncated after they were mapped (SIGBUS)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from native_program import TIMEOUT_S, NativeProgram

from handglass.runtime.answer.native_request import Written

pytest_plugins = ["native_fixtures"]
pytestmark = [pytest.mark.compiler, pytest.mark.slow]

PARAMS = "params-00001.safetensors"


@contextmanager
def waiting(
    program: NativeProgram, bundle: Path, question: Written
) -> Iterator[subprocess.Popen[str]]:
    """The program with the parameters mapped and not read yet, waiting for its request."""
    pixels = [word for tile in question.tiles for word in ("--pixels", str(tile))]
    command = program.command("run", bundle, "--ids", "-", *pixels, "--verify", "library")
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TVM_NUM_THREADS": "2"},
    ) as process:
        try:
            wait_for_mapping(process, str(bundle / PARAMS))
            yield process
        finally:
            process.kill()


def wait_for_mapping(process: subprocess.Popen[str], path: str) -> None:
    deadline = time.monotonic() + 60
    while path not in Path(f"/proc/{process.pid}/maps").read_text("utf-8"):
        assert process.poll() is None and time.monotonic() < deadline, "it was not mapped"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "left",
    [lambda size: 0, lambda size: size // 2],
    ids=["before the header is read", "while compiled code runs"],
)
def test_a_lost_page_is_an_error_message(
    program: NativeProgram, copied: Path, question: Written, left: Callable[[int], int]
) -> None:
    params = copied / PARAMS
    with waiting(program, copied, question) as process:
        os.truncate(params, left(params.stat().st_size))
        out, err = process.communicate(question.request.read_text("utf-8"), TIMEOUT_S)
    words = "truncated or unreadable while in use; copy or compile the bundle again"
    assert (process.returncode, out, err) == (5, "", f"error: {params}: {words}\n")


def test_another_bus_error_ends_the_process(
    program: NativeProgram, copied: Path, question: Written
) -> None:
    """The handler restores the default action for addresses that are in no mapped file.

    Also for a signal that was sent, which does not repeat as a fault does.
    """
    with waiting(program, copied, question) as process:
        process.send_signal(signal.SIGBUS)
        assert process.wait(TIMEOUT_S) == -signal.SIGBUS
