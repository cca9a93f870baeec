"""langchain-openai: a tool and its result, a structure by each method, a stream, Responses, and a context overflow."""

import sys
from typing import Literal

from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Place(BaseModel):
    """A city in its country, of few words: the model of these tests would go on and on."""

    city: Literal["Paris", "Rome", "Lisbon"]
    country: Literal["France", "Italy", "Portugal"]


@tool  # type: ignore[untyped-decorator]
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def tools(llm: ChatOpenAI) -> None:
    """The call and its message go back."""
    question = HumanMessage("What is the weather in Lisbon?")
    called = llm.bind_tools([weather], tool_choice="weather").invoke([question])
    (call,) = called.tool_calls
    assert call["name"] == "weather"
    result = ToolMessage("sunny", tool_call_id=call["id"])
    assert llm.bind_tools([weather]).invoke([question, called, result])


def structures(llm: ChatOpenAI) -> None:
    """Each method that it has."""
    for method in ("json_schema", "function_calling"):
        place = llm.with_structured_output(Place, method=method).invoke("Where is the Eiffel tower?")
        assert isinstance(place, Place), method


def streams(llm: ChatOpenAI) -> None:
    """Chunks that add up, the usage with them."""
    chunks = list(llm.stream("Name a sea god."))
    assert "".join(chunk.text for chunk in chunks)
    assert any(chunk.usage_metadata for chunk in chunks)


def overflow(llm: ChatOpenAI) -> None:
    """It knows an overflow by its code."""
    try:
        llm.invoke("word " * 9000)
    except ContextOverflowError:
        return
    raise AssertionError("no ContextOverflowError")


if __name__ == "__main__":
    asked = {"base_url": f"{sys.argv[1]}/v1", "model": sys.argv[2], "max_retries": 0, "max_tokens": 80}
    chat = ChatOpenAI(**asked, stream_usage=True)
    for part in (tools, structures, streams, overflow):
        part(chat)
        print(part.__name__)
    responses = ChatOpenAI(**asked, use_responses_api=True)
    for part in (tools, streams, overflow):
        part(responses)
        print("responses:", part.__name__)
