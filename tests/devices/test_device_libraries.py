"""Libraries sent to a device: names, hashes, a full disk, loading and dropping."""

import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from device_library import SCALED, library, tensor

from handglass.errors import DeviceError, InputError, MismatchError
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.libraries import Libraries
from handglass.runtime.remote.local import Endpoint
from handglass.runtime.system.shared_library import SharedLibrary


@pytest.fixture
def client(device: Endpoint) -> Iterator[DeviceClient]:
    with DeviceClient(*device) as client:
        yield client


@pytest.fixture
def libraries(tmp_path: Path) -> Libraries:
    """Libraries without a server, which are stored but not loaded."""
    return Libraries(tmp_path, runtime=SharedLibrary(tmp_path / "none"), threads=1)


def test_a_library_is_put_loaded_and_called(client: DeviceClient) -> None:
    client.put("right", library())
    client.load("right")
    client.load("right")
    client.arguments("xyk", SCALED)
    assert len(client.measure("right", "scale", "xyk", number=2, samples=3)) == 3


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "x/y", "..", ".x", "", "X", "x y", "x\0", "x\n", "-x", "x" * 82, "é"],
)
def test_names_lead_nowhere(libraries: Libraries, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name "):
        libraries.put(name, hashlib.sha256(b"").hexdigest(), b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x", "0", "task-1.so", "x" * 81, "a..b"])
def test_plain_names_are_taken(libraries: Libraries, tmp_path: Path, name: str) -> None:
    libraries.put(name, hashlib.sha256(b"code").hexdigest(), b"code")
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"code"
    libraries.drop(name)
    assert list(tmp_path.iterdir()) == []


def test_another_hash_is_not_stored(libraries: Libraries, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="'abc'"):
        libraries.put("x", "abc", b"code")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="library 'x'"):
        libraries.load("x")


def test_the_old_one_stays_if_the_new_one_is_refused(libraries: Libraries, tmp_path: Path) -> None:
    libraries.put("x", hashlib.sha256(b"old").hexdigest(), b"old")
    with pytest.raises(MismatchError):
        libraries.put("x", hashlib.sha256(b"old").hexdigest(), b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_file_that_was_changed_is_not_loaded(libraries: Libraries, tmp_path: Path) -> None:
    libraries.put("x", hashlib.sha256(b"code").hexdigest(), b"code")
    next(tmp_path.iterdir()).write_bytes(b"evil")
    with pytest.raises(MismatchError, match="changed"):
        libraries.load("x")


def test_a_full_disk_is_told_and_leaves_nothing(libraries: Libraries, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    data = bytes(100_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(DeviceError, match="100000 bytes"):
            libraries.put("x", hashlib.sha256(data).hexdigest(), data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_a_session_leave_it_alive(client: DeviceClient) -> None:
    client.put("text", b"not a library")
    with pytest.raises(MismatchError, match="text: "):
        client.load("text")
    client.put("lib", library())
    with pytest.raises(InputError, match="lib: "):
        client.arguments("x", [1])
        client.measure("lib", "scale", "x", 1, 1)
    client.load("lib")
    with pytest.raises(MismatchError, match="'none'"):
        client.measure("lib", "none", "x", 1, 1)
    with pytest.raises(MismatchError, match="lib: refuse: x must be longer$"):
        client.measure("lib", "refuse", "x", 1, 1)
    with pytest.raises(InputError, match="'y'"):
        client.measure("lib", "scale", "y", 1, 1)
    client.drop(arguments="x")
    with pytest.raises(InputError, match="'x'"):
        client.drop(arguments="x")
    client.drop(library="lib")
    with pytest.raises(InputError, match="'lib'"):
        client.load("lib")
    with pytest.raises(InputError, match="'arguments'"):
        client.drop()
    assert client.describe().threads == 1


def test_putting_a_name_again_replaces_what_is_loaded(client: DeviceClient) -> None:
    client.arguments("x", [tensor(3, kind="constant", value=1.0)])
    for variant in ("right", "wrong"):
        client.put("lib", library(variant))
        with pytest.raises(InputError, match="lib: .*loaded"):
            client.measure("lib", "count", "x", 1, 1)
        client.load("lib")
        client.measure("lib", "count", "x", 1, 1)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "'do' is missing"),
        ({"do": 5}, "'do' must be"),
        ({"do": "_find"}, "'_find'"),
        ({"do": "describe"}, "'deadline_s' is missing"),
        ({"do": "describe", "deadline_s": True}, "'deadline_s' must be"),
        ({"do": "describe", "deadline_s": 601}, "from 0.001 to 600"),
        ({"do": "describe", "deadline_s": 10**400}, "from 0.001 to 600"),
        ({"do": "describe", "deadline_s": 9, "x": 1}, "'x'"),
        ({"do": "describe", "deadline_s": 9, "payload": b"1"}, "'payload'"),
        ({"do": "load", "deadline_s": 9, "name": ["x"]}, "'name' must be"),
        ({"do": "put", "deadline_s": 9, "name": "x", "sha256": ""}, "'sha256' must be"),
        ({"do": "put", "deadline_s": 9, "name": "x", "sha256": "0"}, "'payload' is missing"),
        ({"do": "drop", "deadline_s": 9, "library": "x", "arguments": "y"}, "unknown field"),
    ],
)
def test_requests_are_read_strictly(
    client: DeviceClient, request_: dict[str, Any], words: str
) -> None:
    from handglass.runtime.remote import frames

    assert client._connection is not None
    frames.send(client._connection, request_)
    answer = frames.receive(client._connection)
    assert (answer["ok"], answer["kind"]) == (False, "input")
    assert words in answer["error"]
    assert client.describe().runtime == "python"


def test_the_folder_of_a_session_is_its_own_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handglass.runtime.remote.local import local_device

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with local_device(threads=1) as device:
        assert list(tmp_path.iterdir()) == []
        with DeviceClient(*device) as client:
            client.put("x", b"code")
            (folder,) = tmp_path.iterdir()
            assert folder.stat().st_mode & 0o777 == 0o700
            assert folder.stat().st_uid == os.getuid()
        with DeviceClient(*device):
            assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", [{"kind": "vulkan"}, {"device": "vulkan:0"}])
def test_a_server_of_before_there_were_gpus(client: DeviceClient, field: dict[str, str]) -> None:
    """An old server rejects unknown fields, which `drop` simulates."""
    client.put("right", library())
    with pytest.raises(MismatchError, match="GPU"):
        client._ask("drop", 30.0, library="right", **field)


def test_what_a_gpu_is_called(client: DeviceClient) -> None:
    with pytest.raises(InputError, match="'kind' .*vulkan"):
        client.describe("metal")
    with pytest.raises(InputError, match="vulkan:NUMBER"):
        client.arguments("x", [1], device="vulkan:-1")
