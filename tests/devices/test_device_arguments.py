"""Arguments created on a device: shapes, fills, copies, and memory limits."""

from typing import Any

import numpy as np
import pytest
from device_library import tensor

from handglass.errors import DeviceError, InputError
from handglass.runtime.bundle.bfloat16 import bfloat16_bits, bfloat16_values
from handglass.runtime.execution import kernel_arguments as arguments
from handglass.runtime.execution.kernel_arguments import DTYPES, Arguments, read_items

N = (7, 1009)
INTEGERS = [dtype for dtype in DTYPES if "int" in dtype]
FLOATS = [dtype for dtype in DTYPES if "float" in dtype]


def made(*items: Any, copies: int = 1, seed: int = 3) -> list[list[Any]]:
    """The arguments of each copy, with tensors as arrays."""
    calls = Arguments(read_items(items), copies, seed).calls
    return [[a if isinstance(a, int) else np.from_dlpack(a) for a in call] for call in calls]


def numbers(array: np.ndarray, dtype: str) -> np.ndarray:
    return bfloat16_values(array) if dtype == "bfloat16" else array.astype(np.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal(dtype: str) -> None:
    ((array,),) = made(tensor(*N, dtype=dtype, kind="normal", scale=0.5))
    assert array.shape == N and array.dtype == ("uint16" if dtype == "bfloat16" else dtype)
    values = numbers(array, dtype)
    assert abs(values.mean()) < 0.03 and 0.48 < values.std() < 0.52


@pytest.mark.parametrize("dtype", INTEGERS)
def test_uniform_integers_reach_both_ends(dtype: str) -> None:
    low, high = (0, 3) if dtype.startswith("u") else (-2, 1)
    ((array,),) = made(tensor(*N, dtype=dtype, kind="uniform", low=low, high=high))
    assert array.dtype == dtype
    assert sorted(np.unique(array)) == list(range(low, high + 1))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_of_the_whole_range(dtype: str) -> None:
    limits = np.iinfo(dtype)
    low, high = int(limits.min), int(limits.max)
    ((array,),) = made(tensor(*N, dtype=dtype, kind="uniform", low=low, high=high))
    assert array.max() > high // 2
    for value in (low, high):
        ((array,),) = made(tensor(3, dtype=dtype, kind="constant", value=value))
        assert array.tolist() == [value] * 3


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_and_constant_floats(dtype: str) -> None:
    ((array, sevens),) = made(
        tensor(*N, dtype=dtype, kind="uniform", low=-1, high=2),
        tensor(3, dtype=dtype, kind="constant", value=7),
    )
    values = numbers(array, dtype)
    assert -1 <= values.min() < -0.9 and 1.9 < values.max() <= 2
    assert numbers(sevens, dtype).tolist() == [7, 7, 7]


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "bfloat16"])
def test_bfloat16_in_halves_and_words(dtype: str) -> None:
    items = read_items([tensor(*N, dtype=dtype, kind="bfloat16", scale=2.0)])
    (array,) = Arguments(items, 1, 0).arrays.values()
    assert array.dtype == ("uint32" if dtype == "uint32" else "uint16") and array.shape == N
    assert isinstance(items[0], arguments.Tensor)
    values = items[0].numbers(array)
    assert values.size == array.size * (2 if dtype == "uint32" else 1)
    assert abs(values.mean()) < 0.1 and 1.9 < values.std() < 2.1
    assert np.array_equal(bfloat16_bits(values), array.reshape(-1).view(np.uint16))


def test_tensors_are_aligned_and_copies_are_apart() -> None:
    item = tensor(3, 5, kind="normal", scale=1)
    copies = made(item, {"int": 11}, tensor(1, dtype="int8", kind="constant", value=1), copies=3)
    arrays = [array for call in copies for array in call if not isinstance(array, int)]
    assert all(array.ctypes.data % 64 == 0 for array in arrays)
    assert len({array.ctypes.data for array in arrays}) == 6
    assert all(call[1] == 11 and np.array_equal(call[0], copies[0][0]) for call in copies)


def test_contents_follow_from_the_seed_and_the_place() -> None:
    item = tensor(*N, kind="normal", scale=1)
    ((a, b),) = made(item, item, seed=1)
    ((c, d),) = made(item, item, seed=1)
    ((e, _),) = made(item, item, seed=2)
    assert np.array_equal(a, c) and np.array_equal(b, d)
    assert not np.array_equal(a, b) and not np.array_equal(a, e)


def test_refilling_is_making_anew() -> None:
    items = read_items([tensor(*N, kind="normal", scale=1)])
    first, second = Arguments(items, 2, 5), Arguments(items, 1, 6)
    first.refill(6)
    assert np.array_equal(first.arrays[0], second.arrays[0])


def test_large_tensors_are_filled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "_CHUNK", 10)
    ((array,),) = made(tensor(101, dtype="int32", kind="uniform", low=1, high=1 << 30))
    assert len(np.unique(array)) > 95


BAD = [
    ("tensor", "item 0: .*'tensor'"),
    ({"int": 1.0}, "'int'"),
    ({"int": 1 << 63}, "'int'"),
    ({"int": 1, "shape": [1]}, "'shape'"),
    ({"shape": [1], "dtype": "float32"}, "'fill' is missing"),
    (tensor(0, kind="constant", value=1), "size of a shape"),
    (tensor(-1, kind="constant", value=1), "size of a shape"),
    (tensor(True, kind="constant", value=1), "size of a shape"),
    (tensor(*[1] * 17, kind="constant", value=1), "'shape' .*16"),
    (tensor(1, dtype="float64", kind="constant", value=1), "'dtype' .*'float64'"),
    (tensor(1, kind="zeros"), "'kind' .*'zeros'"),
    (tensor(1, kind="normal"), "'scale' is missing"),
    (tensor(1, kind="normal", scale=-1), "'scale' .*-1"),
    (tensor(1, kind="normal", scale=1, low=2), "'low'"),
    (tensor(1, dtype="int8", kind="normal", scale=1), "'normal' .*int8"),
    (tensor(1, kind="bfloat16", scale=1), "'bfloat16' .*float32"),
    (tensor(1, kind="uniform", low=2, high=1), r"low 2\.0 .*high 1\.0"),
    (tensor(1, dtype="int8", kind="uniform", low=0, high=128), "-128 to 127"),
    (tensor(1, dtype="uint8", kind="constant", value=-1), "0 to 255"),
    (tensor(1, dtype="uint8", kind="constant", value=1.0), "0 to 255"),
    (tensor(1, kind="constant", value=1e31), "'value'"),
]


@pytest.mark.parametrize(("item", "words"), BAD)
def test_items_are_read_strictly(item: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_items([item])


def test_more_than_the_memory_is_refused_before_it_is_taken() -> None:
    items = read_items([tensor(1 << 40, kind="constant", value=1)])
    with pytest.raises(DeviceError, match=r" 4398\d+ bytes"):
        Arguments(items, 1, 0)


def test_a_machine_that_does_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "available_bytes", lambda: None)
    assert made(tensor(2, kind="constant", value=1))[0][0].tolist() == [1, 1]


def test_too_many_tensors_are_refused() -> None:
    items = read_items([tensor(1, kind="constant", value=1)] * 2)
    with pytest.raises(InputError, match="40000 copies"):
        Arguments(items, 40_000, 0)
