"""Lets only those requests in that may ask (access.py), and answers the preflights of browsers."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..access import Access
from ..refusal import Refusal


def refused(refusal: Refusal) -> Response:
    headers = {"Cache-Control": "no-store"}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.retry_s is not None:
        headers["Retry-After"] = str(refusal.retry_s)
    return JSONResponse(refusal.body, refusal.status, headers)


class Guard:
    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        send = self._with_origin(headers.get("origin"), send)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(headers)(scope, receive, send)
            return
        try:
            self._access.check(scope["path"], headers)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _preflight(self, headers: Headers) -> Response:
        try:
            self._access.check_host(headers)
            self._access.check_origin(headers)
        except Refusal as refusal:
            return refused(refusal)
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": "authorization, content-type",
                "Access-Control-Max-Age": "600",
            },
        )

    def _with_origin(self, origin: str | None, send: Send) -> Send:
        """Let the page of an allowed origin read the answer."""
        if origin is None or origin not in self._access.origins:
            return send

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = origin
                headers.add_vary_header("Origin")
            await send(message)

        return sending
