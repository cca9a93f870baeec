"""instructor: every mode that OpenAI's clients have in it, whole, and one streamed."""

import sys
from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Place(BaseModel):
    """A city in its country, of few words: the model of these tests would go on and on."""

    city: Literal["Paris", "Rome", "Lisbon"]
    country: Literal["France", "Italy", "Portugal"]


QUESTION = [{"role": "user", "content": "Where is the Eiffel tower? Its city and country."}]
MODES = ("TOOLS", "TOOLS_STRICT", "JSON", "JSON_SCHEMA", "RESPONSES_TOOLS")

if __name__ == "__main__":
    origin, model = sys.argv[1:]
    for name in MODES:
        client = instructor.from_openai(OpenAI(base_url=f"{origin}/v1", max_retries=0), mode=instructor.Mode[name])
        asked = {"model": model, "messages": QUESTION, "response_model": Place, "max_retries": 4}
        limit = "max_output_tokens" if name.startswith("RESPONSES") else "max_tokens"
        place = client.chat.completions.create(**asked, **{limit: 100})
        assert isinstance(place, Place), name
        print(name, place)
    streaming = instructor.from_openai(OpenAI(base_url=f"{origin}/v1", max_retries=0), mode=instructor.Mode.TOOLS)
    partial = list(
        streaming.chat.completions.create_partial(model=model, messages=QUESTION, response_model=Place, max_tokens=100)
    )
    assert partial[-1].country is not None
