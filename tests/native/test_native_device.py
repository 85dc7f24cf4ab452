"""handglass-native serve: loads, measures and compares libraries, and outlives their crashes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from device_caller import Caller
from native_server import ENTRY, KEY, NORMAL, PAIR, Server, compare, library, measure, refused

pytest_plugins = ["native_fixtures"]


LACKING = (
    "int mystery(void); int __tvm_ffi_copy(void* s, void* a, int n, void* r) {return mystery();}"
)


def test_describe_tells_the_machine(session: Caller, server: Server) -> None:
    description = session.ask("describe")
    assert description["ok"] and description["threads"] == 2 and description["runtime"] == "native"
    assert description["machine"]["architecture"] == server.machine
    assert set(description["machine"]) == {
        "architecture",
        "model",
        "flags",
        "cores",
        "memory",
        "l2",
    }


def test_a_library_runs(loaded: Caller) -> None:
    answer = measure(loaded, "copy")
    assert answer["ok"] and len(answer["seconds"]) == 3 and min(answer["seconds"]) > 0


def test_equal_is_told_from_different(server: Server, loaded: Caller) -> None:
    assert loaded.put("d", server.candidates())["ok"] and loaded.ask("load", name="d")["ok"]
    rows = compare(loaded, "copy")
    assert [row["index"] for row in rows] == [0, 1]
    assert all(row["snr_db"] is None and row["finite"] for row in rows)
    assert rows[0]["largest"] == rows[1]["largest"] > 0
    double = server.candidates().replace(b"", b"")  # the same code under another name
    assert loaded.put("d", double)["ok"]
    refused(loaded.ask("measure", library="d", function="copy", arguments="x", number=1, samples=1),
            "input", "not loaded yet")  # fmt: skip


def test_a_candidate_must_not_write_its_input(server: Server, loaded: Caller) -> None:
    """The reference does nothing; the candidate adds one to an input."""
    quiet = ENTRY.format(name="touch", body="{ return 0; }")
    assert loaded.put("d", server.candidates())["ok"] and loaded.ask("load", name="d")["ok"]
    assert loaded.put("c", library(server.machine, quiet, server.folder.parent))["ok"]
    assert loaded.ask("load", name="c")["ok"]
    first, second = compare(loaded, "touch")
    assert first["max_error"] == pytest.approx(1, rel=1e-6) and first["snr_db"] < 30
    assert second["snr_db"] is None


def test_what_is_no_number_is_told(server: Server, loaded: Caller) -> None:
    quiet = ENTRY.format(name="nan", body="{ return 0; }")
    assert loaded.put("d", server.candidates())["ok"] and loaded.ask("load", name="d")["ok"]
    assert loaded.put("c", library(server.machine, quiet, server.folder.parent))["ok"]
    assert loaded.ask("load", name="c")["ok"]
    assert [row["finite"] for row in compare(loaded, "nan")] == [True, False]


@pytest.mark.parametrize(
    ("dtype", "fill", "nbytes", "low", "high"),
    [
        ("float32", {"kind": "normal", "scale": 2.0}, 4000, 4, 14),
        ("float32", {"kind": "uniform", "low": -3, "high": 0.5}, 4000, 2.9, 3),
        ("float16", {"kind": "uniform", "low": 0, "high": 8}, 2000, 7.5, 8),
        ("bfloat16", {"kind": "normal", "scale": 1.0}, 2000, 2, 7),
        ("uint16", {"kind": "bfloat16", "scale": 1.0}, 2000, 2, 7),
        ("uint32", {"kind": "bfloat16", "scale": 100.0}, 4000, 200, 700),
        ("int8", {"kind": "uniform", "low": -128, "high": 127}, 1000, 120, 128),
        ("uint8", {"kind": "constant", "value": 255}, 1000, 255, 255),
        ("int32", {"kind": "uniform", "low": 7, "high": 9}, 4000, 9, 9),
        ("uint16", {"kind": "constant", "value": 65535}, 2000, 65535, 65535),
        ("uint32", {"kind": "constant", "value": 1 << 31}, 4000, 1 << 31, 1 << 31),
        ("int64", {"kind": "constant", "value": -(1 << 40)}, 8000, 1 << 40, 1 << 40),
        ("float32", {"kind": "constant", "value": -2.5}, 4000, 2.5, 2.5),
    ],
)
def test_fills(
    server: Server,
    session: Caller,
    dtype: str,
    fill: dict[str, Any],
    nbytes: int,
    low: float,
    high: float,
) -> None:
    quiet = library(
        server.machine, ENTRY.format(name="nothing", body="{ return 0; }"), server.folder.parent
    )
    assert session.put("c", quiet)["ok"] and session.put("d", quiet)["ok"]
    assert session.ask("load", name="c")["ok"] and session.ask("load", name="d")["ok"]
    item = {"shape": [8, 125], "dtype": dtype, "fill": fill}
    made = session.ask("arguments", id="x", items=[item, item], copies=1, seed=3)
    assert made == {"ok": True, "bytes": 2 * nbytes}
    first, second = compare(session, "nothing", seed=4)
    assert low <= first["largest"] <= high and first["snr_db"] is None
    if fill["kind"] in ("normal", "bfloat16"):
        assert first["largest"] != second["largest"]  # two items of one seed differ


def test_more_than_the_memory_is_refused(session: Caller) -> None:
    item = {"shape": [1 << 38], "dtype": "float32", "fill": NORMAL}
    answer = session.ask("arguments", id="x", items=[item], copies=1, seed=0)
    refused(answer, "device", "1099512 MB")


def test_what_is_no_library_is_not_loaded(server: Server, session: Caller) -> None:
    data = server.candidates()
    other = "aarch64" if server.machine == "x86_64" else "x86_64"
    quiet = ENTRY.format(name="copy", body="{ return 0; }")
    bad = {
        "too short": b"\x7fELF",
        "not a 64-bit": b"x" * 5000,
        "cut off": data[:300],
        "another architecture": library(other, quiet, server.folder.parent),
        "it needs 'mystery'": library(server.machine, LACKING, server.folder.parent),
    }
    for words, content in bad.items():
        assert session.put("bad", content)["ok"]
        refused(session.ask("load", name="bad"), "mismatch", words)


def test_damaged_libraries_are_answered(server: Server) -> None:
    """A library with corrupt ELF headers loads or is refused; the session goes on either way."""
    data = bytearray(server.candidates())
    for place in (*range(32, 64, 4), *range(64, 64 + 56 * 4, 12)):
        damaged = bytes(data[:place]) + b"\xff\xff\xff\x7f" + bytes(data[place + 4 :])
        with server.open() as caller:
            assert caller.put("bad", damaged)["ok"]
            answer = caller.ask("load", name="bad")
            assert answer["ok"] or answer["kind"] in ("mismatch", "device"), answer


@pytest.mark.parametrize(
    ("function", "reason"),
    [("segfault", "SIGSEGV"), ("illegal", "SIGILL"), ("forever", "time limit")],
)
def test_a_deadly_candidate_ends_its_session_only(
    server: Server, loaded: Caller, function: str, reason: str
) -> None:
    started = time.monotonic()
    with pytest.raises(EOFError):
        measure(loaded, function, deadline_s=1)
    assert time.monotonic() - started < 50
    assert server.previous() == reason
    assert server.previous() is None
    assert server.process.poll() is None


def test_the_product_s_client(server: Server) -> None:
    client = pytest.importorskip("handglass.runtime.remote.client")
    with client.DeviceClient("127.0.0.1", server.port, KEY) as device:
        assert device.describe().runtime == "native"
        device.put("c", server.candidates())
        device.load("c")
        device.arguments("x", PAIR)
        assert min(device.measure("c", "copy", "x", number=5, samples=2)) > 0
