"""Checks the imports of every file of the package against the table in docs/rooms.md."""

import ast
import re
import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "handglass"
FOLDERS = ("cli", "compiler", "schedules", "targets", "runtime")
FREE = ("handglass", "handglass.__version__", "handglass.errors")
"""Modules that every room may import; the bare package imports nothing itself."""


@dataclass(frozen=True)
class Room:
    """A row of the table; names start with `handglass.`."""

    rooms: tuple[str, ...]
    packages: frozenset[str]


def full_name(name: str) -> str:
    return name if name.split(".")[0] == "handglass" else f"handglass.{name}"


def read_rooms() -> dict[str, Room]:
    rooms = {}
    for line in (ROOT / "docs" / "rooms.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            names = (full_name(name) for name in re.findall("`([^`]+)`", cells[1]))
            rooms[full_name(cells[0].strip("`"))] = Room(tuple(names), frozenset(cells[2].split()))
    return rooms


ROOMS = read_rooms()


def room_of(module: str) -> str:
    """The room of a module: the one with the longest matching name."""
    found = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    return max(found, key=len)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, Path]:
    files = [path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py")]
    return {module_of(path): path for path in sorted([*PACKAGE.glob("*.py"), *files])}


MODULES = sources()


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of each import, including those inside functions."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, node.module] if node.module else base)
            for alias in node.names:
                yield node.lineno, f"{start}.{alias.name}"


def is_allowed(name: str, room: str) -> bool:
    top = name.split(".")[0]
    if top != "handglass":
        return top in ROOMS[room].packages or top in sys.stdlib_module_names
    if name in FREE or name.startswith("handglass.errors."):
        return room != "handglass.schedules" or name == "handglass"
    other = room_of(name)
    if other == room:
        return True
    return any(_covers(name, other) for name in ROOMS[room].rooms)


def _covers(name: str, room: str) -> bool:
    base = name.removesuffix(".*")
    return room == base or (name != base and room.startswith(f"{base}."))


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_table(module: str) -> None:
    path = MODULES[module]
    room = room_of(module)
    found = imports(path.read_text("utf-8"), module, path.name == "__init__.py")
    wrong = [f"line {line}: {name}" for line, name in found if not is_allowed(name, room)]
    assert not wrong, f"{module} (room {room}) may not import: {'; '.join(wrong)}"


def test_every_room_exists() -> None:
    assert len(ROOMS) > 20
    named = {name.removesuffix(".*") for room in ROOMS.values() for name in room.rooms}
    assert {name for name in named - ROOMS.keys() if name not in known_folders()} == set()
    assert ROOMS.keys() <= MODULES.keys()


def known_folders() -> set[str]:
    return {f"handglass.{folder}" for folder in FOLDERS}


def test_there_are_no_import_cycles() -> None:
    graph = {module: set(ours(module)) for module in MODULES}
    while leaves := [module for module, needed in graph.items() if not needed & graph.keys()]:
        for module in leaves:
            del graph[module]
    needed_by = {other for needed in graph.values() for other in needed}
    assert not graph.keys() & needed_by, f"import cycles: {sorted(graph.keys() & needed_by)}"


def ours(module: str) -> Iterator[str]:
    """Yield the modules of this package that a module imports."""
    path = MODULES[module]
    for _, name in imports(path.read_text("utf-8"), module, path.name == "__init__.py"):
        found = name if name in MODULES else name.rpartition(".")[0]
        # The bare package resolves its names lazily.
        if found in MODULES and found not in (module, "handglass"):
            yield found


def room_imports() -> dict[str, set[str]]:
    """The other rooms imported by the files of each room, without the command line."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS if room != "handglass.cli"}
    for module in MODULES:
        if (room := room_of(module)) in found:
            found[room] |= {other for other in map(room_of, ours(module)) if other != room}
    found["handglass"].discard("handglass")
    return {room: others & found.keys() - {"handglass"} for room, others in found.items()}


def test_the_rooms_diagram_is_up_to_date() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_rooms.py"))["draw"](room_imports())
    assert (ROOT / "docs" / "rooms.svg").read_text("utf-8") == drawn, "run docs/draw_rooms.py"


@pytest.mark.parametrize(
    ("module", "source", "allowed"),
    [
        ("runtime.engine.x", "import tvm", False),
        ("runtime.engine.x", "def f():\n    import torch", False),
        ("runtime.engine.x", "from handglass.compiler.build import compile_model", False),
        ("runtime.engine.x", "from handglass import compiler", False),
        ("runtime.engine.x", "from ... import compiler", False),
        ("runtime.engine.x", "from ..prompt.preprocess import Pixels", False),
        ("runtime.engine.x", "from ..bundle.reader import Bundle\nimport json", True),
        ("runtime.bundle.x", "from ..execution import placement", False),
        ("runtime.bundle.x", "from ... import errors", True),
        ("compiler.tuning.x", "from ..build import compile_model", False),
        ("compiler.x", "from handglass.runtime.bundle.reader import Bundle", True),
        ("compiler.x", "from handglass.runtime.answer.model import Model", False),
        ("compiler.x", "from handglass.cli import main", False),
        ("compiler.x", "import handglass", True),
        ("compiler.x", "from handglass import load", False),
        ("compiler.ops.x", "from ..schemes import quantize", False),
        ("targets.x", "from handglass.schedules import CPU_RULES", True),
        ("targets.x", "from handglass.runtime.system.hardware import read_machine", True),
        ("targets.x", "from .deploy import ssh", False),
        ("targets.deploy.x", "from handglass.runtime.bundle.reader import Bundle", True),
        ("targets.deploy.x", "from ..table import find_target", False),
        ("targets.x", "from handglass.runtime.engine.session import Session", False),
        ("schedules.x", "from handglass.targets import known_targets", False),
        ("schedules.x", "import tvm.tirx", True),
    ],
)
def test_allowed_and_forbidden_imports(module: str, source: str, allowed: bool) -> None:
    module = f"handglass.{module}"
    found = imports(source, module, is_package=False)
    assert all(is_allowed(name, room_of(module)) for _, name in found) is allowed
