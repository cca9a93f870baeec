"""The FastAPI application: its routes, and how every failure leaves it."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.body import read_body
from gateway.chat import understand
from gateway.errors import INVALID, ApiError, Refused, of_validation
from gateway.interrupt import ClientLeft
from gateway.journey import journey_of
from gateway.metrics import Metrics
from gateway.observe import Observed
from gateway.schema.chat import ChatBody
from gateway.service import UNKNOWN, Service

log = logging.getLogger("gateway")


def make_app(service: Service) -> FastAPI:
    """The application around a service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for backend in service.backends.values():
            await backend.client.close()

    metrics = Metrics(service.backends.values())
    app = FastAPI(title="Conch", lifespan=lifespan)
    app.add_middleware(Observed, metrics=metrics)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        """Continue a chat."""
        journey_of(request).route = "/v1/chat/completions"
        body = await read_body(request, ChatBody, service.most_body_bytes)
        backend = service.backend(body.model, journey_of(request))
        return await service.answer(request, backend, understand(body, backend))

    @app.get("/metrics")
    async def metrics_page() -> Response:
        """Prometheus' page."""
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/health/live")
    async def live() -> Response:
        """The gateway answers."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    return app


def _respond(request: Request, error: ApiError) -> Response:
    journey_of(request).finish_reason = error.code or error.type
    return Response(error.body, status_code=error.status, headers=error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _respond(request, error.error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    return _respond(request, of_validation(error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = {404: f"Unknown URL: {request.method} {request.url.path}", 405: f"Not allowed: {request.method}"}
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    response = _respond(
        request, ApiError(error.status_code, what.get(error.status_code, str(error.detail)), INVALID, code)
    )
    response.headers.update(error.headers or {})
    return response


async def _left(request: Request, error: Exception) -> Response:
    journey_of(request).finish_reason = "client_left"
    return Response(status_code=499)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return _respond(request, UNKNOWN)


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    Refused: _refused,
    ValidationError: _invalid,
    HTTPException: _http,
    ClientLeft: _left,
    Exception: _failed,
}
