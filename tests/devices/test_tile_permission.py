"""Requesting the tile registers from Linux: once, only if the code needs them."""

from dataclasses import replace

import pytest

from handglass.cli import checks
from handglass.errors import DeviceError
from handglass.runtime.bundle.entries import TargetEntry
from handglass.runtime.engine import tile_permission as permission
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.tiles import FLAG, ask_for_tiles

AMX_TARGET = TargetEntry("host", "x86_64-linux-gnu", "x86-64-v4", ("avx2", "amx_tile"))


def test_permission_is_asked_where_there_are_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def grant() -> int:
        asked.append(1)
        return 0

    monkeypatch.setattr(permission, "ask_for_tiles", grant)
    permission.allow_tiles(replace(AMX_TARGET, features=("avx2",)))
    assert not asked, "a bundle without tiles asks for none"
    permission.allow_tiles(AMX_TARGET)
    assert len(asked) == 1


def test_permission_refused_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permission, "ask_for_tiles", lambda: 95)
    with pytest.raises(DeviceError, match="AMX.*not supported"):
        permission.allow_tiles(AMX_TARGET)


def test_linux_answers() -> None:
    """0 if the CPU has AMX and Linux grants it, an errno otherwise; never a crash."""
    answer = ask_for_tiles()
    assert answer >= 0
    assert answer > 0 or FLAG in read_machine().flags


def test_doctor_says_whether_tiles_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.tile_check(frozenset()).ok is None
    monkeypatch.setattr(checks, "child", lambda source: 0)
    assert checks.tile_check(frozenset(["amx_tile"])).ok is True
    monkeypatch.setattr(checks, "child", lambda source: 22)
    refused = checks.tile_check(frozenset(["amx_tile"]))
    assert refused.ok is False and "x86-64-v4" in refused.hint
