"""/v1/models, and who may ask."""

import httpx
import openai
import pytest
from openai import OpenAI

from tests.conformance.target import Target, check_error, user


def test_list(client: OpenAI, model: str) -> None:
    models = client.models.list()
    assert models.object == "list"
    assert model in [each.id for each in models.data]
    assert all(each.object == "model" and each.created > 0 and each.owned_by for each in models.data)


def test_retrieve(client: OpenAI, model: str) -> None:
    assert client.models.retrieve(model).id == model


def test_an_unknown_one_is_404(client: OpenAI, http: httpx.Client) -> None:
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    check_error(http.get("/models/no-such-model"), 404, "model_not_found")


def test_asking_an_unknown_one_is_404(http: httpx.Client) -> None:
    body = {"model": "no-such-model", "messages": user("Hi")}
    check_error(http.post("/chat/completions", json=body), 404, "model_not_found")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic abc"}])
@pytest.mark.parametrize("path", ["/models", "/chat/completions"])
def test_without_the_key_is_401(target: Target, header: dict[str, str], path: str) -> None:
    if not target.api_key:
        pytest.skip("no --api-key: the server may want none")
    with httpx.Client(base_url=target.base_url, headers=header) as stranger:
        body = {"model": target.model, "messages": user("Hi")}
        answer = stranger.get(path) if path == "/models" else stranger.post(path, json=body)
    check_error(answer, 401)
