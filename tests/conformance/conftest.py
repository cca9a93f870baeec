"""Which server is under test: the one that the command line names, or our own default deployment."""

from collections.abc import Iterator

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI

from tests.conformance.target import Target


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--base-url", help="the server's OpenAI base URL, e.g. http://127.0.0.1:9000/v1; none: our own")
    group.addoption("--api-key", default="", help="its API key, if it wants one")
    group.addoption("--model", default="", help="the model to ask; default: the first of /v1/models")


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The server under test."""
    base_url = request.config.getoption("--base-url", default=None)
    if base_url is None:
        from tests.conformance.own import default_deployment

        with default_deployment(tmp_path_factory.mktemp("own")) as own:
            yield own
        return
    api_key = request.config.getoption("--api-key")
    model = request.config.getoption("--model")
    if not model:
        model = OpenAI(base_url=base_url, api_key=api_key or "none").models.list().data[0].id
    yield Target(base_url.rstrip("/"), api_key, model)


@pytest.fixture(scope="session")
def client(target: Target) -> Iterator[OpenAI]:
    """OpenAI's client; a response that is not what its types say raises."""
    with OpenAI(
        base_url=target.base_url,
        api_key=target.api_key or "none",
        max_retries=0,
        timeout=120,
        _strict_response_validation=True,
    ) as made:
        yield made


@pytest.fixture(scope="session")
def anthropic(target: Target) -> Iterator[Anthropic]:
    """Anthropic's client, as strict, where the server has its API too."""
    with Anthropic(
        base_url=target.origin,
        api_key=target.api_key or "none",
        max_retries=0,
        timeout=120,
        _strict_response_validation=True,
    ) as made:
        if httpx.post(f"{target.origin}/v1/messages", headers=target.headers).status_code == 404:
            pytest.skip("the server has no /v1/messages")
        yield made


@pytest.fixture(scope="session")
def http(target: Target) -> Iterator[httpx.Client]:
    """Plain HTTP, for what OpenAI's client hides or would not send."""
    with httpx.Client(base_url=target.base_url, headers=target.headers, timeout=120) as made:
        yield made


@pytest.fixture(scope="session")
def model(target: Target) -> str:
    """The model to ask."""
    return target.model


@pytest.fixture
def own(target: Target) -> Target:
    """Our own server, for what no API defines."""
    if not target.own:
        pytest.skip("only our own server promises this")
    return target
