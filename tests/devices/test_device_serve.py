"""`handglass device serve`: keys, addresses, and requirements."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from handglass.errors import DeviceError, InputError, UsageError
from handglass.runtime.remote import serving
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.keys import find_key
from handglass.runtime.remote.serving import Options, Started, find_runtime, serve
from handglass.runtime.system.shared_library import SharedLibrary

ROOT = Path(__file__).parents[2]


def announcement(started: Started) -> None:
    pytest.fail(f"it serves: {started}")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_an_address_that_others_reach_needs_a_word(host: str, handglass: Any) -> None:
    result = handglass("device", "serve", "--host", host)
    assert result.code == 2
    for words in (host, "run any code as your user", "not encrypted", "ssh -L", "--expose"):
        assert words in result.err


def test_exposing_is_told_in_words() -> None:
    text = Started("192.0.2.1", 9190, exposed=True, key="k" * 32).announcement(as_json=False)
    assert "EXPOSED" in text and "run any code as your user" in text
    assert "--rpc 192.0.2.1:9190" in text
    text = Started("127.0.0.1", 1234, exposed=False, key=None).announcement(as_json=False)
    assert "Only programs on this machine can connect" in text
    assert "ssh -N -L 1234:127.0.0.1:1234" in text and "adb forward tcp:1234 tcp:1234" in text
    assert "k" * 32 not in text


def test_with_expose_it_listens() -> None:
    seen: list[Started] = []

    def stop(started: Started) -> None:
        seen.append(started)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(Options("0.0.0.0", 0, expose=True), stop)
    assert seen[0].exposed and seen[0].key is not None and len(seen[0].key) == 32


def test_a_random_key_is_another_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANDGLASS_DEVICE_KEY", raising=False)
    keys = []

    def stop(started: Started) -> None:
        keys.append(started.key)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            serve(Options(port=0), stop)
    assert len(set(keys)) == 2


def test_keys_from_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANDGLASS_DEVICE_KEY", raising=False)
    assert find_key(None) is None
    monkeypatch.setenv("HANDGLASS_DEVICE_KEY", "e" * 16)
    assert find_key(None) == "e" * 16
    file = tmp_path / "key"
    file.write_text("f" * 16 + "\n")
    file.chmod(0o600)
    assert find_key(file) == "f" * 16
    file.chmod(0o640)
    with pytest.raises(InputError, match=f"chmod 600 {file}"):
        find_key(file)
    with pytest.raises(InputError, match="none: "):
        find_key(tmp_path / "none")


def test_a_short_key_is_refused(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDGLASS_DEVICE_KEY", "secret")
    result = handglass("device", "serve")
    assert (result.code, "a key of 6 characters can be guessed" in result.err) == (2, True)


def test_a_port_that_is_taken(handglass: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = handglass("device", "serve", "--port", port, "--json")
    assert result.code == 4
    assert f"127.0.0.1:{port}: cannot listen: " in result.json["error"]["message"]


def test_usage(handglass: Any, tmp_path: Path) -> None:
    assert "serve" in handglass("device", "--help").out
    assert handglass("device", "serve", "--port", "70000").code == 2
    with pytest.raises(UsageError, match=r"--host no\.such\.host\.invalid"):
        serve(Options("no.such.host.invalid"), announcement)
    with pytest.raises(UsageError, match="threads=100000"):
        serve(Options(threads=100_000), announcement)
    for flag in ("--runtime", "--vulkan"):
        assert handglass("device", "serve", flag, tmp_path / "none").code == 3


def test_the_runtime_is_given_or_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "libtvm_runtime.so"
    file.write_bytes(b"")
    assert find_runtime(file) == SharedLibrary(file)
    monkeypatch.setattr(serving, "installed_runtime", lambda: None)
    with pytest.raises(DeviceError, match="pip install apache-tvm"):
        find_runtime(None)
    monkeypatch.setattr(serving, "installed_runtime", lambda: file)
    assert find_runtime(None) == SharedLibrary(file)


SLIM = """
import sys

class OnlyThese:
    '''No tvm, no typer, and nothing else that a slim device lacks.'''
    ours = {"handglass", "numpy", "tvm_ffi", "typing_extensions"} | sys.stdlib_module_names
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in self.ours:
            raise ImportError(f"{name}: a slim device has none")

sys.meta_path.insert(0, OnlyThese())
import os, runpy, subprocess
for name in ("execv", "execve", "posix_spawn"):
    setattr(os, name, None)  # the server must not execute programs
subprocess.Popen = None
sys.argv = ["device", *sys.argv[1:]]
runpy.run_module("handglass.runtime.remote", run_name="__main__", alter_sys=True)
"""


@contextmanager
def slim_server(*flags: str) -> Iterator[tuple[DeviceClient, int]]:
    """A client of the server, and the server process."""
    from handglass.runtime.execution.tvm_runtime import installed_runtime

    runtime = installed_runtime()
    assert runtime is not None
    command = [sys.executable, "-S", "-c", SLIM, "--port", "0", "--until-eof", "--json"]
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "HANDGLASS_DEVICE_KEY": "k" * 16}
    with subprocess.Popen(
        [*command, "--threads", "1", "--runtime", str(runtime), *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        with DeviceClient("127.0.0.1", port, "k" * 16) as client:
            yield client, server.pid
        server.stdin.close()
        assert server.wait(20) == 0


def test_a_slim_device_serves_without_typer_or_tvm_or_exec() -> None:
    from device_library import SCALED, library

    with slim_server() as (client, pid):
        assert not maps_runtime(pid)
        client.put("lib", library())
        client.load("lib")
        client.arguments("xyk", SCALED)
        assert client.measure("lib", "scale", "xyk", 1, 1)[0] > 0
        assert not maps_runtime(pid), "only a session loads TVM's runtime"


@pytest.mark.vulkan
def test_a_slim_device_brings_its_vulkan_library(tmp_path: Path) -> None:
    from handglass.runtime.devices.plugin.library import find_library
    from handglass.runtime.devices.vulkan import VULKAN

    with slim_server("--vulkan", str(find_library(VULKAN.recipe).path)) as (client, _):
        assert client.describe("vulkan").devices[0].name
    broken = tmp_path / "library.so"
    broken.write_bytes(b"no library")
    with (
        slim_server("--vulkan", str(broken)) as (client, _),
        pytest.raises(DeviceError, match=r"library\.so: "),
    ):
        client.describe("vulkan")


def maps_runtime(pid: int) -> bool:
    return "libtvm_runtime" in Path(f"/proc/{pid}/maps").read_text()


def test_the_bare_module_leaves_as_the_command_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "handglass.runtime.remote", "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.startswith("error: --host 0.0.0.0")
