"""GPU kernels on vulkan:0: through the device protocol, the runner and the whole tuner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")
import tvm
from device_library import library, tensor
from tvm import te, tirx
from tvm.s_tir import Schedule

from handglass.compiler.build import load_tuning_records
from handglass.compiler.lowering import gpu_probes
from handglass.compiler.lowering.kernel_code import library_of
from handglass.compiler.lowering.task_arguments import Arguments, arguments_of
from handglass.compiler.lowering.tasks import Task, extract_tasks
from handglass.compiler.records.journal import append
from handglass.compiler.records.record import Measured, Times
from handglass.compiler.tune import Row, record_of, tune
from handglass.compiler.tuning import device_runner
from handglass.compiler.tuning.builder import Builder
from handglass.compiler.tuning.device import check_device, device_of
from handglass.compiler.tuning.device_runner import CandidateError, DeviceRunner
from handglass.compiler.tuning.limits import measure_limits
from handglass.compiler.tuning.task_tuner import Outcome, verify_results, worst_of
from handglass.compiler.tuning.tuning_input import CompileOptions, TuningInput, read_tuning_input
from handglass.errors import DeviceError, InputError, MismatchError
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.local import Endpoint
from handglass.targets import find_target
from handglass.targets.target import Target

pytestmark = [pytest.mark.compiler, pytest.mark.slow, pytest.mark.vulkan]

VULKAN = find_target("vulkan")
N, THREADS = 1037, 64
TIMES = Times(1e-5, 1e-5, 1e-5, 3)


@pytest.fixture
def runner(device: Endpoint) -> Iterator[DeviceRunner]:
    runner = DeviceRunner(lambda: DeviceClient(*device), "vulkan:0")
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def tuning_input(small_checkpoint: Path) -> TuningInput:
    return read_tuning_input(small_checkpoint, CompileOptions("vulkan", "w4a8", context=128))


@pytest.fixture(scope="module")
def task(tuning_input: TuningInput) -> Task:
    """A small task that has a choice."""
    tasks = extract_tasks(tuning_input.mod, tuning_input.target, tuning_input.parts)
    return next(t for t in tasks if t.rule.name == "vulkan-rows")


def scaled(variant: str = "right", threads: int = THREADS, target: Target = VULKAN) -> bytes:
    """y = 3 x, or a wrong variant of it."""
    x = te.placeholder((N,), name="x")
    value = {
        "right": lambda x: x * 3.0,
        "wrong": lambda x: x * 2.0,
        "not-a-number": lambda x: te.sqrt(-1.0 - x * x),
    }[variant]
    y = te.compute((N,), lambda i: value(x[i]), name="y")
    sch = Schedule(te.create_prim_func([x, y]))
    block, lane = sch.split(sch.get_loops(sch.get_sblock("y"))[0], [None, threads])
    sch.bind(block, "blockIdx.x")
    sch.bind(lane, "threadIdx.x")
    return library_of(sch.mod["main"], target)


def pair() -> Arguments:
    return Arguments([tensor(N, kind="normal", scale=1.0) for _ in range(2)], 3, (), ())


def test_what_there_is_is_told_where_it_is_asked_for(device: Endpoint) -> None:
    with DeviceClient(*device) as client:
        assert client.describe().devices == ()
        gpu = client.describe("vulkan").devices[0]
    assert gpu.index == 0 and gpu.name and gpu.driver
    assert gpu.abilities["max_threads_per_block"] >= 64
    description = replace(client_description(device), devices=(gpu,))
    check_device(description, VULKAN)
    poor = replace(gpu, abilities={**gpu.abilities, "supports_float16": 0})
    with pytest.raises(MismatchError, match="'vulkan'.*supports_float16"):
        check_device(replace(description, devices=(poor,)), VULKAN)


def client_description(device: Endpoint) -> Any:
    with DeviceClient(*device) as client:
        return client.describe()


def test_arguments_are_where_they_are_asked_for(device: Endpoint) -> None:
    with DeviceClient(*device) as client:
        items = [tensor(3, kind="constant", value=1.0)]
        with pytest.raises(InputError, match="'vulkan'"):
            client.arguments("x", items, device="vulkan")
        with pytest.raises(DeviceError, match=r"vulkan:99.*vulkan:0 \("):
            client.arguments("x", items, device="vulkan:99")
        assert client.arguments("x", items, 2, device="vulkan:0") == 24


def test_candidates_are_timed_and_compared(runner: DeviceRunner) -> None:
    runner.prepare(pair())
    right, wrong, broken = (scaled(v) for v in ("right", "wrong", "not-a-number"))
    assert all(0 < s < 1 for s in runner.seconds(right, 4, 3))
    x, y = runner.compare(right, right, 1)
    assert (x.snr_db, y.snr_db, y.finite) == (None, None, True) and y.largest > 6
    x, y = runner.compare(right, wrong, 1)
    assert x.snr_db is None and y.snr_db == pytest.approx(20 * np.log10(3), abs=0.01)
    x, y = runner.compare(right, broken, 1)
    assert x.finite and not y.finite


def test_a_sample_ends_when_the_gpu_is_done(runner: DeviceRunner) -> None:
    """The time to start such a kernel does not depend on its rounds."""
    endless = library_of(gpu_probes.fma_kernel(), VULKAN)
    out = tensor(64, gpu_probes.WIDTH, kind="constant", value=0.0)
    seconds = []
    for rounds in (64, 1 << 16):
        runner.prepare(Arguments([{"int": rounds}, out], 1, (), ()))
        seconds.append(min(runner.seconds(endless, 1, 3)))
    assert seconds[1] > 20 * seconds[0]


def test_the_gpu_outlives_what_a_candidate_does(
    runner: DeviceRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_runner, "DEADLINE", 10.0)
    right = scaled()
    endless = library_of(gpu_probes.fma_kernel(), VULKAN)
    # Many workgroups as well: llvmpipe ends every loop after 65,535 rounds.
    out = tensor(1 << 15, gpu_probes.WIDTH, kind="constant", value=0.0)
    runner.prepare(Arguments([{"int": (1 << 31) - 1}, out], 1, (), ()))
    with pytest.raises(CandidateError, match="runner: (time limit|.*device lost)"):
        runner.seconds(endless, 1, 1)
    runner.prepare(pair())
    assert runner.seconds(right, 1, 1)
    assert VULKAN.gpu is not None
    threads = 1 << 14  # more than any workgroup may have
    boundless = replace(VULKAN, gpu=replace(VULKAN.gpu, max_threads_per_block=threads))
    with pytest.raises(CandidateError, match="runner: .*vulkan: .*(threads|workgroup)"):
        runner.seconds(scaled(threads=threads, target=boundless), 1, 1)
    assert runner.seconds(right, 1, 1)
    with pytest.raises(CandidateError, match="runner: .*'kernel'"):
        runner.seconds(library(), 1, 1)
    assert runner.compare(right, right, 2)[1].snr_db is None


def test_a_gpu_has_limits(runner: DeviceRunner) -> None:
    rates = measure_limits(runner, VULKAN, 1).rates
    assert set(rates) == {"read", "fma", "dot4", "dot8"} and min(rates.values()) > 0


def test_every_kernel_is_given_arguments_and_builds(tuning_input: TuningInput) -> None:
    tasks = extract_tasks(tuning_input.mod, tuning_input.target, tuning_input.parts)
    rules = {task.rule.name: task for task in tasks}
    assert {"vulkan-attention", "vulkan-dot", "vulkan-elementwise", "vulkan-rows"} <= set(rules)
    with Builder(list(rules.values()), VULKAN) as builder:
        for one in rules.values():
            assert all(arguments_of(one, use.lengths).items for use in one.uses)
            built = builder.build(one, one.defaults)
            assert built.library is not None, built.reason


def test_kernels_are_tuned(
    tuning_input: TuningInput,
    task: Task,
    device: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All candidates of a task, one of which cannot be loaded."""
    bad = next(v for v in task.options["threads"] if v != task.defaults["threads"])
    honest = Builder.build

    def build(self: Builder, task: Task, choices: Any) -> Any:
        built = honest(self, task, choices)
        return replace(built, library=b"no library") if choices["threads"] == bad else built

    monkeypatch.setattr(Builder, "build", build)
    found = tune(
        tuning_input,
        lambda: DeviceClient(*device),
        trials=task.size - 1,
        work_dir=tmp_path,
        journal=tmp_path / "records.jsonl",
        tasks=1,
        kernels=[task.name],
    )
    assert [row.task.name for row in found.rows] == [task.name]
    assert found.device.architecture == "vulkan" and found.target == "vulkan"
    (file,) = tmp_path.glob("trials-vulkan.jsonl")
    trials = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(trials) == task.size - 1
    failures = {t["choices"]["threads"]: t["failure"] for t in trials}
    assert "cannot be loaded" in failures[bad]
    assert not found.failed or "unsteady" in found.failed[0]


