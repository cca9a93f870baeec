"""Anthropic's client: whole and streamed, tools and their results, thinking off, what a conversation counts."""

import json
import sys
from typing import Any

from anthropic import Anthropic

TOOL = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Lisbon", "Porto"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
QUESTION = {"role": "user", "content": "What is the weather in Lisbon?"}


def streamed(client: Any, model: str) -> None:
    """Its accumulator agrees with the whole message; thinking is off."""
    asked = {
        "model": model,
        "max_tokens": 20,
        "extra_body": {"temperature": 0},  # it has no argument for it any more
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "Name a sea god."}],
        "thinking": {"type": "disabled"},
    }
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens > 0


def tool_loop(client: Any, model: str) -> None:
    """A call streamed, and sent back with its result as it came."""
    with client.messages.stream(
        model=model, max_tokens=60, messages=[QUESTION], tools=[TOOL], tool_choice={"type": "any"}
    ) as stream:
        partial = "".join(event.partial_json for event in stream if event.type == "input_json")
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    call = next(block for block in message.content if block.type == "tool_use")
    assert json.loads(partial) == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Sunny"}]}
    conversation = [
        QUESTION,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    counted = client.messages.count_tokens(model=model, messages=conversation, tools=[TOOL])
    second = client.messages.create(model=model, max_tokens=40, messages=conversation, tools=[TOOL])
    assert second.usage.input_tokens == counted.input_tokens
    assert second.content


if __name__ == "__main__":
    with Anthropic(base_url=sys.argv[1], max_retries=0) as made:
        for part in (streamed, tool_loop):
            part(made, sys.argv[2])
            print(part.__name__)
