"""handglass-native run: files of a damaged or hostile bundle are refused by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from native_bundles import asked, change_manifest
from native_program import NativeProgram

from handglass.runtime.answer.native_request import Written

pytest_plugins = ["native_fixtures"]
pytestmark = [pytest.mark.compiler, pytest.mark.slow]


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


def grid(**parameters: int) -> dict[str, Any]:
    """The slicing method of the newer models, for the patches of the demo model."""
    given = {"resolution": 112, "multiple": 14, "max_slices": 9} | parameters
    return {"kind": "grid", "parameters": given}


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
        (lambda m: m["state"]["tensors"][0].update(kind="pictures"), 3, "by cross-attention"),
        (lambda m: m["functions"].pop("decode"), 5, "it has no function 'decode'"),
        (lambda m: m["functions"].pop("encode_image"), 5, "it has no function 'encode_image'"),
        (lambda m: m["functions"].update(sing={}), 5, "the library has no function 'sing'"),
        (
            lambda m: m["functions"]["decode"]["arguments"].append("positions (1, 3) int32"),
            5,
            "'decode' takes (ids, pos, state, params, positions), not (ids, positions, pos, state",
        ),
        (
            lambda m: m["functions"]["encode_image"]["arguments"].insert(2, "times (n,) int32"),
            5,
            "'encode_image' takes (pixels, position_ids, times, grid, params), not (pixels,",
        ),
        (lambda m: m["functions"].update(sing=1), 3, "sing: expected an object"),
        (lambda m: m.pop("vision"), 3, "'vision' is missing"),
        (lambda m: m["vision"].update(query_num=0), 3, "one of 'query_num' and 'patches_per_row'"),
        (lambda m: m["vision"].update(patches_per_row=1), 3, "one of 'query_num' and"),
        (lambda m: m["vision"].update(patches_per_row=-1), 3, "'patches_per_row' must be an"),
        (lambda m: m["vision"].update(patch_size=15), 3, "'image_size' must be a multiple of"),
        (lambda m: m["vision"]["positions"].update(kind="x"), 5, '(vision.positions "x") is'),
        (lambda m: m["vision"]["positions"]["parameters"].update(side=5000), 3, "'side' must be"),
        (lambda m: m["vision"]["slicing"].update(kind="x"), 5, '(vision.slicing "x") is'),
        (lambda m: m["vision"]["slicing"].update(kind="grid"), 3, "'resolution' is missing"),
        (lambda m: m["vision"].update(slicing=grid(resolution=0)), 3, "'resolution' must be an"),
        (lambda m: m["vision"].update(slicing=grid(resolution=2049)), 3, "'resolution' must be"),
        (lambda m: m["vision"].update(slicing=grid(multiple=15)), 3, "a multiple of 14 (patches,"),
        (lambda m: m["vision"].update(slicing=grid(multiple=126)), 3, "'multiple' must be an int"),
        (lambda m: m["vision"].update(slicing=grid(max_slices=101)), 3, "'max_slices' must be an"),
        (lambda m: m["vision"].update(slicing=grid(extra=1)), 3, "unknown field 'extra'"),
        (
            lambda m: m["vision"].update(slicing=grid(resolution=1792, multiple=448)),
            3,
            "tiles may have 11535104 pixels, more than 65536 patches, or than 16777216 pixels",
        ),
        (lambda m: m["vision"].update(window_levels=1), 3, "64 patches in windows of 2 x 2"),
        (lambda m: m["vision"].update(image_size=70, window_levels=1), 3, "in whole windows"),
        (lambda m: m["vision"].update(window_levels=3), 3, "'window_levels' must be an integer"),
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
