"""`handglass-native serve` under test, and libraries for it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from device_caller import Caller

KEY = "a key of the tests, 0123456789abcdef"
ENTRY = "int __tvm_ffi_{name}(void* self, const void* arguments, int count, void* result) {body}"
# In TVM's calling convention an argument is {int32 type, int32, pointer}; a tensor is an object
# with a header of 24 bytes, followed by its data pointer.
DATA = "(*(float**)(((char**)arguments)[2 * {n} + 1] + 24))"
CANDIDATES = {
    "copy": f"{{ for (int i = 0; i < 8; ++i) {DATA.format(n=1)}[i] = {DATA.format(n=0)}[i];"
    " return 0; }",
    "touch": f"{{ {DATA.format(n=0)}[0] += 1; return 0; }}",
    "nan": f'{{ {DATA.format(n=1)}[3] = __builtin_nanf(""); return 0; }}',
    "segfault": "{ *(volatile int*)8 = 1; return 0; }",
    "illegal": '{ __asm__ volatile (".inst 0" ); return 0; }',
    "forever": "{ volatile int on = 1; while (on) {} return 0; }",
}
NORMAL = {"kind": "normal", "scale": 1.0}
PAIR = [{"shape": [8], "dtype": "float32", "fill": NORMAL}] * 2


@cache
def library(machine: str, source: str, folder: Path) -> bytes:
    """A shared library that does not use libc, like compiled models."""
    pytest.importorskip("ziglang", reason="no ziglang, which is large: make test-native")
    if machine == "x86_64":
        source = source.replace(".inst 0", "ud2")
    name = hashlib.sha256(source.encode()).hexdigest()[:12]
    file, made = folder / f"{name}.c", folder / f"{name}-{machine}.so"
    file.write_text(source)
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-none"]
    flags = ["-shared", "-nostdlib", "-O1", "-fno-sanitize=undefined", "-w"]
    subprocess.run([*zig, *flags, str(file), "-o", str(made)], check=True)
    return made.read_bytes()


@dataclass(frozen=True)
class Server:
    machine: str
    port: int
    folder: Path
    process: subprocess.Popen[str]

    def open(self) -> Caller:
        caller = Caller(self.port)
        answer = caller.greet(KEY)
        assert answer["ok"], answer
        return caller

    def previous(self) -> str | None:
        """How the last session ended, as reported to the next one."""
        with Caller(self.port) as caller:
            description: str | None = caller.greet(KEY)["previous"]
            return description

    def candidates(self) -> bytes:
        names = "\n".join(ENTRY.format(name=n, body=b) for n, b in CANDIDATES.items())
        return library(self.machine, names, self.folder.parent)


def refused(answer: dict[str, Any], kind: str, words: str) -> None:
    assert answer["ok"] is False and answer["kind"] == kind and words in answer["error"], answer


def measure(caller: Caller, function: str, deadline_s: float = 60) -> dict[str, Any]:
    fields: dict[str, Any] = {"library": "c", "function": function, "arguments": "x"}
    return caller.ask("measure", deadline_s, **fields, number=10, samples=3)


def compare(caller: Caller, function: str, seed: int = 0) -> list[dict[str, Any]]:
    fields: dict[str, Any] = {"reference": "c", "candidate": "d", "function": function}
    fields["arguments"] = "x"
    answer = caller.ask("compare", **fields, seed=seed)
    assert answer["ok"], answer
    rows: list[dict[str, Any]] = answer["items"]
    return rows
