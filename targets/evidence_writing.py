"""Adds evidence to a target, for tests that passed and benchmarks that completed.

The CPU, the version of an emulator and the revision of the source are read from the machine, not
supplied by the caller.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from functools import lru_cache
from pathlib import Path

from handglass.errors import InputError
from handglass.runtime.system.hardware import read, read_machine

from .evidence import FOLDER, NAME, Entry, Evidence, check_entry, parse_evidence, read_evidence


def entry_of(
    what: str,
    by: str,
    *,
    on: str | None = None,
    emulator: Sequence[str] = (),
    emulated_instructions: bool = False,
    timed: bool = False,
) -> Entry:
    """An entry for a run today on this machine. Raises InputError for invalid values.

    `on`: only if it did not run on the CPU. `emulator`: its command line without the program.
    """
    entry = Entry(
        what=what,
        by=by,
        on=on or cpu_name(),
        emulator=emulator_name(emulator) if emulator else None,
        emulated_instructions=emulated_instructions,
        timed=timed,
        date=date.today().isoformat(),
        revision=revision(),
    )
    check_entry(entry, f"evidence by {by}")
    return entry


def add_entry(target: str, entry: Entry, folder: Path = FOLDER) -> Path:
    """Add an entry to the evidence of `target`, replacing one with the same key. Returns the file.

    Raises InputError for an invalid target name.
    """
    if not re.fullmatch(NAME, target):
        raise InputError(f"evidence: {target!r:.100} is not the name of a target")
    others = [e for e in read_evidence(target, folder).entries if e.key != entry.key]
    entries = sorted([*others, entry], key=lambda e: e.key)
    data = [asdict(e) for e in entries]
    file = folder / f"{target}.json"
    assert parse_evidence(data, str(file)) == Evidence(tuple(entries))
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{target}.part"
    part.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
    part.replace(file)
    return file


@lru_cache
def cpu_name() -> str:
    """The CPU model, on x86 with family and model number: clouds share names across generations."""
    numbers = [
        re.search(rf"^{key}\s*:\s*(\d+)$", read("/proc/cpuinfo"), re.MULTILINE)
        for key in ("cpu family", "model")
    ]
    family, model = (found[1] if found else "" for found in numbers)
    name = read_machine().model
    return f"{name} (family {family}, model {model})" if family and model else name


def emulator_name(command: Sequence[str]) -> str:
    """Program, version and options of an emulator: "qemu-aarch64 7.2.22 -cpu cortex-a76"."""
    program, *options = command
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"\d+(\.\d+)+", done.stdout)
    if version is None:
        raise InputError(f"no version number in {program} --version: {done.stdout!r:.100}")
    return " ".join([Path(program).name, version[0], *options])


@lru_cache
def revision() -> str | None:
    """The git revision; modified evidence files do not make it dirty."""
    head = _git("rev-parse", "--short", "HEAD")
    others = (":/", ":(top,exclude,glob)**/evidence/*.json")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", *others)
    return f"{head}-dirty" if head and changes else head or None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
