"""Libraries that speak OpenAI's dialect and Anthropic's, against the default deployment."""

import pytest

from serving.supervisor import Running
from tests.real.conftest import program, script

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    "client", ["openai", "anthropic", "litellm", "langchain-openai", "pydantic-ai-slim", "instructor", "guidance"]
)
def test_python(real: Running, client: str) -> None:
    program(client, real)


@pytest.mark.parametrize("client", ["openai", "ai-sdk"])
def test_javascript(real: Running, client: str) -> None:
    script(client, real)
