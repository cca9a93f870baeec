"""Agents that choose their tools themselves: their whole loops over an engine that says what it is told to."""

import pytest

from serving.supervisor import Running
from tests.real.conftest import program, script

pytestmark = pytest.mark.long


def test_openai_agents(scripted: Running) -> None:
    program("openai-agents", scripted)


def test_ai_sdk(scripted: Running) -> None:
    script("ai-sdk", scripted)
