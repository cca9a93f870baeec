"""The routes of Anthropic's API, and its form of what other routes tell."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import messages
from gateway.backend import Backend
from gateway.paths import Named
from gateway.schema.messages import CountBody, MessagesBody
from gateway.service import Service


def anthropic_routes(service: Service) -> list[Route]:
    """Messages, and the count of their tokens."""

    async def make_message(request: Request) -> Response:
        """Make a message."""
        body, backend = await service.asked(request, MessagesBody)
        return await service.answer(request, backend, messages.understand(body, backend))

    async def count_tokens(request: Request) -> Response:
        """Count the tokens of a conversation."""
        body, backend = await service.asked(request, CountBody)
        count = await service.count(request, backend, messages.to_count(body, backend))
        return JSONResponse({"input_tokens": count})

    return [
        Named("/v1/messages", make_message, methods=["POST"]),
        Named("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
    ]


def anthropic_models(backends: Iterable[Backend]) -> dict[str, Any]:
    """Every deployment."""
    found = [anthropic_model(backend) for backend in backends]
    return {"data": found, "has_more": False, "first_id": found[0]["id"], "last_id": found[-1]["id"]}


def anthropic_model(backend: Backend) -> dict[str, Any]:
    """One deployment."""
    created = datetime.fromtimestamp(backend.created, UTC).isoformat()
    limits = backend.spec.limits
    return {
        "type": "model",
        "id": backend.name,
        "display_name": backend.name,
        "created_at": created,
        "lifecycle": "active",
        "max_input_tokens": limits.max_input_len,
        "max_tokens": limits.max_seq_len,
    }
