"""The ASGI application: its routes, its layers, and how every failure leaves it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import chat, responses, text
from gateway.anthropic import anthropic_model, anthropic_models, anthropic_routes
from gateway.backend import Backend
from gateway.dialect import failure, speaks_anthropic
from gateway.errors import INVALID, ApiError, Refused, of_validation
from gateway.guard import Guard
from gateway.health import LIVE, RELEASE
from gateway.interrupt import ClientLeft
from gateway.journey import journey_of
from gateway.observe import Observed
from gateway.openapi import describe
from gateway.paths import Named, Tidied, hint
from gateway.schema.chat import ChatBody
from gateway.schema.common import Sampling
from gateway.schema.responses import ResponsesBody
from gateway.schema.text import TextBody
from gateway.service import Service, Work
from gateway.standing import OF_QUOTAS
from gateway.tokenizer import tokenizer_routes

B = TypeVar("B", bound=Sampling)


def make_app(service: Service) -> Starlette:
    """The application around a service."""
    routes = [
        *(*_answers(service), *anthropic_routes(service), *tokenizer_routes(service)),
        *(*_models(service), *_state(service)),
    ]
    document = describe(routes, keys_needed=service.keys.needed)

    async def openapi(request: Request) -> Response:
        """What is accepted, field by field."""
        return JSONResponse(document)

    friends = Middleware(
        CORSMiddleware,
        allow_origins=service.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["x-request-id", "retry-after", "x-should-retry", *OF_QUOTAS],
    )
    return Starlette(
        routes=[*routes, Named("/openapi.json", openapi)],
        middleware=[
            Middleware(Tidied),
            Middleware(Observed, books=service.books, tracer=service.tracer),
            *((friends,) if service.cors_origins else ()),
            Middleware(Guard, keys=service.keys, drain=service.drain),
        ],
        exception_handlers=_HANDLERS,
    )


def _answers(service: Service) -> list[Route]:
    async def answer(request: Request, schema: type[B], understand: Callable[[B, Backend], Work]) -> Response:
        body, backend = await service.asked(request, schema)
        return await service.answer(request, backend, understand(body, backend))

    async def chat_completions(request: Request) -> Response:
        """Continue a chat."""
        return await answer(request, ChatBody, chat.understand)

    async def completions(request: Request) -> Response:
        """Continue a text, or several."""
        return await answer(request, TextBody, text.understand)

    async def make_response(request: Request) -> Response:
        """Make a response."""
        return await answer(request, ResponsesBody, responses.understand)

    async def count_input(request: Request) -> Response:
        """Count the tokens of a response's input."""
        body, backend = await service.asked(request, ResponsesBody)
        (ask,) = responses.understand(body, backend).asks
        count = await service.count(request, backend, ask)
        return JSONResponse({"object": "response.input_tokens", "input_tokens": count})

    async def embeddings(request: Request) -> Response:
        """There are none: every deployment here generates text."""
        message = f"No deployment here makes embeddings; {', '.join(service.backends)} generate text"
        raise Refused(ApiError(404, message, INVALID, "model_not_found", "model"))

    return [
        Named("/v1/chat/completions", chat_completions, methods=["POST"]),
        Named("/v1/completions", completions, methods=["POST"]),
        Named("/v1/responses", make_response, methods=["POST"]),
        Named("/v1/responses/input_tokens", count_input, methods=["POST"]),
        Named("/v1/embeddings", embeddings, methods=["POST"]),
    ]


def _models(service: Service) -> list[Route]:
    async def models(request: Request) -> Response:
        """Every deployment."""
        if speaks_anthropic(request.scope):
            return JSONResponse(anthropic_models(service.backends.values()))
        return JSONResponse({"object": "list", "data": [_model(each) for each in service.backends.values()]})

    async def model(request: Request) -> Response:
        """One deployment."""
        backend = service.backend(request.path_params["model"], journey_of(request))
        return JSONResponse(anthropic_model(backend) if speaks_anthropic(request.scope) else _model(backend))

    return [Named("/v1/models", models), Named("/v1/models/{model}", model)]


def _state(service: Service) -> list[Route]:
    async def live(request: Request) -> Response:
        """The gateway answers."""
        await service.books.alive()
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        """Every deployment answers a one-token request, and the gateway takes new ones."""
        verdicts = await service.books.verdicts()
        if service.drain.draining:
            verdicts = dict.fromkeys(verdicts, "the gateway is stopping")
        status = 503 if any(verdicts.values()) else 200
        return JSONResponse({name: verdict or "ready" for name, verdict in verdicts.items()}, status)

    async def metrics_page(request: Request) -> Response:
        """Prometheus' page."""
        return Response(await service.books.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def release(request: Request) -> Response:
        """Which Conch this is."""
        return JSONResponse({"version": RELEASE})

    return [
        *(Named(path, live) for path in LIVE),
        Named("/health/ready", ready),
        Named("/metrics", metrics_page),
        Named("/version", release),
    ]


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
    journey_of(request).finish_reason = error.reason
    return failure(request.scope, error)


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
        404: (f"Unknown URL: {request.method} {path:.200}{hint(path, request.app.routes)}", "unknown_url"),
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
