"""The demo model on an emulated ARM board: deployment, answers, and doctor.

Part of `make test-arm`; elsewhere skipped, since it needs qemu, a cross linker and the network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from arm_device import CHECKPOINT, PICTURES, Board, bring
from arm_tree import Tree

from handglass.compiler.build import compile_model
from handglass.targets import known_targets
from handglass.targets.abilities import find_emulator
from handglass.targets.presets.aarch64 import BOARDS

pytestmark = [pytest.mark.arm, pytest.mark.compiler, pytest.mark.slow]

QUESTIONS = (("What is this picture?", PICTURES[:1]), ("How many shapes are there?", PICTURES[1:2]))


def compiled(folder: Path, target: str, **options: Any) -> Path:
    bundle = folder / "-".join([target, *map(str, options.values())])
    runtime = target == "host"
    compile_model(CHECKPOINT, bundle, target=target, bundle_runtime=runtime, **options)
    return bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def host_answers(bundles: Path) -> list[dict[str, Any]]:
    """The answer of the float32 model on this machine."""
    bundle = compiled(bundles, "host", quantization="f32")
    command = [sys.executable, "-m", "handglass.cli.main", "run", "-m", str(bundle), "--json"]
    answers = []
    for question, images in QUESTIONS:
        flags = [word for image in images for word in ("--image", str(image))]
        asked = subprocess.run(
            [*command, "-p", question, *flags], stdout=subprocess.PIPE, check=True
        )
        answers.append(json.loads(asked.stdout))
    return answers


@pytest.fixture(scope="module")
def boards(bundles: Path, arm_tree: Tree) -> Callable[[str], Board]:
    """A preset's bundle with default options, on the oldest CPU that the preset supports."""

    @cache
    def board(name: str) -> Board:
        cpu = known_targets()[name].emulator_cpu
        assert cpu
        bring(compiled(bundles, name), bundles / f"board-{name}", PICTURES[:2])
        return Board(bundles / f"board-{name}", arm_tree, cpu)

    return board


def ask(board: Board, question: str, images: list[Path]) -> dict[str, Any]:
    flags = [word for image in images for word in ("--image", image)]
    ran = board.run("ask", "-p", question, *flags, "--json")
    assert ran.code == 0, ran.out + ran.err
    answer: dict[str, Any] = json.loads(ran.out)
    return answer


def test_float32_gives_the_same_tokens(
    bundles: Path, arm_tree: Tree, host_answers: list[dict[str, Any]]
) -> None:
    """With numpy, tvm_ffi and TVM's runtime library, without the tvm package."""
    folder = bundles / "board-f32"
    bring(compiled(bundles, "arm64", quantization="f32"), folder, PICTURES[:2])
    board = Board(folder, arm_tree, "cortex-a76")
    for (question, images), host in zip(QUESTIONS, host_answers, strict=True):
        assert ask(board, question, images)["tokens"] == host["tokens"], question
    packages = {path.name.split("-0")[0] for path in (folder / "packages").iterdir()}
    assert not list(folder.rglob("libtvm_compiler.so")) and "apache-tvm" in packages


@pytest.mark.parametrize("name", [target.name for target in BOARDS])
def test_each_preset_answers_on_the_oldest_cpu_of_its_floor(
    name: str,
    boards: Callable[[str], Board],
    host_answers: list[dict[str, Any]],
    evidence: Callable[..., None],
) -> None:
    """In w4a8, sums differ between instruction sets in the last bits; the answers must agree."""
    question, images = QUESTIONS[0]
    assert ask(boards(name), question, images)["text"] == host_answers[0]["text"]
    evidence(
        name, "answers of the demo model in w4a8", emulator=find_emulator(known_targets()[name])
    )


# A preset of each level, and the newest CPU that lacks one of its features.
BELOW = {"arm64": "cortex-a72", "jetson-thor-cpu": "cortex-a76"}


@pytest.mark.parametrize("name", ["raspberry-pi-4", *BELOW])
def test_doctor_is_content_on_the_floor(name: str, boards: Callable[[str], Board]) -> None:
    board = boards(name)
    ran = board.run("handglass", "doctor", board.folder / "bundle", "--json")
    checks = {check["name"]: check for check in json.loads(ran.out)["checks"]}
    wrong = [check for check in checks.values() if check["ok"] is False]
    assert ran.code == 0 and not wrong, wrong
    assert checks["a question"]["value"] == "answered"
    assert checks["apache-tvm"]["value"].startswith("not installed")


@pytest.mark.parametrize(("name", "cpu"), BELOW.items())
def test_below_the_floor_it_is_told_what_is_missing(
    name: str, cpu: str, boards: Callable[[str], Board]
) -> None:
    weak = replace(boards(name), cpu=cpu)
    ran = weak.run("handglass", "doctor", weak.folder / "bundle")
    assert ran.code == 4
    assert "required instructions" in ran.out and "this CPU lacks" in ran.out
    asked = weak.run("ask", "-p", "Hello")
    assert asked.code == 4 and "this CPU lacks" in asked.err


@pytest.mark.parametrize(("name", "cpu"), BELOW.items())
def test_sigill_is_a_clear_error(name: str, cpu: str, boards: Callable[[str], Board]) -> None:
    """A bundle whose manifest lists fewer features than its code uses."""
    weak = replace(boards(name), cpu=cpu)
    manifest = weak.folder / "bundle" / "manifest.json"
    honest = manifest.read_text("utf-8")
    entries = json.loads(honest)
    entries["target"]["features"] = ["fp", "asimd"]
    manifest.write_text(json.dumps(entries), "utf-8")
    ran = weak.run("handglass", "doctor", weak.folder / "bundle")
    manifest.write_text(honest, "utf-8")
    assert ran.code == 4
    assert "the process ended with SIGILL" in ran.out
    assert "an instruction that this CPU lacks" in ran.out
    assert "Traceback" not in ran.out + ran.err


def test_the_tree_is_no_x86(arm_tree: Tree) -> None:
    command = [*arm_tree.python("max"), "-c", "import os; print(os.uname().machine)"]
    assert subprocess.check_output(command, text=True, env={**os.environ}) == "aarch64\n"
