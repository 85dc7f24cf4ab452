"""handglass-native run, bench and describe: the same answers as in Python, and clear errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from native_bundles import PICTURES, QUESTIONS, asked, change_manifest
from native_program import NativeProgram

import handglass
from handglass.runtime.answer.native_request import RequestWriter, Written

pytest_plugins = ["native_fixtures"]
pytestmark = [pytest.mark.compiler, pytest.mark.slow]
HALF = {"role": "picture", "left": 0, "top": 0, "right": 0.5, "bottom": 1}
VISION_FUNCTIONS = ("encode_image", "encode_vision", "resample")


@pytest.fixture(scope="module")
def python_model(bundles: Callable[[str], Path]) -> handglass.Model:
    return handglass.load(bundles("host"))


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
    assert times.image_tokens == expected.timings.image_tokens == (64,) * len(images)


def halve(manifest: dict[str, Any]) -> None:
    """A bundle with three tiles per picture: the whole, then its left half twice."""
    manifest["vision"]["slicing"]["parameters"]["boxes"] += [HALF, HALF]


def blind(manifest: dict[str, Any]) -> None:
    """A text-only bundle."""
    manifest["vision"] = None
    for name in VISION_FUNCTIONS:
        del manifest["functions"][name]


def test_pictures_of_several_tiles(
    program: NativeProgram,
    copied: Path,
    bundles: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    host = Path(shutil.copytree(bundles("host"), tmp_path / "host"))
    for folder in (copied, host):
        change_manifest(folder, halve)
    text, images = "Which picture has more shapes?", [PICTURES[1], PICTURES[2], PICTURES[1]]
    expected = handglass.load(host).chat(text, images, max_tokens=12)
    writer = RequestWriter(copied)
    written = writer.write(tmp_path / "question", text, images, max_tokens=12)
    assert len(written.tiles) == 9
    done = program.run(*asked(written, copied))
    assert done.returncode == 0, done.stderr
    answer = writer.read(done.stdout.splitlines())
    assert answer.tokens == expected.tokens
    times = answer.timings
    assert times.image_tokens == expected.timings.image_tokens == (192, 192, 192)
    assert [t > 0 for t in times.encode_ms] == [True, True, False]


def test_rows_by_patches(program: NativeProgram, copied: Path, question: Written) -> None:
    """Rows per tile derived from its patches; in this test they equal the number of queries."""
    expected = program.run(*asked(question, copied)).stdout.splitlines()[:-1]
    change_manifest(copied, lambda m: m["vision"].update(query_num=0, patches_per_row=1))
    assert program.run(*asked(question, copied)).stdout.splitlines()[:-1] == expected
    change_manifest(copied, lambda m: m["vision"].update(patches_per_row=2))
    program.fails(5, "encode_image returned (64, 256), the manifest", *asked(question, copied))
    change_manifest(copied, lambda m: m["vision"].update(patches_per_row=3))
    program.fails(3, "64 patches are not a multiple of 3", *asked(question, copied))


def test_kinds_of_state(program: NativeProgram, copied: Path, question: Written) -> None:
    """One answer from zeros needs no copy for any state kind; the default kind is `positions`."""
    expected = program.run(*asked(question, copied), "-n", 4).stdout.splitlines()[:-1]

    def change(manifest: dict[str, Any]) -> None:
        first, second, *_ = manifest["state"]["tensors"]
        first["kind"] = "recurrent"
        second.pop("kind", None)

    change_manifest(copied, change)
    assert program.run(*asked(question, copied), "-n", 4).stdout.splitlines()[:-1] == expected
    assert program.run("bench", copied, "--samples", 1).returncode == 0


def test_a_bundle_that_reads_text_alone(
    program: NativeProgram, copied: Path, writer: RequestWriter, question: Written, tmp_path: Path
) -> None:
    written = writer.write(tmp_path / "text", *QUESTIONS["text"], max_tokens=4)
    expected = program.run(*asked(written, copied)).stdout.splitlines()[:-1]
    change_manifest(copied, blind)
    done = program.run(*asked(written, copied))
    assert done.stdout.splitlines()[:-1] == expected and '"image_tokens": []' in done.stdout
    program.fails(3, "this model reads text alone", *asked(question, copied))
    program.fails(3, "this model reads text alone", "run", copied, "--ids", question.request)
    report = json.loads(program.run("bench", copied, "--samples", 1, "--json").stdout)
    rows = {row["row"] for row in report["rows"]}
    assert {"load", "pp64", "tg64@0"} <= rows and "encode" not in rows


def test_tokens_are_counted_and_threads_chosen(
    program: NativeProgram,
    bundle: Path,
    question: Written,
) -> None:
    done = program.run(*asked(question, bundle), "-n", "2", "--threads", "1")
    *ids, last = done.stdout.splitlines()
    assert len(ids) == 2 and json.loads(last)["finish_reason"] == "length"
    piped = question.request.read_text("utf-8")
    pixels = ["--pixels", question.tiles[0]]
    again = program.run("run", bundle, "--ids", "-", *pixels, "-n", 2, stdin=piped)
    assert again.stdout.splitlines()[:2] == ids


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
    description = json.loads(program.run("describe").stdout)
    assert (
        description["machine"]["architecture"] == program.machine
        and description["runtime"] == "native"
    )
    assert description["versions"] == {
        "handglass": handglass.__version__,
        "tvm_ffi": "0.1.14.post1",
    }
    flag = {"x86_64": "sse2", "aarch64": "asimddp"}[program.machine]
    assert flag in description["machine"]["flags"] and description["machine"]["memory"] > 1 << 20
