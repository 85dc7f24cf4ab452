"""handglass-native run, bench and describe: the same answers as in Python, and clear errors."""

from __future__ import annotations

import json
import os
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


HALF = {"role": "picture", "left": 0, "top": 0, "right": 0.5, "bottom": 1}
VISION_FUNCTIONS = ("encode_image", "encode_vision", "resample")


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that the test may damage."""
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
        (lambda m: m.update(version=1), 5, "bundle version 1, this program reads 2; compile the"),
        (lambda m: m.update(version=3), 5, "bundle version 3, this program reads 2; compile the"),
        (lambda m: m.update(version=True), 5, "bundle version true"),
        (lambda m: m.pop("version"), 5, "bundle version none"),
        (lambda m: m["versions"].update(tvm="0.28.0"), 5, "compiled with TVM's version 0.28.0"),
        (lambda m: m.update(format="x"), 3, "not a handglass bundle"),
        (lambda m: m.pop("state"), 3, "'state' is missing"),
        (lambda m: m["state"].update(context=0), 3, "'context' must be an integer from 1"),
        (lambda m: m["state"]["tensors"][0].update(kind="x"), 3, "'kind' must be positions or"),
        (lambda m: m["functions"].pop("decode"), 5, "it has no function 'decode'"),
        (lambda m: m["functions"].pop("encode_image"), 5, "it has no function 'encode_image'"),
        (lambda m: m["functions"].update(sing={}), 5, "the library has no function 'sing'"),
        (lambda m: m.pop("vision"), 3, "'vision' is missing"),
        (lambda m: m["vision"].update(query_num=0), 3, "one of 'query_num' and 'patches_per_row'"),
        (lambda m: m["vision"].update(patches_per_row=1), 3, "one of 'query_num' and"),
        (lambda m: m["vision"].update(patches_per_row=-1), 3, "'patches_per_row' must be an"),
        (lambda m: m["vision"].update(patch_size=15), 3, "'image_size' must be a multiple of"),
        (lambda m: m["vision"]["positions"].update(kind="x"), 5, "(vision.positions) is unknown"),
        (lambda m: m["vision"].update(image_size=98), 3, "position_ids (n,) int32 of 1 to 49"),
        (lambda m: m["params"].pop(), 5, "the params files hold"),
        (lambda m: m["params"][0]["shape"].reverse(), 5, "the manifest says"),
        (lambda m: m["files"].update({"../x": m["files"]["lib.so"]}), 5, "outside the bundle"),
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


def test_a_bundle_may_be_laid_out_as_a_hub_cache(
    program: NativeProgram, copied: Path, question: Written
) -> None:
    """Every file is a link to a blob outside the folder; its content is still checked."""
    expected = program.run(*asked(question, copied), "-n", 2).stdout.splitlines()[:-1]
    blobs = copied.parent / "blobs"
    blobs.mkdir()
    for file in [file for file in copied.rglob("*") if file.is_file()]:
        file.symlink_to(file.rename(blobs / file.name))
    done = program.run(*asked(question, copied), "-n", 2)
    assert done.stdout.splitlines()[:-1] == expected, done.stderr
    with (blobs / "lib.so").open("ab") as library:
        library.write(b"x")
    program.fails(5, "lib.so: has", *asked(question, copied))


def test_a_folder_may_not_lead_out_of_the_bundle(
    program: NativeProgram, copied: Path, question: Written
) -> None:
    outside = copied.parent / "outside"
    outside.mkdir()
    shutil.copy(copied / "lib.so", outside / "lib.so")
    (copied / "inside").symlink_to(outside)
    change_manifest(copied, lambda m: m["files"].update({"inside/lib.so": m["files"]["lib.so"]}))
    program.fails(5, "inside/lib.so: points outside the bundle", *asked(question, copied))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": [[1, 9999999]]}, "token id 9999999 is outside the vocabulary"),
        ({"prompt": [[1], {"tile": 1}]}, "'tile' must be an integer from 0 to 0"),
        ({"prompt": [[1], {"picture": 0}]}, "'tile' is missing"),
        ({"prompt": [{"tile": 0}] * 17}, "the context of this bundle holds"),
        ({"pictures": []}, "1 of 1 --pixels are of no picture"),
        ({"pictures": [0, 1]}, "a picture of 0 tiles where 1 of 1 --pixels are left"),
        ({"pictures": [1, 1]}, "a picture of 1 tiles where 0 of 1 --pixels are left"),
        ({"pictures": [2**62, 2**62]}, "a picture of 4611686018427387904 tiles"),
        ({"pictures": [-1, 2]}, "not a size: -1"),
        ({"pictures": 1}, "'pictures' must be a list"),
        ({"prompt": [[1], []]}, "an empty list of ids"),
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
    old = '{"format": "handglass-request", "version": 1}'
    program.fails(5, "not a handglass-request of version 2", "run", bundle, "--ids", "-", stdin=old)


def test_tiles_that_are_not_given(program: NativeProgram, bundle: Path, question: Written) -> None:
    program.fails(3, "0 of 0 --pixels are left", "run", bundle, "--ids", question.request)
    request = json.loads(question.request.read_text("utf-8")) | {"pictures": []}
    question.request.write_text(json.dumps(request), "utf-8")
    program.fails(3, "but no --pixels was given", "run", bundle, "--ids", question.request)


def tile(height: int, width: int) -> dict[str, np.ndarray]:
    """The inputs of the demo model: patches of 14 x 14, a table of 8 x 8 positions."""
    n = height * width
    grid = np.stack(np.divmod(np.arange(n), width), axis=1)
    ids = grid @ [8, 1]
    pixels = np.zeros((3, 14, 14 * n), np.float32)
    return {"pixels": pixels, "position_ids": ids.astype("i4"), "grid": grid.astype("i4")}


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    specs = [(name, array.shape, array.dtype.name) for name, array in arrays.items()]
    with TensorWriter(path, specs) as file:
        for name, array in arrays.items():
            file.write(name, np.ascontiguousarray(array))


def test_a_tile_may_be_smaller(program: NativeProgram, bundle: Path, question: Written) -> None:
    write_arrays(question.tiles[0], tile(3, 7))
    done = program.run(*asked(question, bundle), "-n", 2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["timings"]["image_tokens"] == [64]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("grid"), "it must have grid (6, 2) int32"),
        (lambda t: t.pop("position_ids"), "it must have position_ids (n,) int32"),
        (lambda t: t.update(position_ids=t["position_ids"][:0]), "of 1 to 64 patches"),
        (lambda t: t.update(position_ids=t["position_ids"][:5]), "(3, 14, 70) float32"),
        (lambda t: t.update(pixels=t["pixels"].astype(np.float16)), "(3, 14, 84) float32"),
        (lambda t: t.update(position_ids=t["position_ids"] - 1), "must be from 0 to 63"),
        (lambda t: t.update(position_ids=t["position_ids"] + 54), "must be from 0 to 63"),
        (lambda t: t.update(grid=t["grid"][::-1]), "count its 6 patches row by row"),
        (lambda t: t.update(grid=t["grid"] + 1), "count its 6 patches row by row"),
        (lambda t: t.update(tile(1, 9)), "at most 8 along a side"),
        (lambda t: t.update(grid=t["grid"] + (2**31 - 3)), "count its 6 patches row by row"),
    ],
)
def test_a_tile_is_checked(
    program: NativeProgram,
    bundle: Path,
    question: Written,
    change: Callable[[dict[str, np.ndarray]], object],
    words: str,
) -> None:
    arrays = tile(2, 3)
    change(arrays)
    write_arrays(question.tiles[0], arrays)
    program.fails(3, words, *asked(question, bundle))


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def one_tensor(shape: list[int], name: str = "x") -> bytes:
    entry = {"dtype": "F64", "shape": shape, "data_offsets": [0, 0]}
    return safetensors(json.dumps({name: entry}).encode())


HEADERS = {
    "2^61": (one_tensor([1 << 58]), "tensor 'x': shape"),
    "wraps": (one_tensor([1 << 59, 1 << 5]), "tensor 'x': shape"),
    "empty": (one_tensor([0, 1 << 62, 1 << 62]), "tensor 'x': shape"),
    "10^30": (one_tensor([10**30]), "tensor 'x': not a size"),
    "escape": (one_tensor([1 << 59], "\x1b[2Jx"), "tensor '\\x1b[2Jx'"),
    "overrides": (
        one_tensor([1 << 59], "\x9b2J\u202e圆\u2069"),
        "tensor '\\x9b2J\\u202e圆\\u2069'",
    ),
    "lists": (safetensors(b"[" + b"[]," * (1 << 20) + b"[]]"), "expected an object"),
    "numbers": (safetensors(b"[" + b"0," * (3 << 20) + b"0]"), "too many values"),
    "long": (safetensors(b" " * (9 << 20)), str(9 << 20)),
    "deep": (safetensors(b"[" * 5000), "nested too deeply"),
    "half": (safetensors(b'{"\\ud800": 1}'), "lone surrogate"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers(
    program: NativeProgram, bundle: Path, question: Written, case: str
) -> None:
    content, words = HEADERS[case]
    question.tiles[0].write_bytes(content)
    program.fails(3, words, *asked(question, bundle))


@pytest.mark.parametrize("place", ["manifest.json", "lib.so", "tile", "request"])
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_only_regular_files_are_read(
    program: NativeProgram, copied: Path, question: Written, place: str, kind: str
) -> None:
    """A FIFO without a writer does not block, and /dev/zero is not read."""
    file = {"tile": question.tiles[0], "request": question.request}.get(place, copied / place)
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    code = 5 if place == "lib.so" else 3
    program.fails(code, f"{file}: cannot be read", *asked(question, copied))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["vision"].update(image_size=57344),
        lambda m: m["vision"].update(query_num=2**62),
        lambda m: m["params"][0].update(shape=[2**59, 2**5]),
        lambda m: m["params"][0].update(dtype="foo"),
        lambda m: m["state"]["tensors"][0].update(shape=[10**400]),
        lambda m: m["state"].update(context=2**30),
        lambda m: m["files"]["lib.so"].update(size=2**60),
    ],
    ids=["image_size", "query_num", "wraps", "dtype", "10^400", "context", "size"],
)
def test_numbers_of_a_manifest_are_bounded(
    program: NativeProgram,
    copied: Path,
    question: Written,
    change: Callable[[dict[str, Any]], object],
) -> None:
    change_manifest(copied, change)
    program.fails(3, "manifest.json", *asked(question, copied))


def test_a_file_that_is_no_tile(program: NativeProgram, bundle: Path, question: Written) -> None:
    question.tiles[0].write_bytes(b"\xff" * 100)
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
