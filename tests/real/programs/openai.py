"""OpenAI's client: a second turn after ``parse()``, a replayed call, streams, and Responses."""

import sys
from typing import Any, Literal

from openai import OpenAI
from pydantic import BaseModel


class Place(BaseModel):
    """A city in its country, of few words: the model of these tests would go on and on."""

    city: Literal["Paris", "Rome", "Lisbon"]
    country: Literal["France", "Italy", "Portugal"]


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Lisbon", "Porto"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def second_turn_after_parse(client: Any, model: str) -> None:
    """The parsed message goes back as it is, ``parsed`` and all."""
    messages = [{"role": "user", "content": "Where is the Eiffel tower?"}]
    first = client.chat.completions.parse(model=model, messages=messages, response_format=Place, max_tokens=60)
    assert isinstance(first.choices[0].message.parsed, Place)
    messages += [first.choices[0].message, {"role": "user", "content": "And the Colosseum?"}]
    second = client.chat.completions.parse(model=model, messages=messages, response_format=Place, max_tokens=60)
    assert isinstance(second.choices[0].message.parsed, Place)


def replayed_call(client: Any, model: str) -> None:
    """A call, with ``parsed_arguments``, and its result."""
    messages = [{"role": "user", "content": "What is the weather in Lisbon?"}]
    asked = {"model": model, "tools": [TOOL], "max_tokens": 60}
    first = client.chat.completions.parse(messages=messages, tool_choice="required", parallel_tool_calls=False, **asked)
    call = first.choices[0].message.tool_calls[0]
    assert call.function.parsed_arguments["city"] in ("Lisbon", "Porto")
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 24 °C"}]
    second = client.chat.completions.create(messages=messages, **asked)
    assert second.choices[0].message.content or second.choices[0].message.tool_calls


def streamed(client: Any, model: str) -> None:
    """Its own accumulator agrees with the whole answer."""
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": "Name a sea god."}],
        "max_tokens": 20,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**asked).choices[0].message.content
    with client.chat.completions.stream(**asked) as stream:
        events = list(stream)
    assert "".join(event.delta for event in events if event.type == "content.delta") == whole
    assert events[-1].type == "content.done"


def responses(client: Any, model: str) -> None:
    """Parsed, and its output sent back as the next input."""
    first = client.responses.parse(
        model=model, input="Where is the Eiffel tower?", text_format=Place, max_output_tokens=60
    )
    assert isinstance(first.output_parsed, Place)
    conversation = [*first.output, {"role": "user", "content": "And the Colosseum?"}]
    with client.responses.stream(model=model, input=conversation, max_output_tokens=20) as stream:
        assert [event.type for event in stream][-1] in ("response.completed", "response.incomplete")


if __name__ == "__main__":
    with OpenAI(base_url=f"{sys.argv[1]}/v1", max_retries=0) as made:
        for part in (second_turn_after_parse, replayed_call, streamed, responses):
            part(made, sys.argv[2])
            print(part.__name__)
