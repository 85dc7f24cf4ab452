"""Settings required before TVM or numpy start their thread pools, and shared fixtures."""

import gc
import inspect
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cuda_fixtures import any_nvrtc, emulated, nvrtc  # noqa: F401 - fixtures
from evidence_fixture import (  # noqa: F401 - a fixture and two hooks
    evidence,
    pytest_addoption,
    pytest_runtest_makereport,
)
from native_program import MACHINES, NativeProgram, find_program
from page_browser import chromium, fake_server, open_page  # noqa: F401 - fixtures
from shared import made_once
from short_stack import short_stack

from handglass.runtime.devices.kinds import plugin_kinds
from handglass.runtime.remote.local import Endpoint, local_device

inspect.stack = short_stack  # for TVM's decorators
gc.disable()  # what is imported and collected stays: it is frozen, unseen, when all is there

# Workers share small machines: two threads each, without spinning and without core affinity.
os.environ.setdefault("TVM_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
os.environ.setdefault("TVM_BIND_THREADS", "0")
os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "0")

# The cache of verified bundles must not outlive the tests, and the user's tuning records must not
# affect them.
_FOLDER = TemporaryDirectory(prefix="handglass-tests-")


def share_builds() -> None:
    """Reuse built libraries from the user's cache: plug-ins, which take a minute, and kernels that
    the CUDA emulator translated."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = (base if base.is_absolute() else Path("~/.cache").expanduser()) / "handglass"
    os.environ.setdefault("HANDGLASS_CUDA_EMULATOR_CACHE", str(base / "cuda-emulator"))
    for kind in plugin_kinds():
        ours = Path(_FOLDER.name, "handglass", kind.name)
        ours.mkdir(parents=True)
        for record in (base / kind.name).glob("*/built.json"):
            (ours / record.parent.name).symlink_to(record.parent)


share_builds()
os.environ["XDG_CACHE_HOME"] = _FOLDER.name
os.environ["XDG_DATA_HOME"] = f"{_FOLDER.name}/data"


ELSEWHERE = {
    "large": ("HANDGLASS_TEST_LARGE", "more of the same, which takes minutes: make test-large"),
    "arm": ("HANDGLASS_TEST_ARM", "an emulated ARM board: make test-arm"),
    "wheel": ("HANDGLASS_TEST_WHEEL", "an arm64 system under emulation: make test-wheel-arm"),
    "cuda": ("HANDGLASS_TEST_CUDA", "more of CUDA, which takes minutes: make test-cuda"),
    "vulkan": ("HANDGLASS_TEST_VULKAN", "a Vulkan device: make test-vulkan"),
    "serve": ("HANDGLASS_TEST_SERVE", "Chromium: make test-serve"),
}
"""Markers of tests with special requirements: the variable that enables them, and the reason."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for mark, (variable, reason) in ELSEWHERE.items():
        if os.environ.get(variable, "") in ("", "0"):
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=reason))
    put_slow_files_first(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Also in the process that only distributes the tests, and collects none."""
    gc.freeze()
    gc.enable()


def put_slow_files_first(items: list[pytest.Item]) -> None:
    """Workers take whole files in this order: the last ones are short, so all end together."""
    slow = {
        item.path
        for item in items
        if item.get_closest_marker("slow") and not item.get_closest_marker("skip")
    }
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the number of skipped tests by reason, instead of a thousand lines."""
    reasons = Counter(map(reason_of, terminalreporter.stats.get("skipped", [])))
    if reasons:
        terminalreporter.section("skipped, by reason")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count:6}  {reason}")


def reason_of(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@dataclass(frozen=True)
class Result:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be exactly one JSON value."""
        return json.loads(self.out)


@pytest.fixture
def handglass(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs the command line in this process: `handglass("run", "-m", bundle)`."""
    from handglass.cli.main import execute

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def device() -> Iterator[Endpoint]:
    """A device server on this machine; it serves one client at a time."""
    with local_device(threads=1) as endpoint:
        yield endpoint


@pytest.fixture(scope="module", autouse=True)
def unchecked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kernels are compiled as in a bundle: without checks of their arguments."""
    if request.path.parent.name != "kernels":
        yield
        return
    from handglass.targets import find_target
    from handglass.targets.codegen.build import without_checks

    with without_checks(find_target("x86-64-v3")):
        yield


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights, whose sizes are not multiples of any tile."""
    from odd_models import UNTIED, write_checkpoint

    def make(folder: Path) -> None:
        write_checkpoint(folder / "checkpoint", UNTIED, "float16")

    return made_once(tmp_path_factory, "small", make) / "checkpoint"


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model without vision, which compiles in half the time."""
    from test_text_only import write_minicpm

    def make(folder: Path) -> None:
        write_minicpm(folder / "checkpoint")

    return made_once(tmp_path_factory, "text", make) / "checkpoint"


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as `make demo` compiles it."""
    from handglass.compiler.build import compile_model

    demo = Path(__file__).parents[1] / "examples" / "demo-checkpoint"
    make = lambda folder: compile_model(demo, folder / "bundle")  # noqa: E731
    return made_once(tmp_path_factory, "demo", make) / "bundle"


@pytest.fixture(scope="session")
def search_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo dual encoder as `make demo-search` compiles it."""
    from handglass.compiler.build import compile_model

    path = Path(__file__).parents[1] / "examples" / "search-checkpoint"
    make = lambda folder: compile_model(path, folder / "search", quantization="w8a8")  # noqa: E731
    return made_once(tmp_path_factory, "demo-search", make) / "search"


@pytest.fixture(scope="session")
def small_bundle(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle compiled by the command line, including the runtime library; `ir` is next to it."""
    from handglass.cli.main import execute

    def make(folder: Path) -> None:
        flags = ["--quantization", "f32", "-c", "128", "--dump-ir", str(folder / "ir")]
        output = str(folder / "bundle")
        assert execute(["compile", "-m", str(small_checkpoint), "-o", output, *flags]) == 0

    return made_once(tmp_path_factory, "compiled", make) / "bundle"


@pytest.fixture(scope="session")
def arm_tree() -> Any:
    """The arm64 tree. Without it, tests fail instead of being skipped: they were requested."""
    from arm_tree import arm_tree as make

    return make()


@pytest.fixture(scope="module", params=MACHINES)
def program(request: pytest.FixtureRequest) -> NativeProgram:
    """The program built by `make native`, once per architecture."""
    return find_program(request.param)
