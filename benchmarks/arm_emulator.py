"""Runs AArch64 kernels on any machine, in a static program under qemu-aarch64, and counts
instructions."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handglass.runtime.execution.instruction_counter import PLUGIN

HERE = Path(__file__).parent
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
_CODES = {"i": 0, "u": 1, "f": 2}  # DLPack type codes

Argument = np.ndarray | int


class MissingToolError(Exception):
    """A program that is missing on the host."""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingToolError(f"{name} is not installed: 'make test-arm-kernels' installs it")
    return found


@dataclass(frozen=True)
class Call:
    """A kernel and its arguments; the arrays among them are returned after the call."""

    name: str
    arguments: Sequence[Argument]


class Program:
    """An executable with all kernels of a compiled module and of the object files `others`."""

    def __init__(
        self,
        module: Any,
        names: Sequence[str],
        folder: Path,
        others: Sequence[Path | str] = (),
    ) -> None:
        compiler, self.emulator = tool(COMPILER), tool(EMULATOR)
        self.folder, self.path = folder, folder / "kernels"
        self.object = folder / "kernels.o"
        module.write_to_file(str(self.object), "o")
        table = "".join(f"X({name})" for name in names)
        command = [compiler, "-O1", "-static", f"-DKERNELS(X)={table}", HERE / "arm_harness.c"]
        command += [self.object, *others, "-lm", f"-Wl,-Map={folder / 'map'}", "-o", self.path]
        subprocess.run(list(map(str, command)), check=True)

    def run(self, cpu: str, calls: Sequence[Call], *options: str) -> list[list[np.ndarray]]:
        """Run the calls in sequence on an emulated `cpu`. Returns the arrays of each call."""
        files = []
        for n, call in enumerate(calls):
            given = self.folder / f"{n}.in"
            count = struct.pack("<i", len(call.arguments))
            given.write_bytes(count + b"".join(map(encode, call.arguments)))
            files += [call.name, str(given), str(given.with_suffix(".out"))]
        command = [self.emulator, *options, "-cpu", cpu, str(self.path), *files]
        done = subprocess.run(command, capture_output=True, text=True)
        names = ", ".join(call.name for call in calls)
        assert done.returncode == 0, f"{names} on {cpu}: exit {done.returncode}: {done.stderr}"
        results = [Path(path).read_bytes() for path in files[2::3]]
        return [decode(data, c.arguments) for data, c in zip(results, calls, strict=True)]

    def count(self, cpu: str, calls: Sequence[Call]) -> tuple[list[list[np.ndarray]], Counts]:
        """Like `run`; also returns how often each address was executed."""
        plugin, output = build_plugin(self.folder), self.folder / "counts"
        results = self.run(cpu, calls, "-plugin", f"{plugin},out={output}")
        lines = (line.split() for line in output.read_text().splitlines())
        counts = {int(address, 16): int(count) for address, count in lines}
        return results, Counts(counts, self.path, self.folder / "map")


def build_plugin(folder: Path) -> Path:
    """Compile QEMU's plug-in that counts instructions, for this machine."""
    made = folder / "qemu_counts.so"
    if made.exists() and made.stat().st_mtime > PLUGIN.stat().st_mtime:
        return made
    command = [tool("cc"), "-O2", "-shared", "-fPIC", str(PLUGIN), "-o", str(made)]
    subprocess.run(command, check=True)
    return made


@dataclass(frozen=True)
class Counts:
    """Execution counts of a linked program, by address."""

    by_address: dict[int, int]
    program: Path
    link_map: Path

    def of_object(self, path: Path) -> int:
        """Instructions executed in one object file, including its unnamed functions."""
        pattern = rf"^ \.text\S*\s+0x(\w+)\s+0x(\w+) {re.escape(str(path))}$"
        spans = re.findall(pattern, self.link_map.read_text(), re.MULTILINE)
        assert spans, f"{path} has no code in {self.link_map}"
        return sum(self._within(int(start, 16), int(size, 16)) for start, size in spans)

    def of_function(self, name: str) -> int:
        table = subprocess.run(
            [tool("aarch64-linux-gnu-nm"), "-S", str(self.program)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found = re.search(rf"^(\w+) (\w+) \w {re.escape(name)}$", table, re.MULTILINE)
        assert found, f"no function {name} in {self.program}"
        return self._within(int(found[1], 16), int(found[2], 16))

    def _within(self, start: int, size: int) -> int:
        return sum(n for at, n in self.by_address.items() if start <= at < start + size)


def encode(argument: Argument) -> bytes:
    if isinstance(argument, int):
        return struct.pack("<iq", 0, argument)
    dtype, shape = argument.dtype, argument.shape
    head = struct.pack("<4i", 1, _CODES[dtype.kind], dtype.itemsize * 8, len(shape))
    return head + struct.pack(f"<{len(shape)}q", *shape) + np.ascontiguousarray(argument).tobytes()


def decode(data: bytes, arguments: Sequence[Argument]) -> list[np.ndarray]:
    results, at = [], 0
    for array in arguments:
        if isinstance(array, np.ndarray):
            values = np.frombuffer(data, array.dtype, array.size, at)
            results.append(values.reshape(array.shape))
            at += array.nbytes
    assert at == len(data)
    return results
