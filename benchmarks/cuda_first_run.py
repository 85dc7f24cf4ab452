"""Everything that only a GPU can tell, in one command: for the first card that is borrowed.

    python benchmarks/cuda_first_run.py [--device cuda:0] [--minutes 8] [--output FILE.json]
    python benchmarks/cuda_first_run.py --emulated      the demo model on the emulated driver

Correctness first: known answers, the demo model against the CPU, operator tests, compute-sanitizer.
While these run, two models of full size are written and compiled. Then their speed: decoding as a
share of the bandwidth measured in the same run, a prefill of 512 tokens, a picture; PyTorch on the
same shape, Vulkan, and tuning. Each step has a time by which it is stopped, so that those after it
have theirs, and says "not measured" and why if there is no figure. Figures are written to FILE
after each step: whatever ends the run, those are kept. Needs the packages of
`handglass[compile,test]` and one of `cuda12`, `cuda13`; PyTorch must be a CUDA build to be
compared. Checkpoints and bundles stay in build/cuda-first-run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

from first_run_budget import Budget, Later, NotMeasuredError, Result
from full_size import folder_of, revision
from release_configs import CONFIGS
from versus_shape import shape_of

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
DEMO = HERE.parent / "examples" / "demo-checkpoint"
PICTURE = HERE.parent / "examples" / "pictures" / "scene-4132-0.png"
FOLDER = Path("build/cuda-first-run")
MODELS = ("seed", "4.6")
OPERATORS = ("one_row", "matmul", "attention", "rows")
MINUTES = 8.0
"""Limits of steps are for this time in all; --minutes scales them."""
BY = {
    "device": 60,
    "doctor": 100,
    "demo model": 180,
    "operator tests": 215,
    "compute-sanitizer": 235,
    "speed of seed": 310,
    "speed of 4.6": 370,
    "PyTorch": 420,
    "Vulkan": 445,
}
"""Seconds from the start at which a step is stopped; tuning has what is left."""
PREPARED = 250
"""Seconds from the start by which checkpoints must be compiled."""
RESERVE = 0.25
"""Minutes at the end for what a step that ran out of time leaves behind."""
TOOLS = ("memcheck", "racecheck")
AIM = 0.75
"""Share of the bandwidth that decoding should reach."""


@dataclass
class Run:
    """The device and its target; `emulated` runs short steps whose times mean nothing."""

    budget: Budget
    device: str
    emulated: bool
    problem: str = "the device was not looked for"
    """Why there is no device; "" if there is one."""
    lock: Lock = field(default_factory=Lock)
    bundles: dict[Path, Later] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return "rtx-30" if self.emulated else "cuda-host"

    @property
    def models(self) -> tuple[str, ...]:
        return ("demo",) if self.emulated else MODELS

    @property
    def quick(self) -> list[str]:
        return ["--quick"] if self.emulated else []

    def need_device(self) -> None:
        if self.problem:
            raise NotMeasuredError(self.problem)

    def figure(self, text: str) -> str:
        return "it ran; emulated, so there is no figure" if self.emulated else text


def find_device(run: Run) -> tuple[str, Any]:
    """The device's name and driver; later steps are skipped without one."""
    code = (
        "import json, tvm; from handglass.runtime.devices.kinds import KINDS;"
        "from handglass.runtime.devices.driver import open_driver;"
        "found, why = open_driver(KINDS['cuda']).find();"
        "print(json.dumps([why, [[d.name, d.driver, d.memory] for d in found]]))"
    )
    try:
        output = run.budget.command([sys.executable, "-c", code], 120)
        why, devices = json.loads(output.splitlines()[-1])
    except (NotMeasuredError, ValueError, IndexError) as error:
        why, devices = str(error), []
    run.problem = "" if devices else f"no CUDA device: {why}"
    run.need_device()
    return "; ".join(f"{name}, {driver}" for name, driver, _ in devices), devices


def doctor(run: Run) -> tuple[str, Any]:
    """Known answers of each kernel family, in a child process."""
    run.need_device()
    found = run.budget.handglass("doctor", "--device", run.device, most=60)
    return f"{len(found['checks'])} checks ok", found


