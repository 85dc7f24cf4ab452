"""Tensor files: round trips, agreement with the safetensors package, and rejection of bad files."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handglass.errors import DeviceError, InputError, MismatchError
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.tensors import (
    ALIGNMENT,
    DTYPES,
    TensorFile,
    TensorSpec,
    aligned,
    aligned_empty,
    storage_dtype,
    untouched_zeros,
)

RANDOM = np.random.default_rng(7)
NAMES = [name for name, _ in DTYPES.values()]


def random_array(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    stored = storage_dtype(dtype)
    if stored == np.bool_:
        return RANDOM.integers(0, 2, shape).astype(np.bool_)
    if stored.kind == "f":
        return RANDOM.normal(size=shape).astype(stored)
    return RANDOM.integers(0, np.iinfo(stored).max, shape, dtype=stored)


def write(path: Path, arrays: dict[str, np.ndarray], dtypes: dict[str, str]) -> None:
    specs = [(name, array.shape, dtypes[name]) for name, array in arrays.items()]
    with TensorWriter(path, specs) as writer:
        for name in sorted(arrays, reverse=True):  # in an order other than that of the specs
            writer.write(name, arrays[name])


SHAPES = [(), (1,), (0,), (3, 0, 2), (5, 7), (64,), (2, 32), (16, 16, 3)]


@pytest.fixture()
def mixed() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    dtypes = {f"{dtype}.{i}": dtype for dtype in NAMES for i in range(len(SHAPES))}
    arrays = {name: random_array(SHAPES[int(name[-1])], dtypes[name]) for name in dtypes}
    return arrays, dtypes


def test_every_type_and_shape_comes_back(tmp_path: Path, mixed: Any) -> None:
    arrays, dtypes = mixed
    write(tmp_path / "x", arrays, dtypes)
    file = TensorFile.open(tmp_path / "x")
    assert set(file.names) == set(arrays)
    for name, array in arrays.items():
        assert file.dtype(name) == dtypes[name]
        assert file.shape(name) == array.shape == file.array(name).shape
        assert file.array(name).dtype == array.dtype
        assert np.array_equal(file.array(name), array)


def test_whole_multiples_of_the_alignment_are_aligned(tmp_path: Path, mixed: Any) -> None:
    arrays, dtypes = mixed
    write(tmp_path / "x", arrays, dtypes)
    file = TensorFile.open(tmp_path / "x")
    whole = [n for n in file.names if arrays[n].nbytes and arrays[n].nbytes % ALIGNMENT == 0]
    assert len(whole) > 20
    assert all(file.array(name).ctypes.data % ALIGNMENT == 0 for name in whole)


def test_the_safetensors_package_reads_our_files(tmp_path: Path, mixed: Any) -> None:
    torch_reader = pytest.importorskip("safetensors.torch")
    torch = pytest.importorskip("torch")
    arrays, dtypes = mixed
    write(tmp_path / "x", arrays, dtypes)
    loaded = torch_reader.load_file(tmp_path / "x")
    assert set(loaded) == set(arrays)
    for name, tensor in loaded.items():
        assert str(tensor.dtype) == f"torch.{dtypes[name]}"
        bits = tensor.view(torch.uint16) if dtypes[name] == "bfloat16" else tensor
        assert np.array_equal(bits.numpy(), arrays[name])


def test_we_read_the_files_of_the_safetensors_package(tmp_path: Path, mixed: Any) -> None:
    numpy_writer = pytest.importorskip("safetensors.numpy")
    arrays = {n: a for n, a in mixed[0].items() if not n.startswith("bfloat16")}
    numpy_writer.save_file(arrays, tmp_path / "x", metadata={"format": "np"})
    file = TensorFile.open(tmp_path / "x")
    assert set(file.names) == set(arrays)
    assert all(np.array_equal(file.array(name), arrays[name]) for name in arrays)


def test_writing_to_a_view_leaves_the_file_alone(tmp_path: Path) -> None:
    write(tmp_path / "x", {"a": np.arange(32, dtype=np.float32)}, {"a": "float32"})
    before = (tmp_path / "x").read_bytes()
    view = TensorFile.open(tmp_path / "x").array("a")
    view[:] = 7
    assert (tmp_path / "x").read_bytes() == before


def test_views_outlive_the_file_object(tmp_path: Path) -> None:
    write(tmp_path / "x", {"a": np.arange(999, dtype=np.int32)}, {"a": "int32"})
    view = TensorFile.open(tmp_path / "x").array("a")
    (tmp_path / "x").unlink()
    assert np.array_equal(view, np.arange(999))


def test_ml_dtypes_bfloat16_is_stored_as_it_is(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array([1.0, -2.5, 3.0], ml_dtypes.bfloat16)
    write(tmp_path / "x", {"a": values}, {"a": "bfloat16"})
    assert np.array_equal(TensorFile.open(tmp_path / "x").array("a"), values.view(np.uint16))


def test_an_array_that_is_not_contiguous_is_stored_in_order(tmp_path: Path) -> None:
    array = np.arange(35, dtype=np.int16).reshape(5, 7).T[::2]
    write(tmp_path / "x", {"a": array}, {"a": "int16"})
    assert np.array_equal(TensorFile.open(tmp_path / "x").array("a"), array)


def raw(table: Any, data: bytes = b"") -> bytes:
    header = table if isinstance(table, bytes) else json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + data


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


DAMAGED = {
    "empty": (b"", "too short"),
    "seven bytes": (b"1234567", "7 bytes is too short"),
    "header past the end": ((50).to_bytes(8, "little") + b"{}", "header length 50"),
    "huge header": ((2**63).to_bytes(8, "little") + b"{}", "header length 9223372036854775808"),
    "not JSON": (raw(b"{'a': 1}"), "not valid JSON"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "not valid JSON"),
    "deeply nested": (raw(b"[" * 100_000), "not valid JSON"),
    "a list": (raw([]), "a JSON list"),
    "a name twice": (raw(b'{"a": 1, "a": 2}'), "'a' occurs twice"),
    "entry is no object": (raw({"a": 3}), "tensor 'a': expected dtype, shape"),
    "key missing": (raw({"a": {"dtype": "F32", "shape": [2]}}), "tensor 'a': expected dtype"),
    "key too many": (raw({"a": tensor() | {"x": 1}}, bytes(8)), "tensor 'a': expected dtype"),
    "unknown dtype": (raw({"a": tensor("F99")}, bytes(8)), "tensor 'a': dtype 'F99' is unknown"),
    "dtype no text": (raw({"a": tensor([1])}, bytes(8)), r"dtype \[1\] is unknown"),
    "negative size": (raw({"a": tensor(shape=[-2])}, bytes(8)), r"shape \[-2\]"),
    "size no integer": (raw({"a": tensor(shape=[2.0])}, bytes(8)), r"shape \[2.0\]"),
    "size a truth": (raw({"a": tensor(shape=[True, 2])}, bytes(8)), r"shape \[True, 2\]"),
    "shape no list": (raw({"a": tensor(shape="2")}, bytes(8)), "shape '2'"),
    "offsets backwards": (raw({"a": tensor(offsets=[8, 0])}, bytes(8)), r"data_offsets \[8, 0\]"),
    "three offsets": (raw({"a": tensor(offsets=[0, 4, 8])}, bytes(8)), "data_offsets"),
    "shape and offsets": (raw({"a": tensor(shape=[3])}, bytes(8)), r"needs 12 bytes.*hold 8"),
    "huge shape": (raw({"a": tensor(shape=[2**62, 2**62])}, bytes(8)), "4611686018427387904"),
    "empty, and huge": (raw({"a": tensor("U8", [0, 2**62], [0, 0])}), "4611686018427387904"),
    "beyond 64 bits": (raw({"a": tensor("U8", [0, 2**63], [0, 0])}), "9223372036854775808"),
    "many dimensions": (raw({"a": tensor("U8", [1] * 40, [0, 1])}, b"1"), "shape"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "surrogate": (raw({"\ud800": tensor()}, bytes(8)), "surrogate"),
    "past the end": (raw({"a": tensor()}, bytes(7)), "end at byte"),
    "data left over": (raw({"a": tensor()}, bytes(9)), "end at byte"),
    "hole": (raw({"a": tensor(offsets=[4, 12])}, bytes(12)), "'a' leaves a gap"),
    "overlap": (
        raw({"a": tensor(), "b": tensor(offsets=[4, 12])}, bytes(12)),
        "'b' overlaps",
    ),
}


def test_the_header_may_list_tensors_in_any_order(tmp_path: Path) -> None:
    table = {"b": tensor(offsets=[8, 16]), "a": tensor("I64", [1], [0, 8])}
    table["c"] = tensor("I8", [0], [8, 8])
    data = np.int64(5).tobytes() + np.float32([1, 2]).tobytes()
    (tmp_path / "x").write_bytes(raw(table, data))
    file = TensorFile.open(tmp_path / "x")
    assert file.names == ("a", "c", "b")
    assert file.array("a").tolist() == [5] and file.array("b").tolist() == [1, 2]


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_one_clear_error(tmp_path: Path, case: str) -> None:
    data, message = DAMAGED[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        TensorFile.open(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_random_damage_never_escapes_as_another_error(tmp_path: Path) -> None:
    good = tmp_path / "good"
    arrays = {"a": np.ones((4, 5), np.float32), "b": np.ones(3, np.int8)}
    write(good, arrays, {"a": "float32", "b": "int8"})
    data = bytearray(good.read_bytes())
    for i in range(400):
        damaged = bytearray(data)
        for _ in range(RANDOM.integers(1, 4)):
            damaged[RANDOM.integers(0, 200)] = RANDOM.integers(0, 256)
        path = tmp_path / "bad"
        path.write_bytes(damaged[: RANDOM.integers(0, len(data) + 1)] if i % 2 else damaged)
        try:
            file = TensorFile.open(path)
            assert all(file.array(name).nbytes >= 0 for name in file.names)
        except InputError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_a_missing_file_and_a_folder_are_input_errors(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "x")
    with pytest.raises(InputError, match="cannot read"):
        TensorFile.open(tmp_path / "x")


def test_unknown_names_are_input_errors(tmp_path: Path) -> None:
    write(tmp_path / "x", {"a": np.zeros(1, np.int8)}, {"a": "int8"})
    file = TensorFile.open(tmp_path / "x")
    assert "a" in file and "b" not in file
    with pytest.raises(InputError, match="'b'"):
        file.array("b")


def test_the_writer_takes_what_was_announced_and_nothing_else(tmp_path: Path) -> None:
    writer = TensorWriter(tmp_path / "x", [("a", (2, 3), "float32"), ("b", (1,), "int8")])
    with pytest.raises(MismatchError, match="'c'"):
        writer.write("c", np.zeros(1, np.int8))
    with pytest.raises(MismatchError, match=r"float32 \(2, 3\), got float32 \(3, 2\)"):
        writer.write("a", np.zeros((3, 2), np.float32))
    with pytest.raises(MismatchError, match="got float64"):
        writer.write("a", np.zeros((2, 3)))
    writer.write("a", np.zeros((2, 3), np.float32))
    with pytest.raises(MismatchError, match="'a'"):
        writer.write("a", np.zeros((2, 3), np.float32))
    with pytest.raises(MismatchError, match="first 'b'"):
        writer.close()


def test_rows_are_written_one_after_the_other(tmp_path: Path) -> None:
    whole = np.arange(21, dtype=np.float32).reshape(7, 3)
    with TensorWriter(tmp_path / "x", [("a", (7, 3), "float32")]) as writer:
        writer.write("a", whole[:4])
        for rows, first in ((whole[4:], 0), (whole[5:], 5), (whole[:4], 4), (whole[4:, :2], 4)):
            with pytest.raises(MismatchError, match="'a' is declared as"):
                writer.write("a", rows, first)
        writer.write("a", whole[4:6], 4)
        writer.write("a", whole[6:], 6)
        with pytest.raises(MismatchError, match="already written"):
            writer.write("a", whole[6:], 6)
    assert np.array_equal(TensorFile.open(tmp_path / "x").array("a"), whole)


def test_missing_rows_are_an_error(tmp_path: Path) -> None:
    writer = TensorWriter(tmp_path / "x", [("a", (7, 3), "float32")])
    writer.write("a", np.zeros((4, 3), np.float32))
    with pytest.raises(MismatchError, match="first 'a'"):
        writer.close()


def test_a_name_twice_or_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="'a'"):
        TensorWriter(tmp_path / "x", [("a", (1,), "int8"), ("a", (2,), "int8")])
    with pytest.raises(InputError, match="'float7'"):
        TensorWriter(tmp_path / "x", [("a", (1,), "float7")])
    assert not (tmp_path / "x").exists()


def test_an_error_on_the_way_removes_the_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), TensorWriter(tmp_path / "x", [("a", (1,), "int8")]):
        assert (tmp_path / "x").exists()
        raise KeyboardInterrupt
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_not_there_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot write"):
        TensorWriter(tmp_path / "no" / "x", [("a", (1,), "int8")])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_device_error() -> None:
    with pytest.raises(DeviceError, match="cannot write"):
        TensorWriter("/dev/full", [("a", (1,), "int8")])


def test_specs_know_their_bytes() -> None:
    assert TensorSpec("a", (3, 5), "bfloat16").nbytes == 30
    assert TensorSpec("a", (), "float64").nbytes == 8


@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (1000,)])
def test_aligned_memory_is_aligned_and_keeps_values(shape: tuple[int, ...]) -> None:
    for _ in range(5 if 0 not in shape else 0):
        assert aligned_empty(shape, "float32").ctypes.data % ALIGNMENT == 0
    assert not untouched_zeros(shape, "int16").any()
    assert untouched_zeros(shape, "float32").ctypes.data % ALIGNMENT == 0
    crooked = np.frombuffer(bytes(range(200)) * 25, np.uint8)[1 : 1 + 4 * int(np.prod(shape))]
    crooked = crooked.view(np.int32).reshape(shape)
    assert aligned(crooked).ctypes.data % ALIGNMENT == 0 or crooked.size == 0
    assert np.array_equal(aligned(crooked), crooked)
    straight = aligned_empty((8, 8), "float32")
    assert aligned(straight) is straight
    assert aligned(straight.T).flags.c_contiguous
    straight.flags.writeable = False
    assert aligned(straight).flags.writeable


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_forked_child_writes_stays_there() -> None:
    cache = untouched_zeros((1000,), "float32")
    child = os.fork()
    if child == 0:
        cache[:] = 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not cache.any()
