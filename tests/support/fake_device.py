"""Fakes for `handglass deploy`: wheels of a few bytes, and programs named ssh and adb that run the
commands on this machine, or lose the connection on request."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from handglass.runtime.bundle.file_checks import sha256_of
from handglass.targets.deploy import wheels

# The connection is lost once, after `$FAULTS/lose` bytes of a file.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
[ "$2" = nobody ] && { echo "ssh: connect to host nobody: Connection refused" >&2; exit 255; }
cd {home} || exit 1
case "$3" in
    cat*) if [ -f {faults}/lose ]; then
              n=$(cat {faults}/lose); rm {faults}/lose; head -c "$n" | sh -c "$3"; exit 255
          fi ;;
esac
exec sh -c "$3"
"""
ADB = """#!/bin/sh
[ "$2" = phone-1 ] || {{ echo "error: device '$2' not found" >&2; exit 1; }}
case "$3" in
    shell) exec sh -c "$4" ;;
    push) if [ -f {faults}/lose ]; then
              n=$(cat {faults}/lose); rm {faults}/lose; head -c "$n" "$4" > "$5"
              echo "adb: error: failed to copy: device offline" >&2; exit 1
          fi
          cp "$4" "$5" ;;
esac
"""


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(text)
    file.chmod(0o755)
    return file


def lock_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: bytes) -> Path:
    """A folder with a wheel `extra` that contains these files, locked for every Python version."""
    folder.mkdir()
    wheel = folder / "extra-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        for name, content in (files or {"extra.py": b"here = True\n"}).items():
            opened.writestr(name, content)
        opened.writestr("extra-1.0.dist-info/METADATA", "Name: extra\nVersion: 1.0\n")
    entry = {"name": "extra", "version": "1.0", "file": wheel.name, "sha256": sha256_of(wheel)}
    pythons = {python: [entry] for python in wheels.PYTHONS}
    lock = folder / "wheels.lock.json"
    lock.write_text(json.dumps({"wheels": dict.fromkeys(wheels.ARCHITECTURES, pythons)}))
    monkeypatch.setattr(wheels, "LOCK", lock)
    return folder
