"""Code that crashes, hangs or exits ends its session; the server survives and reports the cause."""

from collections.abc import Iterator

import pytest
from device_library import library, tensor

from handglass.errors import InputError
from handglass.runtime.remote.client import DeviceClient, DeviceGone, SessionDied
from handglass.runtime.remote.local import Endpoint, local_device


@pytest.fixture
def client(device: Endpoint) -> Iterator[DeviceClient]:
    with DeviceClient(*device) as client:
        client.put("lib", library())
        client.load("lib")
        client.arguments("x", [tensor(3, kind="constant", value=1.0)])
        yield client


DEATHS = {
    "touch_null": "SIGSEGV",
    "illegal": "SIGILL: instruction that this CPU lacks",
    "loop": "time limit",
    "leave": "exit code 3",
}


@pytest.mark.parametrize("function", DEATHS)
def test_the_client_learns_why(client: DeviceClient, device: Endpoint, function: str) -> None:
    with pytest.raises(SessionDied, match="'measure'") as died:
        client.measure("lib", function, "x", 1, 1, deadline_s=0.5)
    assert died.value.reason == DEATHS[function]
    assert not isinstance(died.value, DeviceGone)
    with pytest.raises(SessionDied, match="'describe'"):
        client.describe()
    with DeviceClient(*device) as next_client:
        assert next_client.describe().threads == 1


def test_what_the_dead_session_held_is_gone(client: DeviceClient, device: Endpoint) -> None:
    with pytest.raises(SessionDied):
        client.measure("lib", "touch_null", "x", 1, 1)
    with DeviceClient(*device) as next_client, pytest.raises(InputError, match="'lib'"):
        next_client.load("lib")


def test_a_candidate_may_crash_while_it_is_compared(client: DeviceClient) -> None:
    with pytest.raises(SessionDied) as died:
        client.compare("lib", "lib", "illegal", "x")
    assert died.value.reason.startswith("SIGILL")


def test_a_device_that_is_gone() -> None:
    with local_device(threads=1) as device:
        client = DeviceClient(*device)
    where = f"{device.host}:{device.port}"
    with client, pytest.raises(DeviceGone, match=where) as gone:
        client.describe()
    assert gone.value.reason == f"device gone: {where} does not answer"
    with pytest.raises(DeviceGone):
        DeviceClient(*device)


def test_a_device_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that has no effect, as on a stopped machine: the client gives up by itself."""
    monkeypatch.setattr("handglass.runtime.remote.client.GRACE", -9.5)
    with local_device(threads=1) as device, DeviceClient(*device) as client:
        client.put("lib", library(), deadline_s=60)
        client.load("lib", deadline_s=60)
        client.arguments("x", [1], deadline_s=60)
        with pytest.raises(SessionDied, match="busy"):
            client.measure("lib", "loop", "x", 1, 1, deadline_s=10)
