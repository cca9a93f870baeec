"""A conversation of Anthropic's API as the chat that it is."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from gateway.schema.chat import (
    CalledFunction,
    ChatBody,
    Function,
    FunctionName,
    JsonSchema,
    Message,
    NamedTool,
    ResponseFormat,
    ToolCall,
)
from gateway.schema.chat import Tool as ChatTool
from gateway.schema.effort import thinks, variables_of
from gateway.schema.message_blocks import (
    Block,
    ContentSource,
    DocumentBlock,
    InputMessage,
    SearchResultBlock,
    TextBlock,
    TextSource,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from gateway.schema.messages import CountBody, MessagesBody, OutputFormat, Tool, ToolChoice
from gateway.turns import settled

_CHOICES: dict[str, Literal["none", "auto", "required"]] = {"none": "none", "auto": "auto", "any": "required"}


def as_chat(body: CountBody, chat_template: str) -> ChatBody:
    """The chat that continues this conversation."""
    choice = body.tool_choice
    alone = choice.disable_parallel_tool_use if choice else None
    return ChatBody(
        model=body.model,
        messages=settled(_messages(body), chat_template),
        tools=[_tool(each) for each in body.tools] if body.tools else None,
        tool_choice=_choice(choice) if choice and body.tools else None,
        parallel_tool_calls=None if alone is None else not alone,
        response_format=_format(body),
        chat_template_kwargs=_variables(body) or None,
        continue_final_message=_is_begun(body) or None,
        **_sampling(body),
    )


def _sampling(body: CountBody) -> dict[str, Any]:
    if not isinstance(body, MessagesBody):
        return {}
    return {
        "stream": body.stream,
        "max_tokens": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": body.stop_sequences or None,
    }


def _variables(body: CountBody) -> dict[str, Any]:
    """What the chat template is told beside the conversation."""
    variables: dict[str, Any] = {}
    if body.thinking:
        variables |= thinks(body.thinking.type != "disabled")
    if body.output_config and body.output_config.effort:
        variables |= variables_of(body.output_config.effort)
    return variables


def _is_begun(body: CountBody) -> bool:
    """Whether the last message is the beginning of the answer."""
    last = body.messages[-1]
    called = isinstance(last.content, list) and any(isinstance(block, ToolUseBlock) for block in last.content)
    return last.role == "assistant" and not called and bool(last.content)


def _messages(body: CountBody) -> Iterator[Message]:
    if body.system:
        text = body.system if isinstance(body.system, str) else _text(body.system)
        yield Message(role="system", content=text)
    for message in body.messages:
        yield from _turns(message)


def _turns(message: InputMessage) -> list[Message]:
    """One message as the chat's: what tools gave is a message for each of them."""
    if isinstance(message.content, str):
        return [Message(role=message.role, content=message.content)] if message.content else []
    if message.role == "assistant":
        return [_said(message.content)] if message.content else []
    turns: list[Message] = []
    texts: list[Block] = []
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            turns += [Message(role=message.role, content=_text(texts))] if texts else []
            turns.append(Message(role="tool", tool_call_id=block.tool_use_id, content=_result(block)))
            texts = []
        else:
            texts.append(block)
    return [*turns, Message(role=message.role, content=_text(texts))] if texts else turns


def _said(blocks: Sequence[Block]) -> Message:
    """A turn of the assistant."""
    calls = [
        ToolCall(
            id=block.id, function=CalledFunction(name=block.name, arguments=json.dumps(block.input, ensure_ascii=False))
        )
        for block in blocks
        if isinstance(block, ToolUseBlock)
    ]
    reasoning = "\n".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock))
    text = _text(blocks)
    return Message(
        role="assistant",
        content=text if text or not calls else None,
        tool_calls=calls or None,
        reasoning_content=reasoning or None,
    )


def _result(block: ToolResultBlock) -> str:
    text = block.content if isinstance(block.content, str) else _text(block.content or ())
    return f"Error: {text}" if block.is_error else text


def _text(blocks: Sequence[Block]) -> str:
    """What the model reads of some blocks, reasoning and calls left out."""
    return "\n".join(text for block in blocks if (text := _read(block)))


def _read(block: Block) -> str:
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, SearchResultBlock):
        return "\n".join([block.title, block.source, _text(block.content)])
    if isinstance(block, DocumentBlock):
        head = [line for line in (block.title, block.context) if line]
        return "\n".join([*head, _content(block.source)])
    return ""


def _content(source: ContentSource | TextSource) -> str:
    if isinstance(source, TextSource):
        return source.data
    return source.content if isinstance(source.content, str) else _text(source.content)


def _tool(tool: Tool) -> ChatTool:
    parameters = tool.input_schema | ({"examples": tool.input_examples} if tool.input_examples else {})
    function = Function(name=tool.name, description=tool.description, parameters=parameters, strict=tool.strict)
    return ChatTool(type="function", function=function)


def _choice(choice: ToolChoice) -> Literal["none", "auto", "required"] | NamedTool:
    if choice.name is not None:
        return NamedTool(type="function", function=FunctionName(name=choice.name))
    return _CHOICES[choice.type]


def _format(body: CountBody) -> ResponseFormat | None:
    wanted: OutputFormat | None = body.output_format or (body.output_config.format if body.output_config else None)
    if wanted is None:
        return None
    return ResponseFormat(type="json_schema", json_schema=JsonSchema(name="answer", schema=wanted.schema_))
