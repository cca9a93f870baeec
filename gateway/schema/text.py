"""The body of POST /v1/completions."""

from typing import Annotated, Any, Self, cast

from annotated_types import Ge, Le
from pydantic import Field, model_validator

from gateway.schema.common import WHOLE, Choices, TokenId, bounds
from gateway.schema.decisions import HONOURED, Honoured, Refused

Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[list[TokenId], Field(min_length=1)]


class TextBody(Choices):
    """A text to be continued."""

    prompt: Annotated[
        Text | Ids | Annotated[list[Text], Field(min_length=1)] | Annotated[list[Ids], Field(min_length=1)], HONOURED
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
