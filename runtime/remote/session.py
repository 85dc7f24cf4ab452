"""The state of one client's session, and its requests: a fixed table of seven.

Only libraries sent in this session are executed; nothing else in a message is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from handglass import __version__
from handglass.errors import DeviceError, HandglassError, InputError, MismatchError

from ..devices.kinds import CPU, KINDS
from ..execution.fields import Fields
from ..execution.instruction_counter import InstructionCounter
from ..execution.kernel_arguments import MAX_ITEMS, MAX_TENSORS, Arguments, read_items
from ..execution.kernel_timing import Function, compare, measure
from ..execution.placement import Host, Placement
from ..execution.process import first_line
from ..execution.tvm_runtime import import_tvm_ffi
from ..system.hardware import read_machine
from ..system.heap import release_freed_memory
from ..system.machine import thread_count
from ..system.shared_library import SharedLibrary
from ..system.tiles import FLAG, ask_for_tiles
from .devices import Plugins, device_entries, placement_of
from .libraries import Libraries

_MAX_SEED = (1 << 63) - 1
_MAX_CALLS, _MAX_SAMPLES = 10_000_000, 10_000

Answer = dict[str, Any]
SECONDS, INSTRUCTIONS = UNITS = ("seconds", "instructions")
"""What `measure` returns; a request without a unit means seconds."""


@dataclass(frozen=True)
class Settings:
    """The settings of the server."""

    runtime: SharedLibrary  # libtvm_runtime.so
    threads: int | None = None
    plugins: Plugins = field(default_factory=dict)
    counter: InstructionCounter | None = None


class Session:
    """Handles requests: each reads its fields, rejects unknown ones and returns its answer."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._settings = settings
        self._libraries = Libraries(folder, settings.runtime, settings.threads)
        self._arguments: dict[str, Arguments] = {}
        self._flags = _usable_flags()

    def describe(self, fields: Fields) -> Answer:
        """The machine, and the devices of a requested kind, which loads their driver."""
        kind = fields.choice("kind", tuple(KINDS)) if "kind" in fields else CPU
        fields.done()
        machine = {**vars(read_machine()), "flags": sorted(self._flags)}
        versions = {"handglass": __version__, "tvm_ffi": import_tvm_ffi().__version__}
        threads = thread_count(self._settings.threads)
        answer = {"machine": machine, "threads": threads, "runtime": "python", "versions": versions}
        if self._settings.counter is not None:
            answer["counts_instructions"] = True
        if kind == CPU:
            return answer
        self._libraries.start()
        return {**answer, "gpus": device_entries(kind, self._settings.plugins)}

    def put(self, fields: Fields) -> Answer:
        name, sha256, data = fields.text("name"), fields.text("sha256"), fields.data("payload")
        fields.done()
        self._libraries.put(name, sha256, data)
        return {}

    def load(self, fields: Fields) -> Answer:
        name = fields.text("name")
        self._place(fields)  # loads the plug-in that reads GPU code
        fields.done()
        self._libraries.load(name)
        return {}

    def arguments(self, fields: Fields) -> Answer:
        name, items = fields.text("id"), read_items(fields.array("items", MAX_ITEMS))
        copies = fields.integer("copies", 1, MAX_TENSORS)
        seed, place = fields.integer("seed", 0, _MAX_SEED), self._place(fields)
        fields.done()
        self._forget(name)  # the new set may need its memory
        created = self._arguments[name] = Arguments(items, copies, seed, place)
        return {"bytes": created.nbytes}

    def measure(self, fields: Fields) -> Answer:
        library, name = fields.text("library"), fields.text("function")
        arguments = self._find(fields.text("arguments"))
        number = fields.integer("number", 1, _MAX_CALLS)
        samples = fields.integer("samples", 1, _MAX_SAMPLES)
        counted = "unit" in fields and fields.choice("unit", UNITS) == INSTRUCTIONS
        fields.done()
        function = self._libraries.function(library, name)
        with _errors_of(f"{library}: {name}"):
            if counted:
                return {INSTRUCTIONS: self._count(library, function, arguments, number, samples)}
            wait = arguments.place.wait
            return {SECONDS: measure(function, arguments.calls, number, samples, wait)}

    def _count(
        self, library: str, function: Function, arguments: Arguments, number: int, samples: int
    ) -> list[float]:
        """Instructions per call in the code of the library, for each sample."""
        if self._settings.counter is None:
            raise DeviceError("this server counts no instructions; start it with --counter")
        counter, span = self._settings.counter, self._libraries.code_of(library)

        def calls() -> None:
            for given in islice(cycle(arguments.calls), number):
                function(*given)

        return [counter.count(span, calls) / number for _ in range(samples)]

    def compare(self, fields: Fields) -> Answer:
        reference, candidate = fields.text("reference"), fields.text("candidate")
        name, arguments = fields.text("function"), self._find(fields.text("arguments"))
        seed = fields.integer("seed", 0, _MAX_SEED)
        fields.done()
        expected = self._libraries.function(reference, name)
        actual = self._libraries.function(candidate, name)
        with _errors_of(f"{reference} or {candidate}: {name}"):
            return {"items": compare(expected, actual, arguments, seed)}

    def drop(self, fields: Fields) -> Answer:
        kind = "library" if "library" in fields else "arguments"
        name = fields.text(kind)
        fields.done()
        if kind == "library":
            self._libraries.drop(name)
        else:
            self._find(name)
            self._forget(name)
        return {}

    def _place(self, fields: Fields) -> Placement:
        """The placement of the named device, by default the CPU."""
        if "device" not in fields:
            return Host()
        self._libraries.start()
        return placement_of(fields.text("device"), self._settings.plugins)

    def _forget(self, name: str) -> None:
        if self._arguments.pop(name, None):
            release_freed_memory()

    def _find(self, name: str) -> Arguments:
        if name not in self._arguments:
            raise InputError(f"this session has no arguments {name!r:.80}")
        return self._arguments[name]


REQUESTS: Mapping[str, Callable[[Session, Fields], Answer]] = {
    "describe": Session.describe,
    "put": Session.put,
    "load": Session.load,
    "arguments": Session.arguments,
    "measure": Session.measure,
    "compare": Session.compare,
    "drop": Session.drop,
}


def _usable_flags() -> frozenset[str]:
    """The CPU flags, without those of tile registers if Linux denies them (tiles.py)."""
    flags = read_machine().flags
    if FLAG not in flags or ask_for_tiles() == 0:
        return flags
    return frozenset(flag for flag in flags if not flag.startswith("amx_"))


@contextmanager
def _errors_of(what: str) -> Iterator[None]:
    """Report any error of a compiled function as MismatchError: one that rejects its arguments may
    raise any class, and one that loses a GPU or exhausts its memory is at fault as well."""
    try:
        yield
    except MemoryError:
        raise
    except HandglassError as error:
        raise MismatchError(f"{what}: {error}") from error
    except Exception as error:
        raise MismatchError(f"{what}: {first_line(error)}") from error