def compiled(run: Run, model: Path, name: str, target: str, most: float) -> Path:
    """The bundle of a checkpoint, compiled once."""
    bundle = FOLDER / f"{name}-{target}"
    flags = ["-m", model, "-o", bundle, "--target", target, "--overwrite"]
    with run.lock:
        if bundle not in run.bundles:
            work = lambda: run.budget.handglass("compile", *flags, most=most)  # noqa: E731
            run.bundles[bundle] = Later(work)
    run.bundles[bundle].wait(run.budget.time_for(most))
    return bundle


def demo(run: Run) -> tuple[str, Any]:
    """The demo model answers as on the CPU."""
    run.need_device()
    bundle = compiled(run, DEMO, "demo", run.target, 90)
    ask = ["--image", PICTURE, "-p", "What is this picture?", "-n", 4 if run.emulated else 32]
    mine = run.budget.handglass("run", "-m", bundle, "--device", run.device, *ask, most=90)
    host = compiled(run, DEMO, "demo", "host", 90)
    theirs = run.budget.handglass("run", "-m", host, *ask, most=60)
    same = mine["tokens"] == theirs["tokens"]
    return f"tokens {'as' if same else 'NOT as'} on the CPU: {mine['text']!r}", [mine, theirs]


def operators(run: Run) -> tuple[str, Any]:
    """The operator tests, on the card."""
    run.need_device()
    files = [f"tests/kernels/test_vulkan_{name}.py" for name in OPERATORS]
    words = [sys.executable, "-m", "pytest", "-q", "-m", "vulkan", "-p", "no:cacheprovider"]
    words += [*files[:1], "-k", "epilogue"] if run.emulated else files
    kind = "cuda" if run.emulated else "cuda-card"
    settings = {"HANDGLASS_TEST_OPERATORS": kind, "HANDGLASS_TEST_VULKAN": "1"}
    output = run.budget.command(words, 100, **settings)
    if " passed" not in (line := output.splitlines()[-1]):
        raise NotMeasuredError(f"no test ran: {line}")
    return line, None


def sanitizer(run: Run) -> tuple[str, Any]:
    """compute-sanitizer over an answer of the demo model, each tensor an allocation of its own."""
    run.need_device()
    if run.emulated:
        raise NotMeasuredError("it needs NVIDIA's driver")
    if (program := shutil.which("compute-sanitizer")) is None:
        raise NotMeasuredError("compute-sanitizer is not installed")
    bundle = FOLDER / f"demo-{run.target}"
    ask = ["run", "-m", str(bundle), "--device", run.device, "-p", "Hello", "-n", "2"]
    for tool in TOOLS:
        words = [program, "--tool", tool, "--error-exitcode", "1", sys.executable, "-m"]
        words += ["handglass.cli.main", *ask]
        run.budget.command(words, 60, HANDGLASS_CUDA_BLOCK_MIB="0", HANDGLASS_CUDA_GRAPHS="0")
    return f"{', '.join(TOOLS)}: no error", None


WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from full_size import checkpoint, folder_of
folder_of(sys.argv[2]).mkdir(parents=True, exist_ok=True)
checkpoint(sys.argv[2], None)
"""


def prepare(run: Run, model: str) -> Path:
    """The bundle of a random model of full size, or of the demo model for an emulated run."""
    run.need_device()
    if model == "demo":
        return compiled(run, DEMO, model, run.target, PREPARED)
    run.budget.command([sys.executable, "-c", WRITE, str(HERE), model], PREPARED)
    return compiled(run, folder_of(model) / "checkpoint", model, run.target, PREPARED)


def speed(run: Run, prepared: Later) -> tuple[str, Any]:
    """Decoding, prefill and picture of one model, with the bandwidth of the same run."""
    run.need_device()
    bundle = prepared.wait(run.budget.time_until(PREPARED))
    found = timed(run, bundle, run.device)
    share, rate = found["decode_share_of_bandwidth"], found["decode_tok_s"]
    text = f"{rate:.1f} tok/s, {share:.0%} of {found['read_gb_s']:.0f} GB/s (aim {AIM:.0%}); "
    spreads = {name: value for name, value in found.items() if "median" in str(value)}
    text += ", ".join(f"{name} {value['median']:.4f}" for name, value in spreads.items())
    counts = ", ".join(f"{n} {name}" for name, n in found["per_token"].items())
    return f"{run.figure(text)}; per token {counts}", found


def timed(run: Run, bundle: Path, device: str) -> Any:
    worker = HERE / "first_run_worker.py"
    return run.budget.python(worker, bundle, "--device", device, *run.quick, most=75)


def torch_peer(run: Run) -> tuple[str, Any]:
    """PyTorch in bfloat16, eager and compiled, on the shape of the seed."""
    if not run.emulated:
        run.need_device()
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "config.json"
    config = (
        json.loads((DEMO / "config.json").read_text("utf-8")) if run.emulated else CONFIGS["seed"]
    )
    path.write_text(json.dumps(shape_of(config)), "utf-8")
    words = [*run.quick, *(["--cpu"] if run.emulated else [])]
    found = run.budget.python(HERE / "first_run_torch.py", path, *words, most=100)
    rows = [
        f"{name} {row} {seconds['median']:.4f}"
        for name in ("eager", "compiled")
        for row, seconds in found[name].items()
    ]
    return run.figure(f"torch {found['version']}: {', '.join(rows)}"), found


def vulkan(run: Run) -> tuple[str, Any]:
    """The same model by Vulkan, on the same card if its driver has it."""
    if run.emulated:
        raise NotMeasuredError("the emulated card has no Vulkan")
    run.need_device()
    bundle = compiled(run, folder_of("seed") / "checkpoint", "seed", "vulkan", 60)
    found = timed(run, bundle, "vulkan:0")
    return f"{found['decode_tok_s']:.1f} tok/s", found


def tuning(run: Run) -> tuple[str, Any]:
    """Candidates of the costliest kernels, and the records that they give."""
    run.need_device()
    model = DEMO if run.emulated else folder_of("seed") / "checkpoint"
    tasks, trials = (1, 2) if run.emulated else (4, 64)
    sizes = ["--tasks", tasks, "--trials", trials]
    places = ["--work-dir", FOLDER / "tune", "--records", FOLDER / "records.jsonl"]
    found = run.budget.handglass(
        *("tune", "-m", model, "--target", run.target, *sizes, *places),
        most=run.budget.left / run.budget.scale,
    )
    return run.figure(json.dumps(found)[:400]), found


def run_all(run: Run) -> None:
    def step(name: str, work: Any) -> None:
        run.budget.step(name, work, BY.get(name, MINUTES * 60))

    step("device", partial(find_device, run))
    later = {model: Later(partial(prepare, run, model)) for model in run.models}
    step("doctor", partial(doctor, run))
    step("demo model", partial(demo, run))
    step("operator tests", partial(operators, run))
    step("compute-sanitizer", partial(sanitizer, run))
    for model in run.models:
        step(f"speed of {model}", partial(speed, run, later[model]))
    step("PyTorch", partial(torch_peer, run))
    step("Vulkan", partial(vulkan, run))
    step("tuning", partial(tuning, run))


def emulated_settings() -> dict[str, str]:
    """The environment that selects the emulated driver of the tests."""
    sys.path.insert(0, str(TESTS / "cuda"))
    from emulated_driver import driver_environment

    return driver_environment(chips="87", memory=1 << 30)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure everything on a GPU, in minutes.")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--emulated", action="store_true", help="run on the emulated driver")
    parser.add_argument("--output", type=Path, default=FOLDER / "figures.json")
    given = parser.parse_args()
    output = given.output.absolute()
    os.chdir(HERE.parent)
    settings = emulated_settings() if given.emulated else {}
    budget = Budget.of(given.minutes - RESERVE, given.minutes / MINUTES, settings)
    budget.keep = partial(keep, output, given.emulated)
    run = Run(budget, given.device, given.emulated)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        run_all(run)
    finally:
        budget.stop()
    print(f"\n{datetime.date.today().isoformat()}, {tree()}; {output}")
    print("\n".join(each.line for each in budget.results))


def keep(output: Path, emulated: bool, results: list[Result]) -> None:
    """Write the figures so far, in place of the last ones."""
    found = {
        "date": datetime.date.today().isoformat(),
        "revision": tree(),
        "emulated": emulated,
        "steps": [vars(each) for each in results],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".part")
    unfinished.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    unfinished.rename(output)


@cache
def tree() -> str:
    """The revision, also on a machine without git."""
    try:
        return revision()
    except OSError:
        return "not known"


if __name__ == "__main__":
    main()
