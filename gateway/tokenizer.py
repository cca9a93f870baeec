"""What the model's tokenizer makes of a prompt, for tools that must know: the routes that vLLM has for them."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clients.request import Inputs, Tokens
from contract.errors import RequestError
from gateway import chat
from gateway.backend import Backend
from gateway.body import timeout_of
from gateway.errors import INVALID, ApiError, Refused, of_request
from gateway.journey import journey_of
from gateway.paths import Named
from gateway.schema.chat import ChatBody
from gateway.schema.tokenize import DetokenizeBody, TokenizeBody
from gateway.service import OF_THE_PROMPT, Service

_NAMES = {"text_input": "prompt", "input_ids": "tokens"}


def tokenizer_routes(service: Service) -> list[Route]:
    """vLLM's three."""

    async def tokenize(request: Request) -> Response:
        """The tokens of a text or a chat."""
        body, backend = await service.asked(request, TokenizeBody)
        inputs = {"text_input": body.prompt} if body.prompt else _chat_inputs(body, backend)
        found = await _asked(request, backend, inputs, add_special_tokens=body.add_special_tokens is not False)
        return JSONResponse(
            {
                "count": len(found.ids),
                "max_model_len": backend.spec.limits.max_seq_len,
                "tokens": found.ids,
                "token_strs": found.tokens if body.return_token_strs else None,
            }
        )

    async def detokenize(request: Request) -> Response:
        """The text of tokens, special ones included."""
        body, backend = await service.asked(request, DetokenizeBody)
        text = (await _asked(request, backend, {"input_ids": body.tokens})).text if body.tokens else ""
        return JSONResponse({"prompt": text})

    async def tokenizer_info(request: Request) -> Response:
        """The model's tokenizer_config.json, with its chat template."""
        backend = service.backend(request.query_params.get("model"), journey_of(request))
        if not backend.tokenizer_config:
            message = f"{backend.name} has no tokenizer_config.json where this gateway runs"
            raise Refused(ApiError(404, message, INVALID, "not_found"))
        return JSONResponse(backend.tokenizer_config | {"chat_template": backend.template or None})

    return [
        Named("/tokenize", tokenize, methods=["POST"]),
        Named("/detokenize", detokenize, methods=["POST"]),
        Named("/tokenizer_info", tokenizer_info),
    ]


def _chat_inputs(body: TokenizeBody, backend: Backend) -> Inputs:
    fields = {
        name: getattr(body, name)
        for name in (
            *("messages", "tools", "chat_template_kwargs"),
            *("add_generation_prompt", "continue_final_message"),
        )
    }
    (ask,) = chat.understand(ChatBody(model=backend.name, **fields), backend).asks
    return {name: value for name, value in ask.inputs.items() if name in OF_THE_PROMPT}


async def _asked(request: Request, backend: Backend, inputs: Inputs, *, add_special_tokens: bool = True) -> Tokens:
    try:
        return await backend.client.tokenize(
            inputs, add_special_tokens=add_special_tokens, timeout_s=timeout_of(request)
        )
    except RequestError as error:
        raise Refused(of_request(error, _NAMES)) from None
