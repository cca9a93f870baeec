"""Pydantic AI over each of the three dialects: a structure by each kind of output, and a stream."""

import asyncio
import sys
from typing import Literal

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class Place(BaseModel):
    """A city in its country, of few words: the model of these tests would go on and on."""

    city: Literal["Paris", "Rome", "Lisbon"]
    country: Literal["France", "Italy", "Portugal"]


async def ask(model: Model, outputs: list[object]) -> None:
    """Two turns of each kind of output, the first one's messages in the second; a stream."""
    settings = {"max_tokens": 100}
    for output in outputs:
        agent = Agent(model, output_type=output, model_settings=settings, retries=3)
        first = await agent.run("Where is the Eiffel tower?")
        second = await agent.run("And the Colosseum?", message_history=first.all_messages())
        assert isinstance(first.output, Place) and isinstance(second.output, Place)
    async with Agent(model, model_settings=settings).run_stream("Name a sea god.") as stream:
        assert "".join([delta async for delta in stream.stream_text(delta=True)])
    print(type(model).__name__)


async def main(origin: str, name: str) -> None:
    """The three dialects."""
    openai = OpenAIProvider(openai_client=AsyncOpenAI(base_url=f"{origin}/v1", max_retries=0))
    anthropic = AnthropicProvider(anthropic_client=AsyncAnthropic(base_url=origin, max_retries=0))
    both = [ToolOutput(Place), NativeOutput(Place)]
    await ask(OpenAIChatModel(name, provider=openai), both)
    await ask(OpenAIResponsesModel(name, provider=openai), both)
    await ask(AnthropicModel(name, provider=anthropic), [ToolOutput(Place)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
