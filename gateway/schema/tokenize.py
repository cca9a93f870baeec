"""The bodies of POST /tokenize and /detokenize, in vLLM's shapes."""

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from gateway.schema.chat import Message, Tool
from gateway.schema.common import Body, TokenId
from gateway.schema.decisions import HONOURED, Honoured, Refused
from gateway.schema.refused import TEXT_ONLY
from gateway.schema.rules import all_of, both, either, has, is_one_of

_MODEL = Honoured("may be left out where there is one deployment")
_OF_A_CHAT = ("tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")


class TokenizeBody(Body):
    """A text, or a chat, whose tokens are wanted."""

    model_config = ConfigDict(
        json_schema_extra=either(
            both(has("prompt", type="string"), *(is_one_of(name) for name in ("messages", *_OF_A_CHAT))),
            all_of(
                has("messages", type="array"),
                is_one_of("prompt"),
                is_one_of("add_special_tokens", False),
                either(is_one_of("add_generation_prompt", False), is_one_of("continue_final_message", False)),
            ),
        )
    )

    model: Annotated[str | None, _MODEL] = None
    prompt: Annotated[str | None, Field(min_length=1), HONOURED] = None
    messages: Annotated[list[Message] | None, Field(min_length=1), HONOURED] = None
    add_special_tokens: Annotated[
        bool | None, Honoured("of a text, where they are added unless told otherwise; a chat has its template's")
    ] = None
    return_token_strs: Annotated[bool | None, Honoured("as the vocabulary has them")] = None
    tools: Annotated[list[Tool] | None, HONOURED] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, HONOURED] = None
    add_generation_prompt: Annotated[bool | None, HONOURED] = None
    continue_final_message: Annotated[bool | None, HONOURED] = None
    chat_template: Annotated[Any, Refused("the deployment's own template applies; send its text as prompt")] = None
    media_io_kwargs: Annotated[Any, Refused(TEXT_ONLY, {})] = None
    mm_processor_kwargs: Annotated[Any, Refused(TEXT_ONLY, {})] = None

    @model_validator(mode="after")
    def _is_one_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("prompt or messages: give exactly one of them")
        if self.messages and self.add_special_tokens:
            raise ValueError("add_special_tokens is for a text; a chat's template writes its own")
        if self.prompt:
            for name in _OF_A_CHAT:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for messages; leave it out with a prompt")
        if self.add_generation_prompt and self.continue_final_message:
            raise ValueError("add_generation_prompt and continue_final_message contradict each other")
        return self


class DetokenizeBody(Body):
    """Tokens whose text is wanted."""

    model: Annotated[str | None, _MODEL] = None
    tokens: Annotated[list[TokenId], HONOURED]
