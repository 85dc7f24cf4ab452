"""The first question to a device: its files, its command, and how to parse the answer.

Python on the device takes the question as it is. The native runner handles neither text nor images:
this machine converts them to numbers, and the runner's numbers to text.
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
ABOUT_PICTURES = "What is this picture?"


@dataclass(frozen=True)
class Question:
    """A question; `command` is for users to type in the device's folder, `script` runs it."""

    files: tuple[Item, ...]
    command: str
    script: str
    read: Callable[[str, Done], dict[str, Any]]
    """(where, result of the script) -> text, tokens, timings; raises DeviceError on failure."""


def first_prompt(prompt: str | None, images: Sequence[Path]) -> str:
    """What to ask if the user does not say."""
    return prompt or (ABOUT_PICTURES if images else "Hello")


def python_question(prompt: str, images: Sequence[Path]) -> Question:
    """A question for Python."""
    files = sent_pictures(images)
    flags = [word for item in files for word in ("--image", item.name)]
    command = "./ask " + join(["-p", prompt, *flags])
    return Question(files, command, f"{command} --json", _read_json)


def sent_pictures(images: Sequence[Path]) -> tuple[Item, ...]:
    """The files of images, renamed to numbers: their names may be invalid there."""
    names = [f"{PICTURES}/{n + 1}{_suffix(image)}" for n, image in enumerate(images)]
    return tuple(Item.of(name, image) for name, image in zip(names, images, strict=True))


def _suffix(image: Path) -> str:
    return image.suffix.lower() if image.suffix[1:].isalnum() else ""


def _read_json(where: str, done: Done) -> dict[str, Any]:
    if not done.out.startswith("{"):
        raise failed(where, "asking a question", done)
    answer: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    if "error" in answer:
        raise DeviceError(f"{where}: {answer['error']['message']}")
    return answer


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
    """The output of `targets/linking/native.py`: the program and the licences of its parts.

    Raises InputError if the program is missing.
    """
    if not (folder / RUNNER).is_file():
        raise InputError(f"{folder}: no native runner, {RUNNER} is missing")
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        Item.of(f"{NATIVE}/{path.relative_to(folder).as_posix()}", path, path.name == RUNNER)
        for path in found
    )
