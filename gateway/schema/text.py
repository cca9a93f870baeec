"""The body of POST /v1/completions."""

from typing import Annotated, Self, cast

from annotated_types import Ge, Le
from pydantic import Field, model_validator

from gateway.schema.common import Choices, TokenId

Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[list[TokenId], Field(min_length=1)]


class TextBody(Choices):
    """A text to be continued."""

    prompt: Text | Ids | Annotated[list[Text], Field(min_length=1)] | Annotated[list[Ids], Field(min_length=1)]
    logprobs: Annotated[int, Ge(0), Le(20)] | None = None
    echo: bool | None = Field(None, description="Needs a prompt of text, and no logprobs.")

    @property
    def prompts(self) -> list[str | list[int]]:
        """Every prompt of the request."""
        whole = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return cast("list[str | list[int]]", [self.prompt] if whole else self.prompt)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream")
        if self.echo and (self.logprobs is not None or not all(isinstance(prompt, str) for prompt in self.prompts)):
            raise ValueError("echo needs a prompt of text, and no logprobs")
        return self
