"""Places for large bodies: limits, rotation between addresses, leaving, waiting in vain."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

pytest.importorskip("starlette", reason="answers over HTTP: handglass[serve]")

from handglass.runtime.serve.refusal import Refusal
from handglass.runtime.serve.web.uploads import Uploads, site_of

PLACES, SHARE = 4, 2


class Room:
    """Bodies that hold their places until they are told to end."""

    def __init__(self, wait_s: float = 10.0) -> None:
        self.uploads = Uploads(PLACES, SHARE, wait_s)
        self.entered: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        """Each name is an address and a letter."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.ensure_future(self._upload(name))
            await asyncio.sleep(0)
        await self.settle()

    async def _upload(self, name: str) -> None:
        async with self.uploads.place(name[:-1]):
            self.entered.append(name)
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


def run(story: Callable[[Room], Coroutine[Any, Any, None]], wait_s: float = 10.0) -> Room:
    async def told() -> Room:
        room = Room(wait_s)
        await story(room)
        for task in room.tasks.values():
            task.cancel()
        await asyncio.gather(*room.tasks.values(), return_exceptions=True)
        return room

    return asyncio.run(told())


def test_an_address_takes_its_share_only() -> None:
    async def story(room: Room) -> None:
        await room.come("1a", "1b", "1c", "1d", "2a", "2b", "2c", "3a")
        assert room.entered == ["1a", "1b", "2a", "2b"]
        await room.end("2a")
        assert room.entered[4:] == ["3a"], "it has none yet"
        await room.end("1a")
        assert room.entered[5:] == ["1c"], "among equals they take turns"
        await room.end("3a")
        assert room.entered[6:] == ["2c"]

    run(story)


def test_who_leaves_gives_the_place_to_others() -> None:
    async def story(room: Room) -> None:
        await room.come("1a", "1b", "2a", "2b", "3a", "4a")
        for name in ("3a", "1b"):  # one that waits, one that has a place
            room.tasks[name].cancel()
            await room.settle()
        assert room.entered == ["1a", "1b", "2a", "2b", "4a"]

    run(story)


def test_all_places_come_back() -> None:
    async def story(room: Room) -> None:
        names = [f"{address}{letter}" for letter in "abcdefgh" for address in range(5)]
        await room.come(*names)
        for _ in names:
            await room.end(next(name for name in room.entered if not room.tasks[name].done()))
        assert sorted(room.entered) == sorted(names)
        await room.come("1x", "2x", "3x", "4x")
        assert room.entered[-4:] == ["1x", "2x", "3x", "4x"]

    run(story)


def test_nobody_waits_forever() -> None:
    async def story(room: Room) -> None:
        await room.come("1a", "1b", "1c")
        with pytest.raises(Refusal, match="too many large requests") as refused:
            await room.tasks["1c"]
        assert (refused.value.status, refused.value.code) == (429, "uploads_busy")
        await room.end("1a")
        await room.come("1d")
        assert room.entered == ["1a", "1b", "1d"]

    run(story, wait_s=0.02)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "testclient", False),
    ],
)
def test_which_addresses_are_one_client(one: str, other: str, is_same: bool) -> None:
    assert (site_of(one) == site_of(other)) == is_same
