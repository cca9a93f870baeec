"""The FastAPI application: its routes, its layers, and how every failure leaves it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import chat, responses, text
from gateway.backend import Backend
from gateway.body import read_body
from gateway.errors import INVALID, ApiError, Refused, of_validation
from gateway.guard import Guard
from gateway.health import Health
from gateway.interrupt import ClientLeft
from gateway.journey import journey_of
from gateway.metrics import Metrics
from gateway.observe import Observed
from gateway.openapi import publish
from gateway.schema.chat import ChatBody
from gateway.schema.common import Sampling
from gateway.schema.responses import ResponsesBody
from gateway.schema.text import TextBody
from gateway.service import Service, Work

# FastAPI would send what it sees, bodies of refused requests included, wherever OTEL_… variables say.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

B = TypeVar("B", bound=Sampling)


def make_app(service: Service) -> FastAPI:
    """The application around a service."""

    metrics = Metrics(service.backends.values())
    app = FastAPI(title="Conch", version="1", redoc_url=None, telemetry=_NO_TELEMETRY)
    app.add_middleware(Guard, keys=service.keys, drain=service.drain)
    if service.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=service.cors_origins, allow_headers=["*"])
    app.add_middleware(Observed, metrics=metrics)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    _add_answers(app, service)
    _add_models(app, service)
    _add_state(app, service, metrics)
    publish(app, keys_needed=service.keys.needed)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    async def answer(request: Request, schema: type[B], understand: Callable[[B, Backend], Work]) -> Response:
        journey = journey_of(request)
        journey.route = request.url.path
        body = await read_body(request, schema, service.most_body_bytes)
        backend = service.backend(body.model, journey)
        return await service.answer(request, backend, understand(body, backend))

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        """Continue a chat."""
        return await answer(request, ChatBody, chat.understand)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        """Continue a text, or several."""
        return await answer(request, TextBody, text.understand)

    @app.post("/v1/responses")
    async def make_response(request: Request) -> Response:
        """Make a response."""
        return await answer(request, ResponsesBody, responses.understand)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        """There are none: every deployment here generates text."""
        journey_of(request).route = "/v1/embeddings"
        message = f"No deployment here makes embeddings; {', '.join(service.backends)} generate text"
        raise Refused(ApiError(404, message, INVALID, "model_not_found", "model"))


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        """Every deployment."""
        journey_of(request).route = "/v1/models"
        return JSONResponse({"object": "list", "data": [_model(each) for each in service.backends.values()]})

    @app.get("/v1/models/{model}")
    async def model(request: Request, model: str) -> Response:
        """One deployment."""
        journey = journey_of(request)
        journey.route = "/v1/models/{model}"
        return JSONResponse(_model(service.backend(model, journey)))


def _add_state(app: FastAPI, service: Service, metrics: Metrics) -> None:
    healths = {name: Health(backend) for name, backend in service.backends.items()}

    @app.get("/health/live")
    async def live(request: Request) -> Response:
        """The gateway answers."""
        journey_of(request).route = "/health/live"
        return JSONResponse({"status": "ok"})

    @app.get("/health/ready")
    async def ready(request: Request) -> Response:
        """Every deployment answers a one-token request, and the gateway takes new ones."""
        journey_of(request).route = "/health/ready"
        verdicts = {name: await health.verdict() for name, health in healths.items()}
        if service.drain.draining:
            verdicts = dict.fromkeys(verdicts, "the gateway is stopping")
        status = 503 if any(verdicts.values()) else 200
        return JSONResponse({name: verdict or "ready" for name, verdict in verdicts.items()}, status)

    @app.get("/metrics")
    async def metrics_page(request: Request) -> Response:
        """Prometheus' page."""
        journey_of(request).route = "/metrics"
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _model(backend: Backend) -> dict[str, object]:
    limits = backend.spec.limits
    return {
        "id": backend.name,
        "object": "model",
        "created": backend.created,
        "owned_by": "conch",
        "max_model_len": limits.max_seq_len,
    }


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
    path = request.url.path
    message, code = {
        404: (f"Unknown URL: {request.method} {path:.200}", "unknown_url"),
        405: (f"{path:.200} does not take {request.method}", "method_not_allowed"),
    }.get(error.status_code, (str(error.detail), "invalid_request"))
    response = _respond(request, ApiError(error.status_code, message, INVALID, code))
    response.headers.update(error.headers or {})
    return response


async def _left(request: Request, error: Exception) -> Response:
    journey_of(request).finish_reason = "client_left"
    return Response(status_code=499)


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    Refused: _refused,
    ValidationError: _invalid,
    HTTPException: _http,
    ClientLeft: _left,
}
