"""Counting instructions under an emulator: the shared file, and servers that do not count.

The counts themselves: test_arm_device.py.
"""

import struct
from pathlib import Path
from typing import Any

import pytest
from device_library import SCALED, library

from handglass.errors import DeviceError, InputError, MismatchError, UsageError
from handglass.runtime.execution.instruction_counter import InstructionCounter, code_spans
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.local import Endpoint
from handglass.runtime.remote.serving import Options, serve


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A file as the plug-in makes it."""
    file = tmp_path / "count"
    file.write_bytes(bytes(24))
    return file


def add(file: Path, count: int) -> None:
    """What the plug-in does while the code in the range runs."""
    with file.open("r+b") as opened:
        _, _, before = struct.unpack("<QQQ", opened.read())
        opened.seek(16)
        opened.write(struct.pack("<Q", before + count))


def test_a_count_begins_at_zero_and_names_the_code(shared: Path) -> None:
    counter = InstructionCounter(shared)
    for count in (5, 1 << 40):
        assert counter.count((0x1000, 64), lambda: add(shared, count)) == count  # noqa: B023
    assert struct.unpack("<QQ", shared.read_bytes()[:16]) == (0x1000, 64)


def test_no_plug_in_is_told(shared: Path) -> None:
    with pytest.raises(DeviceError, match="without its plug-in"):
        InstructionCounter(shared).count((0, 1), lambda: None)


@pytest.mark.parametrize("content", [None, b"", b"short"])
def test_another_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "count").write_bytes(content)
    with pytest.raises(InputError, match=r"--counter .*count"):
        InstructionCounter(tmp_path / "count")


def test_code_is_that_of_files_which_may_be_executed(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(
        "5500801000-5500803000 r-xp 00001000 00:01 7      /memfd:k1.so (deleted)\n"
        "5500803000-5500804000 r--p 00003000 00:01 7      /memfd:k1.so (deleted)\n"
        "7f0000000000-7f0000001000 rwxp 00000000 00:00 0\n"
        "7f0000002000-7f0000003000 r-xp 00000000 08:01 9  /usr/lib/libm.so.6\n"
    )
    assert code_spans(maps) == {(0x5500801000, 0x2000), (0x7F0000002000, 0x1000)}
    assert code_spans(tmp_path / "none") == frozenset()


def test_counting_takes_one_thread(shared: Path) -> None:
    with pytest.raises(UsageError, match="one thread"):
        serve(Options(port=0, threads=2, counter=shared), lambda started: None)


def test_a_server_without_a_counter_says_so(device: Endpoint) -> None:
    with DeviceClient(*device) as client:
        assert not client.describe().counts_instructions
        client.put("right", library())
        client.load("right")
        client.arguments("xyk", SCALED)
        with pytest.raises(MismatchError, match="--counter"):
            client.count("right", "scale", "xyk", number=1, samples=1)


@pytest.mark.parametrize("measure", ["time", "instruction"])
def test_an_unknown_measure_is_refused(measure: str, handglass: Any, tmp_path: Path) -> None:
    pytest.importorskip("tvm", reason="the tuner is part of the compiler")
    result = handglass("tune", "-m", tmp_path, "--measure", measure)
    assert result.code == 2 and "seconds, instructions" in result.err
