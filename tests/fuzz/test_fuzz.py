"""A few hundred damaged inputs, in every run of the tests; `make fuzz` reads 20,000."""

import json
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("tvm", reason="reads checkpoints and targets, with the TVM compiler")

from fuzz.__main__ import faults_of
from fuzz.child import fault_of
from fuzz.mutate import MUTATIONS, mutate
from fuzz.readers import READERS
from handglass.errors import InputError

pytestmark = pytest.mark.compiler
SEED, COUNT = 7, 100


def test_damaged_inputs() -> None:
    assert list(faults_of(SEED, 0, COUNT)) == []


@pytest.mark.parametrize("name", READERS)
def test_a_good_input_is_read(name: str, tmp_path: Path) -> None:
    """Otherwise damage would be refused for another reason than the damage."""
    for data in READERS[name].seeds():
        READERS[name].read(data, tmp_path)


def test_a_fault_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes, folder: Path) -> None:
        if data == b"refused":
            raise InputError("x: no")
        raise {b"bug": KeyError, b"memory": MemoryError}[data]

    monkeypatch.setitem(READERS, "broken", READERS["records"]._replace(read=read))
    assert fault_of("broken", b"refused", tmp_path) == ""
    assert "KeyError" in fault_of("broken", b"bug", tmp_path)
    assert "MB" in fault_of("broken", b"memory", tmp_path)


def test_inputs_follow_from_the_seed() -> None:
    data = json.dumps({"a": [1, "b", {"c": None}]}).encode()
    made = [mutate(data, data, Random(number)) for number in range(300)]
    assert made == [mutate(data, data, Random(number)) for number in range(300)]
    assert len(set(made)) > 150
    for mutation in MUTATIONS:
        assert isinstance(mutation(b"", b"", Random(1)), bytes)
