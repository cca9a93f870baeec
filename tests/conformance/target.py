"""The server under test, and what is sent to it and read from it without OpenAI's client."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

DONE = "[DONE]"


@dataclass(frozen=True)
class Target:
    """An OpenAI-compatible server."""

    base_url: str  # with /v1, without a slash behind it
    api_key: str
    model: str
    own: bool = False  # ours, started for these tests

    @property
    def origin(self) -> str:
        """The server without its /v1."""
        return self.base_url.removesuffix("/v1")

    @property
    def headers(self) -> dict[str, str]:
        """What a client authorizes itself with."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


def user(text: str) -> list[Any]:
    """A chat of one question."""
    return [{"role": "user", "content": text}]


def events(http: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    """The data of every event of a streamed answer; '[DONE]' as that string."""
    with http.stream("POST", path, json=body | {"stream": True}) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(data(response))


def data(response: httpx.Response) -> Iterator[Any]:
    """The data of each event, as it arrives."""
    for line in response.iter_lines():
        assert not line or line.startswith((":", "event: ", "data: ")), line
        if line.startswith("data: "):
            text = line.removeprefix("data: ")
            yield text if text == DONE else json.loads(text)


def check_error(response: httpx.Response, status: int, code: str | None = None, param: str | None = None) -> None:
    """An error is OpenAI's: the status, and all four keys."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str) and error["type"]
    if code is not None:
        assert error["code"] == code, error
    if param is not None:
        assert error["param"] == param, error
