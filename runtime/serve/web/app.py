"""The HTTP interface: which path answers what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..access import Access
from ..asked import Asked
from ..chat_body import read_chat
from ..embeddings_body import read_embeddings
from ..refusal import Refusal
from ..responses_body import read_response
from .guard import Guard, refused
from .metrics import TYPE
from .page import page
from .service import Read, Service
from .streams import ChatStream, ResponseStream, ToldRows

Endpoint = Callable[[Request], Any]


def make_app(service: Service, access: Access) -> ASGIApp:
    paths = Paths(service)
    routes = [
        Route(path, paths.guarded(path, endpoint), methods=[method])
        for path, (method, endpoint) in paths.table.items()
    ]
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: _unknown}), access)


class Paths:
    def __init__(self, service: Service) -> None:
        self._service = service
        self.table: dict[str, tuple[str, Endpoint]] = {
            "/v1/chat/completions": ("POST", self.chat),
            "/v1/responses": ("POST", self.responses),
            "/v1/embeddings": ("POST", self.embeddings),
            "/v1/models": ("GET", self.models),
            "/v1/models/{name:path}": ("GET", self.model),
            "/health": ("GET", self.health),
            "/metrics": ("GET", self.metrics),
            "/": ("GET", self.index),
        }

    def guarded(self, path: str, endpoint: Endpoint) -> Endpoint:
        """The endpoint, whose errors are told in one shape, and whose answers are counted."""
        service = self._service

        async def call(request: Request) -> Any:
            try:
                response = await endpoint(request)
            except Exception as error:  # noqa: BLE001  a bug must not end the server
                refusal = service.refusal(error)
                service.log.refusal(path, refusal)
                response = refused(refusal)
            status = getattr(response, "status_code", 200)
            service.metrics.requests.labels(path, str(status)).inc()
            return response

        return call

    async def chat(self, request: Request) -> Any:
        return await self._service.answer(request, self._asked(read_chat), ChatStream)

    async def responses(self, request: Request) -> Any:
        return await self._service.answer(request, self._asked(read_response), ResponseStream)

    def _asked(self, read: Callable[[Any], Asked]) -> Read:
        return lambda body: self._service.models.ready(read(body))

    async def embeddings(self, request: Request) -> Any:
        models = self._service.models
        return await self._service.answer(
            request, lambda body: models.ready_rows(read_embeddings(body)), ToldRows
        )

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": self._service.models.entries})

    async def model(self, request: Request) -> Response:
        return JSONResponse(self._service.models.entry(request.path_params["name"]))

    async def health(self, request: Request) -> Response:
        if self._service.desk.is_draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        text = self._service.metrics.text(self._service.models, self._service.desk)
        return Response(text, media_type=TYPE)

    async def index(self, request: Request) -> Response:
        return page()


async def _unknown(request: Request, error: Exception) -> Response:
    """Paths and methods that do not exist."""
    assert isinstance(error, HTTPException)
    path = f"{request.method} {request.url.path:.100}"
    return refused(Refusal(error.status_code, f"{path}: {error.detail}", code="unknown_url"))
