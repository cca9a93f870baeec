"""litellm: its openai/ provider, its bridge from /v1/messages over it and to ours, and its words for an overflow."""

import asyncio
import sys

import litellm

QUESTION = [{"role": "user", "content": "Name a sea god."}]


def chat(base: str, model: str) -> None:
    """Whole, streamed, and with a tool."""
    asked = {"model": f"openai/{model}", "api_base": base, "messages": QUESTION, "max_tokens": 20, "temperature": 0}
    whole = litellm.completion(**asked)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**asked, stream=True))
    assert text == whole.choices[0].message.content
    tool = {
        "type": "function",
        "function": {"name": "ask", "parameters": {"type": "object", "properties": {"city": {"enum": ["Lisbon"]}}}},
    }
    called = litellm.completion(**asked | {"max_tokens": 60}, tools=[tool], tool_choice="required")
    message = called.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    assert litellm.completion(**asked | {"messages": [*QUESTION, message, result]}, tools=[tool]).choices


def overflow(base: str, model: str) -> None:
    """It knows an overflow by its words."""
    try:
        litellm.completion(
            model=f"openai/{model}", api_base=base, messages=[{"role": "user", "content": "word " * 9000}]
        )
    except litellm.ContextWindowExceededError:
        return
    raise AssertionError("no ContextWindowExceededError")


async def messages(model: str, **where: str) -> None:
    """Anthropic's API through litellm, whole and streamed."""
    asked = {"model": model, "messages": QUESTION, "max_tokens": 20, "temperature": 0, **where}
    whole = await litellm.anthropic.messages.acreate(**asked)
    assert whole["content"][0]["text"]
    assert whole["usage"]["output_tokens"]
    events = b"".join([piece async for piece in await litellm.anthropic.messages.acreate(**asked, stream=True)])
    assert b"message_start" in events and b"message_stop" in events


if __name__ == "__main__":
    origin, name = sys.argv[1:]
    chat(f"{origin}/v1", name)
    overflow(f"{origin}/v1", name)
    asyncio.run(messages(f"openai/{name}", api_base=f"{origin}/v1", api_key="none needed"))
    asyncio.run(messages(f"anthropic/{name}", api_base=origin, api_key="none needed"))
