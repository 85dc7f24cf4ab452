"""Tuning on this machine: kernels of a small model through builder, device and journals."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")
from lowered_demo import V3, four_bit_row
from thinned import only

from handglass.compiler.lowering.kernel_code import library_of
from handglass.compiler.lowering.task_arguments import Arguments, arguments_of, copies_of
from handglass.compiler.lowering.tasks import Task, extract_tasks
from handglass.compiler.tune import Tuned, tune
from handglass.compiler.tuning.builder import Builder
from handglass.compiler.tuning.device import check_device
from handglass.compiler.tuning.device_runner import CandidateError, DeviceRunner, _hold
from handglass.compiler.tuning.progress import Progress
from handglass.compiler.tuning.task_tuner import UNSTEADY
from handglass.compiler.tuning.tuning_input import CompileOptions, TuningInput, read_tuning_input
from handglass.errors import DeviceError, MismatchError, UsageError
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.local import Endpoint, local_device
from handglass.schedules.rule import replay
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

HOST = find_target("host")


@pytest.fixture(scope="module")
def tuning_input(small_checkpoint: Path) -> TuningInput:
    return read_tuning_input(small_checkpoint, CompileOptions(quantization="w4a8", context=128))


@pytest.fixture(scope="module")
def text_input(text_checkpoint: Path) -> TuningInput:
    """With half the kernels."""
    return read_tuning_input(text_checkpoint, CompileOptions(quantization="w4a8", context=128))


@pytest.fixture(scope="module")
def device() -> Iterator[Endpoint]:
    with local_device(threads=1) as endpoint:
        yield endpoint


@pytest.fixture
def run(text_input: TuningInput, device: Endpoint, tmp_path: Path) -> Callable[..., Tuned]:
    def call(trials: int, **settings: Any) -> Tuned:
        return tune(
            text_input,
            lambda: DeviceClient(*device),
            trials=trials,
            work_dir=tmp_path,
            journal=tmp_path / "records.jsonl",
            tasks=2,
            **settings,
        )

    return call


def lines(folder: Path) -> list[str]:
    (file,) = folder.glob("trials-*.jsonl")
    return file.read_text().splitlines()


def test_kernels_are_timed(run: Callable[..., Tuned], tmp_path: Path) -> None:
    reported: list[Progress] = []
    first = run(4, progress=reported.append)
    # A busy machine may measure nothing stable; no other failure is accepted.
    assert all(UNSTEADY in failure for failure in first.failed), first.failed
    assert first.rows and sum(row.share for row in first.rows) == pytest.approx(1)
    assert [row.share for row in first.rows] == sorted((r.share for r in first.rows), reverse=True)
    assert all(row.seconds > 0 for row in first.rows)
    assert [p.trials for p in reported[: len(first.rows)]] == [0] * len(first.rows)
    tuning = reported[len(first.rows) :]
    assert tuning and all(p.best_us > 0 and (p.limit_fraction or 1) > 0 for p in tuning)
    assert [p.trial for p in tuning] == [*range(1, 5)]
    assert sum(task.trials for task in tuning[-1].table) == 4
    assert [task.weight for task in tuning[-1].table] == [
        row.task.main.calls for row in first.rows[:2]
    ]
    assert len(lines(tmp_path)) == 4


def test_every_kernel_of_an_answer_is_a_task_and_nothing_else(tuning_input: TuningInput) -> None:
    tasks = extract_tasks(tuning_input.mod, tuning_input.target, tuning_input.parts)
    names = {task.name for task in tasks}
    assert {"encode_vision", "resample"}.isdisjoint(names)
    assert any("attention" in name for name in names) and len(tasks) > 10
    for task in tasks:
        assert task.size > 1 and task.main.calls > 0
        for use in task.uses:
            arguments = arguments_of(task, use.lengths)
            assert len(arguments.items) == len(task.func.params)
            assert task.kernel.bytes(arguments.sizes, arguments.itemsizes) > 0


def test_copies_outgrow_the_caches_but_not_the_device() -> None:
    assert copies_of(1 << 30) == 1
    assert copies_of(64 << 20) * (64 << 20) >= 192 << 20
    assert copies_of(1) == 32


def test_choices_from_a_record_are_the_library_that_was_measured() -> None:
    task, choices = four_bit_row(), {"panels": 2}
    import tvm

    func = replay(task.func, task.rule, tvm.target.Target(V3.tvm), choices).mod["main"]
    with Builder([task], V3) as builder:
        built = builder.build(task, choices)
        assert built.library is not None, built.reason
        assert len(built.library) == len(library_of(func, V3))
        unknown = builder.build(task, {"panels": 3})
        assert unknown.library is None and "panels" in unknown.reason
        assert builder.build(task, choices).library is not None


def script(folder: Path, text: str) -> str:
    path = folder / "linker"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


HANGS, DIES = ("sleep 60", "no library after 3 s"), ("kill -9 $PPID; sleep 5", "SIGKILL")


@pytest.mark.parametrize(("text", "words"), only([DIES], [HANGS, DIES]))
def test_a_builder_that_hangs_or_dies_is_replaced(text: str, words: str, tmp_path: Path) -> None:
    task, target = four_bit_row(), replace(V3, linkers=(script(tmp_path, text),))
    with Builder([task], target, timeout=3) as builder:
        for _ in range(2):
            built = builder.build(task, {"panels": 2})
            assert built.library is None and words in built.reason


def test_a_runner_outlives_its_sessions(device: Endpoint) -> None:
    runner = DeviceRunner(lambda: DeviceClient(*device))
    task = four_bit_row()
    right = library_of(replayed(task, {"panels": 4}), HOST)
    other = library_of(replayed(task, {"panels": 2}), HOST)
    runner.prepare(arguments_of(task, {}))
    assert runner.seconds(right, 3, 2)
    with pytest.raises(CandidateError, match="cannot be loaded|not a library|ELF|invalid"):
        runner.seconds(b"\x7fELF but no library", 1, 1)
    assert runner.seconds(right, 3, 2)
    assert all(d.finite and (d.snr_db or 200) > 100 for d in runner.compare(right, other, 1))
    runner._client.close()  # type: ignore[union-attr]  # as if the session died between requests
    with pytest.raises((CandidateError, DeviceError)):
        runner.seconds(right, 1, 1)
    assert runner.seconds(right, 1, 1)
    runner.close()


def replayed(task: Task, choices: dict[str, int]) -> Any:
    import tvm

    return replay(task.func, task.rule, tvm.target.Target(HOST.tvm), choices).mod["main"]


def test_a_device_that_cannot_run_the_target_is_refused(device: Endpoint) -> None:
    with DeviceClient(*device) as client:
        description = client.describe()
    check_device(description, HOST)
    with pytest.raises(MismatchError, match="aarch64"):
        check_device(description, find_target("arm64"))
    machine = replace(description.machine, flags=description.machine.flags - {"avx2"})
    with pytest.raises(MismatchError, match="avx2"):
        check_device(replace(description, machine=machine), V3)


def test_a_bundle_is_tuned_as_it_is(small_bundle: Path) -> None:
    found = read_tuning_input(small_bundle, CompileOptions())
    assert found.target.name == "host"
    assert {part.function for part in found.parts} == {"encode_image", "prefill", "decode"}
    with pytest.raises(UsageError, match="quantization"):
        read_tuning_input(small_bundle, CompileOptions(quantization="w4"))
    with pytest.raises(UsageError, match="--mmproj"):
        read_tuning_input(small_bundle, CompileOptions(mmproj=small_bundle))
    for other in ("arm64", "vulkan"):
        with pytest.raises(MismatchError, match=other):
            read_tuning_input(small_bundle, CompileOptions(target=other))


@pytest.mark.large
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_loses_nothing(
    number: signal.Signals,
    text_input: TuningInput,
    run: Callable[..., Tuned],
    text_checkpoint: Path,
    tmp_path: Path,
) -> None:
    tasks = extract_tasks(text_input.mod, text_input.target, text_input.parts)
    matmuls = [task for task in tasks if task.rule.name == "cpu-dot"]
    largest = sorted(matmuls, key=lambda task: -task.size)[:2]
    command = [sys.executable, "-m", "handglass.cli.main", "tune", "-m", str(text_checkpoint)]
    command += ["-c", "128", "--threads", "1", "--work-dir", str(tmp_path), "--tasks", "2"]
    command += [word for task in largest for word in ("--kernel", task.name)]
    command += ["--records", str(tmp_path / "records.jsonl"), "--trials", "99"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 200
        while not any(tmp_path.glob("trials-*")) or len(lines(tmp_path)) < 2:
            assert child.poll() is None and time.monotonic() < deadline, "no trial was written"
            time.sleep(0.1)
    finally:
        os.kill(child.pid, number)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in errors
    before = lines(tmp_path)
    again = run(4, kernels=[task.name for task in largest])
    assert all(UNSTEADY in failure for failure in again.failed), again.failed
    assert lines(tmp_path)[: len(before) - 1] == before[:-1]  # the last may be truncated


def test_an_answer_is_of_the_pictures_that_the_model_is_shown(tuning_input: TuningInput) -> None:
    """SigLIP's table has more positions than an image has patches."""
    (encode,) = [part for part in tuning_input.parts if part.function == "encode_image"]
    assert encode.lengths == {"n": 4 * 4, "strip": 4 * 4 * 14}  # 56 pixels; the table has 980


def test_a_device_short_of_memory_is_given_fewer_copies() -> None:
    tried: list[int] = []

    class Small:
        def arguments(self, id: str, items: Any, copies: int, **_: Any) -> None:
            tried.append(copies)
            if copies > 3:
                raise DeviceError("the arguments need more bytes than there are")

    _hold(Small(), Arguments([], 20, (), ()))  # type: ignore[arg-type]
    assert tried == [20, 10, 5, 3]
    with pytest.raises(DeviceError, match="more bytes"):
        _hold(Full(), Arguments([], 2, (), ()))  # type: ignore[arg-type]


class Full:
    def arguments(self, *_: Any, **__: Any) -> None:
        raise DeviceError("the arguments need more bytes than there are")
