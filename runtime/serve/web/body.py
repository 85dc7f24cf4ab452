"""Reads the body of a request within limits of size, time and complexity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request

from handglass.errors import InputError

from ...system.json_text import parse_json
from ..limits import JSON_ITEMS, SMALL_BODY, Limits
from ..refusal import Refusal, bad

JSON_TYPE = "application/json"


async def _at_once() -> None:
    """For what needs no permission."""


async def read_body(
    request: Request, limits: Limits, permission: Callable[[], Awaitable[object]] = _at_once
) -> bytes:
    """Raises Refusal for a body that is not JSON by its type, too large or too slow.

    `permission` is awaited before more than SMALL_BODY bytes are read.
    """
    _check_head(request, limits.body_bytes)
    body, parts = bytearray(), request.stream()
    is_whole = await _within(limits.body_s, _read(parts, body, SMALL_BODY))
    if not is_whole:
        await permission()
        is_whole = await _within(limits.body_s, _read_steadily(parts, body, limits))
    if not is_whole or len(body) > limits.body_bytes:
        raise _too_large(limits.body_bytes)
    return bytes(body)


def _check_head(request: Request, limit: int) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON_TYPE:  # other types reach this server from any page, without a preflight
        raise Refusal(415, f"the content type must be {JSON_TYPE}, not {kind!r:.100}")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limit:
        raise _too_large(limit)


async def _within(seconds: float, reading: Awaitable[bool]) -> bool:
    try:
        return await asyncio.wait_for(reading, seconds)
    except asyncio.TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {seconds:g} s") from error
    except ClientDisconnect as error:
        raise Refusal(499, "the client left before its body arrived", code="cancelled") from error


async def _read_steadily(parts: AsyncIterator[bytes], body: bytearray, limits: Limits) -> bool:
    """As `_read` to the limit, but each piece of SMALL_BODY bytes must arrive in time."""
    while len(body) <= limits.body_bytes:
        try:
            piece = _read(parts, body, len(body) + SMALL_BODY)
            if await asyncio.wait_for(piece, limits.piece_s):
                return True
        except asyncio.TimeoutError as error:
            message = f"the body arrives too slowly: {SMALL_BODY >> 10} KB in {limits.piece_s:g} s"
            raise Refusal(408, f"{message} are expected", code="body_too_slow") from error
    return False


async def _read(parts: AsyncIterator[bytes], body: bytearray, limit: int) -> bool:
    """Whether this is the end; False as soon as the body is longer than `limit`."""
    while len(body) <= limit:
        part = await anext(parts, None)
        if part is None:
            return True
        body += part
    return False


def _too_large(limit: int) -> Refusal:
    message = f"the body is larger than {limit >> 20} MB, the limit of this server"
    return Refusal(413, message, code="body_too_large")


def parsed(data: bytes) -> Any:
    """The JSON value. Raises Refusal."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > JSON_ITEMS:
        raise bad(f"the body has more than {JSON_ITEMS} items")
    try:
        return parse_json(data, "the body", len(data))
    except InputError as error:
        raise bad(str(error), code="invalid_json") from error
