"""The published openapi.json, made from the very models that check the requests."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import Route

from gateway.ask import TIMEOUT_HEADER
from gateway.guard import OPEN
from gateway.schema.answers import (
    AnthropicErrorAnswer,
    AnthropicMessage,
    ChatAnswer,
    ErrorAnswer,
    InputTokenCount,
    ModelAnswer,
    ModelList,
    ResponseAnswer,
    TextAnswer,
    TokenCount,
    TokenizeAnswer,
    TokensText,
)
from gateway.schema.chat import ChatBody
from gateway.schema.messages import CountBody, MessagesBody
from gateway.schema.responses import ResponsesBody
from gateway.schema.text import TextBody
from gateway.schema.tokenize import DetokenizeBody, TokenizeBody

BODIES: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "/v1/chat/completions": (ChatBody, ChatAnswer),
    "/v1/completions": (TextBody, TextAnswer),
    "/v1/responses": (ResponsesBody, ResponseAnswer),
    "/v1/responses/input_tokens": (ResponsesBody, InputTokenCount),
    "/v1/messages": (MessagesBody, AnthropicMessage),
    "/v1/messages/count_tokens": (CountBody, TokenCount),
    "/tokenize": (TokenizeBody, TokenizeAnswer),
    "/detokenize": (DetokenizeBody, TokensText),
}
_NEVER_STREAMED = ("/v1/messages/count_tokens", "/v1/responses/input_tokens", "/tokenize", "/detokenize")
_PLAIN: dict[str, type[BaseModel]] = {"/v1/models": ModelList, "/v1/models/{model}": ModelAnswer}
_FAILURES: tuple[type[BaseModel], ...] = (ErrorAnswer, AnthropicErrorAnswer)
_ERRORS = {
    "400": "The request cannot be honoured; param names the field",
    "404": "There is no such deployment",
    "408": "The client's own deadline passed, or its body did not arrive",
    "413": "The body is too large",
    "429": "No room; Retry-After says when there should be",
    "500": "The server failed",
    "503": "The server is starting, stopping or restarting",
}
_UNAUTHORIZED = {"401": "No API key, or a wrong one"}
_REFS = "#/components/schemas/{model}"


def describe(routes: Iterable[Route], *, keys_needed: bool) -> dict[str, Any]:
    """The document of these routes: what they really take and give."""
    models = [model for pair in BODIES.values() for model in pair] + [*_PLAIN.values(), *_FAILURES]
    names, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REFS)
    components: dict[str, Any] = {"schemas": schemas["$defs"]}
    paths: dict[str, Any] = {}
    for route in routes:
        path = route.path
        operation: dict[str, Any] = {
            "summary": route.endpoint.__doc__,
            "operationId": route.name,
            "responses": {"200": {"description": "The state"}},
            "parameters": [_named(name) for name in route.param_convertors],
        }
        paths[path] = {"post" if "POST" in (route.methods or ()) else "get": operation}
        if path in OPEN:
            continue
        failure = names[AnthropicErrorAnswer if path.startswith("/v1/messages") else ErrorAnswer, "validation"]
        operation["responses"] |= {
            status: {"description": why, "content": _json(failure)}
            for status, why in {**_ERRORS, **(_UNAUTHORIZED if keys_needed else {})}.items()
        }
        if path in BODIES:
            body, answer = (names[model, "validation"] for model in BODIES[path])
            operation["requestBody"] = {"required": True, "content": _json(body)}
            content = _json(answer)
            if path not in _NEVER_STREAMED:
                content["text/event-stream"] = {}  # what an event is, OpenAPI 3.1 cannot say
            operation["responses"]["200"] = {"description": "The answer", "content": content}
            operation["parameters"] = [_TIMEOUT]
        elif path in _PLAIN:
            operation["responses"]["200"] = {
                "description": "Found",
                "content": _json(names[_PLAIN[path], "validation"]),
            }
        if keys_needed:
            operation["security"] = [{"key": []}]
    if keys_needed:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Conch", "version": "1"},
        "paths": paths,
        "components": components,
    }


def _named(parameter: str) -> dict[str, Any]:
    return {"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_TIMEOUT = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "description": "Seconds from the request's arrival after which its answer is of no use.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 86400},
}
