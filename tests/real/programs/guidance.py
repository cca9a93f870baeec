"""guidance over OpenAI's dialect: free text, JSON of a schema, and a choice."""

import sys
from typing import Literal

from guidance import assistant, gen, json, user
from guidance.models import OpenAI
from pydantic import BaseModel


class Place(BaseModel):
    """A city in its country, of few words: the model of these tests would go on and on."""

    city: Literal["Paris", "Rome", "Lisbon"]
    country: Literal["France", "Italy", "Portugal"]


if __name__ == "__main__":
    model = OpenAI(sys.argv[2], api_key="none needed", base_url=f"{sys.argv[1]}/v1", echo=False)
    # It asks for the alternatives of each token, for its own pictures; OpenVINO does not tell them.
    model._interpreter.logprobs = False
    with user():
        model += "Where is the Eiffel tower?"
    with assistant():
        free = model + gen("free", max_tokens=20)
    assert free["free"]
    with assistant():
        formed = model + json("place", schema=Place, max_tokens=80)
    Place.model_validate_json(formed["place"])
