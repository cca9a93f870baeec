"""The body of POST /v1/completions."""

from typing import Annotated, Any, Self, cast

from annotated_types import Ge, Le
from pydantic import ConfigDict, Field, model_validator

from gateway.schema.common import WHOLE, Choices, Many, TokenId, bounds
from gateway.schema.decisions import HONOURED, Honoured, Refused
from gateway.schema.rules import either, is_one_of

Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[Many[TokenId], Field(min_length=1)]


_TEXTS = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]


class TextBody(Choices):
    """A text to be continued."""

    model_config = ConfigDict(
        json_schema_extra=either(
            is_one_of("echo", False), {"properties": {"prompt": {"anyOf": _TEXTS}, "logprobs": {"type": "null"}}}
        )
    )

    prompt: Annotated[
        Text | Ids | Annotated[Many[Text], Field(min_length=1)] | Annotated[Many[Ids], Field(min_length=1)], HONOURED
    ]
    max_tokens: Annotated[
        int | None, *bounds("max_tokens"), WHOLE, Honoured("16 where it is not given, as OpenAI's")
    ] = None
    logprobs: Annotated[int | None, Ge(0), Le(20), WHOLE, HONOURED] = None
    echo: Annotated[bool | None, Honoured("of a prompt of text, without logprobs")] = None
    suffix: Annotated[Any, Refused("text cannot be inserted before a suffix", "")] = None
    add_special_tokens: Annotated[Any, Refused("a prompt has the model's special tokens; send ids", True)] = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Every prompt of the request."""
        whole = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return cast("list[str | list[int]]", [self.prompt] if whole else self.prompt)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.echo and (self.logprobs is not None or not all(isinstance(prompt, str) for prompt in self.prompts)):
            raise ValueError("echo needs a prompt of text, and no logprobs: those of a prompt are not served")
        return self
