"""The family of tool calls, read from a chat template."""

import pytest

from contract.chat import TOOL_FAMILIES, family_of, takes_tools
from tests.chat_templates import BY_FAMILY, CHATML, QWEN3_CODER


@pytest.mark.parametrize("family", TOOL_FAMILIES)
def test_every_family_is_known_by_its_template(family: str) -> None:
    assert takes_tools(BY_FAMILY[family])
    assert family_of(BY_FAMILY[family]) == family


def test_a_template_without_tools_gets_them_in_hermes_form() -> None:
    assert not takes_tools(CHATML)
    assert family_of(CHATML) == "hermes"


@pytest.mark.parametrize("template", ["", QWEN3_CODER, "{% if tools %}{{ tools }}{% endif %}"])
def test_what_cannot_be_read_has_no_family(template: str) -> None:
    assert family_of(template) == "none"
