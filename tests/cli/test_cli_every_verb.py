"""Every verb on a pseudo terminal, as a person runs it: it does its work, and leaves the terminal
with a whole last line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import numpy as np
import onnx_graphs as graphs
import pytest
from scenes import draw, every_shape
from terminal_process import TerminalProcess
from thinned import LARGE, only_if

from handglass.cli.main import GROUPS, VERBS, execute

pytest.importorskip("tvm", reason="compiles what the verbs work on")
from some_records import RECORD

from handglass.compiler.build_graph import compile_graph
from handglass.compiler.records.journal import append

pytestmark = pytest.mark.compiler
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DEMO = EXAMPLES / "demo-checkpoint"
PICTURE = EXAMPLES / "pictures" / "scene-4132-0.png"
SHIPPED = next((ROOT / "schedules" / "records").glob("*.jsonl"))
CAPTION = "A big yellow circle and a big purple square."
SECONDS = 120.0
"""How long any verb may take. It is several times what the slowest one takes."""


@dataclass(frozen=True)
class Case:
    """A verb that does its work.

    Attributes:
        words: Its flags. Names in braces are fixtures; a tilde stands for a space.
        shown: What must appear.
        typed: What is typed, after the text that it waits for.
        is_slow: Whether only `make test-large` runs it.
    """

    words: str
    shown: str
    typed: tuple[tuple[str, str], ...] = ()
    is_slow: bool = False


READY = ("leave (or Ctrl-D)", "")
"""The end of the list of commands, above the first prompt: an answer may have "> ", too."""
CASES = {
    "quickstart": Case(
        "{small_checkpoint} --no-verify --quantization f32",
        "/image",
        (READY, ("\n> ", "\x04")),
        is_slow=True,
    ),
    "doctor": Case("{demo_bundle}", "runtime"),
    "targets": Case("", "raspberry-pi-5"),
    "models": Case("", "MiniCPM-V 4.6"),
    "compile": Case(
        "-m {small_checkpoint} -o {home}/made --quantization f32", "to ask it: ", is_slow=True
    ),
    "tune": Case(
        "-m {small_checkpoint} --trials 2 --kernel causal_attention1", "records for ", is_slow=True
    ),
    "inspect": Case("{demo_bundle}", "encode_image"),
    "run": Case(f"-m {{demo_bundle}} --image {PICTURE} -p What~is~this~picture?", CAPTION),
    "chat": Case(
        "-m {demo_bundle} --preview off",
        CAPTION,
        (
            READY,
            ("\n> ", f"/image {PICTURE}\r"),
            ("shown with the next question", ""),
            ("\n> ", "What is this picture?\r"),
            (CAPTION, ""),
            ("\n> ", "/exit\r"),
        ),
    ),
    "serve": Case(
        "{demo_bundle} {search_bundle} --port 0", "draining", (("serve on http", "\x03"),)
    ),
    "embed": Case("{search_bundle} --text star", "embedding"),
    "classify": Case("{search_bundle} --image {drawings}/a.png --label a~big~star", "%"),
    "index": Case("{search_bundle} {drawings} -o {home}/index", "2 pictures: 2 new"),
    "search": Case("{drawings_index} a~big~red~star", "a.png"),
    "apply": Case("{graph_bundle} --input x={graph_input}", "output"),
    "verify": Case(
        f"{{demo_bundle}} --reference {DEMO}", "every stage meets its floor", is_slow=True
    ),
    "bench": Case("{demo_bundle} --quick --samples 1", "tg64@0", is_slow=True),
    "report": Case("{demo_bundle} --quick --samples 1 -o {home}/r.html", "wrote ", is_slow=True),
    "deploy": Case("{demo_bundle} --to {home}/there -p Hi", "to use it on the device"),
    "device serve": Case("--port 0", "stopped", (("--rpc 127.0.0.1:", ""), ("\n", "\x03"))),
    "records list": Case("", RECORD.id[:12]),
    "records check": Case(f"{SHIPPED}", "0 lines refused"),
    "records export": Case("-o {home}/mine.jsonl --target x86-64-v3", "1 records for x86-64-v3"),
    "records import": Case(
        "{records} -m {small_checkpoint} --target x86-64-v3", "0 of 1 records", is_slow=True
    ),
}
OFFLINE = {name: case for name, case in CASES.items() if name != "deploy"}
DEPLOY = pytest.param("deploy", marks=[LARGE, pytest.mark.network])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's folder, where a record of theirs is kept."""
    append(tmp_path / "handglass" / "records" / "x86-64-v3.jsonl", RECORD)
    return tmp_path


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A record of a kernel that no model has."""
    path = tmp_path / "from-elsewhere.jsonl"
    append(path, RECORD)
    return path


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    for name, shape in (("a", "big red star"), ("b", "small blue circle")):
        draw(every_shape()[shape], 112).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def drawings_index(search_bundle: Path, drawings: Path) -> Path:
    path = drawings.with_name(f"{drawings.name}-index")
    assert execute(["index", str(search_bundle), str(drawings), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def graph_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    compile_graph(graphs.saved(graphs.encoder(), folder / "layer.onnx"), folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def graph_input(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.ones((graphs.BATCH, graphs.N, graphs.WIDTH), np.float32))
    return tmp_path / "x.npy"


@pytest.fixture
def words(verb: str, request: pytest.FixtureRequest) -> list[str]:
    """The command line, with the paths of the fixtures that it names."""
    text = CASES[verb].words
    names = {name for _, name, _, _ in Formatter().parse(text) if name}
    filled = text.format(**{name: request.getfixturevalue(name) for name in names})
    return [*verb.split(), *(word.replace("~", " ") for word in filled.split())]


@pytest.fixture
def terminal(home: Path, words: list[str]) -> Iterator[TerminalProcess]:
    folders = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), str(home))
    own = {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "handglass.cli.main", *words]
    started = TerminalProcess(command, {**os.environ, **folders, **own}, home)
    yield started
    started.close()


def test_no_verb_is_missing() -> None:
    grouped = {f"{group} {name}" for group, (_, verbs) in GROUPS.items() for name in verbs}
    assert CASES.keys() == VERBS.keys() | grouped


@pytest.mark.parametrize("verb", [*only_if(lambda verb: not CASES[verb].is_slow, OFFLINE), DEPLOY])
def test_a_verb_on_a_terminal(verb: str, terminal: TerminalProcess) -> None:
    case, seen = CASES[verb], ""
    for text, answer in case.typed:
        seen += terminal.until(text, seconds=SECONDS) + text
        terminal.write(answer)
    seen += terminal.rest(SECONDS)
    assert terminal.close() == 0, seen[-2000:]
    assert case.shown in seen and "Traceback" not in seen, seen[-2000:]
    assert seen.endswith("\n") and seen.count("\x1b[?25l") == seen.count("\x1b[?25h")
