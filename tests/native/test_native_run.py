"""handglass-native run, bench and describe: the answers of the Python runtime, clear refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from native_program import NativeProgram

import handglass
from handglass.runtime.answer.native_request import RequestWriter, Written
from handglass.runtime.bundle.tensor_writer import TensorWriter

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = sorted((EXAMPLES / "pictures").glob("*.png"))
TARGETS = {"x86_64": "x86-64-v3", "aarch64": "android-arm64"}
QUESTIONS = {
    "text": ("How are you?", []),
    "picture": ("How many shapes are there?", [PICTURES[1]]),
    "two pictures": ("Which picture has more shapes?", PICTURES[1:3]),
    "the same twice": ("(<image>./</image>)(<image>./</image>)这张图里有什么？", [PICTURES[0]] * 2),
}


@cache
def compiled(target: str, folder: Path) -> Path:
    from handglass.compiler.build import compile_model

    bundle = folder / target
    checkpoint = EXAMPLES / "demo-checkpoint"
    compile_model(checkpoint, bundle, target=target, quantization="f32", bundle_runtime=False)
    return bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return lambda target: compiled(target, folder)


@pytest.fixture(scope="module")
def bundle(program: NativeProgram, bundles: Callable[[str], Path]) -> Path:
    return bundles(TARGETS[program.machine])


@pytest.fixture(scope="module")
def writer(bundle: Path) -> RequestWriter:
    return RequestWriter(bundle)


@pytest.fixture(scope="module")
def python_model(bundles: Callable[[str], Path]) -> handglass.Model:
    return handglass.load(bundles("host"))


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(bundle, tmp_path / "copied"))


@pytest.fixture
def question(writer: RequestWriter, tmp_path: Path) -> Written:
    return writer.write(tmp_path / "question", *QUESTIONS["picture"])


def asked(written: Written, bundle: Path) -> list[str]:
    return written.command("", str(bundle))[1:]


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    change(manifest)
    file.write_text(json.dumps(manifest), "utf-8")


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_answers_are_those_of_python(
    program: NativeProgram,
    bundle: Path,
    writer: RequestWriter,
    python_model: handglass.Model,
    tmp_path: Path,
    name: str,
    penalty: float,
) -> None:
    text, images = QUESTIONS[name]
    expected = python_model.chat(text, images, max_tokens=12, repeat_penalty=penalty)
    written = writer.write(tmp_path, text, images, max_tokens=12, repeat_penalty=penalty)
    done = program.run(*asked(written, bundle))
    assert done.returncode == 0, done.stderr
    answer = writer.read(done.stdout.splitlines())
    assert answer.tokens == expected.tokens and answer.text == expected.text
    assert answer.finish_reason == expected.finish_reason
    times = answer.timings
    assert times.prefill_tokens == expected.timings.prefill_tokens + expected.timings.reused_tokens
    assert len(times.encode_ms) == len(images) and times.peak_mb > 10
    assert [t > 0 for t in times.encode_ms] == [p not in images[:n] for n, p in enumerate(images)]


def test_tokens_are_counted_and_threads_chosen(
    program: NativeProgram,
    bundle: Path,
    question: Written,
) -> None:
    done = program.run(*asked(question, bundle), "-n", "2", "--threads", "1")
    *ids, last = done.stdout.splitlines()
    assert len(ids) == 2 and json.loads(last)["finish_reason"] == "length"
    piped = question.request.read_text("utf-8")
    pixels = ["--pixels", question.pictures[0]]
    again = program.run("run", bundle, "--ids", "-", *pixels, "-n", 2, stdin=piped)
    assert again.stdout.splitlines()[:2] == ids


def test_a_damaged_library_is_not_loaded(
    program: NativeProgram,
    copied: Path,
    question: Written,
) -> None:
    library = copied / "lib.so"
    data = bytearray(library.read_bytes())
    data[len(data) // 2] ^= 1
    library.write_bytes(data)
    program.fails(5, "lib.so: its sha256", *asked(question, copied), "--verify", "library")
    library.write_bytes(data[:-1])
    program.fails(5, "lib.so: has", *asked(question, copied))
    library.unlink()
    program.fails(5, "lib.so", *asked(question, copied))


def test_parameters_are_hashed_unless_told(
    program: NativeProgram,
    copied: Path,
    question: Written,
) -> None:
    params = copied / "params-00001.safetensors"
    data = bytearray(params.read_bytes())
    data[-1] ^= 1
    params.write_bytes(data)
    program.fails(5, "params-00001.safetensors: its sha256", *asked(question, copied))
    assert program.run(*asked(question, copied), "--verify", "library").returncode == 0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda m: m["target"]["features"].append("not-there"), 4, "this CPU lacks not-there"),
        (lambda m: m["target"].update(triple="riscv64-linux-gnu"), 4, "compiled for riscv64"),
        (lambda m: m["target"].update(device="vulkan"), 4, 'compiled for "vulkan" (target'),
        (lambda m: m.update(version=2), 5, "bundle version 2"),
        (lambda m: m["versions"].update(tvm="0.28.0"), 5, "compiled with TVM's version 0.28.0"),
        (lambda m: m.update(format="x"), 3, "not a bundle of handglass"),
        (lambda m: m.pop("cache"), 3, "'cache' is missing"),
        (lambda m: m["params"].pop(), 5, "the params files hold"),
        (lambda m: m["params"][0]["shape"].reverse(), 5, "the manifest says"),
        (lambda m: m["files"].update({"../x": m["files"]["lib.so"]}), 5, "leads out of the bundle"),
        (lambda m: m["files"].pop("lib.so"), 5, "lists no lib.so"),
    ],
)
def test_a_manifest_is_not_believed(
    program: NativeProgram,
    copied: Path,
    question: Written,
    change: Callable[[dict[str, Any]], object],
    code: int,
    words: str,
) -> None:
    change_manifest(copied, change)
    program.fails(code, words, *asked(question, copied))


def test_a_link_out_of_the_bundle_is_refused(
    program: NativeProgram,
    copied: Path,
    question: Written,
) -> None:
    library = copied / "lib.so"
    moved = library.rename(copied.parent / "elsewhere.so")
    library.symlink_to(moved)
    program.fails(5, "lib.so: leads out of the bundle", *asked(question, copied))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": [[1, 9999999]]}, "token id 9999999 is outside the vocabulary"),
        ({"prompt": [[1], {"picture": 1}]}, "'picture' must be an integer from 0 to 0"),
        ({"prompt": [[1], []]}, "a run of no ids"),
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [[1] * 5000]}, "the context of this bundle holds"),
        ({"stop": [-1]}, "not a size: -1"),
        ({"max_tokens": 0}, "'max_tokens' must be an integer from 1"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
def test_a_request_is_checked(
    program: NativeProgram,
    bundle: Path,
    question: Written,
    change: dict[str, Any],
    words: str,
) -> None:
    request = json.loads(question.request.read_text("utf-8"))
    question.request.write_text(json.dumps(request | change), "utf-8")
    program.fails(3, words, *asked(question, bundle))


def test_text_that_is_no_request(program: NativeProgram, bundle: Path) -> None:
    for text in ("", "{", '{"a": 1, "a": 1}', "[" * 100 + "]" * 100, "1 2", '"\\ud800"', "01"):
        program.fails(3, "not valid JSON", "run", bundle, "--ids", "-", stdin=text)
    old = '{"format": "handglass-request", "version": 2}'
    program.fails(5, "not a handglass-request of version 1", "run", bundle, "--ids", "-", stdin=old)


def test_a_picture_of_another_size_is_refused(
    program: NativeProgram,
    bundle: Path,
    question: Written,
) -> None:
    small = np.zeros((3, 14, 14), np.float32)
    with TensorWriter(question.pictures[0], [("pixels", small.shape, "float32")]) as file:
        file.write("pixels", small)
    program.fails(3, "is no picture for this bundle", *asked(question, bundle))
    question.pictures[0].write_bytes(b"\xff" * 100)
    program.fails(3, "not a safetensors file", *asked(question, bundle))


def test_less_than_the_floor_is_refused_before_it_is_loaded(
    program: NativeProgram,
    bundle: Path,
    question: Written,
) -> None:
    if not program.emulator or program.machine != "aarch64":
        pytest.skip("needs an emulated ARM CPU")
    program.fails(4, "this CPU lacks asimddp", *asked(question, bundle), cpu="cortex-a72")


def test_usage(program: NativeProgram, bundle: Path) -> None:
    program.fails(2, "--ids FILE is missing", "run", bundle)
    program.fails(2, "unknown flag --nope", "run", "--nope", bundle)
    program.fails(2, "-n 0: must be a whole number", "run", bundle, "--ids", "-", "-n", 0)
    program.fails(2, "threads=999 must be", "bench", bundle, "--threads", 999)
    program.fails(3, "not a bundle", "run", bundle.parent, "--ids", "-")
    assert program.run("--help").returncode == 0
    assert program.run("nope").returncode == 2


def test_bench_has_every_row(program: NativeProgram, bundle: Path) -> None:
    done = program.run("bench", bundle, "--samples", 2, "--json")
    report = json.loads(done.stdout)
    rows = {row["row"]: row for row in report["rows"]}
    assert {"load", "encode", "pp64", "tg64@0", "limit read", "limit fma"} <= rows.keys()
    assert all(0 < row["min"] <= row["median"] <= row["p90"] for row in rows.values())
    assert all(row["samples"] == 2 for row in rows.values()) and report["peak_bytes"] > 1e7


def test_describe_is_the_machine(program: NativeProgram) -> None:
    told = json.loads(program.run("describe").stdout)
    assert told["machine"]["architecture"] == program.machine and told["runtime"] == "native"
    assert told["versions"] == {"handglass": handglass.__version__, "tvm_ffi": "0.1.14.post1"}
    flag = {"x86_64": "sse2", "aarch64": "asimddp"}[program.machine]
    assert flag in told["machine"]["flags"] and told["machine"]["memory"] > 1 << 20
