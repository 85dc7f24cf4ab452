"""Who may import whom: every file of the package against the table in docs/architecture.md."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "handglass"
ROOMS = ("cli", "compiler", "schedules", "targets", "runtime")
BASE = {"numpy", "PIL", "tokenizers", "sentencepiece", "tvm_ffi"}
TVM = {"tvm", "tvm_ffi", "numpy", "ml_dtypes"}

# room -> (prefixes of ours that it may import, packages of others)
ALLOWED: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "cli": (("handglass",), BASE | {"typer", "click", "rich"}),
    "compiler": (
        (
            "handglass.errors",
            "handglass.compiler",
            "handglass.targets",
            "handglass.schedules",
            "handglass.runtime.bundle.bfloat16",
            "handglass.runtime.bundle.reader",
            "handglass.runtime.bundle.writer",
            "handglass.runtime.devices.device_select",
            "handglass.runtime.remote.client",
            "handglass.runtime.system.hardware",
            "handglass.runtime.execution.known_answers",
            "handglass.runtime.measure.limits",
            "handglass.runtime.system.machine",
            "handglass.runtime.bundle.manifest",
            "handglass.runtime.prompt.preprocess",
            "handglass.runtime.prompt.positions",
            "handglass.runtime.bundle.report",
            "handglass.runtime.bundle.json_dataclass",
            "handglass.runtime.bundle.tensor_writer",
            "handglass.runtime.bundle.tensors",
            "handglass.runtime.prompt.tokenizer",
            "handglass.runtime.devices.vulkan",
        ),
        TVM | BASE | {"torch", "xgboost"},
    ),
    "targets": (
        (
            "handglass.errors",
            "handglass.targets",
            "handglass.schedules",
            "handglass.runtime.system.hardware",
            "handglass.runtime.system.machine",
            "handglass.runtime.bundle.reader",
            "handglass.runtime.bundle.manifest",
            "handglass.runtime.answer.native_request",
            "handglass.runtime.devices.quirks",
            "handglass.runtime.bundle.hashes",
            "handglass.runtime.devices.vulkan",
        ),
        TVM,
    ),
    "schedules": (("handglass.schedules",), TVM),
    "runtime": (("handglass.errors", "handglass.runtime"), BASE),
}
# Files that may import more than their room.
ALSO = {
    "compiler/verify.py": (
        "handglass.runtime.engine.session",
        "handglass.runtime.prompt.chat_template",
    ),
}
# The public API: whatever a user needs to load and ask, never the compiler.
ALLOWED["top"] = (("handglass.errors", "handglass.runtime"), set())


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first if first in ROOMS else "top"


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Each (line, absolute dotted name) that the source imports, also inside functions."""
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


def is_allowed(name: str, room: str, also: tuple[str, ...] = ()) -> bool:
    ours, others = ALLOWED[room]
    top = name.split(".")[0]
    if name in ("handglass", "handglass.__version__"):
        return room != "schedules"  # the bare package imports nothing and knows its version
    if top == "handglass":
        # `from handglass import compiler` and `import handglass.compiler` are judged alike.
        return any(name == prefix or name.startswith(f"{prefix}.") for prefix in (*ours, *also))
    return top in others or top in sys.stdlib_module_names


def sources() -> list[Path]:
    rooms = [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
    return sorted([*PACKAGE.glob("*.py"), *rooms])


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_imports_follow_the_table(path: Path) -> None:
    room = room_of(path)
    found = imports(path.read_text("utf-8"), module_of(path), path.name == "__init__.py")
    also = ALSO.get(path.relative_to(PACKAGE).as_posix(), ())
    wrong = [f"line {line}: {name}" for line, name in found if not is_allowed(name, room, also)]
    assert not wrong, f"{path.relative_to(PACKAGE.parent)} may not import: {'; '.join(wrong)}"


@pytest.mark.parametrize(
    ("room", "source", "allowed"),
    [
        ("runtime", "import tvm", False),
        ("runtime", "def f():\n    import torch", False),
        ("runtime", "from handglass.compiler.build import compile_model", False),
        ("runtime", "from handglass import compiler", False),
        ("runtime", "from .. import compiler", False),
        ("runtime", "from .bundle import Bundle\nfrom .. import errors\nimport json", True),
        ("compiler", "from handglass.runtime.bundle.reader import Bundle", True),
        ("compiler", "from handglass.runtime.answer.model import Model", False),
        ("compiler", "from handglass.cli import main", False),
        ("compiler", "import handglass", True),
        ("compiler", "from handglass import load", False),
        ("targets", "from handglass.schedules import CPU_RULES", True),
        ("targets", "from handglass.runtime.system.hardware import read_machine", True),
        ("targets", "from handglass.runtime.bundle.reader import Bundle", True),
        ("targets", "from handglass.runtime.engine.session import Session", False),
        ("targets", "from ..compiler import build", False),
        ("schedules", "from handglass.targets import TARGETS", False),
        ("schedules", "import tvm.tirx", True),
    ],
)
def test_table_tells_right_from_wrong(room: str, source: str, allowed: bool) -> None:
    found = imports(source, f"handglass.{room}.example", is_package=False)
    assert all(is_allowed(name, room) for _, name in found) is allowed


def test_every_room_is_read() -> None:
    seen = {room_of(path) for path in sources()}
    assert seen >= {room for room in ROOMS if any((PACKAGE.parent / room).glob("*.py"))}
