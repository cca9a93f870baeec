"""The routes of Anthropic's API."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contract.errors import RequestError
from gateway import messages
from gateway.body import read_body, timeout_of
from gateway.errors import Refused
from gateway.journey import journey_of
from gateway.schema.messages import CountBody, MessagesBody
from gateway.service import Service


def anthropic_routes(service: Service) -> list[Route]:
    """Messages, and the count of their tokens."""

    async def make_message(request: Request) -> Response:
        """Make a message."""
        journey = journey_of(request)
        journey.route = "/v1/messages"
        body = await read_body(request, MessagesBody, service.most_body_bytes)
        backend = service.backend(body.model, journey)
        return await service.answer(request, backend, messages.understand(body, backend))

    async def count_tokens(request: Request) -> Response:
        """Count the tokens of a conversation."""
        journey = journey_of(request)
        journey.route = "/v1/messages/count_tokens"
        body = await read_body(request, CountBody, service.most_body_bytes)
        backend = service.backend(body.model, journey)
        ask = messages.to_count(body, backend)
        try:
            count = await backend.client.count(ask.inputs, timeout_s=timeout_of(request))
        except RequestError as error:
            raise Refused(service.told(error, backend, ask)) from None
        return JSONResponse({"input_tokens": count})

    return [
        Route("/v1/messages", make_message, methods=["POST"]),
        Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
    ]
