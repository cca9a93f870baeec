"""The Agents SDK: a tool loop of three turns over each of OpenAI's two dialects, whole and streamed."""

import asyncio
import sys

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "%s"}}</tool_call>'
SCRIPT = f"[[{CALL % 'Lisbon'}|{CALL % 'Porto'}|Sunny in both.]]"
heard: list[str] = []


@function_tool  # type: ignore[untyped-decorator]
def weather(city: str) -> str:
    """The weather in a city."""
    heard.append(city)
    return f"It is sunny in {city}."


async def loops(origin: str, name: str) -> None:
    """Every way the SDK has."""
    async with AsyncOpenAI(base_url=f"{origin}/v1", max_retries=0) as client:
        for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
            agent = Agent(name="Ann", instructions="Be brief.", tools=[weather], model=kind(name, client))
            whole = await Runner.run(agent, SCRIPT)
            assert whole.final_output == "Sunny in both."
            streamed = Runner.run_streamed(agent, [*whole.to_input_list(), {"role": "user", "content": SCRIPT}])
            async for _ in streamed.stream_events():
                pass
            assert streamed.final_output == "Sunny in both."
            assert heard == ["Lisbon", "Porto"] * 2
            heard.clear()


if __name__ == "__main__":
    asyncio.run(loops(*sys.argv[1:]))
