"""Pictures in a terminal: each code is decoded again, and each kind of terminal gets its own."""

import base64
import io
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from terminal_process import TerminalProcess

from handglass.cli import picture_codes, preview


def stripes(width: int = 12, height: int = 8) -> Image.Image:
    """Four pure colours, which every code has exactly."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    rows, columns = np.indices((height, width))
    return Image.fromarray(colours[(rows // 3 + columns // 2) % 4])


def same(a: object, b: object) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def test_kitty_gets_a_png_in_chunks() -> None:
    noise = Image.effect_noise((90, 60), 80).convert("RGB")
    for picture in (stripes(), noise):
        text = picture_codes.kitty(picture, 20, 7)
        parts = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", text)
        assert "".join(f"\x1b_G{k};{d}\x1b\\" for k, d in parts) + "\n" == text
        assert parts[0][0].startswith("a=T,f=100,q=2,c=20,r=7,m=")
        assert [keys[-3:] for keys, _ in parts] == ["m=1"] * (len(parts) - 1) + ["m=0"]
        assert max(len(data) for _, data in parts) <= 4096
        sent = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in parts))))
        assert same(sent, picture)
    assert len(parts) > 1


def test_iterm_gets_a_png_with_its_size() -> None:
    match = re.fullmatch(
        "\x1b]1337;File=([^:]*):([^\x07]*)\x07\n", picture_codes.iterm(stripes(), 20, 7)
    )
    assert match is not None
    data = base64.b64decode(match[2])
    assert f"inline=1;size={len(data)};width=20;height=7" in match[1]
    assert same(Image.open(io.BytesIO(data)), stripes())


def drawn_sixels(text: str) -> np.ndarray:
    """The picture that a terminal draws of sixels, (h, w, 3) uint8."""
    match = re.fullmatch('\x1bP0;1q"1;1;(\\d+);(\\d+)(.*)\x1b\\\\\n', text)
    assert match is not None
    width, height = int(match[1]), int(match[2])
    canvas = np.zeros((-(-height // 6) * 6, width, 3), np.uint8)
    palette: dict[int, tuple[int, ...]] = {}
    x, top, colour = 0, 0, 0
    for code in re.finditer(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|([-$])|(.)", match[3]):
        number, red, green, blue, count, repeated, move, single = code.groups()
        if red is not None:
            palette[int(number)] = tuple(round(int(c) * 2.55) for c in (red, green, blue))
        elif number is not None:
            colour = int(number)
        elif move:
            x, top = 0, top + 6 * (move == "-")
        else:
            bits, times = ord(repeated or single) - 63, int(count or 1)
            for bit in range(6):
                if bits >> bit & 1:
                    canvas[top + bit, x : x + times] = palette[colour]
            x += times
    return canvas[:height]


@pytest.mark.parametrize("size", [(12, 8), (1, 1), (31, 13)])
def test_sixels_draw_the_picture(size: tuple[int, int]) -> None:
    assert same(drawn_sixels(picture_codes.sixel(stripes(*size))), stripes(*size))


def drawn_blocks(text: str) -> np.ndarray:
    """The picture that a terminal draws of half blocks, by pairs of rows."""
    rows = []
    for line in text.removesuffix("\n").split("\n"):
        cells = re.findall("\x1b\\[38;([\\d;]+?);48;([\\d;]+)m▀", line)
        assert "".join(f"\x1b[38;{a};48;{b}m▀" for a, b in cells) + "\x1b[0m" == line
        rows += [[shown(above) for above, _ in cells], [shown(below) for _, below in cells]]
    return np.array(rows, np.uint8)


def shown(code: str) -> list[int]:
    kind, *parts = map(int, code.split(";"))
    if kind == 2:
        return parts
    number = parts[0] - 16
    return [[0, 95, 135, 175, 215, 255][number // d % 6] for d in (36, 6, 1)]


@pytest.mark.parametrize("is_true_colour", [True, False])
def test_blocks_draw_the_picture(is_true_colour: bool) -> None:
    picture = stripes(9, 7)
    found = drawn_blocks(picture_codes.blocks(picture, is_true_colour))
    assert np.array_equal(found, np.concatenate([picture, np.asarray(picture)[-1:]]))


TERMINALS = {
    "kitty": ({"TERM": "xterm-kitty"}, "kitty"),
    "ghostty": ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
    "iTerm2": ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
    "WezTerm": ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
    "kitty in tmux": ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1", "TMUX": "x"}, "blocks"),
    "colours": ({"TERM": "xterm-256color"}, "blocks"),
    "true colours": ({"TERM": "xterm", "COLORTERM": "truecolor"}, "blocks"),
    "no colours": ({"TERM": "xterm"}, "off"),
    "dumb": ({"TERM": "dumb", "COLORTERM": "truecolor"}, "off"),
    "none wanted": ({"TERM": "xterm-kitty", "NO_COLOR": ""}, "off"),
    "nothing": ({}, "off"),
}


@pytest.mark.parametrize("name", TERMINALS)
def test_the_best_way_of_each_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    environment, way = TERMINALS[name]
    assert preview.best_way(environment) == way


def test_nothing_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    for way in preview.WAYS:
        preview.Preview(way).show(stripes())
    assert capsys.readouterr() == ("", "")


def test_sides_stay_in_proportion() -> None:
    assert preview.cells((400, 100), 0.5) == (44, 6)
    assert preview.cells((100, 400), 0.5) == (7, 14)
    assert preview.cells((1, 9000), 0.5) == (1, 14)


CHATS = """
import sys
sys.path[:0] = sys.argv[1].split(":")
import handglass
from cli_model import FakeModel
from handglass.cli.main import main
handglass.load = lambda *_, **__: FakeModel()
sys.argv = ["handglass", "chat", "-m", "bundle"]
main()
"""


def chat_on_a_terminal(picture: Path, attributes: str) -> TerminalProcess:
    """A chat in which a picture's path was entered; `attributes`: what the terminal says it is."""
    names = ("TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM", "COLORTERM", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", CHATS, f"{support}:{Path(__file__).parents[2]}"]
    chat = TerminalProcess(command, {**kept, "TERM": "xterm-256color"}, attributes=attributes)
    chat.resize(100)
    chat.until("Ctrl-D)")
    chat.until("\n> ")
    chat.write(f"{picture}\r")
    return chat


@pytest.mark.parametrize(
    ("attributes", "code"), [("\x1b[?62;4;22c", "\x1bP0;1q"), ("\x1b[?6c", "▀")]
)
def test_a_terminal_is_asked_whether_it_draws_sixels(
    attributes: str, code: str, tmp_path: Path
) -> None:
    path = tmp_path / "stripes.png"
    stripes(80, 40).save(path)
    chat = chat_on_a_terminal(path, attributes)
    seen = chat.until("shown with the next question")
    chat.close()
    assert code in seen
    assert chat.asked == 1 and attributes not in seen.replace("^[", "\x1b")
