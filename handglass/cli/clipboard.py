"""The picture in the clipboard of the desktop, read by the program that each kind of desktop has.

A file manager puts the names of files there instead of pixels: those are found too.
"""

from __future__ import annotations

import base64
import binascii
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from handglass.errors import DeviceError, InputError
from handglass.runtime.prompt.pictures.limits import FILE_BYTES

from .picture_paths import entered_pictures

TYPES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff")
"""Of pictures that are read, best first."""
FILES = "text/uri-list"
WAIT_S = 10.0
HOW_TO = (
    "install wl-clipboard (Wayland), xclip (X11) or pngpaste (macOS), or show a file: /image PATH"
)
_SCREENSHOT = (
    "Add-Type -AssemblyName System.Windows.Forms,System.Drawing;"
    "$i=[System.Windows.Forms.Clipboard]::GetImage();if($i){$m=New-Object IO.MemoryStream;"
    "$i.Save($m,[System.Drawing.Imaging.ImageFormat]::Png);[Convert]::ToBase64String($m.ToArray())}"
)


class Pasted(NamedTuple):
    """A picture from the clipboard: its bytes, or files that are pictures."""

    data: bytes = b""
    files: tuple[Path, ...] = ()


def pasted() -> Pasted:
    """What the clipboard shows.

    Raises DeviceError if no program that reads it is there, InputError if it has no picture.
    """
    for program, needs, read in _READERS:
        if shutil.which(program) and (not needs or needs in os.environ):
            found = read(program)
            if found is None:
                raise InputError("the clipboard holds no picture; copy one, then /paste again")
            return found
    raise DeviceError(f"the clipboard cannot be read here; {HOW_TO}")


def _by_type(
    types: Callable[[str], Sequence[str]], read: Callable[[str], Sequence[str]]
) -> Callable[[str], Pasted | None]:
    """A reader for a program that lists types and prints the content as one of them."""

    def reader(program: str) -> Pasted | None:
        offered = set(_output(types(program)).decode(errors="replace").split())
        if chosen := next((kind for kind in TYPES if kind in offered), None):
            return Pasted(_output([*read(program), chosen]))
        if FILES in offered:
            return _files(_output([*read(program), FILES]))
        return None

    return reader


def _files(listed: bytes) -> Pasted | None:
    lines = listed.decode(errors="surrogateescape").splitlines()
    files = [path for line in lines for path in entered_pictures(line.strip())]
    return Pasted(files=tuple(files)) if files else None


def _pngpaste(program: str) -> Pasted | None:
    data = _output([program, "-"])
    return Pasted(data) if data else None


def _powershell(program: str) -> Pasted | None:
    text = _output([program, "-NoProfile", "-STA", "-Command", _SCREENSHOT])
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise InputError(f"{program}: what it printed is no picture") from error
    return Pasted(data) if data else None


def _output(command: Sequence[str]) -> bytes:
    """What the command prints; empty if it fails, as these do where the clipboard is empty."""
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            return _read(process)
    except OSError as error:
        raise DeviceError(f"{command[0]}: cannot run: {error.strerror}; {HOW_TO}") from error


def _read(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    timer = threading.Timer(WAIT_S, process.kill)
    timer.start()
    try:
        data = process.stdout.read(FILE_BYTES + 1)
    finally:
        timer.cancel()
        process.kill()
    if len(data) > FILE_BYTES:
        raise InputError(f"the clipboard holds more than {FILE_BYTES} bytes; save it as a file")
    return data


_wl_paste = _by_type(lambda p: [p, "--list-types"], lambda p: [p, "--no-newline", "--type"])
_xclip = _by_type(
    lambda p: [p, "-selection", "clipboard", "-o", "-t", "TARGETS"],
    lambda p: [p, "-selection", "clipboard", "-o", "-t"],
)
_READERS: Sequence[tuple[str, str, Callable[[str], Pasted | None]]] = (
    ("wl-paste", "WAYLAND_DISPLAY", _wl_paste),
    ("xclip", "DISPLAY", _xclip),
    ("pngpaste", "", _pngpaste),
    ("powershell.exe", "", _powershell),
)
"""The program, the variable that says it has a desktop to talk to, how it is read."""
