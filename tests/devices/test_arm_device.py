"""Measuring and tuning on an emulated ARM board, over the device protocol.

Part of `make test-arm`. The server runs under qemu with what `handglass deploy` brings to a board,
and as a person starts it there; kernels are compiled and linked here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from arm_device import CHECKPOINT, Board, bring
from arm_emulator import build_plugin
from arm_kernels import Kernel, build, height, integer, placeholder, row_norm
from arm_tree import Tree
from tvm import te, tirx

from handglass.compiler.build import compile_model
from handglass.compiler.ops import norm as norms
from handglass.compiler.records.record import INSTRUCTIONS
from handglass.compiler.tune import Tuned, tune
from handglass.compiler.tuning.trials import Trial, TrialLog
from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
from handglass.errors import DeviceError
from handglass.runtime.remote.client import DeviceClient, SessionDied
from handglass.targets import known_targets
from handglass.targets.linking.linker import find_linker

pytestmark = [pytest.mark.arm, pytest.mark.compiler, pytest.mark.slow]

KEY = "a key of the tests"
PI = known_targets()["raspberry-pi-5"]


@dataclass
class Server:
    """`handglass device serve` on the board; tests may kill and restart its `process`."""

    board: Board
    process: subprocess.Popen[str] | None = None
    port: int = 0
    flags: tuple[str, ...] = ()

    def start(self) -> None:
        command = [str(self.board.folder / "handglass"), "device", "serve", "--json"]
        command += ["--until-eof", "--port", str(self.port), *self.flags]
        self.process = subprocess.Popen(
            command,
            env=self.board.environment() | {"HANDGLASS_DEVICE_KEY": KEY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = json.loads(self.process.stdout.readline())["port"]

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None

    def connect(self) -> DeviceClient:
        return DeviceClient("127.0.0.1", self.port, KEY)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, arm_tree: Tree) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("board")
    compile_model(CHECKPOINT, folder / "bundle", target=PI.name, bundle_runtime=False)
    bring(folder / "bundle", folder / "there", [])
    assert PI.emulator_cpu
    running = Server(Board(folder / "there", arm_tree, PI.emulator_cpu))
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def counting(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same board, whose emulator counts instructions."""
    folder = tmp_path_factory.mktemp("counter")
    counter, plugin = folder / "count", build_plugin(folder)
    board = replace(server.board, options=("-plugin", f"{plugin},counter={counter}"))
    running = Server(board, flags=("--counter", str(counter)))
    running.start()
    yield running
    running.kill()


def library(folder: Path, kernels: dict[str, Kernel], target: str = PI.name) -> bytes:
    """Cross-compiled and linked here: the device needs no compiler."""
    made, file = build(kernels, known_targets()[target]), folder / "kernels.so"
    made.export_library(str(file), fcompile=find_linker(known_targets()[target]))
    return file.read_bytes()


def items(kernel: Kernel) -> list[dict[str, Any]]:
    """Descriptions of arguments; their values do not matter."""
    return [item(array) for array in (*kernel.inputs, *kernel.outputs)]


def item(array: Any) -> dict[str, Any]:
    if isinstance(array, int):
        return {"int": array}
    fill: dict[str, Any] = {"kind": "uniform", "low": 0, "high": 7}
    if array.dtype.kind == "f":
        fill = {"kind": "normal", "scale": 1.0}
    return {"shape": list(array.shape), "dtype": array.dtype.name, "fill": fill}


def test_the_board_tells_what_it_is(server: Server) -> None:
    with server.connect() as device:
        description = device.describe()
    assert (description.machine.architecture, description.runtime) == ("aarch64", "python")
    assert not PI.missing_on(description.machine.flags)
    assert "i8mm" not in description.machine.flags, "the flags are those of the machine below"


def test_a_kernel_is_measured_and_compared(server: Server, tmp_path: Path) -> None:
    kernel = integer("w4a8", PI, 13)
    code = library(tmp_path, {"kernel": kernel})
    with server.connect() as device:
        for name in ("default", "candidate"):
            device.put(name, code)
            device.load(name)
        assert device.arguments("a", items(kernel), copies=2) > 0
        seconds = device.measure("candidate", "kernel", "a", number=3, samples=4)
        assert len(seconds) == 4 and min(seconds) > 0
        found = device.compare("default", "candidate", "kernel", "a")
    assert len(found) == len(kernel.inputs) + 1
    assert all(difference.finite and difference.snr_db is None for difference in found)


