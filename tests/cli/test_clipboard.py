"""`/paste`: pictures and files from the programs of several desktops, which scripts stand for."""

import base64
import os
from pathlib import Path

import pytest
from cli_model import red_picture

from handglass.cli.clipboard import pasted
from handglass.errors import DeviceError, InputError

LISTS = """#!/bin/sh
case "$*" in
  *{list_flag}*) printf '{types}' ;;
  *image/png*) cat '{folder}/red.png' ;;
  *text/uri-list*) printf '{uri}\\r\\n' ;;
  *) echo "unexpected: $*"; exit 1 ;;
esac
"""


class Desktop:
    """A folder of programs that is the only one in PATH but for the shell's own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.picture = red_picture(folder)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        self.setenv = monkeypatch.setenv

    def program(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(script)
        path.chmod(0o700)

    def lists(self, name: str, list_flag: str, types: str) -> None:
        uri = self.picture.as_uri()
        text = LISTS.format(list_flag=list_flag, types=types, folder=self.folder, uri=uri)
        self.program(name, text)


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desktop:
    return Desktop(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "variable", "flag"),
    [("wl-paste", "WAYLAND_DISPLAY", "--list-types"), ("xclip", "DISPLAY", "TARGETS")],
)
def test_linux_desktops(name: str, variable: str, flag: str, desktop: Desktop) -> None:
    desktop.lists(name, flag, "TARGETS\\nimage/jpeg\\nimage/png\\n")
    desktop.setenv(variable, ":0")
    assert pasted().data == desktop.picture.read_bytes()
    desktop.lists(name, flag, "text/plain\\ntext/uri-list\\n")
    assert pasted().files == (desktop.picture,)
    desktop.lists(name, flag, "text/plain\\n")
    with pytest.raises(InputError, match="no picture"):
        pasted()


def test_a_mac(desktop: Desktop) -> None:
    desktop.program("pngpaste", f"#!/bin/sh\n[ \"$1\" = - ] && cat '{desktop.picture}'\n")
    assert pasted().data == desktop.picture.read_bytes()
    desktop.program("pngpaste", "#!/bin/sh\necho 'No image' >&2\nexit 1\n")
    with pytest.raises(InputError, match="no picture"):
        pasted()


def test_windows_through_its_shell(desktop: Desktop) -> None:
    text = base64.b64encode(desktop.picture.read_bytes()).decode()
    desktop.program("powershell.exe", f"#!/bin/sh\nprintf '{text}\\r\\n'\n")
    assert pasted().data == desktop.picture.read_bytes()
    desktop.program("powershell.exe", "#!/bin/sh\necho 'an error message'\n")
    with pytest.raises(InputError, match="powershell"):
        pasted()


def test_what_it_takes_is_said_where_nothing_is_there(desktop: Desktop) -> None:
    with pytest.raises(DeviceError, match=r"wl-clipboard.*xclip.*pngpaste.*/image PATH"):
        pasted()


def test_no_desktop_to_talk_to(desktop: Desktop) -> None:
    """Over ssh the programs may be there and wait for nothing."""
    desktop.program("xclip", "#!/bin/sh\nsleep 60\n")
    with pytest.raises(DeviceError, match="cannot be read here"):
        pasted()


def test_a_program_that_never_ends_or_never_stops(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handglass.cli.clipboard.WAIT_S", 0.3)
    desktop.program("pngpaste", "#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(InputError, match="no picture"):
        pasted()
    monkeypatch.setattr("handglass.cli.clipboard.FILE_BYTES", 1000)
    desktop.program("pngpaste", "#!/bin/sh\nexec cat /dev/zero\n")
    with pytest.raises(InputError, match="more than 1000 bytes"):
        pasted()
