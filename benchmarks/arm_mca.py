"""Models the cycles per iteration of a loop with llvm-mca, for cores that are not available.

The cores are big and little ones for which LLVM has a pipeline model. For Cortex-A76 and A78 it
uses that of Cortex-A57, so Neoverse N1 and N2 represent those, and A710 and X2.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from arm_emulator import MissingToolError, tool

from handglass.targets.codegen.llvm.assembly import Loop, hot_loops

CORES = ("neoverse-n1", "neoverse-n2", "cortex-a510", "cortex-a55")
WITHOUT_I8MM = ("neoverse-n1", "cortex-a55")
OLDEST = 16
"""The first LLVM version with models of the cores above."""


def find_mca() -> str:
    """The newest installed llvm-mca."""
    for version in range(30, OLDEST - 1, -1):
        if found := shutil.which(f"llvm-mca-{version}"):
            return found
    if found := shutil.which("llvm-mca"):
        version = int(re.search(r"version (\d+)", mca_version(found))[1])  # type: ignore[index]
        if version >= OLDEST:
            return found
    raise MissingToolError(f"llvm-mca {OLDEST} or newer is not installed: apt-get install llvm-19")


def mca_version(mca: str) -> str:
    lines = subprocess.run([mca, "--version"], capture_output=True, text=True).stdout.splitlines()
    return next(line.strip() for line in lines if "version" in line)


def cycles(mca: str, loop: Loop, core: str, iterations: int = 200) -> float:
    """Steady-state cycles per iteration: the difference between 2 N and N iterations, over N."""
    text = f"{loop.label}:\n" + "\n".join(loop.instructions) + "\n"
    totals = []
    for count in (iterations, 2 * iterations):
        command = [mca, "-mtriple=aarch64", f"-mcpu={core}", "-mattr=+i8mm,+dotprod,+fullfp16"]
        done = subprocess.run(
            [*command, f"-iterations={count}"], input=text, capture_output=True, text=True
        )
        found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
        assert found, done.stderr
        totals.append(int(found[1]))
    return (totals[1] - totals[0]) / iterations


def on_cores(mca: str, loop: Loop) -> dict[str, float | None]:
    """Cycles per iteration by core; None for a core that lacks the loop's instructions."""
    paired = loop.count("smmla") > 0
    return {
        core: None if paired and core in WITHOUT_I8MM else cycles(mca, loop, core) for core in CORES
    }


def disassembled(path: Path, function: str) -> str:
    """Disassemble a function of an object file, in the form that `innermost_loops` reads."""
    command = [tool("aarch64-linux-gnu-objdump"), "-d", "--no-show-raw-insn"]
    command += [f"--disassemble={function}", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = []
    for address, rest in re.findall(r"^\s+([0-9a-f]+):\t(.*)$", text, re.MULTILINE):
        target = re.sub(r"\b([0-9a-f]+) <[^>]*>$", r"L\1", rest.split("//")[0].strip())
        lines += [f"L{address}:", f"\t{target}"]
    return "\n".join(lines)


def hottest(text: str, name: str) -> Loop:
    """The innermost loop with the most instructions `name`."""
    found = hot_loops(text, name)
    assert found, f"no loop has {name}"
    return found[0]