def test_a_record_is_what_compile_applies(
    task: Task, runner: DeviceRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    default = task.defaults["threads"]
    choices = {**task.defaults, "threads": next(v for v in task.options["threads"] if v != default)}
    with Builder([task], VULKAN) as builder:
        first, second = (builder.build(task, c).library for c in (task.defaults, choices))
    assert first and second
    runner.prepare(arguments_of(task, task.main.lengths))
    verified = worst_of([verify_results(runner, task, first, second)])
    lengths = (Measured(task.main.lengths, TIMES, TIMES),)
    outcome = Outcome(task, 1, choices, lengths, verified, 1e-5)
    record = record_of(outcome, Row(task, 1e-5, 0.5), VULKAN, device_of(runner.description))
    append(tmp_path / "records.jsonl", record)
    named = [tmp_path / "records.jsonl"]
    found = load_tuning_records(VULKAN, named, False)(task.func, task.rule)
    assert found is not None and (found.source, found.choices) == (record.id, choices)
    for other in ("host", "vulkan-nvidia"):  # neither a CPU nor another kind of GPU
        assert not list(load_tuning_records(find_target(other), named, False).store)


def test_the_command_by_a_server(small_checkpoint: Path, device: Endpoint, tmp_path: Path) -> None:
    flags = ["-m", small_checkpoint, "--target", "vulkan", "-c", "128", "--trials", "1"]
    flags += ["--work-dir", tmp_path, "--records", tmp_path / "records.jsonl"]
    names = [t.name for t in tasks_of(small_checkpoint) if t.rule.name == "vulkan-rows"]
    flags += ["--tasks", "1", "--kernel", names[0], "--rpc", f"{device.host}:{device.port}"]
    done = command(flags, HANDGLASS_DEVICE_KEY=device.key)
    assert done.returncode in (0, 4), done.stderr  # 4: no stable measurement on a busy machine
    assert "Traceback" not in done.stderr and list(tmp_path.glob("trials-vulkan.jsonl"))


def tasks_of(checkpoint: Path) -> list[Task]:
    tuning_input = read_tuning_input(checkpoint, CompileOptions("vulkan", "w4a8", context=128))
    return extract_tasks(tuning_input.mod, tuning_input.target, tuning_input.parts)


def test_without_a_driver_there_is_one_line(small_checkpoint: Path, tmp_path: Path) -> None:
    nowhere = {"VK_DRIVER_FILES": "/nowhere.json", "VK_ICD_FILENAMES": "/nowhere.json"}
    flags = ["-m", small_checkpoint, "--target", "vulkan", "-c", "128", "--work-dir", tmp_path]
    done = command(flags, **nowhere)
    assert done.returncode == 4
    assert "no Vulkan device was found" in done.stderr and len(done.stderr.splitlines()) == 1


def command(flags: list[Any], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handglass.cli.main", "tune", *map(str, flags)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_what_is_tuned_is_written_for_workgroups(tuning_input: TuningInput) -> None:
    """The model is exported within the target's scope, as in `compile`, and the scope ends."""
    functions = [f for _, f in tuning_input.mod.functions_items() if isinstance(f, tirx.PrimFunc)]
    assert any("threadIdx" in str(f) for f in functions)
    assert tvm.target.Target.current(allow_none=True) is None
