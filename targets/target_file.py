"""User-defined targets: a JSON file that modifies a preset.

    {"base": "raspberry-pi-5", "name": "my-board", "cores": 2, "memory_limit": 2000000000}

Keys are fields of `Target`. Fields that could run a program on this machine (linkers, their flags)
are excluded, because such files are shared.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from handglass.errors import InputError
from handglass.runtime.system.regular_file import read_text

from .contradictions import contradictions, nearest
from .target import Target

LARGEST = 1 << 20
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")
TEXT = ("name", "description", "triple", "cpu", "emulator_cpu")
NUMBERS = ("vector_bits", "cores", "l2", "memory_limit")
LISTS = ("features", "mattr", "stub_libraries")
KEYS = ("base", *TEXT, *NUMBERS, *LISTS)


def read_target(file: Path, presets: dict[str, Target]) -> Target:
    """The target that `file` describes. Raises InputError with all contradictions in it."""
    given = _object(file)
    for key in given.keys() - set(KEYS):
        raise InputError(f"{file}: key '{key}' is unknown; {nearest(key, KEYS)}")
    for key in ("base", "name"):
        if key not in given:
            raise InputError(f"{file}: key '{key}' is missing")
    values = {key: _typed(file, key, value) for key, value in given.items()}
    base, name = values.pop("base"), values["name"]
    if base not in presets:
        raise InputError(f"{file}: base '{base}' is not a target; {nearest(base, presets)}")
    if name in presets or not NAME.fullmatch(name):
        raise InputError(f"{file}: name '{name}' must consist of [a-z0-9._-] and not be a preset")
    values.setdefault(
        "description", f"{presets[base].description}, with the changes of {file.name}"
    )
    target = replace(presets[base], evidence_of="", **values)
    if found := list(contradictions(target)):
        raise InputError(f"{file}: target '{name}' is inconsistent:\n  " + "\n  ".join(found))
    return target


def _object(file: Path) -> dict[str, Any]:
    try:
        given = json.loads(read_text(file, LARGEST))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{file}: must be one JSON object, found {given!r:.60}")
    return given


def _typed(file: Path, key: str, value: Any) -> Any:
    """The value with the type of the field: a string, an integer, or a tuple of strings."""
    if key in NUMBERS and type(value) is int:
        return value
    if key in LISTS and isinstance(value, list) and all(type(item) is str for item in value):
        return tuple(value)
    if key in ("base", *TEXT) and isinstance(value, str):
        return value
    kind = "an integer" if key in NUMBERS else "a list of strings" if key in LISTS else "a string"
    raise InputError(f"{file}: {key} must be {kind}, found {value!r:.60}")
