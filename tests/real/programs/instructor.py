"""instructor: every mode of OpenAI's API. Where no schema reaches the engine, the script answers for the model."""

import sys
from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Place(BaseModel):
    """A city in its country, of few words: the model of these tests would go on and on."""

    city: Literal["Paris", "Rome", "Lisbon"]
    country: Literal["France", "Italy", "Portugal"]


MODES = ("TOOLS", "TOOLS_STRICT", "JSON_SCHEMA", "RESPONSES_TOOLS")
UNGUIDED = {"JSON": "%s", "MD_JSON": "```json\n%s\n```"}


def ask(mode: str, question: str) -> None:
    """One question in a mode; what does not fit is asked again."""
    origin, model = sys.argv[1:]
    client = instructor.from_openai(OpenAI(base_url=f"{origin}/v1", max_retries=0), mode=instructor.Mode[mode])
    messages = [{"role": "user", "content": question}]
    limit = {"max_output_tokens" if mode.startswith("RESPONSES") else "max_tokens": 100}
    asked = {"model": model, "messages": messages, "response_model": Place, **limit}
    assert isinstance(client.chat.completions.create(**asked, max_retries=2), Place)
    if mode in ("TOOLS", "JSON_SCHEMA"):
        assert list(client.chat.completions.create_partial(**asked))[-1].country
    print(mode)


if __name__ == "__main__":
    if sys.argv[2] == "scripted":
        for mode, answer in UNGUIDED.items():
            ask(mode, "[[" + answer % '{"city": "Paris", "country": "France"}' + "]]")
    else:
        for mode in MODES:
            ask(mode, "Where is the Eiffel tower? Its city and country.")
