"""The input of a response as the chat that it is."""

from collections.abc import Sequence
from typing import Literal

from gateway.schema.chat import (
    CalledFunction,
    ChatBody,
    Function,
    FunctionName,
    JsonSchema,
    Message,
    NamedTool,
    ResponseFormat,
    Tool,
    ToolCall,
)
from gateway.schema.responses import (
    FunctionTool,
    InputCall,
    InputCallOutput,
    InputMessage,
    InputReasoning,
    InputRefusal,
    InputText,
    NamedFunction,
    ResponsesBody,
    TextConfig,
)


def as_chat(body: ResponsesBody) -> ChatBody:
    """The chat that makes this response."""
    return ChatBody(
        model=body.model,
        messages=_messages(body),
        stream=body.stream,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        ignore_eos=body.ignore_eos,
        min_tokens=body.min_tokens,
        repetition_penalty=body.repetition_penalty,
        stop_token_ids=body.stop_token_ids,
        max_completion_tokens=body.max_output_tokens,
        logprobs=bool(body.include) or None,
        top_logprobs=body.top_logprobs,
        tools=[_tool(each) for each in body.tools] if body.tools else None,
        tool_choice=_choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_format(body.text),
        chat_template_kwargs=body.chat_template_kwargs,
    )


def _choice(
    choice: Literal["none", "auto", "required"] | NamedFunction | None,
) -> Literal["none", "auto", "required"] | NamedTool | None:
    if isinstance(choice, NamedFunction):
        return NamedTool(type="function", function=FunctionName(name=choice.name))
    return choice


def _messages(body: ResponsesBody) -> list[Message]:
    """The conversation; calls that follow each other belong to one message."""
    messages = [Message(role="system", content=body.instructions)] if body.instructions else []
    items = [InputMessage(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    calls: list[ToolCall] = []
    for item in items:
        if isinstance(item, InputCall):
            function = CalledFunction(name=item.name, arguments=item.arguments)
            calls.append(ToolCall(id=item.call_id, function=function))
            continue
        if calls:
            messages.append(Message(role="assistant", tool_calls=calls))
            calls = []
        if isinstance(item, InputCallOutput):
            messages.append(Message(role="tool", tool_call_id=item.call_id, content=_text(item.output)))
        elif isinstance(item, InputMessage):
            messages.append(Message(role=item.role, content=_text(item.content)))
        else:
            assert isinstance(item, InputReasoning)
    if calls:
        messages.append(Message(role="assistant", tool_calls=calls))
    return messages


def _text(content: str | Sequence[InputText | InputRefusal]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, InputText) else part.refusal for part in content)


def _tool(tool: FunctionTool) -> Tool:
    function = Function(name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
    return Tool(type="function", function=function)


def _format(text: TextConfig | None) -> ResponseFormat | None:
    wanted = text.format if text else None
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        return ResponseFormat(type=wanted.type)
    schema = JsonSchema(name=wanted.name or "answer", schema=wanted.schema_, strict=wanted.strict)
    return ResponseFormat(type="json_schema", json_schema=schema)
