"""The body of POST /v1/completions."""

from typing import Annotated, Any, Self, cast

from annotated_types import Ge, Le
from pydantic import ConfigDict, Field, model_validator

from gateway.schema.common import WHOLE, Choices, Many, TokenId, bounds
from gateway.schema.decisions import HONOURED, Honoured, Refused
from gateway.schema.rules import either, has

Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[Many[TokenId], Field(min_length=1)]


class TextBody(Choices):
    """A text to be continued."""

    model_config = ConfigDict(
        json_schema_extra=either({"properties": {"max_tokens": {"not": {"const": 0}}}}, has("echo", const=True))
    )

    prompt: Annotated[
        Text | Ids | Annotated[Many[Text], Field(min_length=1)] | Annotated[Many[Ids], Field(min_length=1)], HONOURED
    ]
    max_tokens: Annotated[
        int | None, *bounds("max_tokens"), WHOLE, Honoured("16 where it is not given, as OpenAI's; 0 beside echo")
    ] = None
    logprobs: Annotated[int | None, Ge(0), Le(20), WHOLE, HONOURED] = None
    echo: Annotated[bool | None, Honoured("beside logprobs, with those of the prompt")] = None
    suffix: Annotated[Any, Refused("text cannot be inserted before a suffix", "")] = None
    add_special_tokens: Annotated[Any, Refused("a prompt has the model's special tokens; send ids", True)] = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Every prompt of the request."""
        whole = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return cast("list[str | list[int]]", [self.prompt] if whole else self.prompt)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens must be 1 or more, unless echo asks for the prompt")
        return self
