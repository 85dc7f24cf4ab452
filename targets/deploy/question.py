"""The first question to a device: the files that it takes, the command, and how to read the answer.

A Python there takes the question as it is. The native runner knows neither text nor pictures: they
are made into numbers here, and its numbers into text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import join
from typing import Any

from handglass.errors import DeviceError, InputError

from .push import Item
from .start import BUNDLE, NATIVE, RUNNER
from .transport import Done, failed

PICTURES, REQUEST = "pictures", "request"


@dataclass(frozen=True)
class Question:
    """`command` is what a person types in the device's folder; `script` is run for them."""

    files: tuple[Item, ...]
    command: str
    script: str
    read: Callable[[str, Done], dict[str, Any]]
    """(where, what the script left) -> text, tokens, timings; DeviceError if it has failed."""


def python_question(prompt: str, images: Sequence[Path]) -> Question:
    """Pictures travel by number: what a person calls a file may be no name for a device."""
    names = [f"{PICTURES}/{n + 1}{_suffix(image)}" for n, image in enumerate(images)]
    files = tuple(Item.of(name, image) for name, image in zip(names, images, strict=True))
    flags = [word for name in names for word in ("--image", name)]
    command = "./ask " + join(["-p", prompt, *flags])
    return Question(files, command, f"{command} --json", _read_json)


def _suffix(image: Path) -> str:
    return image.suffix.lower() if image.suffix[1:].isalnum() else ""


def _read_json(where: str, done: Done) -> dict[str, Any]:
    if not done.out.startswith("{"):
        raise failed(where, "asking a question", done)
    told: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    if "error" in told:
        raise DeviceError(f"{where}: {told['error']['message']}")
    return told


def native_question(bundle: Path, prompt: str, images: Sequence[Path], scratch: Path) -> Question:
    from handglass.runtime.answer.native_request import RequestWriter

    writer = RequestWriter(bundle)
    written = writer.write(scratch / REQUEST, prompt, [str(image) for image in images])
    files = [Item.of(f"{REQUEST}/{path.name}", path) for path in (written.request, *written.tiles)]
    pixels = [word for item in files[1:] for word in ("--pixels", item.name)]
    command = join([f"./{NATIVE}/{RUNNER}", "run", BUNDLE, "--ids", files[0].name, *pixels])

    def read(where: str, done: Done) -> dict[str, Any]:
        if done.code:
            raise failed(where, "asking a question", done)
        return asdict(writer.read(done.out.splitlines()))

    return Question(tuple(files), command, command, read)


def native_files(folder: Path) -> tuple[Item, ...]:
    """What `targets/linking/native.py` built: the program and the licences of what is in it."""
    if not (folder / RUNNER).is_file():
        raise InputError(f"{folder}: no native runner, {RUNNER} is missing")
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        Item.of(f"{NATIVE}/{path.relative_to(folder).as_posix()}", path, path.name == RUNNER)
        for path in found
    )
