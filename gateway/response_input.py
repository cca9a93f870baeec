"""The input of a response as the chat that it is."""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.response_tools import Tools, custom_arguments, seen_name
from gateway.schema.chat import CalledFunction, ChatBody, JsonSchema, Message, ResponseFormat, ToolCall
from gateway.schema.effort import variables_of
from gateway.schema.response_input import (
    InputCall,
    InputCallOutput,
    InputCustomCall,
    InputMessage,
    InputReasoning,
    InputText,
    Item,
    Part,
)
from gateway.schema.responses import LOGPROBS, ResponsesBody, TextConfig
from gateway.turns import settled

_OURS = "conch:"


def as_chat(body: ResponsesBody, tools: Tools, chat_template: str) -> ChatBody:
    """The chat that makes this response."""
    return ChatBody(
        model=body.model,
        messages=settled(_messages(body), chat_template),
        stream=body.stream,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        ignore_eos=body.ignore_eos,
        min_tokens=body.min_tokens,
        repetition_penalty=body.repetition_penalty,
        stop_token_ids=body.stop_token_ids,
        max_completion_tokens=body.max_output_tokens,
        logprobs=LOGPROBS in (body.include or ()) or None,
        top_logprobs=body.top_logprobs,
        tools=[each.for_chat() for each in tools.offered.values()] or None,
        tool_choice=tools.choice,
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_format(body.text),
        guided_regex=tools.regex,
        chat_template_kwargs=_variables(body) or None,
    )


def encrypted(reasoning: str) -> str:
    """Reasoning as a client may keep it instead of reading it."""
    return _OURS + base64.b64encode(reasoning.encode()).decode()


def _variables(body: ResponsesBody) -> dict[str, Any]:
    """What the chat template is told beside the conversation."""
    effort = variables_of(body.reasoning.effort) if body.reasoning and body.reasoning.effort else {}
    verbosity = {"verbosity": body.text.verbosity} if body.text and body.text.verbosity else {}
    return {**effort, **verbosity, **(body.chat_template_kwargs or {})}


def _messages(body: ResponsesBody) -> Iterator[Message]:
    if body.instructions:
        yield Message(role="system", content=body.instructions)
    if isinstance(body.input, str):
        yield Message(role="user", content=body.input)
        return
    reasoning = ""
    for item in body.input:
        if isinstance(item, InputReasoning):
            reasoning += _reasoning(item)
            continue
        message = _message(item)
        if reasoning and message.role == "assistant":
            message, reasoning = message.model_copy(update={"reasoning_content": reasoning}), ""
        yield message


def _message(item: Item) -> Message:
    """One item; what belongs together is joined later."""
    if isinstance(item, InputMessage):
        return Message(role=item.role, content=_text(item.content))
    if isinstance(item, InputCallOutput):
        return Message(role="tool", tool_call_id=item.call_id, content=_text(item.output))
    if isinstance(item, InputCustomCall):
        arguments = json.dumps(custom_arguments(item.input), ensure_ascii=False)
    else:
        assert isinstance(item, InputCall)
        arguments = item.arguments
    function = CalledFunction(name=seen_name(item.name, item.namespace), arguments=arguments)
    return Message(role="assistant", tool_calls=[ToolCall(id=item.call_id, function=function)])


def _reasoning(item: InputReasoning) -> str:
    if item.content:
        return "".join(part.text for part in item.content)
    kept = item.encrypted_content or ""
    try:
        return base64.b64decode(kept.removeprefix(_OURS), validate=True).decode() if kept.startswith(_OURS) else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _text(content: str | Sequence[Part]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, InputText) else part.refusal for part in content)


def _format(text: TextConfig | None) -> ResponseFormat | None:
    wanted = text.format if text else None
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        return ResponseFormat(type=wanted.type)
    schema = JsonSchema(name=wanted.name or "answer", schema=wanted.schema_, strict=wanted.strict)
    return ResponseFormat(type="json_schema", json_schema=schema)