def other_norm(m: int, d: int) -> tirx.PrimFunc:
    """`row_norm` with an epsilon so large that every result differs."""
    x, w = placeholder((height(m), d), "float32"), placeholder((d,), "float32", "w")
    return te.create_prim_func([x, w, norms.rms_norm(x, w, 3.0)])


def test_a_wrong_candidate_is_seen(server: Server, tmp_path: Path) -> None:
    norm = row_norm(13, 96)
    right = library(tmp_path, {"kernel": norm})
    wrong = library(tmp_path, {"kernel": replace(norm, func=other_norm(13, 96))})
    with server.connect() as device:
        for name, code in (("right", right), ("wrong", wrong)):
            device.put(name, code)
            device.load(name)
        device.arguments("a", items(norm))
        found = device.compare("right", "wrong", "kernel", "a")
    assert [difference.snr_db is None for difference in found] == [True, True, False]
    assert (found[-1].snr_db or 0) < 20


def test_code_for_a_newer_core_ends_the_session_and_not_the_server(
    server: Server, tmp_path: Path
) -> None:
    newer = known_targets()["jetson-thor-cpu"]
    kernel = integer("w4a8", newer, 13)
    code = library(tmp_path, {"kernel": kernel}, newer.name)
    device = server.connect()
    device.put("newer", code)
    device.load("newer")
    device.arguments("a", items(kernel))
    with pytest.raises(SessionDied, match="SIGILL"):
        device.measure("newer", "kernel", "a", number=1, samples=1)
    device.close()
    with server.connect() as again:
        assert again.describe().machine.architecture == "aarch64"


def test_tuning_goes_on_after_the_board_was_gone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tunes one kernel of the demo model; the server is killed after one measured candidate."""
    subject, add = read_tuning_input(CHECKPOINT, CompileOptions(target=PI.name)), TrialLog.add

    def run() -> Tuned:
        return tune(
            subject,
            server.connect,
            trials=3,
            kernels=["fused_matmul13_multiply_add"],
            work_dir=tmp_path,
            journal=tmp_path / "records.jsonl",
        )

    def killing(log: TrialLog, task: str, trial: Trial) -> None:
        add(log, task, trial)
        server.kill()

    monkeypatch.setattr(TrialLog, "add", killing)
    with pytest.raises(DeviceError, match=r"127\.0\.0\.1"):
        run()
    monkeypatch.undo()
    (journal,) = tmp_path.glob("trials-*.jsonl")
    (measured,) = journal.read_text().splitlines()
    server.start()
    tuned = run()
    lines = journal.read_text().splitlines()
    assert lines[0] == measured and len(lines) >= 3
    assert tuned.device.architecture == "aarch64"
    assert [row.task.name for row in tuned.rows] == ["fused_matmul13_multiply_add"]
    timed = [trial for trial in map(json.loads, lines) if trial["ratio"]]
    assert timed or tuned.failed, "nothing was measured, and nothing said so"


KERNEL = "fused_matmul13_multiply_add"


def by_instructions(server: Server, folder: Path) -> Tuned:
    given = read_tuning_input(CHECKPOINT, CompileOptions(target=PI.name))
    return tune(
        given,
        server.connect,
        trials=9,
        kernels=[KERNEL],
        measure=INSTRUCTIONS,
        work_dir=folder,
        journal=folder / "records.jsonl",
    )


def counted(folder: Path) -> dict[str, float]:
    """Ratio to the default by choices."""
    (journal,) = folder.glob("trials-*.jsonl")
    trials = map(json.loads, journal.read_text().splitlines())
    return {json.dumps(trial["choices"]): trial["ratio"] for trial in trials}


def test_the_record_with_the_fewest_instructions_is_what_compile_applies(
    counting: Server, tmp_path: Path
) -> None:
    first, second = (by_instructions(counting, tmp_path / name) for name in "ab")
    ratios = counted(tmp_path / "a")
    assert len(ratios) > 2 and ratios == counted(tmp_path / "b"), "counts differ between runs"
    (record,), (again,) = first.records, second.records
    assert (record.measure, record.device.threads) == (INSTRUCTIONS, 1)
    assert record.lengths == again.lengths
    assert ratios[json.dumps(dict(record.choices))] == min(ratios.values()) < 0.98
    report = compile_model(
        CHECKPOINT,
        tmp_path / "bundle",
        target=PI.name,
        records=[tmp_path / "a" / "records.jsonl"],
        use_records=False,
        bundle_runtime=False,
    )
    (row,) = [row for row in report.records["kernels"] if row["record"]]
    assert (row["function"], row["record"], row["choices"]) == (KERNEL, record.id, record.choices)
    assert "1 judged by counted instructions" in report.records["line"]
