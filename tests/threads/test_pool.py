"""The thread pool of compiled code (runtime/threads/pool.c), by a C program, with sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from thinned import thinned

import handglass
from handglass.targets.linking.linker import find_linker
from handglass.targets.table import find_target

pytestmark = pytest.mark.slow

pytest.importorskip("tvm", reason="the compiler's linker builds the program")
POOL = Path(handglass.__file__).parents[1] / "runtime" / "threads"
BUILDS = {"plain": "-O2", "thread": "-fsanitize=thread", "address": "-fsanitize=address,undefined"}
LOOPS = {
    "many": 4000,
    "concurrent": 1500,
    "errors": 400,
    "forks": 20,
    "resized": 1000,
    "nested": 60,
    "signals": 500,
}


@pytest.fixture(scope="module", params=BUILDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "driver"
    compiler = find_linker(find_target("host")).command
    sources = [str(Path(__file__).with_name("pool_driver.c")), str(POOL / "pool.c")]
    command = [*compiler, "-g", BUILDS[request.param], f"-I{POOL}", *sources, "-pthread"]
    done = subprocess.run([*command, "-o", str(path)], capture_output=True, text=True)
    if done.returncode and request.param != "plain":
        pytest.skip(f"the compiler has no sanitizer: {request.param}")
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize(("case", "threads"), thinned(7, LOOPS, [3, 1, 2, 16]))
def test_each_piece_runs_once(program: Path, case: str, threads: int) -> None:
    command = [str(program), case, str(threads), str(LOOPS[case])]
    environment = {**os.environ, "TSAN_OPTIONS": "die_after_fork=0"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr
