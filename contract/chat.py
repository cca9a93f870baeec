"""What a chat template says of its model: whether it takes tools, and in which form the model calls them.

Preprocess writes a prompt's tools and the gateway reads the answer's calls; both decide here.
"""

import re

TOOL_FAMILIES = ("hermes", "llama3", "mistral", "deepseek")
NO_FAMILY = "none"

_TAKES_TOOLS = re.compile(r"\{[{%][^}]*\btools\b")
_OTHER_TAGGED = ("<function=", "<arg_key>")  # <tool_call> with XML inside: Qwen3-Coder, GLM


def takes_tools(chat_template: str) -> bool:
    """True where the template writes the request's tools into the prompt itself."""
    return _TAKES_TOOLS.search(chat_template) is not None


def family_of(chat_template: str) -> str:
    """The form of tool calls that a model with this template writes.

    One of :data:`TOOL_FAMILIES`, or 'none' where nothing here can read it. A template that takes no
    tools is 'hermes': preprocess then writes them in that form.
    """
    if not chat_template:
        return NO_FAMILY
    if not takes_tools(chat_template):
        return "hermes"
    if "<｜tool▁calls▁begin｜>" in chat_template:
        return "deepseek"
    if "[TOOL_CALLS]" in chat_template:
        return "mistral"
    if "<tool_call>" in chat_template:
        return NO_FAMILY if any(mark in chat_template for mark in _OTHER_TAGGED) else "hermes"
    if "<|python_tag|>" in chat_template or "<|start_header_id|>" in chat_template:
        return "llama3"
    return NO_FAMILY
