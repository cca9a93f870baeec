"""response_format: the text is JSON, and fits the schema, whatever the model would rather have said."""

import json
from typing import Any

import httpx
import jsonschema_rs
import pytest
from openai import OpenAI

from tests.conformance.target import check_error, user

CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "size": {"enum": ["small", "large"]},
        "founded": {"type": "integer", "minimum": 0, "maximum": 2000},
        "rivers": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 2},
    },
    "required": ["name", "size", "founded", "rivers"],
    "additionalProperties": False,
}


# A model that likes line breaks better than values could otherwise go on with them for ever.
LIKE = '{"name": "Vigo", "size": "small", "founded": 1100, "rivers": ["Lagares"]}'
QUESTION = user(f"Describe Lisbon in one line of JSON, such as {LIKE}")


def form(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_json_schema(client: OpenAI, model: str, temperature: float) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        response_format=form(CITY),
        max_tokens=200,
        temperature=temperature,
        seed=3,
    )
    assert answer.choices[0].finish_reason == "stop"
    jsonschema_rs.validate(CITY, json.loads(answer.choices[0].message.content or ""))


def test_json_schema_streamed(client: OpenAI, model: str) -> None:
    with client.chat.completions.create(
        model=model, messages=QUESTION, response_format=form(CITY), max_tokens=200, temperature=0, stream=True
    ) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    jsonschema_rs.validate(CITY, json.loads(text))


def test_json_object(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=user('Answer with a short JSON object such as {"answer": 4}. What is 2 + 2?'),
        response_format={"type": "json_object"},
        max_tokens=300,
        temperature=0,
    )
    text = answer.choices[0].message.content or ""
    assert text.lstrip().startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    "schema", [{"type": "no-such-type"}, {"$ref": "#/nowhere"}, {"type": "object", "properties": 3}]
)
def test_a_schema_that_is_none_is_400(http: httpx.Client, model: str, schema: Any) -> None:
    body = {"model": model, "messages": user("Hi"), "response_format": form(schema), "max_tokens": 20}
    check_error(http.post("/chat/completions", json=body), 400)
